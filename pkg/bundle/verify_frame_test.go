package bundle

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// layersOf are the ranges of an archive that no frame has.
func layersOf(doc *contract.BundleSpec, archive string) []plannedEntry {
	graph := doc.Contents.Graph()
	var list []plannedEntry
	for _, e := range planned(&doc.Contents)[archive].entries {
		if e.data == nil && graph[e.digest] == nil {
			list = append(list, e)
		}
	}
	return list
}

func inside(list []plannedEntry, offset int64) bool {
	for _, e := range list {
		if e.offset <= offset && offset < e.offset+e.size {
			return true
		}
	}
	return false
}

// Of a damaged bundle the frame finds all that lies outside of layers and configs.
func TestVerifyFrameFindsFlips(t *testing.T) {
	whole, document := written(t, 0)
	dir, doc := cut(t, whole, document, 3000, false)
	must(t, VerifyFrame(t.Context(), dir, doc, nil))
	found, passed := 0, 0
	for _, a := range doc.Archives {
		layers, start := layersOf(doc, a.Name), int64(0)
		for _, f := range a.Files {
			path := filepath.Join(dir, f.Name)
			data := readFile(t, path)
			for at := int64(0); at < f.Size; at += 61 {
				data[at] ^= 1 << (at % 8)
				writeFile(t, path, data)
				err := VerifyFrame(t.Context(), dir, doc, nil)
				if inside(layers, start+at) {
					passed++
					must(t, err)
				} else {
					found++
					wantDamaged(t, err, f.Name)
				}
				data[at] ^= 1 << (at % 8)
			}
			writeFile(t, path, data)
			start += f.Size
		}
	}
	if found < 100 || passed < 10 {
		t.Errorf("%d flips outside of layers, %d in them: too few", found, passed)
	}
}

// Nothing is read of layers and configs, and all else once and in order.
func TestVerifyFrameReadsNoLayer(t *testing.T) {
	dir, doc := written(t, 0)
	w := watch(dir, doc)
	for _, a := range doc.Archives {
		layers := layersOf(doc, a.Name)
		content := &ranges{ReaderAt: strings.NewReader(string(joined(t, dir, a)))}
		f := &frame{v: w.verifier}
		for r, err := range planned(&doc.Contents)[a.Name].regions() {
			must(t, err)
			must(t, f.region(content, r))
		}
		at := int64(0)
		for _, r := range content.read {
			if r[0] < at || inside(layers, r[0]) || r[1] > r[0] && inside(layers, r[1]-1) {
				t.Errorf("%s was read from %d to %d, after %d", a.Name, r[0], r[1], at)
			}
			at = r[1]
		}
		if at != a.Size {
			t.Errorf("the end of %s was not read", a.Name)
		}
	}
}

// ranges remembers from where to where it was read.
type ranges struct {
	io.ReaderAt
	read [][2]int64
}

func (r *ranges) ReadAt(p []byte, offset int64) (int, error) {
	r.read = append(r.read, [2]int64{offset, offset + int64(len(p))})
	return r.ReaderAt.ReadAt(p, offset)
}

// What costs no reading of layers is refused as a full verification refuses it.
func TestVerifyFrameNamesWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, dir string, doc *contract.BundleSpec)
		words []string
	}{
		{"a missing file", func(t *testing.T, dir string, _ *contract.BundleSpec) {
			must(t, os.Remove(filepath.Join(dir, "platform.tar.0001.chunk")))
		}, []string{"platform.tar.0001.chunk", "missing"}},
		{"a shorter file", func(t *testing.T, dir string, _ *contract.BundleSpec) {
			must(t, os.Truncate(filepath.Join(dir, "platform.tar.0001.chunk"), 100))
		}, []string{"platform.tar.0001.chunk", "100 bytes"}},
		{"a foreign file", func(t *testing.T, dir string, _ *contract.BundleSpec) {
			writeFile(t, filepath.Join(dir, "more.tar"), nil)
		}, []string{"more.tar", "does not belong"}},
		{"a missing sum", func(t *testing.T, dir string, _ *contract.BundleSpec) {
			must(t, os.Remove(filepath.Join(dir, "platform.tar.0001.chunk.gostsum")))
		}, []string{"platform.tar.0001.chunk.gostsum", "missing"}},
		{"a tag that the archive does not have", func(_ *testing.T, _ string, doc *contract.BundleSpec) {
			doc.Contents.Images[1].Tag = "v1.70.1"
		}, []string{"platform.tar.0000.chunk", "tags differ"}},
		{"a manifest that needs more than the document says", func(_ *testing.T, _ string, doc *contract.BundleSpec) {
			m := &doc.Contents.Manifests[0]
			m.References = m.References[1:]
		}, []string{"differs"}},
		{"a manifest that is attached elsewhere", func(_ *testing.T, _ string, doc *contract.BundleSpec) {
			doc.Contents.Manifests[0].Subject = oci.DigestOf(nil)
		}, []string{"differs"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, doc := summed(t, 4000)
			tc.spoil(t, dir, doc)
			wantDamaged(t, VerifyFrame(t.Context(), dir, doc, nil), tc.words...)
		})
	}
}

