package bundle

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// watched is a verifier of which a test sees what it reads, and which archives it
// looks at a second time.
type watched struct {
	*verifier

	mu       sync.Mutex
	read     map[string]int64 // bytes by file, of the first look
	opened   map[string]int
	examined []string
	// spoil changes what the first look reads of a file.
	spoil func(name string, content io.Reader) io.Reader
}

func watch(dir string, doc *contract.BundleSpec) *watched {
	w := &watched{verifier: newVerifier(dir, doc, nil), read: map[string]int64{}, opened: map[string]int{}}
	open, examine := w.open, w.examine
	w.open = func(name string) (io.ReadCloser, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.opened[name]++
		f, err := open(name)
		if err != nil {
			return nil, err
		}
		content := io.Reader(f)
		if w.spoil != nil {
			content = w.spoil(name, f)
		}
		return &watchedFile{content, f, w, name}, nil
	}
	w.examine = func(ctx context.Context, archive contract.ArchiveFiles, sums gostSums) error {
		w.mu.Lock()
		w.examined = append(w.examined, archive.Name)
		w.mu.Unlock()
		return examine(ctx, archive, sums)
	}
	return w
}

// watchedFile can do nothing but read on.
type watchedFile struct {
	io.Reader
	io.Closer
	w    *watched
	name string
}

func (f *watchedFile) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.read[f.name] += int64(n)
	return n, err
}

func (w *watched) full(t *testing.T) error { return w.verify(t.Context(), (*verifier).proveAll) }

// wantExamined checks which archives were looked at twice.
func (w *watched) wantExamined(t *testing.T, archives ...string) {
	t.Helper()
	if diff := cmp.Diff(archives, w.examined); diff != "" {
		t.Errorf("archives that were looked at twice (-want +got):\n%s", diff)
	}
}

// cut makes a bundle of whole archives one of chunks, as Write makes it, faster.
func cut(t *testing.T, whole string, doc *contract.BundleSpec, chunkSize int64, gost bool) (string, *contract.BundleSpec) {
	dir, out := t.TempDir(), &contract.BundleSpec{Contents: doc.Contents}
	for _, a := range doc.Archives {
		data := joined(t, whole, a)
		a.Files = splitFiles(a.Name, a.Size, chunkSize)
		for i := range a.Files {
			f := &a.Files[i]
			content := data[:f.Size]
			data = data[f.Size:]
			f.Digest = oci.DigestOf(content)
			writeFile(t, filepath.Join(dir, f.Name), content)
			if gost {
				f.Gost = gostOf(content)
				writeFile(t, filepath.Join(dir, f.Name+gostSuffix), []byte(f.Gost))
			}
		}
		out.Archives = append(out.Archives, a)
	}
	return dir, out
}

// A good bundle is read once, each file from its first byte to its last, wherever
// chunks end: in headers, names, blobs, padding or the end.
func TestVerifyReadsEveryByteOnce(t *testing.T) {
	whole, doc := written(t, 0)
	for _, chunkSize := range []int64{0, 300, 511, 512, 513, 1000, 1024, 1536, 3000, 7777, 1 << 20} {
		for _, gost := range []bool{false, true} {
			dir, doc := cut(t, whole, doc, chunkSize, gost)
			w := watch(dir, doc)
			if err := w.full(t); err != nil {
				t.Errorf("chunks of %d bytes, sums %v: %v", chunkSize, gost, err)
			}
			w.wantExamined(t)
			read, opened := map[string]int64{}, map[string]int{}
			for _, a := range doc.Archives {
				for _, f := range a.Files {
					read[f.Name], opened[f.Name] = f.Size, 1
				}
			}
			if diff := cmp.Diff(read, w.read); diff != "" {
				t.Errorf("chunks of %d bytes: bytes read of files (-want +got):\n%s", chunkSize, diff)
			}
			if diff := cmp.Diff(opened, w.opened); diff != "" {
				t.Errorf("chunks of %d bytes: how often files were opened (-want +got):\n%s", chunkSize, diff)
			}
		}
	}
}

