// Command ferry-unpack verifies archives completely and says what they hold, or
// copies it into a store: an Inventory.
package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"ferry/cmd/internal/content"
	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/stage"
	"ferry/pkg/store"
	"ferry/pkg/summary"
	"ferry/pkg/transfer"
)

type flags struct {
	Paths []string `arg:"" name:"path" help:"The directory of a bundle, or single archives or chunks; several of them, of any directories, are taken together."`
	To    string   `placeholder:"DIR" help:"Copy the content into the store DIR. Without it the archives are read where they lie."`
}

const description = `
Reads every byte of a bundle and compares it with what bundle.json says: each file's digest, each blob's, and that everything an image refers to is there. Nothing is written to disk, unless --to is given: ferry-publish and ferry-pack read the archives in place.

Single files, and directories without bundle.json, are taken for archives that d8 mirror made, and verified as far as they describe themselves. So are several directories together, each of which must hold what its bundle.json lists, if it has one.

    ferry-unpack /media/disk | ferry-publish registry.closed.example/deckhouse
    ferry-unpack /media/disk | ferry-pack /media/dvd --chunk-size 4.7GB
`

func main() {
	f := &flags{}
	stage.Main(stage.Command{
		Name:        "unpack",
		Summary:     "Verify archives and say what they hold",
		Description: description,
		Writes:      []contract.Kind{contract.KindInventory},
		Flags:       f,
		Run:         f.run,
	})
}

// source is a set of archives to be verified.
type source struct {
	dir    string           // of a bundle of ours
	inputs []contract.Input // none for archives without a document
	// overview is what a document says that they hold.
	overview contract.Overview
	// verify reads all of it and returns the files and what they hold.
	verify func(context.Context, *stage.Session) ([]contract.ArchiveDirectory, contract.Contents, error)
}

func (f *flags) run(ctx context.Context, s *stage.Session) error {
	src, err := f.source()
	if err != nil {
		return err
	}
	s.Summary.Title, s.Summary.From, s.Summary.To, s.Summary.Words = "Verification", src.dir, f.To, summary.Verifying()
	s.Summary.Overview = src.overview
	return stage.Produce(ctx, s, stage.Product[contract.InventorySpec]{
		Inputs: src.inputs,
		Tell: func(spec *contract.InventorySpec) {
			s.Summary.Overview, s.Summary.Archives = spec.Contents.Overview, spec.Store.Archives
			s.Summary.State = "every byte of the archives is what it should be"
		},
		Valid: func(ctx context.Context, doc *contract.Inventory) error { return f.valid(ctx, src, doc) },
		Make:  func(ctx context.Context) (contract.InventorySpec, error) { return f.verify(ctx, s, src) },
	})
}

// valid tells why a kept Inventory is of no use any more. Archives that no
// document describes can change without anybody noticing, so they are always
// read anew.
func (f *flags) valid(ctx context.Context, src *source, doc *contract.Inventory) error {
	if len(src.inputs) == 0 {
		return errors.New("only reading the archives tells what they hold")
	}
	if f.To != "" {
		path, err := filepath.Abs(f.To)
		if err != nil {
			return err
		}
		st, err := store.OpenDir(ctx, path, store.Shared)
		if err != nil {
			return err
		}
		defer st.Close()
		return content.CheckStore(doc, path, st)
	}
	if doc.Spec.Store.Path != src.dir {
		return fmt.Errorf("it is of %s", doc.Spec.Store.Path)
	}
	return content.CheckFiles(src.dir, doc.Spec.Store.Archives)
}

func (f *flags) verify(ctx context.Context, s *stage.Session, src *source) (contract.InventorySpec, error) {
	s.Progress.Phase("verifying")
	dirs, contents, err := src.verify(ctx, s)
	if err != nil {
		return contract.InventorySpec{}, err
	}
	archives := 0
	for _, dir := range dirs {
		archives += len(dir.Archives)
	}
	s.Log.Info(fmt.Sprintf("verified %d archives with %d images", archives, len(contents.Images)))
	inventory := contract.InventorySpec{Store: contract.InArchives(dirs), Contents: contents}
	if f.To == "" {
		return inventory, nil
	}
	return f.copy(ctx, s, inventory)
}

// source tells a bundle of ours, which says itself what it must hold, from
// archives that another tool made, and from several together.
func (f *flags) source() (*source, error) {
	dirs, err := bundle.Find(f.Paths)
	if len(dirs) == 0 {
		return nil, err
	}
	for i, dir := range dirs {
		if !dir.Whole {
			continue // single archives, of whatever bundle
		}
		doc, text, docErr := bundle.ReadDocument(dir.Path)
		switch {
		case fault.KindOf(docErr) == fault.NotFound:
		case docErr != nil:
			return nil, docErr
		case len(dirs) == 1:
			return ours(dir.Path, doc, text) // names all that is missing, what Find has missed too
		default:
			dirs[i].Document = &doc.Spec
		}
	}
	return imported(dirs), err
}

func ours(dir string, doc *contract.Bundle, text []byte) (*source, error) {
	inputs, err := stage.InputsOf(nil, &stage.Input{Name: bundle.DocumentName, Data: text})
	if err != nil {
		return nil, err
	}
	return &source{dir, inputs, doc.Spec.Contents.Overview, func(ctx context.Context, s *stage.Session) ([]contract.ArchiveDirectory, contract.Contents, error) {
		files := []contract.ArchiveDirectory{{Path: dir, Archives: doc.Spec.Archives}}
		return files, doc.Spec.Contents, bundle.Verify(ctx, dir, &doc.Spec, s.Progress)
	}}, nil
}

func imported(dirs []bundle.Directory) *source {
	return &source{"", nil, contract.Overview{}, func(ctx context.Context, s *stage.Session) ([]contract.ArchiveDirectory, contract.Contents, error) {
		s.Log.Info("the archives say themselves what they hold, as those of d8 mirror do, for no " + bundle.DocumentName + " describes them all")
		files, contents, err := bundle.Import(ctx, dirs, deckhouse.Imported{}, s.Progress)
		if err != nil {
			return nil, contract.Contents{}, err
		}
		return files, *contents, nil
	}}
}

// copy brings the content into a store and describes it there.
func (f *flags) copy(ctx context.Context, s *stage.Session, inventory contract.InventorySpec) (contract.InventorySpec, error) {
	from, err := content.Open(ctx, inventory.Store)
	if err != nil {
		return inventory, err
	}
	defer from.Close()
	path, err := filepath.Abs(f.To)
	if err != nil {
		return inventory, err
	}
	to, err := content.OpenStore(ctx, s, path)
	if err != nil {
		return inventory, err
	}
	defer to.Close()
	s.Progress.Phase("copying")
	inventory.Store = contract.StoreLocation{Type: contract.StoreLayout, Path: path}
	return inventory, transfer.Copy(ctx, &inventory.Contents, from, to, s.Progress)
}
