package transfer

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/store"
)

// listOf makes contents of repositories that share one layer, each with so many
// tags whose images have a layer of their own; the first repository has an index
// of an index too.
func (b *bench) listOf(repositories, tags int) (*store.Dir, contract.Contents) {
	b.t.Helper()
	sel := contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}}}
	add := func(path, tag string) {
		sel.Images = append(sel.Images, contract.SelectedImage{Source: b.ref(path, tag), Archive: "images", Path: path, Tag: tag, Reason: "r"})
	}
	for i := range repositories {
		path := fmt.Sprintf("r%03d", i)
		for j := range tags {
			tag := fmt.Sprintf("v%d", j)
			b.src.PutImage(path, tag, layer("shared", "by all"), layer("own", path+tag))
			add(path, tag)
		}
	}
	child := b.src.PutImage("r000", "", layer("child", "1"))
	inner := b.src.PutManifest("r000", "", oci.MediaTypeIndex, registrytest.IndexManifest(child))
	b.src.PutManifest("r000", "index", oci.MediaTypeIndex, registrytest.IndexManifest(inner))
	add("r000", "index")
	return b.fetched(sel)
}

// fetched is all that sel finds, in a store.
func (b *bench) fetched(sel contract.SelectionSpec) (*store.Dir, contract.Contents) {
	b.t.Helper()
	st := b.open()
	b.t.Cleanup(func() { st.Close() })
	c, err := b.close(st, sel)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.download(st, &c, progress.None()); err != nil {
		b.t.Fatal(err)
	}
	return st, c
}

// pairs counts the blobs of contents, each in every repository that needs it.
func pairs(c contract.Contents) int {
	roots := map[string][]oci.Digest{}
	for _, im := range c.Images {
		roots[im.Path] = append(roots[im.Path], im.Digest)
	}
	n := 0
	for _, digests := range roots {
		_, blobs := c.Graph().Closure(digests...)
		n += len(blobs)
	}
	return n
}

// uploads lists the blobs that were sent, "repository digest".
func uploads(requests []registrytest.Request) (sent []string) {
	for _, r := range requests {
		if _, digest, ok := strings.Cut(r.Query, "digest="); ok && r.Kind == registrytest.KindUpload && r.Method == http.MethodPut {
			digest, _, _ = strings.Cut(strings.ReplaceAll(digest, "%3A", ":"), "&")
			sent = append(sent, r.Repository+" "+digest)
		}
	}
	return sent
}

// A first publish takes at most three requests for each blob in a repository and two
// for each tag; each blob is sent once, and mounted elsewhere. One that follows
// reads each tag, and that is all.
func TestPublishRequests(t *testing.T) {
	for _, tc := range []struct{ repositories, tags int }{{40, 1}, {20, 2}, {12, 6}, {1, 150}} {
		t.Run(fmt.Sprintf("%d repositories of %d tags", tc.repositories, tc.tags), func(t *testing.T) {
			b := newBench(t)
			st, c := b.listOf(tc.repositories, tc.tags)
			target := registrytest.Start(t, registrytest.New())
			p := b.publisher(st, target)
			if _, _, err := p.Publish(t.Context(), &c); err != nil {
				t.Fatal(err)
			}
			if n, limit := len(target.Requests()), 3*pairs(c)+2*len(c.Images); n > limit {
				t.Errorf("%d requests, the limit is %d for %d blobs in their repositories and %d tags", n, limit, pairs(c), len(c.Images))
			}
			if n := target.Count(registrytest.KindPing, ""); n > 0 {
				t.Errorf("%d pings", n)
			}
			for _, r := range target.Writes() {
				if r.Status >= 400 {
					t.Errorf("%s %s was refused: it came too early", r.Method, r.Path)
				}
			}
			digests := map[string]bool{}
			for _, sent := range uploads(target.Requests()) {
				_, digest, _ := strings.Cut(sent, " ")
				if digests[digest] {
					t.Errorf("%s was sent twice", digest)
				}
				digests[digest] = true
			}
			if len(digests) != len(c.Blobs) {
				t.Errorf("%d blobs were sent, there are %d", len(digests), len(c.Blobs))
			}
			target.Reset()
			if _, figures, err := p.Publish(t.Context(), &c); err != nil || figures.TagsWritten > 0 {
				t.Fatal(figures, err)
			}
			if n := target.Count(registrytest.KindManifest, "GET"); n != len(c.Images) || n != len(target.Requests()) {
				t.Errorf("publishing again reads %d tags of %d, in %d requests", n, len(c.Images), len(target.Requests()))
			}
		})
	}
}