// One look finds every flipped byte, before any other look explains it, and gives
// every buffer back.
func TestProofFindsEveryFlip(t *testing.T) {
	whole, doc := written(t, 0)
	for _, chunkSize := range []int64{0, 700} {
		dir, doc := cut(t, whole, doc, chunkSize, false)
		plans, with := planned(&doc.Contents), newBuffers(3, doc.Archives)
		for _, a := range doc.Archives {
			for at := int64(0); at < a.Size; at += 31 {
				w := watch(dir, doc)
				w.spoil = flip(doc, a, at)
				looks := 0
				w.examine = func(context.Context, contract.ArchiveFiles, gostSums) error { looks++; return nil }
				w.plans = plans
				err := w.proveArchive(t.Context(), a, nil, with)
				wantDamaged(t, err, a.Name, "only the second time")
				if looks != 1 || len(with.free) != 3 {
					t.Fatalf("byte %d of %s: %d second looks, %d of 3 buffers are back", at, a.Name, looks, len(with.free))
				}
			}
		}
	}
}

// flip changes the byte of an archive at an offset on its way.
func flip(doc *contract.BundleSpec, a contract.ArchiveFiles, offset int64) func(string, io.Reader) io.Reader {
	file := fileAt(a.Files, offset)
	for _, f := range a.Files {
		if f.Name == file {
			break
		}
		offset -= f.Size
	}
	return func(name string, content io.Reader) io.Reader {
		if name == file {
			return &flipping{content, offset}
		}
		return content
	}
}

type flipping struct {
	io.Reader
	in int64 // bytes until the one to change
}

func (f *flipping) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if f.in >= 0 && f.in < int64(n) {
		p[f.in] ^= 0x10
	}
	f.in -= int64(n)
	return n, err
}

// A file that is shorter or longer than it was said to be a moment ago.
func TestProofFindsOtherSizes(t *testing.T) {
	whole, doc := written(t, 0)
	for _, chunkSize := range []int64{0, 5000} {
		dir, doc := cut(t, whole, doc, chunkSize, false)
		for _, a := range doc.Archives {
			for _, f := range a.Files {
				for name, spoil := range map[string]func(io.Reader) io.Reader{
					"empty":   func(io.Reader) io.Reader { return strings.NewReader("") },
					"shorter": func(r io.Reader) io.Reader { return io.LimitReader(r, f.Size-1) },
					"longer":  func(r io.Reader) io.Reader { return io.MultiReader(r, strings.NewReader("\x00")) },
				} {
					w := watch(dir, doc)
					w.spoil = func(name string, content io.Reader) io.Reader {
						if name == f.Name {
							return spoil(content)
						}
						return content
					}
					if err := w.full(t); fault.KindOf(err) != fault.Damaged || !strings.Contains(err.Error(), "only the second time") {
						t.Errorf("%s, %s: %v", f.Name, name, err)
					}
					w.wantExamined(t, a.Name)
				}
			}
		}
	}
}

// twins has blobs of equal sizes, in one archive and one file.
func twins(t *testing.T) (string, *contract.BundleSpec) {
	b := newBuilder()
	b.archive("twins")
	b.tag("twins", "r", "v1", b.image(strings.Repeat("a", 700), strings.Repeat("b", 700)))
	contents := b.done(t)
	dir := t.TempDir()
	archives, err := Write(t.Context(), dir, contents, b.store, Options{})
	must(t, err)
	return dir, finish(t, dir, contents, archives)
}

// believe makes the document say what the file is, as another version's would.
func believe(t *testing.T, dir string, a *contract.ArchiveFiles) {
	data := readFile(t, filepath.Join(dir, a.Files[0].Name))
	a.Size, a.Digest = int64(len(data)), oci.DigestOf(data)
	a.Files = []contract.File{{Name: a.Files[0].Name, Size: a.Size, Digest: a.Digest}}
}

