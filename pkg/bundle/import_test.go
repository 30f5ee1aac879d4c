package bundle

import (
	"archive/tar"
	"bytes"
	stdcmp "cmp"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// plainRules is a vendor with one archive that yields and one that is moved.
type plainRules struct{}

func (plainRules) Vendor() string { return "plain" }
func (plainRules) Prefix(archive string, _ []string) string {
	if strings.HasPrefix(archive, "old-") {
		return "moved"
	}
	return ""
}
func (plainRules) Phase(_, tag string) int { return len(tag) }
func (plainRules) Discovery(path string) []contract.DiscoveryTag {
	return []contract.DiscoveryTag{{Path: "found", Tag: "_" + strings.ReplaceAll(path, "/", "_"), Needs: path}}
}
func (plainRules) Archive(path string) string { return "at-" + strings.ReplaceAll(path, "/", "-") }
func (plainRules) Overview(images []contract.Image) contract.Overview {
	o := contract.Overview{Components: []contract.Component{{Name: "Things", State: contract.ComponentWanted}, {Name: "Others", State: contract.ComponentWanted}}}
	for i, im := range images {
		if i == 0 || images[i-1].Archive != im.Archive || images[i-1].Path != im.Path {
			o.Members = append(o.Members, contract.Member{Component: "Things", Name: stdcmp.Or(im.Path, "root"), Archive: im.Archive, Path: im.Path, Versions: []string{im.Tag}})
		}
	}
	return o
}
func (plainRules) Yields(archive string) bool { return archive == "versions" }

func headerOf(typeflag byte, name, link string) tar.Header {
	return tar.Header{Typeflag: typeflag, Name: name, Linkname: link}
}

// descriptors is the list of an index.json that gives each tag the image.
func descriptors(image oci.Descriptor, tags ...string) string {
	var list []layoutDescriptor
	for _, tag := range tags {
		list = append(list, layoutDescriptor{
			MediaType: image.MediaType, Size: image.Size, Digest: image.Digest,
			Annotations: map[string]string{annotationTag: tag, annotationRef: "host.example/x:" + tag},
		})
	}
	text, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// importTars imports files by their names, with plainRules.
func importTars(t testing.TB, files map[string][]byte) (*contract.Contents, error) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		writeFile(t, filepath.Join(dir, name), data)
	}
	return importPaths(t, dir)
}

// importPaths imports what paths name, with plainRules.
func importPaths(t testing.TB, paths ...string) (*contract.Contents, error) {
	t.Helper()
	found, err := Find(paths)
	if err != nil {
		return nil, err
	}
	dirs, contents, err := Import(t.Context(), found, plainRules{}, nil)
	if err == nil {
		opened, err := Open(dirs)
		if err != nil {
			t.Errorf("imported, but not readable: %v", err)
		} else {
			opened.Close()
		}
	}
	return contents, err
}

// layoutOf is a layout that holds one image of one layer under some tags.
func layoutOf(path, layer string, tags ...string) []tarEntry {
	b := newBuilder()
	image := b.image(layer)
	entries := []tarEntry{indexEntry(path, descriptors(image, tags...))}
	for _, data := range b.store.blobs {
		entries = append(entries, blobEntry(path, string(data)))
	}
	return entries
}

func imageDigest(layer string) oci.Digest { return newBuilder().image(layer).Digest }

// owners is who brings each tag.
func owners(c *contract.Contents) map[string]string {
	m := map[string]string{}
	for _, im := range c.Images {
		m[im.Path+":"+im.Tag] = im.Archive + " " + string(im.Digest)
	}
	return m
}

