package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// Ingester runs the suite. open opens the store in dir, which may be empty; it
// is called again for the same dir to see what a store that was closed kept.
// The suite closes a store that is an io.Closer.
func Ingester(t *testing.T, open func(t *testing.T, dir string) store.Ingester) {
	PlannedIngester(t, open)
	t.Run("held more than the size", func(t *testing.T) { heldTooMuch(t, newBench(t, open)) })
}

// PlannedIngester runs the suite of a store that takes only blobs that it has been
// told of beforehand, by digest and size: open must tell it of Ingested.
func PlannedIngester(t *testing.T, open func(t *testing.T, dir string) store.Ingester) {
	LateIngester(t, open)
	t.Run("wrong digest", func(t *testing.T) { wrongDigest(t, newBench(t, open)) })
}

// LateIngester runs the suite of a PlannedIngester that is let hash later (see
// store.Ingest): what it does about wrong bytes its own tests show.
func LateIngester(t *testing.T, open func(t *testing.T, dir string) store.Ingester) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"visible after Sync", visibleAfterSync},
		{"visible after reopening", visibleAfterReopen},
		{"all sizes read back", readsBack},
		{"resume after a cut body", resumeAfterCut},
		{"resume across reopening", resumeAcrossReopen},
		{"resume from a smaller start", resumeSmallerStart},
		{"held whole needs no body", heldWhole},
		{"damaged held bytes", damagedHeld},
		{"start over after held bytes", startOver},
		{"start behind the held bytes", startBehindHeld},
		{"body too long", bodyTooLong},
		{"body too short", bodyTooShort},
		{"peer reports wrong digest", peerReportsWrongDigest},
		{"impossible descriptor", impossibleDescriptor},
		{"commit twice", commitTwice},
		{"a present blob needs no body", presentBlob},
		{"second caller waits", secondCallerWaits},
		{"waiting ends with the context", waitingEnds},
		{"copying ends with the context", copyingEnds},
		{"after Close", afterClose},
		{"many at once", manyAtOnce},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, newBench(t, open)) })
	}
}

// Ingested is the content that the suite of Ingester gives to a store.
func Ingested() [][]byte {
	contents := [][]byte{Content(100_000)[1:], Content(100_000)[40_000:]}
	for _, size := range []int{0, 1, 10, 1000, 5000, 70_000, 100_000, 1 << 20, 2 << 20} {
		contents = append(contents, Content(size))
	}
	for _, content := range Blobs() {
		contents = append(contents, content)
	}
	return append(contents, crowd()...)
}

// crowd is what several goroutines ingest at once.
func crowd() [][]byte {
	var contents [][]byte
	for i := range 50 {
		contents = append(contents, Content(1000+i*997))
	}
	return contents
}

func newBench(t *testing.T, open func(t *testing.T, dir string) store.Ingester) *bench {
	b := &bench{t: t, dir: t.TempDir(), opener: open}
	b.reopen()
	t.Cleanup(b.close)
	return b
}

// bench holds the store under test.
type bench struct {
	t      *testing.T
	dir    string
	opener func(*testing.T, string) store.Ingester
	store.Ingester
}

func (b *bench) reopen() {
	b.t.Helper()
	b.close()
	b.Ingester = b.opener(b.t, b.dir)
}

func (b *bench) close() {
	if c, ok := b.Ingester.(io.Closer); ok {
		if err := c.Close(); err != nil {
			b.t.Error(err)
		}
	}
	b.Ingester = nil
}

func (b *bench) ingest(desc oci.Descriptor) store.Ingest {
	b.t.Helper()
	ing, err := b.Ingest(b.t.Context(), desc)
	if err != nil {
		b.t.Fatal(err)
	}
	return ing
}

