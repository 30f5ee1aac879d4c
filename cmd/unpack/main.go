// Command ferry-unpack verifies archives or layouts completely and says what they
// hold, or copies it into a store: an Inventory.
package main

import (
	"context"
	"errors"
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
	"ferry/pkg/store"
	"ferry/pkg/transfer"
)

type flags struct {
	Paths   []string `arg:"" name:"path" help:"The directory of a bundle, or of OCI image layouts, or single archives or chunks of one directory."`
	Modules bool     `help:"Refuse anything but a directory of modules, as mirror-modules writes it: each entry is a module, and its name becomes a tag of the target."`
	To      string   `placeholder:"DIR" help:"Copy the content into the store DIR. Without it archives and layouts are read where they lie."`
}

const description = `
Reads every byte of a bundle and compares it with what bundle.json says: each file's digest, each blob's, and that everything an image refers to is there. Nothing is written to disk, unless --to is given: ferry-publish and ferry-pack read the archives in place.

Single files, and directories without bundle.json, are taken for archives that d8 mirror made, and verified as far as they describe themselves.

A directory without archives may hold OCI image layouts, each at the path of its repository: what ferry-pack --layouts wrote, a bundle of d8 that somebody unpacked, the modules of dhctl mirror-modules, or what skopeo copied to oci:DIR/PATH:TAG.

    ferry-unpack /media/disk | ferry-publish registry.closed.example/deckhouse
    ferry-unpack /media/disk | ferry-pack /media/dvd --chunk-size 4.7GB
`

func main() {
	f := &flags{}
	stage.Main(stage.Command{
		Name:        "unpack",
		Summary:     "Verify archives or layouts and say what they hold",
		Description: description,
		Writes:      []contract.Kind{contract.KindInventory},
		Flags:       f,
		Run:         f.run,
	})
}

// source is a set of archives or layouts to be verified.
type source struct {
	dir    string
	inputs []contract.Input // none where no document says what must be there
	// verify reads all of it and returns the place and what it holds.
	verify func(context.Context, *stage.Session) (contract.StoreLocation, contract.Contents, error)
}

func (f *flags) run(ctx context.Context, s *stage.Session) error {
	src, err := f.source()
	if err != nil {
		return err
	}
	return stage.Produce(ctx, s, stage.Product[contract.InventorySpec]{
		Inputs: src.inputs,
		Valid:  func(ctx context.Context, doc *contract.Inventory) error { return f.valid(ctx, src, doc) },
		Make:   func(ctx context.Context) (contract.InventorySpec, error) { return f.verify(ctx, s, src) },
	})
}

