package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
	"ferry/pkg/store/storetest"
)

func TestLayoutsAreAStore(t *testing.T) {
	storetest.Reader(t, func(t *testing.T) (store.Reader, map[oci.Digest][]byte) {
		b := newBuilder()
		b.archive("a")
		var layers []string
		for _, data := range storetest.Blobs() {
			layers = append(layers, string(data))
		}
		b.tag("a", "r/s", "v1", b.image(layers...))
		contents, dir := b.done(t), t.TempDir()
		if _, err := WriteLayouts(t.Context(), dir, contents, b.store, Options{}); err != nil {
			t.Fatal(err)
		}
		layouts, err := OpenLayouts(dir, contents)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { layouts.Close() })
		return layouts, b.store.blobs
	})
}

// unpackedSample is the sample as a finished directory of layouts.
func unpackedSample(t testing.TB) (string, *contract.BundleSpec) {
	t.Helper()
	contents, content := sample(t)
	dir := t.TempDir()
	return dir, unpackInto(t, dir, contents, content, Options{})
}

func unpackInto(t testing.TB, dir string, contents *contract.Contents, content store.Reader, opts Options) *contract.BundleSpec {
	t.Helper()
	if _, err := WriteLayouts(t.Context(), dir, contents, content, opts); err != nil {
		t.Fatal(err)
	}
	return finishLayouts(t, dir, contents)
}

