package registrytest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// client is bare net/http, so that what is tested is the registry alone.
type client struct {
	t    *testing.T
	base string
}

type answer struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

func start(t *testing.T, opts ...registrytest.Option) (*registrytest.Server, *client) {
	t.Helper()
	srv := registrytest.Start(t, registrytest.New(opts...))
	return srv, &client{t, "http://" + srv.Host}
}

func (c *client) try(method, path, body string, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(data), err}, nil
}

func (c *client) do(method, path, body string, header ...string) answer {
	c.t.Helper()
	a, err := c.try(method, path, body, header...)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// want does a request and checks its status.
func (c *client) want(status int, method, path, body string, header ...string) answer {
	c.t.Helper()
	a := c.do(method, path, body, header...)
	if a.status != status {
		c.t.Fatalf("%s %s: status %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a
}

func TestPush(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]registrytest.Option{"memory": nil, "files": {registrytest.WithDir(t.TempDir())}} {
		t.Run(name, func(t *testing.T) {
			srv, c := start(t, opts...)
			config, layer := oci.DigestOf([]byte("{}")), oci.DigestOf([]byte("layer"))
			manifest := string(registrytest.ImageManifest(
				oci.Descriptor{MediaType: "c", Digest: config, Size: 2}, oci.Descriptor{MediaType: "l", Digest: layer, Size: 5}))

			// Monolithic, and refused before its blobs are there.
			c.want(201, "POST", "/v2/a/b/blobs/uploads/?digest="+string(config), "{}")
			refused := c.want(400, "PUT", "/v2/a/b/manifests/v1", manifest, "Content-Type", oci.MediaTypeManifest)
			if !strings.Contains(refused.body, "MANIFEST_BLOB_UNKNOWN") {
				t.Errorf("a manifest with a missing layer: %s", refused.body)
			}

			// In chunks, the second at a wrong place first.
			location := c.want(202, "POST", "/v2/a/b/blobs/uploads/", "").header.Get("Location")
			c.want(202, "PATCH", location, "lay", "Content-Range", "0-2")
			c.want(416, "PATCH", location, "er", "Content-Range", "2-3")
			status := c.want(204, "GET", location, "")
			if got := status.header.Get("Range"); got != "0-2" {
				t.Errorf("upload status says %q", got)
			}
			c.want(202, "PATCH", location, "er", "Content-Range", "3-4")
			c.want(201, "PUT", location+"&digest="+url.QueryEscape(string(layer)), "")

			put := c.want(201, "PUT", "/v2/a/b/manifests/v1", manifest, "Content-Type", oci.MediaTypeManifest)
			digest := oci.DigestOf([]byte(manifest))
			if got := put.header.Get("Docker-Content-Digest"); got != string(digest) {
				t.Errorf("digest header %q, want %s", got, digest)
			}
			if diff := cmp.Diff(map[string]oci.Digest{"a/b:v1": digest}, srv.Tags()); diff != "" {
				t.Error(diff)
			}
			got := c.want(200, "GET", "/v2/a/b/manifests/"+string(digest), "")
			if got.body != manifest || got.header.Get("Content-Type") != oci.MediaTypeManifest {
				t.Errorf("manifest came back as %s %q", got.header.Get("Content-Type"), got.body)
			}
			if got := string(srv.Content(layer)); got != "layer" {
				t.Errorf("Content = %q", got)
			}
			if n := srv.OpenUploads(); n != 0 {
				t.Errorf("%d uploads are open", n)
			}
		})
	}
}

func TestPushRefusals(t *testing.T) {
	t.Parallel()
	srv, c := start(t, registrytest.Q8Limit(413, 100), registrytest.Q24ImmutableTags(400))
	image := srv.PutImage("a", "v1", []byte("layer"))
	body := string(srv.Content(image.Digest))
	index := string(registrytest.IndexManifest(oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.DigestOf([]byte("?")), Size: 1}))
	tests := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"blob digest", "POST", "/v2/a/blobs/uploads/?digest=" + string(image.Digest), "x", 400, "DIGEST_INVALID"},
		{"large blob", "POST", "/v2/a/blobs/uploads/?digest=" + string(image.Digest), strings.Repeat("x", 101), 413, "SIZE_INVALID"},
		{"large manifest", "PUT", "/v2/a/manifests/v2", body, 413, "SIZE_INVALID"},
		{"unknown session", "PUT", "/v2/a/blobs/uploads/no?digest=" + string(image.Digest), "", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"bad name", "GET", "/v2/A/manifests/v1", "", 400, "NAME_INVALID"},
		{"not a manifest", "PUT", "/v2/a/manifests/v2", "<html>", 400, "MANIFEST_INVALID"},
		{"other repository's blob", "GET", "/v2/b/blobs/" + string(oci.DigestOf([]byte("layer"))), "", 404, "BLOB_UNKNOWN"},
		{"unknown repository", "GET", "/v2/b/manifests/v1", "", 404, "NAME_UNKNOWN"},
		{"unknown tag", "GET", "/v2/a/manifests/v9", "", 404, "MANIFEST_UNKNOWN"},
	}
	for _, tt := range tests {
		got := c.do(tt.method, tt.path, tt.body, "Content-Type", oci.MediaTypeManifest)
		if got.status != tt.status || !strings.Contains(got.body, tt.code) {
			t.Errorf("%s: %d %s, want %d %s", tt.name, got.status, got.body, tt.status, tt.code)
		}
	}
	if n := srv.OpenUploads(); n != 0 {
		t.Errorf("%d uploads are open", n)
	}

	srv, c = start(t, registrytest.Q24ImmutableTags(400))
	srv.PutImage("a", "v1", []byte("layer"))
	for tag, status := range map[string]int{"v1": 400, "v2": 201} {
		c.want(status, "PUT", "/v2/a/manifests/"+tag, body, "Content-Type", oci.MediaTypeManifest)
	}
	c.want(400, "PUT", "/v2/a/manifests/"+string(oci.DigestOf([]byte("x"))), body, "Content-Type", oci.MediaTypeManifest)
	c.want(400, "PUT", "/v2/a/manifests/v3", index, "Content-Type", oci.MediaTypeIndex)
}

