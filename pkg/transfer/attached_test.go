package transfer

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/store"
)

const (
	sbomType = "text/spdx"
	sigType  = "application/vnd.dev.cosign.simplesigning.v1+json"
)

// signed fills the source with images to which something is attached in every way,
// and returns a selection and the names of what must be carried besides images.
func (b *bench) signed() (contract.SelectionSpec, []string) {
	r := b.src.Registry
	suffixed := func(d oci.Descriptor, suffix string) string { return oci.ReferrersTag(d.Digest) + suffix }
	var want []string
	attach := func(path, tag string) oci.Descriptor {
		want = append(want, path+":"+tag)
		return r.PutImage(path, tag, layer(tag, "1"))
	}
	refer := func(path string, to oci.Descriptor, kind string) oci.Descriptor {
		desc := r.PutAttached(path, "", to, kind, []byte(kind+" of "+string(to.Digest)))
		want = append(want, path+":"+desc.Digest.Hex())
		return desc
	}
	image := r.PutImage("e", "v1", layer("image", "1"))
	r.PutImage("e", "v0", layer("old", "1"))
	attestation := attach("e", "v1.att")
	attach("e", suffixed(image, ".sig"))
	attach("e", suffixed(image, ".sbom"))
	signature := attach("e", suffixed(attestation, ".sig")) // of an attestation
	r.PutImage("e", suffixed(signature, ".sig"), layer("too deep", "1"))
	sbom := refer("e", image, sbomType)
	attach("e", suffixed(sbom, ".sig"))
	third := refer("e", refer("e", image, sigType), sigType)
	r.PutAttached("e", "", third, sigType, []byte("too deep"))

	// An index is signed as a whole and image by image.
	child := r.PutImage("e", "", layer("child", "1"))
	index := r.PutManifest("e", "", oci.MediaTypeIndex, registrytest.IndexManifest(child))
	attach("e", suffixed(index, ".sig"))
	attach("e", suffixed(child, ".sig"))
	refer("e", child, sbomType)

	// An image of another repository has its attachments there.
	r.PutImage("m", "v2", layer("digests.json", fmt.Sprintf("[%q]", index.Digest), "extra.json", `{"scanner":"5"}`))
	extra := r.PutImage("m/extra/scanner", "5", layer("scanner", "1"))
	r.PutImage("m", suffixed(extra, ".sbom"), layer("not looked for", "1"))
	attach("m/extra/scanner", suffixed(extra, ".sbom"))
	slices.Sort(want)
	return contract.SelectionSpec{
		Vendor: "test", Archives: []contract.Archive{{Name: "images"}},
		Images: []contract.SelectedImage{
			{Source: b.ref("e", "v1"), Archive: "images", Path: "e", Tag: "v1", Phase: contract.PhaseVersion, Reason: "r"},
			{Source: b.ref("m", "v2"), Archive: "images", Path: "m", Tag: "v2", Phase: contract.PhaseVersion, LinksOnly: true, Reason: "r", Links: []contract.Link{
				{Kind: contract.LinkDigests, File: "digests.json", Repository: b.src.Host + "/e", Path: "e"},
				{Kind: contract.LinkNamedTags, File: "extra.json", Repository: b.src.Host + "/m/extra", Path: "m/extra", Optional: true},
			}},
		},
		Attached: contract.Attachments(2, "{digest}.sig", "{digest}.sbom", "{digest}.att", "{tag}.att"),
	}, want
}

// attachments are the names of c's images but those that the test began with.
func attachments(c contract.Contents, not ...string) []string {
	var out []string
	for _, im := range c.Images {
		if name := im.Path + ":" + im.Tag; strings.HasPrefix(im.Reason, "attached to ") && !slices.Contains(not, name) {
			out = append(out, name)
		}
	}
	return out
}