// What is damage where the document does not know it, and what another version
// may have written where it does.
func TestVerifyOtherBytesOfTheSameSize(t *testing.T) {
	exchange := func(data []byte, a, b, size int64) {
		one := bytes.Clone(data[a : a+size])
		copy(data[a:a+size], data[b:b+size])
		copy(data[b:b+size], one)
	}
	for _, tc := range []struct {
		name  string
		spoil func(data []byte, one, two plannedEntry)
		known string // what is wrong although the document knows the file, "" for nothing
	}{
		{"the content of two blobs exchanged", func(data []byte, one, two plannedEntry) {
			exchange(data, one.offset, two.offset, one.size)
		}, "the content is"},
		{"two blobs exchanged with their headers", func(data []byte, one, two plannedEntry) {
			exchange(data, one.offset-blockSize, two.offset-blockSize, blockSize+one.size)
		}, ""},
		{"a blob in the place of another", func(data []byte, one, two plannedEntry) {
			copy(data[one.offset:], data[two.offset:two.offset+two.size])
		}, "the content is"},
		{"padding that is not zero", func(data []byte, one, _ plannedEntry) {
			data[one.offset+one.size] = 1
		}, ""},
		{"the last byte", func(data []byte, _, _ plannedEntry) { data[len(data)-1] = 1 }, "broken tar header"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, doc := twins(t)
			var same []plannedEntry
			for _, e := range planned(&doc.Contents)["twins"].entries {
				if e.size == 700 {
					same = append(same, e)
				}
			}
			path := filepath.Join(dir, "twins.tar")
			data := readFile(t, path)
			tc.spoil(data, same[0], same[1])
			writeFile(t, path, data)
			w := watch(dir, doc)
			wantDamaged(t, w.full(t), "twins.tar", "the content is not what")
			w.wantExamined(t, "twins")

			believe(t, dir, &doc.Archives[0])
			w = watch(dir, doc)
			err := w.full(t)
			if tc.known != "" {
				wantDamaged(t, err, "twins.tar", tc.known)
			} else if err != nil {
				t.Error(err)
			}
			w.wantExamined(t, "twins")
		})
	}
}

// An archive that another version laid out differently is believed for what it is.
func TestVerifyTakesAnotherLayout(t *testing.T) {
	dir, doc := twins(t)
	var entries []tarEntry
	for _, e := range planned(&doc.Contents)["twins"].entries {
		data := readFile(t, filepath.Join(dir, "twins.tar"))[e.offset : e.offset+e.size]
		entries = append(entries, regular(e.name, string(data)))
	}
	slices.Reverse(entries)
	for name, more := range map[string][]tarEntry{"as large": nil, "larger": {regular("README", "x")}} {
		writeFile(t, filepath.Join(dir, "twins.tar"), makeTar(t, append(slices.Clone(entries), more...)...))
		believe(t, dir, &doc.Archives[0])
		w := watch(dir, doc)
		if err := w.full(t); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		w.wantExamined(t, "twins")
	}
}

// A document may be wrong about a digest of a file in one way that costs nothing to
// find: the archive is one file, and its digest stands there twice.
func TestVerifyDigestsOfOneFile(t *testing.T) {
	for _, spoil := range []func(a *contract.ArchiveFiles){
		func(a *contract.ArchiveFiles) { a.Digest = oci.DigestOf(nil) },
		func(a *contract.ArchiveFiles) { a.Files[0].Digest = oci.DigestOf(nil) },
	} {
		dir, doc := written(t, 0)
		spoil(&doc.Archives[0])
		w := watch(dir, doc)
		wantDamaged(t, w.full(t), "module-a")
		w.wantExamined(t, "module-a")
	}
}

