package bundle

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
	"ferry/pkg/store/storetest"
)

// S7.3.1, S7.4.2, S9 row 57.
func TestArchivesAreAStore(t *testing.T) {
	for name, chunkSize := range map[string]int64{"whole": 0, "chunks": 10_000} {
		t.Run(name, func(t *testing.T) {
			storetest.Reader(t, func(t *testing.T) (store.Reader, map[oci.Digest][]byte) {
				b := newBuilder()
				b.archive("a")
				var layers []string
				for _, data := range storetest.Blobs() {
					layers = append(layers, string(data))
				}
				b.tag("a", "r", "v1", b.image(layers...))
				dir := t.TempDir()
				files, err := Write(t.Context(), dir, b.done(t), b.store, Options{ChunkSize: chunkSize})
				if err != nil {
					t.Fatal(err)
				}
				archives, err := Open(in(dir, files))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { archives.Close() })
				return archives, b.store.blobs
			})
		})
	}
}

// Chunks of 512 bytes and less split headers, contents and the end alike, and
// there are more of them than files are kept open.
func TestOpenReadsAcrossChunks(t *testing.T) {
	_, content := sample(t)
	for _, chunkSize := range []int64{0, 100, 512, 1000} {
		dir, doc := written(t, chunkSize)
		archives, err := Open(in(dir, doc.Archives))
		if err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		for d, want := range content.blobs {
			wait.Go(func() {
				if size, err := archives.Stat(d); err != nil || size != int64(len(want)) {
					t.Errorf("%s has size %d, %v, want %d", d, size, err, len(want))
				}
				b, err := archives.Open(d)
				if err != nil {
					t.Error(err)
					return
				}
				defer b.Close()
				got, err := io.ReadAll(b)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("chunks of %d bytes: %s reads as %q, %v, want %q", chunkSize, d, got, err, want)
				}
				tail := make([]byte, len(want)/2)
				if _, err := b.ReadAt(tail, int64(len(want)-len(tail))); err != nil && len(tail) > 0 || !bytes.HasSuffix(want, tail) {
					t.Errorf("chunks of %d bytes: the tail of %s reads as %q, %v", chunkSize, d, tail, err)
				}
			})
		}
		wait.Wait()
		if n := len(archives.opened[0].files); n > archives.opened[0].limit {
			t.Errorf("%d files are kept open, at most %d should be", n, archives.opened[0].limit)
		}
		archives.Close()
	}
}

func TestOpenRefusesCutArchives(t *testing.T) {
	dir, doc := written(t, 0)
	a := doc.Archives[1]
	path := filepath.Join(dir, a.Files[0].Name)
	data := readFile(t, path)
	for cut := range int64(len(data) / blockSize) {
		writeFile(t, path, data[:cut*blockSize])
		a.Files[0].Size = cut * blockSize // the document agrees: the tar itself must tell
		if archives, err := Open(in(dir, doc.Archives)); err == nil {
			archives.Close()
			t.Errorf("cut at %d: opened", cut*blockSize)
		} else {
			wantDamaged(t, err, "platform.tar")
		}
	}
}

func TestOpenErrors(t *testing.T) {
	dir, doc := written(t, 3000)
	archives, err := Open(in(dir, doc.Archives))
	if err != nil {
		t.Fatal(err)
	}
	_, err = archives.Open(oci.DigestOf([]byte("nowhere")))
	wantFault(t, err, fault.NotFound)

	d := oci.DigestOf([]byte("seventy"))
	b, err := archives.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	archives.Close()
	_, err = io.ReadAll(b)
	wantFault(t, err, fault.Local)

	name := doc.Archives[1].Files[0].Name
	if err := os.Truncate(filepath.Join(dir, name), 10); err != nil {
		t.Fatal(err)
	}
	_, err = Open(in(dir, doc.Archives))
	wantDamaged(t, err, name, "10 bytes")
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(in(dir, doc.Archives))
	wantDamaged(t, err, name, "missing")
}
