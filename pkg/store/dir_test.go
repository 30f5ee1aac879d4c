package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
	"ferry/pkg/store/storetest"
)

func openDir(t testing.TB, path string, mode store.Lock, opts ...store.Option) *store.Dir {
	t.Helper()
	d, err := store.OpenDir(t.Context(), path, mode, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func put(t testing.TB, d *store.Dir, content []byte) oci.Digest {
	t.Helper()
	desc := oci.Descriptor{Digest: oci.DigestOf(content), Size: int64(len(content))}
	ing, err := d.Ingest(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer ing.Close()
	if _, err := ing.CopyFrom(t.Context(), 0, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if err := ing.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return desc.Digest
}

func TestDirIngester(t *testing.T) {
	for name, opts := range map[string][]store.Option{
		"default groups": nil,
		"groups of 3":    {store.GroupLimit(3, 1<<40)},
		"one by one":     {store.GroupLimit(1, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Ingester(t, func(t *testing.T, dir string) store.Ingester {
				return openDir(t, dir, store.Exclusive, opts...)
			})
		})
	}
}

func TestDirReader(t *testing.T) {
	storetest.Reader(t, func(t *testing.T) (store.Reader, map[oci.Digest][]byte) {
		dir := t.TempDir()
		d := openDir(t, dir, store.Exclusive)
		for _, content := range storetest.Blobs() {
			put(t, d, content)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		return openDir(t, dir, store.Shared), storetest.Blobs()
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func blobPath(dir string, d oci.Digest) string { return filepath.Join(dir, "blobs/sha256", d.Hex()) }

func wantKind(t *testing.T, err error, kind *fault.Kind) {
	t.Helper()
	if fault.KindOf(err) != kind {
		t.Errorf("error is %v (kind %v), want kind %v", err, fault.KindOf(err), kind)
	}
}

// Other tools look into a store as into an OCI image layout.
func TestDirIsAnImageLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "store")
	openDir(t, dir, store.Exclusive).Close()
	for name, want := range map[string]string{
		"oci-layout": `{"imageLayoutVersion":"1.0.0"}`,
		"index.json": `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`,
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestOpenDirRefuses(t *testing.T) {
	for _, tc := range []struct {
		name  string
		mode  store.Lock
		files map[string]string // below the directory, which exists when there are any
		kind  *fault.Kind
		text  string
	}{
		{"missing, to read", store.Shared, nil, fault.Damaged, "no content store here"},
		{"another directory, to read", store.Shared, map[string]string{"photo.jpg": ""}, fault.Damaged, "no content store here"},
		{"no blobs, to read", store.Shared, map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`}, fault.Damaged, "no directory blobs/sha256"},
		{"torn layout file", store.Exclusive, map[string]string{"oci-layout": `{"imageLay`}, fault.Damaged, "not an OCI layout file"},
		{"future layout", store.Exclusive, map[string]string{"oci-layout": `{"imageLayoutVersion":"2.0.0"}`}, fault.Damaged, `version "2.0.0"`},
		{"a file in the way", store.Exclusive, map[string]string{"blobs": ""}, fault.Local, "blobs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			for name, text := range tc.files {
				write(t, filepath.Join(dir, name), text)
			}
			d, err := store.OpenDir(t.Context(), dir, tc.mode)
			if err == nil {
				d.Close()
			}
			wantKind(t, err, tc.kind)
			if err != nil && !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%q does not say %q", err, tc.text)
			}
			if tc.mode != store.Shared {
				return
			}
			if _, err := os.Lstat(filepath.Join(dir, "lock")); err == nil {
				t.Error("a reader left a lock file in a directory that is no store")
			}
		})
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	openDir(t, dir, store.Exclusive).Close()
	for _, tc := range []struct {
		name        string
		held, asked store.Lock
		waits       bool
		holder      string
	}{
		{"two readers", store.Shared, store.Shared, false, ""},
		{"writer behind a reader", store.Shared, store.Exclusive, true, "a process that reads it"},
		{"reader behind a writer", store.Exclusive, store.Shared, true, fmt.Sprintf("process %d on ", os.Getpid())},
		{"two writers", store.Exclusive, store.Exclusive, true, fmt.Sprintf("process %d on ", os.Getpid())},
	} {
		t.Run(tc.name, func(t *testing.T) {
			holder := openDir(t, dir, tc.held)
			waited := false
			// Told to wait, the other gives way; so asking ends as it should.
			asked, err := store.OpenDir(t.Context(), dir, tc.asked, store.OnWait(func(who string) {
				waited = true
				if !strings.HasPrefix(who, tc.holder) {
					t.Errorf("the holder is %q, want %q", who, tc.holder)
				}
				holder.Close()
			}))
			if err != nil {
				t.Fatal(err)
			}
			defer asked.Close()
			if waited != tc.waits {
				t.Errorf("waited: %v, want %v", waited, tc.waits)
			}
			holder.Close()
		})
	}
	t.Run("writer behind a reader behind a killed writer", func(t *testing.T) {
		write(t, filepath.Join(dir, "lock"), "process 1 on a host of long ago\n")
		reader := openDir(t, dir, store.Shared)
		asked, err := store.OpenDir(t.Context(), dir, store.Exclusive, store.OnWait(func(who string) {
			if want := "a process that reads it"; who != want {
				t.Errorf("the holder is %q, want %q", who, want)
			}
			reader.Close()
		}))
		if err != nil {
			t.Fatal(err)
		}
		asked.Close()
	})
	t.Run("waiting ends with the context", func(t *testing.T) {
		openDir(t, dir, store.Exclusive)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := store.OpenDir(ctx, dir, store.Exclusive, store.OnWait(func(string) { cancel() }))
		wantKind(t, err, fault.Cancelled)
		if fault.HintOf(err) == "" {
			t.Error("no advice")
		}
	})
}

func TestReadOnlyUse(t *testing.T) {
	dir := t.TempDir()
	openDir(t, dir, store.Exclusive).Close()
	d := openDir(t, dir, store.Shared)
	_, err := d.Ingest(t.Context(), oci.Descriptor{Digest: oci.DigestOf(nil)})
	wantKind(t, err, fault.Local)
	_, err = d.Prune(t.Context(), nil)
	wantKind(t, err, fault.Local)
	wantKind(t, d.Quarantine(oci.DigestOf(nil)), fault.Local)
}

func TestOnlyRegularFiles(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir, store.Exclusive)
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "secret")
	link, folder := oci.DigestOf([]byte("secret")), oci.DigestOf([]byte("folder"))
	if err := os.Symlink(secret, blobPath(dir, link)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(blobPath(dir, folder), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dg := range []oci.Digest{link, folder} {
		if _, err := d.Stat(dg); !errors.Is(err, fault.NotFound) {
			t.Errorf("Stat is %v, want not found", err)
		}
		if b, err := d.Open(dg); !errors.Is(err, fault.NotFound) {
			t.Errorf("Open is %v, %v, want not found", b, err)
		}
	}
	// Even a blob behind a link that hashes right counts as damaged.
	damaged, err := d.Verify(t.Context(), nil)
	want := []oci.Digest{link, folder}
	slices.Sort(want)
	if diff := cmp.Diff(want, damaged); diff != "" || err != nil {
		t.Errorf("Verify: %v (-want +got):\n%s", err, diff)
	}
}

func TestVerifyQuarantineAndRepair(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir, store.Exclusive)
	var digests []oci.Digest
	var total int64
	for i := range 10 {
		content := storetest.Content(100_000 + i)
		digests = append(digests, put(t, d, content))
		total += int64(len(content))
	}
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Bit rot, a cut file (which Stat shows), and one that grew.
	write(t, blobPath(dir, digests[3]), strings.Repeat("x", 100_003))
	write(t, blobPath(dir, digests[5]), "")
	write(t, blobPath(dir, digests[7]), string(storetest.Content(100_007))+"x")
	want := []oci.Digest{digests[3], digests[5], digests[7]}
	slices.Sort(want)

	var read atomic.Int64
	damaged, err := d.Verify(t.Context(), func(n int64) { read.Add(n) })
	if diff := cmp.Diff(want, damaged); diff != "" || err != nil {
		t.Fatalf("Verify: %v (-want +got):\n%s", err, diff)
	}
	if read.Load() != total-100_005+1 {
		t.Errorf("progress told of %d bytes, want %d", read.Load(), total-100_005+1)
	}
	// A blob of the wrong size is received anew without being quarantined.
	for _, i := range []int{5, 7} {
		put(t, d, storetest.Content(100_000+i))
	}
	if err := d.Quarantine(digests[3]); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stat(digests[3]); !errors.Is(err, fault.NotFound) {
		t.Errorf("a quarantined blob: %v, want not found", err)
	}
	wantKind(t, d.Quarantine(digests[3]), fault.NotFound)
	wantKind(t, d.Quarantine("sha256:../../lock"), fault.NotFound)
	put(t, d, storetest.Content(100_003))
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if damaged, err := d.Verify(t.Context(), nil); len(damaged) > 0 || err != nil {
		t.Errorf("after the repair: %v, %v", damaged, err)
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir, store.Exclusive)
	kept, dropped, damaged := put(t, d, storetest.Content(1000)), put(t, d, storetest.Content(2000)), put(t, d, storetest.Content(4000))
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Quarantine(damaged); err != nil {
		t.Fatal(err)
	}
	wanted, unwanted := oci.DigestOf([]byte("wanted")), oci.DigestOf([]byte("unwanted"))
	write(t, filepath.Join(dir, "ingest", wanted.Hex()), "wan")
	write(t, filepath.Join(dir, "ingest", unwanted.Hex()), "unwant")
	write(t, filepath.Join(dir, "ingest", kept.Hex()), "left over")
	write(t, filepath.Join(dir, "blobs/sha256/README"), "not ours")

	freed, err := d.Prune(t.Context(), map[oci.Digest]bool{kept: true, wanted: true})
	if want := int64(2000 + 4000 + len("unwant") + len("left over")); freed != want || err != nil {
		t.Errorf("Prune frees %d, %v; want %d", freed, err, want)
	}
	for path, want := range map[string]bool{
		blobPath(dir, kept):                          true,
		blobPath(dir, dropped):                       false,
		filepath.Join(dir, "damaged", damaged.Hex()): false,
		filepath.Join(dir, "ingest", wanted.Hex()):   true,
		filepath.Join(dir, "ingest", unwanted.Hex()): false,
		filepath.Join(dir, "ingest", kept.Hex()):     false,
		filepath.Join(dir, "blobs/sha256/README"):    true,
	} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", path, err, want)
		}
	}
}

// An ingest file that is whole, but rotten, must cost one more download and no
// more.
func TestRottenWholeIngest(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir, store.Exclusive)
	content := storetest.Content(1000)
	desc := oci.Descriptor{Digest: oci.DigestOf(content), Size: 1000}
	write(t, filepath.Join(dir, "ingest", desc.Digest.Hex()), strings.Repeat("\x00", 1000))
	ing, err := d.Ingest(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, ing.Commit(t.Context()), fault.Transient)
	if held := ing.Held(); held != nil {
		t.Errorf("%d rotten bytes are still held", held.Size())
	}
	ing.Close()
	put(t, d, content)
}

func TestFreeBytes(t *testing.T) {
	free, known := openDir(t, t.TempDir(), store.Exclusive).FreeBytes()
	if runtime.GOOS == "linux" && (!known || free <= 0) {
		t.Errorf("free: %d, known: %v", free, known)
	}
}

// FuzzIngest: whatever lay in the ingest before, and wherever the body starts,
// a blob becomes visible with exactly its bytes or not at all.
func FuzzIngest(f *testing.F) {
	f.Add([]byte("content"), []byte("con"), 3)
	f.Add([]byte("content"), []byte("cox"), 3)
	f.Add([]byte("content"), []byte("cox"), 0)
	f.Add([]byte("content"), []byte("content and more"), 0)
	f.Add([]byte(""), []byte("x"), 0)
	f.Add([]byte("content"), []byte("content"), 7)
	f.Fuzz(func(t *testing.T, content, left []byte, start int) {
		dir := t.TempDir()
		d := openDir(t, dir, store.Exclusive)
		desc := oci.Descriptor{Digest: oci.DigestOf(content), Size: int64(len(content))}
		write(t, filepath.Join(dir, "ingest", desc.Digest.Hex()), string(left))
		ing, err := d.Ingest(t.Context(), desc)
		if err != nil {
			t.Fatal(err)
		}
		body := content[min(max(start, 0), len(content)):]
		if _, err = ing.CopyFrom(t.Context(), int64(start), bytes.NewReader(body)); err == nil {
			err = ing.Commit(t.Context())
		}
		ing.Close()
		fits := start >= 0 && start <= len(left) && len(left) <= len(content) && bytes.Equal(left[:start], content[:start])
		if fits && err != nil {
			t.Errorf("a fitting rest is refused: %v", err)
		}
		if err := d.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		b, openErr := d.Open(desc.Digest)
		if (openErr == nil) != (err == nil) {
			t.Fatalf("ingesting gave %v, opening %v", err, openErr)
		}
		if openErr == nil {
			defer b.Close()
			if got, _ := io.ReadAll(b); !bytes.Equal(got, content) {
				t.Errorf("visible are %q, want %q", got, content)
			}
		}
		if err != nil {
			put(t, d, content) // nothing is blocked for ever
		}
	})
}

// A store does not settle between somebody's files, but takes over what a
// killed first run of its own left.
func TestOpenDirRefusesForeignFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	st, err := store.OpenDir(t.Context(), dir, store.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	st.Close()
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenDir(t.Context(), foreign, store.Exclusive); fault.KindOf(err) != fault.Usage {
		t.Errorf("got %v, want usage", err)
	}
	if _, err := os.Stat(filepath.Join(foreign, "blobs")); err == nil {
		t.Error("a store was begun there all the same")
	}
}
