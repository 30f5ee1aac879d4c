package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
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

// S6.3, S9 rows 25 and 53.
func TestWriteFormat(t *testing.T) {
	dir, doc := written(t, 0)
	var names []string
	for _, a := range doc.Archives {
		text := joined(t, dir, a)
		if len(text)%blockSize != 0 || !bytes.Equal(text[len(text)-2*blockSize:], make([]byte, 2*blockSize)) {
			t.Errorf("%s has %d bytes and not two blocks of zeros at its end", a.Name, len(text))
		}
		r := tar.NewReader(bytes.NewReader(text))
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, h.Name)
			if h.Typeflag != tar.TypeReg || h.Mode != 0o777 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.ModTime.Unix() != 0 || h.Format != tar.FormatGNU {
				t.Errorf("%s has header %+v", h.Name, h)
			}
		}
	}
	for i, n := range names {
		if j := strings.Index(n, blobsDir); j >= 0 {
			names[i] = n[:j] + blobsDir + "*"
		}
	}
	want := []string{
		longPath + "/blobs/sha256/*", longPath + "/index.json", longPath + "/oci-layout",
		"blobs/sha256/*", "index.json",
		"install/blobs/sha256/*", "install/index.json", "install/oci-layout",
		"install-standalone/index.json", "install-standalone/oci-layout",
		"oci-layout",
		"release-channel/blobs/sha256/*", "release-channel/index.json", "release-channel/oci-layout",
		"blobs/sha256/*", "index.json", "oci-layout",
	}
	if diff := cmp.Diff(want, slices.Compact(names)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

// S6.4.1, S6.4.2, S6.4.3, S6.5.1, S6.5.2, S6.5.3, S6.5.5.
func TestWriteIndex(t *testing.T) {
	b := newBuilder()
	b.archive("a", "empty")
	image := b.image("x")
	index := b.index(image)
	b.tag("a", "r", "z", image)
	b.tag("a", "r", "m", index)
	contents := b.done(t)
	contents.Images[0].Source, contents.Images[1].Source = "h/same:t", "h/same:t"
	dir := t.TempDir()
	if _, err := Write(t.Context(), dir, contents, b.store, Options{}); err != nil {
		t.Fatal(err)
	}
	got := entriesOf(t, filepath.Join(dir, "a.tar"))
	want := map[string]string{
		"empty/oci-layout": "{\n    \"imageLayoutVersion\": \"1.0.0\"\n}",
		"empty/index.json": "{\n  \"schemaVersion\": 2,\n  \"mediaType\": \"application/vnd.oci.image.index.v1+json\",\n  \"manifests\": []\n}",
		"r/index.json": `{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.index.v1+json",
  "manifests": [
    {
      "mediaType": "application/vnd.oci.image.index.v1+json",
      "size": ` + strconv.FormatInt(index.Size, 10) + `,
      "digest": "` + string(index.Digest) + `",
      "annotations": {
        "io.deckhouse.image.short_tag": "m",
        "org.opencontainers.image.ref.name": "h/same:t"
      }
    },
    {
      "mediaType": "application/vnd.oci.image.manifest.v1+json",
      "size": ` + strconv.FormatInt(image.Size, 10) + `,
      "digest": "` + string(image.Digest) + `",
      "annotations": {
        "io.deckhouse.image.short_tag": "z",
        "org.opencontainers.image.ref.name": "h/same:t"
      },
      "platform": {
        "architecture": "",
        "os": ""
      }
    }
  ]
}`,
	}
	for name, text := range want {
		if diff := cmp.Diff(text, string(got[name])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// S6.6.1, S6.6.2, S9 row 81.
func TestChunksJoinToTheArchive(t *testing.T) {
	dir, whole := written(t, 0)
	for _, a := range whole.Archives {
		for _, size := range []int64{1000, 512, 513, a.Size / 2, a.Size - 1, a.Size, a.Size + 1} {
			chunkedDir, chunked := written(t, size)
			i := slices.IndexFunc(chunked.Archives, func(c contract.ArchiveFiles) bool { return c.Name == a.Name })
			c := chunked.Archives[i]
			if !bytes.Equal(joined(t, chunkedDir, c), joined(t, dir, a)) {
				t.Errorf("chunks of %d bytes do not join to %s", size, a.Name)
			}
			if c.Size != a.Size || c.Digest != a.Digest {
				t.Errorf("chunks of %d bytes are %d bytes, %s in all; want %d, %s", size, c.Size, c.Digest, a.Size, a.Digest)
			}
			for j, f := range c.Files {
				data := readFile(t, filepath.Join(chunkedDir, f.Name))
				last := j == len(c.Files)-1
				if int64(len(data)) != f.Size || oci.DigestOf(data) != f.Digest || !last && f.Size != size || last && (f.Size == 0 || f.Size > size) {
					t.Errorf("%s has %d bytes, its record says %+v", f.Name, len(data), f)
				}
			}
		}
	}
}

// S9 row 40.
func TestWriteTwiceGivesTheSameBytes(t *testing.T) {
	_, first := written(t, 700)
	_, second := written(t, 700)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("(-first +second):\n%s", diff)
	}
}

// S5.3.6, S9 row 87.
func TestWriteBelievesNoBlob(t *testing.T) {
	for name, spoil := range map[string]func(m *memory, d oci.Digest){
		"missing": func(m *memory, d oci.Digest) { delete(m.blobs, d) },
		"altered": func(m *memory, d oci.Digest) { m.blobs[d] = append([]byte("X"), m.blobs[d][1:]...) },
		"longer":  func(m *memory, d oci.Digest) { m.blobs[d] = append(m.blobs[d], 'x') },
		"shorter": func(m *memory, d oci.Digest) { m.blobs[d] = m.blobs[d][1:] },
	} {
		t.Run(name, func(t *testing.T) {
			contents, content := sample(t)
			d := oci.DigestOf([]byte("seventy"))
			spoil(content, d)
			dir := t.TempDir()
			_, err := Write(t.Context(), dir, contents, content, Options{Parallel: 1})
			wantDamaged(t, err, string(d))
			if diff := cmp.Diff([]string{journalName, "module-a.tar"}, fileNames(t, dir)); diff != "" {
				t.Errorf("left behind (-want +got):\n%s", diff)
			}
		})
	}
}

// S6.10, S9 row 85.
func TestWriteContinues(t *testing.T) {
	contents, content := sample(t)
	dir := t.TempDir()
	layer := oci.DigestOf([]byte("seventy"))
	kept := content.blobs[layer]
	delete(content.blobs, layer)
	opts := Options{ChunkSize: 1500, Parallel: 1}
	if _, err := Write(t.Context(), dir, contents, content, opts); err == nil {
		t.Fatal("wrote a blob that is not there")
	}
	content.blobs[layer] = kept
	before, err := os.Stat(filepath.Join(dir, "module-a.tar.0000.chunk"))
	if err != nil {
		t.Fatal(err)
	}

	archives, err := Write(t.Context(), dir, contents, content, opts)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(filepath.Join(dir, "module-a.tar.0000.chunk"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("a finished archive was written again")
	}
	_, want := written(t, 1500)
	if diff := cmp.Diff(want.Archives, archives); diff != "" {
		t.Errorf("continued (-at once +continued):\n%s", diff)
	}

	// A run after a finished one opens nothing, believes nothing, and needs no
	// force.
	finish(t, dir, contents, archives)
	content.opened.Store(0)
	again, err := Write(t.Context(), dir, contents, content, opts)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(archives, again); diff != "" || content.opened.Load() != 0 {
		t.Errorf("opened %d blobs; archives (-first +again):\n%s", content.opened.Load(), diff)
	}
	chunk := filepath.Join(dir, archives[1].Files[1].Name)
	data := readFile(t, chunk)
	data[17] ^= 1
	writeFile(t, chunk, data)
	if again, err = Write(t.Context(), dir, contents, content, opts); err != nil {
		t.Fatal(err)
	}
	if content.opened.Load() == 0 || oci.DigestOf(readFile(t, chunk)) != again[1].Files[1].Digest {
		t.Error("a damaged chunk of a finished archive was believed")
	}
	if err := os.Remove(chunk); err != nil {
		t.Fatal(err)
	}
	if again, err = Write(t.Context(), dir, contents, content, opts); err != nil {
		t.Fatal(err)
	}
	if err := Verify(t.Context(), dir, finish(t, dir, contents, again), nil); err != nil {
		t.Error(err)
	}
	if slices.Contains(fileNames(t, dir), journalName) {
		t.Error("the journal outlives a finished bundle")
	}
}

// A run that is killed between a rename and its journal leaves files that the
// journal does not call finished. They are ours all the same.
func TestWriteAfterAKillBeforeTheJournal(t *testing.T) {
	contents, content := sample(t)
	dir := t.TempDir()
	archives, err := Write(t.Context(), dir, contents, content, Options{})
	if err != nil {
		t.Fatal(err)
	}
	j, err := loadJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := j.records["platform"]
	r.Archive = contract.ArchiveFiles{}
	if err := j.set("platform", r); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "platform.tar"), []byte("half"))
	again, err := Write(t.Context(), dir, contents, content, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(archives, again); diff != "" {
		t.Errorf("(-first +again):\n%s", diff)
	}
	if err := Verify(t.Context(), dir, &contract.BundleSpec{Archives: again, Contents: *contents}, nil); err != nil {
		t.Error(err)
	}
}

func TestWriteIntoADirectoryWithArchives(t *testing.T) {
	small := func(t *testing.T) (*contract.Contents, *memory) {
		b := newBuilder()
		b.archive("platform")
		b.tag("platform", "", "v1.70.0", b.image("seventy"))
		return b.done(t), b.store
	}
	for _, tc := range []struct {
		name      string
		before    func(t *testing.T, dir string)
		chunkSize int64
		force     bool
		refused   string   // part of the error
		want      []string // the directory afterwards
	}{
		{
			name: "other files are left alone",
			before: func(t *testing.T, dir string) {
				writeFile(t, filepath.Join(dir, "deckhousereleases.yaml"), nil)
				writeFile(t, filepath.Join(dir, "x.tar.gostsum"), nil)
			},
			want: []string{"bundle.json", "deckhousereleases.yaml", "platform.tar", "x.tar.gostsum"},
		},
		{
			name:    "the sum of an archive that will be another", // S6.7
			before:  func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "platform.tar.gostsum"), nil) },
			refused: "platform.tar.gostsum",
		},
		{
			name:   "the sum of an archive that will be another, forced",
			before: func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "platform.tar.gostsum"), nil) },
			force:  true,
			want:   []string{"bundle.json", "platform.tar"},
		},
		{
			name: "another bundle with sums, forced", // S6.7
			before: func(t *testing.T, dir string) {
				contents, content := sample(t)
				archives, err := Write(t.Context(), dir, contents, content, Options{Gost: true, ChunkSize: 3000})
				must(t, err)
				finish(t, dir, contents, archives)
			},
			force: true,
			want:  []string{"bundle.json", "platform.tar"},
		},
		{
			name:    "an archive of another tool",
			before:  func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "security.tar"), nil) },
			refused: "security.tar",
		},
		{
			name:    "force does not remove what ferry did not write",
			before:  func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "security.tar"), nil) },
			force:   true,
			refused: "security.tar",
		},
		{
			name:    "the same name by another tool",
			before:  func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "platform.tar"), nil) },
			refused: "platform.tar",
		},
		{
			name:   "the same name by another tool, forced",
			before: func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "platform.tar"), nil) },
			force:  true,
			want:   []string{"bundle.json", "platform.tar"},
		},
		{
			name:    "a stale chunk beside the plain archive",
			before:  func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "platform.tar.0007.chunk"), nil) },
			refused: "platform.tar.0007.chunk",
		},
		{
			name:   "a stale chunk, forced",
			before: func(t *testing.T, dir string) { writeFile(t, filepath.Join(dir, "platform.tar.0007.chunk"), nil) },
			force:  true,
			want:   []string{"bundle.json", "platform.tar"},
		},
		{
			name:    "another bundle",
			before:  writeSampleInto,
			refused: "module-a.tar",
		},
		{
			name:      "another bundle in the other form, forced",
			before:    writeSampleInto,
			chunkSize: 8192,
			force:     true,
			want:      []string{"bundle.json", "platform.tar.0000.chunk"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			tc.before(t, dir)
			before := fileNames(t, dir)
			contents, content := small(t)
			archives, err := Write(t.Context(), dir, contents, content, Options{ChunkSize: tc.chunkSize, Force: tc.force})
			if tc.refused != "" {
				wantFault(t, err, fault.Usage, tc.refused)
				if diff := cmp.Diff(before, fileNames(t, dir)); diff != "" {
					t.Errorf("a refusal changed the directory (-before +after):\n%s", diff)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			doc := finish(t, dir, contents, archives)
			if diff := cmp.Diff(tc.want, fileNames(t, dir)); diff != "" {
				t.Errorf("directory (-want +got):\n%s", diff)
			}
			if err := Verify(t.Context(), dir, doc, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func writeSampleInto(t *testing.T, dir string) {
	contents, content := sample(t)
	archives, err := Write(t.Context(), dir, contents, content, Options{})
	if err != nil {
		t.Fatal(err)
	}
	finish(t, dir, contents, archives)
}

// Two runs in one directory would take each other's files for stale (B18).
func TestWriteRefusesASecondWriter(t *testing.T) {
	dir := t.TempDir()
	contents, content := sample(t)
	sealed := 0
	second := Options{Seal: func([]contract.ArchiveFiles) error {
		sealed++
		_, err := Write(t.Context(), dir, contents, content, Options{})
		wantFault(t, err, fault.Usage, "another run")
		return nil
	}}
	if _, err := Write(t.Context(), dir, contents, content, second); err != nil {
		t.Error(err)
	}
	if _, err := Write(t.Context(), dir, contents, content, Options{}); err != nil {
		t.Error(err)
	}
	if _, err := WriteLayouts(t.Context(), t.TempDir(), contents, content, Options{Seal: func([]contract.ArchiveFiles) error {
		sealed++
		return errors.ErrUnsupported
	}}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("layouts that could not be sealed: %v", err)
	}
	if sealed != 2 {
		t.Errorf("sealed %d times, want 2", sealed)
	}
}

// A journal that nobody can read costs a refusal, never a crash or a file.
func TestWriteWithAForeignJournal(t *testing.T) {
	for _, text := range []string{"", "null", "[]", `{"platform":1}`, `{"platform":{"archive":{"files":[{"name":"../x"}]}}}`} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, journalName), []byte(text))
		writeFile(t, filepath.Join(dir, "platform.tar"), []byte("precious"))
		contents, content := sample(t)
		_, err := Write(t.Context(), dir, contents, content, Options{})
		wantFault(t, err, fault.Usage, "platform.tar")
		if got := string(readFile(t, filepath.Join(dir, "platform.tar"))); got != "precious" {
			t.Errorf("journal %s: platform.tar is now %q", text, got)
		}
		if _, err := Write(t.Context(), dir, contents, content, Options{Force: true}); err != nil {
			t.Errorf("journal %s, forced: %v", text, err)
		}
	}
}

func TestWriteCancelled(t *testing.T) {
	contents, content := sample(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Write(ctx, dir, contents, content, Options{})
	wantFault(t, err, fault.Cancelled)
	if diff := cmp.Diff([]string{journalName}, fileNames(t, dir)); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
}

func TestReadDocument(t *testing.T) {
	dir := t.TempDir()
	_, _, err := ReadDocument(dir)
	wantFault(t, err, fault.NotFound)

	contents, content := sample(t)
	archives, err := Write(t.Context(), dir, contents, content, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = ReadDocument(dir)
	wantDamaged(t, err, "not finished")

	want := finish(t, dir, contents, archives)
	doc, text, err := ReadDocument(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*want, doc.Spec); diff != "" || !bytes.Equal(text, readFile(t, filepath.Join(dir, DocumentName))) {
		t.Errorf("(-written +read):\n%s", diff)
	}
	writeFile(t, filepath.Join(dir, DocumentName), text[:len(text)/2])
	_, _, err = ReadDocument(dir)
	wantDamaged(t, err, DocumentName)
}

// counter is a Progress that knows what it was told.
type counter struct{ total, bytes int64 }

func (c *counter) SetTotal(bytes, _ int64) { c.total = bytes }
func (c *counter) AddBytes(n int64)        { c.bytes += n }

func TestProgressAddsUp(t *testing.T) {
	contents, content := sample(t)
	dir := t.TempDir()
	var write, keep, verify counter
	archives, err := Write(t.Context(), dir, contents, content, Options{Parallel: 1, Progress: &write})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), dir, contents, content, Options{Parallel: 1, Progress: &keep}); err != nil {
		t.Fatal(err)
	}
	if err := Verify(t.Context(), dir, &contract.BundleSpec{Archives: archives, Contents: *contents}, &verify); err != nil {
		t.Fatal(err)
	}
	want := counter{total: totalSize(archives), bytes: totalSize(archives)}
	for name, got := range map[string]counter{"write": write, "keep": keep, "verify": verify} {
		if got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}
