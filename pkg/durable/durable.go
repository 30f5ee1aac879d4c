// Package durable writes files and directories that survive a power loss, and
// that nobody sees half-written.
//
// A file gets its final name only when its bytes are on the disk, and the name
// counts only when the directory is on the disk too. Whoever dies before leaves
// a hidden temporary file, which the next writer of the same file removes.
package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"ferry/pkg/fault"
)

// writebackStep is how many bytes may be written before the kernel is asked to
// bring them to the disk: the sync at the end then finds little left to do.
const writebackStep = 8 << 20

// WriteFile replaces the file at path by data, or leaves it as it was.
// Kinds: fault.Local, and fault.Usage where path is a directory or a device.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	// The rename would replace the link, and leave old content where it led:
	// /dev/stderr, of all files.
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fault.Newf(fault.Usage, path, "is a symbolic link").Hint("name the file itself")
	}
	f, err := create(path, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// File is a file being written under a temporary name beside its final one.
// It is used by one goroutine.
type File struct {
	f       *os.File
	path    string
	written int64 // bytes
	started int64 // bytes whose way to the disk has been started
	done    bool
}

// Create begins to write the file at path, which keeps its old content until
// Commit. A symbolic link at path is replaced, not followed. Kinds as
// WriteFile.
func Create(path string) (*File, error) { return create(path, 0o644) }

func create(path string, perm fs.FileMode) (*File, error) {
	// A rename would replace /dev/null by a file.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fault.Newf(fault.Usage, path, "is not a regular file").Hint("name a file, or a path that is free")
	}
	sweep(path)
	for {
		temp := filepath.Join(filepath.Dir(path), tempPrefix(path)+rand.Text()+tempSuffix)
		f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if err != nil {
			return nil, Fault(path, err)
		}
		// The lock says that the writer is alive. A file system without locks
		// is fine here: then nobody can sweep either.
		if locked, err := TryLock(f, true); locked || err != nil {
			return &File{f: f, path: path}, nil
		}
		// A sweep came between creating and locking.
		f.Close()
		os.Remove(temp)
	}
}

const tempSuffix = ".tmp"

func tempPrefix(path string) string { return "." + filepath.Base(path) + "." }

// isTemp tells whether name is one that create gives to temporary files of
// path: with as many random letters between as rand.Text makes.
func isTemp(path, name string) bool {
	random, ok := strings.CutPrefix(name, tempPrefix(path))
	random, hasSuffix := strings.CutSuffix(random, tempSuffix)
	return ok && hasSuffix && len(random) == 26 && !strings.Contains(random, ".")
}

// IsUnfinished tells whether name, that of a file in any directory, is one that
// a writer gives to a file before it is whole.
func IsUnfinished(name string) bool {
	parts := strings.Split(name, ".")
	if len(parts) < 4 || parts[0] != "" {
		return false
	}
	return isTemp(strings.Join(parts[1:len(parts)-2], "."), name)
}

// sweep removes what writers of path left behind that were killed: a pack that
// is killed three times must not fill the disk with three hidden archives. A
// living writer holds a lock on its file.
func sweep(path string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return // creating the file will fail, and say why
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !isTemp(path, e.Name()) {
			continue
		}
		f, err := os.OpenFile(filepath.Join(filepath.Dir(path), e.Name()), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if locked, _ := TryLock(f, true); locked {
			os.Remove(f.Name())
		}
		f.Close()
	}
}

// Write appends p. Kinds: fault.Local.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.f.Write(p)
	f.written += int64(n)
	if f.written-f.started >= writebackStep {
		StartWriteback(f.f, f.started, f.written-f.started)
		f.started = f.written
	}
	if err != nil {
		return n, Fault(f.path, err)
	}
	return n, nil
}

// Commit makes the bytes durable, and then the file visible at its path. After
// a failure the old content stays. Kinds: fault.Local.
func (f *File) Commit() error {
	if f.done {
		return Fault(f.path, fs.ErrClosed)
	}
	defer f.Close()
	if err := f.f.Sync(); err != nil {
		return Fault(f.path, err)
	}
	if runtime.GOOS == "windows" {
		f.f.Close() // an open file cannot be renamed there
	}
	if err := os.Rename(f.f.Name(), f.path); err != nil {
		return Fault(f.path, err)
	}
	f.done = true
	f.f.Close() // not before the rename: the lock keeps others from sweeping
	return SyncDir(filepath.Dir(f.path))
}

// Close abandons the file unless it was committed. It is safe to call twice.
func (f *File) Close() error {
	if f.done {
		return nil
	}
	f.done = true
	f.f.Close()
	if err := os.Remove(f.f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Fault(f.path, err)
	}
	return nil
}

// MkdirAll is os.MkdirAll whose directories survive a power loss.
// Kinds: fault.Local.
func MkdirAll(path string, perm fs.FileMode) error {
	parent := filepath.Dir(path)
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		// It may come from a process that was killed before it synced.
		// The parent may be somebody else's, closed to us: then let it be.
		_ = SyncDir(parent)
		return nil
	}
	err := os.Mkdir(path, perm)
	if errors.Is(err, fs.ErrNotExist) && parent != path {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
		err = os.Mkdir(path, perm)
	}
	if errors.Is(err, fs.ErrExist) {
		// Another process was quicker, or a file is in the way.
		if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
			err = nil
		}
	}
	if err != nil {
		return Fault(path, err)
	}
	return SyncDir(parent)
}

// SyncDir makes the names in a directory durable: new, renamed and removed
// ones. Kinds: fault.Local.
func SyncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	dir, err := os.Open(path)
	if err != nil {
		return Fault(path, err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !cannotSyncDirs(err) {
		return Fault(path, err)
	}
	return nil
}

// Fault classifies a failure of the operating system at path as fault.Local,
// with advice where there is some. An error that has a kind already, and nil,
// pass unchanged.
func Fault(path string, err error) error {
	if err == nil || fault.KindOf(err) != nil {
		return err
	}
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch { // the subject names the path already
	case errors.As(err, &pathErr):
		err = fmt.Errorf("%s: %w", pathErr.Op, pathErr.Err)
	case errors.As(err, &linkErr):
		err = fmt.Errorf("%s: %w", linkErr.Op, linkErr.Err)
	}
	f := fault.New(fault.Local, path, err)
	if hint := advice(err); hint != "" {
		f.Hint("%s", hint)
	}
	return f.Because(Cause(err))
}

// Cause tells what stands behind a failure of the operating system, nil where
// that is not known.
func Cause(err error) *fault.Cause {
	switch {
	case isFull(err):
		return fault.DiskFull
	case errors.Is(err, fs.ErrPermission):
		return fault.Permission
	}
	return nil
}