// What the document says of manifests is compared in the one look, in chunks of any
// size. Where it is in doubt, the second look decides.
func TestProofComparesManifests(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(m *contract.Manifest)
	}{
		{"media type", func(m *contract.Manifest) { m.MediaType = oci.MediaTypeDockerManifest }},
		{"subject", func(m *contract.Manifest) { m.Subject = oci.DigestOf(nil) }},
		{"references", func(m *contract.Manifest) { m.References = append(slices.Clone(m.References), m.Digest) }},
	} {
		dir, doc := written(t, 999)
		i := slices.IndexFunc(doc.Contents.Manifests, func(m contract.Manifest) bool { return oci.IsIndex(m.MediaType) })
		child := doc.Contents.Manifests[i].References[0]
		for j := range doc.Contents.Manifests {
			if doc.Contents.Manifests[j].Digest == child {
				tc.spoil(&doc.Contents.Manifests[j])
			}
		}
		w := watch(dir, doc)
		wantDamaged(t, w.full(t), "differs")
		w.wantExamined(t, "module-a")
	}
}

// Manifests that have their digests, and tell other sizes of what they need than it
// has, are damage, as they are to any other reader.
func TestProofComparesSizes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		image func(b *builder) oci.Descriptor
	}{
		{"of a child", func(b *builder) oci.Descriptor {
			child := b.image("layer")
			child.Size++
			return b.index(child)
		}},
		{"of a layer", func(b *builder) oci.Descriptor {
			config, layer := b.blob([]byte("config")), b.blob([]byte("layer"))
			layer.Size++
			return b.manifest(oci.MediaTypeManifest, map[string]any{"schemaVersion": 2, "config": config, "layers": []oci.Descriptor{layer}}, config, layer)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBuilder()
			b.archive("liar")
			b.tag("liar", "r", "v1", tc.image(b))
			contents := b.done(t)
			dir := t.TempDir()
			archives, err := Write(t.Context(), dir, contents, b.store, Options{})
			must(t, err)
			w := watch(dir, finish(t, dir, contents, archives))
			wantDamaged(t, w.full(t), "is said to have")
			w.wantExamined(t, "liar")
		})
	}
}

// Two parents of a child that disagree about its media type are odd, and no damage.
func TestVerifyOddManifests(t *testing.T) {
	b := newBuilder()
	b.archive("odd")
	child := b.image("layer")
	b.tag("odd", "r", "v1", b.index(child))
	child.MediaType = oci.MediaTypeDockerManifest
	b.tag("odd", "r", "v2", b.index(child))
	contents := b.done(t)
	dir := t.TempDir()
	archives, err := Write(t.Context(), dir, contents, b.store, Options{})
	must(t, err)
	w := watch(dir, finish(t, dir, contents, archives))
	must(t, w.full(t))
	w.wantExamined(t, "odd")
}

// Whoever cannot read a file says so; nothing is called damaged.
func TestProofFailsToRead(t *testing.T) {
	dir, doc := written(t, 1000)
	w := watch(dir, doc)
	w.spoil = func(_ string, content io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(content, 100), broken{errors.New("input/output error")})
	}
	wantFault(t, w.full(t), fault.Local, "input/output error", "module-a.tar.0000.chunk")
	w.wantExamined(t)
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// A run that is cancelled while it reads ends, and examines nothing.
func TestProofCancelled(t *testing.T) {
	dir, doc := summed(t, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	w := watch(dir, doc)
	w.spoil = func(name string, content io.Reader) io.Reader {
		if name == "platform.tar.0003.chunk" {
			cancel()
		}
		return content
	}
	wantFault(t, w.verify(ctx, (*verifier).proveAll), fault.Cancelled)
	w.wantExamined(t)
}

// Sums are made in the one look, and of the files that have one.
func TestProofMakesSums(t *testing.T) {
	dir, doc := summed(t, 1000)
	sum := "platform.tar.0002.chunk" + gostSuffix
	writeFile(t, filepath.Join(dir, sum), []byte(strings.Repeat("0", 64)))
	for i := range doc.Archives[1].Files {
		doc.Archives[1].Files[i].Gost = ""
	}
	w := watch(dir, doc)
	err := w.full(t)
	wantDamaged(t, err, sum, "but that of the file is "+gostOf(readFile(t, filepath.Join(dir, "platform.tar.0002.chunk"))))
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("one sum is wrong: %v", err)
	}
	w.wantExamined(t)
}

