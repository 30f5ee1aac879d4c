package transfer

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry"
	"ferry/pkg/registry/registrytest"
)

// published is contents with everything that there is (an index with a child, what
// is attached in every way, a discovery tag), published to target.
func (b *bench) published(target *registrytest.Server) (contract.Contents, contract.ReceiptSpec) {
	b.t.Helper()
	sel, _ := b.signed()
	st, c := b.fetched(sel)
	c.Discovery = append(c.Discovery, contract.DiscoveryTag{Path: "modules", Tag: "m", Phase: contract.PhaseDiscovery, Needs: "e"})
	receipt, _, err := b.publisher(st, target).Publish(b.t.Context(), &c)
	if err != nil {
		b.t.Fatal(err)
	}
	target.Reset()
	return c, receipt
}

func verifier(t *testing.T, target *registrytest.Server) *Verifier {
	return &Verifier{Target: client(t), Root: target.Repository("mirror"), Parallel: 4, Retry: quick, Log: discard, Progress: progress.None()}
}

// requestsOf counts requests by "METHOD kind".
func requestsOf(target *registrytest.Server) map[string]int {
	n := map[string]int{}
	for _, r := range target.Requests() {
		n[r.Method+" "+string(r.Kind)]++
	}
	return n
}

// S7.11.1, S7.11.2, S7.11.5: what was published is proven from the document alone, in one request for
// each tag, manifest below one, and blob in its repository, and nothing is written.
// The Receipt is that of the publish, and says how far it went.
func TestVerify(t *testing.T) {
	for name, opts := range map[string][]registrytest.Option{"api": nil, "no api": {registrytest.Q21NoReferrers()}} {
		for _, read := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, blobs read %v", name, read), func(t *testing.T) {
				b := newBench(t)
				target := registrytest.Start(t, registrytest.New(opts...))
				c, want := b.published(target)
				v := verifier(t, target)
				v.ReadBlobs = read
				got, figures, err := v.Verify(t.Context(), &c)
				if err != nil {
					t.Fatal(err)
				}
				placeholder := oci.NewPlaceholder()
				// The child is in a repository of its own tags; all else has a tag.
				blobs := pairs(c) + len(placeholder.Blobs)
				want.Verified, want.Children, want.Blobs = contract.VerifiedSizes, 1, int64(blobs)
				method := "HEAD"
				if read {
					want.Verified, method = contract.VerifiedContents, "GET"
				}
				got.Normalize()
				want.Normalize()
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("receipt (-want +got):\n%s", diff)
				}
				if figures.Gaps != 0 || int(figures.Tags) != len(c.Images)+1 || read != (figures.BytesRead > 0) {
					t.Errorf("figures %+v", figures)
				}
				if writes := target.Writes(); len(writes) > 0 {
					t.Errorf("it wrote %v", writes)
				}
				requests := requestsOf(target)
				lists := requests["GET referrers"]
				delete(requests, "GET referrers")
				manifests := len(c.Images) + 1 + 1
				if name == "no api" {
					subjects := map[oci.Digest]bool{}
					for _, m := range c.Manifests {
						subjects[m.Subject] = m.Subject != ""
					}
					delete(subjects, "")
					manifests += len(subjects)
				}
				if diff := cmp.Diff(map[string]int{"GET manifest": manifests, method + " blob": blobs}, requests); diff != "" || lists == 0 {
					t.Errorf("requests (-want +got), beside %d for referrers:\n%s", lists, diff)
				}
				again, _, err := v.Verify(t.Context(), &c)
				again.Normalize()
				if diff := cmp.Diff(got, again); diff != "" || err != nil {
					t.Errorf("the second receipt differs: %v\n%s", err, diff)
				}
			})
		}
	}
}

