package transfer

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry"
	"ferry/pkg/store"
)

// Downloader brings everything that Contents list into a store: each distinct
// blob once, however many repositories want it.
type Downloader struct {
	Source   registry.Source
	Store    store.Ingester
	Parallel int // blobs at a time, at least 1
	Retry    Retry
	Log      *slog.Logger
	Progress progress.Tracker
	// Near, when not nil, has content on this machine: what it has is not
	// downloaded but copied.
	Near store.Reader
	// Arrange, when not nil, sorts what has to come into the order in which it
	// should; without it the largest come first, so that the last minutes are
	// not one worker on one big layer.
	Arrange func([]contract.Part)
	// Fits, when not nil, tells whether there is room for the missing content. A
	// download that cannot end is not begun (B13).
	Fits func(missing []oci.Descriptor) error
}

// Downloaded are figures of a download.
type Downloaded struct {
	Blobs, Bytes               int64 // of the contents, each distinct one once
	MissingBlobs, MissingBytes int64 // what had to be downloaded
}

// Download makes the store hold everything that c lists, durably. What has
// arrived stays when it fails; the next call continues there.
func (d *Downloader) Download(ctx context.Context, c *contract.Contents) (Downloaded, error) {
	missing, bytes, figures, err := d.missing(c)
	if err != nil {
		return figures, err
	}
	if err := d.fits(missing); err != nil {
		return figures, err
	}
	d.Progress.Phase("downloading")
	d.Progress.SetTotal(bytes, int64(len(c.Images)))
	done := d.imageCounter(c, missing)
	r := &receiver{source: d.Source, store: d.Store, retry: d.Retry, log: d.Log, progress: d.Progress}
	crew := newCrew(ctx, d.Parallel)
	for _, p := range missing {
		crew.run(p.Repository+"@"+string(p.Digest), func(ctx context.Context) error {
			if err := d.bring(ctx, r, p); err != nil {
				return err
			}
			done(p.Digest)
			return nil
		})
	}
	if err := crew.wait(ctx); err != nil {
		// What is complete shall be visible to the next run.
		if syncErr := d.Store.Sync(context.WithoutCancel(ctx)); syncErr != nil {
			d.Log.Error("could not make finished blobs durable", "cause", syncErr)
		}
		return figures, d.explainFull(c, err)
	}
	return figures, d.Store.Sync(ctx)
}

// bring receives one part, from this machine where it has it.
func (d *Downloader) bring(ctx context.Context, r *receiver, p contract.Part) error {
	if d.near(p.Descriptor) {
		return copyBlob(ctx, p.Descriptor, d.Near, d.Store, d.Progress)
	}
	return r.part(ctx, p)
}

func (d *Downloader) near(desc oci.Descriptor) bool {
	if d.Near == nil {
		return false
	}
	return isThere(d.Near, desc)
}

func (r *receiver) part(ctx context.Context, p contract.Part) error {
	if p.Repository == "" {
		return fault.Newf(fault.Damaged, string(p.Digest), "the store does not have it, and the document does not say where it can be read")
	}
	repo, err := oci.ParseRepository(p.Repository)
	if err != nil {
		return fault.New(fault.Damaged, p.Repository, err)
	}
	if p.Manifest {
		if _, _, err := r.manifest(ctx, repo, p.Digest); err != nil {
			return err
		}
		r.progress.AddBytes(p.Size)
		return nil
	}
	return r.blob(ctx, repo, p.Descriptor)
}

// missing lists what the store lacks, in the order in which it should come, with
// its size in bytes.
func (d *Downloader) missing(c *contract.Contents) (missing []contract.Part, bytes int64, figures Downloaded, err error) {
	r := &receiver{store: d.Store}
	for _, p := range c.Parts() {
		figures.Blobs++
		figures.Bytes += p.Size
		ok, err := r.has(p.Descriptor)
		if err != nil {
			return nil, 0, figures, err
		}
		if ok {
			continue
		}
		missing = append(missing, p)
		bytes += p.Size
		if !d.near(p.Descriptor) {
			figures.MissingBlobs++
			figures.MissingBytes += p.Size
		}
	}
	slices.SortStableFunc(missing, func(a, b contract.Part) int { return cmp.Compare(b.Size, a.Size) })
	if d.Arrange != nil {
		d.Arrange(missing)
	}
	return missing, bytes, figures, nil
}

func (d *Downloader) fits(missing []contract.Part) error {
	if d.Fits == nil {
		return nil
	}
	return d.Fits(descriptors(missing))
}

func descriptors(parts []contract.Part) []oci.Descriptor {
	out := make([]oci.Descriptor, len(parts))
	for i, p := range parts {
		out[i] = p.Descriptor
	}
	return out
}

// explainFull adds to the error of a disk that somebody else has filled meanwhile
// how much room is missing now.
func (d *Downloader) explainFull(c *contract.Contents, err error) error {
	if fault.CauseOf(err) != fault.DiskFull {
		return err
	}
	missing, _, _, cannotTell := d.missing(c)
	if cannotTell != nil {
		return err
	}
	return errors.Join(err, d.fits(missing))
}

// imageCounter returns a function to be told of each arrived digest; it tells
// progress of the images that are complete with it.
func (d *Downloader) imageCounter(c *contract.Contents, missing []contract.Part) func(oci.Digest) {
	type image struct {
		tags int64        // tags that name it
		left atomic.Int64 // digests still to arrive
	}
	waiting := map[oci.Digest][]*image{}
	for _, p := range missing {
		waiting[p.Digest] = nil
	}
	tags := map[oci.Digest]int64{}
	for _, im := range c.Images {
		tags[im.Digest]++
	}
	graph := c.Graph()
	for digest, n := range tags {
		im := &image{tags: n}
		manifests, needed := graph.Closure(digest)
		for _, m := range manifests {
			needed = append(needed, m.Digest)
		}
		for _, b := range needed {
			if list, ok := waiting[b]; ok {
				waiting[b] = append(list, im)
				im.left.Add(1)
			}
		}
		if im.left.Load() == 0 {
			d.Progress.AddImages(n)
		}
	}
	return func(arrived oci.Digest) {
		for _, im := range waiting[arrived] {
			if im.left.Add(-1) == 0 {
				d.Progress.AddImages(im.tags)
			}
		}
	}
}
