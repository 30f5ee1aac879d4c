package transfer

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
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

// The quirks of registries (rows Q of docs/failures.md), each with the whole job: all
// kinds of content are published to a registry that does so, or fetched from it. What
// must come of it is the same as without the quirk, or an error that names the cause,
// before anything is written that it could have known.

const (
	dockerConfig = "application/vnd.docker.container.image.v1+json"
	imageConfig  = "application/vnd.oci.image.config.v1+json"
	foreignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
)

// job is content of all kinds, in a store.
type job struct {
	*bench
	store *store.Dir
	sel   contract.SelectionSpec
	c     contract.Contents
	tags  map[string]oci.Digest // as they stand below mirror/ when all went well
}

// fill puts content of all kinds into the source, and selects all of it.
func (b *bench) fill() contract.SelectionSpec {
	r := b.src.Registry
	sel := contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}}, Attached: contract.Attachments(2, "{digest}.sig")}
	add := func(path, tag string) {
		sel.Images = append(sel.Images, contract.SelectedImage{Source: b.ref(path, tag), Archive: "images", Path: path, Tag: tag, Optional: true, Reason: "r"})
	}
	for _, path := range []string{"r0", "r1", "r2", "r3", "z/a/b/c"} {
		for _, tag := range []string{"v1", "v2"} {
			signed := r.PutImage(path, tag, layer("shared", "by all"), layer("own", path+tag))
			r.PutImage(path, oci.ReferrersTag(signed.Digest)+".sig", layer("signature", path+tag))
			add(path, tag)
		}
	}
	for i, size := range []int{3 << 20, 2<<20 + 77} {
		tag := fmt.Sprintf("big%d", i)
		r.PutImage("r0", tag, slices.Repeat([]byte{byte(i), 1, 2, 3, 4, 5, 6}, size/7))
		add("r0", tag)
	}
	children := []oci.Descriptor{r.PutImage("r1", "", layer("child", "1")), r.PutImage("r1", "", layer("child", "2"))}
	inner := r.PutManifest("r1", "", oci.MediaTypeIndex, registrytest.IndexManifest(children...))
	r.PutManifest("r1", "index", oci.MediaTypeIndex, registrytest.IndexManifest(children[1], inner))
	add("r1", "index")
	b.put("r2", "docker", oci.MediaTypeDockerManifest, dockerConfig, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	add("r2", "docker")
	b.put("r2", "artifact", oci.MediaTypeManifest, "application/vnd.example.config.v1+json", "application/vnd.example.layer.v1.tar")
	add("r2", "artifact")
	b.put("r3", "foreign", oci.MediaTypeManifest, imageConfig, foreignLayer)
	add("r3", "foreign")
	return sel
}

// put makes an image of one layer with these types.
func (b *bench) put(path, tag, mediaType, configType, layerType string) oci.Descriptor {
	config := b.src.PutBlob(path, []byte(`{"config of":"`+tag+`"}`))
	config.MediaType = configType
	l := b.src.PutBlob(path, layer("of", tag))
	l.MediaType = layerType
	return b.src.PutManifest(path, tag, mediaType, []byte(strings.Replace(string(registrytest.ImageManifest(config, l)), oci.MediaTypeManifest, mediaType, 1)))
}

// newJob fetches what fill, or the function given, puts into a plain source.
func newJob(t *testing.T, fill func(*bench) contract.SelectionSpec) *job {
	t.Helper()
	j := &job{bench: newBench(t), tags: map[string]oci.Digest{}}
	j.sel = fill(j.bench)
	j.store, j.c = j.fetched(j.sel)
	for _, im := range j.c.Images {
		j.tags["mirror/"+im.Path+":"+im.Tag] = im.Digest
	}
	return j
}

// one selects the image of one tag.
func (b *bench) one(path, tag string) contract.SelectionSpec {
	return contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}}, Images: []contract.SelectedImage{
		{Source: b.ref(path, tag), Archive: "images", Path: path, Tag: tag, Reason: "r"}}}
}

// trial is a publish to a target with quirks.
type trial struct {
	name     string // where the quirks do not say enough
	quirks   []registrytest.Option
	tls      bool
	login    bool // as u and p
	parallel int  // 4 where it is 0
	patient  bool // requests are repeated by the client, too
	prefixes []Prefix

	// wrong is the kind of failure that is right, nil where all must stand; says
	// is in the error or its hint; early is an error before any blob was sent.
	wrong *fault.Kind
	cause *fault.Cause
	says  []string
	early bool
	open  bool // uploads may stay open, for they cannot be cancelled

	also func(t *testing.T, target *registrytest.Server, err error)
}

func with(quirks ...registrytest.Option) trial { return trial{quirks: quirks} }

