// Package content opens what an Inventory names: a store, or archives in place.
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

// Open opens the content at loc for reading.
// Kinds: fault.Damaged where it is gone, Local, Cancelled.
func Open(ctx context.Context, loc contract.StoreLocation) (Reader, error) {
	if loc.Type == contract.StoreArchives {
		return bundle.Open(loc.Directories())
	}
	return store.OpenDir(ctx, loc.Path, store.Shared)
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
	if doc.Spec.Store.Type != contract.StoreLayout || doc.Spec.Store.Path != path {
		return fmt.Errorf("it is of %s", doc.Spec.Store.Path)
	}
	for _, p := range doc.Spec.Contents.Parts() {
		if size, err := st.Stat(p.Digest); err != nil || size != p.Size {
			return fmt.Errorf("%s is gone, or damaged", p.Digest)
		}
	}
	return nil
}

// CheckFiles tells whether the files of archives are in dir with their sizes:
// enough to believe a kept document, which was made when they were verified.
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
		}
	}
	return nil
}
