package transfer

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/store"
)

func (b *bench) stored(st store.Ingester) *StoredSource {
	return NewStoredSource(client(b.t), st, quick, slog.New(slog.DiscardHandler))
}

// readAll reads an image through src: its manifest and all of its blobs.
func readAll(t *testing.T, src *StoredSource, ref oci.Reference) (oci.Descriptor, []string) {
	t.Helper()
	desc, body, err := src.Manifest(t.Context(), ref)
	if err != nil {
		t.Error(err)
		return desc, nil
	}
	m, err := oci.ParseManifest(desc.MediaType, body)
	if err != nil {
		t.Error(err)
		return desc, nil
	}
	var blobs []string
	for _, d := range m.Blobs {
		body, start, err := src.Blob(t.Context(), ref.Repository, d, nil)
		if err != nil || start != 0 {
			t.Errorf("blob %s: start %d, %v", d.Digest, start, err)
			return desc, nil
		}
		data, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
		}
		body.Close()
		blobs = append(blobs, string(data))
	}
	return desc, blobs
}

// S9 row 99, S5.3.8: whoever reads through a store, at the same time and in
// whatever repository, has the source asked once, and the next process not at all.
func TestStoredSourceAsksOnce(t *testing.T) {
	b := newBench(t)
	want := b.src.PutImage("a", "v1", []byte("layer"))
	b.src.PutImage("b", "v1", []byte("layer"))
	b.src.PutImage("b", "stable", []byte("layer"))
	read := func() {
		st := b.open()
		src := b.stored(st)
		var readers sync.WaitGroup
		for _, ref := range []string{"a:v1", "b:v1", "b:stable", "a:v1", "b:v1"} {
			path, tag, _ := strings.Cut(ref, ":")
			readers.Go(func() {
				desc, blobs := readAll(t, src, b.src.Repository(path).WithTag(tag))
				if diff := cmp.Diff(want, desc); diff != "" || len(blobs) != 2 || blobs[1] != "layer" {
					t.Errorf("%s: blobs %q, descriptor (-want +got):\n%s", ref, blobs, diff)
				}
				if tags, err := src.Tags(t.Context(), b.src.Repository(path)); err != nil || len(tags) == 0 {
					t.Errorf("tags %v, %v", tags, err)
				}
			})
		}
		readers.Wait()
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	counts := func() map[string]int {
		defer b.src.Reset()
		return map[string]int{
			"HEAD": b.src.Count(registrytest.KindManifest, http.MethodHead), "manifests": b.src.Count(registrytest.KindManifest, http.MethodGet),
			"blobs": b.src.Count(registrytest.KindBlob, ""), "lists": b.src.Count(registrytest.KindTags, ""),
		}
	}
	read()
	if diff := cmp.Diff(map[string]int{"HEAD": 3, "manifests": 1, "blobs": 2, "lists": 2}, counts()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	read()
	if diff := cmp.Diff(map[string]int{"HEAD": 3, "manifests": 0, "blobs": 0, "lists": 2}, counts()); diff != "" {
		t.Errorf("requests of the next process (-want +got):\n%s", diff)
	}
}

// S5.2: through a store, too, "not found" is said of nothing but an absent tag.
func TestStoredSourceErrors(t *testing.T) {
	b := newBench(t)
	st := b.open()
	defer st.Close()
	desc := b.src.PutImage("a", "broken", []byte("layer"))
	b.src.PutImage("a", "gone", []byte("other"))
	b.src.Delete("a", string(desc.Digest))
	b.src.PutManifest("a", "broken", oci.MediaTypeIndex, registrytest.IndexManifest(desc))
	src := b.stored(st)
	ref := func(tag string) oci.Reference { return b.src.Repository("a").WithTag(tag) }
	if _, _, err := src.Manifest(t.Context(), ref("absent")); !errors.Is(err, fault.NotFound) {
		t.Errorf("an absent tag: %v", err)
	}
	if _, _, err := src.Manifest(t.Context(), ref("absent").Repository.WithDigest(desc.Digest)); !errors.Is(err, fault.NotFound) {
		t.Errorf("an absent digest: %v", err)
	}
	b.src.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Method: http.MethodGet, Status: 404, Times: registrytest.Always})
	if _, _, err := src.Manifest(t.Context(), ref("gone")); fault.KindOf(err) != fault.Protocol {
		t.Errorf("a tag without its manifest: got %v, want protocol", err)
	}
	b.src.Heal()
	b.src.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Method: http.MethodGet, WrongBody: true, Times: registrytest.Always})
	if _, _, err := src.Manifest(t.Context(), ref("gone")); fault.KindOf(err) != fault.Protocol {
		t.Errorf("other bytes than the digest names: got %v, want protocol", err)
	}
}

