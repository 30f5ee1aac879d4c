package bundle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
)

// parts is an archive as one range of bytes, whatever number of files it lies
// in. It is safe for concurrent use.
type parts struct {
	files  []part
	size   int64
	opened *handles
}

// part is a file at its place in the archive.
type part struct {
	name  string
	start int64
	size  int64
}

// newParts finds the files of an archive, which must be regular files.
// Kinds: fault.Damaged, fault.Local.
func newParts(opened *handles, files []contract.File) (*parts, error) {
	p := &parts{opened: opened}
	for _, f := range files {
		info, err := statRegular(opened.dir, f.Name)
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, part{name: f.Name, start: p.size, size: info.Size()})
		p.size += info.Size()
	}
	return p, nil
}

// fileAt names the file that holds the byte at offset, the last one beyond the
// end.
func (p *parts) fileAt(offset int64) string { return p.files[p.find(offset)].name }

func (p *parts) find(offset int64) int {
	i := sort.Search(len(p.files), func(i int) bool { return p.files[i].start > offset })
	return max(i-1, 0)
}

// ReadAt is io.ReaderAt. Kinds: fault.Damaged when a file became shorter,
// fault.Local.
func (p *parts) ReadAt(buf []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, fmt.Errorf("offset %d", offset)
	}
	done := 0
	for i := p.find(offset); i < len(p.files) && done < len(buf); i++ {
		f, at := p.files[i], offset+int64(done)-p.files[i].start
		n := min(int64(len(buf)-done), f.size-at)
		if n <= 0 {
			continue // an empty file, or beyond the end
		}
		if err := p.opened.readAt(f.name, buf[done:done+int(n)], at); err != nil {
			return done, err
		}
		done += int(n)
	}
	if done < len(buf) {
		return done, io.EOF
	}
	return done, nil
}

// handles keeps some files of a directory open: an archive may have thousands
// of chunks, more than a process may open.
type handles struct {
	dir   string
	limit int

	mu   sync.Mutex
	open map[string]*handle
	done bool
}

type handle struct {
	file  *os.File
	users int
}

func newHandles(dir string) *handles {
	return &handles{dir: dir, limit: 16, open: map[string]*handle{}}
}

func (h *handles) readAt(name string, buf []byte, offset int64) error {
	f, err := h.acquire(name)
	if err != nil {
		return err
	}
	defer h.release(f)
	_, err = f.file.ReadAt(buf, offset)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Newf(fault.Damaged, name, "the file has become shorter").Hint("copy the file again from the medium")
	}
	return durable.Fault(filepath.Join(h.dir, name), err)
}

func (h *handles) acquire(name string) (*handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return nil, durable.Fault(filepath.Join(h.dir, name), os.ErrClosed)
	}
	if f, ok := h.open[name]; ok {
		f.users++
		return f, nil
	}
	file, err := openRegular(h.dir, name)
	if err != nil {
		return nil, err
	}
	h.evict()
	f := &handle{file: file, users: 1}
	h.open[name] = f
	return f, nil
}

// evict makes room for one more file, if there is one that nobody reads.
func (h *handles) evict() {
	for name, f := range h.open {
		if len(h.open) < h.limit {
			return
		}
		if f.users == 0 {
			f.file.Close()
			delete(h.open, name)
		}
	}
}

func (h *handles) release(f *handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.users--
	if h.done && f.users == 0 {
		f.file.Close()
	}
}

// Close closes the files, each when its last reader is done.
func (h *handles) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = true
	for name, f := range h.open {
		if f.users == 0 {
			f.file.Close()
			delete(h.open, name)
		}
	}
	return nil
}

// statRegular refuses anything but a regular file: a link would let a medium
// name any file of this machine (B6). Kinds: fault.Damaged, fault.Local.
func statRegular(dir, name string) (os.FileInfo, error) {
	info, err := os.Lstat(filepath.Join(dir, name))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fault.Newf(fault.Damaged, name, "the file is missing in %s", dir).Hint("copy the file from the medium; every file of the bundle is needed")
	case err != nil:
		return nil, durable.Fault(filepath.Join(dir, name), err)
	case !info.Mode().IsRegular():
		return nil, fault.Newf(fault.Damaged, name, "not a regular file").Hint("put the file itself in its place, not a link to it")
	}
	return info, nil
}

// openRegular opens a file that statRegular accepts, and that very file.
func openRegular(dir, name string) (*os.File, error) {
	want, err := statRegular(dir, name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	f, err := os.Open(path)
	if err != nil {
		return nil, durable.Fault(path, err)
	}
	got, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, durable.Fault(path, err)
	}
	if !os.SameFile(want, got) {
		f.Close()
		return nil, fault.Newf(fault.Damaged, name, "the file was replaced while it was being opened")
	}
	return f, nil
}
