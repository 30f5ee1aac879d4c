package probe_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/probe"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
)

const yes, no, unknown = contract.VerdictYes, contract.VerdictNo, contract.VerdictUnknown

func prober(t *testing.T, srv *registrytest.Server) *probe.Prober {
	t.Helper()
	client, err := wire.New(wire.Options{PlainHTTP: true, Anonymous: true, Backoff: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &probe.Prober{
		Registry: client, Root: srv.Repository("org"), Body: 1 << 20, Parallel: 4, Log: slog.New(slog.DiscardHandler),
	}
}

func run(t *testing.T, p *probe.Prober) contract.TargetSpec {
	t.Helper()
	spec, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	spec.Normalize()
	if err := spec.Validate(); err != nil {
		t.Errorf("the document is not valid: %v", err)
	}
	return spec
}

func verdicts(spec contract.TargetSpec) map[contract.Feature]contract.Verdict {
	out := map[contract.Feature]contract.Verdict{}
	for _, f := range spec.Features {
		out[f.Feature] = f.Has
	}
	return out
}

// all is what a registry has that follows the distribution-spec: registrytest
// refuses sparse indexes, as it may, and does not know OCI-Tag.
func all(changes map[contract.Feature]contract.Verdict) map[contract.Feature]contract.Verdict {
	out := map[contract.Feature]contract.Verdict{
		"write": yes, "cancel-upload": yes, "chunks": yes, "mount": yes, "head-digest": yes, "tag-list": yes, "referrers-api": yes,
		"oci-tag": no, "tag-overwrite": yes, "delete-tag": yes, "delete-manifest": yes, "delete-blob": yes, "delete-tag-alone": yes,
		"oci-image": yes, "docker-image": yes, "oci-index": yes, "docker-index": yes, "sparse-index": no, "artifact": yes,
		"bare-config": yes, "subject": yes, "docker-subject": yes,
	}
	for f, v := range changes {
		out[f] = v
	}
	return out
}

// nothingLeft fails unless the registry holds what it held before.
func nothingLeft(t *testing.T, srv *registrytest.Server) {
	t.Helper()
	if n := srv.OpenUploads(); n != 0 {
		t.Errorf("%d uploads stay open", n)
	}
	if tags := srv.Tags(); len(tags) != 0 {
		t.Errorf("tags stay: %v", tags)
	}
	for _, r := range srv.Requests() {
		if (r.Kind == registrytest.KindBlob || r.Kind == registrytest.KindManifest) && strings.HasPrefix(r.Reference, "sha256:") &&
			srv.Has(r.Repository, oci.Digest(r.Reference)) {
			t.Errorf("%s@%s stays", r.Repository, r.Reference)
		}
	}
}

// Each quirk that a registry may have is found by the question for it, and
// nothing else is taken for it.
func TestFeatures(t *testing.T) {
	t.Parallel()
	manifest := func(mediaType string) func(*http.Request) bool {
		return func(r *http.Request) bool { return r.Method == "PUT" && r.Header.Get("Content-Type") == mediaType }
	}
	for name, tc := range map[string]struct {
		opts  []registrytest.Option
		fault registrytest.Fault
		want  map[contract.Feature]contract.Verdict
		// evidence is the status behind the first of want's features that is named here.
		feature contract.Feature
		status  int
	}{
		"nothing in its way":          {feature: "sparse-index", status: 400},
		"Q5: mount refused":           {fault: registrytest.Fault{Kind: registrytest.KindMount, Status: 405}, want: map[contract.Feature]contract.Verdict{"mount": no}, feature: "mount", status: 405},
		"Q5: mount forbidden":         {opts: []registrytest.Option{registrytest.Q5Mount(403)}, want: map[contract.Feature]contract.Verdict{"mount": unknown}, feature: "mount", status: 403},
		"Q5: upload instead of mount": {opts: []registrytest.Option{registrytest.Q5Mount(202)}, want: map[contract.Feature]contract.Verdict{"mount": no}, feature: "mount", status: 202},
		"Q13: HEAD refused":           {opts: []registrytest.Option{registrytest.Q13NoDigest()}, want: map[contract.Feature]contract.Verdict{"head-digest": no}, feature: "head-digest", status: 200},
		"Q21: no referrers API":       {opts: []registrytest.Option{registrytest.Q21NoReferrers()}, want: map[contract.Feature]contract.Verdict{"referrers-api": no}, feature: "referrers-api", status: 404},
		"Q21: the API lists nothing": {
			fault: registrytest.Fault{Kind: registrytest.KindReferrers, Times: registrytest.Always, ContentType: oci.MediaTypeIndex, Body: `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeIndex + `","manifests":[]}`},
			want:  map[contract.Feature]contract.Verdict{"referrers-api": no}, feature: "referrers-api", status: 200,
		},
		"Q24: immutable tags": {opts: []registrytest.Option{registrytest.Q24ImmutableTags(400)}, want: map[contract.Feature]contract.Verdict{"tag-overwrite": no}, feature: "tag-overwrite", status: 400},
		"Q24: tags stay without a word": {
			fault: registrytest.Fault{Method: "PUT", Reference: "ferry-probe", Skip: 1, Status: 201},
			want:  map[contract.Feature]contract.Verdict{"tag-overwrite": no}, feature: "tag-overwrite", status: 201,
		},
		"Q25: no tag list":       {opts: []registrytest.Option{registrytest.Q27NoTagList(405)}, want: map[contract.Feature]contract.Verdict{"tag-list": no}, feature: "tag-list", status: 405},
		"Q25: the list is empty": {fault: registrytest.Fault{Kind: registrytest.KindTags, Times: registrytest.Always, Body: `{"name":"x","tags":null}`}, want: map[contract.Feature]contract.Verdict{"tag-list": no}, feature: "tag-list", status: 200},
		"Q18: OCI images refused": {
			fault: registrytest.Fault{Match: manifest(oci.MediaTypeManifest), Times: registrytest.Always, Status: 415},
			want: map[contract.Feature]contract.Verdict{
				"oci-image": no, "bare-config": no, "artifact": no, "oci-index": unknown, "sparse-index": unknown, "subject": unknown, "docker-subject": unknown,
				"referrers-api": unknown, "head-digest": unknown, "tag-list": unknown, "oci-tag": unknown, "tag-overwrite": unknown, "delete-tag": unknown, "delete-tag-alone": unknown,
			},
			feature: "oci-image", status: 415,
		},
		"Q18: Docker lists refused": {fault: registrytest.Fault{Match: manifest(oci.MediaTypeDockerList), Status: 404}, want: map[contract.Feature]contract.Verdict{"docker-index": no}, feature: "docker-index", status: 404},
		"a failure is no answer":    {fault: registrytest.Fault{Match: manifest(oci.MediaTypeDockerList), Times: registrytest.Always, Status: 500}, want: map[contract.Feature]contract.Verdict{"docker-index": unknown}, feature: "docker-index", status: 500},
		"one failure heals":         {fault: registrytest.Fault{Match: manifest(oci.MediaTypeDockerList), Status: 503}, feature: "docker-index", status: 201},
		"a cut is no answer":        {fault: registrytest.Fault{Match: manifest(oci.MediaTypeDockerList), Times: registrytest.Always, Drop: true}, want: map[contract.Feature]contract.Verdict{"docker-index": unknown}, feature: "docker-index"},
		"Q34: sparse indexes": {
			fault: registrytest.Fault{Match: manifest(oci.MediaTypeIndex), Skip: 1, Status: 201},
			want:  map[contract.Feature]contract.Verdict{"sparse-index": yes}, feature: "sparse-index", status: 201,
		},
		"Q44: OCI-Tag": {
			fault: registrytest.Fault{Match: func(r *http.Request) bool { return r.URL.Query().Has("tag") }, Status: 201, Header: http.Header{"Oci-Tag": {"ferry-probe-2"}}},
			want:  map[contract.Feature]contract.Verdict{"oci-tag": yes, "delete-tag-alone": no}, feature: "oci-tag", status: 201,
		},
		"Q9: no chunks": {
			fault: registrytest.Fault{Method: "PATCH", Times: registrytest.Always, Status: 405},
			want:  map[contract.Feature]contract.Verdict{"chunks": no}, feature: "chunks", status: 405,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := registrytest.Start(t, registrytest.New(tc.opts...))
			srv.Inject(tc.fault)
			spec := run(t, prober(t, srv))
			if diff := cmp.Diff(all(tc.want), verdicts(spec)); diff != "" {
				t.Errorf("features (-want +got):\n%s", diff)
			}
			for _, f := range spec.Features {
				if f.Feature == tc.feature && f.Evidence.Status != tc.status {
					t.Errorf("%s is known from status %d, want %d", f.Feature, f.Evidence.Status, tc.status)
				}
			}
			nothingLeft(t, srv)
		})
	}
}

// Q33: what the registry does not delete is named, and what it only says to have
// deleted, too.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		opts  []registrytest.Option
		fault registrytest.Fault
		want  map[contract.Feature]contract.Verdict
		left  int // 4 blobs, 8 manifests, 2 tags
	}{
		"none is refused":    {want: map[contract.Feature]contract.Verdict{}},
		"nothing is deleted": {opts: []registrytest.Option{registrytest.Q33Delete(405)}, left: 14, want: map[contract.Feature]contract.Verdict{"delete-tag": no, "delete-manifest": no, "delete-blob": no, "delete-tag-alone": unknown}},
		"only said":          {fault: registrytest.Fault{Method: "DELETE", Kind: registrytest.KindBlob, Times: registrytest.Always, Status: 202}, left: 4, want: map[contract.Feature]contract.Verdict{"delete-blob": no}},
		"said to be absent":  {fault: registrytest.Fault{Method: "DELETE", Kind: registrytest.KindBlob, Times: registrytest.Always, Status: 404}, left: 4, want: map[contract.Feature]contract.Verdict{"delete-blob": no}},
		"only by digest":     {fault: registrytest.Fault{Match: deletesTag, Times: registrytest.Always, Status: 400}, want: map[contract.Feature]contract.Verdict{"delete-tag": no, "delete-tag-alone": unknown}},
		"manifests not": {fault: registrytest.Fault{Match: func(r *http.Request) bool {
			return r.Method == "DELETE" && strings.Contains(r.URL.Path, "/manifests/sha256:")
		}, Times: registrytest.Always, Status: 405}, left: 8, want: map[contract.Feature]contract.Verdict{"delete-manifest": no}},
		"no right to delete":    {fault: registrytest.Fault{Match: func(r *http.Request) bool { return r.Method == "DELETE" && !strings.Contains(r.URL.Path, "/uploads/") }, Times: registrytest.Always, Status: 403}, left: 14, want: map[contract.Feature]contract.Verdict{"delete-tag": unknown, "delete-manifest": unknown, "delete-blob": unknown, "delete-tag-alone": unknown}},
		"uploads stay (Q40)":    {fault: registrytest.Fault{Method: "DELETE", Kind: registrytest.KindUpload, Times: registrytest.Always, Status: 405}, left: -1, want: map[contract.Feature]contract.Verdict{"cancel-upload": no}},
		"repositories are made": {fault: registrytest.Fault{Kind: registrytest.KindTags, Times: registrytest.Always, Body: `{"tags":["ferry-probe"]}`}, left: 2, want: map[contract.Feature]contract.Verdict{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := registrytest.Start(t, registrytest.New(tc.opts...))
			if name != "repositories are made" { // registrytest knows what it once had for ever
				srv.Inject(registrytest.Fault{Kind: registrytest.KindTags, Skip: 1, Times: registrytest.Always, Status: 404})
			}
			srv.Inject(tc.fault)
			spec := run(t, prober(t, srv))
			if diff := cmp.Diff(all(tc.want), verdicts(spec)); diff != "" {
				t.Errorf("features (-want +got):\n%s", diff)
			}
			if tc.left < 0 {
				if len(spec.Leftovers) == 0 || !strings.Contains(spec.Leftovers[0], "an upload at "+srv.Host+"/org") {
					t.Errorf("leftovers %q do not name the open uploads", spec.Leftovers)
				}
				return
			}
			if len(spec.Leftovers) != tc.left {
				t.Errorf("%d leftovers, want %d:\n%s", len(spec.Leftovers), tc.left, strings.Join(spec.Leftovers, "\n"))
			}
			if tc.left == 0 {
				nothingLeft(t, srv)
			}
		})
	}
}