// N24: a publish that goes on after a stop sends no blob that stands in the
// repository, with mounts none that stands anywhere.
func TestPublishContinued(t *testing.T) {
	for name, opts := range map[string][]registrytest.Option{"mounts": nil, "no mounts": {registrytest.Q5Mount(405)}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			st, c := b.listOf(6, 8)
			whole := registrytest.Start(t, registrytest.New(opts...))
			if _, _, err := b.publisher(st, whole).Publish(t.Context(), &c); err != nil {
				t.Fatal(err)
			}
			total, kept := len(whole.Requests()), 0
			for n := 5; n < total; n += 23 {
				target := registrytest.Start(t, registrytest.New(opts...))
				p := b.publisher(st, target)
				p.Retry = Retry{Attempts: 1}
				target.Inject(registrytest.Fault{Skip: n, Times: registrytest.Always, Drop: true})
				if _, _, err := p.Publish(t.Context(), &c); err == nil {
					t.Fatalf("published although every request from %d on was dropped", n)
				}
				target.Heal()
				has := func(path string) map[string]bool {
					set := map[string]bool{}
					for _, blob := range c.Blobs {
						if target.Has(path, blob.Digest) {
							set[string(blob.Digest)] = true
						}
					}
					return set
				}
				before, anywhere := map[string]map[string]bool{}, map[string]bool{}
				for _, im := range c.Images {
					path := "mirror/" + im.Path
					if before[path] == nil {
						before[path] = has(path)
						for digest := range before[path] {
							anywhere[digest] = true
						}
					}
				}
				kept += len(anywhere)
				target.Reset()
				if _, _, err := b.publisher(st, target).Publish(t.Context(), &c); err != nil {
					t.Fatalf("after a stop at request %d: %v", n, err)
				}
				for _, sent := range uploads(target.Requests()) {
					path, digest, _ := strings.Cut(sent, " ")
					if before[path][digest] || name == "mounts" && anywhere[digest] {
						t.Errorf("after a stop at request %d %s was sent again", n, sent)
					}
				}
			}
			if kept == 0 {
				t.Error("nothing stood at the target after any stop: the test proves nothing")
			}
		})
	}
}

// Content that nobody has verified is proven while it is sent: whatever is damaged,
// no manifest and no tag is left at the target.
func TestPublishProvesContentFirst(t *testing.T) {
	b := newBench(t)
	st, c := b.listOf(2, 2)
	var all []oci.Digest
	for _, blob := range c.Blobs {
		all = append(all, blob.Digest)
	}
	for _, m := range c.Manifests {
		all = append(all, m.Digest)
	}
	for _, digest := range all {
		target := registrytest.Start(t, registrytest.New())
		p := b.publisher(st, target)
		p.Content = damaged{st, digest}
		if _, _, err := p.Publish(t.Context(), &c); fault.KindOf(err) != fault.Damaged {
			t.Errorf("%s: got %v, want damaged", digest, err)
		}
		for _, im := range c.Images {
			if left := target.Manifests("mirror/" + im.Path); len(left) > 0 {
				t.Errorf("%s is damaged, and manifests were written: %v", digest, left)
			}
		}
		if target.Has("mirror/r000", digest) || len(target.Tags()) > 0 {
			t.Errorf("%s is damaged, and was kept, or tags were written: %v", digest, target.Tags())
		}
	}
}

// What stands below a tag that is right is neither asked for nor sent: it is there,
// and is mounted where else it is missing. Where the target has lost it, the
// registry refuses the manifest, and it is sent.
func TestPublishTakesTheWordOfTags(t *testing.T) {
	for _, lost := range []bool{false, true} {
		b := newBench(t)
		st, c := b.listOf(2, 2)
		target := registrytest.Start(t, registrytest.New())
		p := b.publisher(st, target)
		if _, _, err := p.Publish(t.Context(), &c); err != nil {
			t.Fatal(err)
		}
		shared := oci.DigestOf(layer("shared", "by all"))
		for _, blob := range append([]oci.Digest{shared}, oci.DigestOf(layer("own", "r001v1"))) {
			target.Delete("mirror/r001", string(blob))
		}
		if lost {
			target.Delete("mirror/r000", string(shared))
		}
		for _, tag := range []string{"v0", "v1"} {
			target.Delete("mirror/r001", tag)
		}
		target.Reset()
		_, figures, err := p.Publish(t.Context(), &c)
		if err != nil {
			t.Fatal(err)
		}
		if !target.Has("mirror/r001", shared) || figures.TagsWritten != 2 {
			t.Errorf("lost %v: %d tags were written, the shared blob is there: %v", lost, figures.TagsWritten, target.Has("mirror/r001", shared))
		}
		sent := slices.Contains(uploads(target.Requests()), "mirror/r001 "+string(shared))
		if sent != lost {
			t.Errorf("lost %v: the shared blob was sent: %v", lost, sent)
		}
		for _, r := range target.Requests() {
			if r.Repository == "mirror/r000" && r.Kind != registrytest.KindManifest {
				t.Errorf("lost %v: asked for something below tags that are right: %s %s", lost, r.Method, r.Path)
			}
		}
	}
}

