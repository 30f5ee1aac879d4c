// Package limit does the least that any program must do to carry blobs, as
// plainly as it can be written: no resuming, no checks of what is there, no
// durability but one sync at the end. What it takes is the limit that others
// are compared with. With a list of manifests it carries those too, each as
// often as it must stand at the target.
//
// Content lies in one file a connection, blob behind blob, with a list of where
// each is: a file for each of fifty thousand blobs would cost more than the
// blobs do.
package limit

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"ferry/e2e/bench/content"
	"ferry/pkg/oci"
)

// bufferSize is what a connection reads at most before it writes; a multiple of
// any disk's blocks.
const bufferSize = 1 << 20

// WriteList writes the list of blobs that Get reads.
func WriteList(path string, blobs []content.Blob) error {
	return writeLines(path, blobs, func(w *bufio.Writer, b content.Blob) {
		fmt.Fprintln(w, b.Repository, b.Digest, b.Size)
	})
}

func readList(path string) ([]content.Blob, error) {
	return readLines(path, func(line string) (b content.Blob, err error) {
		_, err = fmt.Sscan(line, &b.Repository, &b.Digest, &b.Size)
		return b, err
	})
}

// WriteManifests writes the list of manifests that Get and Put read.
func WriteManifests(path string, manifests []content.Manifest) error {
	return writeLines(path, manifests, func(w *bufio.Writer, m content.Manifest) {
		fmt.Fprintln(w, m.Repository, m.Digest, m.MediaType, m.Height, m.Tags, m.Untagged)
	})
}

// readManifests reads what WriteManifests wrote; there are none without a path.
func readManifests(path string) ([]content.Manifest, error) {
	if path == "" {
		return nil, nil
	}
	return readLines(path, func(line string) (m content.Manifest, err error) {
		_, err = fmt.Sscan(line, &m.Repository, &m.Digest, &m.MediaType, &m.Height, &m.Tags, &m.Untagged)
		return m, err
	})
}

// extent is where a blob lies, or a manifest.
type extent struct {
	file         string // in the directory
	offset, size int64
	digest       oci.Digest
}

func extentsIn(dir string) string { return filepath.Join(dir, "extents") }

func writeExtents(dir string, extents []extent) error {
	return writeLines(extentsIn(dir), extents, func(w *bufio.Writer, e extent) {
		fmt.Fprintln(w, e.file, e.offset, e.size, e.digest)
	})
}

func readExtents(dir string) ([]extent, error) {
	return readLines(extentsIn(dir), func(line string) (e extent, err error) {
		_, err = fmt.Sscan(line, &e.file, &e.offset, &e.size, &e.digest)
		return e, err
	})
}

func writeLines[T any](path string, items []T, line func(*bufio.Writer, T)) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for _, item := range items {
		line(w, item)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

func readLines[T any](path string, parse func(line string) (T, error)) ([]T, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []T
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		item, err := parse(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, item)
	}
	return out, lines.Err()
}

// each gives every item to one of n workers. The first error ends all.
func each[T any](ctx context.Context, n int, items []T, worker func(ctx context.Context, number int, items <-chan T) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	work := make(chan T)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			if err := worker(ctx, i, work); err != nil {
				stop(err)
			}
		})
	}
	for _, item := range items {
		select {
		case work <- item:
		case <-ctx.Done():
		}
	}
	close(work)
	running.Wait()
	return context.Cause(ctx)
}
