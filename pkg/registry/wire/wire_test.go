package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
	"ferry/pkg/store"
)

// newClient returns a client for plain HTTP that does not wait between tries.
func newClient(t *testing.T, change ...func(*wire.Options)) *wire.Client {
	t.Helper()
	opts := wire.Options{PlainHTTP: true, Anonymous: true, Backoff: time.Microsecond}
	for _, f := range change {
		f(&opts)
	}
	c, err := wire.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func start(t *testing.T, opts ...registrytest.Option) *registrytest.Server {
	t.Helper()
	return registrytest.Start(t, registrytest.New(opts...))
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// fetch reads a blob to its end.
func fetch(ctx context.Context, c *wire.Client, repo oci.Repository, desc oci.Descriptor, held []byte) (data []byte, start int64, err error) {
	var section *io.SectionReader
	if held != nil {
		section = io.NewSectionReader(bytes.NewReader(held), 0, int64(len(held)))
	}
	body, start, err := c.Blob(ctx, repo, desc, section)
	if err != nil {
		return nil, 0, err
	}
	data, err = io.ReadAll(body)
	return data, start, errors.Join(err, body.Close())
}

func TestConformance(t *testing.T) {
	t.Parallel()
	token := registrytest.TokenAuth{User: "u", Password: "p", Uses: 3}
	login := func(o *wire.Options) { o.Concurrency = 1 }
	for name, opts := range map[string][]registrytest.Option{
		"plain":         nil,
		"files":         {registrytest.WithDir(t.TempDir())},
		"odd":           {registrytest.Q13NoHead(405), registrytest.Q44NoDigest(), registrytest.WithoutRange(), registrytest.Q5Mount(405)},
		"basic":         {registrytest.WithBasicAuth("u", "p")},
		"short tokens":  {registrytest.WithTokenAuth(token)},
		"small body":    {registrytest.Q8Limit(413, 2<<20)},
		"mount refused": {registrytest.Q5Mount(202)},
		"no referrers":  {registrytest.Q21NoReferrers()},
		"small pages":   {registrytest.Q25Pages(2, registrytest.PagesByPath)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := start(t, opts...)
			c := newClient(t, login, func(o *wire.Options) {
				o.Credentials = map[string]wire.Credential{srv.Host: {User: "u", Password: "p"}}
			})
			registrytest.Conformance(t, c, srv.Repository("root"))
			if n := srv.OpenUploads(); n != 0 {
				t.Errorf("%d upload sessions are open", n)
			}
		})
	}
}

// TestResumeInNewProcess proves that only what is missing is asked for.
func TestResumeInNewProcess(t *testing.T) {
	t.Parallel()
	srv := start(t)
	data := randomBytes(300_000)
	desc := srv.PutBlob("a", data)
	repo := srv.Repository("a")

	srv.Inject(registrytest.Fault{Kind: registrytest.KindBlob, CutAfter: 100_000})
	first, _, err := fetch(t.Context(), newClient(t, func(o *wire.Options) { o.Retries = -1 }), repo, desc, nil)
	registrytest.WantKind(t, err, fault.Transient)
	if len(first) != 100_000 {
		t.Fatalf("%d bytes before the cut, want 100000", len(first))
	}

	srv.Reset()
	rest, at, err := fetch(t.Context(), newClient(t), repo, desc, first)
	if err != nil || at != 100_000 || !bytes.Equal(rest, data[at:]) {
		t.Fatalf("resume at %d: %d bytes, %v", at, len(rest), err)
	}
	want := registrytest.Request{Range: "bytes=100000-", Status: 206, BytesOut: 200_000}
	for _, got := range srv.Requests() {
		if diff := cmp.Diff(want, registrytest.Request{Range: got.Range, Status: got.Status, BytesOut: got.BytesOut}); diff != "" {
			t.Error(diff)
		}
	}
	if n := len(srv.Requests()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// TestResumeWithinRequest cuts one blob again and again, with one operation at a
// time: the rest is asked for in the turn of the first request.
func TestResumeWithinRequest(t *testing.T) {
	t.Parallel()
	srv := start(t)
	data := randomBytes(500_000)
	desc := srv.PutBlob("a", data)
	c := newClient(t, func(o *wire.Options) { o.Concurrency = 1; o.Retries = 2 })
	for name, held := range map[string][]byte{"from the start": nil, "behind held bytes": data[:77_777]} {
		srv.Inject(registrytest.Fault{Kind: registrytest.KindBlob, CutAfter: 50_000, Times: 7})
		srv.Reset()
		rest, at, err := fetch(t.Context(), c, srv.Repository("a"), desc, held)
		if err != nil || at != int64(len(held)) || !bytes.Equal(rest, data[at:]) {
			t.Fatalf("%s: %d bytes from %d: %v", name, len(rest), at, err)
		}
		var out int64
		for _, req := range srv.Requests() {
			out += req.BytesOut
		}
		if want := int64(len(data) - len(held)); out != want {
			t.Errorf("%s: the registry sent %d bytes, want %d", name, out, want)
		}
	}
}

// TestOddRangeAnswers: the blob begins anew, and the caller is told (N12).
func TestOddRangeAnswers(t *testing.T) {
	t.Parallel()
	data := []byte("0123456789")
	for name, fault := range map[string]registrytest.Fault{
		"200":               {NoRange: true},
		"416":               {Status: 416},
		"other start":       {Status: 206, Header: http.Header{"Content-Range": {"bytes 3-9/10"}}, Body: "3456789"},
		"other size":        {Status: 206, Header: http.Header{"Content-Range": {"bytes 4-9/11"}}, Body: "456789"},
		"no range":          {Status: 206, Body: "456789"},
		"not a range":       {Status: 206, Header: http.Header{"Content-Range": {"4"}}, Body: "456789"},
		"beyond the end":    {Status: 206, Header: http.Header{"Content-Range": {"bytes 4-10/10"}}, Body: "456789a"},
		"backwards":         {Status: 206, Header: http.Header{"Content-Range": {"bytes 4-3/10"}}, Body: "456789"},
		"range ignored 200": {NoRange: true, Times: registrytest.Always},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := start(t)
			desc := srv.PutBlob("a", data)
			fault.Kind = registrytest.KindBlob
			srv.Inject(fault)
			got, at, err := fetch(t.Context(), newClient(t), srv.Repository("a"), desc, data[:4])
			if err != nil || at != 0 || !bytes.Equal(got, data) {
				t.Errorf("%q from %d: %v", got, at, err)
			}
		})
	}
}

// TestOddRangeAfterCut: what was read before a cut is glued to nothing but its
// rest (N12); the caller, who keeps it, may try again later.
func TestOddRangeAfterCut(t *testing.T) {
	t.Parallel()
	data := randomBytes(100_000)
	for name, odd := range map[string]registrytest.Fault{
		"200":         {NoRange: true},
		"other start": {Status: 206, Header: http.Header{"Content-Range": {"bytes 29999-99999/100000"}}, Body: string(data[29_999:])},
		"other size":  {Status: 206, Header: http.Header{"Content-Range": {"bytes 30000-99999/100001"}}, Body: string(data[30_000:])},
	} {
		for _, held := range [][]byte{nil, data[:1000]} {
			srv := start(t)
			desc := srv.PutBlob("a", data)
			odd.Kind, odd.Times = registrytest.KindBlob, registrytest.Always
			srv.Inject(registrytest.Fault{Kind: registrytest.KindBlob, CutAfter: int64(30_000 - len(held))})
			srv.Inject(odd)
			got, at, err := fetch(t.Context(), newClient(t), srv.Repository("a"), desc, held)
			registrytest.WantKind(t, err, fault.Transient)
			if at != int64(len(held)) || !bytes.Equal(got, data[at:30_000]) {
				t.Errorf("%s, %d held: %d bytes from %d", name, len(held), len(got), at)
			}
		}
	}
}

// TestHeld: held bytes are counted and not read, for the caller has them and
// proves them with the rest; more than the whole blob are none of it.
func TestHeld(t *testing.T) {
	t.Parallel()
	srv := start(t)
	data := []byte("0123456789")
	desc := srv.PutBlob("a", data)
	c := newClient(t)
	for _, tt := range []struct{ held, at, requests int64 }{{10, 10, 0}, {4, 4, 1}, {0, 0, 1}, {11, 0, 1}} {
		srv.Reset()
		held := io.NewSectionReader(unreadable{}, 0, tt.held)
		body, at, err := c.Blob(t.Context(), srv.Repository("a"), desc, held)
		if err != nil {
			t.Fatalf("%d held: %v", tt.held, err)
		}
		got, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil || at != tt.at || !bytes.Equal(got, data[at:]) {
			t.Errorf("%d held: %q from %d: %v", tt.held, got, at, err)
		}
		if n := int64(len(srv.Requests())); n != tt.requests {
			t.Errorf("%d held: %d requests, want %d", tt.held, n, tt.requests)
		}
	}
}

type unreadable struct{}

func (unreadable) ReadAt([]byte, int64) (int, error) { return 0, errors.New("held bytes were read") }

// TestLength: a body is as long as the manifest says, or ends with an error,
// whether its length was announced or not.
func TestLength(t *testing.T) {
	t.Parallel()
	blob := randomBytes(100_000)
	size := len(blob)
	for _, tt := range []struct {
		name      string
		sent      []byte
		announced bool
		cut       bool // without the mark of the end
		want      *fault.Kind
		read      int
	}{
		{"right", blob, false, false, nil, size},
		{"right, announced", blob, true, false, nil, size},
		{"right, cut behind the last byte", blob, false, true, nil, size},
		{"short", blob[:size-1], false, false, fault.Transient, size - 1},
		{"short, announced", blob[:size-1], true, false, fault.Protocol, 0},
		{"nothing", nil, false, false, fault.Transient, 0},
		{"long", append(blob[:size:size], 'x'), false, false, fault.Protocol, size},
		{"long, announced", append(blob[:size:size], 'x'), true, false, fault.Protocol, 0},
	} {
		registry := hostile(t, func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			if tt.announced {
				w.Header().Set("Content-Length", strconv.Itoa(len(tt.sent)))
			}
			w.Write(tt.sent)
			http.NewResponseController(w).Flush()
			if tt.cut {
				panic(http.ErrAbortHandler)
			}
		})
		for _, chunk := range []int{512, 512 << 10} {
			c := newClient(t, func(o *wire.Options) { o.Retries = -1 })
			body, _, err := c.Blob(t.Context(), oci.Repository{Host: registry.host, Path: "a"}, oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(size)}, nil)
			var got bytes.Buffer
			if err == nil {
				_, err = io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{body}, make([]byte, chunk))
				body.Close()
			}
			if fault.KindOf(err) != tt.want {
				t.Errorf("%s: kind %v (%v), want %v", tt.name, fault.KindOf(err), err, tt.want)
			}
			if got.Len() != tt.read || !bytes.Equal(got.Bytes(), blob[:got.Len()]) {
				t.Errorf("%s: %d bytes were read, want %d", tt.name, got.Len(), tt.read)
			}
		}
	}
}

