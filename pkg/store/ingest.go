package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// writebackStep is how many bytes are received before the kernel is asked to
// bring them to the disk, so that the sync at the end is short.
const writebackStep = 8 << 20

// Ingest implements Ingester. For a blob that the store has already, Held is
// the whole blob, CopyFrom reads nothing, and Commit does nothing.
func (d *Dir) Ingest(ctx context.Context, desc oci.Descriptor) (Ingest, error) {
	if err := d.writable(); err != nil {
		return nil, err
	}
	if !desc.Digest.Valid() || desc.Size < 0 {
		return nil, fault.Newf(fault.Protocol, string(desc.Digest), "cannot receive a blob of this digest and %d bytes", desc.Size)
	}
	release, err := d.claim(ctx, desc.Digest)
	if err != nil {
		return nil, err
	}
	ing, err := d.ingest(ctx, desc, release)
	if err != nil {
		release()
		return nil, err
	}
	return ing, nil
}

// claim waits until digest has no ingest and reserves it until release.
func (d *Dir) claim(ctx context.Context, digest oci.Digest) (release func(), err error) {
	for {
		d.mu.Lock()
		busy, ok := d.active[digest]
		if !ok {
			done := make(chan struct{})
			d.active[digest] = done
			d.mu.Unlock()
			return func() {
				d.mu.Lock()
				delete(d.active, digest)
				d.mu.Unlock()
				close(done)
			}, nil
		}
		d.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (d *Dir) ingest(ctx context.Context, desc oci.Descriptor, release func()) (Ingest, error) {
	d.mu.Lock()
	pending, err := d.pending[desc.Digest], d.err
	if d.closed {
		err = durable.Fault(d.path, fs.ErrClosed)
	}
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if pending {
		// Committed a moment ago by somebody else.
		if err := d.flush(ctx); err != nil {
			return nil, err
		}
	}
	// A blob of another size than announced is damaged, or the announcement
	// is wrong; receiving it anew tells which.
	if size, err := d.Stat(desc.Digest); err == nil && size == desc.Size {
		blob, err := d.Open(desc.Digest)
		if err != nil {
			return nil, err
		}
		return &presentIngest{blob: blob, release: release}, nil
	}
	return d.openIngest(desc, release)
}

func (d *Dir) openIngest(desc oci.Descriptor, release func()) (Ingest, error) {
	path := d.ingestPath(desc.Digest)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|openNoFollow, 0o644)
	if err != nil {
		return nil, durable.Fault(path, err)
	}
	i := &dirIngest{dir: d, desc: desc, f: f, hash: sha256.New(), release: release}
	info, err := f.Stat()
	if err == nil {
		i.size = info.Size()
		if i.size > desc.Size {
			err = i.discard() // cannot be a part of this blob
		}
	}
	if err != nil {
		f.Close()
		return nil, durable.Fault(path, err)
	}
	i.inherited = i.size > 0
	return i, nil
}

// dirIngest is a blob being received into a file.
type dirIngest struct {
	dir       *Dir
	desc      oci.Descriptor
	f         *os.File // nil when committed or closed
	size      int64    // bytes in f
	hash      hash.Hash
	hashed    int64 // the first bytes of f that hash has seen
	started   int64 // the first bytes of f whose way to the disk has started
	inherited bool  // f has bytes that an earlier ingest left
	committed bool
	release   func() // nil when closed
}

func (i *dirIngest) Held() *io.SectionReader {
	if i.f == nil || i.size == 0 {
		return nil
	}
	return io.NewSectionReader(&fileBlob{f: i.f}, 0, i.size)
}

func (i *dirIngest) CopyFrom(ctx context.Context, start int64, body io.Reader) (int64, error) {
	if i.f == nil {
		return 0, i.ended()
	}
	if start < 0 || start > i.size {
		return 0, fault.Newf(fault.Protocol, string(i.desc.Digest), "the rest begins at byte %d, but %d are held", start, i.size)
	}
	if err := i.rewind(ctx, start); err != nil {
		return 0, err
	}
	buf := i.dir.buffer()
	defer i.dir.buffers.Put(buf)
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
		case bodyErr != nil && i.size == i.desc.Size && i.sum() != i.desc.Digest:
			// The peer checks too, and says so at the end. Wrong bytes
			// must not come back as held ones.
			return i.size - before, i.refuse(bodyErr)
		case bodyErr != nil:
			return i.size - before, bodyErr
		}
	}
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
func (i *dirIngest) append(p []byte) error {
	n, err := i.f.WriteAt(p, i.size)
	i.hash.Write(p[:n])
	i.size += int64(n)
	i.hashed = i.size
	if i.size-i.started >= writebackStep {
		durable.StartWriteback(i.f, i.started, i.size-i.started)
		i.started = i.size
	}
	return durable.Fault(i.f.Name(), err)
}

