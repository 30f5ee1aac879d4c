// Command ferry-unpack verifies archives completely and says what they hold, or
// copies it into a store: an Inventory.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"ferry/cmd/internal/content"
	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/stage"
	"ferry/pkg/transfer"
)

type flags struct {
	Paths []string `arg:"" name:"path" help:"The directory of a bundle, or single archives or chunks of one directory."`
	To    string   `placeholder:"DIR" help:"Copy the content into the store DIR. Without it the archives are read where they lie."`
}

const description = `
Reads every byte of a bundle and compares it with what bundle.json says: each file's digest, each blob's, and that everything an image refers to is there. Nothing is written to disk, unless --to is given: ferry-publish and ferry-pack read the archives in place.

Archives without a bundle.json are taken for a bundle that d8 mirror made, and verified as far as they describe themselves.

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
	dir    string
	inputs []contract.Input
	// verify reads all of it and returns the files and what they hold.
	verify func(context.Context, *stage.Session) ([]contract.ArchiveFiles, contract.Contents, error)
}

func (f *flags) run(ctx context.Context, s *stage.Session) error {
	src, err := f.source()
	if err != nil {
		return err
	}
	return stage.Produce(ctx, s, stage.Product[contract.InventorySpec]{
		Inputs: src.inputs,
		Valid: func(_ context.Context, doc *contract.Inventory) error {
			return content.CheckFiles(doc.Spec.Store.Path, doc.Spec.Store.Archives)
		},
		Make: func(ctx context.Context) (contract.InventorySpec, error) { return f.verify(ctx, s, src) },
	})
}

func (f *flags) verify(ctx context.Context, s *stage.Session, src *source) (contract.InventorySpec, error) {
	s.Progress.Phase("verifying")
	archives, contents, err := src.verify(ctx, s)
	if err != nil {
		return contract.InventorySpec{}, err
	}
	s.Log.Info(fmt.Sprintf("verified %d archives with %d images", len(archives), len(contents.Images)))
	inventory := contract.InventorySpec{
		Store:    contract.StoreLocation{Type: contract.StoreArchives, Path: src.dir, Archives: archives},
		Contents: contents,
	}
	if f.To == "" {
		return inventory, nil
	}
	return f.copy(ctx, s, inventory)
}

// source tells a bundle of ours, which says itself what it must hold, from
// archives that another tool made.
func (f *flags) source() (*source, error) {
	dir, found, err := bundle.Find(f.Paths)
	if dir == "" || !slices.ContainsFunc(f.Paths, isDir) {
		return imported(dir, found, err) // single archives, of whatever bundle
	}
	doc, text, docErr := bundle.ReadDocument(dir)
	if fault.KindOf(docErr) == fault.NotFound {
		return imported(dir, found, err)
	}
	if docErr != nil {
		return nil, docErr
	}
	return ours(dir, doc, text)
}

func ours(dir string, doc *contract.Bundle, text []byte) (*source, error) {
	inputs, err := stage.InputsOf(nil, &stage.Input{Name: bundle.DocumentName, Data: text})
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	return &source{dir, inputs, func(ctx context.Context, s *stage.Session) ([]contract.ArchiveFiles, contract.Contents, error) {
		return doc.Spec.Archives, doc.Spec.Contents, bundle.Verify(ctx, dir, &doc.Spec, s.Progress)
	}}, err
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func imported(dir string, found []bundle.Set, err error) (*source, error) {
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	inputs, err := stage.InputsOf(found)
	return &source{dir, inputs, func(ctx context.Context, s *stage.Session) ([]contract.ArchiveFiles, contract.Contents, error) {
		s.Log.Info("there is no " + bundle.DocumentName + ": taking the archives for a bundle made by d8 mirror")
		archives, contents, err := bundle.Import(ctx, dir, found, deckhouse.Imported{}, s.Progress)
		if err != nil {
			return nil, contract.Contents{}, err
		}
		return archives, *contents, nil
	}}, err
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