// Nor is it asked for when another tag of the same repository is missing.
func TestPublishTakesTheWordOfATagBeside(t *testing.T) {
	b := newBench(t)
	st, c := b.listOf(1, 2)
	target := registrytest.Start(t, registrytest.New())
	p := b.publisher(st, target)
	if _, _, err := p.Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	target.Delete("mirror/r000", "v1")
	target.Reset()
	if _, figures, err := p.Publish(t.Context(), &c); err != nil || figures.TagsWritten != 1 {
		t.Fatal(figures, err)
	}
	shared := oci.DigestOf(layer("shared", "by all")).Hex()
	for _, r := range target.Requests() {
		if strings.Contains(r.Path+r.Query, shared) {
			t.Errorf("asked for what stands below v0: %s %s", r.Method, r.Path)
		}
	}
	if n := len(uploads(target.Requests())); n > 0 {
		t.Errorf("%d blobs were sent", n)
	}
}

// A tag list saves questions; it decides nothing. Whatever comes of asking for it,
// the same stands in the end, and what stood is not written.
func TestPublishHeedsTagLists(t *testing.T) {
	list := func(tags string) registrytest.Fault {
		return registrytest.Fault{Kind: registrytest.KindTags, Times: registrytest.Always, ContentType: "application/json", Body: `{"name":"x","tags":[` + tags + `]}`}
	}
	for name, tc := range map[string]struct {
		fault   registrytest.Fault
		gone    string // beside v3, of index and v0 to v5
		written int64
		asked   int
	}{
		"whole":              {registrytest.Fault{Kind: registrytest.KindPing}, "index", 2, 6},
		"denied":             {registrytest.Fault{Kind: registrytest.KindTags, Status: 403, Times: registrytest.Always}, "index", 2, 7},
		"none":               {registrytest.Fault{Kind: registrytest.KindTags, Status: 405, Times: registrytest.Always}, "index", 2, 7},
		"broken":             {registrytest.Fault{Kind: registrytest.KindTags, Status: 500, Times: registrytest.Always}, "index", 2, 7},
		"no such repository": {registrytest.Fault{Kind: registrytest.KindTags, Status: 404, Times: registrytest.Always}, "index", 7, 1},
		"behind":             {list(`"v2","v3"`), "index", 6, 3},
		"contradicted":       {list(`"v2","v3"`), "v0", 2, 7}, // by index, which is read first
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			st, c := b.listOf(1, 6)
			target := registrytest.Start(t, registrytest.New())
			p := b.publisher(st, target)
			receipt, _, err := p.Publish(t.Context(), &c)
			if err != nil {
				t.Fatal(err)
			}
			want := target.Tags()
			for _, tag := range []string{tc.gone, "v3"} {
				target.Delete("mirror/r000", tag)
			}
			target.Reset()
			target.Inject(tc.fault)
			p.Parallel = 1 // one question after the other, to count them
			again, figures, err := p.Publish(t.Context(), &c)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range [][]contract.ReceiptTag{receipt.Tags, again.Tags} {
				if len(r) != len(want) {
					t.Errorf("%d tags in a receipt, want %d", len(r), len(want))
				}
			}
			for name, digest := range want {
				if target.Tags()[name] != digest {
					t.Errorf("%s is %q, want %s", name, target.Tags()[name], digest)
				}
			}
			questions := -int(figures.TagsWritten) // they are read back
			for _, r := range target.Requests() {
				if r.Kind == registrytest.KindManifest && r.Method == "GET" && !strings.HasPrefix(r.Reference, "sha256:") {
					questions++
				}
			}
			if figures.TagsWritten != tc.written || questions != tc.asked {
				t.Errorf("%d tags were written and %d asked for, want %d and %d", figures.TagsWritten, questions, tc.written, tc.asked)
			}
		})
	}
}

