package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// memory is a store of a few blobs that counts what is opened.
type memory struct {
	blobs  map[oci.Digest][]byte
	opened atomic.Int64
}

func (m *memory) Stat(d oci.Digest) (int64, error) {
	b, ok := m.blobs[d]
	if !ok {
		return 0, fault.New(fault.NotFound, string(d), nil)
	}
	return int64(len(b)), nil
}

func (m *memory) Open(d oci.Digest) (store.Blob, error) {
	m.opened.Add(1)
	b, ok := m.blobs[d]
	if !ok {
		return nil, fault.New(fault.NotFound, string(d), nil)
	}
	return blob{io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))}, nil
}

// builder makes contents and the store that holds them.
type builder struct {
	contents contract.Contents
	store    *memory
	seen     map[oci.Digest]bool
}

func newBuilder() *builder {
	return &builder{store: &memory{blobs: map[oci.Digest][]byte{}}, seen: map[oci.Digest]bool{}}
}

func (b *builder) put(data []byte) oci.Descriptor {
	d := oci.DigestOf(data)
	b.store.blobs[d] = data
	return oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(data))}
}

func (b *builder) blob(data []byte) oci.Descriptor {
	d := b.put(data)
	if !b.seen[d.Digest] {
		b.seen[d.Digest] = true
		b.contents.Blobs = append(b.contents.Blobs, contract.Blob{Digest: d.Digest, Size: d.Size})
	}
	return d
}

func (b *builder) manifest(mediaType string, body any, refs ...oci.Descriptor) oci.Descriptor {
	data, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	d := b.put(data)
	d.MediaType = mediaType
	if !b.seen[d.Digest] {
		b.seen[d.Digest] = true
		m := contract.Manifest{Digest: d.Digest, MediaType: mediaType, Size: d.Size}
		for _, r := range refs {
			m.References = append(m.References, r.Digest)
		}
		b.contents.Manifests = append(b.contents.Manifests, m)
	}
	return d
}

func (b *builder) image(layers ...string) oci.Descriptor {
	config := b.blob([]byte("config of " + strings.Join(layers, "+")))
	refs := []oci.Descriptor{config}
	for _, l := range layers {
		refs = append(refs, b.blob([]byte(l)))
	}
	return b.manifest(oci.MediaTypeManifest, map[string]any{"schemaVersion": 2, "config": config, "layers": refs[1:]}, refs...)
}

func (b *builder) index(children ...oci.Descriptor) oci.Descriptor {
	return b.manifest(oci.MediaTypeIndex, map[string]any{"schemaVersion": 2, "manifests": children}, children...)
}

func (b *builder) archive(name string, layouts ...string) {
	b.contents.Archives = append(b.contents.Archives, contract.Archive{Name: name, Layouts: layouts})
}

// share makes an archive whose images share a layout.
func (b *builder) share(name string) {
	b.contents.Archives = append(b.contents.Archives, contract.Archive{Name: name, Shared: true})
}

func (b *builder) tag(archive, path, tag string, d oci.Descriptor) {
	b.contents.Images = append(b.contents.Images, contract.Image{
		Archive: archive, Path: path, Tag: tag, Digest: d.Digest,
		Source: oci.Repository{Host: "127.0.0.1:5751", Path: "src"}.Join(path).WithTag(tag).String(),
	})
}

func (b *builder) done(t testing.TB) *contract.Contents {
	t.Helper()
	contents, err := b.valid()
	if err != nil {
		t.Fatal(err)
	}
	return contents
}

func (b *builder) valid() (*contract.Contents, error) {
	b.contents.Normalize()
	return &b.contents, b.contents.Validate()
}

const longPath = "modules/a-module-with-a-rather-long-name/extra/and-an-image"

// sample has two archives with an empty layout, nested layouts, an index, a
// shared layer, an empty layer, and names longer than a tar header's; and one whose
// repositories share a layout.
func sample(t testing.TB) (*contract.Contents, *memory) {
	b := sampleBuilder()
	return b.done(t), b.store
}

func sampleBuilder() *builder {
	b := newBuilder()
	b.archive("platform", "", "install", "install-standalone", "release-channel")
	b.archive("module-a")
	b.share("shared")
	b.tag("shared", "team/app", "v3", b.image("base", "app"))
	b.tag("shared", "team/app/job", "v3", b.image("base", "app"))
	b.tag("platform", "", "v1.70.0", b.image("base", "seventy"))
	b.tag("platform", "", "v1.71.0", b.image("base", "seventy-one"))
	b.tag("platform", "install", "v1.71.0", b.image("installer", ""))
	b.tag("platform", "release-channel", "stable", b.image("channel"))
	b.tag("module-a", longPath, "v2", b.index(b.image("amd64 "+strings.Repeat("x", 700)), b.image("arm64")))
	return b
}

// written is the sample in a directory, finished.
func written(t testing.TB, chunkSize int64) (string, *contract.BundleSpec) {
	t.Helper()
	contents, content := sample(t)
	dir := t.TempDir()
	archives, err := Write(t.Context(), dir, contents, content, Options{ChunkSize: chunkSize})
	if err != nil {
		t.Fatal(err)
	}
	return dir, finish(t, dir, contents, archives)
}

func finish(t testing.TB, dir string, contents *contract.Contents, archives []contract.ArchiveFiles) *contract.BundleSpec {
	t.Helper()
	doc := contract.New("ferry-pack test", nil, contract.BundleSpec{Archives: archives, Contents: *contents})
	text, err := contract.Encode(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := Finish(dir, text); err != nil {
		t.Fatal(err)
	}
	return &doc.Spec
}

// joined is the whole tar of an archive.
func joined(t testing.TB, dir string, a contract.ArchiveFiles) []byte {
	t.Helper()
	var all []byte
	for _, f := range a.Files {
		all = append(all, readFile(t, filepath.Join(dir, f.Name))...)
	}
	return all
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func fileNames(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// wantDamaged checks that err is damage and that its text has every word.
func wantDamaged(t *testing.T, err error, words ...string) {
	t.Helper()
	wantFault(t, err, fault.Damaged, words...)
}

func wantFault(t *testing.T, err error, kind *fault.Kind, words ...string) {
	t.Helper()
	if fault.KindOf(err) != kind {
		t.Errorf("error %v is of kind %v, want %v", err, fault.KindOf(err), kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

// makeTar writes entries as they are, without judging them.
func makeTar(t testing.TB, headers ...tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		header := h.Header
		if header.Typeflag == 0 {
			header.Typeflag = tar.TypeReg
		}
		header.Mode, header.Size = 0o644, int64(len(h.data))
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(fmt.Errorf("%s: %w", header.Name, err))
		}
		if _, err := w.Write([]byte(h.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// entriesOf are the entries of a tar, by name.
func entriesOf(t testing.TB, file string) map[string][]byte {
	t.Helper()
	entries := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(readFile(t, file)))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		if entries[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

type tarEntry struct {
	tar.Header
	data string
}

func regular(name, data string) tarEntry { return tarEntry{Header: tar.Header{Name: name}, data: data} }

func blobEntry(layout, data string) tarEntry {
	return regular(joinPath(layout, blobsDir+oci.DigestOf([]byte(data)).Hex()), data)
}

func indexEntry(layout, manifests string) tarEntry {
	return regular(joinPath(layout, indexFile), `{"schemaVersion":2,"manifests":`+manifests+`}`)
}

// in says that archives lie in one directory.
func in(dir string, archives []contract.ArchiveFiles) []contract.ArchiveDirectory {
	return []contract.ArchiveDirectory{{Path: dir, Archives: archives}}
}
