// Package storetest is what every store must pass: [Reader] for whatever finds
// content by digest, [Ingester] for whatever takes it in.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// Blobs returns content to fill a store with: the empty blob, one byte, text,
// and sizes around those of common buffers and archive blocks. The same every
// time.
func Blobs() map[oci.Digest][]byte {
	out := map[oci.Digest][]byte{}
	for _, size := range []int{0, 1, 511, 512, 513, 32<<10 + 1, 1<<20 + 7} {
		b := Content(size)
		out[oci.DigestOf(b)] = b
	}
	return out
}

// Content returns size bytes that look random and are the same every time.
func Content(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)}).Read(b)
	return b
}

// Reader runs the suite. fill returns a reader that holds exactly the blobs it
// returns, which should be those of Blobs; it is called once per test.
func Reader(t *testing.T, fill func(t *testing.T) (store.Reader, map[oci.Digest][]byte)) {
	t.Run("whole", func(t *testing.T) {
		r, blobs := fill(t)
		for d, want := range blobs {
			wantBlob(t, r, d, want)
		}
	})
	t.Run("random access", func(t *testing.T) {
		r, blobs := fill(t)
		for d, want := range blobs {
			wantRanges(t, r, d, want)
		}
	})
	t.Run("not found", func(t *testing.T) {
		r, _ := fill(t)
		for _, d := range []oci.Digest{
			oci.DigestOf([]byte("nobody has this")),
			"", "sha256:", "sha256:../../oci-layout", "sha512:00", "oci-layout",
		} {
			wantAbsent(t, r, d)
		}
	})
	t.Run("concurrent", func(t *testing.T) {
		r, blobs := fill(t)
		var wg sync.WaitGroup
		for range 4 {
			for d, want := range blobs {
				wg.Go(func() {
					if err := checkBlob(r, d, want); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
	})
	t.Run("verified", func(t *testing.T) {
		r, blobs := fill(t)
		for d, want := range blobs {
			b := open(t, r, d)
			got, err := io.ReadAll(store.Verified(b, oci.Descriptor{Digest: d, Size: int64(len(want))}))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %v; want its %d bytes", d, len(got), err, len(want))
			}
		}
	})
}

func open(t *testing.T, r store.Reader, d oci.Digest) store.Blob {
	t.Helper()
	b, err := r.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func wantBlob(t *testing.T, r store.Reader, d oci.Digest, want []byte) {
	t.Helper()
	if err := checkBlob(r, d, want); err != nil {
		t.Error(err)
	}
}

func checkBlob(r store.Reader, d oci.Digest, want []byte) error {
	size, err := r.Stat(d)
	if err != nil || size != int64(len(want)) {
		return fmt.Errorf("Stat(%s) is %d, %w; want %d", d, size, err, len(want))
	}
	b, err := r.Open(d)
	if err != nil {
		return fmt.Errorf("Open(%s): %w", d, err)
	}
	defer b.Close()
	if b.Size() != int64(len(want)) {
		return fmt.Errorf("%s has size %d, want %d", d, b.Size(), len(want))
	}
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("reading %s gives %d bytes, %w; want its %d bytes", d, len(got), err, len(want))
	}
	return nil
}

func wantAbsent(t *testing.T, r store.Reader, d oci.Digest) {
	t.Helper()
	if _, err := r.Stat(d); !errors.Is(err, fault.NotFound) {
		t.Errorf("Stat(%q) is %v, want not found", d, err)
	}
	b, err := r.Open(d)
	if !errors.Is(err, fault.NotFound) {
		t.Errorf("Open(%q) is %v, want not found", d, err)
	}
	if err == nil {
		b.Close()
	}
}

func wantRanges(t *testing.T, r store.Reader, d oci.Digest, want []byte) {
	t.Helper()
	b := open(t, r, d)
	n := int64(len(want))
	for _, off := range []int64{0, 1, n / 2, n - 1, n, n + 5} {
		if off < 0 {
			continue
		}
		p := make([]byte, 700)
		got, err := b.ReadAt(p, off)
		rest := want[min(off, n):]
		full := len(rest) >= len(p)
		if !bytes.Equal(p[:got], rest[:min(len(rest), len(p))]) || (!full && err != io.EOF) || (full && err != nil && err != io.EOF) {
			t.Errorf("%s: ReadAt(%d bytes, %d) gives %d bytes, %v", d, len(p), off, got, err)
		}
		if pos, err := b.Seek(-min(off, n), io.SeekEnd); err != nil || pos != n-min(off, n) {
			t.Fatalf("%s: Seek to %d from the end gives %d, %v", d, off, pos, err)
		}
		tail, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(tail, want[n-min(off, n):]) {
			t.Errorf("%s: the last %d bytes read as %d bytes, %v", d, off, len(tail), err)
		}
	}
}
