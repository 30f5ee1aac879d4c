package store_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ferry/pkg/oci"
	"ferry/pkg/store"
	"ferry/pkg/store/storetest"
)

// BenchmarkSmallBlobs shows what grouped syncs save: manifests and configs are
// many and small.
func BenchmarkSmallBlobs(b *testing.B) {
	for _, bc := range []struct {
		name string
		opts []store.Option
	}{
		{"grouped", nil},
		{"one sync each", []store.Option{store.GroupLimit(1, 1)}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			const blobs = 256
			for b.Loop() {
				d := openDir(b, b.TempDir(), store.Exclusive, bc.opts...)
				for i := range blobs {
					put(b, d, storetest.Content(2000+i))
				}
				if err := d.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*blobs)/b.Elapsed().Seconds(), "blobs/s")
		})
	}
}

// BenchmarkIngest compares receiving one large blob with copying the same bytes
// to a file that is synced once, which neither hashes nor survives a crash.
// "x-plain" is the factor between them, taken in turns on the same machine.
func BenchmarkIngest(b *testing.B) {
	const size = 128 << 20
	content := storetest.Content(size)
	desc := oci.Descriptor{Digest: oci.DigestOf(content), Size: size}
	b.SetBytes(size)
	var plain, ingest time.Duration
	for b.Loop() {
		dir := b.TempDir()
		began := time.Now()
		plainCopy(b, filepath.Join(dir, "plain"), blobOf(content))
		plain += time.Since(began)

		d := openDir(b, filepath.Join(dir, "store"), store.Exclusive)
		began = time.Now()
		ing, err := d.Ingest(b.Context(), desc)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ing.CopyFrom(b.Context(), 0, blobOf(content)); err != nil {
			b.Fatal(err)
		}
		if err := ing.Commit(b.Context()); err != nil {
			b.Fatal(err)
		}
		ing.Close()
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
		ingest += time.Since(began)
		os.RemoveAll(dir)
	}
	b.ReportMetric(ingest.Seconds()/plain.Seconds(), "x-plain")
}

func plainCopy(b *testing.B, path string, r io.Reader) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	// A struct hides the reader's WriteTo, which would write all at once.
	if _, err := io.Copy(f, struct{ io.Reader }{r}); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
}
