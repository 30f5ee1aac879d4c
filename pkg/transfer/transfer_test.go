package transfer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
	"ferry/pkg/store"
)

var discard = slog.New(slog.DiscardHandler)

// quick repeats without waiting long; the registry under test fails by count.
var quick = Retry{Attempts: 3, Delay: time.Millisecond, MaxDelay: time.Millisecond}

// bench is a source, a store and what a test needs to run the parts.
type bench struct {
	t   *testing.T
	src *registrytest.Server
	dir string
}

func newBench(t *testing.T, opts ...registrytest.Option) *bench {
	return &bench{t: t, src: registrytest.Start(t, registrytest.New(opts...)), dir: t.TempDir()}
}

func client(t *testing.T) *wire.Client {
	t.Helper()
	c, err := wire.New(wire.Options{PlainHTTP: true, Anonymous: true, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (b *bench) open() *store.Dir {
	b.t.Helper()
	st, err := store.OpenDir(b.t.Context(), b.dir, store.Exclusive)
	if err != nil {
		b.t.Fatal(err)
	}
	return st
}

func (b *bench) close(st *store.Dir, sel contract.SelectionSpec) (contract.Contents, error) {
	c := &Closer{Source: client(b.t), Store: st, Parallel: 4, Retry: quick, Log: slog.New(slog.DiscardHandler), Progress: progress.None()}
	sel.Normalize()
	return c.Close(b.t.Context(), &sel)
}

func (b *bench) download(st *store.Dir, c *contract.Contents, tracker progress.Tracker) (Downloaded, error) {
	d := &Downloader{Source: client(b.t), Store: st, Parallel: 4, Retry: quick, Log: slog.New(slog.DiscardHandler), Progress: tracker}
	return d.Download(b.t.Context(), c)
}

// layer is an uncompressed tar with the given files.
func layer(files ...string) []byte {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		tw.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))})
		io.WriteString(tw, files[i+1])
	}
	tw.Close()
	return buf.Bytes()
}

func (b *bench) ref(path, reference string) string {
	if strings.HasPrefix(reference, "sha256:") {
		return b.src.Host + "/" + path + "@" + reference
	}
	return b.src.Host + "/" + path + ":" + reference
}

// product fills the source with an image of each link kind and returns the
// selection that finds them all.
func (b *bench) product() contract.SelectionSpec {
	r := b.src.Registry
	part := r.PutImage("e", "", layer("part", "1"))
	index := oci.Descriptor{}
	{
		child := r.PutImage("e", "", layer("arm", "1"))
		index = r.PutManifest("e", "", oci.MediaTypeIndex, registrytest.IndexManifest(child))
	}
	r.PutImage("e", "sha256-"+part.Digest.Hex()+".att", layer("vex", "1"))
	// The list lies below another layer (S1.5.3).
	r.PutImage("e/install", "v1", layer("digests.json", fmt.Sprintf(`{"a":{"b":%q,"c":%q}}`, part.Digest, index.Digest)), layer("top", "1"))
	r.PutImage("m", "v2", layer("extra.json", `{"scanner":3,"other":"x1","flag":true}`))
	r.PutImage("m/extra/scanner", "3", layer("scanner", "1"))
	r.PutImage("m", "tagged", layer("tags.json", `{"g":{"i":"component"}}`, "digests.json", `{}`))
	r.PutImage("e", "component", layer("component", "1"))
	e, m := b.src.Host+"/e", b.src.Host+"/m"
	digests := contract.Link{Kind: contract.LinkDigests, File: "digests.json", Unless: "tags.json", Required: true, Repository: e, Path: "",
		Links: []contract.Link{{Kind: contract.LinkAttached, Templates: []string{"{digest}.att", "{tag}.att"}, Repository: e, Path: "", Optional: true}}}
	tags := contract.Link{Kind: contract.LinkTags, File: "tags.json", Repository: e, Path: ""}
	return contract.SelectionSpec{
		Vendor: "test", Source: e,
		Archives: []contract.Archive{{Name: "platform"}, {Name: "module-m"}, {Name: "module-gone"}},
		Images: []contract.SelectedImage{
			{Source: b.ref("e/install", "v1"), Archive: "platform", Path: "install", Tag: "v1", Phase: contract.PhaseVersion, Reason: "r", Links: []contract.Link{tags, digests}},
			{Source: b.ref("m", "tagged"), Archive: "platform", Path: "install", Tag: "pr1", Phase: contract.PhaseVersion, Reason: "r", Links: []contract.Link{tags, digests}},
			{Source: b.ref("m", "v2"), Archive: "module-m", Path: "modules/m", Tag: "v2", Phase: contract.PhaseVersion, Reason: "r", Links: []contract.Link{
				{Kind: contract.LinkNamedTags, File: "extra.json", Repository: m + "/extra", Path: "modules/m/extra", Optional: true},
				{Kind: contract.LinkAttached, Templates: []string{"{tag}.att"}, Repository: m, Path: "modules/m", Optional: true},
			}},
			{Source: b.ref("gone", "v9"), Archive: "module-gone", Path: "modules/gone", Tag: "v9", Phase: contract.PhaseVersion, Optional: true, Reason: "r"},
		},
		Discovery: []contract.DiscoveryTag{
			{Path: "modules", Tag: "m", Phase: contract.PhaseDiscovery, Needs: "modules/m"},
			{Path: "modules", Tag: "gone", Phase: contract.PhaseDiscovery, Needs: "modules/gone"},
		},
	}
}

