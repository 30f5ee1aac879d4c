package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"ferry/pkg/durable"
	"ferry/pkg/oci"
)

// Verify hashes every blob and returns those that are damaged, sorted: what
// does not hash to its name, and what is no regular file. progress, when not
// nil, is told of bytes read, by several goroutines at once.
// Kinds: fault.Local, Cancelled.
func (d *Dir) Verify(ctx context.Context, progress func(bytes int64)) ([]oci.Digest, error) {
	entries, err := list(d.file(blobsName))
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var damaged []oci.Digest
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	for _, e := range entries {
		workers.Go(func() error {
			intact, err := d.intact(ctx, e, progress)
			if err == nil && !intact {
				mu.Lock()
				damaged = append(damaged, e.digest)
				mu.Unlock()
			}
			return err
		})
	}
	if err := workers.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(damaged)
	return damaged, nil
}

func (d *Dir) intact(ctx context.Context, e entry, progress func(bytes int64)) (bool, error) {
	if !e.regular {
		return false, nil
	}
	f, err := os.OpenFile(e.path, os.O_RDONLY|openNoFollow, 0)
	if err != nil {
		return false, durable.Fault(e.path, err)
	}
	blob := &fileBlob{f: f}
	defer blob.Close()
	h := sha256.New()
	buf := d.buffer()
	defer d.buffers.Put(buf)
	for {
		n, err := fill(ctx, blob, *buf)
		h.Write((*buf)[:n])
		if progress != nil && n > 0 {
			progress(int64(n))
		}
		if err == io.EOF {
			return oci.DigestFromSum(h.Sum(nil)) == e.digest, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// Quarantine moves a damaged blob out of sight, into the directory "damaged",
// so that the next fetch gets it again. Kinds: fault.NotFound, Local.
func (d *Dir) Quarantine(dg oci.Digest) error {
	if err := d.writable(); err != nil {
		return err
	}
	if !dg.Valid() {
		return notFound(dg, "is not a sha256 digest")
	}
	if err := durable.MkdirAll(d.file(damagedName), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(d.damagedPath(dg)); err != nil {
		return durable.Fault(d.damagedPath(dg), err)
	}
	err := os.Rename(d.blobPath(dg), d.damagedPath(dg))
	if errors.Is(err, fs.ErrNotExist) {
		return notFound(dg, "is not in the store "+d.path)
	}
	if err != nil {
		return durable.Fault(d.blobPath(dg), err)
	}
	return durable.SyncDir(d.file(blobsName))
}

// Room tells how many bytes of content can still be received: what is free, and
// what half-received blobs take already. known is as in FreeBytes.
func (d *Dir) Room() (room int64, known bool) {
	room, known = d.FreeBytes()
	held, err := list(d.file(ingestName))
	if err != nil {
		return room, known // then the free space alone
	}
	for _, e := range held {
		room += e.size
	}
	return room, known
}

// Fits tells whether the store's disk takes these blobs, of which it has none yet
// but what was received of some. Kinds: fault.Local.
func (d *Dir) Fits(missing []oci.Descriptor) error {
	held := map[oci.Digest]int64{}
	begun, err := list(d.file(ingestName))
	if err != nil {
		return err
	}
	for _, e := range begun {
		held[e.digest] = e.size
	}
	sizes := make([]int64, 0, len(missing))
	for _, desc := range missing {
		sizes = append(sizes, max(0, desc.Size-held[desc.Digest]))
	}
	return durable.Fits(d.path, sizes, 0, "free some space, or choose another disk for the store; what is already in it is kept")
}

// Prune removes every blob that keep does not have, what Quarantine put aside,
// and ingests that keep does not have or that are complete blobs by now. It
// returns the bytes freed, also beside an error. No ingest may be open.
// Kinds: fault.Local, Cancelled.
func (d *Dir) Prune(ctx context.Context, keep map[oci.Digest]bool) (freed int64, err error) {
	if err := d.writable(); err != nil {
		return 0, err
	}
	if err := d.flush(ctx); err != nil {
		return 0, err
	}
	unwanted := func(e entry) bool { return !keep[e.digest] }
	for _, part := range []struct {
		name   string
		remove func(entry) bool
	}{
		{blobsName, unwanted},
		{ingestName, func(e entry) bool {
			_, err := d.Stat(e.digest)
			return unwanted(e) || err == nil
		}},
		{damagedName, func(entry) bool { return true }},
	} {
		entries, err := list(d.file(part.name))
		if err != nil {
			return freed, err
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return freed, err
			}
			if !part.remove(e) {
				continue
			}
			// Not synced: a blob that comes back after a power loss is whole.
			if err := os.RemoveAll(e.path); err != nil {
				return freed, durable.Fault(e.path, err)
			}
			freed += e.size
		}
	}
	return freed, nil
}

// entry is a file of the store that is named by a digest.
type entry struct {
	digest  oci.Digest
	path    string
	size    int64 // bytes; 0 unless regular
	regular bool
}

// list returns the entries of a directory of the store, none when it is
// missing. Names that are no digest are not the store's and are left alone.
func list(dir string) ([]entry, error) {
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, durable.Fault(dir, err)
	}
	var entries []entry
	for _, n := range names {
		digest, err := oci.ParseDigest("sha256:" + n.Name())
		if err != nil {
			continue
		}
		e := entry{digest: digest, path: filepath.Join(dir, n.Name()), regular: n.Type().IsRegular()}
		if e.regular {
			info, err := n.Info()
			if err != nil {
				return nil, durable.Fault(e.path, err)
			}
			e.size = info.Size()
		}
		entries = append(entries, e)
	}
	return entries, nil
}
