package bundle

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// sharing is an archive whose images share a layout, one of them at the root, in a
// directory with its document.
func sharing(t testing.TB) (string, *contract.BundleSpec) {
	t.Helper()
	b := newBuilder()
	b.share("images")
	b.tag("images", "", "v1", b.image("base", "root"))
	b.tag("images", "app", "v1", b.image("base", "app"))
	b.tag("images", "app", "v2", b.image("base", "app"))
	b.tag("images", "lib/x", "v1", b.index(b.image("base", "x")))
	contents := b.done(t)
	dir := t.TempDir()
	archives, err := Write(t.Context(), dir, contents, b.store, Options{})
	must(t, err)
	return dir, finish(t, dir, contents, archives)
}

// Each blob stands once, however many repositories need it, and the index says where
// each tag lands.
func TestSharedArchive(t *testing.T) {
	dir, doc := sharing(t)
	entries := entriesOf(t, filepath.Join(dir, "images.tar"))
	var index layoutIndex
	must(t, json.Unmarshal(entries[indexFile], &index))
	var landing []string
	for _, d := range index.Manifests {
		landing = append(landing, d.path()+":"+d.tag()+" from "+d.ref())
	}
	want := []string{
		"app:v1 from 127.0.0.1:5751/src/app:v1", "app:v2 from 127.0.0.1:5751/src/app:v2",
		"lib/x:v1 from 127.0.0.1:5751/src/lib/x:v1", ":v1 from 127.0.0.1:5751/src:v1",
	}
	if diff := cmp.Diff(want, landing); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	files := []string{indexFile, layoutFile}
	for _, p := range doc.Contents.Parts() {
		files = append(files, blobFile("", p.Digest))
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(files)), slices.Sorted(maps.Keys(entries))); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

// Who has the archive alone knows all that its document says of images.
func TestSharedArchiveWithoutDocument(t *testing.T) {
	dir, doc := sharing(t)
	got, err := importTars(t, map[string][]byte{"images.tar": readFile(t, filepath.Join(dir, "images.tar"))})
	must(t, err)
	if diff := cmp.Diff(doc.Contents.Archives, got.Archives); diff != "" {
		t.Errorf("archives (-want +got):\n%s", diff)
	}
	for i := range got.Images { // which only the vendor knows, or nobody does
		got.Images[i].Phase, got.Images[i].Reason = 0, ""
	}
	if diff := cmp.Diff(doc.Contents.Images, got.Images); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(doc.Contents.Blobs, got.Blobs); diff != "" {
		t.Errorf("blobs (-want +got):\n%s", diff)
	}
}

// An archive that other programs added a layout to, or that comes in two parts of which
// one is as d8 has it, is imported like any other.
func TestSharedArchiveAmongOthers(t *testing.T) {
	dir, doc := sharing(t)
	entries := entriesOf(t, filepath.Join(dir, "images.tar"))
	entries["more/"+indexFile] = []byte(`{"schemaVersion":2,"manifests":[]}`)
	mixed, _ := remade(t, doc, entries)
	plain := t.TempDir()
	writeFile(t, filepath.Join(plain, "images.tar"), makeTar(t, layoutOf("p", "A", "v1")...))
	for name, paths := range map[string][]string{"a layout beside it": {mixed}, "two directories": {dir, plain}} {
		got, err := importPaths(t, paths...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got.Archives[0].Shared || len(got.Images) < len(doc.Contents.Images) {
			t.Errorf("%s: shared %v, %d images", name, got.Archives[0].Shared, len(got.Images))
		}
	}
}

// tarOf is a tar of entries as another program may make it.
func tarOf(t testing.TB, entries map[string][]byte) []byte {
	t.Helper()
	var list []tarEntry
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(entries))) {
		list = append(list, regular("./"+name, string(entries[name])))
	}
	return makeTar(t, list...)
}

// remade is the bundle with the archive's tar made by another program, of entries,
// and a document that knows its digest.
func remade(t testing.TB, doc *contract.BundleSpec, entries map[string][]byte) (string, *contract.BundleSpec) {
	t.Helper()
	text := tarOf(t, entries)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "images.tar"), text)
	file := contract.File{Name: "images.tar", Size: int64(len(text)), Digest: oci.DigestOf(text)}
	again := *doc
	again.Archives = []contract.ArchiveFiles{{Name: "images", Size: file.Size, Digest: file.Digest, Files: []contract.File{file}}}
	return dir, &again
}

// What another program made of the entries is verified by reading it as a tar, and
// each repository is compared with what the document says.
func TestVerifySharedArchive(t *testing.T) {
	dir, doc := sharing(t)
	entries := entriesOf(t, filepath.Join(dir, "images.tar"))
	dir, again := remade(t, doc, entries)
	must(t, Verify(t.Context(), dir, again, nil))

	moved := maps.Clone(entries)
	moved[indexFile] = bytes.Replace(entries[indexFile], []byte(`"lib/x"`), []byte(`"lib/y"`), 1)
	dir, again = remade(t, doc, moved)
	wantFault(t, Verify(t.Context(), dir, again, nil), fault.Damaged, `layout "lib/x" is missing`)

	changed := maps.Clone(entries)
	changed[indexFile] = bytes.Replace(entries[indexFile], []byte(`short_tag": "v2"`), []byte(`short_tag": "v3"`), 1)
	dir, again = remade(t, doc, changed)
	wantFault(t, Verify(t.Context(), dir, again, nil), fault.Damaged, `layout "app": the tags differ`)
}

func TestSharedArchiveRefused(t *testing.T) {
	dir, _ := sharing(t)
	whole := entriesOf(t, filepath.Join(dir, "images.tar"))
	for name, tc := range map[string]struct {
		change func(map[string][]byte)
		says   string
	}{
		"a path that climbs": {func(e map[string][]byte) {
			e[indexFile] = bytes.Replace(e[indexFile], []byte(`"lib/x"`), []byte(`"../x"`), 1)
		}, `"../x", which is no repository path`},
		"a repository that has a layout too": {func(e map[string][]byte) {
			e["app/"+indexFile] = []byte(`{"schemaVersion":2,"manifests":[]}`)
		}, `layout "app": it stands twice`},
		"a layer that is missing": {func(e map[string][]byte) {
			delete(e, blobFile("", oci.DigestOf([]byte("app"))))
		}, "is missing"},
		"no index": {func(e map[string][]byte) {
			e["other/"+indexFile] = []byte(`{"schemaVersion":2,"manifests":[]}`)
			delete(e, indexFile)
		}, "no index.json"},
	} {
		t.Run(name, func(t *testing.T) {
			entries := maps.Clone(whole)
			tc.change(entries)
			_, err := importTars(t, map[string][]byte{"images.tar": tarOf(t, entries)})
			wantFault(t, err, fault.Damaged, tc.says)
		})
	}
}

// Somebody who unpacked the archive is told to name it, rather than that its images
// are in the wrong place.
func TestSharedArchiveUnpacked(t *testing.T) {
	dir, _ := sharing(t)
	unpacked := t.TempDir()
	for name, data := range entriesOf(t, filepath.Join(dir, "images.tar")) {
		must(t, os.MkdirAll(filepath.Join(unpacked, path.Dir(name)), 0o755))
		writeFile(t, filepath.Join(unpacked, name), data)
	}
	tree, err := FindLayouts(unpacked)
	must(t, err)
	_, err = ImportLayouts(t.Context(), tree, plainRules{}, nil)
	wantFault(t, err, fault.Damaged, "an archive that was unpacked")
}
