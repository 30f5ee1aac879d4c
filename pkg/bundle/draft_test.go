package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
	"ferry/pkg/store/storetest"
)

// A Draft is a store like any other, wherever in its archives, and in however many
// places of them, it puts what it receives.
func TestDraftIsAStore(t *testing.T) {
	for name, opts := range map[string]Options{
		"whole": {}, "chunks": {ChunkSize: 2_000_000}, "hashed later": {HashLater: true}, "chunks hashed later": {ChunkSize: 2_000_000, HashLater: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuilder()
			b.archive("a")
			b.archive("b")
			var layers []string
			for _, content := range storetest.Ingested() {
				layers = append(layers, string(content))
			}
			b.tag("a", "r", "v1", b.image(layers...))
			b.tag("a", "s", "v1", b.image(append([]string{"more"}, layers[5:]...)...))
			b.tag("b", "t", "v1", b.image(append([]string{"other"}, layers[:20]...)...))
			contents := b.done(t)
			storetest.PlannedIngester(t, func(t *testing.T, dir string) store.Ingester {
				return openDraft(t, dir, contents, nil, opts)
			})
			if opts.HashLater {
				storetest.LateIngester(t, func(t *testing.T, dir string) store.Ingester {
					return patient{openDraft(t, dir, contents, nil, opts)}
				})
			}
		})
	}
}

// patient is for a receiver that need not know at once.
type patient struct{ *Draft }

func (p patient) Ingest(ctx context.Context, desc oci.Descriptor) (store.Ingest, error) {
	in, err := p.Draft.Ingest(ctx, desc)
	if err == nil {
		in.HashLater()
	}
	return in, err
}