// S7.11.4: whatever is missing is told, one thing or all; nothing that is missing keeps
// another from being told, and a tag that is right hides nothing below it.
func TestVerifyFindsEveryGap(t *testing.T) {
	for name, opts := range map[string][]registrytest.Option{"api": nil, "no api": {registrytest.Q21NoReferrers()}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			full := registrytest.Start(t, registrytest.New(opts...))
			c, _ := b.published(full)
			type thing struct{ path, reference, item string }
			var all []thing
			for tag := range full.Tags() {
				path, name, _ := strings.Cut(tag, ":")
				item := ":" + name
				if _, list := oci.SubjectOfTag(name); list {
					item = "@" // what is not listed is named
				}
				all = append(all, thing{path, name, item})
			}
			tagged := slices.Collect(maps.Values(full.Tags()))
			for _, path := range []string{"mirror/e", "mirror/m", "mirror/m/extra/scanner", "mirror/modules"} {
				for _, digest := range full.Manifests(path) {
					item := "@" + string(digest)
					if slices.Contains(tagged, digest) {
						item = "" // it is missing under its tag
					}
					all = append(all, thing{path, string(digest), item})
				}
				for _, blob := range c.Blobs {
					if full.Has(path, blob.Digest) {
						all = append(all, thing{path, string(blob.Digest), "@" + string(blob.Digest)})
					}
				}
			}
			if len(all) < 2*maxFailures {
				t.Fatalf("only %d things: nothing is shown", len(all))
			}
			v := verifier(t, full)
			if _, _, err := v.Verify(t.Context(), &c); err != nil {
				t.Fatal(err)
			}
			complete := len(full.Requests())
			for _, gone := range all {
				target := registrytest.Start(t, registrytest.New(opts...))
				b.copy(full, target)
				target.Delete(gone.path, gone.reference)
				target.Reset()
				_, figures, err := verifier(t, target).Verify(t.Context(), &c)
				if fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), target.Host+"/"+gone.path+gone.item) || figures.Gaps == 0 {
					t.Errorf("%s of %s is gone: %d gaps, %v", gone.reference, gone.path, figures.Gaps, err)
				}
				if n := len(target.Requests()); n < complete {
					t.Errorf("%s of %s is gone, and only %d of %d questions were asked", gone.reference, gone.path, n, complete)
				}
			}
			empty := registrytest.Start(t, registrytest.New(opts...))
			_, figures, err := verifier(t, empty).Verify(t.Context(), &c)
			if fault.KindOf(err) != fault.NotFound || int(figures.Gaps) < len(c.Images)+pairs(c) || figures.Tags+figures.Children+figures.Blobs > 0 {
				t.Errorf("an empty target: %+v, %v", figures, fault.KindOf(err))
			}
			t.Attr("cases", fmt.Sprint(len(all)+1))
		})
	}
}

// copy seeds to with all that from has.
func (b *bench) copy(from, to *registrytest.Server) {
	b.t.Helper()
	for _, path := range []string{"mirror/e", "mirror/m", "mirror/m/extra/scanner", "mirror/modules"} {
		for _, digest := range from.Manifests(path) {
			body := from.Content(digest)
			m, err := oci.ParseManifest("", body)
			if err != nil {
				b.t.Fatal(err)
			}
			for _, blob := range m.Blobs {
				if from.Has(path, blob.Digest) {
					to.PutBlob(path, from.Content(blob.Digest))
				}
			}
			to.PutManifest(path, "", m.MediaType, body)
		}
		for tag, digest := range from.Tags() {
			if name, ok := strings.CutPrefix(tag, path+":"); ok {
				body := from.Content(digest)
				m, err := oci.ParseManifest("", body)
				if err != nil {
					b.t.Fatal(err)
				}
				to.PutManifest(path, name, m.MediaType, body)
			}
		}
	}
}

