package imagefs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"ferry/pkg/fault"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// entry is a tar entry: a regular file unless kind says otherwise.
type entry struct {
	name, content string
	kind          byte
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Typeflag: e.kind}
		switch e.kind {
		case 0, tar.TypeReg:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.content))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = e.content
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, e.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstandard(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

// layerOf serves data and counts how often it was opened and closed.
func layerOf(name string, data []byte, opened *[]string) Layer {
	return Layer{Name: name, Open: func(context.Context) (io.ReadCloser, error) {
		if opened != nil {
			*opened = append(*opened, name)
		}
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

func layersOf(layers ...[]byte) []Layer {
	var out []Layer
	for i, data := range layers {
		out = append(out, layerOf(fmt.Sprint("layer ", i), data, nil))
	}
	return out
}

// S1.5.4, S1.10.1, S1.10.2.
func TestFind(t *testing.T) {
	const candi = "deckhouse/candi/images_digests.json"
	file := func(name, content string) entry { return entry{name: name, content: content} }
	for _, tc := range []struct {
		name   string
		layers [][]entry // bottom layer first
		want   map[string]string
	}{
		{"top layer wins", [][]entry{{file("a", "old")}, {file("a", "new")}}, map[string]string{"a": "new"}},
		{"lower layer (S1.5.3)", [][]entry{{file(candi, "d")}, {file("usr/bin/x", "")}}, map[string]string{candi: "d"}},
		{"spellings are one name (S1.10.1)", [][]entry{{file("./a", "1"), file("/b", "2"), file("./deckhouse//candi/./images_digests.json", "3")}},
			map[string]string{"a": "1", "b": "2", candi: "3"}},
		{"last entry of a layer wins", [][]entry{{file("a", "1"), file("a", "2")}}, map[string]string{"a": "2"}},
		{"empty file is found", [][]entry{{file("a", "")}}, map[string]string{"a": ""}},
		{"whiteout", [][]entry{{file("a", "1"), file("b", "2")}, {file(".wh.a", "")}}, map[string]string{"b": "2"}},
		{"whiteout below a newer file", [][]entry{{file("a", "1")}, {file(".wh.a", "")}, {file("a", "3")}}, map[string]string{"a": "3"}},
		{"whiteout leaves its own layer alone", [][]entry{{file("a", "1")}, {file("./.wh.a", ""), file("a", "2")}}, map[string]string{"a": "2"}},
		{"whiteout of a parent", [][]entry{{file(candi, "d")}, {file(".wh.deckhouse", "")}}, nil},
		{"whiteout of a similar name", [][]entry{{file(candi, "d")}, {file("deckhouse/.wh.cand", "")}}, map[string]string{candi: "d"}},
		{"opaque parent", [][]entry{{file(candi, "d"), file("a", "1")}, {file("deckhouse/.wh..wh..opq", "")}}, map[string]string{"a": "1"}},
		{"opaque root", [][]entry{{file(candi, "d"), file("a", "1")}, {file(".wh..wh..opq", "")}}, nil},
		{"opaque elsewhere", [][]entry{{file(candi, "d")}, {file("deckhouse/x/.wh..wh..opq", "")}}, map[string]string{candi: "d"}},
		{"file in place of a parent", [][]entry{{file(candi, "d")}, {file("deckhouse", "")}}, nil},
		{"directory entries hide nothing below", [][]entry{{file(candi, "d")}, {{name: "deckhouse/", kind: tar.TypeDir}}}, map[string]string{candi: "d"}},
		{"directory in place of the file", [][]entry{{file("a", "1")}, {{name: "a/", kind: tar.TypeDir}}}, nil},
		{"device in place of the file", [][]entry{{file("a", "1")}, {{name: "a", kind: tar.TypeFifo}}}, nil},
		{"a climbing name is no file", [][]entry{{file("../a", "x"), file("x/../b", "y")}}, nil},
		{"no layers", nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for kind, pack := range map[string]func(testing.TB, []byte) []byte{
				"plain": func(_ testing.TB, b []byte) []byte { return b },
				"gzip":  gzipped,
				"zstd":  zstandard,
			} {
				var layers [][]byte
				for _, entries := range tc.layers {
					layers = append(layers, pack(t, archive(t, entries...)))
				}
				files, err := Find(t.Context(), layersOf(layers...), []string{"a", "b", candi})
				if err != nil {
					t.Errorf("%s: %v", kind, err)
				}
				got := map[string]string{}
				for name, content := range files {
					got[name] = string(content)
				}
				if tc.want == nil {
					tc.want = map[string]string{}
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", kind, diff)
				}
			}
		})
	}
}

// A layer is fetched for this alone, so it must not be opened in vain.
func TestFindOpensLayersOnlyWhenNeeded(t *testing.T) {
	var opened []string
	layers := []Layer{
		layerOf("bottom", archive(t, entry{name: "a"}), &opened),
		layerOf("middle", archive(t, entry{name: "a"}), &opened),
		layerOf("top", archive(t, entry{name: ".wh.b"}), &opened),
	}
	if _, err := Find(t.Context(), layers, []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"top", "middle"}, opened); diff != "" {
		t.Errorf("layers opened (-want +got):\n%s", diff)
	}
}

// S1.10.3: a layer that breaks off, wherever it does, is never "the file is not
// there".
func TestFindTruncatedLayer(t *testing.T) {
	whole := archive(t, entry{name: "x", content: "content"}, entry{name: "y", content: strings.Repeat("long", 200)})
	for kind, data := range map[string][]byte{
		"plain": whole[:len(whole)-512], // one block of zeros is mark enough
		"gzip":  gzipped(t, whole),
		"zstd":  zstandard(t, whole),
	} {
		if _, err := Find(t.Context(), layersOf(data), []string{"a"}); err != nil {
			t.Errorf("%s: the whole layer fails: %v", kind, err)
		}
		for n := range len(data) {
			_, err := Find(t.Context(), layersOf(data[:n]), []string{"a"})
			if fault.KindOf(err) != fault.Protocol {
				t.Errorf("%s cut to %d of %d bytes: got %v, want a protocol fault", kind, n, len(data), err)
			}
		}
	}
}

func TestFindKeepsErrorsOfTheReader(t *testing.T) {
	reset := fault.New(fault.Transient, "registry", errors.New("connection reset"))
	half := gzipped(t, archive(t, entry{name: "x", content: "content"}))[:20]
	broken := Layer{Name: "l", Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(half), iotest.ErrReader(reset))), nil
	}}
	if _, err := Find(t.Context(), []Layer{broken}, []string{"a"}); fault.KindOf(err) != fault.Transient {
		t.Errorf("a reset while reading: got %v, want it as transient", err)
	}
	refused := Layer{Name: "l", Open: func(context.Context) (io.ReadCloser, error) { return nil, reset }}
	if _, err := Find(t.Context(), []Layer{refused}, []string{"a"}); !errors.Is(err, reset) {
		t.Errorf("a refusal to open: got %v, want it unchanged", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, layersOf(archive(t)), []string{"a"}); fault.KindOf(err) != fault.Cancelled {
		t.Errorf("cancelled: got %v", err)
	}
	// The digest is checked where the stored bytes end, behind the archive.
	late := Layer{Name: "l", Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(gzipped(t, archive(t, entry{name: "a"}))), iotest.ErrReader(reset))), nil
	}}
	if _, err := Find(t.Context(), []Layer{late}, []string{"a"}); !errors.Is(err, reset) {
		t.Errorf("a digest error at the end: got %v, want it", err)
	}
}

