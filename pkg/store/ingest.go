package store

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// receive begins or continues the ingest of a blob that is not there.
func (t *Intake) receive(desc oci.Descriptor, release func()) (Ingest, error) {
	place, held, err := t.places.Place(desc)
	if err != nil {
		return nil, err
	}
	i := &ingest{intake: t, desc: desc, place: place, size: held, hash: t.sums.New(), release: release}
	if held > desc.Size {
		if err := i.discard(); err != nil { // cannot be a part of this blob
			_ = place.Close(0)
			return nil, err
		}
	}
	i.inherited = i.size > 0
	return i, nil
}

// ingest is a blob being received.
type ingest struct {
	intake    *Intake
	desc      oci.Descriptor
	place     Place // nil when committed or closed
	size      int64 // bytes in place
	hash      hash.Hash
	hashed    int64 // the first bytes in place that hash has seen
	inherited bool  // place has bytes that an earlier ingest left
	later     bool  // hashed by others, when all bytes are in place
	committed bool
	release   func() // nil when closed
}

func (i *ingest) Held() *io.SectionReader {
	if i.place == nil || i.size == 0 {
		return nil
	}
	return io.NewSectionReader(i.place, 0, i.size)
}

func (i *ingest) HashLater() { i.later = i.place != nil && i.size == 0 && i.place.HashedLater() }

func (i *ingest) CopyFrom(ctx context.Context, start int64, body io.Reader) (int64, error) {
	if i.place == nil {
		return 0, i.ended()
	}
	if start < 0 || start > i.size {
		return 0, fault.Newf(fault.Protocol, string(i.desc.Digest), "the rest begins at byte %d, but %d are held", start, i.size)
	}
	if err := i.rewind(ctx, start); err != nil {
		return 0, err
	}
	buf := i.intake.buffer()
	defer i.intake.buffers.Put(buf)
	before := i.size
	for {
		// One byte more than is due, to notice a body that goes on.
		room := min(int64(len(*buf)), i.desc.Size-i.size+1)
		n, bodyErr := fill(ctx, body, (*buf)[:room])
		if i.size+int64(n) > i.desc.Size {
			return 0, i.refuse(fmt.Errorf("there are more bytes than the %d announced", i.desc.Size))
		}
		if err := i.append((*buf)[:n]); err != nil {
			return i.size - before, err
		}
		switch {
		case bodyErr == io.EOF:
			return i.size - before, nil
		case bodyErr != nil:
			return i.size - before, i.afterCut(ctx, bodyErr)
		}
	}
}

// afterCut returns the error of a body that did not end well. The peer checks too, and
// says so at the end: wrong bytes must not come back as held ones.
func (i *ingest) afterCut(ctx context.Context, cause error) error {
	if i.size < i.desc.Size {
		return cause
	}
	switch right, err := i.right(ctx); {
	case err != nil:
		return errors.Join(cause, err)
	case !right:
		return i.refuse(cause)
	}
	return cause
}

// right reports whether the bytes in place are the blob, and hashes those that have
// not been.
func (i *ingest) right(ctx context.Context) (bool, error) {
	i.later = false
	err := i.rewind(ctx, i.size)
	return err == nil && i.sum() == i.desc.Digest, err
}

// fill reads until buf is full or body ends. Unlike io.ReadFull it passes on
// body's own error: io.ErrUnexpectedEOF is what a cut connection gives.
func fill(ctx context.Context, body io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		if err = ctx.Err(); err == nil {
			var more int
			more, err = body.Read(buf[n:])
			n += more
		}
	}
	return n, err
}

// append writes p behind what is there. After a failure the bytes that were
// written count.
func (i *ingest) append(p []byte) error {
	n, err := i.place.WriteAt(p, i.size)
	i.size += int64(n)
	if !i.later {
		i.hash.Write(p[:n])
		i.hashed = i.size
	}
	return durable.Fault(i.place.Name(), err)
}

