package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"ferry/cmd/internal/content"
	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/sha256pair"
	"ferry/pkg/stage"
	"ferry/pkg/transfer"
)

// bundleFlags say which archives the content is for.
type bundleFlags struct {
	Bundle    string           `placeholder:"DIR" help:"Write blobs straight to their places in the archives of DIR, as ferry-pack would make them, and not into the store; ferry-pack DIR then finishes the bundle. With --plan, only check that they could be written." group:"Archives"`
	ChunkSize bundle.ChunkSize `placeholder:"SIZE" help:"Cut archives into files of at most SIZE, as ferry-pack --chunk-size." group:"Archives"`
	Gost      bool             `name:"gost-digest" help:"Compute the sums that ferry-pack --gost-digest writes, while the archives are filled." group:"Archives"`
	Force     bool             `help:"Replace what ferry-pack --force would." group:"Archives"`
}

// Validate is called by the flag library.
func (f *flags) Validate() error {
	if f.Gost && f.Bundle == "" {
		return errors.New("--gost-digest is for archives; name their directory with --bundle")
	}
	return errors.Join(f.SourceFlags.Validate(), f.Ahead.Check())
}

func (f bundleFlags) options() bundle.Options {
	return bundle.Options{ChunkSize: int64(f.ChunkSize), Gost: f.Gost, Force: f.Force}
}

// produceArchives fetches into archives.
func (f *flags) produceArchives(ctx context.Context, s *stage.Session, j *job, inputs []contract.Input) error {
	dir, err := filepath.Abs(f.Bundle)
	if err != nil {
		return fault.New(fault.Usage, "--bundle", err)
	}
	s.Summary.To = dir
	return stage.Produce(ctx, s, stage.Product[contract.InventorySpec]{
		// The shape of the archives is no input of the Inventory: a Bundle is
		// made of the same documents, whichever way its archives were filled.
		Inputs: inputs,
		Tell: func(spec *contract.InventorySpec) {
			s.Summary.Overview, s.Summary.Archives = spec.Contents.Overview, spec.Store.Archives
			s.Summary.State = "the archives hold all of it; ferry-pack finishes the bundle"
		},
		Valid: func(_ context.Context, doc *contract.Inventory) error { return f.archivesAre(doc, dir) },
		Make: func(ctx context.Context) (contract.InventorySpec, error) {
			archives, contents, err := f.fetchInto(ctx, s, j, dir)
			return contract.InventorySpec{Store: contract.InArchives([]contract.ArchiveDirectory{{Path: dir, Archives: archives}}), Contents: contents}, err
		},
	})
}

// archivesAre tells why a kept Inventory is not that of such archives in dir.
func (f *flags) archivesAre(doc *contract.Inventory, dir string) error {
	planned, err := bundle.Preview("", &doc.Spec.Contents, f.options())
	if err != nil {
		return err
	}
	same := slices.EqualFunc(planned, doc.Spec.Store.Archives, func(want, have contract.ArchiveFiles) bool {
		return slices.EqualFunc(want.Files, have.Files, func(want, have contract.File) bool {
			return want.Name == have.Name && want.Size == have.Size && f.Gost == (have.Gost != "")
		})
	})
	if doc.Spec.Store.Type != contract.StoreArchives || !same {
		return fmt.Errorf("it is of other archives, in %s", doc.Spec.Store.Path)
	}
	return content.CheckPlace(doc, dir)
}

// fetchInto fills the archives of dir. What the store has is copied from there.
func (f *flags) fetchInto(ctx context.Context, s *stage.Session, j *job, dir string) ([]contract.ArchiveFiles, contract.Contents, error) {
	var archives []contract.ArchiveFiles
	contents, err := f.fetch(ctx, s, j, func(ctx context.Context, d transfer.Downloader, contents *contract.Contents) (transfer.Downloaded, error) {
		opts := f.options()
		opts.Progress, opts.HashLater = s.Progress, sha256pair.Fast()
		draft, err := bundle.OpenDraft(ctx, dir, contents, j.store, opts)
		if err != nil {
			return transfer.Downloaded{}, err
		}
		defer draft.Close()
		d.Store, d.Near, d.Arrange = draft, j.store, draft.Arrange
		figures, err := d.Download(ctx, contents)
		if err != nil {
			return figures, errors.Join(err, draft.Refused())
		}
		s.Progress.Phase("finishing archives")
		archives, err = draft.Finish(ctx)
		return figures, err
	})
	return archives, contents, err
}