// TestKinds has every failure at every reading call.
func TestKinds(t *testing.T) {
	t.Parallel()
	always := registrytest.Always
	tests := []struct {
		name  string
		fault registrytest.Fault
		want  *fault.Kind
	}{
		{"400", registrytest.Fault{Status: 400}, fault.Protocol},
		{"401", registrytest.Fault{Status: 401}, fault.Denied},
		{"403", registrytest.Fault{Status: 403}, fault.Denied},
		{"404", registrytest.Fault{Status: 404}, fault.NotFound},
		{"404 that is a refusal", registrytest.Fault{Status: 404, Body: `{"errors":[{"code":"DENIED"}]}`}, fault.Denied},
		{"405", registrytest.Fault{Status: 405}, fault.Unsupported},
		{"407", registrytest.Fault{Status: 407}, fault.Denied},
		{"408", registrytest.Fault{Status: 408}, fault.Transient},
		{"415", registrytest.Fault{Status: 415}, fault.Unsupported},
		{"429", registrytest.Fault{Status: 429}, fault.RateLimited},
		{"403 that is a limit", registrytest.Fault{Status: 403, Body: `{"errors":[{"code":"TOOMANYREQUESTS"}]}`}, fault.RateLimited},
		{"499", registrytest.Fault{Status: 499}, fault.Transient},
		{"500", registrytest.Fault{Status: 500}, fault.Transient},
		{"501", registrytest.Fault{Status: 501}, fault.Unsupported},
		{"502 with a page", registrytest.Fault{Status: 502, Body: "<html>", ContentType: "text/html"}, fault.Transient},
		{"503", registrytest.Fault{Status: 503}, fault.Transient},
		{"504", registrytest.Fault{Status: 504}, fault.Transient},
		{"dropped", registrytest.Fault{Drop: true}, fault.Transient},
		{"page with 200", registrytest.Fault{Body: "<html>login</html>", ContentType: "text/html"}, fault.Protocol},
		{"empty page with 200", registrytest.Fault{ContentType: "text/html", Status: 200}, fault.Protocol},
		{"redirect to nowhere", registrytest.Fault{Status: 302}, fault.Protocol},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := start(t)
			image := srv.PutImage("a", "v1", []byte("layer"))
			blob := oci.Descriptor{Digest: oci.DigestOf([]byte("layer")), Size: 5}
			tt.fault.Times = always
			srv.Inject(tt.fault)
			c := newClient(t, func(o *wire.Options) { o.Retries = 1 })
			repo := srv.Repository("a")
			for call, run := range map[string]func() error{
				"Resolve":  func() error { _, err := c.Resolve(t.Context(), repo.WithTag("v1")); return err },
				"Manifest": func() error { _, _, err := c.Manifest(t.Context(), repo.WithDigest(image.Digest)); return err },
				"Tags":     func() error { _, err := c.Tags(t.Context(), repo); return err },
				"Blob":     func() error { _, _, err := fetch(t.Context(), c, repo, blob, nil); return err },

				"Referrers": func() error { _, err := c.Referrers(t.Context(), repo, image.Digest); return err },
			} {
				err := run()
				want := tt.want
				if call == "Referrers" && tt.fault.Status == 415 {
					want = fault.Protocol // it does not say that there are none to ask for
				}
				if got := fault.KindOf(err); got != want {
					t.Errorf("%s: %v (%v), want %v", call, got, err, want)
				}
				if err != nil && !strings.Contains(err.Error(), repo.String()) {
					t.Errorf("%s: %q does not name the repository", call, err)
				}
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	host, stop, err := registrytest.New().Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, func(o *wire.Options) { o.Retries = 1 })
	_, err = c.Resolve(t.Context(), oci.Repository{Host: host, Path: "a"}.WithTag("v1"))
	registrytest.WantKind(t, err, fault.Transient)
	_, err = c.Resolve(t.Context(), oci.Repository{Host: "registry.invalid", Path: "a"}.WithTag("v1"))
	registrytest.WantKind(t, err, fault.Transient)
}

// TestHeals has each transient failure twice, then the registry recovers.
func TestHeals(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]registrytest.Fault{
		"408": {Status: 408}, "429": {Status: 429}, "500": {Status: 500}, "502": {Status: 502},
		"503": {Status: 503}, "504": {Status: 504}, "dropped": {Drop: true}, "cut": {CutAfter: 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := start(t)
			c := newClient(t, func(o *wire.Options) { o.Retries = 2 })
			repo := srv.Repository("a")
			layer := randomBytes(1000)
			srv.PutImage("a", "v1", layer)
			fault.Times = 2
			for kind, run := range map[registrytest.Kind]func() error{
				registrytest.KindManifest: func() error { _, _, err := c.Manifest(t.Context(), repo.WithTag("v1")); return err },
				registrytest.KindTags:     func() error { _, err := c.Tags(t.Context(), repo); return err },
				registrytest.KindBlob: func() error {
					_, _, err := fetch(t.Context(), c, repo, oci.Descriptor{Digest: oci.DigestOf(layer), Size: 1000}, nil)
					return err
				},
			} {
				fault.Kind, fault.Method = kind, "GET"
				srv.Inject(fault)
				if err := run(); err != nil {
					t.Errorf("%s: %v", kind, err)
				}
			}
			if name == "cut" {
				return
			}
			for _, method := range []string{"POST", "PUT"} {
				blob := []byte(method)
				desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}
				fault.Kind, fault.Method = registrytest.KindUpload, method
				srv.Inject(fault)
				if err := c.PutBlob(t.Context(), repo, desc, bytes.NewReader(blob)); err != nil {
					t.Errorf("%s of an upload: %v", method, err)
				}
				if !bytes.Equal(srv.Content(desc.Digest), blob) {
					t.Errorf("%s: the blob is not there", method)
				}
			}
			fault.Kind, fault.Method = registrytest.KindManifest, "PUT"
			srv.Inject(fault)
			body := registrytest.IndexManifest()
			if err := c.PutManifest(t.Context(), repo.WithTag("v2"), oci.MediaTypeIndex, body); err != nil {
				t.Errorf("PUT of a manifest: %v", err)
			}
			if got := srv.Tags()["a:v2"]; got != oci.DigestOf(body) {
				t.Errorf("the manifest arrived as %s", got)
			}
			if n := srv.OpenUploads(); n != 0 {
				t.Errorf("%d upload sessions are open", n)
			}
		})
	}
}