// valid tells why a kept Inventory is of no use any more. What no document
// describes can change without anybody noticing, so it is always read anew.
func (f *flags) valid(ctx context.Context, src *source, doc *contract.Inventory) error {
	if len(src.inputs) == 0 {
		return errors.New("only reading the files tells what they hold")
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
	return content.CheckPlace(doc, src.dir)
}

func (f *flags) verify(ctx context.Context, s *stage.Session, src *source) (contract.InventorySpec, error) {
	s.Progress.Phase("verifying")
	place, contents, err := src.verify(ctx, s)
	if err != nil {
		return contract.InventorySpec{}, err
	}
	s.Log.Info(fmt.Sprintf("verified %s with %d images", describe(place, contents), len(contents.Images)))
	inventory := contract.InventorySpec{Store: place, Contents: contents}
	if f.To == "" {
		return inventory, nil
	}
	return f.copy(ctx, s, inventory)
}

func describe(place contract.StoreLocation, contents contract.Contents) string {
	if place.Type == contract.StoreArchives {
		return fmt.Sprintf("%d archives", len(place.Archives))
	}
	repositories := map[string]bool{}
	for _, im := range contents.Images {
		repositories[im.Path] = true
	}
	return fmt.Sprintf("the layouts of %d repositories", len(repositories))
}

// source tells a bundle of ours, which says itself what it must hold, from
// archives and layouts that another tool made.
func (f *flags) source() (*source, error) {
	dir, found, err := bundle.Find(f.Paths)
	if dir == "" || !slices.ContainsFunc(f.Paths, isDir) {
		return f.imported(dir, found, err) // single archives, of whatever bundle
	}
	doc, text, docErr := bundle.ReadDocument(dir)
	if fault.KindOf(docErr) == fault.NotFound {
		if len(found) == 0 {
			return f.importedLayouts(dir, err)
		}
		return f.imported(dir, found, err)
	}
	if docErr != nil {
		return nil, docErr
	}
	if f.Modules {
		if err := deckhouse.CheckModules(&doc.Spec.Contents); err != nil {
			return nil, err
		}
	}
	return ours(dir, doc, text)
}

func ours(dir string, doc *contract.Bundle, text []byte) (*source, error) {
	inputs, err := stage.InputsOf(nil, &stage.Input{Name: bundle.DocumentName, Data: text})
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	return &source{dir, inputs, func(ctx context.Context, s *stage.Session) (contract.StoreLocation, contract.Contents, error) {
		if doc.Spec.Layouts {
			place := contract.StoreLocation{Type: contract.StoreLayouts, Path: dir}
			return place, doc.Spec.Contents, bundle.VerifyLayouts(ctx, dir, &doc.Spec, s.Progress)
		}
		place := contract.StoreLocation{Type: contract.StoreArchives, Path: dir, Archives: doc.Spec.Archives}
		return place, doc.Spec.Contents, bundle.Verify(ctx, dir, &doc.Spec, s.Progress)
	}}, err
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

const withoutDocument = ": without a " + bundle.DocumentName + " they say themselves what they hold"

func (f *flags) imported(dir string, found []bundle.Set, err error) (*source, error) {
	if err != nil {
		return nil, err
	}
	if f.Modules {
		return nil, fault.Newf(fault.Usage, dir, "there are archives of d8, and a directory of modules is wanted").
			Hint("ferry-push publishes them")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	return &source{dir, nil, func(ctx context.Context, s *stage.Session) (contract.StoreLocation, contract.Contents, error) {
		s.Log.Info("taking the archives for ones that d8 mirror made" + withoutDocument)
		place := contract.StoreLocation{Type: contract.StoreArchives, Path: dir}
		archives, contents, err := bundle.Import(ctx, dir, found, deckhouse.Imported{}, s.Progress)
		if err != nil {
			return place, contract.Contents{}, err
		}
		place.Archives = archives
		return place, *contents, nil
	}}, nil
}

// importedLayouts looks for layouts in a directory without archives; noArchives
// is the answer where there are none either.
func (f *flags) importedLayouts(dir string, noArchives error) (*source, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	tree, err := bundle.FindLayouts(dir)
	if err != nil {
		return nil, err
	}
	if len(tree.Paths()) == 0 {
		return nil, noArchives
	}
	rules := deckhouse.ImportedLayouts(tree.Paths())
	if f.Modules {
		if rules, err = deckhouse.ImportedModules(tree.Paths()); err != nil {
			return nil, err
		}
	}
	return &source{dir, nil, func(ctx context.Context, s *stage.Session) (contract.StoreLocation, contract.Contents, error) {
		s.Log.Info("there are no archives, but OCI image layouts" + withoutDocument)
		place := contract.StoreLocation{Type: contract.StoreLayouts, Path: dir}
		contents, err := bundle.ImportLayouts(ctx, tree, rules, s.Progress)
		if err != nil {
			return place, contract.Contents{}, err
		}
		return place, *contents, nil
	}}, nil
}

// copy brings the content into a store and describes it there.
func (f *flags) copy(ctx context.Context, s *stage.Session, inventory contract.InventorySpec) (contract.InventorySpec, error) {
	from, err := content.Open(ctx, &inventory)
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
	inventory.Store = contract.StoreLocation{Type: contract.StoreDir, Path: path}
	return inventory, transfer.Copy(ctx, &inventory.Contents, from, to, s.Progress)
}