func TestFindRefuses(t *testing.T) {
	small := limits{file: 1 << 10, layer: 1 << 20, entries: 10, ratio: 50, free: 64 << 10, window: 1 << 20}
	many := make([]entry, 11)
	for i := range many {
		many[i] = entry{name: fmt.Sprint("f", i)}
	}
	zeros := entry{name: "zeros", content: strings.Repeat("\x00", 512<<10)}
	for _, tc := range []struct {
		name string
		data []byte
		kind *fault.Kind
		text string
	}{
		{"large file", archive(t, entry{name: "a", content: strings.Repeat("x", 1<<10+1)}), fault.Protocol, "more than the 1024"},
		{"many entries", archive(t, many...), fault.Protocol, "more than 10 entries"},
		{"large layer", archive(t, zeros, zeros), fault.Protocol, "more than 1048576 bytes"},
		{"gzip bomb", gzipped(t, archive(t, zeros)), fault.Protocol, "bomb"},
		{"zstd bomb", zstandard(t, archive(t, zeros)), fault.Protocol, "bomb"},
		{"symbolic link", archive(t, entry{name: "a", content: "b", kind: tar.TypeSymlink}), fault.Unsupported, "link"},
		{"hard link", archive(t, entry{name: "a", content: "b", kind: tar.TypeLink}), fault.Unsupported, "link"},
		{"linked parent", archive(t, entry{name: "d", content: "b", kind: tar.TypeSymlink}), fault.Unsupported, "link"},
		{"no archive", []byte(strings.Repeat("<html>", 1000)), fault.Protocol, "tar"},
		{"nothing", nil, fault.Protocol, "cut off"},
		{"rubbish behind gzip", append(gzipped(t, archive(t)), "rubbish"...), fault.Protocol, "cannot be read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := find(t.Context(), layersOf(tc.data), []string{"a", "d/e"}, small)
			if fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v (%v), want %v with %q", err, fault.KindOf(err), tc.kind, tc.text)
			}
		})
	}
	if _, err := Find(t.Context(), nil, []string{"../a"}); fault.KindOf(err) != fault.Usage {
		t.Errorf("a climbing name was accepted: %v", err)
	}
}

func FuzzFind(f *testing.F) {
	whole := archive(f, entry{name: "./a", content: "1"}, entry{name: "d/.wh.e"}, entry{name: ".wh..wh..opq"})
	f.Add(whole, archive(f, entry{name: "a"}))
	f.Add(gzipped(f, whole), zstandard(f, whole))
	f.Add([]byte{0x1f, 0x8b}, []byte{0x28, 0xb5, 0x2f, 0xfd})
	f.Add([]byte{}, whole[:600])
	small := limits{file: 1 << 10, layer: 1 << 20, entries: 100, ratio: 50, free: 64 << 10, window: 1 << 20}
	f.Fuzz(func(t *testing.T, bottom, top []byte) {
		names := []string{"a", "d/e"}
		files, err := find(t.Context(), layersOf(bottom, top), names, small)
		if err != nil {
			if len(files) > 0 {
				t.Error("files came with an error")
			}
			return
		}
		for name, content := range files {
			if (name != "a" && name != "d/e") || int64(len(content)) > small.file {
				t.Errorf("%q was found with %d bytes", name, len(content))
			}
		}
	})
}
