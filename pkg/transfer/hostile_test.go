package transfer

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// imageOf selects one image, m:v1.
func (b *bench) imageOf(optional bool) contract.SelectionSpec {
	return contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}},
		Images: []contract.SelectedImage{{Source: b.ref("m", "v1"), Archive: "images", Path: "m", Tag: "v1", Optional: optional, Reason: "r"}}}
}

// TestCloseBoundsGraphs (N13): a graph of indexes costs one request a manifest, however
// they lead to one another, and one that is too deep is left early.
func TestCloseBoundsGraphs(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		build    func(b *bench) oci.Descriptor
		want     *fault.Kind
		requests int // for manifests, at most
	}{
		"a thousand levels": {func(b *bench) oci.Descriptor {
			inner := b.src.PutImage("m", "", layer("x", "1"))
			for range 1000 {
				inner = b.src.PutManifest("m", "", oci.MediaTypeIndex, registrytest.IndexManifest(inner))
			}
			return inner
		}, fault.Protocol, maxDepth + 3},
		"ten thousand children": {func(b *bench) oci.Descriptor {
			var children []oci.Descriptor
			config := b.src.PutBlob("m", []byte("{}"))
			for i := range 10_000 {
				body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[],"annotations":{"n":"%d"}}`, oci.MediaTypeManifest, config.Digest, i)
				children = append(children, b.src.PutManifest("m", "", oci.MediaTypeManifest, body))
			}
			return b.src.PutManifest("m", "", oci.MediaTypeIndex, registrytest.IndexManifest(children...))
		}, nil, 10_001},
		"two ways to all, eight levels deep": {func(b *bench) oci.Descriptor { // 2^8 ways through 2*8 indexes
			left := b.src.PutImage("m", "", layer("x", "1"))
			right := b.src.PutImage("m", "", layer("x", "2"))
			for range maxDepth - 1 {
				left, right = b.src.PutManifest("m", "", oci.MediaTypeIndex, registrytest.IndexManifest(left, right)),
					b.src.PutManifest("m", "", oci.MediaTypeIndex, registrytest.IndexManifest(right, left))
			}
			return b.src.PutManifest("m", "", oci.MediaTypeIndex, registrytest.IndexManifest(left, right))
		}, nil, 2*maxDepth + 1},
		"an index that names itself": {func(b *bench) oci.Descriptor {
			self := oci.Descriptor{MediaType: oci.MediaTypeIndex, Digest: oci.DigestOf([]byte("A")), Size: 100}
			// What a registry may answer, whatever the digest: it is hashed.
			b.src.Inject(registrytest.Fault{Digest: self.Digest, Method: "GET", Times: registrytest.Always, ContentType: oci.MediaTypeIndex, Body: string(registrytest.IndexManifest(self))})
			return b.src.PutManifest("m", "", oci.MediaTypeIndex, registrytest.IndexManifest(self))
		}, fault.Protocol, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			top := tt.build(b)
			b.src.PutManifest("m", "v1", oci.MediaTypeIndex, b.src.Content(top.Digest))
			b.src.Reset()
			st := b.open()
			defer st.Close()
			_, err := b.close(st, b.imageOf(true))
			if fault.KindOf(err) != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if n := b.src.Count(registrytest.KindManifest, "GET"); n > tt.requests {
				t.Errorf("%d manifests were asked for, want at most %d", n, tt.requests)
			}
		})
	}
}

// TestAbsenceMatrix (N20): of all answers to the question for an optional image only a
// plain "not found" is absence; whatever else a registry says for it, is told.
func TestAbsenceMatrix(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]*fault.Kind{400: fault.Protocol, 401: fault.Denied, 403: fault.Denied, 404: nil, 410: fault.Protocol, 451: fault.Protocol, 500: fault.Transient} {
		for _, code := range []string{"", "MANIFEST_UNKNOWN", "NAME_UNKNOWN", "DENIED", "UNAUTHORIZED", "NAME_INVALID", "TOOMANYREQUESTS"} {
			t.Run(fmt.Sprint(status, " ", code), func(t *testing.T) {
				t.Parallel()
				want := want
				switch {
				case code == "TOOMANYREQUESTS":
					want = fault.RateLimited
				case status < 500 && (code == "DENIED" || code == "UNAUTHORIZED"):
					want = fault.Denied
				}
				b := newBench(t)
				body := ""
				if code != "" {
					body = `{"errors":[{"code":"` + code + `"}]}`
				}
				// HEAD brings no code: GET decides.
				b.src.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Method: "HEAD", Status: 405, Times: registrytest.Always})
				b.src.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Status: status, Body: body, ContentType: "application/json", Times: registrytest.Always})
				st := b.open()
				defer st.Close()
				c, err := b.close(st, b.imageOf(true))
				if fault.KindOf(err) != want {
					t.Errorf("got %v, want %v", err, want)
				}
				if err == nil && (len(c.Skipped) != 1 || len(c.Images) != 0) {
					t.Errorf("%d images are skipped, %d found", len(c.Skipped), len(c.Images))
				}
			})
		}
	}
}

// TestLongPauseEndsARun (N14): one answer that asks for a day of silence is enough.
func TestLongPauseEndsARun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	sel := contract.SelectionSpec{Vendor: "test", Archives: []contract.Archive{{Name: "images"}}}
	for i := range 60 {
		tag := fmt.Sprint("v", i)
		sel.Images = append(sel.Images, contract.SelectedImage{Source: b.ref("m", tag), Archive: "images", Path: "m", Tag: tag, Reason: "r"})
	}
	b.src.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Status: 429, RetryAfter: "86400", Times: registrytest.Always})
	st := b.open()
	defer st.Close()
	_, err := b.close(st, sel)
	if fault.KindOf(err) != fault.RateLimited || fault.Heals(err) {
		t.Errorf("got %v", err)
	}
	// What was under way when the first answer came has answers of its own.
	if n := len(b.src.Requests()); n > 8 {
		t.Errorf("%d requests were made", n)
	}
}

// credulous is a registry that stores any manifest, complete or not, and loses the
// blob that it is told to.
type credulous struct {
	*registrytest.Registry
	mu     sync.Mutex
	loses  oci.Digest
	status int // of the answer to its upload
	holes  []string
	check  func(path, tag string, digest oci.Digest) string
}

func (c *credulous) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path, reference, isManifest := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/manifests/")
	switch {
	case req.Method == http.MethodPut && isManifest:
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		tag := reference
		if oci.Digest(reference).Valid() {
			tag = ""
		}
		c.mu.Lock()
		if hole := c.check(path, tag, oci.DigestOf(body)); tag != "" && hole != "" {
			c.holes = append(c.holes, hole)
		}
		c.mu.Unlock()
		c.PutManifest(path, tag, req.Header.Get("Content-Type"), body)
		w.WriteHeader(http.StatusCreated)
	case req.Method == http.MethodPut && c.loses != "" && req.URL.Query().Get("digest") == string(c.loses):
		w.WriteHeader(c.status)
	default:
		c.Registry.ServeHTTP(w, req)
	}
}

// TestNoTagOverAHole (N25): a registry that believes everything never has a tag over
// what is not there, whichever blob it refuses.
func TestNoTagOverAHole(t *testing.T) {
	b := newBench(t)
	p, c := b.publishTo(registrytest.Start(t, registrytest.New()))
	defer p.Content.(io.Closer).Close()
	graph := c.Graph()
	refused := 0
	for _, blob := range c.Blobs {
		for _, status := range []int{400, 413, 500, 507} {
			refused++
			target := &credulous{Registry: registrytest.New(), loses: blob.Digest, status: status}
			target.check = func(path, tag string, digest oci.Digest) string {
				manifests, blobs := graph.Closure(digest)
				for _, m := range manifests {
					if m.Digest != digest {
						blobs = append(blobs, m.Digest)
					}
				}
				for _, part := range blobs {
					if !target.Has(path, part) {
						return fmt.Sprintf("%s:%s lacks %s", path, tag, part)
					}
				}
				return ""
			}
			server := httptest.NewServer(target)
			p.Root = oci.Repository{Host: strings.TrimPrefix(server.URL, "http://"), Path: "mirror/dkp"}
			p.Target, p.Retry = client(t), Retry{Attempts: 1}
			_, _, err := p.Publish(t.Context(), &c)
			server.Close()
			if err == nil {
				t.Errorf("published though %s is refused with %d", blob.Digest, status)
			}
			for _, hole := range target.holes {
				t.Error(hole)
			}
			if tags := target.Tags(); len(tags) > 0 {
				t.Errorf("%d tags stand though %s is refused with %d", len(tags), blob.Digest, status)
			}
		}
	}
	t.Attr("cases", strconv.Itoa(refused))
}
