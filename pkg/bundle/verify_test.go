package bundle

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

func TestVerify(t *testing.T) {
	for _, chunkSize := range []int64{0, 512, 1000, 1 << 20} {
		dir, doc := written(t, chunkSize)
		writeFile(t, filepath.Join(dir, "module-b.tar.gostsum"), []byte("of no file of ours"))
		if err := Verify(t.Context(), dir, doc, nil); err != nil {
			t.Errorf("chunks of %d bytes: %v", chunkSize, err)
		}
	}
}

// Every cut is damage, and the file that was cut is named (B1, B2).
func TestVerifyFindsEveryCut(t *testing.T) {
	cases := 0
	for _, chunkSize := range []int64{0, 3000} {
		dir, doc := written(t, chunkSize)
		for _, a := range doc.Archives {
			for _, f := range a.Files {
				path := filepath.Join(dir, f.Name)
				data := readFile(t, path)
				for cut := range (f.Size + blockSize - 1) / blockSize {
					writeFile(t, path, data[:cut*blockSize])
					wantDamaged(t, Verify(t.Context(), dir, doc, nil), f.Name)
					cases++
				}
				writeFile(t, path, data)
			}
		}
	}
	t.Attr("cases", strconv.Itoa(cases))
}

// Every flipped bit is damage, and the chunk that holds it is named (B3), even
// where it makes the tar go astray in a later chunk.
func TestVerifyFindsEveryFlip(t *testing.T) {
	dir, doc := written(t, 3000)
	cases := 0
	for _, a := range doc.Archives {
		for _, f := range a.Files {
			path := filepath.Join(dir, f.Name)
			data := readFile(t, path)
			for at := 0; at < len(data); at += 37 {
				cases++
				data[at] ^= 1 << (at % 8)
				writeFile(t, path, data)
				err := Verify(t.Context(), dir, doc, nil)
				wantDamaged(t, err, f.Name)
				if n := strings.Count(err.Error(), "\n"); n > 0 {
					t.Errorf("one bit of %s is blamed on several files: %v", f.Name, err)
				}
				data[at] ^= 1 << (at % 8)
			}
			writeFile(t, path, data)
		}
	}
	t.Attr("cases", strconv.Itoa(cases))
}

// S7.1.1, S7.4.6, S9 rows 82 and 83.
func TestVerifyNamesWhatIsWrong(t *testing.T) {
	type bundle struct {
		dir string
		doc *contract.BundleSpec
	}
	path := func(b bundle, name string) string { return filepath.Join(b.dir, name) }
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, b bundle)
		words []string
	}{
		{"all missing files at once", func(t *testing.T, b bundle) {
			os.Remove(path(b, "module-a.tar.0000.chunk"))
			os.Remove(path(b, "platform.tar.0002.chunk"))
		}, []string{"module-a.tar.0000.chunk", "platform.tar.0002.chunk", "missing"}},
		{"all damaged files at once", func(t *testing.T, b bundle) {
			for _, name := range []string{"module-a.tar.0001.chunk", "platform.tar.0000.chunk", "platform.tar.0002.chunk"} {
				data := readFile(t, path(b, name))
				data[100] ^= 0x80
				writeFile(t, path(b, name), data)
			}
		}, []string{"module-a.tar.0001.chunk", "platform.tar.0000.chunk", "platform.tar.0002.chunk"}},
		{"swapped chunks", func(t *testing.T, b bundle) {
			one, two := readFile(t, path(b, "platform.tar.0001.chunk")), readFile(t, path(b, "platform.tar.0002.chunk"))
			writeFile(t, path(b, "platform.tar.0001.chunk"), two)
			writeFile(t, path(b, "platform.tar.0002.chunk"), one)
		}, []string{"platform.tar.0001.chunk", "platform.tar.0002.chunk"}},
		{"a foreign chunk", func(t *testing.T, b bundle) {
			writeFile(t, path(b, "platform.tar.0099.chunk"), nil)
		}, []string{"platform.tar.0099.chunk", "does not belong"}},
		{"a foreign archive", func(t *testing.T, b bundle) {
			writeFile(t, path(b, "module-b.tar"), nil)
		}, []string{"module-b.tar", "does not belong"}},
		{"the archive in its other form", func(t *testing.T, b bundle) {
			writeFile(t, path(b, "platform.tar"), joined(t, b.dir, b.doc.Archives[1]))
		}, []string{"platform.tar", "does not belong"}},
		{"a link in place of a file", func(t *testing.T, b bundle) {
			elsewhere := filepath.Join(t.TempDir(), "elsewhere")
			writeFile(t, elsewhere, readFile(t, path(b, "platform.tar.0001.chunk")))
			os.Remove(path(b, "platform.tar.0001.chunk"))
			if err := os.Symlink(elsewhere, path(b, "platform.tar.0001.chunk")); err != nil {
				t.Skip(err)
			}
		}, []string{"platform.tar.0001.chunk", "not a regular file"}},
		{"a tag that the archive does not have", func(_ *testing.T, b bundle) {
			b.doc.Contents.Images[1].Tag = "v1.70.1"
		}, []string{"platform.tar.0000.chunk", "tags differ"}},
		{"a layout that the archive does not have", func(_ *testing.T, b bundle) {
			b.doc.Contents.Archives[1].Layouts = append(b.doc.Contents.Archives[1].Layouts, "zzz")
		}, []string{"platform.tar.0000.chunk", `layout "zzz" is missing`}},
		{"a layout that the document does not have", func(_ *testing.T, b bundle) {
			b.doc.Contents.Archives[1].Layouts = nil
		}, []string{"platform.tar.0000.chunk", `layout "install-standalone" is not in`}},
		{"a manifest that needs more than the document says", func(_ *testing.T, b bundle) {
			m := &b.doc.Contents.Manifests[0]
			m.References = m.References[1:]
		}, []string{"differs"}},
		{"a manifest that is attached elsewhere", func(_ *testing.T, b bundle) {
			b.doc.Contents.Manifests[0].Subject = oci.DigestOf(nil)
		}, []string{"differs"}},
		{"a blob of another size", func(_ *testing.T, b bundle) {
			b.doc.Contents.Blobs[0].Size++
		}, []string{"bytes, not"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, doc := written(t, 4000)
			tc.spoil(t, bundle{dir, doc})
			wantDamaged(t, Verify(t.Context(), dir, doc, nil), tc.words...)
		})
	}
}