// S1.7.4, S1.7.5, S1.7.7, S1.7.8: what is attached is found beside its image, two
// levels deep, by whatever the source can do, and nothing is said to be skipped.
func TestCloseFindsAttachments(t *testing.T) {
	for name, tc := range map[string]struct {
		opts     []registrytest.Option
		fallback bool // the source lists referrers by tag
	}{
		"api":                     {},
		"api without tag list":    {opts: []registrytest.Option{registrytest.Q27NoTagList(405)}},
		"no api":                  {opts: []registrytest.Option{registrytest.Q21NoReferrers()}, fallback: true},
		"no api and no tag list":  {opts: []registrytest.Option{registrytest.Q21NoReferrers(), registrytest.Q27NoTagList(404)}, fallback: true},
		"api and a list by a tag": {fallback: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tc.opts...)
			sel, want := b.signed()
			if tc.fallback {
				want = append(want, b.listByTag("e")...)
				slices.Sort(want)
			}
			st := b.open()
			defer st.Close()
			c, err := b.close(st, sel)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, attachments(c)); diff != "" {
				t.Errorf("attachments (-want +got):\n%s", diff)
			}
			if len(c.Skipped) > 0 {
				t.Errorf("skipped: %v", c.Skipped)
			}
			for _, m := range c.Manifests {
				parsed, err := oci.ParseManifest(m.MediaType, b.src.Content(m.Digest))
				if err != nil || (m.Subject == "") != (parsed.Subject == nil) || m.Subject != "" && m.Subject != parsed.Subject.Digest {
					t.Errorf("%s: subject %q: %v", m.Digest, m.Subject, err)
				}
			}
		})
	}
}