// TestRetryLimit counts the requests of an operation that never succeeds.
func TestRetryLimit(t *testing.T) {
	t.Parallel()
	srv := start(t)
	srv.Inject(registrytest.Fault{Status: 503, Times: registrytest.Always})
	c := newClient(t, func(o *wire.Options) { o.Retries = 3 })
	_, _, err := c.Manifest(t.Context(), srv.Repository("a").WithTag("v1"))
	registrytest.WantKind(t, err, fault.Transient)
	if n := len(srv.Requests()); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
	if fault.HintOf(err) == "" {
		t.Error("no hint")
	}
}

// HEAD has GET for its next try, but not when the registry wants to be left
// alone: then it waits and asks again.
func TestHeadIsRateLimited(t *testing.T) {
	srv := start(t)
	want := srv.PutImage("a", "v1", []byte("layer"))
	srv.Inject(registrytest.Fault{Method: "HEAD", Kind: registrytest.KindManifest, Status: 429, Times: 4})
	got, err := newClient(t).Resolve(t.Context(), srv.Repository("a").WithTag("v1"))
	if err != nil || got.Digest != want.Digest {
		t.Fatalf("got %s, %v", got.Digest, err)
	}
	if heads, gets := srv.Count(registrytest.KindManifest, "HEAD"), srv.Count(registrytest.KindManifest, "GET"); heads != 5 || gets != 0 {
		t.Errorf("%d HEAD and %d GET requests, want 5 and none", heads, gets)
	}
}

