package wire_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
)

// S1.7.6: that the API is not there is asked once a repository, and what does not
// say so is asked again: another repository of the same host may have it.
func TestReferrersAPIAbsent(t *testing.T) {
	t.Parallel()
	const page = "404 page not found\n"
	for _, tt := range []struct {
		name  string
		fault registrytest.Fault
		want  *fault.Kind
		asked int // of two questions
	}{
		{"unknown path", registrytest.Fault{Status: 404, Body: page, ContentType: "text/plain"}, fault.Unsupported, 1},
		{"unknown path as a page", registrytest.Fault{Status: 404, Body: "<html>", ContentType: "text/html"}, fault.Unsupported, 1},
		{"unsupported", registrytest.Fault{Status: 404, Body: `{"errors":[{"code":"UNSUPPORTED"}]}`}, fault.Unsupported, 1},
		{"405", registrytest.Fault{Status: 405}, fault.Unsupported, 1},
		{"501", registrytest.Fault{Status: 501}, fault.Unsupported, 1},
		{"unknown manifest", registrytest.Fault{Status: 404, Body: `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`}, fault.NotFound, 2},
		{"unknown name", registrytest.Fault{Status: 404, Body: `{"errors":[{"code":"NAME_UNKNOWN"}]}`}, fault.NotFound, 2},
		{"403", registrytest.Fault{Status: 403}, fault.Denied, 2},
		{"503", registrytest.Fault{Status: 503}, fault.Transient, 2},
		{"429", registrytest.Fault{Status: 429}, fault.RateLimited, 2},
		{"a page", registrytest.Fault{Body: "<html>", ContentType: "text/html"}, fault.Protocol, 2},
		{"an image instead of a list", registrytest.Fault{Body: `{"schemaVersion":2,"config":{"digest":"` + string(oci.DigestOf(nil)) + `"}}`}, fault.Protocol, 2},
		{"cut", registrytest.Fault{CutAfter: 10}, fault.Transient, 2},
		{"dropped", registrytest.Fault{Drop: true}, fault.Transient, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := start(t)
			image := srv.PutImage("a", "v1")
			srv.PutImage("b", "v1")
			sbom := srv.PutAttached("b", "", image, "text/spdx", []byte("sbom"))
			tt.fault.Kind, tt.fault.Repository, tt.fault.Times = registrytest.KindReferrers, "a", registrytest.Always
			srv.Inject(tt.fault)
			c := newClient(t, func(o *wire.Options) { o.Retries = -1 })
			for range 2 {
				_, err := c.Referrers(t.Context(), srv.Repository("a"), image.Digest)
				registrytest.WantKind(t, err, tt.want)
			}
			if n := srv.Count(registrytest.KindReferrers, "GET"); n != tt.asked {
				t.Errorf("asked %d times, want %d", n, tt.asked)
			}
			if got, err := c.Referrers(t.Context(), srv.Repository("b"), image.Digest); err != nil || len(got) != 1 || got[0] != sbom {
				t.Errorf("another repository: %v, %v, want %v", got, err, sbom)
			}
		})
	}
}

// S1.7.6, N5, N9: pages are followed within the registry, and lists end.
func TestReferrersPages(t *testing.T) {
	t.Parallel()
	srv := start(t, registrytest.Q25Pages(3, registrytest.PagesByPath))
	image := srv.PutImage("a", "v1")
	for i := range 10 {
		srv.PutAttached("a", "", image, "text/spdx", fmt.Append(nil, i))
	}
	got, err := newClient(t).Referrers(t.Context(), srv.Repository("a"), image.Digest)
	if err != nil || len(got) != 10 || srv.Count(registrytest.KindReferrers, "GET") != 4 {
		t.Errorf("%d referrers in %d requests: %v", len(got), srv.Count(registrytest.KindReferrers, "GET"), err)
	}

	var huge []oci.Descriptor
	for i := range 10_001 {
		huge = append(huge, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.DigestOf(fmt.Append(nil, i)), Size: 1})
	}
	for name, header := range map[string]http.Header{
		"a link that is none": {"Link": {`<http://[>; rel="next"`}},
		"too many":            {"Link": {`</v2/a/referrers/x>; rel=next`}},
	} {
		registry := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
			for name, values := range header {
				w.Header()[name] = values
			}
			w.Header().Set("Content-Type", oci.MediaTypeIndex)
			w.Write(registrytest.IndexManifest(huge...))
		})
		_, err := newClient(t).Referrers(t.Context(), oci.Repository{Host: registry.host, Path: "a"}, image.Digest)
		registrytest.WantKind(t, err, fault.Protocol)
		if n := len(registry.requests()); n != 1 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
}

// What cannot be carried is named, not passed over.
func TestReferrersOfAnotherType(t *testing.T) {
	t.Parallel()
	old := oci.Descriptor{MediaType: "application/vnd.oci.artifact.manifest.v1+json", Digest: oci.DigestOf([]byte("x")), Size: 1}
	registry := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", oci.MediaTypeIndex)
		w.Write(registrytest.IndexManifest(old))
	})
	_, err := newClient(t).Referrers(t.Context(), oci.Repository{Host: registry.host, Path: "a"}, old.Digest)
	registrytest.WantKind(t, err, fault.Protocol)
	if err == nil || !strings.Contains(err.Error(), old.MediaType) || !strings.Contains(fault.HintOf(err), "--skip-attachments") {
		t.Errorf("got %v, hint %q", err, fault.HintOf(err))
	}
}