func (tr trial) fails(kind *fault.Kind, says ...string) trial {
	tr.wrong, tr.says = kind, says
	return tr
}

func (tr trial) String() string {
	var names []string
	for _, q := range tr.quirks {
		if q, ok := q.(registrytest.Quirk); ok {
			names = append(names, q.Name)
		}
	}
	if tr.name != "" {
		names = append(names, tr.name)
	}
	return strings.Join(names, "; ")
}

// serve starts a target with the trial's quirks, and returns a client for it.
func (tr trial) serve(t *testing.T) (*registrytest.Server, *wire.Client) {
	t.Helper()
	reg := registrytest.New(tr.quirks...)
	opts := wire.Options{PlainHTTP: !tr.tls, SkipTLSVerify: tr.tls, Anonymous: true, Retries: -1}
	if tr.patient {
		opts.Retries, opts.Backoff = 5, time.Millisecond
	}
	var target *registrytest.Server
	if tr.tls {
		server := httptest.NewTLSServer(reg)
		t.Cleanup(server.Close)
		target = &registrytest.Server{Registry: reg, Host: strings.TrimPrefix(server.URL, "https://")}
	} else {
		target = registrytest.Start(t, reg)
	}
	if tr.login {
		opts.Credentials = map[string]wire.Credential{target.Host: {User: "u", Password: "p"}}
	}
	c, err := wire.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return target, c
}

// atATime is how many requests are made side by side.
func (tr trial) atATime() int {
	if tr.parallel > 0 {
		return tr.parallel
	}
	return 4
}

// published carries the trials out.
func (j *job) published(trials ...trial) {
	j.t.Helper()
	for _, tr := range trials {
		j.t.Run(tr.String(), func(t *testing.T) {
			target, c := tr.serve(t)
			p := &Publisher{Target: c, Content: j.store, Root: target.Repository("mirror"), Prefixes: tr.prefixes, Parallel: tr.atATime(), Retry: quick, Log: discard, Progress: progress.None()}
			_, _, err := p.Publish(t.Context(), &j.c)
			if n := target.OpenUploads(); n != 0 && !tr.open {
				t.Errorf("%d uploads are open", n)
			}
			if tr.wrong != nil {
				j.failed(t, tr, target, err)
			} else if err != nil {
				t.Fatalf("%v, hint %q", err, fault.HintOf(err))
			} else {
				j.stands(t, target, p)
			}
			if tr.also != nil {
				tr.also(t, target, err)
			}
		})
	}
}

// failed checks that err is what it should be, and that nothing shows a hole.
func (j *job) failed(t *testing.T, tr trial, target *registrytest.Server, err error) {
	t.Helper()
	registrytest.WantKind(t, err, tr.wrong)
	text := fmt.Sprint(err) + " | " + fault.HintOf(err)
	for _, want := range tr.says {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in: %s", want, text)
		}
	}
	if got := fault.CauseOf(err); tr.cause != nil && got != tr.cause {
		t.Errorf("the cause is %v, want %v (%s)", got, tr.cause, text)
	}
	for _, r := range target.Requests() {
		if tr.early && r.BytesIn > 0 {
			t.Errorf("%d bytes were sent: %s %s", r.BytesIn, r.Method, r.Path)
		}
	}
	for tag, digest := range target.Tags() {
		if j.tags[tag] != digest {
			t.Errorf("%s is %s, which was not published", tag, digest)
		}
		path, _, _ := strings.Cut(tag, ":")
		j.whole(t, target, path, digest)
	}
}

// whole checks that all below a manifest stands where it does.
func (j *job) whole(t *testing.T, target *registrytest.Server, path string, digest oci.Digest) {
	t.Helper()
	manifests, blobs := j.c.Graph().Closure(digest)
	for _, m := range manifests {
		blobs = append(blobs, m.Digest)
	}
	for _, d := range blobs {
		if !target.Has(path, d) || oci.DigestOf(target.Content(d)) != d {
			t.Errorf("%s is not in %s, below %s", d, path, digest)
		}
	}
}

// stands checks that all of the job does, and that nothing is written again.
func (j *job) stands(t *testing.T, target *registrytest.Server, p *Publisher) {
	t.Helper()
	if diff := cmp.Diff(j.tags, target.Tags()); diff != "" {
		t.Fatalf("tags (-want +got):\n%s", diff)
	}
	for tag, digest := range j.tags {
		path, _, _ := strings.Cut(tag, ":")
		j.whole(t, target, path, digest)
	}
	first := target.Requests()
	target.Reset()
	if _, _, err := p.Publish(t.Context(), &j.c); err != nil {
		t.Errorf("again: %v", err)
	}
	for _, w := range target.Writes() {
		t.Errorf("publishing again writes: %s %s", w.Method, w.Path)
	}
	for _, r := range append(first, target.Requests()...) {
		if strings.Contains(r.Path, "_catalog") {
			t.Errorf("the catalog was asked for")
		}
	}
}