// S6.5.6, S7.4.5, S9 rows 48, 70 and 72.
func TestImportMerges(t *testing.T) {
	a, b := string(imageDigest("A")), string(imageDigest("B"))
	for _, tc := range []struct {
		name    string
		files   map[string][]byte
		want    map[string]string
		refused string
	}{
		{
			name: "the same image in two archives has one owner",
			files: map[string][]byte{
				"one.tar": makeTar(t, layoutOf("p", "A", "v1")...),
				"two.tar": makeTar(t, layoutOf("p", "A", "v1", "v2")...),
			},
			want: map[string]string{"p:v1": "one " + a, "p:v2": "two " + a},
		},
		{
			name: "different images under one tag",
			files: map[string][]byte{
				"one.tar": makeTar(t, layoutOf("p", "A", "v1")...),
				"two.tar": makeTar(t, layoutOf("p", "B", "v1")...),
			},
			refused: "two.tar",
		},
		{
			name: "the archive that yields",
			files: map[string][]byte{
				"versions.tar": makeTar(t, layoutOf("p", "A", "v1", "v2")...),
				"x.tar":        makeTar(t, layoutOf("p", "B", "v1")...),
			},
			want: map[string]string{"p:v1": "x " + b, "p:v2": "versions " + a},
		},
		{
			name:  "layouts that were moved",
			files: map[string][]byte{"old-x.tar": makeTar(t, append(layoutOf("", "A", "v1"), layoutOf("release", "B", "v1")...)...)},
			want:  map[string]string{"moved:v1": "old-x " + a, "moved/release:v1": "old-x " + b},
		},
		{
			name: "a tag that stands twice in a layout means the last",
			files: map[string][]byte{"x.tar": makeTar(t, append(layoutOf("p", "A", "v2"), layoutOf("q", "B", "v1", "v1")...)...),
				"y.tar": twice(t)},
			want: map[string]string{"p:v2": "x " + a, "q:v1": "x " + b, "twice:stable": "y " + b},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			contents, err := importTars(t, tc.files)
			if tc.refused != "" {
				wantDamaged(t, err, tc.refused)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, owners(contents)); diff != "" {
				t.Errorf("owners (-want +got):\n%s", diff)
			}
		})
	}
}

// twice is a layout whose index gives a tag to A, which is not there, and then
// to B.
func twice(t *testing.T) []byte {
	b := newBuilder()
	list := func(d oci.Descriptor) string { return strings.Trim(descriptors(d, "stable"), "[]") }
	missing := newBuilder().image("A")
	entries := []tarEntry{indexEntry("twice", "["+list(missing)+","+list(b.image("B"))+"]")}
	for _, data := range b.store.blobs {
		entries = append(entries, blobEntry("twice", string(data)))
	}
	return makeTar(t, entries...)
}

