package e2e

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/e2e/measure"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// sandbox is a directory around the work of a program, in which nothing may change
// but below work.
type sandbox struct{ root, victim, work string }

func newSandbox(t *testing.T) sandbox {
	t.Helper()
	root := memoryDir(t)
	s := sandbox{root, filepath.Join(root, "victim"), filepath.Join(root, "a", "b", "work")}
	if err := os.MkdirAll(s.work, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{s.victim, filepath.Join(root, "a", "victim"), filepath.Join(root, "a", "b", "victim")} {
		if err := os.WriteFile(name, []byte("as it was"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// outside is everything in the sandbox that is not the program's.
func (s sandbox) outside(t *testing.T) map[string]string {
	t.Helper()
	seen := map[string]string{}
	err := filepath.Walk(s.root, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if path == s.work {
			return filepath.SkipDir
		}
		seen[path] = info.Mode().String()
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			seen[path] += " " + string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// hostileEntry is a tar entry, with its header changed in ways that no writer of
// tars allows.
type hostileEntry struct {
	header tar.Header
	data   string
	spoil  func(header []byte) // before its checksum is made anew
}

func (e hostileEntry) bytes(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if e.header.Typeflag == 0 {
		e.header.Typeflag = tar.TypeReg
	}
	e.header.Mode, e.header.Size = 0o644, int64(len(e.data))
	if err := w.WriteHeader(&e.header); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(e.data)); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	out := buf.Bytes()
	if e.spoil != nil {
		e.spoil(out[:512])
		checksum(out[:512])
	}
	return out
}

func checksum(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// pax is an extended header with records as they are, which may lie; the entry
// that it belongs to follows.
func pax(records map[string]string) []byte {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(records)) {
		record := " " + key + "=" + records[key] + "\n"
		size := len(record) + 1
		for len(fmt.Sprint(size))+len(record) != size {
			size++
		}
		fmt.Fprint(&text, size, record)
	}
	return rawEntry('x', "PaxHeaders/x", text.String())
}

func rawEntry(typeflag byte, name, data string) []byte {
	header := make([]byte, 512)
	copy(header, name)
	copy(header[100:], "0000644\x000000000\x000000000\x00")
	copy(header[124:], fmt.Sprintf("%011o\x00", len(data)))
	copy(header[136:], "00000000000\x00")
	header[156] = typeflag
	copy(header[257:], "ustar\x0000")
	checksum(header)
	padding := make([]byte, (512-len(data)%512)%512)
	return slices.Concat(header, []byte(data), padding)
}

// base256 writes a size as GNU tar does when octal digits do not suffice.
func base256(size int64) func([]byte) {
	return func(header []byte) {
		field := header[124:136]
		for i := range field {
			field[len(field)-1-i] = byte(size >> (8 * min(i, 7)))
			if i > 7 {
				field[len(field)-1-i] = byte(size >> 63)
			}
		}
		field[0] |= 0x80
	}
}

func typed(typeflag byte, name, link string) hostileEntry {
	return hostileEntry{header: tar.Header{Typeflag: typeflag, Name: name, Linkname: link}}
}

func plainEntry(name, data string) hostileEntry {
	return hostileEntry{header: tar.Header{Name: name}, data: data}
}

// layoutWith is a layout at path whose one tag leads to a manifest of any text.
func layoutWith(t *testing.T, path, mediaType, manifest string) []byte {
	t.Helper()
	digest := oci.DigestOf([]byte(manifest))
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"size":%d,"digest":%q,"annotations":{"io.deckhouse.image.short_tag":"v1"}}]}`,
		mediaType, len(manifest), digest)
	return slices.Concat(
		plainEntry(path+"/index.json", index).bytes(t),
		plainEntry(path+"/oci-layout", `{"imageLayoutVersion":"1.0.0"}`).bytes(t),
		plainEntry(path+"/blobs/sha256/"+digest.Hex(), manifest).bytes(t),
	)
}

// hostileTars are what is put behind the layouts of an archive that is good.
func hostileTars(t *testing.T, s sandbox, twin string) map[string][]byte {
	t.Helper()
	const layer = `{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":1,"digest":"sha256:`
	hex := strings.Repeat("0", 64)
	image := func(text string) []byte { return layoutWith(t, "install", oci.MediaTypeManifest, text) }
	deep := strings.Repeat(`{"a":`, 200_000) + "1" + strings.Repeat("}", 200_000)
	sparse := strings.Repeat("0,1,", 1<<18)
	return map[string][]byte{
		// B4: names.
		"climbing":               plainEntry("../victim", "x").bytes(t),
		"climbing far":           plainEntry("a/../../../../victim", "x").bytes(t),
		"absolute":               plainEntry(s.victim, "x").bytes(t),
		"backslashes":            plainEntry(`..\..\victim`, "x").bytes(t),
		"drive letter":           plainEntry("C:/victim", "x").bytes(t),
		"the directory itself":   plainEntry(".", "x").bytes(t),
		"climbing by pax":        slices.Concat(pax(map[string]string{"path": "../../victim"}), plainEntry("harmless", "x").bytes(t)),
		"nul by pax":             slices.Concat(pax(map[string]string{"path": "harmless\x00/../../victim"}), plainEntry("harmless", "x").bytes(t)),
		"climbing by long name":  slices.Concat(rawEntry('L', "././@LongLink", strings.Repeat("../", 100)+"victim\x00"), plainEntry("harmless", "x").bytes(t)),
		"a name of 4 MiB":        slices.Concat(rawEntry('L', "././@LongLink", strings.Repeat("a", 4<<20)+"\x00"), plainEntry("harmless", "x").bytes(t)),
		"blob that climbs":       plainEntry("install/blobs/sha256/../../../../victim", "x").bytes(t),
		"layout that climbs":     layoutWith(t, "../install", oci.MediaTypeManifest, "{}"),
		"layout in upper case":   layoutWith(t, "INSTALLER", oci.MediaTypeManifest, "{}"),
		"the same file twice":    plainEntry(twin, "{}").bytes(t),
		"twice, spelt otherwise": plainEntry("./"+strings.Replace(twin, "/", "//", 1), "{}").bytes(t),
		// B4: types.
		"symbolic link":            typed(tar.TypeSymlink, "x", s.victim).bytes(t),
		"link, and a file by it":   slices.Concat(typed(tar.TypeSymlink, "x", "../..").bytes(t), plainEntry("x/victim", "y").bytes(t)),
		"hard link":                typed(tar.TypeLink, "x", "../../victim").bytes(t),
		"hard link to a blob":      typed(tar.TypeLink, "x", twin).bytes(t),
		"link by pax":              slices.Concat(pax(map[string]string{"linkpath": "../../victim"}), typed(tar.TypeSymlink, "x", "y").bytes(t)),
		"character device":         typed(tar.TypeChar, "x", "").bytes(t),
		"block device":             typed(tar.TypeBlock, "x", "").bytes(t),
		"pipe":                     typed(tar.TypeFifo, "x", "").bytes(t),
		"a type that nobody knows": rawEntry('Z', "x", ""),
		"volume of several":        rawEntry('M', "x", "y"),
		// B15: sizes and sparse files.
		"sparse, old":            rawEntry('S', "x", ""),
		"sparse, by pax":         slices.Concat(pax(map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "../victim", "GNU.sparse.realsize": "9000000000000000000"}), plainEntry("x", "1\n0\n1\n").bytes(t)),
		"sparse, a long map":     slices.Concat(pax(map[string]string{"GNU.sparse.map": sparse[:len(sparse)-1], "GNU.sparse.numblocks": fmt.Sprint(1 << 18), "GNU.sparse.size": "9000000000000000000"}), plainEntry("x", "y").bytes(t)),
		"huge":                   hostileEntry{header: tar.Header{Name: "x"}, data: "y", spoil: base256(1 << 62)}.bytes(t),
		"huge blob":              hostileEntry{header: tar.Header{Name: "install/blobs/sha256/" + hex}, data: "y", spoil: base256(1 << 40)}.bytes(t),
		"huge index":             hostileEntry{header: tar.Header{Name: "install/index.json"}, data: "y", spoil: base256(1 << 40)}.bytes(t),
		"negative size":          hostileEntry{header: tar.Header{Name: "x"}, data: "y", spoil: base256(-512)}.bytes(t),
		"huge by pax":            slices.Concat(pax(map[string]string{"size": "9000000000000000000"}), plainEntry("x", "y").bytes(t)),
		"negative by pax":        slices.Concat(pax(map[string]string{"size": "-1"}), plainEntry("x", "y").bytes(t)),
		"extended header, huge":  hostileEntry{header: tar.Header{Name: "x"}, data: "y", spoil: func(h []byte) { h[156] = 'x'; base256(1 << 40)(h) }}.bytes(t),
		"index of deep nesting":  plainEntry("install/index.json", deep).bytes(t),
		"header of a wrong sum":  func() []byte { h := rawEntry('0', "x", "y"); h[148] ^= 1; return h }(),
		"blob of another digest": plainEntry("installer/blobs/sha256/"+hex, "x").bytes(t),
		// B17: manifests that are none.
		"manifest that is null":      image("null"),
		"manifest that is a list":    image("[]"),
		"manifest that is a page":    image("<html>"),
		"manifest of nothing":        image("{}"),
		"manifest of deep nesting":   image(deep),
		"layer that is missing":      image(`{"schemaVersion":2,"config":` + layer + hex + `"},"layers":[` + layer + hex + `"}]}`),
		"digest that climbs":         image(`{"schemaVersion":2,"config":` + layer + `../../victim"},"layers":[]}`),
		"size below nothing":         image(`{"schemaVersion":2,"config":{"mediaType":"a/b","size":-1,"digest":"sha256:` + hex + `"},"layers":[]}`),
		"null for a layer":           image(`{"schemaVersion":2,"config":` + layer + hex + `"},"layers":[null]}`),
		"image and index at once":    image(`{"schemaVersion":2,"config":` + layer + hex + `"},"layers":[],"manifests":[]}`),
		"index that says image":      image(`{"schemaVersion":2,"manifests":[` + layer + hex + `"}]}`),
		"index of a missing image":   layoutWith(t, "install", oci.MediaTypeIndex, `{"schemaVersion":2,"manifests":[`+layer+hex+`"}]}`),
		"a type that is no manifest": layoutWith(t, "install", "text/html", "{}"),
	}
}

// bundleMemoryCap is more than any small bundle needs, and less than what a hostile size
// asks for.
const bundleMemoryCap = 192 << 20 // bytes

// Archives that were made to harm are refused with 65 by everything that reads
// archives; nothing is written but below the places that were named, and the
// memory does not follow what a header says.
//
// B4, B15, B17, S9 row 58.
func TestHostileArchives(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	good, err := os.ReadFile(filepath.Join(packed(t, src.Host), "installer.tar"))
	if err != nil {
		t.Fatal(err)
	}
	first, err := tar.NewReader(bytes.NewReader(good)).Next()
	if err != nil {
		t.Fatal(err)
	}
	meter, err := measure.NewRunner(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cases := hostileTars(t, newSandbox(t), first.Name)
	t.Attr("figure:hostile-inputs", fmt.Sprint(len(cases)))
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t)
			bad := hostileTars(t, s, first.Name)[name] // with this sandbox's victim
			disk, store := filepath.Join(s.work, "disk"), filepath.Join(s.work, "store")
			if err := os.Mkdir(disk, 0o755); err != nil {
				t.Fatal(err)
			}
			archive := slices.Concat(good[:len(good)-1024], bad, make([]byte, 1024))
			if err := os.WriteFile(filepath.Join(disk, "installer.tar"), archive, 0o644); err != nil {
				t.Fatal(err)
			}
			before := s.outside(t)
			for _, args := range [][]string{{disk}, {disk, "--to", store}} {
				cmd := program(t, "ferry-unpack", args...)
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				used, _ := meter.Run(cmd) // its error is the status below
				if code := cmd.ProcessState.ExitCode(); code != 65 || stdout.Len() > 0 {
					t.Errorf("unpack %q: exit status %d, want 65 and no document\n%.500s", args, code, stderr.String())
				}
				if used.Peak > bundleMemoryCap {
					t.Errorf("unpack %q: %d bytes of memory", args, used.Peak)
				}
			}
			if blobs, _ := filepath.Glob(filepath.Join(store, "blobs", "*", "*")); len(blobs) > 0 {
				t.Errorf("of an archive that is refused there are blobs: %v", blobs)
			}
			target := registrytest.Start(t, registrytest.New())
			if r := try(t, "", "ferry-push", disk, target.Host+"/mirror", "--insecure"); r.code != 65 || len(target.Writes()) > 0 {
				t.Errorf("push: exit status %d, writes %v", r.code, target.Writes())
			}
			if diff := gocmp.Diff(before, s.outside(t)); diff != "" {
				t.Errorf("outside of the work (-before +after):\n%s", diff)
			}
		})
	}
}