// fetchedFrom fetches the job from sources with quirks: what comes is the same.
func (j *job) fetchedFrom(trials ...trial) {
	j.t.Helper()
	for _, tr := range trials {
		j.t.Run("as a source: "+tr.String(), func(t *testing.T) {
			source, c := tr.serve(t)
			b := &bench{t: t, src: source, dir: t.TempDir()}
			sel := b.fill()
			sel.Normalize()
			st := b.open()
			defer st.Close()
			closer := &Closer{Source: c, Store: st, Parallel: tr.atATime(), Retry: quick, Log: discard, Progress: progress.None()}
			contents, err := closer.Close(t.Context(), &sel)
			if err == nil {
				d := &Downloader{Source: c, Store: st, Parallel: tr.atATime(), Retry: quick, Log: discard, Progress: progress.None()}
				_, err = d.Download(t.Context(), &contents)
			}
			if tr.wrong != nil {
				j.failed(t, tr, source2(source), err)
			} else if err != nil {
				t.Fatal(err)
			} else {
				got := map[string]oci.Digest{}
				for _, im := range contents.Images {
					got["mirror/"+im.Path+":"+im.Tag] = im.Digest
				}
				if diff := cmp.Diff(j.tags, got); diff != "" {
					t.Errorf("images (-want +got):\n%s", diff)
				}
				if len(contents.Blobs) != len(j.c.Blobs) || len(contents.Skipped) > 0 {
					t.Errorf("%d blobs came, want %d; skipped: %v", len(contents.Blobs), len(j.c.Blobs), contents.Skipped)
				}
			}
			if tr.also != nil {
				tr.also(t, source, err)
			}
		})
	}
}

// source2 is a registry without content, for checks of what was written.
func source2(s *registrytest.Server) *registrytest.Server {
	return &registrytest.Server{Registry: registrytest.New(), Host: s.Host}
}

// count counts requests that f picks.
func count(target *registrytest.Server, f func(registrytest.Request) bool) int {
	n := 0
	for _, r := range target.Requests() {
		if f(r) {
			n++
		}
	}
	return n
}

// Q1: too deep a path is known before a byte is sent, whatever the registry says.
func TestQ1Depth(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	for status, kind := range map[int]*fault.Kind{400: fault.Protocol, 401: fault.Denied, 403: fault.Denied, 404: fault.NotFound} {
		tr := with(registrytest.Q1TooDeep(3, status)).fails(kind, "mirror/z/a/b/c", "paths of 5 segments")
		tr.early = true
		j.published(tr)
	}
	j.published(with(registrytest.Q1TooDeep(5, 403)))
}

// Q2: that a project is no repository is known before a byte is sent, and the hint
// has the user's own address.
func TestQ2BareProject(t *testing.T) {
	t.Parallel()
	j := newJob(t, func(b *bench) contract.SelectionSpec {
		sel := b.fill()
		sel.Images[0].Path = ""
		return sel
	})
	for status, kind := range map[int]*fault.Kind{400: fault.Protocol, 401: fault.Denied, 403: fault.Denied, 404: fault.NotFound} {
		tr := with(registrytest.Q2BareProject(status)).fails(kind, "/mirror: ", "/mirror/images")
		tr.early = true
		j.published(tr)
	}
}

// Q4: all projects that are missing are named in one error, before a byte is sent.
func TestQ4Projects(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	elsewhere := []Prefix{{From: "r1", To: "second/r1", Absolute: true}, {From: "r2", To: "third/r2", Absolute: true}}
	for status, kind := range map[int]*fault.Kind{401: fault.Denied, 403: fault.Denied, 404: fault.NotFound} {
		tr := with(registrytest.Q4Projects(status, "second")).fails(kind, "/mirror/", "/third/r2", "project mirror not found", "project third not found")
		tr.prefixes, tr.early = elsewhere, true
		j.published(tr)
	}
	j.published(with(registrytest.Q4Projects(404, "mirror")))
}

// Q5: a mount that is refused costs a few requests and nothing else.
func TestQ5Mounts(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	for _, status := range []int{202, 400, 401, 403, 404, 405} {
		tr := with(registrytest.Q5Mount(status))
		tr.parallel = 1
		j.published(tr)
		t.Run(fmt.Sprintf("requests with %d", status), func(t *testing.T) {
			target, c := tr.serve(t)
			p := j.publisher(j.store, target)
			p.Target, p.Parallel = c, 1
			if _, _, err := p.Publish(t.Context(), &j.c); err != nil {
				t.Fatal(err)
			}
			if n := target.Count(registrytest.KindMount, ""); n == 0 || n > maxRefusals {
				t.Errorf("%d mounts were asked for, want 1 to %d", n, maxRefusals)
			}
		})
	}
}

