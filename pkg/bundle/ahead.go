package bundle

import (
	"context"
	"errors"
	"io"
	"path/filepath"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
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

// readAhead begins to read p, and to hash it, with gost by that too. The caller
// calls Close.
func readAhead(ctx context.Context, name string, p *parts, gost bool, progress Progress) *ahead {
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
		a.files, a.err = a.readFiles(ctx, newSums(name, len(p.files) > 1, gost), p)
	}()
	return a
}

// readFiles sends all bytes and returns what the files are.
func (a *ahead) readFiles(ctx context.Context, sums *sums, p *parts) (contract.ArchiveFiles, error) {
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
