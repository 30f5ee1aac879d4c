// Command ferry-unpack verifies archives or layouts completely and says what they
// hold, or copies it into a store: an Inventory.
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
	Paths            []string `arg:"" name:"path" help:"The directory of a bundle, or single archives or chunks; several of them, of any directories, are taken together. Or one directory of OCI image layouts."`
	Modules          bool     `help:"Refuse anything but a directory of modules, as mirror-modules writes it: each entry is a module, and its name becomes a tag of the target."`
	Verify           string   `enum:"full,stream" default:"full" help:"Read every byte before anything is said of the bundle (full), or pass over the content of layers and configs and leave its proof to whoever reads it (stream)."`
	RequireSignature string   `placeholder:"FILE" help:"Take nothing but bundles whose bundle.json is signed by a key in FILE: lines as in id_ed25519.pub, authorized_keys or allowed_signers, or public keys in PEM. Without it a signature is not looked at."`
	To               string   `placeholder:"DIR" help:"Copy the content into the store DIR. Without it archives and layouts are read where they lie."`
}

const description = `
Reads every byte of a bundle once and compares it with what bundle.json says: each blob has its digest, everything an image refers to is there, and all bytes between blobs are those that ferry-pack writes. The digests of files that bundle.json lists are for people, and for finding the file to blame: they are compared where something differs. Nothing is written to disk, unless --to is given: ferry-publish and ferry-pack read the archives in place.

Single files, and directories without bundle.json, are taken for archives that d8 mirror made, and verified as far as they describe themselves. So are several directories together, each of which must hold what its bundle.json lists, if it has one.

With --verify stream only names, sizes, tags, manifests and the bytes between blobs are proven first, which takes seconds. ferry-publish, ferry-pack and --to then prove each blob while they read it, so a damaged bundle is found later, when some blobs are at the target already; but nothing damaged gets there, and no manifest and no tag that needs it. What nobody reads, since the target has it, is not proven. GOST sums are not compared with their files then. Archives that no bundle.json describes as a whole can only be read completely.

With --require-signature the signature of bundle.json is checked before anything else is read, and there are three answers. Where a key in FILE signed these bytes, the run goes on and says which. A wrong signature, of another document or by another key, ends it with 65: something was altered, or comes from somebody else. Where there is none it ends with 77, also where there can be none, as for the archives of d8 mirror, which no bundle.json describes, and for single files. Of several directories each needs its own. An older bundle that was signed then is taken too. Without the flag a signature is not looked at, not even a wrong one. This is about the bundle; signatures of the images in it are carried to the target, and not checked.

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
	dir    string           // of a bundle of ours
	inputs []contract.Input // none where no document says what must be there
	// overview is what a document says that they hold.
	overview contract.Overview
	verify   verification
}

// verification reads all of a source and returns the place and what it holds.
type verification func(context.Context, *stage.Session) (contract.StoreLocation, contract.Contents, error)

func (f *flags) run(ctx context.Context, s *stage.Session) error {
	read, err := f.documents(s)
	if err != nil {
		return err
	}
	src, err := f.source(read)
	if err != nil {
		return err
	}
	s.Summary.Title, s.Summary.From, s.Summary.To, s.Summary.Words = "Verification", src.dir, f.To, summary.Verifying()
	s.Summary.Overview = src.overview
	return stage.Produce(ctx, s, stage.Product[contract.InventorySpec]{
		Inputs: src.inputs,
		Tell: func(spec *contract.InventorySpec) {
			s.Summary.Overview, s.Summary.Archives = spec.Contents.Overview, spec.Store.Archives
			s.Summary.State = f.proof().state
		},
		Valid: func(ctx context.Context, doc *contract.Inventory) error { return f.valid(ctx, src, doc) },
		Make:  func(ctx context.Context) (contract.InventorySpec, error) { return f.verify(ctx, s, src) },
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
	s.Log.Info(fmt.Sprintf("%s %s with %d images", f.proof().verified, describe(place, contents), len(contents.Images)))
	inventory := contract.InventorySpec{Store: place, Contents: contents}
	if f.To == "" {
		return inventory, nil
	}
	return f.copy(ctx, s, inventory)
}

// describe counts what was verified.
func describe(place contract.StoreLocation, contents contract.Contents) string {
	if place.Type == contract.StoreArchives {
		archives := 0
		for _, dir := range place.Directories() {
			archives += len(dir.Archives)
		}
		return fmt.Sprintf("%d archives", archives)
	}
	repositories := map[string]bool{}
	for _, im := range contents.Images {
		repositories[im.Path] = true
	}
	return fmt.Sprintf("the layouts of %d repositories", len(repositories))
}

// source tells a bundle of ours, which says itself what it must hold, from
// archives and layouts that another tool made, and from several directories of
// archives together.
func (f *flags) source(read *documents) (*source, error) {
	dirs, err := bundle.Find(f.Paths)
	if len(dirs) == 0 {
		return nil, err
	}
	if err := read.refuseFiles(dirs); err != nil {
		return nil, err
	}
	if f.Modules {
		return f.modules(read, dirs, err)
	}
	for i, dir := range dirs {
		if !dir.Whole {
			continue // single archives, of whatever bundle
		}
		doc, text, docErr := read.read(dir.Path)
		switch {
		case fault.KindOf(docErr) == fault.NotFound:
		case docErr != nil:
			return nil, docErr
		case len(dirs) == 1:
			return f.ours(dir.Path, doc, text) // names all that is missing, what Find has missed too
		default:
			dirs[i].Document = &doc.Spec
		}
	}
	if len(dirs) == 1 && dirs[0].Whole && len(dirs[0].Sets) == 0 {
		return f.importedLayouts(dirs[0].Path, guessed, err)
	}
	if err == nil {
		err = f.refuseStream()
	}
	return imported(dirs), err
}

func (f *flags) ours(dir string, doc *contract.Bundle, text []byte) (*source, error) {
	proof := f.proof()
	inputs, err := stage.InputsOf(proof.options, &stage.Input{Name: bundle.DocumentName, Data: text})
	if err != nil {
		return nil, err
	}
	return &source{dir, inputs, doc.Spec.Contents.Overview, func(ctx context.Context, s *stage.Session) (contract.StoreLocation, contract.Contents, error) {
		if doc.Spec.Layouts {
			return inLayouts(dir), doc.Spec.Contents, proof.layouts(ctx, dir, &doc.Spec, s.Progress)
		}
		if err := f.warnOfSums(s, dir); err != nil {
			return contract.StoreLocation{}, contract.Contents{}, err
		}
		place := contract.InArchives([]contract.ArchiveDirectory{{Path: dir, Archives: doc.Spec.Archives}})
		return place, doc.Spec.Contents, proof.archives(ctx, dir, &doc.Spec, s.Progress)
	}}, nil
}

func inLayouts(dir string) contract.StoreLocation {
	return contract.StoreLocation{Type: contract.StoreLayouts, Path: dir}
}

func imported(dirs []bundle.Directory) *source {
	return &source{"", nil, contract.Overview{}, func(ctx context.Context, s *stage.Session) (contract.StoreLocation, contract.Contents, error) {
		s.Log.Info("the archives say themselves what they hold, as those of d8 mirror do, for no " + bundle.DocumentName + " describes them all")
		files, contents, err := bundle.Import(ctx, dirs, deckhouse.Imported{}, s.Progress)
		if err != nil {
			return contract.StoreLocation{}, contract.Contents{}, err
		}
		return contract.InArchives(files), *contents, nil
	}}
}

// modules tells a directory of modules of ours from one of dhctl's, and refuses
// what is neither (S8.4).
func (f *flags) modules(read *documents, dirs []bundle.Directory, noArchives error) (*source, error) {
	dir := dirs[0]
	if len(dirs) > 1 || !dir.Whole {
		return nil, fault.Newf(fault.Usage, "--modules", "one directory is wanted, and nothing else")
	}
	doc, text, err := read.read(dir.Path)
	switch {
	case err == nil:
		if err := deckhouse.CheckModules(&doc.Spec.Contents); err != nil {
			return nil, err
		}
		return f.ours(dir.Path, doc, text)
	case fault.KindOf(err) != fault.NotFound:
		return nil, err
	case len(dir.Sets) > 0:
		return nil, fault.Newf(fault.Usage, dir.Path, "there are archives of d8, and a directory of modules is wanted").
			Hint("ferry-push publishes them")
	}
	return f.importedLayouts(dir.Path, deckhouse.ImportedModules, noArchives)
}

// rules are found by the paths of layouts.
type rules func(paths []string) (deckhouse.Imported, error)

func guessed(paths []string) (deckhouse.Imported, error) {
	return deckhouse.ImportedLayouts(paths), nil
}

// importedLayouts looks for layouts in a directory without archives; noArchives
// is the answer where there are none either.
func (f *flags) importedLayouts(dir string, by rules, noArchives error) (*source, error) {
	tree, err := bundle.FindLayouts(dir)
	if err != nil {
		return nil, err
	}
	if len(tree.Paths()) == 0 {
		return nil, noArchives
	}
	chosen, err := by(tree.Paths())
	if err != nil {
		return nil, err
	}
	return &source{"", nil, contract.Overview{}, func(ctx context.Context, s *stage.Session) (contract.StoreLocation, contract.Contents, error) {
		s.Log.Info("there are no archives, but OCI image layouts: no " + bundle.DocumentName + " describes them, and they say themselves what they hold")
		contents, err := f.proof().imported(ctx, tree, chosen, s.Progress)
		if err != nil {
			return contract.StoreLocation{}, contract.Contents{}, err
		}
		return inLayouts(dir), *contents, nil
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