func targets(c contract.Contents) []string {
	var out []string
	for _, im := range c.Images {
		tag := im.Tag
		if im.Tag == im.Digest.Hex() {
			tag = "<hex>"
		}
		out = append(out, im.Path+":"+strings.ReplaceAll(tag, im.Digest.Hex(), "<own>"))
	}
	for i, s := range out {
		if strings.HasPrefix(s, ":sha256-") {
			out[i] = ":<vex>"
		}
	}
	slices.Sort(out)
	return out
}

// S1.5, S1.6, S1.7: every kind of link is followed, and what is optional and
// definitely absent is listed, not lost.
//
// S1.5.1, S1.5.2, S1.6.1, S1.6.2, S1.7.1, S9 rows 33 and 42.
func TestCloseFollowsLinks(t *testing.T) {
	b := newBench(t)
	sel := b.product()
	st := b.open()
	defer st.Close()
	c, err := b.close(st, sel)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{":<hex>", ":<hex>", ":<vex>", ":component", "install:pr1", "install:v1", "modules/m/extra/scanner:3", "modules/m:v2"}
	if diff := cmp.Diff(want, targets(c)); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	var skipped []string
	for _, s := range c.Skipped {
		if !strings.HasPrefix(s.Tag, "sha256-") { // the index has no attestation
			skipped = append(skipped, s.Path+":"+s.Tag)
		}
	}
	if diff := cmp.Diff([]string{"modules/gone:v9", "modules/m:v2.att", "modules/m/extra/other:x1"}, skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	if len(c.Archives) != 2 || len(c.Discovery) != 1 {
		t.Errorf("archives %v and discovery %v name what is not there", c.Archives, c.Discovery)
	}
	// The Plan comes before the download: of the layers, only those that
	// were read for links were fetched.
	for _, r := range b.src.Requests() {
		if r.Kind == registrytest.KindBlob && r.Repository == "e" {
			t.Errorf("closing the selection downloaded %s", r.Path)
		}
	}
}

// Same input, same bytes: a second run of the same selection gives the same text.
func TestCloseIsDeterministic(t *testing.T) {
	b := newBench(t)
	sel := b.product()
	var texts [2]string
	for i := range texts {
		b.dir = t.TempDir()
		st := b.open()
		c, err := b.close(st, sel)
		st.Close()
		if err != nil {
			t.Fatal(err)
		}
		text, err := contract.Encode(contract.New("test", nil, contract.InventorySpec{Store: contract.StoreLocation{Type: contract.StoreDir, Path: "/store"}, Contents: c}))
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
	}
	if diff := cmp.Diff(texts[0], texts[1]); diff != "" {
		t.Error(diff)
	}
}

// S5.2, S9 rows 67 and 68, B10: nothing but a definite "not found" excuses an
// absence, also of an optional image.
//
// S9 row 27.
func TestOnlyNotFoundIsAbsence(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault registrytest.Fault
		want  *fault.Kind
	}{
		{"401", registrytest.Fault{Status: 401}, fault.Denied},
		{"403", registrytest.Fault{Status: 403}, fault.Denied},
		{"429", registrytest.Fault{Status: 429}, fault.RateLimited},
		{"500", registrytest.Fault{Status: 500}, fault.Transient},
		{"503", registrytest.Fault{Status: 503}, fault.Transient},
		{"dropped", registrytest.Fault{Drop: true}, fault.Transient},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			tc.fault.Kind, tc.fault.Repository, tc.fault.Times = registrytest.KindManifest, "gone", registrytest.Always
			b.src.Inject(tc.fault)
			st := b.open()
			defer st.Close()
			_, err := b.close(st, b.product())
			if fault.KindOf(err) != tc.want {
				t.Errorf("got %v, want kind %v", err, tc.want)
			}
		})
	}
	t.Run("404 of a required image", func(t *testing.T) {
		b := newBench(t)
		sel := b.product()
		sel.Images[3].Optional = false
		st := b.open()
		defer st.Close()
		if _, err := b.close(st, sel); fault.KindOf(err) != fault.NotFound {
			t.Errorf("got %v, want not found", err)
		}
	})
	t.Run("404 of a found image's child", func(t *testing.T) {
		b := newBench(t)
		sel := b.product()
		child := b.src.PutImage("gone", "", layer("x", "1"))
		b.src.PutManifest("gone", "v9", oci.MediaTypeIndex, registrytest.IndexManifest(child))
		b.src.Delete("gone", string(child.Digest))
		st := b.open()
		defer st.Close()
		if _, err := b.close(st, sel); fault.KindOf(err) != fault.Protocol {
			t.Errorf("got %v, want protocol: the image is there, but broken", err)
		}
	})
}