// rewind keeps the first n bytes, hashed from the disk unless this ingest has
// just written and hashed them itself.
func (i *ingest) rewind(ctx context.Context, n int64) error {
	if n < i.size {
		if err := i.place.Truncate(n); err != nil {
			return durable.Fault(i.place.Name(), err)
		}
		i.size = n
	}
	i.inherited = i.inherited && n > 0
	if i.later || i.hashed == n {
		return nil
	}
	i.hash.Reset()
	i.hashed = 0
	sum := &ctxReader{ctx: ctx, r: io.NewSectionReader(i.place, 0, n)}
	buf := i.intake.buffer()
	defer i.intake.buffers.Put(buf)
	read, err := io.CopyBuffer(i.hash, sum, *buf)
	if err != nil {
		i.hash.Reset()
		return err
	}
	i.hashed = read
	return nil
}

func (i *ingest) sum() oci.Digest { return oci.DigestFromSum(i.hash.Sum(nil)) }

func (i *ingest) Commit(ctx context.Context) error {
	if i.committed {
		return nil
	}
	if i.place == nil {
		return i.ended()
	}
	if i.size < i.desc.Size {
		return fault.Newf(fault.Protocol, string(i.desc.Digest), "only %d of %d bytes came", i.size, i.desc.Size).
			Hint("run the same command again; it continues behind them")
	}
	hashed := !i.later
	if hashed {
		right, err := i.right(ctx)
		if err != nil {
			return err
		}
		if !right {
			return i.refuse(HasDigest(i.sum()))
		}
	}
	place := i.place
	i.place, i.committed = nil, true
	return i.intake.enqueue(ctx, Whole{Place: place, Desc: i.desc, Hashed: hashed})
}

// refuse discards the bytes, which cannot be the blob. Where some come from an
// earlier run, the disk may have damaged them (a power loss does), so nobody
// else is accused and trying again helps.
func (i *ingest) refuse(cause error) error {
	inherited := i.inherited
	if err := i.discard(); err != nil {
		return err
	}
	if inherited {
		return fault.New(fault.Transient, string(i.desc.Digest), fmt.Errorf("bytes kept from an earlier run do not fit and are discarded: %w", cause)).
			Hint("run the same command again; it receives this blob from its start")
	}
	return Refused(i.desc.Digest, cause)
}

// HasDigest is the cause of an error: bytes that should have another digest.
func HasDigest(got oci.Digest) error { return fmt.Errorf("the bytes have the digest %s", got) }

// Refused is the error of a blob that was received and is another one.
func Refused(digest oci.Digest, cause error) error {
	return fault.New(fault.Protocol, string(digest), fmt.Errorf("the bytes received are not the blob: %w", cause)).
		Hint("the source, or a proxy before it, sends other bytes than it names; ask who runs it")
}

func (i *ingest) discard() error {
	i.size, i.hashed, i.inherited = 0, 0, false
	i.hash.Reset()
	return durable.Fault(i.place.Name(), i.place.Truncate(0))
}

func (i *ingest) Close() error {
	if i.release == nil {
		return nil
	}
	defer i.release()
	i.release = nil
	if i.place == nil {
		return nil
	}
	place := i.place
	i.place = nil
	return durable.Fault(place.Name(), place.Close(i.size))
}

func (i *ingest) ended() error {
	return fault.New(fault.Local, string(i.desc.Digest), fmt.Errorf("the ingest has ended: %w", fs.ErrClosed))
}

// presentIngest stands for a blob that the store has already.
type presentIngest struct {
	blob    Blob
	release func()
}

func (i *presentIngest) Held() *io.SectionReader {
	if i.release == nil || i.blob.Size() == 0 {
		return nil
	}
	return io.NewSectionReader(i.blob, 0, i.blob.Size())
}

func (i *presentIngest) CopyFrom(context.Context, int64, io.Reader) (int64, error) { return 0, nil }
func (i *presentIngest) HashLater()                                                {}
func (i *presentIngest) Commit(context.Context) error                              { return nil }

func (i *presentIngest) Close() error {
	if i.release == nil {
		return nil
	}
	defer i.release()
	i.release = nil
	return i.blob.Close()
}

// ctxReader ends with the error of ctx when that is done.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