// listByTag puts the index under the referrers tag of each subject in a repository,
// as clients do at a registry without the API, and returns the names of those that
// are less than two levels deep.
func (b *bench) listByTag(path string) []string {
	lists := map[oci.Digest][]oci.Descriptor{}
	for digest, body := range b.manifests(path) {
		if m, err := oci.ParseManifest("", body); err == nil && m.Subject != nil {
			desc := oci.Descriptor{MediaType: m.MediaType, Digest: digest, Size: int64(len(body))}
			lists[m.Subject.Digest] = append(lists[m.Subject.Digest], desc)
		}
	}
	var names []string
	for subject, list := range lists {
		slices.SortFunc(list, func(a, b oci.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
		b.src.PutManifest(path, oci.ReferrersTag(subject), oci.MediaTypeIndex, registrytest.IndexManifest(list...))
		if !b.tooDeep(path, subject) {
			names = append(names, path+":"+oci.ReferrersTag(subject))
		}
	}
	return names
}

// manifests are those of a repository that have a subject, or are one.
func (b *bench) manifests(path string) map[oci.Digest][]byte {
	out := map[oci.Digest][]byte{}
	for _, digest := range b.src.Manifests(path) {
		out[digest] = b.src.Content(digest)
	}
	return out
}

// tooDeep reports whether subject is attached to something that is attached.
func (b *bench) tooDeep(path string, subject oci.Digest) bool {
	depth := 0
	for {
		m, err := oci.ParseManifest("", b.src.Content(subject))
		if err != nil || m.Subject == nil {
			return depth >= 2
		}
		depth++
		subject = m.Subject.Digest
	}
}

// S1.7.6, S5.2, B10: only a definite "not there" means that nothing is attached,
// at each of the questions.
func TestOnlyNotFoundMeansNothingAttached(t *testing.T) {
	noList := registrytest.Q27NoTagList(404) // each tag is asked for then
	for _, question := range []struct {
		name   string
		kind   registrytest.Kind
		suffix string // of the tag that is asked for
		opts   []registrytest.Option
	}{
		{"signature", registrytest.KindManifest, ".sig", []registrytest.Option{noList}},
		{"list by a tag", registrytest.KindManifest, "", []registrytest.Option{noList, registrytest.Q21NoReferrers()}},
		{"referrers", registrytest.KindReferrers, "", nil},
		{"tag list", registrytest.KindTags, "", nil},
	} {
		for _, tc := range []struct {
			name  string
			fault registrytest.Fault
			want  *fault.Kind
		}{
			{"401", registrytest.Fault{Status: 401}, fault.Denied},
			{"403", registrytest.Fault{Status: 403}, fault.Denied},
			{"404 that is a refusal", registrytest.Fault{Status: 404, Body: `{"errors":[{"code":"DENIED"}]}`}, fault.Denied},
			{"429", registrytest.Fault{Status: 429}, fault.RateLimited},
			{"500", registrytest.Fault{Status: 500}, fault.Transient},
			{"503", registrytest.Fault{Status: 503}, fault.Transient},
			{"dropped", registrytest.Fault{Drop: true}, fault.Transient},
			{"cut", registrytest.Fault{CutAfter: 3}, fault.Transient},
			{"a page", registrytest.Fault{Body: "<html>", ContentType: "text/html"}, fault.Protocol},
		} {
			t.Run(question.name+"/"+tc.name, func(t *testing.T) {
				b := newBench(t, question.opts...)
				image := b.src.PutImage("e", "v1", layer("image", "1"))
				b.src.PutImage("e", "v0", layer("old", "1"))
				b.src.PutImage("e", oci.ReferrersTag(image.Digest)+".sig", layer("signature", "1"))
				f := tc.fault
				f.Kind, f.Times = question.kind, registrytest.Always
				want := tc.want
				switch question.kind {
				case registrytest.KindManifest:
					f.Reference = oci.ReferrersTag(image.Digest) + question.suffix
					if f.Body != "" || f.CutAfter > 0 {
						// HEAD has no body to tell by.
						f.Method = "GET"
						b.src.Inject(registrytest.Fault{Kind: f.Kind, Reference: f.Reference, Method: "HEAD", Status: 405, Times: registrytest.Always})
						if f.CutAfter > 0 {
							b.src.PutManifest("e", f.Reference, oci.MediaTypeIndex, registrytest.IndexManifest(image))
						}
					}
				case registrytest.KindTags:
					// It only saves requests: where it is refused, all tags are
					// asked for, and the signature is found.
					if want == fault.Denied || want == fault.Protocol {
						want = nil
					}
				}
				b.src.Inject(f)
				st := b.open()
				defer st.Close()
				c, err := b.close(st, contract.SelectionSpec{
					Vendor: "test", Archives: []contract.Archive{{Name: "images"}},
					Images:   []contract.SelectedImage{{Source: b.ref("e", "v1"), Archive: "images", Path: "e", Tag: "v1", Reason: "r"}},
					Attached: contract.Attachments(1, "{digest}.sig"),
				})
				if fault.KindOf(err) != want {
					t.Errorf("got %v, want kind %v", err, want)
				}
				if want == nil && len(attachments(c)) != 1 {
					t.Errorf("attachments %v, want the signature", attachments(c))
				}
			})
		}
	}
}

// S1.7.7: a tag list that speaks for itself saves the requests for tags that are
// not there; one that may hide some saves none, and nothing is lost by it.
func TestTagListsSaveRequests(t *testing.T) {
	for _, tc := range []struct {
		name  string
		tags  func(signature string) []string // what the list says
		asked int                             // derived tags of the image
	}{
		{"complete", func(s string) []string { return []string{"v0", "v1", s} }, 1},
		{"complete, and nothing attached", func(string) []string { return []string{"v0", "v1"} }, 0},
		{"without the image", func(s string) []string { return []string{"v0"} }, 4},
		{"only what was asked for", func(s string) []string { return []string{"v1"} }, 4},
		{"empty", func(string) []string { return []string{} }, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			image := b.src.PutImage("e", "v1", layer("image", "1"))
			signature := oci.ReferrersTag(image.Digest) + ".sig"
			listed := tc.tags(signature)
			really := tc.asked > 0
			if really {
				b.src.PutImage("e", signature, layer("signature", "1"))
			}
			b.src.Inject(registrytest.Fault{Kind: registrytest.KindTags, Times: registrytest.Always, ContentType: "application/json",
				Body: fmt.Sprintf(`{"name":"e","tags":["%s"]}`, strings.Join(listed, `","`))})
			if len(listed) == 0 {
				b.src.Heal()
				b.src.Inject(registrytest.Fault{Kind: registrytest.KindTags, Times: registrytest.Always, ContentType: "application/json", Body: `{"name":"e","tags":[]}`})
			}
			st := b.open()
			defer st.Close()
			c, err := b.close(st, contract.SelectionSpec{
				Vendor: "test", Archives: []contract.Archive{{Name: "images"}},
				Images:   []contract.SelectedImage{{Source: b.ref("e", "v1"), Archive: "images", Path: "e", Tag: "v1", Reason: "r"}},
				Attached: contract.Attachments(1, "{digest}.sig", "{digest}.sbom", "{tag}.att"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(attachments(c)) == 1; got != really {
				t.Errorf("attachments %v, the source has the signature: %v", attachments(c), really)
			}
			asked := map[string]bool{}
			for _, r := range b.src.Requests() {
				if r.Kind == registrytest.KindManifest && r.Reference != "v1" && !strings.HasPrefix(r.Reference, "sha256:") {
					asked[r.Reference] = true
				}
			}
			if len(asked) != tc.asked {
				t.Errorf("asked for %v, want %d tags", asked, tc.asked)
			}
		})
	}
}

// What a list names and the source has not is an error that tells the way around.
//
// S1.7.8.
func TestListedReferrerIsGone(t *testing.T) {
	for _, opts := range [][]registrytest.Option{nil, {registrytest.Q21NoReferrers()}} {
		b := newBench(t, opts...)
		image := b.src.PutImage("e", "v1", layer("image", "1"))
		gone := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.DigestOf([]byte("gone")), Size: 4}
		if opts == nil {
			b.src.Inject(registrytest.Fault{Kind: registrytest.KindReferrers, Body: string(registrytest.IndexManifest(gone)), ContentType: oci.MediaTypeIndex})
		} else {
			b.src.PutManifest("e", oci.ReferrersTag(image.Digest), oci.MediaTypeIndex, registrytest.IndexManifest(gone))
		}
		st := b.open()
		defer st.Close()
		_, err := b.close(st, contract.SelectionSpec{
			Vendor: "test", Archives: []contract.Archive{{Name: "images"}},
			Images:   []contract.SelectedImage{{Source: b.ref("e", "v1"), Archive: "images", Path: "e", Tag: "v1", Reason: "r"}},
			Attached: contract.Attachments(1, "{digest}.sig"),
		})
		if fault.KindOf(err) != fault.Protocol || !strings.Contains(err.Error(), gone.Digest.Hex()) {
			t.Errorf("got %v, want a protocol fault that names %s", err, gone.Digest)
		}
		b.dir = t.TempDir()
	}
}

// attachedTo fetches what signed selects, and returns a publisher to a target.
func (b *bench) attachedTo(target *registrytest.Server) (*Publisher, contract.Contents) {
	b.t.Helper()
	sel, _ := b.signed()
	st, c := b.fetched(sel)
	return b.publisher(st, target), c
}

func (b *bench) publisher(st *store.Dir, target *registrytest.Server) *Publisher {
	p := &Publisher{Target: client(b.t), Content: st, Root: target.Repository("mirror"), Parallel: 4, Retry: quick, Progress: progress.None()}
	p.Log = discard
	return p
}

// S7.6.5: the target lists what is attached, by its API or by a tag, the receipt
// says how, and publishing again changes nothing.
func TestPublishLists(t *testing.T) {
	for name, tc := range map[string]struct {
		opts []registrytest.Option
		by   contract.ListedBy
	}{
		"api":    {nil, contract.ListedByAPI},
		"no api": {[]registrytest.Option{registrytest.Q21NoReferrers()}, contract.ListedByTag},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			target := registrytest.Start(t, registrytest.New(tc.opts...))
			p, c := b.attachedTo(target)
			receipt, figures, err := p.Publish(t.Context(), &c)
			if err != nil {
				t.Fatal(err)
			}
			wantReferrers(t, target, receipt, c, tc.by)
			if int(figures.Tags) != len(receipt.Tags) || figures.Tags != figures.TagsWritten {
				t.Errorf("%d tags, %d written, %d in the receipt", figures.Tags, figures.TagsWritten, len(receipt.Tags))
			}
			tags := target.Tags()
			for _, tag := range receipt.Tags {
				name := strings.TrimPrefix(tag.Repository, target.Host+"/") + ":" + tag.Tag
				if tags[name] != tag.Digest {
					t.Errorf("the receipt has %s as %s, the target %s", name, tag.Digest, tags[name])
				}
				delete(tags, name)
			}
			if len(tags) > 0 {
				t.Errorf("tags that the receipt does not have: %v", tags)
			}
			target.Reset()
			again, _, err := p.Publish(t.Context(), &c)
			if err != nil {
				t.Fatal(err)
			}
			again.Normalize()
			receipt.Normalize()
			if diff := cmp.Diff(receipt, again); diff != "" {
				t.Errorf("the second receipt differs:\n%s", diff)
			}
			if writes := target.Writes(); len(writes) > 0 {
				t.Errorf("the second run wrote %v", writes)
			}
		})
	}
}

// wantReferrers checks that the target lists each carried manifest that has a
// subject, in the way that the receipt says.
func wantReferrers(t *testing.T, target *registrytest.Server, receipt contract.ReceiptSpec, c contract.Contents, by contract.ListedBy) {
	t.Helper()
	want := 0
	for _, m := range c.Manifests {
		if m.Subject == "" {
			continue
		}
		want++
		i := slices.IndexFunc(receipt.Referrers, func(r contract.ReceiptReferrer) bool { return r.Digest == m.Digest && r.Subject == m.Subject })
		if i < 0 || receipt.Referrers[i].ListedBy != by {
			t.Errorf("%s is not in the receipt, or listed otherwise than by %s", m.Digest, by)
			continue
		}
		repo, err := oci.ParseRepository(receipt.Referrers[i].Repository)
		if err != nil {
			t.Fatal(err)
		}
		var listed []oci.Descriptor
		if by == contract.ListedByAPI {
			listed, err = client(t).Referrers(t.Context(), repo, m.Subject)
			if err != nil {
				t.Fatal(err)
			}
		} else {
			index := target.Content(target.Tags()[repo.Path+":"+oci.ReferrersTag(m.Subject)])
			parsed, err := oci.ParseManifest(oci.MediaTypeIndex, index)
			if err != nil {
				t.Fatal(err)
			}
			listed = parsed.Manifests
			if !strings.Contains(string(index), `"artifactType":"`+sbomType) && !strings.Contains(string(index), `"artifactType":"`+sigType) || !strings.Contains(string(index), `"annotations"`) {
				t.Errorf("the index says neither what is attached nor its annotations: %s", index)
			}
		}
		if !slices.Contains(listed, oci.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}) {
			t.Errorf("the target does not list %s", m.Digest)
		}
	}
	if want == 0 || want != len(receipt.Referrers) {
		t.Errorf("%d referrers in the receipt, %d in the contents", len(receipt.Referrers), want)
	}
}