// S1.5.2: without either file the pull fails.
func TestRequiredFile(t *testing.T) {
	b := newBench(t)
	sel := b.product()
	b.src.PutImage("e/install", "v1", layer("other.json", "{}"))
	st := b.open()
	defer st.Close()
	if _, err := b.close(st, sel); err == nil || !strings.Contains(err.Error(), "digests.json") {
		t.Errorf("got %v, want an error that names the missing file", err)
	}
}

// S3.9.2, S6.5.6, S9 row 22.
func TestTwoImagesForOneTag(t *testing.T) {
	b := newBench(t)
	sel := b.product()
	b.src.PutImage("m", "3", layer("another", "1"))
	sel.Images = append(sel.Images, contract.SelectedImage{Source: b.ref("m", "3"), Archive: "module-m", Path: "modules/m/extra/scanner", Tag: "3", Reason: "r"})
	st := b.open()
	defer st.Close()
	if _, err := b.close(st, sel); err == nil || !strings.Contains(err.Error(), "two images claim this tag") {
		t.Errorf("got %v, want both claimants named", err)
	}
}

// Each distinct blob is requested once, however many repositories want it, and
// a second run requests none.
//
// S5.3.2, S5.3.5.
func TestDownloadOnce(t *testing.T) {
	b := newBench(t)
	sel := b.product()
	st := b.open()
	defer st.Close()
	c, err := b.close(st, sel)
	if err != nil {
		t.Fatal(err)
	}
	var tracker countingTracker
	figures, err := b.download(st, &c, &tracker)
	if err != nil {
		t.Fatal(err)
	}
	if got := tracker.bytes.Load(); got < figures.MissingBytes {
		t.Errorf("progress saw %d bytes, want all %d", got, figures.MissingBytes)
	}
	if got := tracker.images.Load(); got != int64(len(c.Images)) {
		t.Errorf("progress saw %d images, want %d", got, len(c.Images))
	}
	seen := map[string]int{}
	for _, r := range b.src.Requests() {
		if r.Method == "GET" && r.Kind == registrytest.KindBlob {
			seen[r.Reference]++
		}
	}
	for _, blob := range c.Blobs {
		if seen[string(blob.Digest)] != 1 {
			t.Errorf("blob %s was requested %d times, want once", blob.Digest, seen[string(blob.Digest)])
		}
	}
	b.src.Reset()
	if _, err := b.close(st, sel); err != nil {
		t.Fatal(err)
	}
	if _, err := b.download(st, &c, progress.None()); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.src.Requests() {
		// Tags are looked up each time; and that one is gone GET has to say, as
		// long as no HEAD has found anything (Q13).
		if r.Method == "GET" && r.Kind != registrytest.KindTags && r.Status != 404 {
			t.Errorf("the second run requested %s", r.Path)
		}
	}
}

type countingTracker struct {
	progress.Tracker
	bytes, images atomic.Int64
}

func (c *countingTracker) SetTotal(int64, int64) {}
func (c *countingTracker) AddBytes(n int64)      { c.bytes.Add(n) }
func (c *countingTracker) AddImages(n int64)     { c.images.Add(n) }
func (c *countingTracker) Phase(string)          {}

// A blob cut in the middle continues with Range, in the same process and in the
// next one.
//
// S5.3.2, S6.9.2, S9 row 85.
func TestDownloadContinues(t *testing.T) {
	b := newBench(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	b.src.PutImage("a", "v1", big)
	sel := contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}},
		Images: []contract.SelectedImage{{Source: b.ref("a", "v1"), Archive: "images", Path: "a", Tag: "v1", Reason: "r"}}}
	st := b.open()
	c, err := b.close(st, sel)
	if err != nil {
		t.Fatal(err)
	}
	digest := oci.DigestOf(big)
	// More cuts than tries may fail in a row, for each gets further; then the
	// run ends, and keeps what it has.
	b.src.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Digest: digest, CutAfter: 1000, Times: 2 * quick.Attempts})
	b.src.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Digest: digest, Status: 403, Times: registrytest.Always})
	if _, err := b.download(st, &c, progress.None()); fault.KindOf(err) != fault.Denied {
		t.Fatalf("got %v, want the refusal behind the cuts", err)
	}
	st.Close()
	b.src.Heal()
	b.src.Reset()
	st = b.open()
	defer st.Close()
	if _, err := b.download(st, &c, progress.None()); err != nil {
		t.Fatal(err)
	}
	var ranges []string
	for _, r := range b.src.Requests() {
		if r.Reference == string(digest) {
			ranges = append(ranges, r.Range)
			if r.BytesOut >= int64(len(big)) {
				t.Errorf("the whole blob was sent again (%d bytes)", r.BytesOut)
			}
		}
	}
	if len(ranges) != 1 || !strings.HasPrefix(ranges[0], "bytes=") {
		t.Errorf("ranges %q, want one request for the rest", ranges)
	}
}