// S7.11.1, S7.11.2: what stands there and is something else differs: a tag that was moved, a
// manifest or a blob with other bytes, a blob of another size. The bytes of a blob
// of the right size only reading tells.
func TestVerifyFindsWhatDiffers(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	c, _ := b.published(target)
	var child oci.Digest
	for _, m := range c.Manifests {
		if oci.IsIndex(m.MediaType) {
			child = m.References[0]
		}
	}
	blob := oci.DigestOf(layer("scanner", "1"))
	image := target.Tags()["mirror/e:v1"]
	for name, tc := range map[string]struct {
		spoil func()
		fault registrytest.Fault
		read  bool
		want  string // "" is that nothing is found
	}{
		"a tag leads elsewhere": {func() { target.PutImage("mirror/e", "v1", layer("another", "1")) }, registrytest.Fault{}, false, "/mirror/e:v1: it leads to "},
		"a child is altered":    {nil, registrytest.Fault{Kind: registrytest.KindManifest, Digest: child, WrongBody: true}, false, string(child)},
		"a tag's is altered":    {nil, registrytest.Fault{Kind: registrytest.KindManifest, Reference: "v1", WrongBody: true}, false, "/mirror/e:v1"},
		"a blob is longer": {nil, registrytest.Fault{Kind: registrytest.KindBlob, Method: "HEAD", Digest: blob, Status: 200,
			ContentType: "application/octet-stream", Header: http.Header{"Content-Length": {"999999"}}}, false, "999999"},
		"a blob is altered, and not read": {nil, registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET", Digest: blob, WrongBody: true}, false, ""},
		"a blob is altered, and read":     {nil, registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET", Digest: blob, WrongBody: true}, true, string(blob)},
		"a web page":                      {nil, registrytest.Fault{Kind: registrytest.KindManifest, Reference: "v1", ContentType: "text/html", Body: "<html>"}, false, "/mirror/e:v1"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.spoil != nil {
				tc.spoil()
				defer target.PutManifest("mirror/e", "v1", oci.MediaTypeManifest, target.Content(image))
			}
			if tc.fault.Kind != "" {
				tc.fault.Times = registrytest.Always
				target.Inject(tc.fault)
				defer target.Heal()
			}
			v := verifier(t, target)
			v.ReadBlobs = tc.read
			_, figures, err := v.Verify(t.Context(), &c)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if fault.KindOf(err) != fault.Protocol || figures.Gaps != 1 || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%d gaps, %v; want one with %q", figures.Gaps, err, tc.want)
			}
		})
	}
}

// S7.11.4: absence is never guessed: what the target does not let itself be asked is no gap,
// has the kind of its cause, and hides no gap that was found.
func TestVerifyNeverGuesses(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	c, _ := b.published(target)
	for name, tc := range map[string]struct {
		fault registrytest.Fault
		kind  *fault.Kind
	}{
		"401":       {registrytest.Fault{Status: 401}, fault.Denied},
		"403":       {registrytest.Fault{Status: 403}, fault.Denied},
		"500":       {registrytest.Fault{Status: 500}, fault.Transient},
		"dropped":   {registrytest.Fault{Drop: true}, fault.Transient},
		"too often": {registrytest.Fault{Status: 429, RetryAfter: "0"}, fault.RateLimited},
	} {
		for _, kind := range []registrytest.Kind{registrytest.KindManifest, registrytest.KindBlob, registrytest.KindReferrers} {
			t.Run(name+" to "+string(kind), func(t *testing.T) {
				tc.fault.Kind, tc.fault.Times = kind, registrytest.Always
				target.Inject(tc.fault)
				defer target.Heal()
				_, figures, err := verifier(t, target).Verify(t.Context(), &c)
				if got := fault.KindOf(err); figures.Gaps > 0 || got != tc.kind {
					t.Errorf("%d gaps, %v: %v, want %v", figures.Gaps, got, err, tc.kind)
				}
			})
		}
	}
	t.Run("a gap beside an outage", func(t *testing.T) {
		target.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Status: 500, Times: registrytest.Always})
		target.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Reference: "v1", Status: 404, Times: registrytest.Always})
		defer target.Heal()
		_, figures, err := verifier(t, target).Verify(t.Context(), &c)
		if figures.Gaps != 1 || fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "500") {
			t.Errorf("%d gaps, %v", figures.Gaps, err)
		}
	})
	t.Run("one refusal beside a gap", func(t *testing.T) {
		// What fails for a while does not keep other parts from being looked at.
		target.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Reference: "v1", Status: 500, Times: registrytest.Always})
		blob := oci.DigestOf(layer("scanner", "1"))
		target.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Digest: blob, Status: 404, Times: registrytest.Always})
		defer target.Heal()
		_, figures, err := verifier(t, target).Verify(t.Context(), &c)
		if figures.Gaps != 1 || fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), string(blob)) {
			t.Errorf("%d gaps, %v", figures.Gaps, err)
		}
	})
}

