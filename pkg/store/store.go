// Package store keeps content by digest, and keeps it whole.
//
// A blob is visible only when it is complete, hashed and durable. What is
// being received lies in an ingest, which outlives the process: the next run
// finds the bytes already there, hashes them again and continues behind them.
// [Dir] is the implementation on disk; an archive opened by pkg/bundle is a
// [Reader] too, so everything that reads content reads from either. The suite
// in storetest is what both must pass.
package store

import (
	"context"
	"io"

	"ferry/pkg/oci"
)

// Blob is content opened for reading. It is not verified while it is read:
// whoever sends it on hashes it (see [Verified]).
type Blob interface {
	io.Reader
	io.Seeker
	io.ReaderAt
	io.Closer
	// Size is the length in bytes.
	Size() int64
}

// Reader finds content by digest. It is safe for concurrent use.
type Reader interface {
	// Stat returns the size of a blob in bytes.
	// Kinds: fault.NotFound, fault.Local.
	Stat(d oci.Digest) (int64, error)
	// Open opens a blob. Kinds as Stat.
	Open(d oci.Digest) (Blob, error)
}

// Ingester takes content in. It is safe for concurrent use.
type Ingester interface {
	Reader

	// Ingest begins or continues receiving the blob that desc names. One
	// digest has one ingest at a time; a second caller waits for the first
	// to close. Where the store has the blob already, Held is all of it,
	// CopyFrom reads nothing and Commit does nothing: a caller that commits
	// when desc.Size bytes are held needs no body.
	// Kinds: fault.Local, Protocol (an impossible descriptor), Cancelled.
	Ingest(ctx context.Context, desc oci.Descriptor) (Ingest, error)

	// Sync returns when every committed blob is durable and visible.
	// Kinds: fault.Local.
	Sync(ctx context.Context) error
}

// Ingest is a blob being received. It is used by one goroutine.
type Ingest interface {
	// Held are the bytes kept from earlier, nil when there are none.
	Held() *io.SectionReader
	// CopyFrom keeps the first start held bytes, drops the others, and
	// appends body until EOF, hashing all of them. It returns the number of
	// bytes appended. An error of body keeps what came before it for the
	// next try, unless these are all and have the wrong digest. More bytes
	// than the descriptor's size are a mismatch, see Commit.
	CopyFrom(ctx context.Context, start int64, body io.Reader) (int64, error)
	// Commit checks size and digest and hands the blob over to be made
	// durable with others; it is visible after the next Sync at the latest.
	// A mismatch discards the bytes and is fault.Protocol, or
	// fault.Transient where some of them were held before this ingest began:
	// then these may be what is wrong, and trying again helps. Too few bytes
	// are fault.Protocol and are kept. Committing again does nothing.
	Commit(ctx context.Context) error
	// HashLater lets a store that hashes what it has on a way of its own hash the
	// blob there, and not when it comes. What is wrong is then not told by Commit,
	// but by what ends the work of that store. It is called before CopyFrom, and
	// does nothing where bytes are held, or the store has no such way.
	HashLater()
	// Close releases the ingest, keeping the bytes of one that was not
	// committed. It is safe to call twice.
	Close() error
}

// Put takes in a blob that is on this machine. Kinds: those of Ingester, and
// fault.Protocol where body is not what desc names.
func Put(ctx context.Context, to Ingester, desc oci.Descriptor, body io.Reader) error {
	in, err := to.Ingest(ctx, desc)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := in.CopyFrom(ctx, 0, body); err != nil {
		return err
	}
	return in.Commit(ctx)
}