// publishTo publishes everything that sel finds to a fresh target.
func (b *bench) publishTo(target *registrytest.Server, prefixes ...Prefix) (*Publisher, contract.Contents) {
	b.t.Helper()
	st, c := b.fetched(b.product())
	return &Publisher{
		Target: client(b.t), Content: st, Root: target.Repository("mirror/dkp"), Prefixes: prefixes,
		Parallel: 4, Retry: quick, Log: slog.New(slog.DiscardHandler), Progress: progress.None(),
	}, c
}

// S7.6.4.
func TestPublish(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	p, c := b.publishTo(target)
	receipt, figures, err := p.Publish(t.Context(), &c)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]oci.Digest{"mirror/dkp/modules:m": oci.NewPlaceholder().Descriptor.Digest}
	for _, im := range c.Images {
		want[strings.TrimSuffix("mirror/dkp/"+im.Path, "/")+":"+im.Tag] = im.Digest
	}
	if diff := cmp.Diff(want, target.Tags()); diff != "" {
		t.Errorf("tags at the target (-want +got):\n%s", diff)
	}
	if len(receipt.Tags) != len(want) || figures.TagsWritten != int64(len(want)) {
		t.Errorf("receipt has %d tags, %d written, want %d", len(receipt.Tags), figures.TagsWritten, len(want))
	}
	if n := target.OpenUploads(); n != 0 {
		t.Errorf("%d upload sessions were left open", n)
	}
	assertOrder(t, target.Requests(), c)

	// S7, Q24: the second run writes nothing and gives the same receipt.
	target.Reset()
	again, _, err := p.Publish(t.Context(), &c)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(receipt, again); diff != "" {
		t.Errorf("the second receipt differs:\n%s", diff)
	}
	if writes := target.Writes(); len(writes) > 0 {
		t.Errorf("the second run wrote %v", writes)
	}
}

// assertOrder checks on the request log that tags come last: phases of tags never go back.
func assertOrder(t *testing.T, requests []registrytest.Request, c contract.Contents) {
	t.Helper()
	phases := map[string]int{"mirror/dkp/modules:m": contract.PhaseDiscovery}
	for _, im := range c.Images {
		phases[strings.TrimSuffix("mirror/dkp/"+im.Path, "/")+":"+im.Tag] = im.Phase
	}
	last := 0
	for _, r := range requests {
		if r.Method != "PUT" || r.Kind != registrytest.KindManifest {
			continue
		}
		phase, tagged := phases[r.Repository+":"+r.Reference]
		if tagged && phase < last {
			t.Errorf("%s:%s of phase %d was written after a tag of phase %d", r.Repository, r.Reference, phase, last)
		}
		if tagged {
			last = phase
		}
	}
	if last != contract.PhaseDiscovery {
		t.Errorf("the last tag written has phase %d, want discovery", last)
	}
}

// S7.5.2, S9 row 20.
func TestPublishPrefix(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	p, c := b.publishTo(target, Prefix{From: "modules", To: "my/mods"})
	if _, _, err := p.Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	tags := target.Tags()
	for _, want := range []string{"mirror/dkp/my/mods:m", "mirror/dkp/my/mods/m:v2", "mirror/dkp/my/mods/m/extra/scanner:3", "mirror/dkp/install:v1"} {
		if _, ok := tags[want]; !ok {
			t.Errorf("%s is not at the target", want)
		}
	}
}

// S7.5 row "/": an empty prefix puts modules directly below the root.
func TestPrefixApply(t *testing.T) {
	for _, tc := range []struct{ from, to, path, want string }{
		{"modules", "my/mods", "modules/x/release", "my/mods/x/release"},
		{"modules", "", "modules/x", "x"},
		{"modules", "", "modules", ""},
		{"modules", "my/mods", "modulesx", "!"},
		{"modules", "m", "security/modules", "!"},
	} {
		got, ok := Prefix{From: tc.from, To: tc.to}.apply(tc.path)
		if !ok {
			got = "!"
		}
		if got != tc.want {
			t.Errorf("%s -> %s: %s becomes %q, want %q", tc.from, tc.to, tc.path, got, tc.want)
		}
	}
}

