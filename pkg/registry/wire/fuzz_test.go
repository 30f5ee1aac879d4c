package wire

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

func FuzzParseProgress(f *testing.F) {
	for _, seed := range []string{"0-99", "0-0", "bytes=0-9", "1-2", "0-", "0-99999999999999999999", "-1", "all"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if at, ok := parseProgress(header); at < 0 || !ok && at != 0 {
			t.Errorf("%q: %d, %v", header, at, ok)
		}
	})
}

// Whatever a token server answers, a token is fit for a header and lives for a
// while, or there is none.
func FuzzReadToken(f *testing.F) {
	for _, seed := range []string{`{"token":"x"}`, `{"access_token":"x","expires_in":300}`, `{"token":"x\r\nHost: evil"}`, `{"token":"x","expires_in":-1}`,
		`{"token":"x","expires_in":1e99}`, `{"token":1}`, `null`, `<html>`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		value, life, ok := readToken(body)
		if !ok {
			return
		}
		if value == "" || strings.ContainsAny(value, "\r\n\x00 ") || life <= 0 || life > time.Hour*24*365*40 {
			t.Errorf("%q gives %q for %v", body, value, life)
		}
	})
}

// A link leads on where it says that it is the next page, and not else.
func FuzzNextPage(f *testing.F) {
	for _, seed := range []string{`</v2/a/tags/list?last=x>; rel="next"`, `<http://evil.test/>; rel=next`, `<x>; rel="prev", <y>; rel="next"`, `<<>>;rel=next`, `<`, `,,,`, `<%zz>; rel=next`,
		"v2/a/tag\x95/list?last=x>; rel=\"next"} {
		f.Add(seed)
	}
	page, err := url.Parse("https://registry.test/v2/a/referrers/x")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, link string) {
		next, err := nextPage(page, http.Header{"Link": {link}})
		if err == nil && next != nil && !strings.Contains(strings.ToLower(link), "next") {
			t.Errorf("%q leads to %s", link, next)
		}
	})
}

// FuzzLocation (N4): wherever a registry wants an upload, it is kept at the
// registry's own origin, or refused.
func FuzzLocation(f *testing.F) {
	for _, seed := range []string{"/v2/a/blobs/uploads/1?_state=x", "http://registry.test/up", "https://registry.test:443/up", "https://registry.test.evil.test/",
		"//evil.test/", "https://registry.test@evil.test/", "https:\\\\evil.test", "http://registry.test:80@evil.test", "https://registry.test%2eevil.test/", "?x", "", "ftp://registry.test/", "https://[::1]/"} {
		f.Add(seed, 202)
	}
	f.Fuzz(func(t *testing.T, location string, status int) {
		self := origin{"https", "registry.test"}
		tr := &transport{self: self}
		op := newOperation(verbPutBlob, oci.Reference{Repository: oci.Repository{Host: "registry.test", Path: "a"}})
		at, err := url.Parse("https://registry.test/v2/a/blobs/uploads/")
		if err != nil {
			t.Fatal(err)
		}
		req := &http.Request{Method: http.MethodPost, URL: at}
		refused := tr.trackSession(op, req, &http.Response{StatusCode: status, Header: http.Header{"Location": {location}}})
		switch {
		case refused != nil && op.session != nil:
			t.Errorf("%q is refused, and kept as %s", location, op.session)
		case op.session != nil && (op.session.Scheme != "https" || !strings.EqualFold(op.session.Hostname(), "registry.test")):
			t.Errorf("%q leads to %s", location, op.session)
		}
	})
}

// scripted answers every request with the same body, and notes where they went.
type scripted struct {
	status      int
	contentType string
	link        string
	body        []byte
	hosts       []string
}

func (s *scripted) CloseIdleConnections() {}

func (s *scripted) RoundTrip(req *http.Request) (*http.Response, error) {
	s.hosts = append(s.hosts, req.URL.Scheme+"://"+req.URL.Host)
	header := http.Header{"Content-Type": {s.contentType}}
	if s.link != "" {
		header.Set("Link", s.link)
	}
	return &http.Response{StatusCode: s.status, ProtoMajor: 1, ProtoMinor: 1, Header: header, Body: io.NopCloser(bytes.NewReader(s.body)),
		ContentLength: int64(len(s.body)), Request: req}, nil
}