// Q6: no mount from nowhere is ever asked for.
func TestQ6AnonymousMount(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	none := func(t *testing.T, target *registrytest.Server, _ error) {
		if n := count(target, func(r registrytest.Request) bool {
			return r.Kind == registrytest.KindMount && !strings.Contains(r.Query, "from=")
		}); n > 0 {
			t.Errorf("%d mounts from nowhere", n)
		}
	}
	for _, more := range []registrytest.Option{registrytest.Q5Mount(202), registrytest.Q8Limit(413, 1<<20)} {
		tr := with(registrytest.Q6Mount(401), more)
		tr.also = none
		j.published(tr)
	}
}

// Q7: other words for success are heeded where the blob is there.
func TestQ7UploadAnswers(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	chunks := registrytest.Q8Limit(413, 1<<20)
	j.published(
		with(chunks, registrytest.Q7Chunk(201)),
		with(chunks, registrytest.Q7Chunk(204)),
		with(chunks, registrytest.Q7Early()),
		with(registrytest.Q7End(204)),
		with(registrytest.Q7End(200)),
		with(registrytest.Q7End(202)),
		with(registrytest.Q7Bare()),
		with(chunks, registrytest.Q7Bare()),
	)
}

// Q8: what fits is found out with at most 8 refused requests, once for a registry.
func TestQ8BodyLimits(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	for _, limit := range []int64{2 << 20, 1 << 20, 100 << 10, 64 << 10} {
		for _, status := range []int{413, 416} {
			tr := with(registrytest.Q8Limit(status, limit))
			tr.parallel = 1
			j.published(tr)
			t.Run(fmt.Sprintf("refusals above %d with %d", limit, status), func(t *testing.T) {
				target, c := tr.serve(t)
				p := j.publisher(j.store, target)
				p.Target, p.Parallel = c, 1
				if _, _, err := p.Publish(t.Context(), &j.c); err != nil {
					t.Fatal(err)
				}
				if n := count(target, func(r registrytest.Request) bool { return r.Status == status }); n == 0 || n > 8 {
					t.Errorf("%d requests were refused, want 1 to 8", n)
				}
				whole := map[string]bool{}
				for _, r := range target.Requests() {
					if _, digest, ok := strings.Cut(r.Query, "digest="); ok && r.Status == status {
						whole[digest] = true
					}
				}
				if len(whole) != 1 {
					t.Errorf("%d blobs were tried whole, though the first was refused", len(whole))
				}
			})
		}
	}
	tr := with(registrytest.Q8Limit(413, 1<<20), registrytest.Q8Least(500<<10))
	tr.also = func(t *testing.T, target *registrytest.Server, _ error) {
		// The trial has published twice; the first time tells.
		for _, r := range target.Requests() {
			if r.Method == http.MethodPatch && r.Status == 202 && r.BytesIn < 500<<10 {
				t.Logf("a chunk of %d bytes", r.BytesIn) // the last of a blob may be smaller
			}
		}
	}
	j.published(tr)
	tooSmall := with(registrytest.Q8Limit(413, 20<<10)).fails(fault.Unsupported, "413")
	tooSmall.cause = fault.BodyTooLarge
	j.published(tooSmall)
}

// Q9: nothing is sent in chunks that can be sent whole; where that is refused and
// chunks too, the error says both.
func TestQ9NoChunks(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	for _, status := range []int{404, 405, 501} {
		j.published(with(registrytest.Q9NoChunks(status)))
		tr := with(registrytest.Q9NoChunks(status), registrytest.Q8Limit(413, 1<<20)).fails(fault.Unsupported, "too large, and takes no chunks", fmt.Sprint(status))
		tr.cause = fault.BodyTooLarge
		j.published(tr)
	}
}

// Q10: what a registry says of the range that it has is not needed; it is asked
// twice an upload at most.
func TestQ10Ranges(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	for _, text := range []string{"0-0", "0-99999999", "", "junk"} {
		for _, status := range []int{413, 416} {
			tr := with(registrytest.Q8Limit(status, 100<<10), registrytest.Q10Range(text))
			j.published(tr)
			t.Run(fmt.Sprintf("questions with %q and %d", text, status), func(t *testing.T) {
				target, c := tr.serve(t)
				p := j.publisher(j.store, target)
				p.Target = c
				if _, _, err := p.Publish(t.Context(), &j.c); err != nil {
					t.Fatal(err)
				}
				asked := map[string]int{}
				for _, r := range target.Requests() {
					if r.Kind == registrytest.KindUpload && r.Method == http.MethodGet {
						asked[r.Reference]++
					}
				}
				for session, n := range asked {
					if n > 2 {
						t.Errorf("%s was asked for %d times", session, n)
					}
				}
			})
		}
	}
}