func deletesTag(r *http.Request) bool {
	return r.Method == "DELETE" && strings.Contains(r.URL.Path, "/manifests/ferry-probe")
}

// --read-only: no request carries content or asks for it to be kept.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	srv := registrytest.Start(t, registrytest.New())
	p := prober(t, srv)
	p.ReadOnly = true
	spec := run(t, p)
	for _, r := range srv.Requests() {
		upload := r.Kind == registrytest.KindUpload && (r.Method == "POST" || r.Method == "DELETE")
		if r.Write() && !upload || r.BytesIn > 0 {
			t.Errorf("%s %s carries %d bytes", r.Method, r.Path, r.BytesIn)
		}
	}
	nothingLeft(t, srv)
	want := map[contract.Feature]contract.Verdict{}
	for f := range all(nil) {
		want[f] = unknown
	}
	// registrytest does not know the repository, so its tags tell nothing. It lists no
	// referrers there, which is an answer.
	want["write"], want["cancel-upload"], want["referrers-api"] = yes, yes, yes
	if diff := cmp.Diff(want, verdicts(spec)); diff != "" {
		t.Errorf("features (-want +got):\n%s", diff)
	}
	if !spec.ReadOnly || spec.Depth.Verdict != yes || spec.Body.Verdict != unknown {
		t.Errorf("read-only %v, depth %v, body %v", spec.ReadOnly, spec.Depth, spec.Body)
	}
}

