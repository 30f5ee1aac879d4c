package limit

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/e2e/bench/content"
	"ferry/e2e/bench/origin"
	"ferry/pkg/oci"
)

func serve(t *testing.T, dir string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- origin.Serve(ctx, dir, listener, os.Stderr) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// What is downloaded is there byte for byte, with direct I/O too, and what is
// uploaded arrives.
func TestGetAndPut(t *testing.T) {
	for _, direct := range []bool{false, true} {
		t.Run(fmt.Sprint("direct ", direct), func(t *testing.T) {
			source := t.TempDir()
			// More than the buffer, so that blobs lie across its end.
			made, err := content.List(1, 6, 2, 5*bufferSize).Write(t.Context(), source)
			if err != nil {
				t.Fatal(err)
			}
			list := filepath.Join(t.TempDir(), "list")
			if err := WriteList(list, made.Blobs); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			get := Get{Host: serve(t, source), List: list, Dir: dir, Connections: 2, Direct: direct}
			if err := get.Run(t.Context()); err != nil {
				if direct && strings.Contains(err.Error(), "invalid argument") {
					t.Skip("the file system has no direct I/O")
				}
				t.Fatal(err)
			}
			assertContent(t, dir, made.Blobs)
			target := serve(t, t.TempDir())
			put := Put{Host: target, Dir: dir, Connections: 2}
			if err := put.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, blob := range made.Blobs {
				resp, err := http.Head("http://" + target + "/v2/" + repository + "/blobs/" + string(blob.Digest))
				if err != nil {
					t.Fatal(err)
				}
				if resp.Body.Close(); resp.ContentLength != blob.Size {
					t.Errorf("%s: %s with %d bytes at the target", blob.Digest, resp.Status, resp.ContentLength)
				}
			}
		})
	}
}

func assertContent(t *testing.T, dir string, blobs []content.Blob) {
	t.Helper()
	extents, err := readExtents(dir)
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, e := range extents {
		text, err := os.ReadFile(filepath.Join(dir, e.file))
		if err != nil {
			t.Fatal(err)
		}
		if got := oci.DigestOf(text[e.offset : e.offset+e.size]); got != e.digest {
			t.Errorf("%s is %s", e.digest, got)
		}
		total += e.size
	}
	if len(extents) != len(blobs) {
		t.Errorf("%d blobs, want %d", len(extents), len(blobs))
	}
	files, err := filepath.Glob(filepath.Join(dir, "content-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		total -= info.Size()
	}
	if total != 0 {
		t.Errorf("the blobs have %d bytes more than the files", total)
	}
}

// A limit that carries something else is none.
func TestGetHashes(t *testing.T) {
	source := t.TempDir()
	made, err := content.Small(1, 1, 2, 1000).Write(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	victim := made.Blobs[0]
	path := filepath.Join(source, "docker/registry/v2/blobs/sha256", victim.Digest.Hex()[:2], victim.Digest.Hex(), "data")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[0] ^= 1
	if err := os.WriteFile(path, text, 0o666); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "list")
	if err := WriteList(list, made.Blobs); err != nil {
		t.Fatal(err)
	}
	get := Get{Host: serve(t, source), List: list, Dir: t.TempDir(), Connections: 2}
	if err := get.Run(t.Context()); err == nil || !strings.Contains(err.Error(), string(victim.Digest)) {
		t.Errorf("error is %v, want one about %s", err, victim.Digest)
	}
}
