package store

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sync/errgroup"

	"ferry/pkg/durable"
	"ferry/pkg/oci"
)

// parallelSyncs lets the file system serve several syncs by one write of its
// journal.
const parallelSyncs = 16

// queued is a blob that was received and checked. Its file stays open: a sync
// through a file opened later may miss an error that came in between.
type queued struct {
	file *os.File
	desc oci.Descriptor
}

// enqueue adds q to the next group, and makes that durable when it is full. The
// caller waits then, which bounds the open files and the bytes at stake.
func (d *Dir) enqueue(ctx context.Context, q queued) error {
	d.mu.Lock()
	d.pending[q.desc.Digest] = true
	d.queue = append(d.queue, q)
	d.queueBytes += q.desc.Size
	full := len(d.queue) >= d.groupBlobs || d.queueBytes >= d.groupBytes
	d.mu.Unlock()
	if !full {
		return nil
	}
	return d.flush(ctx)
}

// flush makes all that is queued durable and visible, after a flush that is
// under way. Blobs that fail stay hidden.
func (d *Dir) flush(ctx context.Context) error {
	select {
	case d.flushing <- struct{}{}:
		defer func() { <-d.flushing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	d.mu.Lock()
	group := d.queue
	d.queue, d.queueBytes = nil, 0
	d.mu.Unlock()

	visible, err := d.publish(group)

	d.mu.Lock()
	defer d.mu.Unlock()
	for _, digest := range visible {
		delete(d.pending, digest)
	}
	if d.err == nil {
		d.err = err
	}
	return d.err
}

// publish syncs the files of group, gives those that succeed their final names,
// and syncs the directory once. It returns which blobs are durable now.
func (d *Dir) publish(group []queued) ([]oci.Digest, error) {
	if len(group) == 0 {
		return nil, nil
	}
	syncErrs := syncFiles(group)
	var renamed []oci.Digest
	var errs []error
	for i, q := range group {
		err := syncErrs[i]
		if err != nil {
			// The kernel drops what it could not write and may still show
			// it: the next run must not find these bytes and believe them.
			_ = os.Remove(q.file.Name())
		} else if err = os.Rename(q.file.Name(), d.blobPath(q.desc.Digest)); err == nil {
			renamed = append(renamed, q.desc.Digest)
		}
		if err != nil {
			errs = append(errs, durable.Fault(q.file.Name(), err))
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

// syncFiles brings the files of group to the disk and closes them, and returns
// the error of each.
func syncFiles(group []queued) []error {
	errs := make([]error, len(group))
	var workers errgroup.Group
	workers.SetLimit(parallelSyncs)
	for i, q := range group {
		workers.Go(func() error {
			errs[i] = errors.Join(q.file.Sync(), q.file.Close())
			return nil
		})
	}
	_ = workers.Wait() // each error stands in errs
	return errs
}