// signedAndListed is fetched content with what is attached to it, of a source that
// lists that by tags.
func signedAndListed(t *testing.T) (*bench, *store.Dir, contract.Contents) {
	t.Helper()
	b := newBench(t, registrytest.Q21NoReferrers())
	sel, _ := b.signed()
	b.listByTag("e")
	st := b.open()
	t.Cleanup(func() { st.Close() })
	c, err := b.close(st, sel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.download(st, &c, progress.None()); err != nil {
		t.Fatal(err)
	}
	return b, st, c
}

// S7.6.5: what somebody attached behind the gap stays in the target's list, and the
// source's own list lands as it is where there is none.
func TestPublishKeepsForeignReferrers(t *testing.T) {
	b, st, c := signedAndListed(t)
	var lists []contract.Image
	for _, im := range c.Images {
		if _, ok := oci.SubjectOfTag(im.Tag); ok {
			lists = append(lists, im)
		}
	}
	if len(lists) == 0 {
		t.Fatal("no lists are carried: the test proves nothing")
	}
	fresh := registrytest.Start(t, registrytest.New(registrytest.Q21NoReferrers()))
	if _, _, err := b.publisher(st, fresh).Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	for _, im := range lists {
		if got := fresh.Tags()["mirror/"+im.Path+":"+im.Tag]; got != im.Digest {
			t.Errorf("%s:%s is %s at a fresh target, not the source's %s", im.Path, im.Tag, got, im.Digest)
		}
	}

	target := registrytest.Start(t, registrytest.New(registrytest.Q21NoReferrers()))
	im := lists[0]
	subject, _ := oci.SubjectOfTag(im.Tag)
	path := "mirror/" + im.Path
	own := target.PutAttached(path, "", oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: subject, Size: 1}, "application/own", []byte("own"))
	taken := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.DigestOf([]byte("collected")), Size: 9}
	for _, index := range [][]byte{registrytest.IndexManifest(own), registrytest.IndexManifest(own, taken)} {
		target.PutManifest(path, im.Tag, oci.MediaTypeIndex, index)
		receipt, _, err := b.publisher(st, target).Publish(t.Context(), &c)
		if err != nil {
			t.Fatal(err)
		}
		body := string(target.Content(target.Tags()[path+":"+im.Tag]))
		carried, err := oci.ParseManifest(oci.MediaTypeIndex, b.src.Content(im.Digest))
		if err != nil {
			t.Fatal(err)
		}
		for _, digest := range append([]oci.Digest{own.Digest}, carried.Manifests[0].Digest) {
			if strings.Count(body, string(digest)) != 1 {
				t.Errorf("%s stands %d times in the list:\n%s", digest, strings.Count(body, string(digest)), body)
			}
		}
		for _, tag := range receipt.Tags {
			if tag.Tag == im.Tag && (tag.Digest != oci.DigestOf([]byte(body)) || !tag.Referrers) {
				t.Errorf("the receipt has %s for the list %s", tag.Digest, oci.DigestOf([]byte(body)))
			}
		}
		target.Reset()
		if _, _, err := b.publisher(st, target).Publish(t.Context(), &c); err != nil {
			t.Fatal(err)
		}
		if writes := target.Writes(); len(writes) > 0 {
			t.Errorf("the second run wrote %v", writes)
		}
	}
}