// Q1: how deep a path may be is found out without data, whatever the refusal is; one
// that could be for want of rights is no proof.
func TestDepth(t *testing.T) {
	t.Parallel()
	cases := 0
	for _, status := range []int{400, 404, 401, 403, 500} {
		for most := 2; most <= 9; most++ {
			cases++
			srv := registrytest.Start(t, registrytest.New())
			srv.Inject(registrytest.Fault{Times: registrytest.Always, Status: status, Match: func(r *http.Request) bool {
				path := strings.TrimPrefix(strings.Split(r.URL.Path, "/blobs/")[0], "/v2/")
				return strings.Count(path, "/")+1 > most
			}})
			p := prober(t, srv)
			p.ReadOnly = true
			spec := run(t, p)
			want := contract.Bound{Accepted: int64(most), Refused: int64(most + 1), Verdict: no, Evidence: contract.Evidence{Status: status, Code: "FAULT", Text: http.StatusText(status)}}
			if status == 401 || status == 403 || status == 500 {
				want.Verdict = unknown
			}
			for _, n := range spec.Names {
				if deep := strings.Contains(n.Example, "/ferry-probe/"); deep && most == 2 && (n.Accepted != unknown || n.Evidence.Status != 0) {
					t.Errorf("%s is %s by status %d, where names so deep are refused anyway", n.Form, n.Accepted, n.Evidence.Status)
				}
			}
			if most == 9 { // the deepest that is asked for: 8 below org
				want.Refused, want.Verdict, want.Evidence = 0, yes, contract.Evidence{Status: 202}
			}
			if diff := cmp.Diff(want, spec.Depth); diff != "" {
				t.Errorf("%d segments, status %d (-want +got):\n%s", most, status, diff)
			}
		}
	}
	t.Attr("cases", strconv.Itoa(cases))
}

