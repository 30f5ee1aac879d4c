package transfer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/store"
)

// One path everywhere: whatever the repositories are called, the path of a layout
// in an archive, of a directory of layouts, and of the repository at the target
// are the same, on every way from contents to a registry (S6.2, S6.2.1, S6.2.4,
// S7.5.1, S7.5.3).
func TestOnePathEverywhere(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			contents, content := randomTree(t, random)
			want := map[string]oci.Digest{}
			paths := map[string]bool{}
			for _, im := range contents.Images {
				want[im.Path+":"+im.Tag] = im.Digest
				paths[im.Path] = true
			}

			// Archives, read in place, and imported by what they say themselves.
			archived := t.TempDir()
			files, err := bundle.Write(t.Context(), archived, contents, content, bundle.Options{ChunkSize: random.Int64N(2) * 3000})
			if err != nil {
				t.Fatal(err)
			}
			archives, err := bundle.Open([]contract.ArchiveDirectory{{Path: archived, Archives: files}})
			if err != nil {
				t.Fatal(err)
			}
			defer archives.Close()
			assertPublishes(t, "archives", contents, archives, want)
			dirs, err := bundle.Find([]string{archived})
			if err != nil {
				t.Fatal(err)
			}
			_, imported, err := bundle.Import(t.Context(), dirs, asTheyLie{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			assertPublishes(t, "imported archives", imported, archives, want)

			// Layouts, the same.
			unpacked := t.TempDir()
			if _, err := bundle.WriteLayouts(t.Context(), unpacked, contents, content, bundle.Options{}); err != nil {
				t.Fatal(err)
			}
			for path := range paths {
				if _, err := os.Stat(filepath.Join(unpacked, filepath.FromSlash(path), "index.json")); err != nil {
					t.Errorf("repository %q: %v", path, err)
				}
			}
			tree, err := bundle.FindLayouts(unpacked)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(slices.Sorted(maps.Keys(paths)), tree.Paths()); diff != "" {
				t.Errorf("layouts (-repositories +found):\n%s", diff)
			}
			layouts, err := bundle.OpenLayouts(unpacked, contents)
			if err != nil {
				t.Fatal(err)
			}
			defer layouts.Close()
			assertPublishes(t, "layouts", contents, layouts, want)
			imported, err = bundle.ImportLayouts(t.Context(), tree, asTheyLie{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			assertPublishes(t, "imported layouts", imported, layouts, want)
		})
	}
}

// asTheyLie are bundle.Rules that move nothing.
type asTheyLie struct{}

func (asTheyLie) Vendor() string                           { return "test" }
func (asTheyLie) Prefix(string, []string) string           { return "" }
func (asTheyLie) Phase(string, string) int                 { return 0 }
func (asTheyLie) Discovery(string) []contract.DiscoveryTag { return nil }
func (asTheyLie) Archive(string) string                    { return "all" }
func (asTheyLie) Yields(string) bool                       { return false }
func (asTheyLie) Overview([]contract.Image) contract.Overview {
	return contract.Overview{}
}

func assertPublishes(t *testing.T, what string, contents *contract.Contents, content store.Reader, want map[string]oci.Digest) {
	t.Helper()
	target := registrytest.Start(t, registrytest.New())
	const root = "m"
	publisher := &Publisher{
		Target: client(t), Content: content, Root: target.Repository(root), Parallel: 4, Retry: quick,
		Log: slog.New(slog.DiscardHandler), Progress: progress.None(),
	}
	if _, _, err := publisher.Publish(t.Context(), contents); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	have := map[string]oci.Digest{}
	for name, digest := range target.Tags() {
		have[strings.TrimPrefix(strings.TrimPrefix(name, root), "/")] = digest
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("%s: tags at the target (-want +got):\n%s", what, diff)
	}
}

// randomTree has images of few layers in repositories of random names, nested in
// each other, the root among them.
func randomTree(t *testing.T, random *rand.Rand) (*contract.Contents, heldBlobs) {
	t.Helper()
	m := &treeMaker{random: random, blobs: heldBlobs{}}
	m.contents.Vendor = "test"
	archives := 1 + random.IntN(3)
	for i := range archives {
		m.contents.Archives = append(m.contents.Archives, contract.Archive{Name: fmt.Sprintf("archive-%d", i)})
	}
	paths := []string{""}
	for range 3 + random.IntN(12) {
		path := paths[random.IntN(len(paths))]
		for range 1 + random.IntN(3) {
			path = strings.TrimPrefix(path+"/"+m.segment(), "/")
		}
		if len(path) <= 250 {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		for range 1 + random.IntN(3) {
			m.tag(path)
		}
	}
	for i, a := range m.contents.Archives { // one without images is not written
		if !slices.ContainsFunc(m.contents.Images, func(im contract.Image) bool { return im.Archive == a.Name }) {
			im := m.contents.Images[0]
			im.Archive, im.Tag = a.Name, fmt.Sprintf("only-in-%d", i)
			m.contents.Images = append(m.contents.Images, im)
		}
	}
	m.contents.Normalize()
	if err := m.contents.Validate(); err != nil {
		t.Fatal(err)
	}
	return &m.contents, m.blobs
}

type treeMaker struct {
	random   *rand.Rand
	contents contract.Contents
	blobs    heldBlobs
}

// segment is one that repositories may have: words that mean something to a
// layout, or to d8, and all that the grammar allows, up to a long name.
func (m *treeMaker) segment() string {
	words := []string{"blobs", "sha256", "modules", "release", "module-x", "install", "index", "a.tar", "0000", strings.Repeat("f", 64)}
	if m.random.IntN(2) == 0 {
		return words[m.random.IntN(len(words))]
	}
	separators := []string{".", "_", "__", "-", "--", ""}
	text := ""
	for range 1 + m.random.IntN(1+m.random.IntN(30)) {
		text += fmt.Sprintf("%x", m.random.IntN(256)) + separators[m.random.IntN(len(separators))]
	}
	return strings.Trim(text, "._-")
}

func (m *treeMaker) tag(path string) {
	tags := []string{"v1.0.0", "stable", strings.Repeat("a", 128), "_", "UPPER.case-1", fmt.Sprintf("%x", m.random.Uint64())}
	tag := tags[m.random.IntN(len(tags))]
	if slices.ContainsFunc(m.contents.Images, func(im contract.Image) bool { return im.Path == path && im.Tag == tag }) {
		return
	}
	image := m.image()
	if m.random.IntN(3) == 0 {
		children := []oci.Descriptor{image, m.image()}
		if children[0] == children[1] {
			children = children[:1]
		}
		image = m.manifest(oci.MediaTypeIndex, map[string]any{"schemaVersion": 2, "manifests": children}, children)
	}
	m.contents.Images = append(m.contents.Images, contract.Image{
		Archive: m.contents.Archives[m.random.IntN(len(m.contents.Archives))].Name, Path: path, Tag: tag, Digest: image.Digest,
		Source: oci.Repository{Host: "source.example:5000", Path: "s"}.Join(path).WithTag(tag).String(),
	})
}

// image has layers out of a few, so that repositories share some.
func (m *treeMaker) image() oci.Descriptor {
	layers := []oci.Descriptor{}
	for range m.random.IntN(3) {
		n := m.random.IntN(6)
		layers = append(layers, m.blob(bytes.Repeat([]byte{byte(n)}, 1000*n)))
	}
	config := m.blob(fmt.Appendf(nil, "config %d", m.random.IntN(4)))
	return m.manifest(oci.MediaTypeManifest, map[string]any{"schemaVersion": 2, "config": config, "layers": layers},
		append([]oci.Descriptor{config}, layers...))
}

func (m *treeMaker) blob(data []byte) oci.Descriptor {
	d := oci.Descriptor{MediaType: "application/octet-stream", Digest: oci.DigestOf(data), Size: int64(len(data))}
	if _, known := m.blobs[d.Digest]; !known {
		m.blobs[d.Digest] = data
		m.contents.Blobs = append(m.contents.Blobs, contract.Blob{Digest: d.Digest, Size: d.Size})
	}
	return d
}

func (m *treeMaker) manifest(mediaType string, body any, refs []oci.Descriptor) oci.Descriptor {
	data, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(data), Size: int64(len(data))}
	if _, known := m.blobs[d.Digest]; known {
		return d
	}
	m.blobs[d.Digest] = data
	described := contract.Manifest{Digest: d.Digest, MediaType: mediaType, Size: d.Size}
	for _, r := range refs {
		if !slices.Contains(described.References, r.Digest) {
			described.References = append(described.References, r.Digest)
		}
	}
	m.contents.Manifests = append(m.contents.Manifests, described)
	return d
}

// heldBlobs is a store.Reader of what it holds.
type heldBlobs map[oci.Digest][]byte

func (h heldBlobs) Stat(d oci.Digest) (int64, error) {
	data, ok := h[d]
	if !ok {
		return 0, fault.New(fault.NotFound, string(d), nil)
	}
	return int64(len(data)), nil
}

func (h heldBlobs) Open(d oci.Digest) (store.Blob, error) {
	if _, err := h.Stat(d); err != nil {
		return nil, err
	}
	return heldBlob{io.NewSectionReader(bytes.NewReader(h[d]), 0, int64(len(h[d])))}, nil
}

type heldBlob struct{ *io.SectionReader }

func (heldBlob) Close() error { return nil }
