package origin

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"ferry/pkg/oci"
	"ferry/pkg/registry/wire"

	"github.com/google/go-cmp/cmp"
)

func TestKind(t *testing.T) {
	for request, want := range map[string]string{
		"GET /v2/":                                  "ping",
		"GET /v2/a/b/tags/list?n=100":               "tags",
		"GET /v2/a/b/referrers/sha256:00":           "referrers",
		"HEAD /v2/a/manifests/v1":                   "manifest HEAD",
		"PUT /v2/a/manifests/v1":                    "manifest PUT",
		"GET /v2/a/blobs/sha256:00":                 "blob GET",
		"POST /v2/a/blobs/uploads/":                 "upload POST",
		"POST /v2/a/blobs/uploads/?mount=sha256:00": "mount",
		"PATCH /v2/a/blobs/uploads/some-session":    "upload PATCH",
		"PUT /v2/a/blobs/uploads/some-session?x=y":  "upload PUT",
		"GET /token":                                "other",
	} {
		method, target, _ := strings.Cut(request, " ")
		if got := kind(httptest.NewRequest(method, target, nil)); got != want {
			t.Errorf("%s is %q, want %q", request, got, want)
		}
	}
}

// What is counted is what was asked, and only since the last time.
func TestCounts(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- Serve(ctx, t.TempDir(), listener, os.Stderr) }()
	host := listener.Addr().String()
	c, err := wire.New(wire.Options{PlainHTTP: true, Anonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	repo := oci.Repository{Host: host, Path: "a/b"}
	body := strings.Repeat("x", 100_000)
	desc := oci.Descriptor{Digest: oci.DigestOf([]byte(body)), Size: int64(len(body))}
	if err := c.PutBlob(ctx, repo, desc, strings.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	counts, err := Reset(ctx, host)
	if err != nil {
		t.Fatal(err)
	}
	if n := counts.BodyIn; n != desc.Size {
		t.Errorf("%d bytes were sent, want %d", n, desc.Size)
	}
	if n := counts.WireIn - desc.Size; n < 100 || n > 5000 {
		t.Errorf("the wire had %d bytes besides the blob", n)
	}
	if n := counts.Requests["upload POST"]; n != 1 {
		t.Errorf("%d uploads were begun: %v", n, counts.Requests)
	}
	resp, err := http.Get("http://" + host + "/v2/a/b/blobs/" + string(desc.Digest))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	resp.Body.Close()
	if resp, err = http.Get("http://" + host + "/v2/a/b/manifests/none"); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	counts, err = Reset(ctx, host)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"blob GET": 1, "manifest GET": 1}, counts.Requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if counts.Refused != 1 {
		t.Errorf("%d requests were refused, want 1", counts.Refused)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
