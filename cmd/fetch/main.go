// Command ferry-fetch downloads what a Selection or Plan names into a store: an
// Inventory. With --plan it stops at the exact list.
package main

import (
	"context"
	"fmt"
	"path/filepath"

	"ferry/cmd/internal/ahead"
	"ferry/cmd/internal/connect"
	"ferry/cmd/internal/content"
	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry"
	"ferry/pkg/stage"
	"ferry/pkg/store"
	"ferry/pkg/summary"
	"ferry/pkg/transfer"
)

type flags struct {
	Store  string `required:"" placeholder:"DIR" help:"Keep content in DIR, a cache that serves many runs."`
	Plan   bool   `xor:"plan" help:"Write the Plan, the exact list of images and blobs with their sizes. Nothing is downloaded but manifests, and the layers that name further images."`
	Verify bool   `help:"Hash everything that the store has before believing it, and fetch anew what is damaged and needed."`
	Since  string `placeholder:"FILE" help:"Make an update: leave out what stands at the target already, by FILE, the bundle.json of an earlier bundle or the Receipt of a publish. ferry-publish refuses the update where that is not so."`
	Prune  bool   `xor:"plan" help:"When all is fetched, remove from the store what this run did not need."`
	bundleFlags
	Ahead ahead.Flags `embed:""`
	connect.SourceFlags
}

const description = `
Reads a Selection, follows what its images name, and downloads every distinct blob once, however many repositories want it. What the store has is not downloaded again; after an interruption the same command continues, in the middle of a blob too.

    ferry-select -i catalog.json | ferry-fetch --store /var/ferry --plan -o plan.json
    ferry-fetch -i plan.json --store /var/ferry -o inventory.json

With --plan, --summary tells besides how large every archive will be, what is in the store already, and the disk that both sides need.

A Plan is locked by digest: fetching it later brings exactly that, or fails.

    ferry-fetch -i selection.json --store /var/ferry --bundle /media/disk | ferry-pack /media/disk

With --bundle each byte is written once: straight to its place in the archives, whose sums are computed meanwhile. The store keeps only what was read to find images, and what it has from earlier runs is copied. Without --bundle the store is a cache for the next run. Archives that are not finished are called NAME.ferry-partial; the same command goes on with them, also when other images are wanted then.

    ferry-fetch -i selection.json --store /var/ferry --since january/bundle.json | ferry-pack february

An update holds the images that are new or moved since then, each with all of its layers.

What the images will meet at the registry of the closed side tells --target FILE, where FILE is what ferry-publish probe has written there, before the first layer is downloaded. Only ferry-pack --target can look into configs too.
`

func main() {
	f := &flags{}
	stage.Main(stage.Command{
		Name:        "fetch",
		Summary:     "Download what a Selection or Plan names into a store",
		Description: description,
		Environment: connect.SourceEnvironment(),
		Reads:       []contract.Kind{contract.KindSelection, contract.KindPlan},
		Writes:      []contract.Kind{contract.KindInventory, contract.KindPlan},
		Flags:       f,
		Run:         f.run,
	})
}

func (f *flags) run(ctx context.Context, s *stage.Session) error {
	if err := f.ReadPassword(ctx, s); err != nil {
		return err
	}
	in, err := s.Input(ctx)
	if err != nil {
		return err
	}
	j, err := f.read(in)
	if err != nil {
		return err
	}
	s.Summary.Title, s.Summary.Words = "Download", summary.Pulling("not all pulled")
	documents := []*stage.Input{in}
	if f.Since != "" {
		earlier, err := s.Text(ctx, f.Since, "Bundle or Receipt")
		if err != nil {
			return err
		}
		if j.standing, err = standing(*earlier); err != nil {
			return err
		}
		documents = append(documents, earlier)
	}
	if j.ahead, err = f.Ahead.Prospect(ctx, s); err != nil {
		return err
	}
	inputs, err := stage.InputsOf(nil, documents...)
	if err != nil {
		return err
	}
	path, err := filepath.Abs(f.Store)
	if err != nil {
		return fault.New(fault.Usage, "--store", err)
	}
	st, err := content.OpenStore(ctx, s, path)
	if err != nil {
		return err
	}
	defer st.Close()
	j.store = st
	s.Summary.From, s.Summary.To, s.Summary.Overview = j.source(), path, j.overview()
	if err := f.verify(ctx, s, st); err != nil {
		return err
	}
	switch {
	case f.Plan:
		return f.producePlan(ctx, s, j, inputs)
	case f.Bundle != "":
		return f.produceArchives(ctx, s, j, inputs)
	}
	return stage.Produce(ctx, s, stage.Product[contract.InventorySpec]{
		Inputs: inputs,
		Tell: func(spec *contract.InventorySpec) {
			s.Summary.Overview, s.Summary.State = spec.Contents.Overview, "the store holds all of it"
		},
		Valid: func(_ context.Context, doc *contract.Inventory) error {
			return content.CheckStore(doc, path, st)
		},
		Make: func(ctx context.Context) (contract.InventorySpec, error) {
			contents, err := f.fetch(ctx, s, j, f.download(j))
			return contract.InventorySpec{Store: contract.StoreLocation{Type: contract.StoreDir, Path: path}, Contents: contents}, err
		},
	})
}

// verify moves damaged blobs out of the way, where it is asked to look for them.
func (f *flags) verify(ctx context.Context, s *stage.Session, st *store.Dir) error {
	if !f.Verify {
		return nil
	}
	s.Progress.Phase("verifying the store")
	damaged, err := st.Verify(ctx, s.Progress.AddBytes)
	if err != nil {
		return err
	}
	for _, digest := range damaged {
		s.Log.Warn("a stored blob is damaged and will be fetched anew", "blob", digest)
		if err := st.Quarantine(digest); err != nil {
			return err
		}
	}
	return nil
}

