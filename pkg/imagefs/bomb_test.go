package imagefs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"ferry/pkg/fault"

	"github.com/klauspost/compress/zstd"
)

// bomb is a layer that is small as it is stored and endless when it is read: a file
// of zeros of so many bytes.
func bomb(t *testing.T, size int64, compress func(io.Writer) io.WriteCloser) []byte {
	t.Helper()
	return tarred(t, compress, func(w *tar.Writer) error {
		if err := w.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: size, Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err := io.CopyN(w, zeros{}, size)
		return err
	})
}

// tarred is a layer of what fill writes.
func tarred(t *testing.T, compress func(io.Writer) io.WriteCloser, fill func(*tar.Writer) error) []byte {
	t.Helper()
	var stored bytes.Buffer
	out := compress(&stored)
	w := tar.NewWriter(out)
	if err := errors.Join(fill(w), w.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
	return stored.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func toGzip(w io.Writer) io.WriteCloser {
	out, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		panic(err)
	}
	return out
}

func toZstd(w io.Writer) io.WriteCloser {
	out, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return out
}

// emptyFiles is a layer of n empty files: half a kilobyte each, a few bytes when it
// is compressed.
func emptyFiles(t *testing.T, n int) []byte {
	t.Helper()
	return tarred(t, toGzip, func(w *tar.Writer) error {
		for i := range n {
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d/%07d", i), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
				return err
			}
		}
		return nil
	})
}

// wideWindow is a zstd frame that asks its reader for a window of 2 GiB.
func wideWindow() []byte {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3} // exponent 21: 2^31 bytes
	block := binary.LittleEndian.AppendUint32(nil, 1<<3|0<<1|1)[:3]
	return append(append(frame, block...), 0)
}

// B15: with the limits that count in earnest. What a hostile layer costs is bounded:
// it is refused when it has grown to a few hundred megabytes, of which none are
// kept; a million files, fewer than the most that is read, cost time but no memory.
func TestBombs(t *testing.T) {
	if testing.Short() {
		t.Skip("decompresses gigabytes")
	}
	const gigabyte = 1 << 30
	for _, tc := range []struct {
		name    string
		layer   func() []byte
		refused string // "" where the layer is read to its end
	}{
		{"gzip", func() []byte { return bomb(t, gigabyte, toGzip) }, "bomb"},
		{"zstd", func() []byte { return bomb(t, gigabyte, toZstd) }, "bomb"},
		// What is inside is no tar, and is not opened further.
		{"gzip in gzip", func() []byte { return gzipped(t, bomb(t, gigabyte, toGzip)) }, "cannot be read"},
		{"zstd with a window of 2 GiB", wideWindow, "window"},
		{"a million empty files", func() []byte { return emptyFiles(t, 1_000_000) }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			layer := tc.layer()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			found, err := Find(t.Context(), layersOf(layer), []string{"a"})
			runtime.GC()
			runtime.ReadMemStats(&after)
			switch {
			case tc.refused == "" && (err != nil || len(found) > 0):
				t.Errorf("found %v, %v", found, err)
			case tc.refused != "" && (fault.KindOf(err) != fault.Protocol || !strings.Contains(err.Error(), tc.refused)):
				t.Errorf("got %v (%v), want a protocol fault with %q", err, fault.KindOf(err), tc.refused)
			}
			if kept := int64(after.HeapSys) - int64(before.HeapSys); kept > 96<<20 {
				t.Errorf("the heap has grown by %d bytes for a layer of %d", kept, len(layer))
			}
		})
	}
}