// textField is what a field says at one place, and how it is made to say something
// else.
type textField struct {
	text string
	set  func(string)
}

// textFields are the fields of a document that hold text, by the names that lead
// there. Of a field's places that one is taken whose text the fewest other fields
// have: what refers to it can then be changed with it, and nothing else.
func textFields(value any) map[string]textField {
	places := map[string][]textField{}
	collectFields(value, "", places)
	usedBy := map[string]map[string]bool{} // names of fields, by text
	for name, list := range places {
		for _, place := range list {
			if usedBy[place.text] == nil {
				usedBy[place.text] = map[string]bool{}
			}
			usedBy[place.text][name] = true
		}
	}
	fields := map[string]textField{}
	for name, list := range places {
		fields[name] = slices.MinFunc(list, func(a, b textField) int {
			return cmp.Or(cmp.Compare(len(usedBy[a.text]), len(usedBy[b.text])), cmp.Compare(a.text, b.text))
		})
	}
	return fields
}

func collectFields(value any, path string, places map[string][]textField) {
	note := func(name string, inner any, set func(string)) {
		if text, isText := inner.(string); isText {
			places[name] = append(places[name], textField{text, set})
		}
		collectFields(inner, name, places)
	}
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			note(path+"."+key, inner, func(text string) { v[key] = text })
		}
	case []any:
		for i, inner := range v {
			note(path+"[]", inner, func(text string) { v[i] = text })
		}
	}
}