// S6.11, S7.6.5: an update takes the lists of an earlier bundle for granted, and the
// target may have more in them by now; that one is gone is noticed.
func TestPublishUpdateBesideForeignReferrers(t *testing.T) {
	b, st, c := signedAndListed(t)
	target := registrytest.Start(t, registrytest.New(registrytest.Q21NoReferrers()))
	p := b.publisher(st, target)
	if _, _, err := p.Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	earlier := contract.BundleSpec{Contents: c}
	update := c
	update.LeaveOut(earlier.Standing())
	i := slices.IndexFunc(update.Assumed, func(a contract.Assumed) bool { _, ok := oci.SubjectOfTag(a.Tag); return ok })
	list := update.Assumed[i]
	own := target.PutManifest("mirror/"+list.Path, list.Tag, oci.MediaTypeIndex, registrytest.IndexManifest())
	receipt, _, err := p.Publish(t.Context(), &update)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(receipt.Tags, func(tag contract.ReceiptTag) bool {
		return tag.Tag == list.Tag && tag.Digest == own.Digest && tag.Referrers
	}) {
		t.Errorf("the receipt does not have the list as the target has it: %v", receipt.Tags)
	}
	for _, gone := range []func(){
		func() { target.PutImage("mirror/"+list.Path, list.Tag, layer("no list", "1")) },
		func() { target.Delete("mirror/"+list.Path, list.Tag) },
	} {
		gone()
		if _, _, err := p.Publish(t.Context(), &update); fault.KindOf(err) != fault.Policy {
			t.Errorf("got %v, want a refusal", err)
		}
	}
}