// Archives are read one after the other, but two at a time where sums take longer
// than reading.
func TestVerifyReadsTwoArchivesForSums(t *testing.T) {
	whole, plain := written(t, 0)
	for gost, want := range map[bool]int{false: 1, true: 2} {
		dir, doc := cut(t, whole, plain, 0, gost)
		w := watch(dir, doc)
		reads := &together{want: want, met: make(chan struct{})}
		w.spoil = func(_ string, content io.Reader) io.Reader { return &togetherReader{content, reads, false} }
		must(t, w.full(t))
		if reads.most != want {
			t.Errorf("sums %v: %d archives were read at once, want %d", gost, reads.most, want)
		}
	}
}

// together lets nobody read to the end before as many as want have begun.
type together struct {
	want int
	met  chan struct{} // closed when they have

	mu         sync.Mutex
	open, most int
}

type togetherReader struct {
	io.Reader
	*together
	begun bool
}

func (r *togetherReader) Read(p []byte) (int, error) {
	if !r.begun {
		r.begun = true
		r.count(1)
	}
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		select {
		case <-r.met:
		case <-time.After(20 * time.Second):
		}
		time.Sleep(50 * time.Millisecond) // for one more than are wanted to begin
		r.count(-1)
	}
	return n, err
}

func (r *together) count(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open += n
	if r.open > r.most {
		r.most = r.open
		if r.most == r.want {
			close(r.met)
		}
	}
}

// What a bundle that fails is told of: what was read, the second time too.
func TestProgressOfASecondLookAddsUp(t *testing.T) {
	dir, doc := written(t, 0)
	path := filepath.Join(dir, "platform.tar")
	data := readFile(t, path)
	data[len(data)-1] ^= 1
	writeFile(t, path, data)
	for name, verify := range map[string]func(context.Context, string, *contract.BundleSpec, Progress) error{"full": Verify, "frame": VerifyFrame} {
		var told counter
		wantDamaged(t, verify(t.Context(), dir, doc, &told), "platform.tar")
		if told.bytes != told.total || told.total <= totalSize(doc.Archives) {
			t.Errorf("%s: told %+v of %d bytes", name, told, totalSize(doc.Archives))
		}
	}
}

// Memory does not grow with the bundle, nor with its blobs.
func TestVerifyMemory(t *testing.T) {
	const limit = 40 << 20
	b := newBuilder()
	b.archive("large")
	var layers []string
	for i := range 4 {
		layers = append(layers, strings.Repeat(string(rune('a'+i)), 21<<20))
	}
	b.tag("large", "r", "v1", b.image(layers...))
	contents := b.done(t)
	dir := t.TempDir()
	archives, err := Write(t.Context(), dir, contents, b.store, Options{ChunkSize: 50 << 20})
	must(t, err)
	doc := &contract.BundleSpec{Archives: archives, Contents: *contents}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	must(t, Verify(t.Context(), dir, doc, nil))
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > limit || archives[0].Size < 2*limit {
		t.Errorf("%d bytes were allocated for %d, want at most %d", used, archives[0].Size, limit)
	}
}

// Many blobs of all sizes, in archives side by side, on more cores than there are.
func TestVerifySideBySide(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	b := newBuilder()
	for _, name := range []string{"one", "three", "two"} {
		b.archive(name)
		for i := range 40 {
			size := 1 << (i % 19)
			b.tag(name, name, strings.Repeat("v", i+1), b.image(strings.Repeat(name, size), "shared"))
		}
	}
	contents := b.done(t)
	for _, opts := range []Options{{}, {Gost: true}, {ChunkSize: 1 << 20, Gost: true}} {
		dir := t.TempDir()
		archives, err := Write(t.Context(), dir, contents, b.store, opts)
		must(t, err)
		w := watch(dir, finish(t, dir, contents, archives))
		must(t, w.full(t))
		w.wantExamined(t)
		if files := slices.Sorted(maps.Keys(w.opened)); len(files) < 3 {
			t.Errorf("only %v were read", files)
		}
	}
}
