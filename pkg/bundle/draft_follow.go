package bundle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// arrival is how far an entry of a draft's archive has come.
type arrival int

const (
	missing  arrival = iota
	unproven         // it is there, and nobody has hashed it
	proven
)

// begin counts as arrived what is there.
func (a *draftArchive) begin() {
	for i, e := range a.plan.entries {
		if e.data != nil {
			a.arrive(i, proven)
		} else if a.inherited(e.digest) {
			a.arrive(i, unproven)
		}
	}
}

// inherited reports whether an earlier run received the blob.
func (a *draftArchive) inherited(digest oci.Digest) bool {
	_, ok := a.said.received[digest]
	return ok
}

// arrive notes that an entry is complete.
func (a *draftArchive) arrive(entry int, as arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.arrived[entry] = as
	for a.front < len(a.arrived) && a.arrived[a.front] != missing {
		a.front++
	}
	a.changed.Broadcast()
}

// isUnproven reports whether an entry that has arrived is still to be hashed.
func (a *draftArchive) isUnproven(entry int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.arrived[entry] == unproven
}

// await returns up to where the archive is complete, as soon as that is want.
func (a *draftArchive) await(ctx context.Context, want int64) (int64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		if end := a.complete(); end >= want {
			return end, nil
		}
		if err := context.Cause(ctx); err != nil {
			return 0, err
		}
		a.changed.Wait()
	}
}

// complete is up to where the archive is. a.mu is held.
func (a *draftArchive) complete() int64 {
	if a.front == len(a.arrived) {
		return a.plan.size
	}
	next := a.plan.entries[a.front]
	return next.offset - next.frontSize()
}

// follower hashes an archive from its first byte to its last, as they arrive: into
// the archive's sums, and blobs that nobody has hashed into a sum of their own. Both
// together cost less than one after the other.
type follower struct {
	archive *draftArchive
	sums    *sums
	pos     int64     // of the archive, where the next bytes are
	entry   int       // the first that goes on behind pos
	blob    hash.Hash // of that entry, up to pos, if it is unproven
	// refuse is told of blobs that are not what they should be.
	refuse func(oci.Digest, error) error
}

func newFollower(a *draftArchive, gost bool, refuse func(oci.Digest, error) error) *follower {
	return &follower{archive: a, sums: newSums(a.plan.name, len(a.plan.files) > 1, gost), blob: sha256.New(), refuse: refuse}
}

// run follows to the end, with a buffer of buffers at a time, and tells progress of
// each piece.
func (f *follower) run(ctx context.Context, buffers chan []byte, progress *lateProgress) error {
	a := f.archive
	stop := context.AfterFunc(ctx, func() {
		a.mu.Lock() // between its look at ctx and its wait await would miss it
		defer a.mu.Unlock()
		a.changed.Broadcast()
	})
	defer stop()
	for i, file := range a.files.files {
		for end := file.start + file.size; f.pos < end; {
			limit, err := a.await(ctx, min(end, f.pos+copySize))
			if err != nil {
				return err
			}
			n, err := f.read(min(limit, end), buffers)
			if err != nil {
				return err
			}
			progress.add(n)
		}
		f.sums.endFile(a.plan.files[i].Name)
	}
	return nil
}

// read takes in the next bytes, up to end, as many as a buffer holds.
func (f *follower) read(end int64, buffers chan []byte) (int64, error) {
	buf := <-buffers
	defer func() { buffers <- buf }()
	piece := buf[:min(int64(len(buf)), end-f.pos)]
	if _, err := f.archive.files.ReadAt(piece, f.pos); err != nil {
		return 0, err
	}
	return int64(len(piece)), f.take(piece)
}

// take hashes the next bytes.
func (f *follower) take(piece []byte) error {
	for len(piece) > 0 {
		n, blob := f.stretch(int64(len(piece)))
		f.sums.add(piece[:n], blob)
		f.pos += n
		piece = piece[n:]
		if err := f.endEntries(); err != nil {
			return err
		}
	}
	return nil
}

// stretch is how many bytes from here on belong together, at most n, and the sum of
// the blob that they are of, nil where none is wanted.
func (f *follower) stretch(n int64) (int64, hash.Hash) {
	entries := f.archive.plan.entries
	for i := f.entry; i < len(entries) && entries[i].offset < f.pos+n; i++ {
		e := entries[i]
		switch {
		case !f.archive.isUnproven(i):
		case f.pos < e.offset:
			return e.offset - f.pos, nil
		default:
			return min(n, e.offset+e.size-f.pos), f.blob
		}
	}
	return n, nil
}

// endEntries leaves the entries that have ended: one without bytes ends where its
// front does.
func (f *follower) endEntries() error {
	entries := f.archive.plan.entries
	for ; f.entry < len(entries) && entries[f.entry].offset+entries[f.entry].size <= f.pos; f.entry++ {
		if !f.archive.isUnproven(f.entry) {
			continue
		}
		want, got := entries[f.entry].digest, oci.DigestFromSum(f.blob.Sum(nil))
		f.blob.Reset()
		if got == want {
			continue
		}
		if err := f.refuse(want, f.archive.explain(want, got)); err != nil {
			return err
		}
	}
	return nil
}

// errRotten is a blob of an earlier run that is not what it was any more.
var errRotten = errors.New("what an earlier run received is damaged")

// explain is the error of a blob that has another digest than it should.
func (a *draftArchive) explain(want, got oci.Digest) error {
	if !a.inherited(want) {
		return store.Refused(want, store.HasDigest(got))
	}
	return fault.New(fault.Transient, string(want), fmt.Errorf("%w (%s)", errRotten, a.plan.name)).
		Hint("run the same command again; it receives this blob anew")
}