func finishLayouts(t testing.TB, dir string, contents *contract.Contents) *contract.BundleSpec {
	t.Helper()
	doc := contract.New("ferry-pack test", nil, contract.BundleSpec{Layouts: true, Contents: *contents})
	text, err := contract.Encode(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := Finish(dir, text); err != nil {
		t.Fatal(err)
	}
	return &doc.Spec
}

// treeNames are all files below dir, with * for the digits of blobs.
func treeNames(t testing.TB, dir string) map[string]int {
	t.Helper()
	names := map[string]int{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if at, _, ok := blobName(filepath.ToSlash(rel)); ok {
			rel = path.Join(at, blobsDir, "*")
		}
		names[rel]++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// S6.2.4, S6.4: each repository is a layout at its path, with the files that the
// archives have there; the root holds others below it.
func TestWriteLayouts(t *testing.T) {
	dir, doc := unpackedSample(t)
	want := map[string]int{
		"bundle.json":                    1,
		"blobs/sha256/*":                 7, // two images, one layer shared
		"index.json":                     1,
		"oci-layout":                     1,
		"install/blobs/sha256/*":         4,
		"install/index.json":             1,
		"install/oci-layout":             1,
		"install-standalone/index.json":  1,
		"install-standalone/oci-layout":  1,
		"release-channel/blobs/sha256/*": 3,
		"release-channel/index.json":     1,
		"release-channel/oci-layout":     1,
		longPath + "/blobs/sha256/*":     7, // an index of two images
		longPath + "/index.json":         1,
		longPath + "/oci-layout":         1,
		"team/app/blobs/sha256/*":        4,
		"team/app/index.json":            1,
		"team/app/oci-layout":            1,
		"team/app/job/blobs/sha256/*":    4, // the same again
		"team/app/job/index.json":        1,
		"team/app/job/oci-layout":        1,
	}
	if diff := cmp.Diff(want, treeNames(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, l := range doc.Contents.Layouts() {
		index, err := encodeIndex(l, doc.Contents.Graph())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(index), string(readFile(t, filepath.Join(dir, l.Path, indexFile)))); diff != "" {
			t.Errorf("index of %q (-want +got):\n%s", l.Path, diff)
		}
		if got := string(readFile(t, filepath.Join(dir, l.Path, layoutFile))); got != layoutText {
			t.Errorf("oci-layout of %q is %q", l.Path, got)
		}
	}
	if err := VerifyLayouts(t.Context(), dir, doc, nil); err != nil {
		t.Error(err)
	}
}

// twoLayouts has one image in two repositories and two archives: they share
// every blob, and one repository comes from both archives.
func twoLayouts(t testing.TB) (*contract.Contents, *memory, oci.Descriptor) {
	b := newBuilder()
	b.archive("one")
	b.archive("two")
	image := b.image("shared")
	b.tag("one", "p", "v1", image)
	b.tag("two", "p", "v2", image)
	b.tag("two", "q", "v1", image)
	return b.done(t), b.store, image
}

func TestLayoutsShareBlobs(t *testing.T) {
	contents, content, image := twoLayouts(t)
	for _, tc := range []struct {
		name           string
		link           func(from, to string) error
		linked, copied int64
	}{
		{"links", os.Link, 3, 0},
		{"a file system without links", func(string, string) error { return syscall.EPERM }, 0, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			plan, err := planTree(contents)
			if err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			var progress counter
			w := &treeWriter{dir: dir, root: root, content: content, progress: &progress, link: tc.link}
			if err := w.write(t.Context(), plan, 1); err != nil {
				t.Fatal(err)
			}
			if w.linked.Load() != tc.linked || w.copied.Load() != tc.copied {
				t.Errorf("%d linked and %d copied, want %d and %d", w.linked.Load(), w.copied.Load(), tc.linked, tc.copied)
			}
			if progress.bytes != progress.total || progress.total != plan.size()*(1+tc.copied/3) {
				t.Errorf("progress ends at %d of %d bytes", progress.bytes, progress.total)
			}
			infos := make([]os.FileInfo, 2)
			for i, at := range []string{"p", "q"} {
				if infos[i], err = os.Stat(filepath.Join(dir, blobFile(at, image.Digest))); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := os.SameFile(infos[0], infos[1]), tc.linked > 0; got != want {
				t.Errorf("the blob is one file: %v, want %v", got, want)
			}
			doc := &contract.BundleSpec{Layouts: true, Contents: *contents}
			if err := VerifyLayouts(t.Context(), dir, doc, &progress); err != nil {
				t.Error(err)
			}
			if progress.total != plan.size()*(1+tc.copied/3) {
				t.Errorf("%d bytes are read to verify %d", progress.total, plan.size())
			}
		})
	}
}

// A run that failed goes on, and no tool takes what it left for whole. B1 for
// layouts: without the mark of the end there is no bundle.
func TestWriteLayoutsContinues(t *testing.T) {
	contents, content := sample(t)
	dir := t.TempDir()
	layer := oci.DigestOf([]byte("seventy-one"))
	kept := content.blobs[layer]
	delete(content.blobs, layer)
	if _, err := WriteLayouts(t.Context(), dir, contents, content, Options{Parallel: 1}); err == nil {
		t.Fatal("wrote a blob that is not there")
	} else {
		wantDamaged(t, err, string(layer))
	}
	for name := range treeNames(t, dir) {
		if path.Base(name) == indexFile {
			t.Errorf("%s stands before all blobs do", name)
		}
	}
	_, _, err := ReadDocument(dir)
	wantDamaged(t, err, "not finished")

	content.blobs[layer] = kept
	there, err := FindLayouts(dir)
	if err != nil {
		t.Fatal(err)
	}
	content.opened.Store(0)
	doc := unpackInto(t, dir, contents, content, Options{Parallel: 1})
	if got, want := content.opened.Load(), int64(len(content.blobs)-len(there.distinct())); got != want || len(there.distinct()) == 0 {
		t.Errorf("%d blobs were taken from the store, want the %d that were missing", got, want)
	}
	if err := VerifyLayouts(t.Context(), dir, doc, nil); err != nil {
		t.Error(err)
	}

	// A run after a finished one takes nothing and needs no force.
	before := treeNames(t, dir)
	content.opened.Store(0)
	var progress counter
	unpackInto(t, dir, contents, content, Options{Parallel: 1, Progress: &progress})
	if diff := cmp.Diff(before, treeNames(t, dir)); diff != "" || content.opened.Load() != 0 {
		t.Errorf("%d blobs were taken again; files (-before +after):\n%s", content.opened.Load(), diff)
	}
	if progress.bytes != progress.total || progress.total == 0 {
		t.Errorf("progress ends at %d of %d bytes", progress.bytes, progress.total)
	}
}

// S9 row 87: a blob that is there is believed by its hash, not by its size.
func TestWriteLayoutsRepairs(t *testing.T) {
	contents, content, image := twoLayouts(t)
	for name, spoil := range map[string]func(t *testing.T, name string){
		"altered": func(t *testing.T, name string) {
			data := readFile(t, name)
			data[3] ^= 1
			writeFile(t, name, data) // the link of the other layout is altered too
		},
		"shorter": func(t *testing.T, name string) { writeFile(t, name, []byte("{}")) },
		"gone":    func(t *testing.T, name string) { must(t, os.Remove(name)) },
		"a copy that is altered": func(t *testing.T, name string) {
			data := readFile(t, name)
			must(t, os.Remove(name))
			data[3] ^= 1
			writeFile(t, name, data)
		},
		"a copy": func(t *testing.T, name string) {
			data := readFile(t, name)
			must(t, os.Remove(name))
			writeFile(t, name, data)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, at := range []string{"p", "q"} {
				dir := t.TempDir()
				doc := unpackInto(t, dir, contents, content, Options{})
				spoil(t, filepath.Join(dir, blobFile(at, image.Digest)))
				var progress counter
				unpackInto(t, dir, contents, content, Options{Parallel: 1, Progress: &progress})
				if err := VerifyLayouts(t.Context(), dir, doc, nil); err != nil {
					t.Error(err)
				}
				if progress.bytes != progress.total {
					t.Errorf("progress ends at %d of %d bytes", progress.bytes, progress.total)
				}
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// S9 row 82 for layouts: readers take every layout that they find.
func TestWriteLayoutsIntoADirectory(t *testing.T) {
	small := func(t *testing.T) (*contract.Contents, *memory) {
		b := newBuilder()
		b.archive("platform")
		b.tag("platform", "install", "v1.70.0", b.image("seventy"))
		return b.done(t), b.store
	}
	mine := map[string]int{"bundle.json": 1, "install/blobs/sha256/*": 3, "install/index.json": 1, "install/oci-layout": 1}
	with := func(names ...string) map[string]int {
		all := map[string]int{}
		for n, c := range mine {
			all[n] = c
		}
		for _, n := range names {
			all[n] = 1
		}
		return all
	}
	put := func(t *testing.T, dir, name, text string) {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		writeFile(t, filepath.Join(dir, name), []byte(text))
	}
	other := func(t *testing.T, dir string) {
		contents, content := sample(t)
		unpackInto(t, dir, contents, content, Options{})
	}
	for _, tc := range []struct {
		name    string
		before  func(t *testing.T, dir string)
		force   bool
		refused string
		want    map[string]int
	}{
		{
			name: "other files are left alone",
			before: func(t *testing.T, dir string) {
				put(t, dir, "README", "x")
				put(t, dir, ".tmp/store/index.json", "x")
				put(t, dir, "notes/readme.txt", "x")
			},
			want: with("README", ".tmp/store/index.json", "notes/readme.txt"),
		},
		{
			name:    "a layout of another tool",
			before:  func(t *testing.T, dir string) { put(t, dir, "modules/x/index.json", "{}") },
			refused: "modules/x/index.json",
		},
		{
			name:    "force does not remove it",
			before:  func(t *testing.T, dir string) { put(t, dir, "modules/x/index.json", "{}") },
			force:   true,
			refused: "modules/x/index.json",
		},
		{
			name: "the same repository by another tool",
			before: func(t *testing.T, dir string) {
				put(t, dir, "install/index.json", `{"schemaVersion":2,"manifests":[]}`)
			},
			refused: "install/index.json",
		},
		{
			name:    "blobs of nobody",
			before:  func(t *testing.T, dir string) { put(t, dir, blobFile("x", oci.DigestOf([]byte("x"))), "x") },
			refused: "x/blobs/sha256/",
		},
		{
			name:    "an archive of another tool",
			before:  func(t *testing.T, dir string) { put(t, dir, "platform.tar", "x") },
			force:   true,
			refused: "platform.tar",
		},
		{name: "another bundle", before: other, refused: "holds another bundle"},
		{name: "another bundle, forced", before: other, force: true, want: mine},
		{name: "a bundle of archives", before: writeSampleInto, refused: "module-a.tar"},
		{name: "a bundle of archives, forced", before: writeSampleInto, force: true, want: mine},
		{
			name: "a bundle of archives with sums, forced",
			before: func(t *testing.T, dir string) {
				contents, content := sample(t)
				archives, err := Write(t.Context(), dir, contents, content, Options{Gost: true})
				must(t, err)
				finish(t, dir, contents, archives)
			},
			force: true,
			want:  mine,
		},
		{
			name: "another run that was killed",
			before: func(t *testing.T, dir string) {
				contents, content := sample(t)
				if _, err := WriteLayouts(t.Context(), dir, contents, content, Options{}); err != nil {
					t.Fatal(err)
				}
				random := strings.Repeat("A", 26)
				put(t, dir, "install/blobs/sha256/.x."+random+".tmp", "half")
			},
			want: mine,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			tc.before(t, dir)
			before := treeNames(t, dir)
			contents, content := small(t)
			_, err := WriteLayouts(t.Context(), dir, contents, content, Options{Force: tc.force})
			if tc.refused != "" {
				wantFault(t, err, fault.Usage, tc.refused)
				if diff := cmp.Diff(before, treeNames(t, dir)); diff != "" {
					t.Errorf("a refusal changed the directory (-before +after):\n%s", diff)
				}
				return
			}
			must(t, err)
			doc := finishLayouts(t, dir, contents)
			if diff := cmp.Diff(tc.want, treeNames(t, dir)); diff != "" {
				t.Errorf("directory (-want +got):\n%s", diff)
			}
			if err := VerifyLayouts(t.Context(), dir, doc, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// Archives take the place of layouts by force alone, and nothing is left of them.
func TestWriteArchivesOverLayouts(t *testing.T) {
	dir, doc := unpackedSample(t)
	contents, content := sample(t)
	_, err := Write(t.Context(), dir, contents, content, Options{})
	wantFault(t, err, fault.Usage, "holds another bundle")
	if err := VerifyLayouts(t.Context(), dir, doc, nil); err != nil {
		t.Errorf("a refusal changed the layouts: %v", err)
	}
	archives, err := Write(t.Context(), dir, contents, content, Options{Force: true})
	must(t, err)
	finish(t, dir, contents, archives)
	if diff := cmp.Diff(map[string]int{"bundle.json": 1, "module-a.tar": 1, "platform.tar": 1, "shared.tar": 1}, treeNames(t, dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 4 {
		t.Errorf("empty directories are left: %v", entries)
	}
}

func TestWriteLayoutsRefusesCollisions(t *testing.T) {
	for _, at := range []string{"index.json", "p/oci-layout/x", "bundle.json", "bundle.json.sig/x", "bundle.partial.json/x"} {
		b := newBuilder()
		b.archive("a")
		b.tag("a", "", "v1", b.image("root"))
		b.tag("a", "p", "v1", b.image("p"))
		b.tag("a", at, "v1", b.image("x"))
		dir := filepath.Join(t.TempDir(), "new")
		_, err := WriteLayouts(t.Context(), dir, b.done(t), b.store, Options{})
		wantFault(t, err, fault.Usage, at)
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: work was begun", at)
		}
	}
}

func TestWriteLayoutsCancelled(t *testing.T) {
	contents, content := sample(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	_, err := WriteLayouts(ctx, dir, contents, content, Options{})
	wantFault(t, err, fault.Cancelled)
	if diff := cmp.Diff(map[string]int{journalName: 1}, treeNames(t, dir)); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
}

// tree is a finished directory of layouts.
type tree struct {
	dir string
	doc *contract.BundleSpec
}

// B1, B3, B6 for layouts: whatever is wrong is found, and named all at once.
func TestVerifyLayoutsNamesWhatIsWrong(t *testing.T) {
	layer := func(at, text string) string { return blobFile(at, oci.DigestOf([]byte(text))) }
	flip := func(t *testing.T, name string) {
		data := readFile(t, name)
		data[len(data)/2] ^= 4
		writeFile(t, name, data)
	}
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, b tree)
		words []string
	}{
		{"all missing files", func(t *testing.T, b tree) {
			must(t, os.Remove(filepath.Join(b.dir, layer("", "seventy"))))
			must(t, os.Remove(filepath.Join(b.dir, "install/index.json")))
		}, []string{layer("", "seventy"), "install/index.json", "missing"}},
		{"all damaged blobs", func(t *testing.T, b tree) {
			flip(t, filepath.Join(b.dir, layer("", "seventy")))
			flip(t, filepath.Join(b.dir, layer("install", "installer")))
		}, []string{layer("", "seventy"), layer("install", "installer"), "the content is"}},
		{"a blob that is too long", func(t *testing.T, b tree) {
			writeFile(t, filepath.Join(b.dir, layer("", "seventy")), []byte("seventyx"))
		}, []string{layer("", "seventy")}},
		{"a link in place of a blob", func(t *testing.T, b tree) {
			name := filepath.Join(b.dir, layer("", "seventy"))
			elsewhere := filepath.Join(t.TempDir(), "elsewhere")
			must(t, os.Rename(name, elsewhere))
			must(t, os.Symlink(elsewhere, name))
		}, []string{layer("", "seventy"), "not a regular file"}},
		{"a link in place of a directory", func(t *testing.T, b tree) {
			elsewhere := filepath.Join(t.TempDir(), "elsewhere")
			must(t, os.Rename(filepath.Join(b.dir, "install"), elsewhere))
			must(t, os.Symlink(elsewhere, filepath.Join(b.dir, "install")))
		}, []string{"install", "not a regular file"}},
		{"a layout of another bundle", func(t *testing.T, b tree) {
			must(t, os.CopyFS(filepath.Join(b.dir, "other"), os.DirFS(filepath.Join(b.dir, "install"))))
		}, []string{"other", "does not belong"}},
		{"a tag less", func(t *testing.T, b tree) {
			writeFile(t, filepath.Join(b.dir, "install/index.json"), []byte(`{"schemaVersion":2,"manifests":[]}`))
		}, []string{"install", "the tags differ"}},
		{"a tag more", func(t *testing.T, b tree) {
			name := filepath.Join(b.dir, "index.json")
			writeFile(t, name, []byte(strings.Replace(string(readFile(t, name)), `"manifests": [`, `"manifests": [`+
				strings.Trim(descriptors(b.image(t, "v1.70.0"), "v9"), "[]")+`,`, 1)))
		}, []string{"the tags differ"}},
		{"an index that is cut", func(t *testing.T, b tree) {
			name := filepath.Join(b.dir, "release-channel/index.json")
			writeFile(t, name, readFile(t, name)[:100])
		}, []string{"release-channel", "not an index"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, doc := unpackedSample(t)
			tc.spoil(t, tree{dir, doc})
			wantDamaged(t, VerifyLayouts(t.Context(), dir, doc, nil), tc.words...)
		})
	}
}

// image is the one that stands at the root under the tag.
func (b tree) image(t *testing.T, tag string) oci.Descriptor {
	t.Helper()
	for _, im := range b.doc.Contents.Images {
		if im.Path == "" && im.Tag == tag {
			m := b.doc.Contents.Graph()[im.Digest]
			return oci.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}
		}
	}
	t.Fatalf("there is no tag %s", tag)
	return oci.Descriptor{}
}

func TestOpenLayoutsFindsWhatIsGone(t *testing.T) {
	dir, doc := unpackedSample(t)
	name := filepath.Join(dir, blobFile("install", oci.DigestOf([]byte("installer"))))
	writeFile(t, name, []byte("short"))
	_, err := OpenLayouts(dir, &doc.Contents)
	wantDamaged(t, err, name, "5 bytes")
	must(t, os.Remove(name))
	_, err = OpenLayouts(dir, &doc.Contents)
	wantDamaged(t, err, name, "missing")
	must(t, os.Symlink("/etc/hosts", name))
	_, err = OpenLayouts(dir, &doc.Contents)
	wantDamaged(t, err, name, "not a regular file")
	_, err = OpenLayouts(filepath.Join(dir, "nowhere"), &doc.Contents)
	wantDamaged(t, err, "nowhere")
}

// A blob that goes between opening the layouts and reading it is damage, and a
// link that comes instead is not followed.
func TestLayoutsChangeWhileRead(t *testing.T) {
	dir, doc := unpackedSample(t)
	layouts, err := OpenLayouts(dir, &doc.Contents)
	must(t, err)
	defer layouts.Close()
	d := oci.DigestOf([]byte("installer"))
	name := filepath.Join(dir, blobFile("install", d))
	must(t, os.Remove(name))
	_, err = layouts.Open(d)
	wantDamaged(t, err, name, "missing")
	must(t, os.Symlink("/etc/hosts", name))
	_, err = layouts.Open(d)
	wantDamaged(t, err, name, "not a regular file")
}

// handMade writes a layout with one image, index.json as given.
func handMade(t testing.TB, dir, layer string, index func(image oci.Descriptor) string) oci.Digest {
	t.Helper()
	b := newBuilder()
	image := b.image(layer)
	must(t, os.MkdirAll(filepath.Join(dir, blobsDir), 0o755))
	for d, data := range b.store.blobs {
		writeFile(t, filepath.Join(dir, blobFile("", d)), data)
	}
	writeFile(t, filepath.Join(dir, indexFile), []byte(index(image)))
	return image.Digest
}

func importDir(t testing.TB, dir string) (*contract.Contents, error) {
	t.Helper()
	tree, err := FindLayouts(dir)
	if err != nil {
		return nil, err
	}
	return ImportLayouts(t.Context(), tree, plainRules{}, nil)
}

// S6.2.4, S8.4: layouts that other tools made, nested, with whatever annotations
// and platforms they write; what begins with a dot is nobody's.
func TestImportLayouts(t *testing.T) {
	dir := t.TempDir()
	index := func(annotations map[string]string, mediaType string) func(oci.Descriptor) string {
		return func(image oci.Descriptor) string {
			text, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": []any{map[string]any{
				"mediaType": image.MediaType, "size": image.Size, "digest": image.Digest, "annotations": annotations,
				"platform": map[string]string{"architecture": "amd64", "os": "linux"},
			}}})
			must(t, err)
			return string(text)
		}
	}
	const d8Type = "application/vnd.oci.image.layout.v1+json"
	want := map[string]string{
		":v1": "at- " + string(handMade(t, dir, "root", index(map[string]string{annotationTag: "v1", annotationRef: "h.example/r:v1"}, d8Type))),
		"p/release:stable": "at-p-release " + string(handMade(t, filepath.Join(dir, "p/release"), "r",
			index(map[string]string{annotationTag: "stable", annotationRef: "127.0.0.1:stable"}, oci.MediaTypeIndex))),
		// S7.6.1: what skopeo writes for oci:DIR:TAG.
		"p:3.19": "at-p " + string(handMade(t, filepath.Join(dir, "p"), "p", index(map[string]string{annotationRef: "3.19"}, ""))),
	}
	// S7.6.1: no tag.
	handMade(t, filepath.Join(dir, "anonymous"), "x", index(nil, ""))
	handMade(t, filepath.Join(dir, "reference"), "y", index(map[string]string{annotationRef: "h.example/r:v7"}, ""))
	handMade(t, filepath.Join(dir, ".tmp/q"), "hidden", index(map[string]string{annotationTag: "v1"}, ""))
	// S6.4.2, S6.4.4.
	must(t, os.MkdirAll(filepath.Join(dir, "empty/blobs/sha256"), 0o755))
	writeFile(t, filepath.Join(dir, "empty/index.json"), []byte(`{"schemaVersion":2,"manifests":null}`))
	writeFile(t, filepath.Join(dir, "p/blobs/sha256", strings.Repeat("a", 64)+"123456"), []byte("left by a crash"))
	writeFile(t, filepath.Join(dir, "deckhousereleases.yaml"), nil)

	contents, err := importDir(t, dir)
	must(t, err)
	if diff := cmp.Diff(want, owners(contents)); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
	for _, im := range contents.Images {
		if _, err := oci.ParseReference(im.Source); err != nil {
			t.Errorf("%s:%s has the source %q: %v", im.Path, im.Tag, im.Source, err)
		}
	}
	layouts, err := OpenLayouts(dir, contents)
	must(t, err)
	defer layouts.Close()
	if _, err := Write(t.Context(), t.TempDir(), contents, layouts, Options{}); err != nil {
		t.Errorf("what was imported cannot be packed: %v", err)
	}
}

func TestImportLayoutsRefuses(t *testing.T) {
	v1 := func(image oci.Descriptor) string {
		return `{"schemaVersion":2,"manifests":` + descriptors(image, "v1") + `}`
	}
	for _, tc := range []struct {
		name  string
		make  func(t *testing.T, dir string)
		words []string
	}{
		{"no tags at all", func(t *testing.T, dir string) {
			handMade(t, dir, "x", func(oci.Descriptor) string { return `{"schemaVersion":2,"manifests":[]}` })
		}, []string{"no image that has a tag"}},
		{"a directory that is no repository", func(t *testing.T, dir string) {
			handMade(t, filepath.Join(dir, "Modules/x"), "x", v1)
		}, []string{"Modules/x", "no repository path"}},
		{"blobs without index.json", func(t *testing.T, dir string) {
			handMade(t, filepath.Join(dir, "p"), "x", v1)
			handMade(t, filepath.Join(dir, "q"), "x", v1)
			must(t, os.Remove(filepath.Join(dir, "q/index.json")))
		}, []string{"q", "no index.json"}},
		{"a missing layer", func(t *testing.T, dir string) {
			handMade(t, dir, "x", v1)
			must(t, os.Remove(filepath.Join(dir, blobFile("", oci.DigestOf([]byte("x"))))))
		}, []string{"tag v1", string(oci.DigestOf([]byte("x"))), "missing"}},
		{"a layer of another layout", func(t *testing.T, dir string) { // S6.2.3
			handMade(t, dir, "x", v1)
			handMade(t, filepath.Join(dir, "p"), "x", v1)
			must(t, os.Remove(filepath.Join(dir, blobFile("p", oci.DigestOf([]byte("x"))))))
		}, []string{"p", "missing"}},
		{"damage that nothing refers to", func(t *testing.T, dir string) {
			handMade(t, dir, "x", v1)
			writeFile(t, filepath.Join(dir, blobFile("", oci.DigestOf([]byte("y")))), []byte("z"))
		}, []string{oci.DigestOf([]byte("y")).Hex()}},
		{"a link anywhere", func(t *testing.T, dir string) {
			handMade(t, filepath.Join(dir, "p"), "x", v1)
			must(t, os.Symlink("p", filepath.Join(dir, "q")))
		}, []string{"q", "not a regular file"}},
		{"an index that is too large", func(t *testing.T, dir string) {
			handMade(t, dir, "x", v1)
			must(t, os.Truncate(filepath.Join(dir, indexFile), indexLimit+1))
		}, []string{indexFile, "bytes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			tc.make(t, dir)
			_, err := importDir(t, dir)
			wantDamaged(t, err, tc.words...)
		})
	}
}

// What the system keeps on a medium, closed to users, is no part of the tree.
func TestFindLayoutsPassesOverClosedDirectories(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"lost+found", "closed"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o000))
	}
	if _, err := os.ReadDir(filepath.Join(dir, "closed")); !errors.Is(err, fs.ErrPermission) {
		t.Skip("this user may read everything")
	}
	_, err := FindLayouts(dir)
	wantFault(t, err, fault.Local, "closed")
	must(t, os.Remove(filepath.Join(dir, "closed")))
	tree, err := FindLayouts(dir)
	must(t, err)
	if len(tree.Paths()) != 0 {
		t.Errorf("found %v", tree.Paths())
	}
}