// Every byte is hashed before it is believed, those of the store too.
func TestStoredSourceNoticesRot(t *testing.T) {
	b := newBench(t)
	b.src.PutImage("a", "v1", []byte("layer"))
	st := b.open()
	readAll(t, b.stored(st), b.src.Repository("a").WithTag("v1"))
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	for _, content := range [][]byte{[]byte("layer"), b.src.Content(b.src.Tags()["a:v1"])} {
		path := filepath.Join(b.dir, "blobs", "sha256", oci.DigestOf(content).Hex())
		if err := os.WriteFile(path, append([]byte{content[0] ^ 1}, content[1:]...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	st = b.open()
	defer st.Close()
	src := b.stored(st)
	if _, _, err := src.Manifest(t.Context(), b.src.Repository("a").WithTag("v1")); fault.KindOf(err) != fault.Damaged {
		t.Errorf("a rotten manifest: got %v, want damaged", err)
	}
	body, _, err := src.Blob(t.Context(), b.src.Repository("a"), oci.Descriptor{Digest: oci.DigestOf([]byte("layer")), Size: 5}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.ReadAll(body); fault.KindOf(err) != fault.Damaged {
		t.Errorf("a rotten blob: got %v, want damaged", err)
	}
}

// S3.6.7, N21: what the Selection has locked is carried as it was read, under the
// name of its tag, and whoever else wants that tag gets the same.
func TestCloseLocked(t *testing.T) {
	b := newBench(t)
	old := b.src.PutImage("a", "stable", []byte("old"))
	b.src.PutImage("a", "stable", []byte("new"))
	image := func(path string) contract.SelectedImage {
		return contract.SelectedImage{Source: b.ref("a", "stable"), Archive: "x", Path: path, Tag: "stable", Optional: true, Reason: "r"}
	}
	locked := image("p")
	locked.Digest = old.Digest
	sel := contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "x"}}, Images: []contract.SelectedImage{locked, image("a")}}
	st := b.open()
	defer st.Close()
	c, err := b.close(st, sel)
	if err != nil {
		t.Fatal(err)
	}
	for _, im := range c.Images {
		if im.Digest != old.Digest || im.Source != b.ref("a", "stable") {
			t.Errorf("%s is %s from %s, want what was locked", im.Path, im.Digest, im.Source)
		}
	}
	if n := b.src.Count(registrytest.KindManifest, http.MethodHead); n > 0 || len(c.Images) != 2 {
		t.Errorf("%d tags were asked for, %d images", n, len(c.Images))
	}
	// Gone, it is no absence, though the image be optional (S5.2).
	b.src.Delete("a", string(old.Digest))
	b.dir = t.TempDir()
	empty := b.open()
	defer empty.Close()
	_, err = b.close(empty, sel)
	if fault.KindOf(err) != fault.Protocol || !strings.Contains(fault.HintOf(err), "discover") {
		t.Errorf("got %v (%v), want a protocol fault that says what to do", err, fault.KindOf(err))
	}
}

// S5.3.8: a manifest that several repositories have is asked for once a tag, kept
// once, and read in the first of them.
func TestCloseLoadsSharedManifestsOnce(t *testing.T) {
	b := newBench(t)
	sel := contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "x"}}}
	for _, path := range []string{"c", "a", "b", "d"} {
		b.src.PutImage(path, "v1", []byte("layer"))
		sel.Images = append(sel.Images, contract.SelectedImage{Source: b.ref(path, "v1"), Archive: "x", Path: path, Tag: "v1", Reason: "r"})
	}
	st := b.open()
	defer st.Close()
	c, err := b.close(st, sel)
	if err != nil {
		t.Fatal(err)
	}
	if n := b.src.Count(registrytest.KindManifest, ""); n > len(sel.Images)+1 {
		t.Errorf("%d requests for manifests, want one a tag, and one more for the content at most", n)
	}
	if len(c.Images) != 4 || c.Manifests[0].Repository != b.src.Host+"/a" {
		t.Errorf("%d images, the manifest is read in %s", len(c.Images), c.Manifests[0].Repository)
	}
}

// S5.3.8: a tag costs one request where what it stands for is not in the store, and
// no content where it is. The first is asked before that is known.
func TestCloseAsksOnceATag(t *testing.T) {
	const images, parallel = 40, 4 // as bench.close has it
	b := newBench(t)
	sel := contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "x"}}}
	add := func(path string) {
		b.src.PutImage(path, "v1", []byte(path))
		sel.Images = append(sel.Images, contract.SelectedImage{Source: b.ref(path, "v1"), Archive: "x", Path: path, Tag: "v1", Reason: "r"})
	}
	for i := range images {
		add(fmt.Sprintf("app-%02d", i))
	}
	st := b.open()
	defer st.Close()
	for _, tt := range []struct {
		name             string
		atMost, contents int
	}{
		{"nothing is there", images + 1, images},
		{"all is there", images, 0},
	} {
		b.src.Reset()
		if _, err := b.close(st, sel); err != nil {
			t.Fatal(err)
		}
		all, contents := b.src.Count(registrytest.KindManifest, ""), b.src.Count(registrytest.KindManifest, http.MethodGet)
		if all > tt.atMost || contents != tt.contents {
			t.Errorf("%s: %d requests for manifests, %d of them with content; want at most %d, and %d", tt.name, all, contents, tt.atMost, tt.contents)
		}
	}
	// One that is new makes the next few guess wrong, not all.
	add("app-99")
	b.src.Reset()
	if _, err := b.close(st, sel); err != nil {
		t.Fatal(err)
	}
	if n := b.src.Count(registrytest.KindManifest, http.MethodGet); n == 0 || n > 2*parallel {
		t.Errorf("with one new image %d manifests were downloaded", n)
	}
}