// Q11, Q12: an upload goes on where its address leads, over TLS where that was
// spoken, and its query stays.
func TestQ11Q12Locations(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	for _, tls := range []bool{false, true} {
		for _, q := range []registrytest.Quirk{registrytest.Q11PlainLocation(), registrytest.Q12AbsoluteLocation(), registrytest.Q12RelativeLocation()} {
			for _, limit := range []int64{1 << 20, 1 << 30} {
				tr := with(q, registrytest.Q8Limit(413, limit))
				tr.tls, tr.name = tls, fmt.Sprint("tls ", tls)
				j.published(tr)
			}
		}
	}
}

// Q13: HEAD is believed where it is right, and nowhere else.
func TestQ13Head(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	var trials []trial
	for _, q := range []registrytest.Quirk{
		registrytest.Q13NoHead(405), registrytest.Q13NoHead(403), registrytest.Q13NoHead(404), registrytest.Q13NoDigest(), registrytest.Q13ChildDigest(),
	} {
		trials = append(trials, with(q), with(q, registrytest.Q21NoReferrers()))
	}
	j.published(trials...)
	j.fetchedFrom(trials...)
}

// Q14, Q44: no answer has to say the digest.
func TestQ14Q44DigestHeader(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	j.published(with(registrytest.Q14NoDigest()), with(registrytest.Q44NoDigest()), with())
	j.fetchedFrom(with(registrytest.Q44NoDigest()), with())
}

// Q15: an index whose children settle late is sent again, a few times.
func TestQ15Settling(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	for _, code := range []string{"MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN"} {
		for n := 1; n <= resends; n++ {
			j.published(with(registrytest.Q15Settles(n, 404, code)))
		}
		j.published(with(registrytest.Q15Settles(resends+1, 404, code)).fails(fault.NotFound, "index"))
	}
	j.published(with(registrytest.Q15Settles(2, 400, "MANIFEST_BLOB_UNKNOWN")))
}

// Q16, Q39: what is said to be there, or was, and is not, is sent again.
func TestQ16Q39LostBlobs(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	var all []oci.Digest
	for _, b := range j.c.Blobs {
		all = append(all, b.Digest)
	}
	j.published(with(registrytest.Q16Phantom(all...)), with(registrytest.Q39Collects()))
}

// Q17: a digest twice in an index is carried; who refuses it is told which, and the
// index is not altered.
func TestQ17Duplicates(t *testing.T) {
	t.Parallel()
	var child oci.Descriptor
	j := newJob(t, func(b *bench) contract.SelectionSpec {
		child = b.src.PutImage("r1", "", layer("child", "1"))
		b.src.PutManifest("r1", "twice", oci.MediaTypeIndex, registrytest.IndexManifest(child, child))
		return b.one("r1", "twice")
	})
	tr := with(registrytest.Q17NoDuplicates()).fails(fault.Protocol, string(child.Digest)+" twice", "not altered")
	tr.cause = fault.ManifestRefused
	j.published(with(), tr)
}

// Q18: a type that is refused is named, and never converted.
func TestQ18Types(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	for status, kind := range map[int]*fault.Kind{400: fault.Protocol, 404: fault.NotFound, 415: fault.Unsupported} {
		for _, mediaType := range []string{oci.MediaTypeDockerManifest, oci.MediaTypeIndex} {
			tr := with(registrytest.Q18Types(status, mediaType)).fails(kind, mediaType, "not converted")
			tr.cause = fault.ManifestRefused
			tr.also = func(t *testing.T, target *registrytest.Server, _ error) {
				for digest, m := range j.c.Graph() {
					if m.MediaType == mediaType && target.Content(digest) != nil {
						t.Errorf("%s was taken", digest)
					}
				}
			}
			j.published(tr)
		}
	}
}

// Q19: the types of a refused artifact are named as Quay wants them.
func TestQ19Artifacts(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	tr := with(registrytest.Q19ImagesOnly()).fails(fault.Unsupported, "application/vnd.example.config.v1+json: [application/vnd.example.layer.v1.tar]", "/r2:artifact")
	tr.cause = fault.ArtifactRefused
	j.published(tr)
}

