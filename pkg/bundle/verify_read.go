package bundle

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync/atomic"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
)

// readAheadCount is how many buffers of copySize bytes lie between reading and
// hashing. They bound the memory, and how far one core can be behind another: with
// two cores, blobs of up to twice as many bytes are hashed at full speed.
const readAheadCount = 28

// buffers are a bounded number of buffers that go from a reader to those who use
// what was read, and back.
type buffers struct {
	free chan *buffer
	size int64
}

// newBuffers makes n buffers, none larger than a file of the archives.
func newBuffers(n int, archives []contract.ArchiveFiles) *buffers {
	size := int64(1)
	for _, a := range archives {
		for _, f := range a.Files {
			size = max(size, f.Size)
		}
	}
	b := &buffers{free: make(chan *buffer, n), size: min(copySize, size)}
	for range n {
		b.free <- &buffer{home: b}
	}
	return b
}

// take waits for a buffer. Whoever takes it is its first user.
func (b *buffers) take(ctx context.Context) (*buffer, error) {
	select {
	case buf := <-b.free:
		if buf.data == nil {
			buf.data = make([]byte, b.size)
		}
		buf.users.Store(1)
		return buf, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// buffer goes home when its last user is done.
type buffer struct {
	data  []byte
	users atomic.Int32
	home  *buffers
}

// piece is a part of a buffer on its way to a user.
type piece struct {
	*buffer
	data []byte
}

// share makes one more user of the buffer.
func (b *buffer) share(data []byte) piece {
	b.users.Add(1)
	return piece{b, data}
}

func (b *buffer) done() {
	if b.users.Add(-1) == 0 {
		b.home.free <- b
	}
}

// sequence reads the files of an archive one after the other, each once and from
// its first byte to its last.
type sequence struct {
	v       *verifier
	files   []contract.File // the first is open if file is not nil
	buffers *buffers
	gost    *gostHasher // nil when nobody wants sums

	file    io.ReadCloser
	left    int64 // bytes of the file that the document promises
	current *buffer
	rest    []byte // of current
	read    int64
}

// next returns at most limit bytes of what follows, as they lie in a buffer. They
// are the caller's until the next call, unless they are shared.
func (s *sequence) next(ctx context.Context, limit int64) ([]byte, *buffer, error) {
	if len(s.rest) == 0 {
		err := s.fill(ctx)
		if err == io.EOF {
			err = &difference{offset: s.read}
		}
		if err != nil {
			return nil, nil, err
		}
	}
	data := s.rest[:min(limit, int64(len(s.rest)))]
	s.rest = s.rest[len(data):]
	return data, s.current, nil
}

// end is nil when there is nothing more to read.
func (s *sequence) end(ctx context.Context) error {
	if len(s.rest) == 0 {
		err := s.fill(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return &difference{offset: s.read}
}

// fill reads the next buffer. It returns a difference where a file is longer or
// shorter than the document says, and io.EOF behind the last one.
func (s *sequence) fill(ctx context.Context) error {
	for len(s.files) > 0 {
		s.release()
		if err := s.openNext(); err != nil {
			return err
		}
		buf, err := s.buffers.take(ctx)
		if err != nil {
			return err
		}
		s.current = buf
		s.rest, err = s.readInto(buf.data)
		if err != nil || len(s.rest) > 0 {
			return err
		}
	}
	return io.EOF
}

func (s *sequence) openNext() (err error) {
	if s.file == nil {
		s.file, err = s.v.open(s.files[0].Name)
		s.left = s.files[0].Size
	}
	return err
}

// readInto fills buf, but for the end of a file, which it closes.
func (s *sequence) readInto(buf []byte) ([]byte, error) {
	n, err := io.ReadFull(s.file, buf)
	s.read += int64(n)
	s.left -= int64(n)
	s.v.told.AddBytes(int64(n))
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	switch {
	case err != nil && !ended:
		return nil, durable.Fault(filepath.Join(s.v.dir, s.files[0].Name), err)
	case s.left < 0, ended && s.left > 0:
		return nil, &difference{offset: s.read}
	}
	s.sum(buf[:n], ended)
	if ended {
		s.file.Close()
		s.file, s.files = nil, s.files[1:]
	}
	return buf[:n], nil
}

func (s *sequence) sum(data []byte, ended bool) {
	if s.gost == nil {
		return
	}
	s.gost.add(s.current.share(data))
	if ended {
		s.gost.endFile(s.files[0].Name)
	}
}

func (s *sequence) release() {
	if s.current != nil {
		s.current.done()
		s.current, s.rest = nil, nil
	}
}

// close gives back what is still held.
func (s *sequence) close() {
	s.release()
	if s.file != nil {
		s.file.Close()
	}
}
