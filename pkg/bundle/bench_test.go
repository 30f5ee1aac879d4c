package bundle

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/pkg/contract"
)

// large is one archive of 128 MiB in a few blobs.
func large(b *testing.B) (*contract.Contents, *memory) {
	build := newBuilder()
	build.archive("large")
	random := rand.NewChaCha8([32]byte{})
	for _, tag := range []string{"a", "b", "c", "d"} {
		layer := make([]byte, 32<<20)
		if _, err := random.Read(layer); err != nil {
			b.Fatal(err)
		}
		build.tag("large", "r", tag, build.image(string(layer)))
	}
	return build.done(b), build.store
}

// BenchmarkWrite compares with writing the same bytes to one file and syncing
// it: x/copy is how many times as long Write takes.
func BenchmarkWrite(b *testing.B) {
	contents, content := large(b)
	var ours, plain time.Duration
	for b.Loop() {
		dir := b.TempDir()
		begin := time.Now()
		archives, err := Write(b.Context(), dir, contents, content, Options{})
		if err != nil {
			b.Fatal(err)
		}
		ours += time.Since(begin)
		b.SetBytes(archives[0].Size)

		begin = time.Now()
		f, err := os.Create(filepath.Join(dir, "plain"))
		if err != nil {
			b.Fatal(err)
		}
		for _, data := range content.blobs {
			if _, err := f.Write(data); err != nil {
				b.Fatal(err)
			}
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		f.Close()
		plain += time.Since(begin)
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(ours.Seconds()/plain.Seconds(), "x/copy")
}

// BenchmarkVerify compares with reading and hashing the file in as many pieces as
// there are cores: x/limit is how many times as long Verify takes.
func BenchmarkVerify(b *testing.B) {
	contents, content := large(b)
	dir := b.TempDir()
	archives, err := Write(b.Context(), dir, contents, content, Options{})
	if err != nil {
		b.Fatal(err)
	}
	doc := &contract.BundleSpec{Archives: archives, Contents: *contents}
	b.SetBytes(archives[0].Size)
	var ours, limit time.Duration
	for b.Loop() {
		begin := time.Now()
		if err := Verify(b.Context(), dir, doc, nil); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(begin)

		begin = time.Now()
		hashOnAllCores(b, filepath.Join(dir, "large.tar"), archives[0].Size)
		limit += time.Since(begin)
	}
	b.ReportMetric(ours.Seconds()/limit.Seconds(), "x/limit")
}

func hashOnAllCores(b *testing.B, path string, size int64) {
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	cores := int64(runtime.GOMAXPROCS(0))
	var group errgroup.Group
	for i := range cores {
		group.Go(func() error {
			piece := io.NewSectionReader(f, size*i/cores, size*(i+1)/cores-size*i/cores)
			_, err := io.CopyBuffer(sha256.New(), onlyReader{piece}, make([]byte, copySize))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}