// harmlessFields are for people, or are references to where something came from:
// no path is made of them.
var harmlessFields = []string{
	".metadata.generator", ".metadata.inputs[].name", ".metadata.inputs[].kind", ".spec.contents.source", ".spec.contents.vendor",
	".reason", ".overview.", ".spec.contents.skipped[]", ".images[].source", ".spec.vendor", ".spec.source",
}

func harmless(field string) bool {
	return slices.ContainsFunc(harmlessFields, func(part string) bool { return strings.Contains(field, part) })
}

// Every field of every document that holds text is given a path that climbs. What
// becomes a path or an address is refused with 65, when the document is read; what
// is for people may stay. Nothing is written outside.
//
// B5.
func TestHostileDocuments(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	store := t.TempDir()
	selection := run(t, run(t, "", "ferry-discover", discoverArgs(src.Host)...), "ferry-select")
	inventory := run(t, selection, "ferry-fetch", "--store", store, "--insecure")
	whole := t.TempDir()
	document := run(t, inventory, "ferry-pack", whole)
	for _, reader := range []struct {
		name, document string
		run            func(t *testing.T, s sandbox, text string) result
	}{
		{"unpack", document, func(t *testing.T, s sandbox, text string) result {
			disk := filepath.Join(s.work, "disk")
			if err := os.CopyFS(disk, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(disk, "bundle.json"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			return try(t, "", "ferry-unpack", disk, "--to", filepath.Join(s.work, "store"))
		}},
		{"pack", inventory, func(t *testing.T, s sandbox, text string) result {
			return try(t, text, "ferry-pack", filepath.Join(s.work, "disk"))
		}},
		{"pack layouts", inventory, func(t *testing.T, s sandbox, text string) result {
			return try(t, text, "ferry-pack", filepath.Join(s.work, "disk"), "--layouts")
		}},
		{"fetch", selection, func(t *testing.T, s sandbox, text string) result {
			return try(t, text, "ferry-fetch", "--insecure", "--retries", "0", "--store", filepath.Join(s.work, "store"), "--bundle", filepath.Join(s.work, "disk"))
		}},
	} {
		t.Run(reader.name, func(t *testing.T) {
			names := textFields(parsed(t, reader.document))
			t.Attr("figure:hostile-inputs", fmt.Sprint(2*len(names)))
			refused := 0
			for _, field := range slices.Sorted(maps.Keys(names)) {
				for _, everywhere := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/everywhere=%v", field, everywhere), func(t *testing.T) {
						s := newSandbox(t)
						before := s.outside(t)
						r := reader.run(t, s, climbing(t, reader.document, field, everywhere))
						switch {
						case r.code == 65:
							refused++
						case r.code == 0 && harmless(field):
						default:
							t.Errorf("exit status %d, want 65\n%.1000s", r.code, r.stderr)
						}
						if diff := gocmp.Diff(before, s.outside(t)); diff != "" {
							t.Errorf("outside of the work (-before +after):\n%s", diff)
						}
					})
				}
			}
			if refused < 5 {
				t.Errorf("only %d fields were refused", refused)
			}
		})
	}
}

// climbing is a document whose field climbs, in its first place or wherever the
// document has the same text: else it would be refused for not fitting the rest.
func climbing(t *testing.T, document, field string, everywhere bool) string {
	t.Helper()
	const path = "../../victim"
	value := parsed(t, document)
	place := textFields(value)[field]
	place.set(path)
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if everywhere {
		quoted, err := json.Marshal(place.text)
		if err != nil {
			t.Fatal(err)
		}
		text = regexp.MustCompile(`([:,\[])`+regexp.QuoteMeta(string(quoted))+`([,\]}])`).ReplaceAll(text, []byte(`${1}"`+path+`"${2}`))
	}
	return string(text)
}

func parsed(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return value
}