func openDraft(t testing.TB, dir string, contents *contract.Contents, rescue store.Ingester, opts Options) *Draft {
	t.Helper()
	d, err := OpenDraft(t.Context(), dir, contents, rescue, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// fillDraft brings all blobs that are missing, in random order, each behind what is
// held of it, and some cut once in their middle.
func fillDraft(ctx context.Context, d store.Ingester, contents *contract.Contents, content *memory, random *rand.Rand) error {
	parts := contents.Parts()
	random.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	for _, p := range parts {
		if _, err := d.Stat(p.Digest); err == nil {
			continue
		}
		receive := receiveInTwo
		if random.IntN(2) == 0 {
			receive = receiveInOne
		}
		if err := receive(ctx, d, p.Descriptor, content.blobs[p.Digest]); err != nil {
			return err
		}
	}
	return nil
}

func receiveInOne(ctx context.Context, d store.Ingester, desc oci.Descriptor, content []byte) error {
	return goOn(ctx, d, desc, bytes.NewReader(content))
}

var errMiddle = errors.New("middle")

func receiveInTwo(ctx context.Context, d store.Ingester, desc oci.Descriptor, content []byte) error {
	half := io.MultiReader(bytes.NewReader(content[:len(content)/2]), failing{errMiddle})
	if err := goOn(ctx, d, desc, half); err != nil && !errors.Is(err, errMiddle) {
		return err
	}
	return receiveInOne(ctx, d, desc, content)
}

// goOn receives a blob from body, which begins with what may be held already.
func goOn(ctx context.Context, d store.Ingester, desc oci.Descriptor, body io.Reader) error {
	in, err := d.Ingest(ctx, desc)
	if err != nil {
		return err
	}
	defer in.Close()
	in.HashLater()
	held := int64(0)
	if h := in.Held(); h != nil {
		held = h.Size()
	}
	if _, err := io.CopyN(io.Discard, body, held); err != nil {
		return err
	}
	if _, err := in.CopyFrom(ctx, held, body); err != nil {
		return err
	}
	return in.Commit(ctx)
}

// The archives are those that Write makes, byte for byte, and nothing else is left.
func TestDraftIsWrite(t *testing.T) {
	for _, opts := range []Options{
		{}, {ChunkSize: 100}, {ChunkSize: 512}, {ChunkSize: 1000, Gost: true}, {ChunkSize: 4096}, {Gost: true},
		{HashLater: true}, {HashLater: true, ChunkSize: 1000, Gost: true}, {HashLater: true, ChunkSize: 4096}, {HashLater: true, Gost: true},
	} {
		t.Run(fmt.Sprintf("%d %v %v", opts.ChunkSize, opts.Gost, opts.HashLater), func(t *testing.T) {
			contents, content := sample(t)
			written, drafted := t.TempDir(), t.TempDir()
			want, err := Write(t.Context(), written, contents, content, opts)
			if err != nil {
				t.Fatal(err)
			}
			d := openDraft(t, drafted, contents, nil, opts)
			if err := fillDraft(t.Context(), d, contents, content, rand.New(rand.NewPCG(1, 2))); err != nil {
				t.Fatal(err)
			}
			got, err := d.Finish(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			sameDirectories(t, written, drafted)
		})
	}
}

func sameDirectories(t *testing.T, want, got string) {
	t.Helper()
	if diff := cmp.Diff(fileNames(t, want), fileNames(t, got)); diff != "" {
		t.Fatalf("names (-want +got):\n%s", diff)
	}
	for _, name := range fileNames(t, want) {
		if !bytes.Equal(readFile(t, filepath.Join(want, name)), readFile(t, filepath.Join(got, name))) {
			t.Errorf("%s differs", name)
		}
	}
}

// Blobs of many sizes come at the same time, into whatever files.
func TestDraftManyAtOnce(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	b := newBuilder()
	b.archive("a")
	for i := range 120 {
		size := random.IntN(5_000)
		if i%2 == 0 {
			size = random.IntN(700_000)
		}
		b.tag("a", "r", fmt.Sprint("v", i), b.image(string(storetest.Content(size+i))))
	}
	b.tag("a", "s", "v", b.image(string(storetest.Content(1<<20)), string(storetest.Content(100_000))))
	contents := b.done(t)
	for _, opts := range []Options{{}, {ChunkSize: 1_000_000}, {ChunkSize: 777_777}, {HashLater: true}, {HashLater: true, ChunkSize: 777_777}} {
		t.Run(fmt.Sprint(opts.ChunkSize, opts.HashLater), func(t *testing.T) {
			want, got := t.TempDir(), t.TempDir()
			if _, err := Write(t.Context(), want, contents, b.store, opts); err != nil {
				t.Fatal(err)
			}
			d := openDraft(t, got, contents, nil, opts)
			parts := contents.Parts()
			d.Arrange(parts)
			var workers errgroup.Group
			workers.SetLimit(8)
			for i, p := range parts {
				receive := receiveInOne
				if i%3 == 0 {
					receive = receiveInTwo
				}
				workers.Go(func() error { return receive(t.Context(), d, p.Descriptor, b.store.blobs[p.Digest]) })
			}
			if err := workers.Wait(); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
			sameDirectories(t, want, got)
		})
	}
}

// reference is the sample as Write makes it.
func reference(t *testing.T, opts Options) (dir string, contents *contract.Contents, content *memory) {
	t.Helper()
	contents, content = sample(t)
	dir = t.TempDir()
	if _, err := Write(t.Context(), dir, contents, content, opts); err != nil {
		t.Fatal(err)
	}
	return dir, contents, content
}

func finishDraft(t *testing.T, dir string, contents *contract.Contents, content *memory, opts Options) error {
	t.Helper()
	d := openDraft(t, dir, contents, nil, opts)
	defer d.Close()
	if err := fillDraft(t.Context(), d, contents, content, rand.New(rand.NewPCG(5, 6))); err != nil {
		return err
	}
	_, err := d.Finish(t.Context())
	return err
}

// S6.9.4: what an earlier run received is there again, in the archives too that it
// finished; only the rest is received.
func TestDraftGoesOn(t *testing.T) {
	for _, chunkSize := range []int64{0, 700} {
		opts := Options{ChunkSize: chunkSize}
		want, contents, content := reference(t, opts)
		dir := t.TempDir()
		parts := contents.Parts()
		for i, p := range parts {
			d := openDraft(t, dir, contents, nil, opts)
			for j, earlier := range parts {
				if _, err := d.Stat(earlier.Digest); (err == nil) != (j < i) {
					t.Fatalf("run %d: Stat of blob %d gives %v", i, j, err)
				}
			}
			if err := store.Put(t.Context(), d, p.Descriptor, bytes.NewReader(content.blobs[p.Digest])); err != nil {
				t.Fatal(err)
			}
			d.Close()
		}
		d := openDraft(t, dir, contents, nil, opts)
		if _, err := d.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.Close()
		sameDirectories(t, want, dir)
		// Once more: all is finished, and read again before it is believed.
		d = openDraft(t, dir, contents, nil, opts)
		if _, err := d.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		sameDirectories(t, want, dir)
	}
}

func TestDraftLacksSomething(t *testing.T) {
	contents, content := sample(t)
	dir := t.TempDir()
	d := openDraft(t, dir, contents, nil, Options{})
	for _, p := range contents.Parts()[1:] {
		if err := store.Put(t.Context(), d, p.Descriptor, bytes.NewReader(content.blobs[p.Digest])); err != nil {
			t.Fatal(err)
		}
	}
	_, err := d.Finish(t.Context())
	wantDamaged(t, err, string(contents.Parts()[0].Digest))
	for _, name := range fileNames(t, dir) {
		if _, _, ok := archiveOf(name); ok {
			t.Errorf("%s has its name although it is not whole", name)
		}
	}
}

// A blob of another size than planned would be written over its neighbour.
func TestDraftRefusesOtherBlobs(t *testing.T) {
	contents, _ := sample(t)
	d := openDraft(t, t.TempDir(), contents, nil, Options{})
	p := contents.Parts()[0]
	p.Size++
	_, err := d.Ingest(t.Context(), p.Descriptor)
	wantFault(t, err, fault.Protocol)
	_, err = d.Ingest(t.Context(), oci.Descriptor{Digest: oci.DigestOf([]byte("of nobody")), Size: 9})
	wantFault(t, err, fault.Usage)
}

// S6.9.4: what an earlier run received is hashed again on its way into the archive's sum,
// and received again when the disk has damaged it.
func TestDraftFindsRot(t *testing.T) {
	want, contents, content := reference(t, Options{})
	for i, p := range contents.Parts() {
		if p.Size == 0 {
			continue
		}
		dir := t.TempDir()
		d := openDraft(t, dir, contents, nil, Options{})
		if err := store.Put(t.Context(), d, p.Descriptor, bytes.NewReader(content.blobs[p.Digest])); err != nil {
			t.Fatal(err)
		}
		s := d.spots[p.Digest][len(d.spots[p.Digest])-1]
		d.Close()
		path := filepath.Join(dir, partialName(s.archive.plan.name+tarSuffix))
		data := readFile(t, path)
		data[s.planned().offset+p.Size-1] ^= 1
		writeFile(t, path, data)

		err := finishDraft(t, dir, contents, content, Options{})
		wantFault(t, err, fault.Transient, string(p.Digest))
		if !errors.Is(err, errRotten) {
			t.Errorf("part %d: %v", i, err)
		}
		if err := finishDraft(t, dir, contents, content, Options{}); err != nil {
			t.Fatal(err)
		}
		sameDirectories(t, want, dir)
	}
}

// S6.9.4: whether blobs are hashed when they come or on their archive's way into its sum,
// wrong bytes end in no archive; all others are kept, and the next run receives the
// wrong ones again, and nothing else.
func TestDraftRefusesWrongBytes(t *testing.T) {
	for _, opts := range []Options{{}, {HashLater: true}, {HashLater: true, ChunkSize: 5000, Gost: true}} {
		t.Run(fmt.Sprint(opts.HashLater, opts.ChunkSize), func(t *testing.T) {
			want, contents, content := reference(t, opts)
			parts := contents.Parts()
			for i := range parts {
				wrong := map[oci.Digest]bool{parts[i].Digest: parts[i].Size > 0, parts[(i+5)%len(parts)].Digest: parts[(i+5)%len(parts)].Size > 0}
				dir := t.TempDir()
				said := fillWithWrong(t, dir, contents, content, opts, wrong)
				for digest, bad := range wrong {
					if got := strings.Contains(said, string(digest)); got != bad {
						t.Fatalf("%s is wrong: %v; the error is %s", digest, bad, said)
					}
				}
				d := openDraft(t, dir, contents, nil, opts)
				for _, p := range parts {
					if _, err := d.Stat(p.Digest); (err != nil) != wrong[p.Digest] {
						t.Fatalf("%s is wrong: %v; then Stat gives %v", p.Digest, wrong[p.Digest], err)
					}
				}
				d.Close()
				if err := finishDraft(t, dir, contents, content, opts); err != nil {
					t.Fatal(err)
				}
				sameDirectories(t, want, dir)
			}
		})
	}
}

// fillWithWrong receives all blobs, some with a wrong byte, and returns what was said
// of them.
func fillWithWrong(t *testing.T, dir string, contents *contract.Contents, content *memory, opts Options, wrong map[oci.Digest]bool) string {
	t.Helper()
	d := openDraft(t, dir, contents, nil, opts)
	defer d.Close()
	var all error
	for _, p := range contents.Parts() {
		body := bytes.Clone(content.blobs[p.Digest])
		if wrong[p.Digest] {
			body[len(body)-1] ^= 1
		}
		err := receiveInOne(t.Context(), d, p.Descriptor, body)
		if err != nil {
			wantFault(t, err, fault.Protocol, string(p.Digest))
		}
		all = errors.Join(all, err)
	}
	_, err := d.Finish(t.Context())
	if opts.HashLater {
		wantFault(t, err, fault.Protocol, "not the blob")
	}
	return errors.Join(all, err).Error()
}

// A source that sends nothing right is not asked for all of it.
func TestDraftGivesUpOnManyWrongBlobs(t *testing.T) {
	b := newBuilder()
	b.archive("a")
	var layers []string
	for i := range 3 * maxRefused {
		layers = append(layers, string(storetest.Content(200_000+i)))
	}
	b.tag("a", "r", "v1", b.image(layers...))
	contents := b.done(t)
	d := openDraft(t, t.TempDir(), contents, nil, Options{HashLater: true})
	parts := contents.Parts()
	slices.SortFunc(parts, func(a, b contract.Part) int { // the sum meets them as they come
		return int(d.spots[a.Digest][0].planned().offset - d.spots[b.Digest][0].planned().offset)
	})
	come := func(p contract.Part) error {
		return receiveInOne(t.Context(), d, p.Descriptor, bytes.Repeat([]byte("x"), int(p.Size)))
	}
	for _, p := range parts[:2*maxRefused] {
		if err := come(p); err != nil {
			wantFault(t, err, fault.Protocol, "nothing more")
		}
	}
	for d.Refused() == nil || strings.Count(d.Refused().Error(), "not the blob") < maxRefused {
		time.Sleep(time.Millisecond)
	}
	wantFault(t, come(parts[2*maxRefused]), fault.Protocol, "nothing more")
}

// A kill between the arrival of a blob and its proof leaves it to the next run, which
// proves it before it believes it.
func TestDraftProvesWhatAKillLeft(t *testing.T) {
	opts := Options{HashLater: true}
	want, contents, content := reference(t, opts)
	p := contents.Parts()[0]
	dir := t.TempDir()
	d := openDraft(t, dir, contents, nil, opts)
	wrong := bytes.Clone(content.blobs[p.Digest])
	wrong[0] ^= 1
	// The sum waits for more of the archive.
	if err := errors.Join(receiveInOne(t.Context(), d, p.Descriptor, wrong), d.Sync(t.Context()), d.Close()); err != nil {
		t.Fatal(err)
	}
	wantFault(t, finishDraft(t, dir, contents, content, opts), fault.Transient, string(p.Digest))
	if err := finishDraft(t, dir, contents, content, opts); err != nil {
		t.Fatal(err)
	}
	sameDirectories(t, want, dir)
}

// Held bytes count in all places of a blob, though only those in the first are
// hashed again.
func TestDraftEvensHeldBytes(t *testing.T) {
	b := newBuilder()
	b.archive("a")
	layer := string(storetest.Content(3 << 20))
	b.tag("a", "r", "v1", b.image(layer))
	b.tag("a", "s", "v1", b.image(layer, "more"))
	contents := b.done(t)
	want, dir := t.TempDir(), t.TempDir()
	if _, err := Write(t.Context(), want, contents, b.store, Options{}); err != nil {
		t.Fatal(err)
	}
	desc := oci.Descriptor{Digest: oci.DigestOf([]byte(layer)), Size: int64(len(layer))}
	d := openDraft(t, dir, contents, nil, Options{})
	in, err := d.Ingest(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	cut := errors.New("cut")
	if _, err := in.CopyFrom(t.Context(), 0, io.MultiReader(strings.NewReader(layer[:2<<20]), failing{cut})); !errors.Is(err, cut) {
		t.Fatal(err)
	}
	in.Close()
	second := d.spots[desc.Digest][1].planned().offset
	d.Close()
	path := filepath.Join(dir, partialName("a.tar"))
	data := readFile(t, path)
	clear(data[second : second+1<<20]) // as after a power loss
	writeFile(t, path, data)

	d = openDraft(t, dir, contents, nil, Options{})
	in, err = d.Ingest(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	held := in.Held().Size()
	if held != 2<<20 {
		t.Fatalf("%d bytes are held", held)
	}
	if _, err := in.CopyFrom(t.Context(), held, strings.NewReader(layer[held:])); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(in.Commit(t.Context()), in.Close()); err != nil {
		t.Fatal(err)
	}
	if err := fillDraft(t.Context(), d, contents, b.store, rand.New(rand.NewPCG(1, 2))); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Close()
	sameDirectories(t, want, dir)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// S6.9.4: when the contents have changed since an earlier run, its archives have to be laid
// out anew, and nothing that was received is asked for again.
func TestDraftOfChangedContents(t *testing.T) {
	build := func(more bool) (*contract.Contents, *memory) {
		b := newBuilder()
		b.archive("changes")
		b.archive("stays")
		b.tag("changes", "r", "v1", b.image("base", "one"))
		b.tag("stays", "s", "v1", b.image("base", "three"))
		if more {
			b.tag("changes", "r", "v2", b.image("base", "three", "two"))
		}
		return b.done(t), b.store
	}
	before, content := build(false)
	after, all := build(true)
	want := t.TempDir()
	if _, err := Write(t.Context(), want, after, all, Options{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d := openDraft(t, dir, before, nil, Options{})
	if err := fillDraft(t.Context(), d, before, content, rand.New(rand.NewPCG(1, 2))); err != nil {
		t.Fatal(err)
	}
	d.Close()

	rescue, err := store.OpenDir(t.Context(), t.TempDir(), store.Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer rescue.Close()
	d = openDraft(t, dir, after, rescue, Options{})
	asked := 0
	for _, p := range after.Parts() {
		if _, err := d.Stat(p.Digest); err == nil {
			continue
		}
		if blob, err := rescue.Open(p.Digest); err == nil {
			if err := store.Put(t.Context(), d, p.Descriptor, blob); err != nil {
				t.Fatal(err)
			}
			blob.Close()
			continue
		}
		if _, known := content.blobs[p.Digest]; known {
			t.Errorf("%s was received before, and is lost", p.Digest)
		}
		asked++
		if err := store.Put(t.Context(), d, p.Descriptor, bytes.NewReader(all.blobs[p.Digest])); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 3 { // the new manifest, its config and its layer
		t.Errorf("%d blobs were missing, want 3", asked)
	}
	if _, err := d.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Close()
	sameDirectories(t, want, dir)
}

// S6.9.4: what is damaged in one archive is not copied into another that needs it,
// but received again, for both.
func TestDraftSpreadsNoRot(t *testing.T) {
	build := func(more bool) (*contract.Contents, *memory) {
		b := newBuilder()
		b.archive("changes")
		b.archive("stays")
		b.tag("changes", "r", "v1", b.image("one"))
		b.tag("stays", "s", "v1", b.image("three"))
		if more {
			b.tag("changes", "r", "v2", b.image("three", "two"))
		}
		return b.done(t), b.store
	}
	before, content := build(false)
	after, all := build(true)
	want, dir := t.TempDir(), t.TempDir()
	if _, err := Write(t.Context(), want, after, all, Options{}); err != nil {
		t.Fatal(err)
	}
	shared := oci.DigestOf([]byte("three"))
	d := openDraft(t, dir, before, nil, Options{})
	if err := fillDraft(t.Context(), d, before, content, rand.New(rand.NewPCG(1, 2))); err != nil {
		t.Fatal(err)
	}
	at := d.spots[shared][0].planned().offset
	d.Close()
	path := filepath.Join(dir, partialName("stays.tar"))
	data := readFile(t, path)
	data[at] ^= 1
	writeFile(t, path, data)

	d = openDraft(t, dir, after, nil, Options{})
	if _, err := d.Stat(shared); fault.KindOf(err) != fault.NotFound {
		t.Errorf("Stat of what is damaged gives %v", err)
	}
	if err := fillDraft(t.Context(), d, after, all, rand.New(rand.NewPCG(3, 4))); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Close()
	sameDirectories(t, want, dir)
}

// A pack over what a Draft left removes it, and a Draft over archives that a pack
// has finished takes them as they are.
func TestDraftAndWriteShareADirectory(t *testing.T) {
	want, contents, content := reference(t, Options{})
	dir := t.TempDir()
	d := openDraft(t, dir, contents, nil, Options{})
	p := contents.Parts()[0]
	if err := store.Put(t.Context(), d, p.Descriptor, bytes.NewReader(content.blobs[p.Digest])); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := os.Remove(filepath.Join(dir, "module-a"+logSuffix)); err != nil { // as a kill between two steps leaves it
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), dir, contents, content, Options{}); err != nil {
		t.Fatal(err)
	}
	sameDirectories(t, want, dir)

	if err := os.Remove(filepath.Join(dir, "platform.tar")); err != nil {
		t.Fatal(err)
	}
	d = openDraft(t, dir, contents, nil, Options{})
	before := content.opened.Load()
	if err := fillDraft(t.Context(), d, contents, content, rand.New(rand.NewPCG(1, 2))); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Finish(t.Context()); err != nil || content.opened.Load() != before {
		t.Fatal(err)
	}
	d.Close()
	sameDirectories(t, want, dir)
}

func TestDraftKeepsOthersOut(t *testing.T) {
	contents, content := sample(t)
	dir := t.TempDir()
	openDraft(t, dir, contents, nil, Options{})
	_, err := Write(t.Context(), dir, contents, content, Options{})
	wantFault(t, err, fault.Usage, "another run")
}

// The sum of an archive takes in what has come and was proven, whether it is on the
// disk or not: else it would begin each stretch when that is synced.
func TestSumsDoNotWaitForTheDisk(t *testing.T) {
	_, contents, content := reference(t, Options{})
	d := openDraft(t, t.TempDir(), contents, nil, Options{})
	defer d.Close()
	for _, p := range contents.Parts() {
		desc := oci.Descriptor{Digest: p.Digest, Size: p.Size}
		if err := store.Put(t.Context(), d, desc, bytes.NewReader(content.blobs[p.Digest])); err != nil {
			t.Fatal(err)
		}
	}
	for digest := range d.spots {
		if d.has(digest) {
			t.Fatalf("%s was synced, so this test shows nothing", digest)
		}
	}
	for _, a := range d.archives {
		a.mu.Lock()
		if end := a.complete(); end != a.plan.size {
			t.Errorf("%s: %d of %d bytes can be summed", a.plan.name, end, a.plan.size)
		}
		a.mu.Unlock()
	}
}

func FuzzDraftLog(f *testing.F) {
	d := oci.DigestOf([]byte("x"))
	head := `{"madeFrom":"` + string(d) + `","files":[]}` + "\n"
	f.Add([]byte(head + receivedLine(d, byteRange{1, 2}) + heldLine(d, byteRange{3, 4}) + lostLine(d) + "+ torn"))
	f.Add([]byte(head[:20]))
	f.Fuzz(func(t *testing.T, data []byte) {
		said, ok := parseLog(data)
		if !ok {
			return
		}
		if said.length > int64(len(data)) || said.length > 0 && data[said.length-1] != '\n' {
			t.Errorf("%d of %d bytes count", said.length, len(data))
		}
		// What counts says the same again, whatever follows it.
		again, ok := parseLog(append(bytes.Clone(data[:said.length]), "+ torn"...))
		if diff := cmp.Diff(said, again, cmp.AllowUnexported(progressOf{}, byteRange{})); !ok || diff != "" {
			t.Errorf("read again (-first +second):\n%s", diff)
		}
	})
}