// S7.2.2, S7.8.
func TestPublisherRepository(t *testing.T) {
	p := landing{
		root: oci.Repository{Host: "registry.example:5000", Path: "mirror/ee"},
		prefixes: []Prefix{
			{From: "installer", To: "mirror/installer", Absolute: true},
			{From: "cli", To: "tools", Absolute: true},
			{From: "cli/plugins", To: "never"}, // the first that fits counts
			{From: "modules", To: "my/mods"},
		},
	}
	for path, want := range map[string]string{
		"":              "mirror/ee",
		"install":       "mirror/ee/install",
		"installer":     "mirror/installer",
		"installer/x":   "mirror/installer/x",
		"installer-old": "mirror/ee/installer-old",
		"x/installer":   "mirror/ee/x/installer",
		"cli/plugins/p": "tools/plugins/p",
		"modules/m":     "mirror/ee/my/mods/m",
	} {
		got, root := p.repository(path)
		if got.String() != "registry.example:5000/"+want {
			t.Errorf("%q lands in %s, want %s", path, got, want)
		}
		wantRoot := "mirror/ee"
		switch {
		case strings.HasPrefix(want, "mirror/installer"):
			wantRoot = "mirror/installer"
		case strings.HasPrefix(want, "tools"):
			wantRoot = "tools"
		}
		if root.Path != wantRoot {
			t.Errorf("%q has the root %s, want %s", path, root.Path, wantRoot)
		}
	}
}

// Q5: a registry that will not mount gets every blob, in every repository.
func TestPublishWithoutMount(t *testing.T) {
	for _, status := range []int{202, 401, 405} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			b := newBench(t)
			target := registrytest.Start(t, registrytest.New(registrytest.Q5Mount(status)))
			p, c := b.publishTo(target)
			if _, _, err := p.Publish(t.Context(), &c); err != nil {
				t.Fatal(err)
			}
			if n := target.OpenUploads(); n != 0 {
				t.Errorf("%d upload sessions were left open", n)
			}
		})
	}
}

// N24: killed at any request, the run that follows completes; no tag ever
// points at what is not there (the registry validates).
//
// S7.6.3.
func TestPublishHealsAtEveryRequest(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	p, c := b.publishTo(target)
	if _, _, err := p.Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	total := len(target.Requests())
	for n := 0; n < total; n += 3 {
		target := registrytest.Start(t, registrytest.New())
		p.Root = target.Repository("mirror/dkp")
		p.Target = client(t)
		p.Retry = Retry{Attempts: 1}
		target.Inject(registrytest.Fault{Skip: n, Times: registrytest.Always, Drop: true})
		if _, _, err := p.Publish(t.Context(), &c); err == nil {
			t.Fatalf("published although every request from %d on was dropped", n)
		}
		target.Heal()
		p.Target = client(t)
		p.Retry = quick
		receipt, _, err := p.Publish(t.Context(), &c)
		if err != nil {
			t.Fatalf("after a stop at request %d: %v", n, err)
		}
		if len(receipt.Tags) != len(c.Images)+1 {
			t.Errorf("after a stop at request %d the receipt has %d tags", n, len(receipt.Tags))
		}
	}
}

// Q16: the registry says that it has a blob, and then misses it.
func TestPublishSendsALostBlobAgain(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	p, c := b.publishTo(target)
	lost := c.Blobs[0].Digest
	target.Inject(registrytest.Fault{Method: "HEAD", Kind: registrytest.KindBlob, Digest: lost, Status: 200, Times: registrytest.Always,
		Header: map[string][]string{"Docker-Content-Digest": {string(lost)}}})
	if _, _, err := p.Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
}

// B3: content that does not hash to its name never becomes a tag.
func TestPublishRefusesDamagedContent(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	p, c := b.publishTo(target)
	p.Content = damaged{p.Content, c.Blobs[0].Digest}
	if _, _, err := p.Publish(t.Context(), &c); fault.KindOf(err) != fault.Damaged {
		t.Errorf("got %v, want damaged", err)
	}
	if tags := target.Tags(); len(tags) > 0 {
		t.Errorf("tags were written: %v", tags)
	}
}

// damaged is content with one flipped bit.
type damaged struct {
	store.Reader
	digest oci.Digest
}

func (d damaged) Open(digest oci.Digest) (store.Blob, error) {
	b, err := d.Reader.Open(digest)
	if err != nil || digest != d.digest {
		return b, err
	}
	defer b.Close()
	content, err := io.ReadAll(b)
	if err != nil {
		return nil, err
	}
	content[0] ^= 1
	return memoryBlob{bytes.NewReader(content)}, nil
}