func TestRetryAfterTooLong(t *testing.T) {
	t.Parallel()
	srv := start(t)
	srv.Inject(registrytest.Fault{Status: 429, RetryAfter: "86400", Times: registrytest.Always})
	_, _, err := newClient(t).Manifest(t.Context(), srv.Repository("a").WithTag("v1"))
	registrytest.WantKind(t, err, fault.RateLimited)
	if n := len(srv.Requests()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestWrongContent(t *testing.T) {
	t.Parallel()
	srv := start(t)
	layer := randomBytes(1000)
	image := srv.PutImage("a", "v1", layer)
	repo, c := srv.Repository("a"), newClient(t)

	_, _, err := fetch(t.Context(), c, repo, oci.Descriptor{Digest: oci.DigestOf(layer), Size: 999}, nil)
	registrytest.WantKind(t, err, fault.Protocol)

	srv.Inject(registrytest.Fault{Method: "GET", Kind: registrytest.KindManifest, Body: string(registrytest.IndexManifest()), ContentType: oci.MediaTypeIndex})
	_, _, err = c.Manifest(t.Context(), repo.WithDigest(image.Digest))
	registrytest.WantKind(t, err, fault.Protocol)
	for name, body := range map[string]string{
		"both shapes": `{"schemaVersion":2,"layers":[],"manifests":[],"config":{}}`,
		"schema 1":    `{"schemaVersion":1,"fsLayers":[]}`,
		"endless":     strings.Repeat(" ", oci.ManifestLimit+1),
	} {
		srv.Inject(registrytest.Fault{Method: "GET", Kind: registrytest.KindManifest, Body: body, ContentType: oci.MediaTypeManifest})
		if _, _, err = c.Manifest(t.Context(), repo.WithTag("v1")); fault.KindOf(err) != fault.Protocol {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWrongBytes: what has the right length and the wrong digest comes through
// here, and no store takes it, whether the registry sent it or it was held.
func TestWrongBytes(t *testing.T) {
	t.Parallel()
	srv := start(t)
	data := randomBytes(1000)
	desc := srv.PutBlob("a", data)
	for name, tt := range map[string]struct {
		held  []byte
		wrong bool
	}{"sent": {nil, true}, "held": {append([]byte{^data[0]}, data[1:10]...), false}, "all held": {append([]byte{^data[0]}, data[1:]...), false}} {
		dir, err := store.OpenDir(t.Context(), t.TempDir(), store.Exclusive)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { dir.Close() })
		ingest, err := dir.Ingest(t.Context(), desc)
		if err != nil {
			t.Fatal(err)
		}
		defer ingest.Close()
		if _, err := ingest.CopyFrom(t.Context(), 0, bytes.NewReader(tt.held)); err != nil {
			t.Fatal(err)
		}
		if tt.wrong {
			srv.Inject(registrytest.Fault{Kind: registrytest.KindBlob, WrongBody: true})
		}
		body, at, err := newClient(t).Blob(t.Context(), srv.Repository("a"), desc, ingest.Held())
		if err != nil || at != int64(len(tt.held)) {
			t.Fatalf("%s: from %d: %v", name, at, err)
		}
		if _, err := ingest.CopyFrom(t.Context(), at, body); err != nil {
			t.Fatal(err)
		}
		registrytest.WantKind(t, errors.Join(ingest.Commit(t.Context()), body.Close()), fault.Protocol)
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	srv := start(t)
	layer := randomBytes(100_000)
	desc := srv.PutBlob("a", layer)
	srv.PutImage("a", "v1")
	repo := srv.Repository("a")
	impatient := func(retries int) *wire.Client {
		return newClient(t, func(o *wire.Options) { o.IdleTimeout = 50 * time.Millisecond; o.Retries = retries })
	}
	for name, f := range map[string]registrytest.Fault{
		"before the answer": {Kind: registrytest.KindBlob, Stall: true},
		"in the body":       {Kind: registrytest.KindBlob, Stall: true, CutAfter: 30_000},
	} {
		srv.Inject(f)
		_, _, err := fetch(t.Context(), impatient(-1), repo, desc, nil)
		if fault.KindOf(err) != fault.Transient {
			t.Errorf("%s: %v", name, err)
		}
		srv.Inject(f)
		if got, _, err := fetch(t.Context(), impatient(3), repo, desc, nil); err != nil || !bytes.Equal(got, layer) {
			t.Errorf("%s: after a stall: %d bytes, %v", name, len(got), err)
		}
	}
	srv.Inject(registrytest.Fault{Method: "GET", Kind: registrytest.KindManifest, Stall: true})
	if _, _, err := impatient(3).Manifest(t.Context(), repo.WithTag("v1")); err != nil {
		t.Errorf("manifest after a stall: %v", err)
	}
	srv.Inject(registrytest.Fault{Method: "PUT", Kind: registrytest.KindUpload, Stall: true})
	upload := randomBytes(200_000)
	up := oci.Descriptor{Digest: oci.DigestOf(upload), Size: int64(len(upload))}
	if err := impatient(3).PutBlob(t.Context(), repo, up, bytes.NewReader(upload)); err != nil {
		t.Errorf("upload after a stall: %v", err)
	}
	if n := srv.OpenUploads(); n != 0 {
		t.Errorf("%d upload sessions are open", n)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	srv := start(t)
	repo := srv.Repository("a")
	blob := randomBytes(100_000)
	desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}
	srv.PutBlob("b", blob)
	c := newClient(t)
	for name, tt := range map[string]struct {
		fault registrytest.Fault
		run   func(context.Context) error
	}{
		"resolve": {registrytest.Fault{Stall: true}, func(ctx context.Context) error { _, err := c.Resolve(ctx, repo.WithTag("v1")); return err }},
		"upload": {registrytest.Fault{Method: "PUT", Stall: true}, func(ctx context.Context) error {
			return c.PutBlob(ctx, repo, desc, bytes.NewReader(blob))
		}},
		"download": {registrytest.Fault{Kind: registrytest.KindBlob, Stall: true, CutAfter: 10}, func(ctx context.Context) error {
			_, _, err := fetch(ctx, c, srv.Repository("b"), desc, nil)
			return err
		}},
		"between tries": {registrytest.Fault{Status: 503, RetryAfter: "100"}, func(ctx context.Context) error {
			_, _, err := newClient(t).Manifest(ctx, repo.WithTag("v1"))
			return err
		}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancelled := make(chan struct{})
		tt.fault.Match = func(*http.Request) bool {
			go func() { cancel(); close(cancelled) }()
			return true
		}
		srv.Inject(tt.fault)
		err := tt.run(ctx)
		<-cancelled
		if fault.KindOf(err) != fault.Cancelled || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	srv.Release()
	if n := srv.OpenUploads(); n != 0 {
		t.Errorf("%d upload sessions are open", n)
	}
}

// S1.10.4.
func TestTagPages(t *testing.T) {
	t.Parallel()
	var want []string
	reg := registrytest.New()
	for i := range 2500 {
		tag := fmt.Sprintf("v%04d", i)
		want = append(want, tag)
		reg.PutManifest("a", tag, oci.MediaTypeIndex, registrytest.IndexManifest())
	}
	type opts = []registrytest.Option
	for name, opts := range map[string]opts{
		"as asked":         nil,
		"100":              {registrytest.Q25Pages(100, registrytest.PagesByPath)},
		"odd pages":        {registrytest.Q25Pages(333, registrytest.PagesByPath)},
		"addresses":        {registrytest.Q25Pages(333, registrytest.PagesByURL)},
		"no brackets":      {registrytest.Q25Pages(333, registrytest.PagesBare)},
		"not sorted":       {registrytest.Q25Pages(333, registrytest.PagesTurning)},
		"silent, of 100":   {registrytest.Q25Pages(100, registrytest.PagesSilent)},
		"silent, of 1000":  {registrytest.Q25Pages(1000, registrytest.PagesSilent)},
		"and none of none": {registrytest.Q25NoTags(200, `{"name":"b","tags":null}`)},
		"404 for none":     {registrytest.Q25NoTags(404, `{"errors":[{"code":"NAME_UNKNOWN"}]}`)},
		"nothing for none": {registrytest.Q25NoTags(200, `{"name":"b"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := start(t, opts...)
			for _, tag := range want {
				srv.PutManifest("a", tag, oci.MediaTypeIndex, registrytest.IndexManifest())
			}
			srv.PutManifest("b", "", oci.MediaTypeIndex, registrytest.IndexManifest())
			c := newClient(t)
			got, err := c.Tags(t.Context(), srv.Repository("a"))
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			// Without tags there are none, or no such repository; nothing else.
			if none, err := c.Tags(t.Context(), srv.Repository("b")); len(none) > 0 || err != nil && fault.KindOf(err) != fault.NotFound {
				t.Errorf("of no tags: %v, %v", none, err)
			}
		})
	}
	t.Run("cut without link", func(t *testing.T) {
		t.Parallel()
		srv := registrytest.Start(t, reg)
		proxy := hostile(t, func(w http.ResponseWriter, req *http.Request) {
			query := req.URL.Query()
			query.Set("n", "100")
			req.URL.RawQuery = query.Encode()
			reg.ServeHTTP(withoutLink{w}, req)
		})
		got, err := newClient(t).Tags(t.Context(), oci.Repository{Host: proxy.host, Path: srv.Repository("a").Path})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	srv := start(t, registrytest.Q27NoTagList(405))
	_, err := newClient(t).Tags(t.Context(), srv.Repository("a"))
	registrytest.WantKind(t, err, fault.Unsupported)
}

type withoutLink struct{ http.ResponseWriter }

func (w withoutLink) WriteHeader(status int) {
	w.Header().Del("Link")
	w.ResponseWriter.WriteHeader(status)
}

func (w withoutLink) Write(p []byte) (int, error) {
	w.Header().Del("Link")
	return w.ResponseWriter.Write(p)
}

func TestMountRefused(t *testing.T) {
	t.Parallel()
	for _, status := range []int{202, 400, 401, 403, 404, 405} {
		srv := start(t, registrytest.Q5Mount(status))
		desc := srv.PutBlob("a", []byte("x"))
		mounted, err := newClient(t).MountBlob(t.Context(), srv.Repository("b"), desc, srv.Repository("a"))
		if mounted || err != nil {
			t.Errorf("%d: %t, %v", status, mounted, err)
		}
		if n := srv.OpenUploads(); n != 0 {
			t.Errorf("%d: %d upload sessions are open", status, n)
		}
	}
	srv := start(t)
	desc := srv.PutBlob("a", []byte("x"))
	srv.Inject(registrytest.Fault{Kind: registrytest.KindMount, Status: 503, Times: registrytest.Always})
	_, err := newClient(t).MountBlob(t.Context(), srv.Repository("b"), desc, srv.Repository("a"))
	registrytest.WantKind(t, err, fault.Transient)
}

// TestClosedConnections (Q43): a connection that was closed while nobody used it is
// no failure of what comes next, also where nothing is repeated.
func TestClosedConnections(t *testing.T) {
	t.Parallel()
	srv := start(t, registrytest.Q43ClosesIdle())
	c := newClient(t, func(o *wire.Options) { o.Retries, o.Concurrency = -1, 8 })
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			for range 40 {
				if err := c.CheckWrite(t.Context(), srv.Repository("a")); err != nil && strings.Contains(err.Error(), "server closed idle connection") {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if n := len(srv.Writes()); n < 320 {
		t.Errorf("only %d requests came", n)
	}
}

func TestPutBlobFailures(t *testing.T) {
	t.Parallel()
	blob := randomBytes(3 << 20)
	desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}

	for _, tt := range []struct {
		status int
		want   *fault.Kind
		puts   int // no second try where it cannot help
	}{{403, fault.Denied, 1}, {400, fault.Protocol, 1}, {415, fault.Unsupported, 1}, {503, fault.Transient, 3}} {
		srv := start(t)
		srv.Inject(registrytest.Fault{Method: "PUT", Status: tt.status, Times: registrytest.Always})
		err := newClient(t, func(o *wire.Options) { o.Retries = 2 }).PutBlob(t.Context(), srv.Repository("a"), desc, bytes.NewReader(blob))
		registrytest.WantKind(t, err, tt.want)
		if n := srv.Count(registrytest.KindUpload, "PUT"); n != tt.puts {
			t.Errorf("%d: %d uploads, want %d", tt.status, n, tt.puts)
		}
		if n := srv.OpenUploads(); n != 0 {
			t.Errorf("%d: %d upload sessions are open", tt.status, n)
		}
	}

	srv := start(t, registrytest.Q8Limit(413, 1000))
	err := newClient(t).PutBlob(t.Context(), srv.Repository("a"), desc, bytes.NewReader(blob))
	registrytest.WantKind(t, err, fault.Unsupported)
	if n := srv.OpenUploads(); n != 0 {
		t.Errorf("%d upload sessions are open", n)
	}

	srv = start(t)
	err = newClient(t).PutBlob(t.Context(), srv.Repository("a"), desc, bytes.NewReader(blob[1:]))
	registrytest.WantKind(t, err, fault.Damaged)
	err = newClient(t).PutBlob(t.Context(), srv.Repository("a"), desc, brokenDisk{bytes.NewReader(blob)})
	registrytest.WantKind(t, err, fault.Local)
	if n := srv.OpenUploads(); n != 0 {
		t.Errorf("%d upload sessions are open", n)
	}
}

type brokenDisk struct{ io.ReadSeeker }

func (brokenDisk) Read([]byte) (int, error) { return 0, errors.New("input/output error") }

// TestPutManifestIsProven: a registry has taken a manifest when it says so, and as
// what it is.
func TestPutManifestIsProven(t *testing.T) {
	t.Parallel()
	body := registrytest.IndexManifest()
	for _, tt := range []struct {
		name, mediaType string
		fault           registrytest.Fault
		want            *fault.Kind
		requests        int
	}{
		{"taken", oci.MediaTypeIndex, registrytest.Fault{}, nil, 1},
		{"taken, without a digest", oci.MediaTypeIndex, registrytest.Fault{Status: 201, ContentType: "text/plain"}, nil, 1},
		{"200", oci.MediaTypeIndex, registrytest.Fault{Status: 200, ContentType: "text/html"}, fault.Protocol, 1},
		{"another digest", oci.MediaTypeIndex, registrytest.Fault{Status: 201, ContentType: "text/plain",
			Header: http.Header{"Docker-Content-Digest": {string(oci.DigestOf(nil))}}}, fault.Protocol, 1},
		{"no manifest", "text/plain", registrytest.Fault{}, fault.Unsupported, 0},
	} {
		srv := start(t)
		if tt.fault.Status != 0 {
			srv.Inject(tt.fault)
		}
		err := newClient(t).PutManifest(t.Context(), srv.Repository("a").WithTag("v1"), tt.mediaType, body)
		if got := fault.KindOf(err); got != tt.want || len(srv.Requests()) != tt.requests {
			t.Errorf("%s: %v (%v) after %d requests, want %v after %d", tt.name, got, err, len(srv.Requests()), tt.want, tt.requests)
		}
	}
}

// TestLostAnswer: the blob and the manifest are there, though nobody heard.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	srv := start(t)
	c := newClient(t)
	body := registrytest.IndexManifest()
	for _, kind := range []registrytest.Kind{registrytest.KindUpload, registrytest.KindManifest} {
		srv.Inject(registrytest.Fault{Kind: kind, Method: "PUT", LoseAnswer: true})
	}
	desc := oci.Descriptor{Digest: oci.DigestOf([]byte("x")), Size: 1}
	if err := c.PutBlob(t.Context(), srv.Repository("a"), desc, strings.NewReader("x")); err != nil {
		t.Error(err)
	}
	if err := c.PutManifest(t.Context(), srv.Repository("a").WithTag("v1"), oci.MediaTypeIndex, body); err != nil {
		t.Error(err)
	}
}

// TestNoReferrersTag: a registry without referrers gets no tag that no plan knows of.
func TestNoReferrersTag(t *testing.T) {
	t.Parallel()
	srv := start(t)
	subject := srv.PutImage("a", "v1")
	config := srv.PutBlob("a", []byte("{}"))
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x","digest":%q,"size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		oci.MediaTypeManifest, config.Digest, subject.MediaType, subject.Digest, subject.Size)
	proxy := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		srv.ServeHTTP(withoutSubject{w}, req)
	})
	repo := oci.Repository{Host: proxy.host, Path: "a"}
	if err := newClient(t).PutManifest(t.Context(), repo.WithTag("sbom"), oci.MediaTypeManifest, body); err != nil {
		t.Fatal(err)
	}
	want := map[string]oci.Digest{"a:v1": subject.Digest, "a:sbom": oci.DigestOf(body)}
	if diff := cmp.Diff(want, srv.Tags()); diff != "" {
		t.Error(diff)
	}
}

type withoutSubject struct{ http.ResponseWriter }

func (w withoutSubject) WriteHeader(status int) {
	w.Header().Del("OCI-Subject")
	w.ResponseWriter.WriteHeader(status)
}

func TestConcurrencyLimit(t *testing.T) {
	t.Parallel()
	srv := start(t)
	desc := srv.PutBlob("a", []byte("x"))
	c := newClient(t, func(o *wire.Options) { o.Concurrency = 1 })
	body, _, err := c.Blob(t.Context(), srv.Repository("a"), desc, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = c.Blob(ctx, srv.Repository("a"), desc, nil)
	registrytest.WantKind(t, err, fault.Cancelled)
	if err := errors.Join(body.Close(), body.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := fetch(t.Context(), c, srv.Repository("a"), desc, nil); err != nil {
		t.Error(err)
	}
	if n := srv.Count(registrytest.KindBlob, "GET"); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

// slowed serves handler with a delay in front of every answer, and counts how
// many requests are under way.
type slowed struct {
	handler http.Handler
	delay   time.Duration
	now     atomic.Int64
	most    atomic.Int64
}

func (s *slowed) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	select {
	case <-time.After(s.delay):
	case <-req.Context().Done():
	}
	s.handler.ServeHTTP(w, req)
}

// TestConcurrencyGrows: far from a registry a client that may choose makes many more
// requests at a time than the few it begins with; one that may not makes as many as it
// was told, and no more.
func TestConcurrencyGrows(t *testing.T) {
	t.Parallel()
	reg := registrytest.New()
	desc := reg.PutBlob("a", randomBytes(4<<10))
	for _, tc := range []struct{ concurrency, least, most int }{
		{32, 32, 32},
		{0, 24, wire.MaxConcurrency}, // it begins with 8
	} {
		far := &slowed{handler: reg, delay: 50 * time.Millisecond}
		srv := hostile(t, far.ServeHTTP)
		c := newClient(t, func(o *wire.Options) { o.Concurrency = tc.concurrency })
		var callers errgroup.Group
		callers.SetLimit(wire.MaxConcurrency)
		for range 1000 {
			callers.Go(func() error {
				_, _, err := fetch(t.Context(), c, oci.Repository{Host: srv.host, Path: "a"}, desc, nil)
				return err
			})
		}
		if err := callers.Wait(); err != nil {
			t.Fatal(err)
		}
		if most := int(far.most.Load()); most < tc.least || most > tc.most {
			t.Errorf("--parallel %d: %d requests at a time, want %d to %d", tc.concurrency, most, tc.least, tc.most)
		}
	}
}

// TestComplaintsAreHeeded: fewer requests at a time follow when a registry says
// that they are too many, and all are answered in the end.
func TestComplaintsAreHeeded(t *testing.T) {
	t.Parallel()
	reg := registrytest.New()
	desc := reg.PutBlob("a", []byte("x"))
	far := &slowed{delay: 10 * time.Millisecond}
	var refused atomic.Int64
	far.handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if far.now.Load() > 4 {
			refused.Add(1)
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		reg.ServeHTTP(w, req)
	})
	srv := hostile(t, far.ServeHTTP)
	c := newClient(t, func(o *wire.Options) { o.Retries, o.Backoff = 30, time.Millisecond })
	var callers errgroup.Group
	callers.SetLimit(wire.MaxConcurrency)
	const blobs = 400
	for range blobs {
		callers.Go(func() error {
			_, _, err := fetch(t.Context(), c, oci.Repository{Host: srv.host, Path: "a"}, desc, nil)
			return err
		})
	}
	if err := callers.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := refused.Load(); n == 0 || n > blobs/4 {
		t.Errorf("%d of %d requests were too many", n, blobs+n)
	}
}

// TestHTTP2: where the registry offers it all goes through one connection.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	reg := registrytest.New()
	var old, connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.ProtoMajor < 2 {
			old.Add(1)
		}
		reg.ServeHTTP(w, req)
	}))
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	c := newClient(t, func(o *wire.Options) { o.PlainHTTP, o.SkipTLSVerify = false, true })
	registrytest.Conformance(t, c, oci.Repository{Host: strings.TrimPrefix(server.URL, "https://"), Path: "root"})
	if old.Load() > 0 || connections.Load() != 1 {
		t.Errorf("%d requests of HTTP/1, %d connections", old.Load(), connections.Load())
	}
}

// TestRequestsOfAnUpload: one to begin with, one with the blob, and none beside.
func TestRequestsOfAnUpload(t *testing.T) {
	t.Parallel()
	srv := start(t)
	blob := randomBytes(3 << 20)
	desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}
	if err := newClient(t).PutBlob(t.Context(), srv.Repository("a"), desc, bytes.NewReader(blob)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, req := range srv.Requests() {
		got = append(got, fmt.Sprint(req.Method, " ", req.Kind, " ", req.BytesIn))
	}
	if diff := cmp.Diff([]string{"POST upload 0", fmt.Sprint("PUT upload ", len(blob))}, got); diff != "" {
		t.Error(diff)
	}
}
