package bundle

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"path/filepath"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/oci"
)

const (
	copySize   = 1 << 20 // bytes per read and write
	aheadCount = 4       // buffers between reading and looking
)

// ahead reads an archive from its first byte to its last. A goroutine reads and
// hashes the files while the caller looks at what they hold, so that checking
// both costs the time of one.
type ahead struct {
	filled   chan []byte
	empty    chan []byte
	stop     context.CancelFunc
	progress Progress

	current, rest []byte
	pos           int64

	// Set by the goroutine before it closes filled.
	err   error
	files contract.ArchiveFiles
}

// readAhead begins to read p. The caller calls Close.
func readAhead(ctx context.Context, name string, p *parts, progress Progress) *ahead {
	ctx, stop := context.WithCancel(ctx)
	a := &ahead{
		filled:   make(chan []byte, aheadCount),
		empty:    make(chan []byte, aheadCount),
		stop:     stop,
		progress: progress,
	}
	for range aheadCount {
		a.empty <- make([]byte, max(1, min(copySize, p.size)))
	}
	go func() {
		defer close(a.filled)
		a.files, a.err = a.readFiles(ctx, name, p)
	}()
	return a
}

// readFiles sends all bytes and returns what the files are.
func (a *ahead) readFiles(ctx context.Context, name string, p *parts) (contract.ArchiveFiles, error) {
	sums := newSums(name, len(p.files) > 1)
	for _, f := range p.files {
		if err := a.readFile(ctx, p.opened.dir, f.name, sums); err != nil {
			return sums.result(), err
		}
		sums.endFile(f.name)
	}
	return sums.result(), nil
}

func (a *ahead) readFile(ctx context.Context, dir, name string, sums *sums) error {
	f, err := openRegular(dir, name)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		var buf []byte
		select {
		case buf = <-a.empty:
		case <-ctx.Done():
			return ctx.Err()
		}
		n, err := io.ReadFull(f, buf[:cap(buf)])
		sums.Write(buf[:n])
		if n > 0 {
			a.filled <- buf[:n] // never blocks: there are no more buffers than room
		} else {
			a.empty <- buf
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return durable.Fault(filepath.Join(dir, name), err)
		}
	}
}

// Read is io.Reader; its end is the end of the last file.
func (a *ahead) Read(p []byte) (int, error) {
	if len(a.rest) == 0 {
		if a.current != nil {
			a.empty <- a.current
			a.current = nil
		}
		buf, ok := <-a.filled
		if !ok {
			if a.err != nil {
				return 0, a.err
			}
			return 0, io.EOF
		}
		a.current, a.rest = buf, buf
		a.progress.AddBytes(int64(len(buf)))
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	a.pos += int64(n)
	return n, nil
}

// Pos is how many bytes were read.
func (a *ahead) Pos() int64 { return a.pos }

// Finish reads what is left and returns the files with their digests.
func (a *ahead) Finish() (contract.ArchiveFiles, error) {
	_, err := io.Copy(io.Discard, onlyReader{a})
	return a.files, err
}

// onlyReader keeps io.Copy from looking for more methods.
type onlyReader struct{ io.Reader }

// Close ends the goroutine, wherever it is.
func (a *ahead) Close() {
	a.stop()
	for range a.filled {
	}
}

// sums hashes an archive and the files that it lies in.
type sums struct {
	whole, file hash.Hash // file is nil when there is one file: then it is the whole
	size        int64     // of the file so far
	files       contract.ArchiveFiles
}

func newSums(name string, chunked bool) *sums {
	s := &sums{whole: sha256.New(), files: contract.ArchiveFiles{Name: name}}
	if chunked {
		s.file = sha256.New()
	}
	return s
}

// Write is io.Writer and never fails.
func (s *sums) Write(p []byte) (int, error) {
	s.whole.Write(p)
	if s.file != nil {
		s.file.Write(p)
	}
	s.size += int64(len(p))
	return len(p), nil
}

func (s *sums) endFile(name string) {
	f := contract.File{Name: name, Size: s.size}
	if s.file == nil {
		f.Digest = oci.DigestFromSum(s.whole.Sum(nil))
	} else {
		f.Digest = oci.DigestFromSum(s.file.Sum(nil))
		s.file.Reset()
	}
	s.files.Files = append(s.files.Files, f)
	s.files.Size += s.size
	s.size = 0
}

// result is what the archive is, once all files have ended.
func (s *sums) result() contract.ArchiveFiles {
	s.files.Digest = oci.DigestFromSum(s.whole.Sum(nil))
	return s.files
}