// prune removes what contents do not need, where that is wanted.
func (f *flags) prune(ctx context.Context, s *stage.Session, st *store.Dir, contents *contract.Contents) error {
	if !f.Prune {
		return nil
	}
	keep := map[oci.Digest]bool{}
	for _, p := range contents.Parts() {
		keep[p.Digest] = true
	}
	freed, err := st.Prune(ctx, keep)
	s.Log.Info("removed from the store what this run did not need", "freed", progress.Size(freed))
	return err
}

// job is what to fetch: a Selection to be closed, or a Plan's contents.
type job struct {
	selection *contract.SelectionSpec
	contents  contract.Contents
	host      string                // of all sources, "" for several
	standing  map[string]oci.Digest // at the target already, nil unless --since is given
	store     *store.Dir
	ahead     *ahead.Prospect // nil unless --target is given
}

// standing is what the target has when the earlier document is true.
func standing(in stage.Input) (map[string]oci.Digest, error) {
	if kind, _ := in.Kind(); kind == contract.KindReceipt {
		receipt, err := stage.Decode[contract.ReceiptSpec](in)
		if err != nil {
			return nil, err
		}
		return receipt.Spec.Standing(), nil
	}
	earlier, err := stage.Decode[contract.BundleSpec](in)
	if err != nil {
		return nil, err
	}
	return earlier.Spec.Standing(), nil
}

func (f *flags) read(in *stage.Input) (*job, error) {
	kind, err := in.Kind()
	if err != nil {
		return nil, err
	}
	var references []string
	if kind == contract.KindPlan {
		plan, err := stage.Decode[contract.PlanSpec](*in)
		if err != nil {
			return nil, err
		}
		for _, m := range plan.Spec.Contents.Manifests {
			references = append(references, m.Repository)
		}
		return &job{contents: plan.Spec.Contents, host: connect.HostOf(references)}, nil
	}
	selection, err := stage.Decode[contract.SelectionSpec](*in)
	if err != nil {
		return nil, err
	}
	for _, im := range selection.Spec.Images {
		references = append(references, im.Source)
	}
	return &job{selection: &selection.Spec, host: connect.HostOf(references)}, nil
}

// source and overview are what is known before anything is fetched.
func (j *job) source() string {
	if j.selection != nil {
		return j.selection.Source
	}
	return j.contents.Source
}

func (j *job) overview() contract.Overview {
	if j.selection != nil {
		return j.selection.Overview
	}
	return j.contents.Overview
}

// contents are those of the Plan, or of the Selection when it is closed.
func (f *flags) contents(ctx context.Context, s *stage.Session, j *job, source registry.Source) (contract.Contents, error) {
	if j.selection == nil {
		return j.contents, nil
	}
	closer := transfer.Closer{
		Source: source, Store: j.store, Parallel: f.InFlight(), Retry: f.Retry(),
		Log: s.Log, Progress: s.Progress,
	}
	contents, err := closer.Close(ctx, j.selection)
	if err != nil {
		return contents, err
	}
	for _, skipped := range contents.Skipped {
		s.Log.Debug("not at the source, and optional", "image", skipped.Source, "reason", skipped.Reason)
	}
	s.Log.Info(fmt.Sprintf("the plan has %d images, %d manifests and %d blobs; %d optional images are not at the source",
		len(contents.Images), len(contents.Manifests), len(contents.Blobs), len(contents.Skipped)))
	return contents, nil
}

// download brings all of the contents to where they belong.
type download func(context.Context, transfer.Downloader, *contract.Contents) (transfer.Downloaded, error)

// download fills the store.
func (f *flags) download(j *job) download {
	return func(ctx context.Context, d transfer.Downloader, contents *contract.Contents) (transfer.Downloaded, error) {
		d.Store, d.Fits = j.store, j.store.Fits
		return d.Download(ctx, contents)
	}
}

// fetch returns the contents of the job, and has them downloaded unless get is nil.
func (f *flags) fetch(ctx context.Context, s *stage.Session, j *job, get download) (contract.Contents, error) {
	client, err := f.Client(ctx, s, j.host)
	if err != nil {
		return contract.Contents{}, err
	}
	defer client.Close()
	contents, err := f.contents(ctx, s, j, client)
	if err != nil {
		return contents, err
	}
	if j.standing != nil {
		contents.LeaveOut(j.standing)
		s.Log.Info(fmt.Sprintf("the update has %d images; %d stand at the target already", len(contents.Images), len(contents.Assumed)))
	}
	if err := j.ahead.Look(ctx, s, &contents, j.store); err != nil || get == nil {
		return contents, err
	}
	s.Summary.Overview = contents.Overview
	figures, err := get(ctx, transfer.Downloader{
		Source: client, Parallel: f.InFlight(), Retry: f.Retry(), Log: s.Log, Progress: s.Progress,
	}, &contents)
	s.Summary.Facts = append(s.Summary.Facts, transferFact(figures.Blobs, figures.Bytes, figures.MissingBytes))
	s.Count("bytes", figures.Bytes)
	s.Count("bytesMissing", figures.MissingBytes)
	s.Count("blobs", figures.Blobs)
	s.Count("blobsMissing", figures.MissingBlobs)
	if err != nil {
		return contents, err
	}
	return contents, f.prune(ctx, s, j.store, &contents)
}