func TestVerifyCancelled(t *testing.T) {
	dir, doc := written(t, 3000)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantFault(t, Verify(ctx, dir, doc, nil), fault.Cancelled)
}

// A file that differs from the document only beyond what a tar reader looks at
// is damage too.
func TestVerifyFindsWhatFollowsTheEnd(t *testing.T) {
	dir, doc := written(t, 0)
	path := filepath.Join(dir, "platform.tar")
	data := append(readFile(t, path), make([]byte, blockSize)...)
	data[len(data)-1] = 'x'
	writeFile(t, path, data)
	wantDamaged(t, Verify(t.Context(), dir, doc, nil), "platform.tar")

	// Also where the document agrees with the file.
	a := &doc.Archives[1]
	a.Size, a.Digest = int64(len(data)), oci.DigestOf(data)
	a.Files = []contract.File{{Name: "platform.tar", Size: a.Size, Digest: a.Digest}}
	wantDamaged(t, Verify(t.Context(), dir, doc, nil), "platform.tar", "follows the end")
}

// hostile are tars that no mirroring tool makes, and honest ones that look a
// little like them.
var hostile = []struct {
	name    string
	header  tarEntry
	refused string // "" when accepted
}{
	{"climbing", regular("../blobs/x", ""), "not a relative path"},
	{"climbing inside", regular("a/../../x", ""), "not a relative path"},
	{"absolute", regular("/etc/passwd", ""), "not a relative path"},
	{"backslash", regular(`a\b`, ""), "not a relative path"},
	{"drive", regular("C:/x", ""), "not a relative path"},
	{"no name", regular(".", ""), "not a relative path"},
	{"duplicate", regular("install/index.json", "{}"), "stands twice"},
	{"duplicate by another spelling", regular("./install//index.json", "{}"), "stands twice"},
	{"symbolic link", tarEntry{Header: headerOf('2', "x", "/etc/passwd")}, "no regular file"},
	{"hard link", tarEntry{Header: headerOf('1', "x", "install/index.json")}, "no regular file"},
	{"character device", tarEntry{Header: headerOf('3', "x", "")}, "no regular file"},
	{"block device", tarEntry{Header: headerOf('4', "x", "")}, "no regular file"},
	{"pipe", tarEntry{Header: headerOf('6', "x", "")}, "no regular file"},
	{"blob under a wrong name", regular("install/blobs/sha256/"+strings.Repeat("0", 64), "x"), "the content is"},
	{"blobs without an index", blobEntry("elsewhere", "x"), "no index.json"},
	{"index that is no JSON", regular("x/index.json", "<html>"), "not an index"},
	{"index without manifests", regular("x/index.json", `{"schemaVersion":2}`), "not an index"},
	{"index of another version", regular("x/index.json", `{"schemaVersion":1,"manifests":[]}`), "not an index"},
	{"tag that is none", indexEntry("x", `[{"digest":"`+string(oci.DigestOf(nil))+`","annotations":{"io.deckhouse.image.short_tag":"../x"}}]`), "not a tag"},
	{"digest that is none", indexEntry("x", `[{"digest":"sha256:../x","annotations":{"io.deckhouse.image.short_tag":"x"}}]`), "digest"},
	{"image that is missing", indexEntry("x", `[{"digest":"`+string(oci.DigestOf(nil))+`","annotations":{"io.deckhouse.image.short_tag":"x"}}]`), "is missing"},
	{"layout whose path is no repository", indexEntry("UPPER", `[]`), "no repository path"},

	{"directory", tarEntry{Header: headerOf('5', "../", "")}, ""},
	{"junk of a crashed run", regular("install/blobs/sha256/"+strings.Repeat("0", 64)+"123", "x"), ""},
	{"empty layout with null", indexEntry("x", `null`), ""},
	{"descriptor without a tag", indexEntry("x", `[{"digest":"nonsense"}]`), ""},
	{"another file", regular("README", "x"), ""},
}

// S6.4.4, S7.4.6, S7.6.1, S9 rows 58 and 86.
func TestImportRefusesHostileArchives(t *testing.T) {
	b := newBuilder()
	image := b.image("layer")
	base := []tarEntry{indexEntry("install", descriptors(image, "v1"))}
	for _, data := range b.store.blobs {
		base = append(base, blobEntry("install", string(data)))
	}
	for _, tc := range hostile {
		t.Run(tc.name, func(t *testing.T) {
			_, err := importTars(t, map[string][]byte{"a.tar": makeTar(t, append(slices.Clone(base), tc.header)...)})
			if tc.refused != "" {
				wantDamaged(t, err, "a.tar", tc.refused)
				return
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}