func TestBlobRange(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]registrytest.Option{"memory": nil, "files": {registrytest.WithDir(t.TempDir())}} {
		t.Run(name, func(t *testing.T) {
			srv, c := start(t, opts...)
			desc, err := srv.PutBlobFrom("a", strings.NewReader("0123456789"))
			if err != nil {
				t.Fatal(err)
			}
			path := "/v2/a/blobs/" + string(desc.Digest)
			got := c.want(206, "GET", path, "", "Range", "bytes=4-")
			if got.body != "456789" || got.header.Get("Content-Range") != "bytes 4-9/10" {
				t.Errorf("%q %q", got.body, got.header.Get("Content-Range"))
			}
			c.want(416, "GET", path, "", "Range", "bytes=10-")
			head := c.want(200, "HEAD", path, "")
			if head.header.Get("Content-Length") != "10" || head.body != "" {
				t.Errorf("HEAD: %v %q", head.header, head.body)
			}
			srv.Inject(registrytest.Fault{Kind: registrytest.KindBlob, NoRange: true})
			if got := c.want(200, "GET", path, "", "Range", "bytes=4-"); got.body != "0123456789" {
				t.Errorf("without ranges: %q", got.body)
			}
			want := []registrytest.Request{
				{Method: "GET", Range: "bytes=4-", Status: 206, BytesOut: 6},
				{Method: "GET", Range: "bytes=10-", Status: 416, BytesOut: 33},
				{Method: "HEAD", Status: 200},
				{Method: "GET", Range: "bytes=4-", Status: 200, BytesOut: 10},
			}
			for i := range want {
				want[i].Kind, want[i].Repository, want[i].Reference, want[i].Path = registrytest.KindBlob, "a", string(desc.Digest), path
			}
			if diff := cmp.Diff(want, srv.Requests()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMount(t *testing.T) {
	t.Parallel()
	blob := []byte("blob")
	path := "/v2/b/blobs/uploads/?mount=" + string(oci.DigestOf(blob)) + "&from=a"
	for _, refusal := range []int{0, 202, 401, 405} {
		var opts []registrytest.Option
		if refusal != 0 {
			opts = append(opts, registrytest.Q5Mount(refusal))
		}
		srv, c := start(t, opts...)
		desc := srv.PutBlob("a", blob)
		want := refusal
		if want == 0 {
			want = 201
		}
		location := c.want(want, "POST", path, "").header.Get("Location")
		if got := srv.Has("b", desc.Digest); got != (refusal == 0) {
			t.Errorf("refusal %d: mounted = %t", refusal, got)
		}
		if refusal == 202 {
			if n := srv.OpenUploads(); n != 1 {
				t.Errorf("%d uploads open, want 1", n)
			}
			c.want(204, "DELETE", location, "")
		}
		if n := srv.OpenUploads(); n != 0 {
			t.Errorf("refusal %d: %d uploads open", refusal, n)
		}
		if n := srv.Count(registrytest.KindMount, "POST"); n != 1 {
			t.Errorf("refusal %d: %d mounts logged", refusal, n)
		}
	}
}

func TestTagPages(t *testing.T) {
	t.Parallel()
	srv, c := start(t, registrytest.Q25Pages(2, registrytest.PagesByPath))
	for i := range 5 {
		srv.PutImage("a", fmt.Sprintf("v%d", i))
	}
	var pages []string
	for next := "/v2/a/tags/list?n=1000"; next != ""; {
		got := c.want(200, "GET", next, "")
		pages = append(pages, got.body)
		next = ""
		if link := got.header.Get("Link"); link != "" {
			next = link[1:strings.Index(link, ">")]
		}
	}
	want := []string{`{"name":"a","tags":["v0","v1"]}`, `{"name":"a","tags":["v2","v3"]}`, `{"name":"a","tags":["v4"]}`}
	if diff := cmp.Diff(want, pages); diff != "" {
		t.Error(diff)
	}
	c.want(404, "GET", "/v2/b/tags/list", "")
	_, c = start(t, registrytest.Q27NoTagList(405))
	c.want(405, "GET", "/v2/a/tags/list", "")
}

func TestHeadAndDigestOptions(t *testing.T) {
	t.Parallel()
	srv, c := start(t, registrytest.Q13NoHead(405), registrytest.Q44NoDigest())
	srv.PutImage("a", "v1")
	c.want(405, "HEAD", "/v2/a/manifests/v1", "")
	if got := c.want(200, "GET", "/v2/a/manifests/v1", ""); got.header.Get("Docker-Content-Digest") != "" {
		t.Error("the digest header is there")
	}
}

func TestBasicAuth(t *testing.T) {
	t.Parallel()
	_, c := start(t, registrytest.WithBasicAuth("u", "p"))
	got := c.want(401, "GET", "/v2/", "")
	if !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("challenge %q", got.header.Get("WWW-Authenticate"))
	}
	c.want(401, "GET", "/v2/", "", "Authorization", "Basic dTp4") // u:x
	c.want(200, "GET", "/v2/", "", "Authorization", "Basic dTpw") // u:p
}

func TestTokenAuth(t *testing.T) {
	t.Parallel()
	srv, c := start(t, registrytest.WithTokenAuth(registrytest.TokenAuth{User: "u", Password: "p", AnonymousPull: true, Uses: 2}))
	srv.PutImage("a", "v1")
	challenge := c.want(401, "GET", "/v2/a/manifests/v1", "").header.Get("WWW-Authenticate")
	want := `Bearer realm="http://` + srv.Host + `/token",service="registrytest",scope="repository:a:pull"`
	if challenge != want {
		t.Errorf("challenge %q, want %q", challenge, want)
	}
	token := func(scope string, header ...string) string {
		t.Helper()
		body := c.want(200, "GET", "/token?scope="+scope, "", header...).body
		return "Bearer " + strings.Split(body, `"`)[3]
	}
	pull := token("repository:a:pull")
	c.want(200, "GET", "/v2/a/manifests/v1", "", "Authorization", pull)
	c.want(401, "GET", "/v2/b/manifests/v1", "", "Authorization", pull)
	c.want(401, "POST", "/v2/a/blobs/uploads/", "", "Authorization", pull)
	c.want(200, "GET", "/v2/a/manifests/v1", "", "Authorization", pull)
	c.want(401, "GET", "/v2/a/manifests/v1", "", "Authorization", pull) // used up

	c.want(401, "GET", "/token?scope=repository:a:pull,push", "")
	push := token("repository:a:pull,push", "Authorization", "Basic dTpw")
	c.want(202, "POST", "/v2/a/blobs/uploads/", "", "Authorization", push)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	srv, c := start(t)
	data := bytes.Repeat([]byte("0123456789"), 10_000)
	desc := srv.PutBlob("a", data)
	path := "/v2/a/blobs/" + string(desc.Digest)
	fault := func(f registrytest.Fault) answer {
		t.Helper()
		f.Digest = desc.Digest
		srv.Inject(f)
		got, err := c.try("GET", path, "")
		if err != nil {
			got.err = err
		}
		return got
	}
	for _, at := range []int64{1, 3000, 50_000, 99_999} {
		got := fault(registrytest.Fault{CutAfter: at})
		if !errors.Is(got.err, io.ErrUnexpectedEOF) || int64(len(got.body)) != at || got.header.Get("Content-Length") != "100000" {
			t.Errorf("cut at %d: %d bytes, %v", at, len(got.body), got.err)
		}
	}
	got := fault(registrytest.Fault{Status: 429, RetryAfter: "7"})
	if got.status != 429 || got.header.Get("Retry-After") != "7" {
		t.Errorf("429: %+v", got)
	}
	got = fault(registrytest.Fault{Body: "<html>", ContentType: "text/html"})
	if got.status != 200 || got.body != "<html>" {
		t.Errorf("html: %+v", got)
	}
	got = fault(registrytest.Fault{WrongBody: true})
	if got.status != 200 || len(got.body) != len(data) || got.body == string(data) || got.body[1:] != string(data[1:]) {
		t.Errorf("wrong body: %d, %d bytes", got.status, len(got.body))
	}
	if got = fault(registrytest.Fault{Drop: true}); got.err == nil {
		t.Errorf("drop: status %d, %d bytes", got.status, len(got.body))
	}
	// Used up: the next is served.
	if got := c.want(200, "GET", path, ""); got.body != string(data) {
		t.Error("a used-up fault still applies")
	}

	srv.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Skip: 1, Times: 2, Status: 503})
	var statuses []int
	for range 4 {
		statuses = append(statuses, c.do("GET", path, "").status)
	}
	if diff := cmp.Diff([]int{200, 503, 503, 200}, statuses); diff != "" {
		t.Error(diff)
	}
}

func TestLoseAnswer(t *testing.T) {
	t.Parallel()
	srv, c := start(t)
	digest := oci.DigestOf([]byte("x"))
	srv.Inject(registrytest.Fault{Method: "POST", LoseAnswer: true})
	if got, err := c.try("POST", "/v2/a/blobs/uploads/?digest="+string(digest), "x"); err == nil {
		t.Errorf("the answer arrived: %+v", got)
	}
	if !srv.Has("a", digest) {
		t.Error("the request was not carried out")
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	srv, c := start(t)
	desc := srv.PutBlob("a", []byte("0123456789"))
	for name, fault := range map[string]registrytest.Fault{
		"before the answer": {Kind: registrytest.KindBlob, Stall: true},
		"in the body":       {Kind: registrytest.KindBlob, Stall: true, CutAfter: 4},
	} {
		srv.Inject(fault)
		done := make(chan answer)
		go func() { done <- c.do("GET", "/v2/a/blobs/"+string(desc.Digest), "") }()
		for {
			srv.Release()
			select {
			case got := <-done:
				if got.body != "0123456789" || got.err != nil {
					t.Errorf("%s: released request got %+v", name, got)
				}
			default:
				runtime.Gosched()
				continue
			}
			break
		}
	}
}

// TestStopWithStalledRequest proves that a test ends though a client still
// waits for a stalled answer.
func TestStopWithStalledRequest(t *testing.T) {
	t.Parallel()
	reg := registrytest.New()
	reg.Inject(registrytest.Fault{Stall: true})
	host, stop, err := reg.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := http.Get("http://" + host + "/v2/")
		done <- err
	}()
	for len(reg.Requests()) == 0 {
		runtime.Gosched()
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("the stalled request was answered")
	}
}

func TestDirKeepsNothingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv, c := start(t, registrytest.WithDir(dir))
	digest := oci.DigestOf([]byte("x"))
	c.want(201, "POST", "/v2/a/blobs/uploads/?digest="+string(digest), "x")
	c.want(400, "POST", "/v2/a/blobs/uploads/?digest="+string(digest), "y")
	location := c.want(202, "POST", "/v2/a/blobs/uploads/", "").header.Get("Location")
	c.want(204, "DELETE", location, "")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if diff := cmp.Diff([]string{filepath.Base(digest.Hex())}, names); diff != "" {
		t.Error(diff)
	}
	if got := string(srv.Content(digest)); got != "x" {
		t.Errorf("Content = %q", got)
	}
}
