// Package content opens what an Inventory names: a store, or archives or layouts in
// place.
package content

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/stage"
	"ferry/pkg/store"
)

// Reader is content that must be closed.
type Reader interface {
	store.Reader
	Close() error
}

// Open opens the content of an Inventory for reading.
// Kinds: fault.Damaged where it is gone, Local, Cancelled.
func Open(ctx context.Context, inventory *contract.InventorySpec) (Reader, error) {
	switch loc := inventory.Store; loc.Type {
	case contract.StoreArchives:
		return bundle.Open(loc.Directories())
	case contract.StoreLayouts:
		return bundle.OpenLayouts(loc.Path, &inventory.Contents)
	default:
		return store.OpenDir(ctx, loc.Path, store.Shared)
	}
}

// OpenStore opens the store at path for writing, and tells a person who waits
// for another run what they wait for.
func OpenStore(ctx context.Context, s *stage.Session, path string) (*store.Dir, error) {
	return store.OpenDir(ctx, path, store.Exclusive, store.OnWait(func(holder string) {
		s.Log.Info("waiting for another run that uses the store", "store", path, "holder", holder)
	}))
}

// CheckStore tells why a kept Inventory is not that of the store at path, or not
// of use any more.
func CheckStore(doc *contract.Inventory, path string, st store.Reader) error {
	if doc.Spec.Store.Type != contract.StoreDir || doc.Spec.Store.Path != path {
		return fmt.Errorf("it is of %s", doc.Spec.Store.Path)
	}
	for _, p := range doc.Spec.Contents.Parts() {
		if size, err := st.Stat(p.Digest); err != nil || size != p.Size {
			return fmt.Errorf("%s is gone, or damaged", p.Digest)
		}
	}
	return nil
}

// CheckPlace tells why a kept Inventory is not that of the archives or layouts in
// dir, or not of use any more. Names and sizes are enough to believe a document
// that was made when they were verified.
func CheckPlace(doc *contract.Inventory, dir string) error {
	switch {
	case doc.Spec.Store.Path != dir:
		return fmt.Errorf("it is of %s", doc.Spec.Store.Path)
	case doc.Spec.Store.Type == contract.StoreArchives:
		return CheckFiles(dir, doc.Spec.Store.Archives)
	}
	layouts, err := bundle.OpenLayouts(dir, &doc.Spec.Contents)
	if err != nil {
		return err
	}
	return layouts.Close()
}

// CheckFiles tells whether the files of archives are in dir with their sizes, and
// their GOST sums: enough to believe a kept document, which was made when they were verified.
func CheckFiles(dir string, archives []contract.ArchiveFiles) error {
	for _, a := range archives {
		for _, f := range a.Files {
			info, err := os.Stat(filepath.Join(dir, f.Name))
			if err != nil {
				return err
			}
			if info.Size() != f.Size {
				return fmt.Errorf("%s has another size", f.Name)
			}
			if err := bundle.CheckGostSum(dir, f); err != nil {
				return err
			}
		}
	}
	return nil
}