// S7.11.2, Q13: where HEAD of a blob is refused, or has no length, its content tells.
func TestVerifyWithoutHead(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	c, _ := b.published(target)
	for name, head := range map[string]registrytest.Fault{
		"403": {Status: 403}, "405": {Status: 405}, "400": {Status: 400},
		"packed": {Status: 200, ContentType: "x/y", Header: http.Header{"Content-Encoding": {"gzip"}, "Content-Length": {"3"}}},
	} {
		t.Run(name, func(t *testing.T) {
			head.Kind, head.Method, head.Times = registrytest.KindBlob, "HEAD", registrytest.Always
			target.Inject(head)
			defer target.Heal()
			_, figures, err := verifier(t, target).Verify(t.Context(), &c)
			if err != nil || figures.BytesRead == 0 {
				t.Errorf("%+v, %v", figures, err)
			}
			blob := oci.DigestOf(layer("scanner", "1"))
			target.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET", Digest: blob, WrongBody: true, Times: registrytest.Always})
			if _, figures, err = verifier(t, target).Verify(t.Context(), &c); figures.Gaps != 1 || fault.KindOf(err) != fault.Protocol {
				t.Errorf("an altered blob: %+v, %v", figures, err)
			}
		})
	}
}

// S7.6.5, S7.11.3: what somebody attached behind the gap is no gap, and neither is that the
// source's own list is another one there.
func TestVerifyAmongForeignReferrers(t *testing.T) {
	b, st, c := signedAndListed(t)
	target := registrytest.Start(t, registrytest.New(registrytest.Q21NoReferrers()))
	if _, _, err := b.publisher(st, target).Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	var list contract.Image
	for _, im := range c.Images {
		if _, ok := oci.SubjectOfTag(im.Tag); ok {
			list = im
		}
	}
	own, err := oci.ParseManifest("", target.Content(list.Digest))
	if err != nil {
		t.Fatal(err)
	}
	foreign := target.PutImage("mirror/"+list.Path, "", layer("signed behind the gap", "1"))
	target.PutManifest("mirror/"+list.Path, list.Tag, oci.MediaTypeIndex, registrytest.IndexManifest(append(own.Manifests, foreign)...))
	if _, _, err := verifier(t, target).Verify(t.Context(), &c); err != nil {
		t.Errorf("a list with more in it: %v", err)
	}
	target.PutManifest("mirror/"+list.Path, list.Tag, oci.MediaTypeIndex, registrytest.IndexManifest(foreign))
	_, figures, err := verifier(t, target).Verify(t.Context(), &c)
	if fault.KindOf(err) != fault.NotFound || int(figures.Gaps) != len(own.Manifests) || !strings.Contains(err.Error(), string(own.Manifests[0].Digest)) {
		t.Errorf("a list without ours: %d gaps, %v", figures.Gaps, err)
	}
}

