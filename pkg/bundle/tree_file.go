package bundle

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// insideFile is a file of a tree opened for reading. It is a store.Blob.
type insideFile struct {
	file *os.File
	path string // for messages
	size int64
}

var _ store.Blob = (*insideFile)(nil)

// openInside opens a regular file below root, and that very file: neither its
// name nor a directory on the way leads out. name has slashes.
// Kinds: fault.Damaged, fault.Local.
func openInside(root *os.Root, name string) (*insideFile, error) {
	shown := filepath.Join(root.Name(), filepath.FromSlash(name))
	want, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, missingFile(shown)
	case err != nil:
		return nil, durable.Fault(shown, err)
	case !want.Mode().IsRegular():
		return nil, notRegular(shown)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, durable.Fault(shown, err)
	}
	got, err := f.Stat()
	if err == nil && !os.SameFile(want, got) {
		err = fault.Newf(fault.Damaged, shown, "the file was replaced while it was being opened")
	}
	if err != nil {
		f.Close()
		return nil, durable.Fault(shown, err)
	}
	return &insideFile{f, shown, got.Size()}, nil
}

func missingFile(path string) error {
	return fault.Newf(fault.Damaged, path, "the file is missing").Hint("copy it from the medium")
}

func notRegular(path string) error {
	return fault.Newf(fault.Damaged, path, "not a regular file").Hint("put the file itself in its place, not a link to it")
}

// Size implements store.Blob.
func (f *insideFile) Size() int64 { return f.size }

// Close implements store.Blob.
func (f *insideFile) Close() error { return f.fault(f.file.Close()) }

// Read implements store.Blob.
func (f *insideFile) Read(p []byte) (int, error) {
	n, err := f.file.Read(p)
	return n, f.fault(err)
}

// ReadAt implements store.Blob.
func (f *insideFile) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.file.ReadAt(p, offset)
	return n, f.fault(err)
}

// Seek implements store.Blob.
func (f *insideFile) Seek(offset int64, whence int) (int64, error) {
	n, err := f.file.Seek(offset, whence)
	return n, f.fault(err)
}

func (f *insideFile) fault(err error) error {
	if err == io.EOF {
		return err
	}
	return durable.Fault(f.path, err)
}

// hashFile reads all of f.
func hashFile(ctx context.Context, f *insideFile, progress Progress) (oci.Digest, error) {
	sum := sha256.New()
	buf := make([]byte, max(1, min(copySize, f.size)))
	err := copyHeard(ctx, sum, f, buf, progress)
	return oci.DigestFromSum(sum.Sum(nil)), err
}

// copyHeard is io.Copy that can be cancelled and is heard.
func copyHeard(ctx context.Context, dst io.Writer, src io.Reader, buf []byte, progress Progress) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, readErr := src.Read(buf)
		if _, err := dst.Write(buf[:n]); err != nil {
			return err
		}
		progress.AddBytes(int64(n))
		if errors.Is(readErr, io.EOF) {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
}