// Q20: what a registry may miss in a config is named.
func TestQ20Configs(t *testing.T) {
	t.Parallel()
	for config, lacks := range map[string]string{
		`{"rootfs":{"type":"layers"}}`: "no history", `{"history":[]}`: "no rootfs", `{}`: "no rootfs and no history", `{"rootfs":{},"history":[]}`: "",
	} {
		t.Run(config, func(t *testing.T) {
			j := newJob(t, func(b *bench) contract.SelectionSpec {
				desc := b.src.PutBlob("r1", []byte(config))
				desc.MediaType = imageConfig
				b.src.PutManifest("r1", "v1", oci.MediaTypeManifest, registrytest.ImageManifest(desc))
				return b.one("r1", "v1")
			})
			tr := with(registrytest.Q20StrictConfig())
			if lacks != "" {
				tr = tr.fails(fault.Protocol, "this one has "+lacks+";")
				tr.cause = fault.ManifestRefused
			}
			j.published(tr)
		})
	}
}

// Q22: an attachment whose subject is of a type that is refused is named; what it
// is attached to gets no tag before that is settled.
func TestQ22Subjects(t *testing.T) {
	t.Parallel()
	j := newJob(t, func(b *bench) contract.SelectionSpec {
		image := b.put("r2", "docker", oci.MediaTypeDockerManifest, dockerConfig, "application/vnd.docker.image.rootfs.diff.tar.gzip")
		b.src.PutAttached("r2", "", image, sbomType, []byte("sbom"))
		sel := b.one("r2", "docker")
		sel.Attached = contract.Attachments(2)
		return sel
	})
	tr := with(registrytest.Q22OCISubjects()).fails(fault.Unsupported, oci.MediaTypeDockerManifest, "--skip-attachments")
	tr.also = func(t *testing.T, target *registrytest.Server, _ error) {
		if tags := target.Tags(); len(tags) > 1 {
			t.Errorf("tags were written: %v", tags)
		}
	}
	j.published(with(), tr)
}

// Q23, Q24: a tag that is right is not written, and one that leads elsewhere is
// neither overwritten nor tried twice.
func TestQ23Q24ImmutableTags(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	signature := ""
	for tag := range j.tags {
		if strings.HasSuffix(tag, ".sig") {
			signature = tag
		}
	}
	for status, kind := range map[int]*fault.Kind{400: fault.Protocol, 403: fault.Denied, 409: fault.Protocol, 412: fault.Protocol} {
		for tag, q := range map[string]registrytest.Quirk{signature: registrytest.Q23Signatures(status), "mirror/r0:v1": registrytest.Q24ImmutableTags(status)} {
			j.published(with(q))
			t.Run(q.String()+", another image", func(t *testing.T) {
				target, c := with(q).serve(t)
				path, name, _ := strings.Cut(tag, ":")
				other := target.PutImage(path, name, layer("another", "image"))
				p := j.publisher(j.store, target)
				p.Target = c
				_, _, err := p.Publish(t.Context(), &j.c)
				registrytest.WantKind(t, err, kind)
				if fault.CauseOf(err) != fault.TagImmutable || !strings.Contains(err.Error(), string(other.Digest)) || target.Tags()[tag] != other.Digest {
					t.Errorf("%v, cause %v; the tag is %s, was %s", err, fault.CauseOf(err), target.Tags()[tag], other.Digest)
				}
				if n := count(target, func(r registrytest.Request) bool {
					return r.Method == http.MethodPut && r.Kind == registrytest.KindManifest && r.Reference == name && r.Repository == path
				}); n != 1 {
					t.Errorf("the tag was written %d times", n)
				}
			})
		}
	}
}

// Q26: the catalog is never asked for; stands checks it at every target.
func TestQ26Catalog(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	tr := with(registrytest.Q26Catalog(401))
	tr.also = func(t *testing.T, source *registrytest.Server, _ error) {
		for _, r := range source.Requests() {
			if strings.Contains(r.Path, "_catalog") {
				t.Error("the catalog was asked for")
			}
		}
	}
	j.published(tr)
	j.fetchedFrom(tr)
}

// Q27: a proxy cache lists nothing, and has odd words for what is not there: that
// is never an absence.
func TestQ27ProxyCaches(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	for _, status := range []int{404, 405} {
		tr := with(registrytest.Q27NoTagList(status), registrytest.Q21NoReferrers())
		j.published(tr)
		j.fetchedFrom(tr)
	}
	for status, kind := range map[int]*fault.Kind{400: fault.Protocol, 401: fault.Denied, 403: fault.Denied, 500: fault.Transient} {
		q := registrytest.Q27Absent(status)
		t.Run(q.Name, func(t *testing.T) {
			b := newBench(t, q)
			b.src.PutImage("r1", "v1", layer("a", "b"))
			sel := b.one("r1", "v1")
			sel.Images = append(sel.Images, contract.SelectedImage{Source: b.ref("r1", "v2"), Archive: "images", Path: "r1", Tag: "v2", Optional: true, Reason: "r"})
			st := b.open()
			defer st.Close()
			c, err := b.close(st, sel)
			registrytest.WantKind(t, err, kind)
			if len(c.Skipped) > 0 {
				t.Errorf("taken for absent: %v", c.Skipped)
			}
		})
	}
}