// answeredBy returns a client of a registry that says what s does.
func answeredBy(t *testing.T, s *scripted) *Client {
	c, err := New(Options{Anonymous: true, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	c.host("registry.test").transport.base = s
	return c
}

// wantHome fails when a request left the registry, or there were too many (N5).
func (s *scripted) wantHome(t *testing.T, most int) {
	t.Helper()
	if len(s.hosts) > most {
		t.Errorf("%d requests", len(s.hosts))
	}
	for _, host := range s.hosts {
		if !strings.EqualFold(host, "https://registry.test") && !strings.EqualFold(host, "https://registry.test:443") {
			t.Errorf("a request went to %s", host)
		}
	}
}

// FuzzTags covers regclient's reading of pages and links, too.
func FuzzTags(f *testing.F) {
	f.Add([]byte(`{"name":"a","tags":["v1","v2"]}`), "", "application/json")
	f.Add([]byte(`{"tags":null}`), `</v2/a/tags/list?last=v2>; rel="next"`, "application/json")
	f.Add([]byte(`{"tags":["../x"]}`), `<https://evil.test/>; rel="next"`, "text/html")
	f.Add([]byte(`{"tags":[1]}`), `<http://registry.test/v2/>; rel=next`, "")
	f.Fuzz(func(t *testing.T, body []byte, link, contentType string) {
		s := &scripted{status: http.StatusOK, contentType: contentType, link: link, body: body}
		tags, err := answeredBy(t, s).Tags(t.Context(), oci.Repository{Host: "registry.test", Path: "a"})
		s.wantHome(t, 2*maxRequests)
		if err != nil && fault.KindOf(err) == nil {
			t.Errorf("an error without a kind: %v", err)
		}
		if i := slices.IndexFunc(tags, func(tag string) bool { return !oci.ValidTag(tag) }); i >= 0 {
			t.Errorf("%q passes for a tag", tags[i])
		}
	})
}

func FuzzReferrers(f *testing.F) {
	desc := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.DigestOf([]byte("x")), Size: 1}
	f.Add(registrytest.IndexManifest(desc), "", oci.MediaTypeIndex, 200)
	f.Add(registrytest.IndexManifest(), `</v2/a/referrers/x?last=1>; rel="next"`, oci.MediaTypeIndex, 200)
	f.Add(registrytest.IndexManifest(desc, desc), `<https://evil.test/>; rel=next`, "application/json", 200)
	f.Add([]byte(`{"manifests":[{"digest":"sha256:../x","size":-1}]}`), "", oci.MediaTypeIndex, 200)
	f.Add([]byte(`{"errors":[{"code":"UNSUPPORTED"}]}`), "", "application/json", 404)
	f.Add(registrytest.IndexManifest(oci.Descriptor{Digest: desc.Digest, Size: 1}), "", oci.MediaTypeIndex, 200)
	f.Fuzz(func(t *testing.T, body []byte, link, contentType string, status int) {
		if status < 100 || status > 599 || status/100 == 3 { // redirects may ask a name server
			return
		}
		s := &scripted{status: status, contentType: contentType, link: link, body: body}
		list, err := answeredBy(t, s).Referrers(t.Context(), oci.Repository{Host: "registry.test", Path: "a"}, oci.DigestOf(nil))
		s.wantHome(t, referrerPages)
		if err != nil && fault.KindOf(err) == nil {
			t.Errorf("an error without a kind: %v", err)
		}
		for _, d := range list {
			// One without a type is what it says itself that it is.
			if !d.Digest.Valid() || d.Size < 0 || d.MediaType != "" && !oci.IsManifest(d.MediaType) {
				t.Errorf("%+v passes for a manifest", d)
			}
		}
	})
}

// FuzzDockerConfig covers regclient's reading of docker's configuration: no text
// makes it fail otherwise than with an error.
func FuzzDockerConfig(f *testing.F) {
	for _, seed := range []string{`{"auths":{"registry.test":{"auth":"dTpw"}}}`, `{"auths":{"registry.test":{"auth":"%%%"}}}`, `{"auths":{"https://registry.test/v1/":{"username":"u","password":"p"}}}`,
		`{"credHelpers":{"registry.test":"nosuch"}}`, `{"auths":{"registry.test":{"identitytoken":"t"}}}`, `{"auths":null}`, `{`, ``, `{"auths":{"":{}}}`, `{"credsStore":"x","auths":{"a":{}}}`} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Setenv("DOCKER_CONFIG", dir)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := New(Options{})
		if err != nil {
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for name, host := range c.docker {
			if host.CredHelper == "" { // which would be run
				_ = c.credential(name, name)
			}
		}
	})
}
