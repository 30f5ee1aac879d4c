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
	files  fileList
	size   int64
	opened *handles
}

// part is a file at its place in the archive.
type part struct {
	name  string
	start int64
	size  int64
}

// fileList is the files of an archive in their order, at least one.
type fileList []part

// at is the index of the file that holds the byte at offset, the last one beyond
// the end.
func (l fileList) at(offset int64) int {
	i := sort.Search(len(l), func(i int) bool { return l[i].start > offset })
	return max(i-1, 0)
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

// sized reports whether the files have the sizes of those.
func (p *parts) sized(files []contract.File) bool {
	for i, f := range files {
		if p.files[i].size != f.Size {
			return false
		}
	}
	return true
}

// fileAt names the file that holds the byte at offset, the last one beyond the
// end.
func (p *parts) fileAt(offset int64) string { return p.files[p.files.at(offset)].name }

// ReadAt is io.ReaderAt. Kinds: fault.Damaged when a file became shorter,
// fault.Local.
func (p *parts) ReadAt(buf []byte, offset int64) (int, error) {
	return p.each(buf, offset, p.opened.readAt, io.EOF)
}

// WriteAt is io.WriterAt within the size, for files that are open for writing.
// Kinds: fault.Local.
func (p *parts) WriteAt(buf []byte, offset int64) (int, error) {
	return p.each(buf, offset, p.opened.writeAt, io.ErrShortWrite)
}

// each does something with the range of each file that lies behind buf, and returns
// atEnd when there are fewer bytes than buf has.
func (p *parts) each(buf []byte, offset int64, do func(name string, buf []byte, offset int64) error, atEnd error) (int, error) {
	if offset < 0 {
		return 0, fmt.Errorf("offset %d", offset)
	}
	done := 0
	for i := p.files.at(offset); i < len(p.files) && done < len(buf); i++ {
		f, at := p.files[i], offset+int64(done)-p.files[i].start
		n := min(int64(len(buf)-done), f.size-at)
		if n <= 0 {
			continue // an empty file, or beyond the end
		}
		if err := do(f.name, buf[done:done+int(n)], at); err != nil {
			return done, err
		}
		done += int(n)
	}
	if done < len(buf) {
		return done, atEnd
	}
	return done, nil
}

// Sync makes durable what was written before it was called. Kinds: fault.Local.
func (p *parts) Sync() error {
	for _, f := range p.files {
		if err := p.opened.sync(f.name); err != nil {
			return err
		}
	}
	return nil
}

// handles keeps some files of a directory open: an archive may have thousands
// of chunks, more than a process may open.
type handles struct {
	dir   string
	limit int
	open  func(dir, name string) (*os.File, error)

	mu    sync.Mutex
	files map[string]*handle
	err   error // of a file that was closed to make room
	done  bool
}

type handle struct {
	file  *os.File
	users int
	dirty bool // written to since the last sync
}

// newHandles opens files for reading.
func newHandles(dir string) *handles {
	return &handles{dir: dir, limit: 16, open: openRegular, files: map[string]*handle{}}
}

// newWriters opens files that exist for reading and writing.
func newWriters(dir string) *handles {
	return &handles{dir: dir, limit: 64, open: openToWrite, files: map[string]*handle{}}
}

func openToWrite(dir, name string) (*os.File, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	return f, durable.Fault(path, err)
}

func (h *handles) readAt(name string, buf []byte, offset int64) error {
	f, err := h.acquire(name, false)
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

func (h *handles) writeAt(name string, buf []byte, offset int64) error {
	f, err := h.acquire(name, true)
	if err != nil {
		return err
	}
	defer h.release(f)
	_, err = f.file.WriteAt(buf, offset)
	return durable.Fault(filepath.Join(h.dir, name), err)
}

// sync makes durable what was written to a file before.
func (h *handles) sync(name string) error {
	h.mu.Lock()
	f, err := h.files[name], h.err
	if err != nil || f == nil || !f.dirty {
		h.mu.Unlock()
		return err
	}
	f.users++
	f.dirty = false // what is written from now on is for the next sync
	h.mu.Unlock()
	defer h.release(f)
	return durable.Fault(filepath.Join(h.dir, name), f.file.Sync())
}

func (h *handles) acquire(name string, writes bool) (*handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return nil, durable.Fault(filepath.Join(h.dir, name), os.ErrClosed)
	}
	f := h.files[name]
	if f == nil {
		file, err := h.open(h.dir, name)
		if err != nil {
			return nil, err
		}
		h.evict()
		f = &handle{file: file}
		h.files[name] = f
	}
	f.users++
	f.dirty = f.dirty || writes
	return f, nil
}

// evict makes room for one more file, if there is one that nobody uses. What was
// written to it is synced before: through a file that is opened later an error
// may be missed.
func (h *handles) evict() {
	for name, f := range h.files {
		if len(h.files) < h.limit {
			return
		}
		if f.users > 0 {
			continue
		}
		if f.dirty {
			if err := f.file.Sync(); err != nil && h.err == nil {
				h.err = durable.Fault(filepath.Join(h.dir, name), err)
			}
		}
		f.file.Close()
		delete(h.files, name)
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

// Close closes the files, each when its last user is done. What was written and
// not synced may be lost.
func (h *handles) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = true
	for name, f := range h.files {
		if f.users == 0 {
			f.file.Close()
			delete(h.files, name)
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
