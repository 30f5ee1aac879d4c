package wire_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
)

// TestRedirectBack (N3): in a chain that leads away from the registry and back, the
// host between sees no login, and the registry gives its own.
func TestRedirectBack(t *testing.T) {
	t.Parallel()
	blob := []byte("content of the blob")
	desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}
	var back string
	between := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, back, http.StatusTemporaryRedirect)
	})
	registry := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		if _, password, _ := req.BasicAuth(); password != secret {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return
		}
		if req.URL.Path == "/back" {
			w.Write(blob)
			return
		}
		http.Redirect(w, req, "http://"+between.host+"/x", http.StatusTemporaryRedirect)
	})
	back = "http://" + registry.host + "/back"
	got, _, err := fetch(t.Context(), loggedIn(t, registry.host), oci.Repository{Host: registry.host, Path: "a"}, desc, nil)
	if err != nil || !bytes.Equal(got, blob) {
		t.Errorf("%q, %v", got, err)
	}
	if len(between.requests()) != 1 {
		t.Errorf("%d requests went there", len(between.requests()))
	}
	wantNoSecret(t, between)
}

// endless sends bytes until the client has enough, or 1 GB has gone.
func endless(sent *atomic.Int64, contentType string) http.HandlerFunc {
	block := bytes.Repeat([]byte(" "), 1<<20)
	return func(w http.ResponseWriter, req *http.Request) {
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		if req.Method == http.MethodPost {
			w.WriteHeader(http.StatusInsufficientStorage)
		}
		for range 1 << 10 {
			n, err := w.Write(block)
			if req.Method != http.MethodHead { // whose answer has no body
				sent.Add(int64(n))
			}
			if err != nil {
				return
			}
		}
	}
}

// TestEndlessAnswers (N9): an answer without an end is left after its limit at every
// endpoint, and never kept in memory beyond that.
func TestEndlessAnswers(t *testing.T) {
	const allowed = 24 << 20 // the largest limit, and what is on its way
	for name, tt := range map[string]struct {
		contentType string
		run         func(*wire.Client, oci.Repository) error
		limit       int64
	}{
		"manifest": {oci.MediaTypeManifest, func(c *wire.Client, r oci.Repository) error {
			_, _, err := c.Manifest(t.Context(), r.WithTag("v1"))
			return err
		}, 20 << 20},
		"resolve": {oci.MediaTypeManifest, func(c *wire.Client, r oci.Repository) error {
			_, err := c.Resolve(t.Context(), r.WithTag("v1"))
			return err
		}, 2 * 20 << 20},
		"tags": {"application/json", func(c *wire.Client, r oci.Repository) error { _, err := c.Tags(t.Context(), r); return err }, 30 << 20},
		"referrers": {oci.MediaTypeIndex, func(c *wire.Client, r oci.Repository) error {
			_, err := c.Referrers(t.Context(), r, oci.DigestOf(nil))
			return err
		}, 20 << 20},
		"blob": {"", func(c *wire.Client, r oci.Repository) error {
			_, _, err := fetch(t.Context(), c, r, oci.Descriptor{Digest: oci.DigestOf(nil), Size: 100}, nil)
			return err
		}, 20 << 20},
		"error of an upload": {"application/json", func(c *wire.Client, r oci.Repository) error {
			return c.PutBlob(t.Context(), r, oci.Descriptor{Digest: oci.DigestOf([]byte("x")), Size: 1}, strings.NewReader("x"))
		}, 2 * 20 << 20},
		"error of a mount": {"application/json", func(c *wire.Client, r oci.Repository) error {
			_, err := c.MountBlob(t.Context(), r, oci.Descriptor{Digest: oci.DigestOf([]byte("x")), Size: 1}, oci.Repository{Host: r.Host, Path: "b"})
			return err
		}, 2 * 20 << 20},
		"answer to a manifest": {"application/json", func(c *wire.Client, r oci.Repository) error {
			return c.PutManifest(t.Context(), r.WithTag("v1"), oci.MediaTypeIndex, registrytest.IndexManifest())
		}, 20 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			registry := hostile(t, endless(&sent, tt.contentType))
			c := newClient(t, func(o *wire.Options) { o.Retries = 1 })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := tt.run(c, oci.Repository{Host: registry.host, Path: "a"})
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Error("it is accepted")
			}
			if sent.Load() > tt.limit {
				t.Errorf("%d MB were read", sent.Load()>>20)
			}
			if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 8*allowed {
				t.Errorf("%d MB of memory were taken in all", grown>>20)
			}
		})
	}
	t.Attr("figure:hostile-inputs", "8")
}

