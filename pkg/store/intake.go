package store

import (
	"context"
	"io"
	"io/fs"
	"sync"

	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/sha256pair"
)

// Places is where an [Intake] keeps blobs: files of a directory, or ranges of
// archives. Its Reader knows blobs from the moment on at which Settle gives them
// their final form, whether they are durable then or not.
type Places interface {
	Reader
	// Place opens the place of a blob that is not there. held is how many of
	// its first bytes were kept there earlier, which nobody vouches for.
	// Kinds: fault.Local, and fault.Usage for a blob that has no place.
	Place(desc oci.Descriptor) (place Place, held int64, err error)
	// Arrived tells of a blob that is whole, and not durable yet: whoever wants to
	// read it on may begin.
	Arrived(w Whole)
	// Settle makes whole blobs durable and then gives them their final form,
	// which ends their places. It returns those for which that is done, also
	// beside an error. One call is made at a time.
	Settle(group []Whole) ([]oci.Digest, error)
}

// Place is where one blob lies while it is received. It is used by one goroutine.
type Place interface {
	io.ReaderAt
	io.WriterAt
	// Name is for people.
	Name() string
	// HashedLater tells that whoever keeps the blob can hash it when it has arrived.
	HashedLater() bool
	// Truncate drops all but the first size bytes.
	Truncate(size int64) error
	// Close leaves a blob that did not become whole, and keeps its first size
	// bytes for later.
	Close(size int64) error
}

// Whole is a blob that was received.
type Whole struct {
	Place  Place
	Desc   oci.Descriptor
	Hashed bool // and is right; else it is still to be hashed, in its place
}

// A group of commits is made durable together when it has this many blobs (each
// may keep a file open) or bytes.
const (
	defaultGroupBlobs = 64
	defaultGroupBytes = 256 << 20
)

// bufferSize (bytes) is large, for one system call costs as much as hashing a
// few KiB.
const bufferSize = 512 << 10

// Intake is an Ingester over Places. What does not depend on where blobs lie is
// here: one ingest a digest, hashing, continuing and refusing, and that blobs
// become durable in groups.
type Intake struct {
	name       string // for people
	places     Places
	groupBlobs int
	groupBytes int64
	buffers    sync.Pool        // of *[]byte, bufferSize long
	sums       sha256pair.Group // of what is received
	flushing   chan struct{}    // holds one token while a group is made durable

	mu         sync.Mutex
	active     map[oci.Digest]chan struct{} // ingests, each closed when it ends
	pending    map[oci.Digest]bool          // committed, but not to be seen yet
	queue      []Whole                      // the next group
	queueBytes int64
	err        error // of the first group that failed; stays
	closed     bool
}

var _ Ingester = (*Intake)(nil)

// NewIntake returns an Ingester over places, called name in messages.
func NewIntake(name string, places Places) *Intake {
	return &Intake{
		name:       name,
		places:     places,
		groupBlobs: defaultGroupBlobs,
		groupBytes: defaultGroupBytes,
		buffers:    sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }},
		flushing:   make(chan struct{}, 1),
		active:     map[oci.Digest]chan struct{}{},
		pending:    map[oci.Digest]bool{},
	}
}

// Stat implements Reader.
func (t *Intake) Stat(dg oci.Digest) (int64, error) {
	if err := t.seen(dg); err != nil {
		return 0, err
	}
	return t.places.Stat(dg)
}

// Open implements Reader.
func (t *Intake) Open(dg oci.Digest) (Blob, error) {
	if err := t.seen(dg); err != nil {
		return nil, err
	}
	return t.places.Open(dg)
}

// seen refuses blobs that could vanish again.
func (t *Intake) seen(dg oci.Digest) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending[dg] {
		return notFound(dg, "is not durable yet")
	}
	return nil
}

// Ingest implements Ingester. For a blob that is there already, Held is the whole
// blob, CopyFrom reads nothing, and Commit does nothing.
func (t *Intake) Ingest(ctx context.Context, desc oci.Descriptor) (Ingest, error) {
	if !desc.Digest.Valid() || desc.Size < 0 {
		return nil, fault.Newf(fault.Protocol, string(desc.Digest), "cannot receive a blob of this digest and %d bytes", desc.Size)
	}
	release, err := t.claim(ctx, desc.Digest)
	if err != nil {
		return nil, err
	}
	ing, err := t.ingest(ctx, desc, release)
	if err != nil {
		release()
		return nil, err
	}
	return ing, nil
}

// claim waits until digest has no ingest and reserves it until release.
func (t *Intake) claim(ctx context.Context, digest oci.Digest) (release func(), err error) {
	for {
		t.mu.Lock()
		busy, ok := t.active[digest]
		if !ok {
			done := make(chan struct{})
			t.active[digest] = done
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.active, digest)
				t.mu.Unlock()
				close(done)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (t *Intake) ingest(ctx context.Context, desc oci.Descriptor, release func()) (Ingest, error) {
	t.mu.Lock()
	pending, err := t.pending[desc.Digest], t.err
	if t.closed {
		err = durable.Fault(t.name, fs.ErrClosed)
	}
	t.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if pending {
		// Committed a moment ago by somebody else.
		if err := t.flush(ctx); err != nil {
			return nil, err
		}
	}
	// A blob of another size than announced is damaged, or the announcement
	// is wrong; receiving it anew tells which.
	if size, err := t.places.Stat(desc.Digest); err == nil && size == desc.Size {
		blob, err := t.places.Open(desc.Digest)
		if err != nil {
			return nil, err
		}
		return &presentIngest{blob: blob, release: release}, nil
	}
	return t.receive(desc, release)
}

// enqueue adds a blob to the next group, and makes that durable when it is full.
// The caller waits then, which bounds the open files and the bytes at stake.
func (t *Intake) enqueue(ctx context.Context, w Whole) error {
	t.places.Arrived(w)
	t.mu.Lock()
	t.pending[w.Desc.Digest] = true
	t.queue = append(t.queue, w)
	t.queueBytes += w.Desc.Size
	full := len(t.queue) >= t.groupBlobs || t.queueBytes >= t.groupBytes
	t.mu.Unlock()
	if !full {
		return nil
	}
	return t.flush(ctx)
}

// flush makes all that is queued durable and visible, after a flush that is
// under way. Blobs that fail stay hidden.
func (t *Intake) flush(ctx context.Context) error {
	select {
	case t.flushing <- struct{}{}:
		defer func() { <-t.flushing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	t.mu.Lock()
	group := t.queue
	t.queue, t.queueBytes = nil, 0
	t.mu.Unlock()

	var visible []oci.Digest
	var err error
	if len(group) > 0 {
		visible, err = t.places.Settle(group)
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	for _, digest := range visible {
		delete(t.pending, digest)
	}
	if t.err == nil {
		t.err = err
	}
	return t.err
}

// Sync implements Ingester. The first failure stays: after a failed sync the
// kernel forgets what it could not write, so a later success proves nothing.
func (t *Intake) Sync(ctx context.Context) error { return t.flush(ctx) }

// Close makes what was committed durable, as Sync does, and takes nothing in any
// more. Ingests must be closed before. It is safe to call twice.
func (t *Intake) Close() error {
	t.mu.Lock()
	closed := t.closed
	t.closed = true
	t.mu.Unlock()
	if closed {
		return nil
	}
	return t.flush(context.Background())
}

func (t *Intake) buffer() *[]byte { return t.buffers.Get().(*[]byte) }