// A registry whose API answers, but does not list, gets a tag; the receipt says so.
//
// S7.6.5.
func TestPublishToAnAPIThatListsNothing(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	target.Inject(registrytest.Fault{Kind: registrytest.KindReferrers, Times: registrytest.Always, Body: string(registrytest.IndexManifest()), ContentType: oci.MediaTypeIndex})
	p, c := b.attachedTo(target)
	receipt, _, err := p.Publish(t.Context(), &c)
	if err != nil {
		t.Fatal(err)
	}
	wantReferrers(t, target, receipt, c, contract.ListedByTag)
}

// S7.6.5, N24: what is attached is listed before a version shows, and a stop at any
// request is healed by the next run.
func TestPublishListsHeal(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New(registrytest.Q21NoReferrers()))
	p, c := b.attachedTo(target)
	if _, _, err := p.Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	listed := false
	for _, r := range target.Requests() {
		if r.Method != "PUT" || r.Kind != registrytest.KindManifest {
			continue
		}
		if _, ok := oci.SubjectOfTag(r.Reference); ok {
			listed = true
		}
		if r.Reference == "v1" && !listed {
			t.Error("the version was written before the lists of what is attached")
		}
	}
	want := target.Tags()
	total := len(target.Requests())
	for n := 0; n < total; n += 5 {
		target := registrytest.Start(t, registrytest.New(registrytest.Q21NoReferrers()))
		p.Root, p.Target, p.Retry = target.Repository("mirror"), client(t), Retry{Attempts: 1}
		target.Inject(registrytest.Fault{Skip: n, Times: registrytest.Always, Drop: true})
		if _, _, err := p.Publish(t.Context(), &c); err == nil {
			t.Fatalf("published although every request from %d on was dropped", n)
		}
		target.Heal()
		p.Target, p.Retry = client(t), quick
		if _, _, err := p.Publish(t.Context(), &c); err != nil {
			t.Fatalf("after a stop at request %d: %v", n, err)
		}
		if diff := cmp.Diff(want, target.Tags()); diff != "" {
			t.Errorf("after a stop at request %d:\n%s", n, diff)
		}
	}
}