// TestHostileDigests (N10): what is no digest is none, whatever else says so, and
// what the registry says of a manifest's digest is not believed.
func TestHostileDigests(t *testing.T) {
	t.Parallel()
	body := registrytest.IndexManifest()
	digests := map[string]string{
		"a path":                    "sha256:../../x",
		"empty":                     ":",
		"upper case":                strings.ToUpper(string(oci.DigestOf(body))),
		"upper hex":                 "sha256:" + strings.ToUpper(strings.TrimPrefix(string(oci.DigestOf(body)), "sha256:")),
		"short":                     "sha256:abcd",
		"long":                      "sha256:" + strings.Repeat("a", 100_000),
		"another algorithm":         "md5:d41d8cd98f00b204e9800998ecf8427e",
		"of other bytes":            string(oci.DigestOf([]byte("x"))),
		"two":                       string(oci.DigestOf(body)) + "," + string(oci.DigestOf(body)),
		"with a line's end encoded": "sha256:%0a",
	}
	for name, digest := range digests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := hostile(t, func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Docker-Content-Digest", digest)
				w.Header().Set("Content-Type", oci.MediaTypeIndex)
				w.Header().Set("Content-Length", strconv.Itoa(len(body)))
				if req.Method == http.MethodGet {
					w.Write(body)
				}
			})
			c, repo := newClient(t), oci.Repository{Host: registry.host, Path: "a"}
			desc, err := c.Resolve(t.Context(), repo.WithTag("v1"))
			if name != "of other bytes" && (err != nil || desc.Digest != oci.DigestOf(body)) { // GET tells where HEAD does not
				t.Errorf("resolved to %q: %v", desc.Digest, err)
			}
			desc, _, err = c.Manifest(t.Context(), repo.WithTag("v1"))
			if err != nil || desc.Digest != oci.DigestOf(body) {
				t.Errorf("the manifest is %q: %v", desc.Digest, err)
			}
			_, _, err = c.Manifest(t.Context(), repo.WithDigest(oci.DigestOf([]byte("pinned"))))
			registrytest.WantKind(t, err, fault.Protocol)
			if oci.Digest(digest).Valid() != (name == "of other bytes") {
				t.Errorf("%.100q passes for a digest", digest)
			}
		})
	}
	t.Attr("figure:hostile-inputs", strconv.Itoa(len(digests)))
}

// TestConfusedTypes (N11): header, body and shape of a manifest agree, or it is none.
func TestConfusedTypes(t *testing.T) {
	t.Parallel()
	empty := `{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` + string(oci.DigestOf([]byte("{}"))) + `","size":2}`
	image := func(mediaType string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[]}`, mediaType, empty)
	}
	index := func(mediaType string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[]}`, mediaType)
	}
	cases := map[string]struct{ header, body string }{
		"an index that is sent as an image":  {oci.MediaTypeManifest, index(oci.MediaTypeIndex)},
		"an image that is sent as an index":  {oci.MediaTypeIndex, image(oci.MediaTypeManifest)},
		"an image that says it is an index":  {oci.MediaTypeIndex, image(oci.MediaTypeIndex)},
		"an index that says it is an image":  {oci.MediaTypeManifest, index(oci.MediaTypeManifest)},
		"both shapes":                        {oci.MediaTypeManifest, `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeManifest + `","config":` + empty + `,"layers":[],"manifests":[]}`},
		"both shapes, with names that fold":  {oci.MediaTypeManifest, `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeManifest + `","config":` + empty + `,"layers":[],"Manifests":[` + empty + `]}`},
		"docker's image as an OCI index":     {oci.MediaTypeIndex, image(oci.MediaTypeDockerManifest)},
		"a shape that only the header names": {oci.MediaTypeIndex, `{"schemaVersion":2,"config":` + empty + `,"layers":[]}`},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := start(t)
			srv.Inject(registrytest.Fault{Body: tt.body, ContentType: tt.header})
			_, _, err := newClient(t).Manifest(t.Context(), srv.Repository("a").WithTag("v1"))
			registrytest.WantKind(t, err, fault.Protocol)
		})
	}
	t.Attr("figure:hostile-inputs", strconv.Itoa(len(cases)))
}