// An archive of which the frame is another's is read completely.
func TestVerifyFrameReadsAnotherLayoutCompletely(t *testing.T) {
	dir, doc := twins(t)
	path := filepath.Join(dir, "twins.tar")
	layer := layersOf(doc, "twins")[0]
	data := readFile(t, path)
	data[layer.offset+layer.size] = 'x' // padding
	writeFile(t, path, data)
	believe(t, dir, &doc.Archives[0])
	must(t, VerifyFrame(t.Context(), dir, doc, nil))
	data[layer.offset] ^= 1
	writeFile(t, path, data)
	believe(t, dir, &doc.Archives[0])
	wantDamaged(t, VerifyFrame(t.Context(), dir, doc, nil), "twins.tar", "the content is")
}

func TestVerifyFrameCancelled(t *testing.T) {
	dir, doc := written(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantFault(t, VerifyFrame(ctx, dir, doc, nil), fault.Cancelled)
}

// Directories of layouts have frames too: what lies in them, tags and manifests.
func TestLayoutsFrame(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, manifest, layer string)
		full  []string // words of what a complete look finds
		frame []string // and one at the frame; nil: nothing
	}{
		{"nothing is wrong", func(*testing.T, string, string) {}, nil, nil},
		{"a flipped bit of a layer", func(t *testing.T, _, layer string) { flipFile(t, layer) }, []string{"the content is"}, nil},
		{"a flipped bit of a manifest", func(t *testing.T, manifest, _ string) { flipFile(t, manifest) }, []string{"the content is"}, []string{"the content is"}},
		{"a layer that is cut", func(t *testing.T, _, layer string) { must(t, os.Truncate(layer, 3)) }, []string{"the content is"}, []string{"has 3 bytes"}},
		{"a layer that is missing", func(t *testing.T, _, layer string) { must(t, os.Remove(layer)) }, []string{"missing"}, []string{"missing"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBuilder()
			b.archive("a")
			image := b.image("a layer")
			b.tag("a", "r", "v1", image)
			contents := b.done(t)
			dir := t.TempDir()
			_, err := WriteLayouts(t.Context(), dir, contents, b.store, Options{})
			must(t, err)
			file := func(d oci.Digest) string { return filepath.Join(dir, filepath.FromSlash(blobFile("r", d))) }
			tc.spoil(t, file(image.Digest), file(oci.DigestOf([]byte("a layer"))))
			doc := &contract.BundleSpec{Layouts: true, Contents: *contents}
			judge := func(what string, err error, words []string) {
				t.Helper()
				if words == nil {
					must(t, err)
				} else {
					wantDamaged(t, err, words...)
				}
			}
			judge("full", VerifyLayouts(t.Context(), dir, doc, nil), tc.full)
			judge("frame", VerifyLayoutsFrame(t.Context(), dir, doc, nil), tc.frame)
			imported := func(with func(context.Context, *Tree, Rules, Progress) (*contract.Contents, error)) error {
				tree, err := FindLayouts(dir)
				must(t, err)
				_, err = with(t.Context(), tree, plainRules{}, nil)
				return err
			}
			judge("imported", imported(ImportLayouts), tc.full)
			judge("imported frame", imported(ImportLayoutsFrame), tc.frame)
		})
	}
}

func flipFile(t *testing.T, path string) {
	data := readFile(t, path)
	data[len(data)/2] ^= 1
	must(t, os.Chmod(path, 0o644))
	writeFile(t, path, data)
}