// Q28, Q29: a limit is waited for, in whatever words it comes, and few requests are
// made.
func TestQ28Q29Limits(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	few := func(t *testing.T, target *registrytest.Server, _ error) {
		if n, limit := len(target.Requests()), len(j.tags)*3/2; n > limit {
			t.Errorf("publishing again took %d requests for %d tags", n, len(j.tags))
		}
	}
	trials := []trial{
		with(registrytest.Q28Limit(7)),
		with(registrytest.Q29Limit(7, 403, "TOOMANYREQUESTS", "")),
		with(registrytest.Q29Limit(7, 400, "TOOMANYREQUESTS", "")),
		with(registrytest.Q29Limit(7, 503, "UNAVAILABLE", "")),
		with(registrytest.Q29Limit(7, 500, "UNKNOWN", "")),
		with(registrytest.Q29Limit(60, 403, "DENIED", "1")),
		with(registrytest.Q29Limit(60, 503, "UNAVAILABLE", "1")),
	}
	for i := range trials {
		trials[i].also, trials[i].patient = few, true
		trials[i].open = true // to cancel is tried twice, and may be one too many twice
	}
	j.published(trials...)
	for i := range trials {
		trials[i].also = nil
	}
	j.fetchedFrom(trials...)
}

// Q30, Q31: tokens come in several words and live shortly, and challenges in several
// forms; the login goes nowhere else.
func TestQ30Q31Logins(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	token := registrytest.WithTokenAuth(registrytest.TokenAuth{User: "u", Password: "p", Uses: 5, Life: time.Minute})
	basic := registrytest.WithBasicAuth("u", "p")
	for _, tr := range []trial{
		with(token),
		with(token, registrytest.Q30Token("token", "access_token")),
		with(token, registrytest.Q30Token("expires_in", "")),
		with(token, registrytest.Q30Token("token", "access_token", "expires_in", "")),
		with(token, registrytest.Q31RelativeRealm()),
		with(basic),
		with(basic, registrytest.Q31Challenge("")),
		with(basic, registrytest.Q31Challenge("-")),
		with(basic, registrytest.Q31Challenge("Basic")),
	} {
		// A token is good for five requests; were they made side by side, others could
		// use one up between its login and its request.
		tr.login, tr.parallel = true, 1
		j.published(tr)
		j.fetchedFrom(tr)
	}
	lost := with(token, registrytest.Q30Token("token", "")).fails(fault.Protocol, "sends no token")
	lost.login = true
	j.published(lost)
}

// Q32: where reading is free, the missing login is noticed before a byte is sent.
func TestQ32OpenRead(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	for _, auth := range []registrytest.Option{
		registrytest.WithBasicAuth("u", "p"), registrytest.WithTokenAuth(registrytest.TokenAuth{User: "u", Password: "p", AnonymousPull: true}),
	} {
		tr := with(auth, registrytest.Q32OpenRead())
		j.fetchedFrom(tr)
		tr.login = true
		j.published(tr)
		tr = tr.fails(fault.Denied, "the access check before the first write")
		tr.login, tr.early, tr.cause = false, true, fault.Unauthorized
		j.published(tr)
	}
}

// Q33, Q40: nothing depends on what can be deleted; uploads that failed are
// cancelled where that can be, and it is no failure where it cannot.
func TestQ33Q40Deletion(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	j.published(with(registrytest.Q33Delete(405)), with(registrytest.Q33ByDigest()), with(registrytest.Q33WholeDigest()))
	for _, status := range []int{404, 405, 500} {
		tr := with(registrytest.Q40NoCancel(status), registrytest.Q8Limit(413, 1<<20))
		tr.open = true
		j.published(tr)
	}
}

// Q34: an index is carried with all that it lists, so that it matters not whether
// one may be sparse; one that the source has in part is an error.
func TestQ34SparseIndexes(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	j.published(with(), with(registrytest.Q34Sparse()))
	b := newBench(t)
	kept, lost := b.src.PutImage("r1", "", layer("a", "1")), b.src.PutImage("r1", "", layer("a", "2"))
	b.src.PutManifest("r1", "index", oci.MediaTypeIndex, registrytest.IndexManifest(kept, lost))
	b.src.Delete("r1", string(lost.Digest))
	st := b.open()
	defer st.Close()
	_, err := b.close(st, b.one("r1", "index"))
	registrytest.WantKind(t, err, fault.Protocol)
	if !strings.Contains(fmt.Sprint(err), string(lost.Digest)) {
		t.Errorf("%v does not name the manifest", err)
	}
}