// A tag that somebody else changes while we publish is noticed by reading back.
func TestReadBackNoticesAnotherWriter(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	p, c := b.publishTo(target)
	other := target.PutImage("mirror/dkp/install", "", layer("other", "1"))
	body := target.Content(other.Digest)
	target.Inject(registrytest.Fault{Method: "GET", Kind: registrytest.KindManifest, Repository: "mirror/dkp/install", Reference: "v1",
		Body: string(body), ContentType: other.MediaType, Times: registrytest.Always})
	if _, _, err := p.Publish(t.Context(), &c); fault.KindOf(err) != fault.Protocol {
		t.Errorf("got %v, want protocol", err)
	}
}

// An index holds images for several platforms, and attestations that a builder
// put beside them, which have no files.
//
// S5.3.4, S9 row 69.
func TestLinksOfAnIndex(t *testing.T) {
	b := newBench(t)
	part := b.src.PutImage("e", "", layer("part", "1"))
	image := b.src.PutImage("m", "", layer("digests.json", fmt.Sprintf("[%q]", part.Digest)))
	blob := b.src.PutBlob("m", []byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`))
	blob.MediaType = "application/vnd.in-toto+json"
	attestation := b.src.PutManifest("m", "", oci.MediaTypeManifest, registrytest.ImageManifest(blob, blob))
	b.src.PutManifest("m", "v1", oci.MediaTypeIndex, registrytest.IndexManifest(attestation, image))
	st := b.open()
	defer st.Close()
	c, err := b.close(st, contract.SelectionSpec{
		Vendor: "test", Archives: []contract.Archive{{Name: "images"}},
		Images: []contract.SelectedImage{{Source: b.ref("m", "v1"), Archive: "images", Path: "m", Tag: "v1", Reason: "r",
			Links: []contract.Link{{Kind: contract.LinkDigests, File: "digests.json", Required: true, Repository: b.src.Host + "/e", Path: "e"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"e:<hex>", "m:v1"}, targets(c)); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if len(c.Manifests) != 4 {
		t.Errorf("%d manifests, want the index with both children, and the part", len(c.Manifests))
	}
}

// A channel must not announce a version that the source does not have.
//
// S5.6.3.
func TestCloseSkipsWhatNeedsASkipped(t *testing.T) {
	b := newBench(t)
	b.src.PutImage("m/release", "stable", layer("x", "1"))
	b.src.PutImage("m/release", "beta", layer("x", "1"))
	b.src.PutImage("m", "v2", layer("x", "2"))
	image := func(source, path, tag, needs string, optional bool) contract.SelectedImage {
		return contract.SelectedImage{Source: source, Archive: "images", Path: path, Tag: tag, Needs: needs, Optional: optional, Reason: "r"}
	}
	st := b.open()
	defer st.Close()
	c, err := b.close(st, contract.SelectionSpec{
		Vendor: "test", Archives: []contract.Archive{{Name: "images"}},
		Images: []contract.SelectedImage{
			image(b.ref("m", "v1"), "m", "v1", "", true),
			image(b.ref("m", "v2"), "m", "v2", "", true),
			image(b.ref("m/release", "stable"), "m/release", "stable", "m:v1", false),
			image(b.ref("m/release", "beta"), "m/release", "beta", "m:v2", false),
		},
		Overview: contract.Overview{
			Components: []contract.Component{{Name: "Modules", State: contract.ComponentWanted}},
			Members: []contract.Member{{
				Component: "Modules", Name: "m", Archive: "images", Path: "m", Versions: []string{"v2", "v1"},
				Channels: []string{"beta", "stable"}, ChannelPath: "m/release",
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"m/release:beta", "m:v2"}, targets(c)); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if len(c.Skipped) != 2 {
		t.Errorf("skipped %v, want the version and its channel", c.Skipped)
	}
	// The overview says what was found (S2.7).
	m := c.Overview.Members[0]
	if diff := cmp.Diff([][]string{{"v2"}, {"beta"}}, [][]string{m.Versions, m.Channels}); diff != "" {
		t.Errorf("versions and channels of the overview (-want +got):\n%s", diff)
	}
	if got := c.Overview.Components[0]; got.Images != 2 || got.Bytes == 0 {
		t.Errorf("the overview counts %+v", got)
	}
}

// A target that lost a blob below a tag gets it again, unless tags are trusted.
func TestPublishRepairs(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	p, c := b.publishTo(target)
	if _, _, err := p.Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	manifests, blobs := c.Graph().Closure(c.Images[0].Digest)
	repo := strings.TrimSuffix("mirror/dkp/"+c.Images[0].Path, "/")
	target.Delete(repo, string(blobs[0]))
	if len(manifests) > 1 {
		target.Delete(repo, string(manifests[0].Digest))
	}
	p.CheckBlobs = false
	if _, _, err := p.Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	if target.Has(repo, blobs[0]) {
		t.Fatal("a run that trusts tags looked at blobs: the check below proves nothing")
	}
	p.CheckBlobs = true
	_, figures, err := p.Publish(t.Context(), &c)
	if err != nil {
		t.Fatal(err)
	}
	if !target.Has(repo, blobs[0]) || figures.TagsWritten != 0 {
		t.Errorf("the blob is back: %v; %d tags were written, want none", target.Has(repo, blobs[0]), figures.TagsWritten)
	}
}

// Bytes kept from an earlier run that turn out to be wrong are dropped, and the
// blob comes from its start.
func TestDownloadDropsWrongHeldBytes(t *testing.T) {
	b := newBench(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	b.src.PutImage("a", "v1", big)
	st := b.open()
	defer st.Close()
	c, err := b.close(st, contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}},
		Images: []contract.SelectedImage{{Source: b.ref("a", "v1"), Archive: "images", Path: "a", Tag: "v1", Reason: "r"}}})
	if err != nil {
		t.Fatal(err)
	}
	in, err := st.Ingest(t.Context(), oci.Descriptor{Digest: oci.DigestOf(big), Size: int64(len(big))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.CopyFrom(t.Context(), 0, strings.NewReader("torn page")); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if _, err := b.download(st, &c, progress.None()); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Stat(oci.DigestOf(big)); err != nil {
		t.Errorf("the blob is not in the store: %v", err)
	}
}

// N13: indexes in indexes end somewhere.
func TestCloseBoundsNestedIndexes(t *testing.T) {
	b := newBench(t)
	inner := b.src.PutImage("m", "", layer("x", "1"))
	for range maxDepth + 1 {
		inner = b.src.PutManifest("m", "v1", oci.MediaTypeIndex, registrytest.IndexManifest(inner))
	}
	st := b.open()
	defer st.Close()
	_, err := b.close(st, contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}},
		Images: []contract.SelectedImage{{Source: b.ref("m", "v1"), Archive: "images", Path: "m", Tag: "v1", Optional: true, Reason: "r"}}})
	if fault.KindOf(err) != fault.Protocol || !strings.Contains(err.Error(), "nested") {
		t.Errorf("got %v, want a refusal of the nesting", err)
	}
}

// Q41: a name that no registry accepts is found before the first request.
func TestPublishRefusesInvalidNames(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	for _, to := range []string{"My/Mods", "a//b", "../mods", strings.Repeat("x", 300)} {
		for _, absolute := range []bool{false, true} {
			p, c := b.publishTo(target, Prefix{From: "modules", To: to, Absolute: absolute})
			if _, _, err := p.Publish(t.Context(), &c); fault.KindOf(err) != fault.Usage {
				t.Errorf("%.20s, absolute %v: got %v, want usage", to, absolute, err)
			}
			p.Content.(*store.Dir).Close()
		}
	}
	if n := len(target.Requests()); n > 0 {
		t.Errorf("%d requests were made", n)
	}
}

// What one image has for a manifest and another for a blob fits no archive; it
// must not be found out on the other side.
func TestManifestThatIsABlobToo(t *testing.T) {
	b := newBench(t)
	inner := b.src.PutImage("m", "v1", layer("x", "1"))
	config := b.src.PutBlob("m", b.src.Content(inner.Digest))
	b.src.PutManifest("m", "v2", oci.MediaTypeManifest, registrytest.ImageManifest(config))
	st := b.open()
	defer st.Close()
	sel := contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}}}
	for _, tag := range []string{"v1", "v2"} {
		sel.Images = append(sel.Images, contract.SelectedImage{Source: b.ref("m", tag), Archive: "images", Path: "m", Tag: tag, Reason: "r"})
	}
	if _, err := b.close(st, sel); fault.KindOf(err) != fault.Protocol {
		t.Errorf("got %v, want protocol", err)
	}
}

// A manifest that the target refuses for what it is costs no second upload.
func TestPublishRefusedManifest(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	p, c := b.publishTo(target)
	target.Inject(registrytest.Fault{Method: "PUT", Kind: registrytest.KindManifest, Status: 400, Times: registrytest.Always})
	if _, figures, err := p.Publish(t.Context(), &c); fault.KindOf(err) != fault.Protocol || figures.TagsWritten != 0 {
		t.Errorf("got %v, and %d tags", err, figures.TagsWritten)
	}
	uploads := map[string]int{}
	for _, r := range target.Requests() {
		if r.Method == "PUT" && r.Kind == registrytest.KindUpload {
			uploads[r.Repository+r.Query]++
		}
	}
	for which, n := range uploads {
		if n > 1 {
			t.Errorf("%s was sent %d times", which, n)
		}
	}
}

// A Plan is fetched into a store that has nothing yet, manifests included: what
// was announced is what is counted, or progress would never reach its end.
func TestDownloadCountsManifests(t *testing.T) {
	b := newBench(t)
	st := b.open()
	c, err := b.close(st, b.product())
	st.Close()
	if err != nil {
		t.Fatal(err)
	}
	b.dir = t.TempDir()
	empty := b.open()
	defer empty.Close()
	var tracker countingTracker
	figures, err := b.download(empty, &c, &tracker)
	if err != nil {
		t.Fatal(err)
	}
	if got := tracker.bytes.Load(); got != figures.MissingBytes || figures.MissingBytes != figures.Bytes {
		t.Errorf("%d bytes were counted, %d missing, %d in all; want all three equal", got, figures.MissingBytes, figures.Bytes)
	}
}

// S5.3.3: one blob that does not move keeps no other from coming.
func TestDownloadsInParallel(t *testing.T) {
	b := newBench(t)
	sel := contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}}}
	for i := range 6 {
		tag := fmt.Sprintf("v%d", i)
		b.src.PutImage("a", tag, layer("n", tag))
		sel.Images = append(sel.Images, contract.SelectedImage{Source: b.ref("a", tag), Archive: "images", Path: "a", Tag: tag, Reason: "r"})
	}
	st := b.open()
	defer st.Close()
	c, err := b.close(st, sel)
	if err != nil {
		t.Fatal(err)
	}
	b.src.Reset()
	b.src.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Digest: oci.DigestOf(layer("n", "v0")), Stall: true})
	done := make(chan error, 1)
	go func() {
		_, err := b.download(st, &c, progress.None())
		done <- err
	}()
	for b.src.Count(registrytest.KindBlob, "GET") < len(c.Blobs) {
		select {
		case err := <-done:
			t.Fatalf("the download ended beside a blob that stalls: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	b.src.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// B9: a blob whose first try failed, at whatever step, counts as received only when
// it is. The store then has what an undisturbed run brings, and nothing else; a
// failure that ends the run leaves a store that says so.
func TestFetchHealsAtEveryStep(t *testing.T) {
	b := newBench(t)
	sel := b.product()
	fetch := func(dir string) (contract.Contents, error) {
		b.dir = dir
		st := b.open()
		defer st.Close()
		c, err := b.close(st, sel)
		if err != nil {
			return c, err
		}
		_, err = b.download(st, &c, progress.None())
		return c, err
	}
	holds := func(dir string, c contract.Contents) map[oci.Digest]bool {
		t.Helper()
		b.dir = dir
		st := b.open()
		defer st.Close()
		if damaged, err := st.Verify(t.Context(), nil); err != nil || len(damaged) > 0 {
			t.Errorf("damaged %v, %v", damaged, err)
		}
		have := map[oci.Digest]bool{}
		for _, p := range c.Parts() {
			size, err := st.Stat(p.Digest)
			have[p.Digest] = err == nil && size == p.Size
		}
		return have
	}
	b.src.Reset()
	reference := t.TempDir()
	whole, err := fetch(reference)
	if err != nil {
		t.Fatal(err)
	}
	want := holds(reference, whole)
	gets := 0
	for _, r := range b.src.Requests() {
		if r.Method == "GET" {
			gets++
		}
	}
	for name, broken := range map[string]registrytest.Fault{
		"dropped":        {Drop: true},
		"cut at once":    {CutAfter: 1},
		"cut later":      {CutAfter: 300},
		"wrong bytes":    {WrongBody: true},
		"error":          {Status: 500},
		"another page":   {Body: "<html>", ContentType: "text/html"},
		"not authorized": {Status: 403},
	} {
		t.Run(name, func(t *testing.T) {
			healed, ended := 0, 0
			for n := range gets {
				dir := t.TempDir()
				fault := broken
				fault.Method, fault.Skip = "GET", n
				b.src.Inject(fault)
				c, err := fetch(dir)
				b.src.Heal()
				if err != nil {
					ended++
					if c, err = fetch(dir); err != nil {
						t.Fatalf("GET %d: the second run fails too: %v", n, err)
					}
				} else {
					healed++
				}
				if diff := cmp.Diff(whole, c); diff != "" {
					t.Fatalf("GET %d: the contents differ (-undisturbed +healed):\n%s", n, diff)
				}
				if diff := cmp.Diff(want, holds(dir, c)); diff != "" {
					t.Fatalf("GET %d: the store differs (-undisturbed +healed):\n%s", n, diff)
				}
			}
			t.Attr("cases", strconv.Itoa(gets))
			t.Logf("%d runs healed by themselves, %d with a second one", healed, ended)
		})
	}
}