// rewind keeps the first n bytes, hashed from the disk unless this ingest has
// just written and hashed them itself.
func (i *dirIngest) rewind(ctx context.Context, n int64) error {
	if n < i.size {
		if err := i.f.Truncate(n); err != nil {
			return durable.Fault(i.f.Name(), err)
		}
		i.size = n
		i.started = min(i.started, n)
	}
	i.inherited = i.inherited && n > 0
	if i.hashed == n {
		return nil
	}
	i.hash.Reset()
	i.hashed = 0
	sum := &ctxReader{ctx: ctx, r: io.NewSectionReader(&fileBlob{f: i.f}, 0, n)}
	buf := i.dir.buffer()
	defer i.dir.buffers.Put(buf)
	read, err := io.CopyBuffer(i.hash, sum, *buf)
	if err != nil {
		i.hash.Reset()
		return err
	}
	i.hashed = read
	return nil
}

func (i *dirIngest) sum() oci.Digest { return oci.DigestFromSum(i.hash.Sum(nil)) }

func (i *dirIngest) Commit(ctx context.Context) error {
	if i.committed {
		return nil
	}
	if i.f == nil {
		return i.ended()
	}
	if i.size < i.desc.Size {
		return fault.Newf(fault.Protocol, string(i.desc.Digest), "only %d of %d bytes came", i.size, i.desc.Size).
			Hint("run the same command again; it continues behind them")
	}
	if err := i.rewind(ctx, i.size); err != nil {
		return err
	}
	if got := i.sum(); got != i.desc.Digest {
		return i.refuse(fmt.Errorf("the bytes have the digest %s", got))
	}
	f := i.f
	i.f, i.committed = nil, true
	return i.dir.enqueue(ctx, queued{file: f, desc: i.desc})
}

// refuse discards the bytes, which cannot be the blob. Where some come from an
// earlier run, the disk may have damaged them (a power loss does), so nobody
// else is accused and trying again helps.
func (i *dirIngest) refuse(cause error) error {
	inherited := i.inherited
	if err := i.discard(); err != nil {
		return durable.Fault(i.f.Name(), err)
	}
	if inherited {
		return fault.New(fault.Transient, string(i.desc.Digest), fmt.Errorf("bytes kept from an earlier run do not fit and are discarded: %w", cause)).
			Hint("run the same command again; it receives this blob from its start")
	}
	return fault.New(fault.Protocol, string(i.desc.Digest), fmt.Errorf("the bytes received are not the blob: %w", cause)).
		Hint("the source, or a proxy before it, sends other bytes than it names; ask who runs it")
}

func (i *dirIngest) discard() error {
	i.size, i.hashed, i.started, i.inherited = 0, 0, 0, false
	i.hash.Reset()
	return i.f.Truncate(0)
}

func (i *dirIngest) Close() error {
	if i.release == nil {
		return nil
	}
	defer i.release()
	i.release = nil
	if i.f == nil {
		return nil
	}
	err := i.f.Close()
	if i.size == 0 {
		_ = os.Remove(i.f.Name())
	}
	name := i.f.Name()
	i.f = nil
	return durable.Fault(name, err)
}

func (i *dirIngest) ended() error {
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

func (d *Dir) buffer() *[]byte { return d.buffers.Get().(*[]byte) }
