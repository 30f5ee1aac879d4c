package store

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sync/errgroup"

	"ferry/pkg/durable"
	"ferry/pkg/oci"
)

// files are the Places of a Dir: a blob is a file, first in the directory of
// ingests, then in that of blobs.
type files struct{ *Dir }

// Stat implements Reader.
func (d files) Stat(dg oci.Digest) (int64, error) {
	// A digest becomes part of a path.
	if !dg.Valid() {
		return 0, notFound(dg, "is not a sha256 digest")
	}
	info, err := os.Lstat(d.blobPath(dg))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, notFound(dg, "is not in the store "+d.path)
	case err != nil:
		return 0, durable.Fault(d.blobPath(dg), err)
	case !info.Mode().IsRegular():
		// A link could lead out of the store, a pipe block for ever.
		return 0, notFound(dg, "is not a regular file in the store "+d.path)
	}
	return info.Size(), nil
}

// Open implements Reader.
func (d files) Open(dg oci.Digest) (Blob, error) {
	if _, err := d.Stat(dg); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.blobPath(dg), os.O_RDONLY|openNoFollow, 0)
	if err != nil {
		return nil, durable.Fault(d.blobPath(dg), err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, durable.Fault(d.blobPath(dg), err)
	}
	return &fileBlob{f: f, size: info.Size()}, nil
}

// Place implements Places.
func (d files) Place(desc oci.Descriptor) (Place, int64, error) {
	path := d.ingestPath(desc.Digest)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|openNoFollow, 0o644)
	if err != nil {
		return nil, 0, durable.Fault(path, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, durable.Fault(path, err)
	}
	return &filePlace{fileBlob: fileBlob{f: f}}, info.Size(), nil
}

// filePlace is the file of a blob that is being received. It stays open until
// the blob is durable: a sync through a file opened later may miss an error that
// came in between.
type filePlace struct {
	fileBlob
	started int64 // the first bytes whose way to the disk has started
}

// writebackStep is how many bytes are received before the kernel is asked to
// bring them to the disk, so that the sync at the end is short.
const writebackStep = 8 << 20

func (p *filePlace) WriteAt(b []byte, off int64) (int, error) {
	n, err := p.f.WriteAt(b, off)
	if end := off + int64(n); end-p.started >= writebackStep {
		durable.StartWriteback(p.f, p.started, end-p.started)
		p.started = end
	}
	return n, err
}

func (p *filePlace) Name() string { return p.f.Name() }

func (p *filePlace) HashedLater() bool { return false }

func (p *filePlace) Truncate(size int64) error {
	p.started = min(p.started, size)
	return p.f.Truncate(size)
}

func (p *filePlace) Close(size int64) error {
	if size == 0 {
		_ = os.Remove(p.f.Name())
	}
	return p.f.Close()
}

// Arrived implements Places. Nobody waits for a file.
func (files) Arrived(Whole) {}

// Settle implements Places: it syncs the files of group, gives those that succeed
// their final names, and syncs the directory once.
func (d files) Settle(group []Whole) ([]oci.Digest, error) {
	syncErrs := syncFiles(group)
	var renamed []oci.Digest
	var errs []error
	for i, w := range group {
		name, err := w.Place.Name(), syncErrs[i]
		if err != nil {
			// The kernel drops what it could not write and may still show
			// it: the next run must not find these bytes and believe them.
			_ = os.Remove(name)
		} else if err = os.Rename(name, d.blobPath(w.Desc.Digest)); err == nil {
			renamed = append(renamed, w.Desc.Digest)
		}
		if err != nil {
			errs = append(errs, durable.Fault(name, err))
		}
	}
	if err := durable.SyncDir(d.file(blobsName)); err != nil {
		return nil, err
	}
	if len(errs) > 0 {
		return renamed, errs[0]
	}
	return renamed, nil
}

// parallelSyncs lets the file system serve several syncs by one write of its
// journal.
const parallelSyncs = 16

// syncFiles brings the files of group to the disk and closes them, and returns
// the error of each.
func syncFiles(group []Whole) []error {
	errs := make([]error, len(group))
	var workers errgroup.Group
	workers.SetLimit(parallelSyncs)
	for i, w := range group {
		f := w.Place.(*filePlace).f // Place made it
		workers.Go(func() error {
			errs[i] = errors.Join(f.Sync(), f.Close())
			return nil
		})
	}
	_ = workers.Wait() // each error stands in errs
	return errs
}