// What the content needs is asked for, however deep that is.
func TestDepthOfContent(t *testing.T) {
	t.Parallel()
	srv := registrytest.Start(t, registrytest.New())
	p := prober(t, srv)
	p.ReadOnly, p.Repositories = true, []oci.Repository{srv.Repository("org/a/b/c/d/e/f/g/h/i/j/k")}
	if spec := run(t, p); spec.Depth.Accepted != 12 {
		t.Errorf("%d segments are known to be accepted, want 12", spec.Depth.Accepted)
	}
}

// Q41: each form of names is asked for alone, and the length of paths is found out.
func TestNames(t *testing.T) {
	t.Parallel()
	for form, refused := range map[contract.NameForm]string{
		"dot": ".", "double-underscore": "__", "dashes": "--", "leading-digit": "/0f", "digits": "/00", "one-letter": "/a",
	} {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			srv := registrytest.Start(t, registrytest.New())
			srv.Inject(registrytest.Fault{Times: registrytest.Always, Status: 400, Match: func(r *http.Request) bool {
				path := strings.Split(r.URL.Path, "/blobs/")[0]
				return strings.Contains(path, refused) || len(path)-len("/v2/") > 100
			}})
			p := prober(t, srv)
			p.ReadOnly = true
			spec := run(t, p)
			for _, n := range spec.Names {
				want := yes
				if n.Form == form {
					want = no
				}
				if n.Accepted != want || !strings.Contains(n.Example, "ferry-probe") {
					t.Errorf("%s: %s, %v; want %s", n.Form, n.Accepted, n, want)
				}
			}
			if len(spec.Names) != 7 || spec.Length.Accepted != 100 || spec.Length.Refused != 101 {
				t.Errorf("%d forms, length %+v", len(spec.Names), spec.Length)
			}
		})
	}
}