// Q24: a tag that may be written once, and is right, is no failure, whether a list
// was behind or an answer was lost; one that leads elsewhere stays as it is.
func TestPublishImmutableTags(t *testing.T) {
	b := newBench(t)
	st, c := b.listOf(1, 6)
	for name, spoil := range map[string]func(*registrytest.Server){
		"the list is behind": func(target *registrytest.Server) {
			target.Delete("mirror/r000", c.Images[0].Tag)
			target.Inject(registrytest.Fault{Kind: registrytest.KindTags, Times: registrytest.Always, ContentType: "application/json", Body: `{"name":"x","tags":[]}`})
		},
		"an answer is lost": func(target *registrytest.Server) {
			target.Delete("mirror/r000", "v3")
			target.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Method: "PUT", Reference: "v3", LoseAnswer: true})
		},
	} {
		target := registrytest.Start(t, registrytest.New(registrytest.Q24ImmutableTags(400)))
		p := b.publisher(st, target)
		receipt, _, err := p.Publish(t.Context(), &c)
		if err != nil {
			t.Fatal(err)
		}
		spoil(target)
		again, figures, err := p.Publish(t.Context(), &c)
		if err != nil || figures.TagsWritten > 1 || len(again.Tags) != len(receipt.Tags) {
			t.Errorf("%s: %v; %d tags were written, %d are in the receipt", name, err, figures.TagsWritten, len(again.Tags))
		}
	}
	target := registrytest.Start(t, registrytest.New(registrytest.Q24ImmutableTags(400)))
	other := target.PutImage("mirror/r000", "v3", layer("another", "image"))
	if _, _, err := b.publisher(st, target).Publish(t.Context(), &c); err == nil || target.Tags()["mirror/r000:v3"] != other.Digest {
		t.Errorf("another image stands there: %v, and the tag is %s", err, target.Tags()["mirror/r000:v3"])
	}
}

// Large blobs are asked for even where nothing of this content can be: another
// one may have brought them.
func TestPublishAsksForLargeBlobs(t *testing.T) {
	b := newBench(t)
	big := make([]byte, worthAsking)
	b.src.PutImage("big", "v1", big)
	sel := contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}}}
	sel.Images = append(sel.Images, contract.SelectedImage{Source: b.ref("big", "v1"), Archive: "images", Path: "big", Tag: "v1", Reason: "r"})
	for i := range 2 * maxFailures {
		path := fmt.Sprintf("more%02d", i)
		b.src.PutImage(path, "v1", append(make([]byte, worthAsking+1), byte(i)))
		sel.Images = append(sel.Images, contract.SelectedImage{Source: b.ref(path, "v1"), Archive: "images", Path: path, Tag: "v1", Reason: "r"})
	}
	st, c := b.fetched(sel)
	target := registrytest.Start(t, registrytest.New())
	target.PutBlob("mirror/big", big)
	_, figures, err := b.publisher(st, target).Publish(t.Context(), &c)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(uploads(target.Requests()), "mirror/big "+string(oci.DigestOf(big))) {
		t.Errorf("the large blob was sent again, as one of %d", figures.BlobsUploaded)
	}
}

// N24: what was put by digest is read back, whole, in one request each and before
// any tag is written: a registry that takes a manifest and does not give it back
// shows no tag that leads to it.
func TestPublishReadsChildrenBack(t *testing.T) {
	b := newBench(t)
	st, c := b.listOf(2, 2)
	children := map[oci.Digest]bool{}
	for _, m := range c.Manifests {
		if oci.IsIndex(m.MediaType) {
			children[m.References[0]] = true
		}
	}
	if len(children) != 2 {
		t.Fatalf("%d children", len(children))
	}
	target := registrytest.Start(t, registrytest.New())
	if _, _, err := b.publisher(st, target).Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	reads, tagged := map[oci.Digest]int{}, false
	for _, r := range target.Requests() {
		if r.Kind != registrytest.KindManifest {
			continue
		}
		digest := oci.Digest(r.Reference)
		tagged = tagged || r.Method == http.MethodPut && !children[digest]
		if r.Method != http.MethodPut && children[digest] {
			reads[digest]++
			if r.Method != http.MethodGet || tagged {
				t.Errorf("%s of %s, after a tag was written: %v", r.Method, digest, tagged)
			}
		}
	}
	for digest := range children {
		if reads[digest] != 1 {
			t.Errorf("%s was read %d times", digest, reads[digest])
		}
		for name, loss := range map[string]registrytest.Fault{"lost": {Status: 404}, "altered": {WrongBody: true}} {
			target := registrytest.Start(t, registrytest.New())
			loss.Kind, loss.Method, loss.Digest, loss.Times = registrytest.KindManifest, http.MethodGet, digest, registrytest.Always
			target.Inject(loss)
			_, _, err := b.publisher(st, target).Publish(t.Context(), &c)
			if err == nil || !strings.Contains(err.Error(), string(digest)) || len(target.Tags()) > 0 {
				t.Errorf("%s is %s: %v, and these tags stand: %v", digest, name, err, target.Tags())
			}
		}
	}
}