// TestRightsDoNotAddUp (N18): of five hundred repositories each has a token of its
// own; a server that refuses headers above 8 KiB takes all requests.
func TestRightsDoNotAddUp(t *testing.T) {
	t.Parallel()
	var longest atomic.Int64
	registry := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/token" { // as long as what it allows
			fmt.Fprintf(w, `{"token":%q}`, strings.Repeat("t", 100*len(req.URL.Query()["scope"])))
			return
		}
		size := 0
		for name, values := range req.Header {
			for _, value := range values {
				size += len(name) + len(value) + 4
			}
		}
		longest.Store(max(longest.Load(), int64(size)))
		switch {
		case size > 8<<10:
			w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
		case req.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="/token",scope="repository:x:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.Header().Set("Content-Type", oci.MediaTypeIndex)
			w.Write(registrytest.IndexManifest())
		}
	})
	c := loggedIn(t, registry.host)
	for i := range 500 {
		repo := oci.Repository{Host: registry.host, Path: fmt.Sprintf("deckhouse/ee/modules/module-%d", i)}
		if _, _, err := c.Manifest(t.Context(), repo.WithTag("v1")); err != nil {
			t.Fatal(err)
		}
	}
	tokens := 0
	for _, req := range registry.requests() {
		if req.URL.Path == "/token" {
			tokens++
		}
	}
	if tokens != 500 || longest.Load() > 1000 {
		t.Errorf("%d tokens, the longest header has %d bytes", tokens, longest.Load())
	}
	t.Attr("cases", "500")
}

// TestPagesInsteadOfDocuments (N19): a web page at any place is no document, and
// nothing of it reaches a terminal.
func TestPagesInsteadOfDocuments(t *testing.T) {
	t.Parallel()
	pages := map[string]string{
		"html":         "<!DOCTYPE html><html>\x1b[31m<h1>Sign in</h1></html>",
		"json in name": "<html>\x00",
		"empty":        "",
		"a word":       "OK",
		"null":         "null",
		"a number":     "1",
		"a list":       "[]",
	}
	tried := 0
	for name, page := range pages {
		for status, want := range map[int]*fault.Kind{200: fault.Protocol, 413: fault.Unsupported, 502: fault.Transient, 401: fault.Denied, 302: fault.Protocol} {
			tried++
			registry := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				w.WriteHeader(status)
				io.WriteString(w, page)
			})
			c, repo := newClient(t, func(o *wire.Options) { o.Retries = -1 }), oci.Repository{Host: registry.host, Path: "a"}
			for call, err := range map[string]error{
				"Manifest":    second(c.Manifest(t.Context(), repo.WithTag("v1"))),
				"PutManifest": c.PutManifest(t.Context(), repo.WithTag("v1"), oci.MediaTypeIndex, registrytest.IndexManifest()),
				"PutBlob":     c.PutBlob(t.Context(), repo, oci.Descriptor{Digest: oci.DigestOf([]byte("x")), Size: 1}, strings.NewReader("x")),
			} {
				if fault.KindOf(err) != want || strings.ContainsAny(err.Error(), "\x1b\x00") || strings.Contains(err.Error(), "<h1>") {
					t.Errorf("%s, %d: %s: %v (%v), want %v", name, status, call, err, fault.KindOf(err), want)
				}
			}
			if _, err := c.Tags(t.Context(), repo); err == nil && name != "null" {
				t.Errorf("%s, %d: it passes for a list of tags", name, status)
			}
		}
	}
	t.Attr("cases", strconv.Itoa(tried))
}

func second(_ oci.Descriptor, _ []byte, err error) error { return err }