// S6.11: what an update takes for granted has to stand too.
func TestVerifyUpdate(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	c, _ := b.published(target)
	update := c
	earlier := target.PutImage("mirror/e", "v9", layer("earlier", "1"))
	update.Assumed = []contract.Assumed{{Path: "e", Tag: "v9", Digest: earlier.Digest}}
	receipt, _, err := verifier(t, target).Verify(t.Context(), &update)
	if err != nil || !slices.ContainsFunc(receipt.Tags, func(t contract.ReceiptTag) bool { return t.Tag == "v9" && t.Digest == earlier.Digest }) {
		t.Errorf("%v, tags %v", err, receipt.Tags)
	}
	target.Delete("mirror/e", "v9")
	_, figures, err := verifier(t, target).Verify(t.Context(), &update)
	if figures.Gaps != 1 || fault.KindOf(err) != fault.NotFound || !strings.Contains(fault.HintOf(err), "bundle before it") {
		t.Errorf("%+v, %v (hint %q)", figures, err, fault.HintOf(err))
	}
}

// S7.2, S7.5: what lands elsewhere is looked for there.
func TestVerifyElsewhere(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	sel, _ := b.signed()
	st, c := b.fetched(sel)
	p := b.publisher(st, target)
	p.Prefixes = []Prefix{{From: "m", To: "other", Absolute: true}}
	if _, _, err := p.Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	v := verifier(t, target)
	if _, figures, err := v.Verify(t.Context(), &c); fault.KindOf(err) != fault.NotFound || figures.Gaps == 0 {
		t.Errorf("without the mapping: %+v, %v", figures, err)
	}
	v.Prefixes = p.Prefixes
	if _, _, err := v.Verify(t.Context(), &c); err != nil {
		t.Error(err)
	}
}

// A manifest that its own tag has proven is not read twice; one that only a list of
// referrers names has no tag, and is looked at.
func TestVerifyBelow(t *testing.T) {
	b := newBench(t)
	arm := b.src.PutImage("e", "arm", layer("arm", "1"))
	b.src.PutManifest("e", "both", oci.MediaTypeIndex, registrytest.IndexManifest(arm))
	sbom := b.src.PutAttached("e", "", arm, sbomType, []byte("sbom"))
	list := oci.ReferrersTag(arm.Digest)
	b.src.PutManifest("e", list, oci.MediaTypeIndex, registrytest.IndexManifest(sbom))
	sel := contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}}}
	for _, tag := range []string{"arm", "both", list} {
		sel.Images = append(sel.Images, contract.SelectedImage{Source: b.ref("e", tag), Archive: "images", Path: "e", Tag: tag, Reason: "r"})
	}
	st, c := b.fetched(sel)
	target := registrytest.Start(t, registrytest.New(registrytest.Q21NoReferrers()))
	if _, _, err := b.publisher(st, target).Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	target.Reset()
	_, figures, err := verifier(t, target).Verify(t.Context(), &c)
	if n := target.Count(registrytest.KindManifest, ""); err != nil || n != 4 || figures.Children != 1 {
		t.Errorf("%d manifests were read, %d below tags, want 4 and 1: %v", n, figures.Children, err)
	}
	target.Delete("mirror/e", string(sbom.Digest))
	_, figures, err = verifier(t, target).Verify(t.Context(), &c)
	if fault.KindOf(err) != fault.NotFound || figures.Gaps != 1 || !strings.Contains(err.Error(), "@"+string(sbom.Digest)) {
		t.Errorf("%d gaps, %v", figures.Gaps, err)
	}
}

// untrusted is a registry whose certificate nobody knows.
type untrusted struct{ registry.Standing }

func (untrusted) Manifest(context.Context, oci.Reference) (oci.Descriptor, []byte, error) {
	return oci.Descriptor{}, nil, fault.Newf(fault.Protocol, "", "unknown authority").Because(fault.Certificate)
}

// A connection that cannot be trusted says nothing of what is there.
func TestVerifyUntrusted(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	c, _ := b.published(target)
	v := verifier(t, target)
	v.Target = untrusted{v.Target}
	if _, figures, err := v.Verify(t.Context(), &c); figures.Gaps > 0 || fault.CauseOf(err) != fault.Certificate {
		t.Errorf("%d gaps, %v", figures.Gaps, err)
	}
}