// Q8: the largest request is found out in a few requests, whatever status says
// that one is too large, and without a blob that stays.
func TestBody(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		limit  int64
		status int
		minLen string
		chunks bool
		want   contract.Bound
		chunk  int64
	}{
		"no limit":                 {limit: 1 << 30, chunks: true, want: contract.Bound{Accepted: 1 << 20, Verdict: yes}},
		"nginx":                    {limit: 200_000, status: 413, chunks: true, want: contract.Bound{Accepted: 128 << 10, Refused: 256 << 10, Verdict: no}},
		"416":                      {limit: 600_000, status: 416, chunks: true, want: contract.Bound{Accepted: 512 << 10, Refused: 1 << 20, Verdict: no}},
		"no chunks":                {limit: 600_000, status: 413, want: contract.Bound{Accepted: 512 << 10, Refused: 1 << 20, Verdict: no}},
		"no chunks, no limit":      {limit: 1 << 30, want: contract.Bound{Accepted: 1 << 20, Verdict: yes}},
		"least chunk":              {limit: 1 << 30, chunks: true, minLen: "100000", chunk: 100000, want: contract.Bound{Accepted: 1 << 20, Verdict: yes}},
		"least chunk, and a limit": {limit: 110_000, status: 413, chunks: true, minLen: "100000", chunk: 100000, want: contract.Bound{Accepted: 100_000, Refused: 128 << 10, Verdict: no}},
		"another refusal":          {limit: 200_000, status: 400, chunks: true, want: contract.Bound{Accepted: 128 << 10, Refused: 256 << 10, Verdict: unknown}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := registrytest.Start(t, registrytest.New())
			if !tc.chunks {
				srv.Inject(registrytest.Fault{Method: "PATCH", Times: registrytest.Always, Status: 404})
			}
			srv.Inject(registrytest.Fault{Times: registrytest.Always, Status: tc.status, Match: func(r *http.Request) bool {
				return (r.Method == "PATCH" || r.Method == "PUT") && r.ContentLength > tc.limit
			}})
			if tc.minLen != "" {
				srv.Inject(registrytest.Fault{Method: "PATCH", Times: registrytest.Always, Status: 400, Match: func(r *http.Request) bool { return r.ContentLength < tc.chunk }})
				srv.Inject(registrytest.Fault{Method: "POST", Kind: registrytest.KindUpload, Times: registrytest.Always, Header: http.Header{"Oci-Chunk-Min-Length": {tc.minLen}}})
			}
			spec := run(t, prober(t, srv))
			if has := spec.Has(contract.FeatureChunks); has != map[bool]contract.Verdict{true: yes, false: no}[tc.chunks] {
				t.Errorf("chunks: %s", has)
			}
			got := spec.Body
			got.Evidence = contract.Evidence{}
			if diff := cmp.Diff(tc.want, got); diff != "" || spec.ChunkMinimum != tc.chunk {
				t.Errorf("chunks of at least %d; body (-want +got):\n%s", spec.ChunkMinimum, diff)
			}
			sends := 0
			for _, r := range srv.Requests() {
				if r.Kind == registrytest.KindUpload && (r.Method == "PATCH" || r.Method == "PUT" && r.BytesIn != 0 && r.BytesIn >= 64<<10) {
					sends++
				}
			}
			if sends > 8 {
				t.Errorf("%d bodies were sent, want at most 8", sends)
			}
			nothingLeft(t, srv)
		})
	}
}