// S6.4.2, S7.5.1, S9 row 38.
func TestImportContents(t *testing.T) {
	contents, err := importTars(t, map[string][]byte{
		"x.tar":       makeTar(t, append(layoutOf("p", "A", "v1"), indexEntry("empty", "[]"))...),
		"nothing.tar": makeTar(t, indexEntry("void", "null")),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &contract.Contents{
		Vendor:    "plain",
		Archives:  []contract.Archive{{Name: "x", Layouts: []string{"empty"}}},
		Images:    []contract.Image{{Archive: "x", Path: "p", Tag: "v1", Phase: 2, Digest: imageDigest("A"), Source: "host.example/x:v1", Reason: "imported from x.tar"}},
		Discovery: []contract.DiscoveryTag{{Path: "found", Tag: "_p", Needs: "p"}},
		Skipped:   []contract.Skipped{},
	}
	b := newBuilder()
	image := b.image("A")
	want.Manifests, want.Blobs = b.contents.Manifests, b.contents.Blobs
	bytes := image.Size
	for _, blob := range want.Blobs {
		bytes += blob.Size
	}
	want.Overview = contract.Overview{
		Components: []contract.Component{
			{Name: "Things", State: contract.ComponentWanted, Images: 1, Bytes: bytes},
			{Name: "Others", State: contract.ComponentAbsent},
		},
		Members: []contract.Member{{Component: "Things", Name: "p", Archive: "x", Path: "p", Versions: []string{"v1"}}},
	}
	want.Normalize()
	if diff := cmp.Diff(want, contents); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// S9 row 71: references that d8 cut are not believed.
func TestImportSources(t *testing.T) {
	for _, tc := range []struct{ ref, path, want string }{
		{"host.example:5000/a/b:v1", "p", "host.example:5000/a/b:v1"},
		{"host.example/a@" + string(oci.DigestOf(nil)), "p", "host.example/a@" + string(oci.DigestOf(nil))},
		{"127.0.0.1:alpha", "modules/x/release", "bundle.invalid/modules/x/release:v1"},
		{"", "", "bundle.invalid/root:v1"},
	} {
		d := layoutDescriptor{Annotations: map[string]string{annotationTag: "v1", annotationRef: tc.ref}}
		if got := sourceOf(d, tc.path); got != tc.want {
			t.Errorf("%q at %q: source %q, want %q", tc.ref, tc.path, got, tc.want)
		}
	}
}

// S7.10, S9 row 39.
func TestImportAcceptsOtherTars(t *testing.T) {
	entries := layoutOf("p", "A", "v1")
	for i := range entries {
		entries[i].Format = tar.FormatPAX
		entries[i].PAXRecords = map[string]string{"COMMENT.x": "y"}
		entries[i].Name = "./" + entries[i].Name
	}
	global := tarEntry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"comment": "x"}}}
	directory := tarEntry{Header: headerOf(tar.TypeDir, "./p/", "")}
	text := makeTar(t, append([]tarEntry{directory}, entries...)...)
	var buf strings.Builder
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&global.Header); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	padding := make([]byte, 10240) // GNU tar fills up its records
	contents, err := importTars(t, map[string][]byte{"x.tar": append(append([]byte(buf.String()), text...), padding...)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"p:v1": "x " + string(imageDigest("A"))}, owners(contents)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A set of chunks has no count: what is missing at its end must be seen (B7).
//
// S6.6.3, S7.4.1, S7.4.6, S9 row 56.
func TestImportFindsEveryCut(t *testing.T) {
	text := makeTar(t, layoutOf("p", "A", "v1")...)
	for cut := 0; cut < len(text); cut += blockSize {
		_, err := importTars(t, map[string][]byte{"x.tar.0000.chunk": text[:cut]})
		wantDamaged(t, err, "x.tar.0000.chunk")
	}
	t.Attr("cases", strconv.Itoa(len(text)/blockSize))
	_, err := importTars(t, map[string][]byte{"x.tar.0000.chunk": text[:1000], "x.tar.0001.chunk": text[1000:]})
	if err != nil {
		t.Error(err)
	}
}

// Without a document a bit of a tag, or of padding, cannot be proven wrong; one
// of an image can.
func TestImportFindsEveryFlipOfAnImage(t *testing.T) {
	text := makeTar(t, layoutOf("p", "A", "v1")...)
	inBlob := make([]bool, len(text))
	r := bytes.NewReader(text)
	err := scan(skimming{io.NewSectionReader(r, 0, r.Size())}, func(e entry, _ io.Reader) error {
		if _, _, ok := blobName(e.name); ok {
			for i := range e.size {
				inBlob[e.offset+i] = true
			}
		}
		return nil
	})
	if err != nil || !slices.Contains(inBlob, true) {
		t.Fatal("found no content", err)
	}
	for at := 0; at < len(text); at += 5 {
		text[at] ^= 4
		contents, err := importTars(t, map[string][]byte{"x.tar": text})
		switch {
		case err != nil:
			wantDamaged(t, err, "x.tar")
		case inBlob[at]:
			t.Errorf("a flipped bit at %d, in an image, was accepted", at)
		case len(contents.Images) > 0 && contents.Images[0].Digest != imageDigest("A"):
			t.Errorf("a bit at %d made another image of it", at)
		}
		text[at] ^= 4
	}
}

// S7.1.1, S7.1.2, S7.1.3, S9 rows 8, 36 and 37.
func TestFind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundle.tar.gz.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"a.tar", "a.tar.0000.chunk", "b.tar.0000.chunk", "b.tar.0001.chunk", "platform.chunk",
		"c.tar.abcd.chunk", "platform.0000.chunk", "platform.txt", ".tar", "a.tar.gostsum", "deckhousereleases.yaml",
	} {
		writeFile(t, filepath.Join(dir, name), nil)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.tar"), 0o755); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(filepath.Dir(dir), "a-sorts-first")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(other, "a.tar"), nil)
	writeFile(t, filepath.Join(other, "z.tar.0000.chunk"), nil)
	linked := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, linked); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	a := Set{Name: "a", Files: []string{"a.tar"}}
	b := Set{Name: "b", Files: []string{"b.tar.0000.chunk", "b.tar.0001.chunk"}}
	z := Set{Name: "z", Files: []string{"z.tar.0000.chunk"}}
	whole := Directory{Path: dir, Whole: true, Sets: []Set{a, b}}
	for _, tc := range []struct {
		name  string
		paths []string
		want  []Directory
	}{
		{"a directory", []string{dir}, []Directory{whole}},
		{"a directory and a file in it", []string{filepath.Join(dir, "a.tar"), dir + "/"}, []Directory{whole}},
		{"one file", []string{filepath.Join(dir, "a.tar")}, []Directory{{Path: dir, Sets: []Set{a}}}},
		{"any chunk stands for the set", []string{filepath.Join(dir, "b.tar.0001.chunk")}, []Directory{{Path: dir, Sets: []Set{b}}}},
		{"several files, one twice", []string{filepath.Join(dir, "b.tar.0001.chunk"), filepath.Join(dir, "a.tar"), filepath.Join(dir, "b.tar.0000.chunk")},
			[]Directory{{Path: dir, Sets: []Set{a, b}}}},
		{"S7.1.4, however spelled", []string{"a.tar", filepath.Join(dir, "a.tar"), filepath.Join(linked, "b.tar.0000.chunk"), "../" + filepath.Base(dir) + "/a.tar"},
			[]Directory{{Path: dir, Sets: []Set{a, b}}}},
		{"S7.1.4, directories", []string{dir, other}, []Directory{{Path: other, Whole: true, Sets: []Set{a, z}}, whole}},
		{"S7.1.4, a directory and a file of another", []string{dir, filepath.Join(other, "z.tar.0000.chunk")}, []Directory{{Path: other, Sets: []Set{z}}, whole}},
		{"S7.1.4, files of two", []string{filepath.Join(dir, "a.tar"), filepath.Join(other, "a.tar")}, []Directory{{Path: other, Sets: []Set{a}}, {Path: dir, Sets: []Set{a}}}},
	} {
		got, err := Find(tc.paths)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	for _, paths := range [][]string{
		nil,
		{filepath.Join(dir, "nowhere.tar")},
		{filepath.Join(dir, "platform.txt")},
		{filepath.Join(dir, "platform.chunk")},
		{filepath.Join(dir, "c.tar.abcd.chunk")},
		{filepath.Join(dir, "platform.0000.chunk")},
		{filepath.Join(dir, "dir.tar")}, // a directory without archives
		{filepath.Join(dir, "a.tar"), t.TempDir()},
		{dir, filepath.Join(t.TempDir(), "a.tar")},
		{filepath.Join(dir, "a.tar"), filepath.Join(t.TempDir(), "b.tar")},
	} {
		_, err := Find(paths)
		wantFault(t, err, fault.Usage)
	}
}