// S5.6.3, S1.7.4: the signature of a channel that is not carried is not carried.
func TestAttachmentsOfASkippedChannel(t *testing.T) {
	b := newBench(t)
	channel := b.src.PutImage("m/release", "stable", layer("x", "1"))
	b.src.PutImage("m/release", oci.ReferrersTag(channel.Digest)+".sig", layer("signature", "1"))
	b.src.PutImage("m", "v2", layer("x", "2"))
	st := b.open()
	defer st.Close()
	image := func(path, tag, needs string, optional bool) contract.SelectedImage {
		return contract.SelectedImage{Source: b.ref(path, tag), Archive: "images", Path: path, Tag: tag, Needs: needs, Optional: optional, Reason: "r"}
	}
	c, err := b.close(st, contract.SelectionSpec{
		Vendor: "test", Archives: []contract.Archive{{Name: "images"}}, Attached: contract.Attachments(1, "{digest}.sig"),
		Images: []contract.SelectedImage{image("m", "v1", "", true), image("m", "v2", "", false), image("m/release", "stable", "m:v1", false)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"m:v2"}, targets(c)); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
}

// S7.6.5: a referrer whose own tag comes later, as one that a list of images names,
// is there before it is listed.
func TestPublishListsNamedReferrers(t *testing.T) {
	b := newBench(t)
	image := b.src.PutImage("e", "v1", layer("image", "1"))
	sbom := b.src.PutAttached("e", "sbom", image, sbomType, []byte("sbom"))
	st := b.open()
	defer st.Close()
	c, err := b.close(st, contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}}, Images: []contract.SelectedImage{
		{Source: b.ref("e", "sbom"), Archive: "images", Path: "e", Tag: "sbom", Phase: contract.PhaseVersion, Reason: "r"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.download(st, &c, progress.None()); err != nil {
		t.Fatal(err)
	}
	target := registrytest.Start(t, registrytest.New(registrytest.Q21NoReferrers()))
	receipt, _, err := b.publisher(st, target).Publish(t.Context(), &c)
	if err != nil {
		t.Fatal(err)
	}
	wantReferrers(t, target, receipt, c, contract.ListedByTag)
	if len(receipt.Tags) != 2 || receipt.Referrers[0].Digest != sbom.Digest {
		t.Errorf("the receipt has %v and %v", receipt.Tags, receipt.Referrers)
	}
}

// S7.6.5: a list that somebody else overwrites while we publish is noticed.
func TestReadBackNoticesAnOverwrittenList(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New(registrytest.Q21NoReferrers()))
	p, c := b.attachedTo(target)
	i := slices.IndexFunc(c.Manifests, func(m contract.Manifest) bool { return m.Subject != "" })
	tag := oci.ReferrersTag(c.Manifests[i].Subject)
	target.Inject(registrytest.Fault{Method: "GET", Kind: registrytest.KindManifest, Reference: tag, Skip: 1, Times: registrytest.Always,
		Body: string(registrytest.IndexManifest()), ContentType: oci.MediaTypeIndex})
	if _, _, err := p.Publish(t.Context(), &c); fault.KindOf(err) != fault.Protocol || !strings.Contains(err.Error(), "not listed") {
		t.Errorf("got %v, want protocol", err)
	}
}

// Where an image stands in the place of a list, it stays.
func TestPublishRefusesToReplaceAnImageByAList(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New(registrytest.Q21NoReferrers()))
	p, c := b.attachedTo(target)
	i := slices.IndexFunc(c.Manifests, func(m contract.Manifest) bool { return m.Subject != "" })
	tag := oci.ReferrersTag(c.Manifests[i].Subject)
	image := target.PutImage("mirror/e", tag, layer("somebody's", "1"))
	if _, _, err := p.Publish(t.Context(), &c); fault.KindOf(err) != fault.Protocol || !strings.Contains(err.Error(), tag) {
		t.Errorf("got %v, want a protocol fault that names %s", err, tag)
	}
	if got := target.Tags()["mirror/e:"+tag]; got != image.Digest {
		t.Errorf("the image was replaced by %s", got)
	}
}