// Q4: all repositories that may not be written to, or are not there, are listed at
// once.
func TestRepositories(t *testing.T) {
	t.Parallel()
	srv := registrytest.Start(t, registrytest.New())
	p := prober(t, srv)
	want := []contract.RepositoryAccess{{Repository: srv.Host + "/org", Writable: yes, Evidence: contract.Evidence{Status: 202}}}
	for i := range 20 {
		repo := srv.Repository(fmt.Sprintf("org/r%02d", i))
		p.Repositories = append(p.Repositories, repo)
		access := contract.RepositoryAccess{Repository: repo.String(), Writable: yes, Evidence: contract.Evidence{Status: 202}}
		if status := map[int]int{3: 404, 7: 403, 11: 401, 19: 404, 5: 500}[i]; status != 0 {
			srv.Inject(registrytest.Fault{Repository: repo.Path, Times: registrytest.Always, Status: status})
			access.Writable, access.Evidence = no, contract.Evidence{Status: status, Code: "FAULT", Text: http.StatusText(status)}
			if status == 500 {
				access.Writable = unknown
			}
		}
		want = append(want, access)
	}
	p.Repositories = append(p.Repositories, p.Root, p.Repositories[0]) // each is asked once
	spec := run(t, p)
	if diff := cmp.Diff(want, spec.Repositories); diff != "" {
		t.Errorf("repositories (-want +got):\n%s", diff)
	}
	nothingLeft(t, srv)
}

// Where nothing may be written, that is the answer, and nothing more is tried.
func TestRefusedAltogether(t *testing.T) {
	t.Parallel()
	srv := registrytest.Start(t, registrytest.New(registrytest.WithBasicAuth("u", "p")))
	spec := run(t, prober(t, srv))
	want := map[contract.Feature]contract.Verdict{}
	for f := range all(nil) {
		want[f] = unknown
	}
	want["write"] = no
	if diff := cmp.Diff(want, verdicts(spec)); diff != "" {
		t.Errorf("features (-want +got):\n%s", diff)
	}
	if n := len(srv.Requests()); n != 2 {
		t.Errorf("%d requests, want 2: for the place of the probe, and for the root", n)
	}
}

// A registry that is not there is no registry that can do nothing.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	srv := registrytest.Start(t, registrytest.New())
	srv.Inject(registrytest.Fault{Drop: true, Times: registrytest.Always})
	if _, err := prober(t, srv).Run(t.Context()); fault.KindOf(err) != fault.Transient {
		t.Errorf("got %v, want transient", err)
	}
}

// An interrupt takes back what was written.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"mounts", "manifests", "tags"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			srv := registrytest.Start(t, registrytest.New())
			ctx, cancel := context.WithCancel(t.Context())
			srv.Inject(registrytest.Fault{Stall: true, Match: func(r *http.Request) bool {
				reached := map[string]bool{
					"mounts":    r.URL.Query().Has("mount"),
					"manifests": r.Method == "PUT" && strings.Contains(r.URL.Path, "/manifests/") && r.Header.Get("Content-Type") == oci.MediaTypeIndex,
					"tags":      strings.HasSuffix(r.URL.Path, "/tags/list"),
				}[at]
				if reached {
					cancel()
				}
				return reached
			}})
			if _, err := prober(t, srv).Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want cancelled", err)
			}
			nothingLeft(t, srv)
		})
	}
}

// Small requests: what a probe costs a registry that takes all is bounded, and but
// for the one large body, which is cancelled, it is some kilobytes.
func TestCost(t *testing.T) {
	t.Parallel()
	srv := registrytest.Start(t, registrytest.New())
	p := prober(t, srv)
	run(t, p)
	var bytes, zeros int64
	for _, r := range srv.Requests() {
		if r.Method == "PATCH" {
			zeros += r.BytesIn
		} else {
			bytes += r.BytesIn
		}
	}
	t.Logf("%d requests, %d bytes, and %d zeros", len(srv.Requests()), bytes, zeros)
	if n := len(srv.Requests()); n > 100 || bytes > 8<<10 || zeros > 64<<10+p.Body {
		t.Errorf("%d requests, %d bytes, and %d zeros in uploads that are cancelled", n, bytes, zeros)
	}
}