// S7.1.4, S7.4.5: archives of several directories are taken together; one name
// in two of them is one archive, and the same tag for two images is refused,
// with both places named.
func TestImportSeveralDirectories(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(one, "a.tar"), makeTar(t, layoutOf("p", "A", "v1")...))
	writeFile(t, filepath.Join(two, "a.tar"), makeTar(t, append(layoutOf("p", "B", "v2"), layoutOf("q", "C", "v1")...)...))
	writeFile(t, filepath.Join(two, "b.tar"), makeTar(t, layoutOf("r", "A", "v1")...))
	writeFile(t, filepath.Join(two, "unwanted.tar"), []byte("damaged"))
	contents, err := importPaths(t, one, filepath.Join(two, "b.tar"), filepath.Join(two, "a.tar"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, im := range contents.Images {
		got = append(got, im.Archive+" "+im.Path+":"+im.Tag)
	}
	if diff := cmp.Diff([]string{"a p:v1", "a p:v2", "a q:v1", "b r:v1"}, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if len(contents.Archives) != 2 {
		t.Errorf("archives %v, want a and b", contents.Archives)
	}
	three := t.TempDir()
	writeFile(t, filepath.Join(three, "a.tar"), makeTar(t, layoutOf("p", "D", "v1")...))
	_, err = importPaths(t, one, three)
	wantDamaged(t, err, filepath.Join(one, "a.tar"), filepath.Join(three, "a.tar"), "p:v1")
	_, err = importPaths(t, one, two)
	wantDamaged(t, err, two, "unwanted.tar")
}

// S6.11, S7.1.4: an update stays one among others: what its document takes for
// granted is kept, unless an archive brings it, which must be the same image.
func TestImportKeepsWhatUpdatesAssume(t *testing.T) {
	image := func(path, tag, layer string) contract.Assumed {
		return contract.Assumed{Path: path, Tag: tag, Digest: imageDigest(layer)}
	}
	missing := contract.Skipped{Source: "h/gone:v1", Path: "gone", Tag: "v1", Reason: "r"}
	for _, tc := range []struct {
		name    string
		assumed []contract.Assumed
		want    []contract.Assumed
		refused string
	}{
		{"kept", []contract.Assumed{image("x", "v1", "X")}, []contract.Assumed{image("x", "v1", "X")}, ""},
		{"brought by the other", []contract.Assumed{image("r", "v1", "A"), image("x", "v1", "X")}, []contract.Assumed{image("x", "v1", "X")}, ""},
		{"brought, but another image", []contract.Assumed{image("r", "v1", "B")}, nil, "r:v1"},
	} {
		update, base := t.TempDir(), t.TempDir()
		writeFile(t, filepath.Join(update, "p.tar"), makeTar(t, layoutOf("p", "A", "v1")...))
		writeFile(t, filepath.Join(base, "r.tar"), makeTar(t, layoutOf("r", "A", "v1")...))
		found, err := Find([]string{update})
		if err != nil {
			t.Fatal(err)
		}
		files, contents, err := Import(t.Context(), found, plainRules{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		contents.Assumed, contents.Skipped = tc.assumed, []contract.Skipped{missing}
		if found, err = Find([]string{update, base}); err != nil {
			t.Fatal(err)
		}
		for i := range found {
			if found[i].Path == update {
				found[i].Document = &contract.BundleSpec{Archives: files[0].Archives, Contents: *contents}
			}
		}
		_, got, err := Import(t.Context(), found, plainRules{}, nil)
		if tc.refused != "" {
			wantDamaged(t, err, tc.refused)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got.Assumed); diff != "" {
			t.Errorf("%s: assumed (-want +got):\n%s", tc.name, diff)
		}
		if diff := cmp.Diff([]contract.Skipped{missing}, got.Skipped); diff != "" {
			t.Errorf("%s: skipped (-want +got):\n%s", tc.name, diff)
		}
	}
}

// S7.1.1, S7.1.4: of a directory among several, the document says what it must
// hold: nothing less, nothing more, and no other bytes.
func TestImportHeedsDocuments(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(dir string)
		want   string // "" is accepted
	}{
		{"whole", func(string) {}, ""},
		{"a file is missing", func(dir string) { os.Remove(filepath.Join(dir, "q.tar")) }, "q.tar"},
		{"a foreign one", func(dir string) { writeFile(t, filepath.Join(dir, "z.tar"), makeTar(t, layoutOf("z", "Z", "v1")...)) }, "z.tar"},
		{"another archive of the same size", func(dir string) { writeFile(t, filepath.Join(dir, "q.tar"), makeTar(t, layoutOf("q", "C", "v1")...)) }, "bundle.json"},
	} {
		dir, other := t.TempDir(), t.TempDir()
		writeFile(t, filepath.Join(dir, "p.tar"), makeTar(t, layoutOf("p", "A", "v1")...))
		writeFile(t, filepath.Join(dir, "q.tar"), makeTar(t, layoutOf("q", "B", "v1")...))
		writeFile(t, filepath.Join(other, "r.tar"), makeTar(t, layoutOf("r", "A", "v1")...))
		found, err := Find([]string{dir})
		if err != nil {
			t.Fatal(err)
		}
		files, contents, err := Import(t.Context(), found, plainRules{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		document := &contract.BundleSpec{Archives: files[0].Archives, Contents: *contents}
		tc.change(dir)
		if found, err = Find([]string{dir, filepath.Join(other, "r.tar")}); err != nil {
			t.Fatal(err)
		}
		for i := range found {
			if found[i].Whole {
				found[i].Document = document
			}
		}
		_, _, err = Import(t.Context(), found, plainRules{}, nil)
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		wantDamaged(t, err, dir, tc.want)
	}
}

// S6.6.3.
func TestFindNamesEveryGap(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.tar.0001.chunk", "a.tar.0003.chunk", "b.tar.999999999.chunk"} {
		writeFile(t, filepath.Join(dir, name), nil)
	}
	_, err := Find([]string{dir})
	wantDamaged(t, err, "a.tar.0000.chunk", "a.tar.0002.chunk", "b.tar.0000.chunk")
	if strings.Contains(err.Error(), "a.tar.0001.chunk") {
		t.Errorf("a chunk that is there is called missing: %v", err)
	}
}

// Whatever an archive holds, it is imported whole or refused as damaged; what
// is imported can be packed again and verified.
func FuzzImport(f *testing.F) {
	f.Add(makeTar(f, layoutOf("p", "A", "v1")...))
	f.Add(makeTar(f, append(layoutOf("", "A", "v1"), indexEntry("x", "null"))...))
	for _, tc := range hostile {
		f.Add(makeTar(f, tc.header))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "x.tar"), data)
		archives, contents, err := Import(t.Context(), []Directory{{Path: dir, Sets: []Set{{Name: "x", Files: []string{"x.tar"}}}}}, plainRules{}, nil)
		if err != nil {
			if fault.KindOf(err) != fault.Damaged {
				t.Errorf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		content, err := Open(archives)
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		again := t.TempDir()
		packed, err := Write(t.Context(), again, contents, content, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(t.Context(), again, &contract.BundleSpec{Archives: packed, Contents: *contents}, nil); err != nil {
			t.Error(err)
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":null}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":` + descriptors(newBuilder().image("A"), "v1", "v1", "v2") + `}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseIndex(data)
		if err != nil {
			return
		}
		last := ""
		for _, d := range list {
			if !oci.ValidTag(d.tag()) || !d.Digest.Valid() || d.Size < 0 || d.tag() <= last {
				t.Errorf("accepted %+v after tag %q", d, last)
			}
			last = d.tag()
		}
	})
}