// put ingests content, without a Sync.
func (b *bench) put(content []byte) {
	b.t.Helper()
	ing := b.ingest(describe(content))
	defer ing.Close()
	if n, err := ing.CopyFrom(b.t.Context(), 0, bytes.NewReader(content)); n != int64(len(content)) || err != nil {
		b.t.Fatalf("CopyFrom gives %d, %v; want %d bytes", n, err, len(content))
	}
	b.must(ing.Commit(b.t.Context()))
}

// leave makes an ingest of desc hold the bytes held, and closes it.
func (b *bench) leave(desc oci.Descriptor, held []byte) {
	b.t.Helper()
	ing := b.ingest(desc)
	_, err := ing.CopyFrom(b.t.Context(), 0, cutBody(held))
	b.wantErr(err, errCut)
	b.must(ing.Close())
}

func (b *bench) sync() {
	b.t.Helper()
	b.must(b.Sync(b.t.Context()))
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) wantErr(err, target error) {
	b.t.Helper()
	if !errors.Is(err, target) {
		b.t.Fatalf("error is %v, want %v", err, target)
	}
}

func (b *bench) wantKind(err error, kind *fault.Kind) {
	b.t.Helper()
	if fault.KindOf(err) != kind {
		b.t.Fatalf("error is %v (kind %v), want kind %v", err, fault.KindOf(err), kind)
	}
}

// wantHeld checks that the next ingest of desc begins with exactly these bytes.
func (b *bench) wantHeld(desc oci.Descriptor, want []byte) {
	b.t.Helper()
	ing := b.ingest(desc)
	defer ing.Close()
	got := heldBytes(b.t, ing)
	if !bytes.Equal(got, want) {
		b.t.Fatalf("%d bytes are held, want %d certain ones", len(got), len(want))
	}
}