// Q35: foreign layers are carried as any others, wanted or not, and a source that
// lacks one is an error.
func TestQ35ForeignLayers(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	j.published(with(), with(registrytest.Q35ForeignWanted()))
	b := newBench(t)
	b.put("r3", "foreign", oci.MediaTypeManifest, imageConfig, foreignLayer)
	lost := oci.DigestOf(layer("of", "foreign"))
	b.src.Delete("r3", string(lost))
	st := b.open()
	defer st.Close()
	c, err := b.close(st, b.one("r3", "foreign"))
	if err == nil {
		_, err = b.download(st, &c, progress.None())
	}
	registrytest.WantKind(t, err, fault.NotFound)
	if !strings.Contains(fmt.Sprint(err), string(lost)) {
		t.Errorf("%v does not name the layer", err)
	}
}

// Q36: a manifest that is too large is told with its size.
func TestQ36LargeManifests(t *testing.T) {
	t.Parallel()
	size := 0
	j := newJob(t, func(b *bench) contract.SelectionSpec {
		config := b.src.PutBlob("r1", []byte("{}"))
		config.MediaType = imageConfig
		body := registrytest.ImageManifest(config)
		var m map[string]any
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		m["annotations"] = map[string]string{"long": strings.Repeat("x", 5<<20)}
		body, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		size = len(body)
		b.src.PutManifest("r1", "v1", oci.MediaTypeManifest, body)
		return b.one("r1", "v1")
	})
	tr := with().fails(fault.Unsupported, fmt.Sprintf("%d bytes", size), "4 MiB")
	tr.name, tr.cause = "above what registries have to take", fault.BodyTooLarge
	j.published(tr)
	j = newJob(t, (*bench).fill)
	j.published(with(registrytest.Q36Limit(400)).fails(fault.Unsupported, "the manifest has"), with(registrytest.Q36Limit(6000)))
}

// Q37: schema 1 is refused with the reason, by the image.
func TestQ37Schema1(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	j.fetchedFrom(with(registrytest.Q37Schema1()).fails(fault.Protocol, "/r0:v1", "schema version 1"))
}

// Q38: a full target is told as such, in whatever words; after that there is room,
// only the rest is sent.
func TestQ38Quota(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	for status, kind := range map[int]*fault.Kind{403: fault.Denied, 412: fault.Denied, 500: fault.Transient, 507: fault.Transient} {
		q := registrytest.Q38Quota(status, 5<<20+5000)
		t.Run(q.Name, func(t *testing.T) {
			target, c := with(q).serve(t)
			p := j.publisher(j.store, target)
			p.Target, p.Parallel = c, 1
			_, _, err := p.Publish(t.Context(), &j.c)
			registrytest.WantKind(t, err, kind)
			if fault.CauseOf(err) != fault.TargetFull || len(target.Tags()) > 0 {
				t.Errorf("%v, cause %v, tags %v", err, fault.CauseOf(err), target.Tags())
			}
			had := map[string]bool{}
			for _, path := range slices.Sorted(maps.Keys(j.tags)) {
				path, _, _ := strings.Cut(path, ":")
				for _, b := range j.c.Blobs {
					had[path+" "+string(b.Digest)] = target.Has(path, b.Digest)
				}
			}
			target.Heal()
			target.Reset()
			if _, _, err := p.Publish(t.Context(), &j.c); err != nil {
				t.Fatal(err)
			}
			sent := uploads(target.Requests())
			for _, s := range sent {
				if had[s] {
					t.Errorf("%s was sent again", s)
				}
			}
			if len(sent) == 0 || len(sent) >= len(j.c.Blobs) {
				t.Errorf("%d blobs of %d were sent: the test proves nothing", len(sent), len(j.c.Blobs))
			}
		})
	}
}

// Q41: a rule for names that only the registry knows is met before a byte is sent,
// where the deepest repository breaks it.
func TestQ41Names(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	tr := with(registrytest.Q41Names("z/")).fails(fault.Protocol, "/mirror/z/a/b/c", "invalid repository name")
	tr.early = true
	j.published(tr)
}

// Q43: bodies have a length, and a connection that was closed while nobody used it
// is no failure.
func TestQ43OldProxies(t *testing.T) {
	t.Parallel()
	j := newJob(t, (*bench).fill)
	trials := []trial{
		with(registrytest.Q43LengthRequired()), with(registrytest.Q43LengthRequired(), registrytest.Q8Limit(413, 1<<20)),
		with(registrytest.Q43ClosesIdle()),
	}
	trials[2].patient = true // several connections may be closed one after the other
	j.published(trials...)
	j.fetchedFrom(trials...)
}