func heldBytes(t *testing.T, ing store.Ingest) []byte {
	t.Helper()
	held := ing.Held()
	if held == nil {
		return nil
	}
	got, err := io.ReadAll(held)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

var errCut = errors.New("connection cut")

// cutBody gives content and then fails.
func cutBody(content []byte) io.Reader {
	return io.MultiReader(bytes.NewReader(content), iotest.ErrReader(errCut))
}

func describe(content []byte) oci.Descriptor {
	return oci.Descriptor{Digest: oci.DigestOf(content), Size: int64(len(content))}
}

func visibleAfterSync(t *testing.T, b *bench) {
	content := Content(5000)
	desc := describe(content)
	ing := b.ingest(desc)
	_, err := ing.CopyFrom(t.Context(), 0, bytes.NewReader(content))
	b.must(err)
	wantAbsent(t, b, desc.Digest)
	b.must(ing.Commit(t.Context()))
	b.must(ing.Close())
	b.sync()
	wantBlob(t, b, desc.Digest, content)
	b.sync() // nothing to do
	wantBlob(t, b, desc.Digest, content)
}

func visibleAfterReopen(t *testing.T, b *bench) {
	content := Content(5000)
	b.put(content)
	b.sync()
	b.reopen()
	wantBlob(t, b, oci.DigestOf(content), content)
}

func readsBack(t *testing.T, b *bench) {
	for _, content := range Blobs() {
		b.put(content)
	}
	b.sync()
	for d, content := range Blobs() {
		wantBlob(t, b, d, content)
	}
}

func resumeAfterCut(t *testing.T, b *bench) {
	content := Content(1 << 20)
	ing := b.ingest(describe(content))
	defer ing.Close()
	for _, cut := range []int{100, 700_000} {
		start := len(heldBytes(t, ing))
		n, err := ing.CopyFrom(t.Context(), int64(start), cutBody(content[start:cut]))
		b.wantErr(err, errCut)
		if n != int64(cut-start) || !bytes.Equal(heldBytes(t, ing), content[:cut]) {
			t.Fatalf("%d bytes appended and %d held, want %d and %d", n, len(heldBytes(t, ing)), cut-start, cut)
		}
	}
	_, err := ing.CopyFrom(t.Context(), 700_000, bytes.NewReader(content[700_000:]))
	b.must(err)
	b.must(ing.Commit(t.Context()))
	b.sync()
	wantBlob(t, b, oci.DigestOf(content), content)
}

func resumeAcrossReopen(t *testing.T, b *bench) {
	content := Content(1 << 20)
	b.leave(describe(content), content[:600_000])
	wantAbsent(t, b, oci.DigestOf(content))
	b.reopen()
	wantAbsent(t, b, oci.DigestOf(content))
	b.wantHeld(describe(content), content[:600_000])
	ing := b.ingest(describe(content))
	_, err := ing.CopyFrom(t.Context(), 600_000, bytes.NewReader(content[600_000:]))
	b.must(err)
	b.must(ing.Commit(t.Context()))
	b.must(ing.Close())
	b.sync()
	wantBlob(t, b, oci.DigestOf(content), content)
}

func resumeSmallerStart(t *testing.T, b *bench) {
	content := Content(100_000)
	for _, start := range []int{0, 1, 40_000} {
		desc := describe(content[start:]) // another blob each time
		b.leave(desc, content[start:start+50_000])
		b.reopen()
		ing := b.ingest(desc)
		_, err := ing.CopyFrom(t.Context(), int64(start), bytes.NewReader(content[2*start:]))
		b.must(err)
		b.must(ing.Commit(t.Context()))
		b.must(ing.Close())
		b.sync()
		wantBlob(t, b, desc.Digest, content[start:])
	}
}

func heldWhole(t *testing.T, b *bench) {
	content := Content(70_000)
	b.leave(describe(content), content)
	b.reopen()
	b.wantHeld(describe(content), content)
	ing := b.ingest(describe(content))
	b.must(ing.Commit(t.Context()))
	b.must(ing.Close())
	b.sync()
	wantBlob(t, b, oci.DigestOf(content), content)
}

// damagedHeld: bytes that an earlier run left may have rotted since. They must
// not become visible, must not block the blob for ever, and are not the peer's
// fault.
func damagedHeld(t *testing.T, b *bench) {
	content := Content(70_000)
	bad := bytes.Clone(content[:40_000])
	bad[len(bad)-1] ^= 1
	b.leave(describe(content), bad)
	b.reopen()
	ing := b.ingest(describe(content))
	_, err := ing.CopyFrom(t.Context(), 40_000, bytes.NewReader(content[40_000:]))
	b.must(err)
	b.wantKind(ing.Commit(t.Context()), fault.Transient)
	b.must(ing.Close())
	b.sync()
	wantAbsent(t, b, oci.DigestOf(content))
	b.wantHeld(describe(content), nil)
	b.put(content)
	b.sync()
	wantBlob(t, b, oci.DigestOf(content), content)
}

// startOver: when the peer begins anew, nothing of the held bytes stays, and
// wrong bytes are the peer's fault alone.
func startOver(t *testing.T, b *bench) {
	content, other := Content(70_000), Content(70_000)
	other[0] ^= 1
	b.leave(describe(content), other[:50_000])
	b.leave(describe(content), content[:20_000])
	b.reopen()
	b.wantHeld(describe(content), content[:20_000])
	ing := b.ingest(describe(content))
	defer ing.Close()
	_, err := ing.CopyFrom(t.Context(), 0, bytes.NewReader(other))
	b.must(err)
	b.wantKind(ing.Commit(t.Context()), fault.Protocol)
}

// leaveUnchecked is leave, for bytes that the ingest itself may refuse.
func (b *bench) leaveUnchecked(desc oci.Descriptor, held []byte) {
	b.t.Helper()
	ing := b.ingest(desc)
	if _, err := ing.CopyFrom(b.t.Context(), 0, cutBody(held)); err == nil {
		b.t.Fatal("a body that fails gives no error")
	}
	b.must(ing.Close())
}

func startBehindHeld(t *testing.T, b *bench) {
	content := Content(1000)
	ing := b.ingest(describe(content))
	defer ing.Close()
	for _, start := range []int64{-1, 1, 1000} {
		if _, err := ing.CopyFrom(t.Context(), start, bytes.NewReader(content)); err == nil {
			t.Errorf("a start at %d of 0 held bytes is taken", start)
		}
	}
}

func bodyTooLong(t *testing.T, b *bench) {
	for _, size := range []int{0, 1, 70_000} {
		content := Content(size)
		long := append(bytes.Clone(content), 'x')
		ing := b.ingest(describe(content))
		_, err := ing.CopyFrom(t.Context(), 0, bytes.NewReader(long))
		b.wantKind(err, fault.Protocol)
		b.must(ing.Close())
		b.sync()
		wantAbsent(t, b, oci.DigestOf(content))
		wantAbsent(t, b, oci.DigestOf(long))
		b.wantHeld(describe(content), nil)
	}
}

func bodyTooShort(t *testing.T, b *bench) {
	content := Content(70_000)
	ing := b.ingest(describe(content))
	_, err := ing.CopyFrom(t.Context(), 0, bytes.NewReader(content[:69_999]))
	b.must(err)
	b.wantKind(ing.Commit(t.Context()), fault.Protocol)
	b.must(ing.Close())
	b.sync()
	wantAbsent(t, b, oci.DigestOf(content))
	b.wantHeld(describe(content), content[:69_999])
}

func wrongDigest(t *testing.T, b *bench) {
	content, other := Content(70_000), Content(70_000)
	other[0] ^= 1
	ing := b.ingest(describe(content))
	_, err := ing.CopyFrom(t.Context(), 0, bytes.NewReader(other))
	b.must(err)
	b.wantKind(ing.Commit(t.Context()), fault.Protocol)
	if held := heldBytes(t, ing); held != nil {
		t.Errorf("%d bytes known to be wrong are held", len(held))
	}
	// The same ingest can begin anew.
	_, err = ing.CopyFrom(t.Context(), 0, bytes.NewReader(content))
	b.must(err)
	b.must(ing.Commit(t.Context()))
	b.must(ing.Close())
	b.sync()
	wantBlob(t, b, oci.DigestOf(content), content)
	wantAbsent(t, b, oci.DigestOf(other))
}

func peerReportsWrongDigest(t *testing.T, b *bench) {
	content, other := Content(70_000), Content(70_000)
	other[0] ^= 1
	ing := b.ingest(describe(content))
	_, err := ing.CopyFrom(t.Context(), 0, cutBody(other))
	b.wantErr(err, errCut)
	b.wantKind(err, fault.Protocol)
	b.must(ing.Close())
	b.wantHeld(describe(content), nil)
}

func heldTooMuch(t *testing.T, b *bench) {
	content := Content(1000)
	desc := describe(content)
	b.leaveUnchecked(oci.Descriptor{Digest: desc.Digest, Size: 2000}, append(Content(500), content...))
	b.reopen()
	b.wantHeld(desc, nil)
	b.put(content)
	b.sync()
	wantBlob(t, b, desc.Digest, content)
}

func impossibleDescriptor(t *testing.T, b *bench) {
	for _, desc := range []oci.Descriptor{
		{Digest: "sha256:../../../x", Size: 1},
		{Digest: "", Size: 1},
		{Digest: oci.DigestOf(nil), Size: -1},
	} {
		ing, err := b.Ingest(t.Context(), desc)
		b.wantKind(err, fault.Protocol)
		if ing != nil {
			t.Errorf("%+v gives an ingest", desc)
		}
	}
}

func commitTwice(t *testing.T, b *bench) {
	content := Content(1000)
	ing := b.ingest(describe(content))
	_, err := ing.CopyFrom(t.Context(), 0, bytes.NewReader(content))
	b.must(err)
	b.must(ing.Commit(t.Context()))
	b.must(ing.Commit(t.Context()))
	b.must(ing.Close())
	b.must(ing.Close())
	b.sync()
	wantBlob(t, b, oci.DigestOf(content), content)
}

func presentBlob(t *testing.T, b *bench) {
	content := Content(1000)
	b.put(content)
	// Committed but not synced yet counts too: it needs no second download.
	for range 2 {
		ing := b.ingest(describe(content))
		if !bytes.Equal(heldBytes(t, ing), content) {
			t.Error("a blob that is there is not held")
		}
		n, err := ing.CopyFrom(t.Context(), 0, iotest.ErrReader(errors.New("read for nothing")))
		if n != 0 || err != nil {
			t.Errorf("CopyFrom gives %d, %v; want it to read nothing", n, err)
		}
		b.must(ing.Commit(t.Context()))
		b.must(ing.Close())
		b.sync()
		wantBlob(t, b, oci.DigestOf(content), content)
	}
}

func secondCallerWaits(t *testing.T, b *bench) {
	content := Content(1000)
	first := b.ingest(describe(content))
	got := make(chan []byte)
	go func() {
		defer close(got)
		second, err := b.Ingest(t.Context(), describe(content))
		if err != nil {
			t.Error(err)
			return
		}
		defer second.Close()
		got <- heldBytes(t, second)
	}()
	// Another digest is not held up.
	b.put(Content(10))
	_, err := first.CopyFrom(t.Context(), 0, bytes.NewReader(content))
	b.must(err)
	b.must(first.Commit(t.Context()))
	select {
	case <-got:
		t.Error("the second caller did not wait")
	default:
	}
	b.must(first.Close())
	if held := <-got; !bytes.Equal(held, content) {
		t.Errorf("the second caller holds %d bytes, want the blob of the first", len(held))
	}
	<-got
}

func waitingEnds(t *testing.T, b *bench) {
	first := b.ingest(describe(Content(10)))
	defer first.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Ingest(ctx, describe(Content(10)))
	b.wantKind(err, fault.Cancelled)
}

func copyingEnds(t *testing.T, b *bench) {
	content := Content(2 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	ing := b.ingest(describe(content))
	_, err := ing.CopyFrom(ctx, 0, io.MultiReader(bytes.NewReader(content[:1<<20]), readerFunc(func(p []byte) (int, error) {
		cancel()
		return copy(p, content[1<<20:][:1]), nil
	})))
	b.wantKind(err, fault.Cancelled)
	b.must(ing.Close())
	b.wantHeld(describe(content), content[:1<<20+1])
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func afterClose(t *testing.T, b *bench) {
	content := Content(10)
	ing := b.ingest(describe(content))
	b.must(ing.Close())
	if _, err := ing.CopyFrom(t.Context(), 0, bytes.NewReader(content)); err == nil {
		t.Error("a closed ingest takes bytes")
	}
	if err := ing.Commit(t.Context()); err == nil {
		t.Error("a closed ingest commits")
	}
	if ing.Held() != nil {
		t.Error("a closed ingest holds bytes")
	}
}

// manyAtOnce has several goroutines ingest the same blobs, each sometimes
// syncing, as the layers that images share are.
func manyAtOnce(t *testing.T, b *bench) {
	contents := crowd()
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range contents {
				content := contents[(i+worker*7)%len(contents)]
				if err := receive(t.Context(), b, content); err != nil {
					t.Error(err)
				}
				if i%13 == worker {
					if err := b.Sync(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	b.sync()
	for _, content := range contents {
		wantBlob(t, b, oci.DigestOf(content), content)
	}
}

func receive(ctx context.Context, in store.Ingester, content []byte) error {
	ing, err := in.Ingest(ctx, describe(content))
	if err != nil {
		return err
	}
	defer ing.Close()
	if _, err := ing.CopyFrom(ctx, 0, bytes.NewReader(content)); err != nil {
		return err
	}
	return ing.Commit(ctx)
}
