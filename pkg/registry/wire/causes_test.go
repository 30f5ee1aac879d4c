package wire_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
)

// tlsServer serves reg over TLS and returns its host.
func tlsServer(t *testing.T, reg http.Handler, change func(*tls.Config)) string {
	t.Helper()
	server := httptest.NewUnstartedServer(reg)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are meant
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	change(server.TLS)
	server.StartTLS()
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "https://")
}

// closedPort is an address that nothing listens at.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// hangUp is a server that reads a request and closes the connection.
func hangUp(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// S2.6: each cause that a network or registry has is told from the failure
// itself, whatever was asked for.
func TestCauses(t *testing.T) {
	t.Parallel()
	resolve := func(ctx context.Context, c *wire.Client, repo oci.Repository) error {
		_, err := c.Resolve(ctx, repo.WithTag("v1"))
		return err
	}
	manifest := func(ctx context.Context, c *wire.Client, repo oci.Repository) error {
		_, _, err := c.Manifest(ctx, repo.WithTag("v1"))
		return err
	}
	tags := func(ctx context.Context, c *wire.Client, repo oci.Repository) error {
		_, err := c.Tags(ctx, repo)
		return err
	}
	blob := randomBytes(5000)
	desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}
	upload := func(ctx context.Context, c *wire.Client, repo oci.Repository) error {
		return c.PutBlob(ctx, repo, desc, bytes.NewReader(blob))
	}
	download := func(ctx context.Context, c *wire.Client, repo oci.Repository) error {
		_, _, err := fetch(ctx, c, repo, desc, nil)
		return err
	}
	access := func(ctx context.Context, c *wire.Client, repo oci.Repository) error { return c.CheckWrite(ctx, repo) }
	answer := func(status int, code string) registrytest.Fault {
		body := ""
		if code != "" {
			body = `{"errors":[{"code":"` + code + `","message":"no"}]}`
		}
		return registrytest.Fault{Status: status, Body: body, Times: registrytest.Always}
	}
	encrypted := func(o *wire.Options) { o.PlainHTTP = false }
	type call = func(context.Context, *wire.Client, oci.Repository) error
	for _, tt := range []struct {
		name   string
		fault  registrytest.Fault
		host   string // "" is the registry with the fault
		call   call
		change func(*wire.Options)
		kind   *fault.Kind
		want   *fault.Cause
		text   string // in the error or its hint
	}{
		{name: "unexpected EOF", host: hangUp(t), call: manifest,
			kind: fault.Transient, want: fault.ConnectionCut, text: "EOF"},
		{name: "a body cut", fault: registrytest.Fault{Kind: registrytest.KindBlob, CutAfter: 1000, Times: registrytest.Always}, call: download,
			kind: fault.Transient, want: fault.ConnectionCut},
		{name: "an upload cut", host: hangUp(t), call: upload, kind: fault.Transient, want: fault.ConnectionCut},
		{name: "unknown authority", host: tlsServer(t, registrytest.New(), func(*tls.Config) {}), call: manifest, change: encrypted,
			kind: fault.Protocol, want: fault.Certificate, text: "SSL_CERT_FILE"},
		{name: "a client certificate is wanted", host: tlsServer(t, registrytest.New(), func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 }),
			call: manifest, change: func(o *wire.Options) { o.PlainHTTP, o.SkipTLSVerify = false, true },
			kind: fault.Protocol, want: fault.Certificate, text: "refuses the TLS connection"},
		{name: "plain HTTP where TLS is expected", call: manifest, change: encrypted, kind: fault.Protocol, want: fault.NoTLS, text: "does not speak TLS"},
		{name: "401", fault: answer(401, ""), call: manifest, kind: fault.Denied, want: fault.Unauthorized, text: "401"},
		{name: "401 to a write", fault: answer(401, ""), call: access, kind: fault.Denied, want: fault.Unauthorized, text: "401"},
		{name: "403", fault: answer(403, "DENIED"), call: resolve, kind: fault.Denied, want: fault.Forbidden, text: "403"},
		{name: "403 to a write", fault: answer(403, "UNAUTHORIZED"), call: access, kind: fault.Denied, want: fault.Forbidden, text: "403"},
		{name: "denied behind 404", fault: answer(404, "DENIED"), call: manifest, kind: fault.Denied, want: fault.Forbidden, text: "404"},
		{name: "429", fault: answer(429, ""), call: tags, kind: fault.RateLimited, want: fault.TooManyRequests, text: "429"},
		{name: "503", fault: answer(503, ""), call: access, kind: fault.Transient, want: fault.ServerError, text: "503"},
		{name: "no such host", host: "registry.invalid", call: manifest, kind: fault.Transient, want: fault.NameLookup, text: "registry.invalid"},
		{name: "silence", fault: registrytest.Fault{Stall: true, Times: registrytest.Always}, call: manifest,
			change: func(o *wire.Options) { o.IdleTimeout = 50 * time.Millisecond }, kind: fault.Transient, want: fault.Timeout},
		{name: "408", fault: answer(408, ""), call: manifest, kind: fault.Transient, want: fault.Timeout, text: "408"},
		{name: "connection refused", host: closedPort(t), call: manifest, kind: fault.Transient, want: fault.Unreachable, text: "refused"},
		{name: "no such tag", fault: answer(404, "MANIFEST_UNKNOWN"), call: manifest, kind: fault.NotFound, want: fault.ImageNotFound},
		{name: "no such tag, by HEAD", fault: answer(404, ""), call: resolve, kind: fault.NotFound, want: fault.ImageNotFound},
		{name: "no such blob", fault: answer(404, "BLOB_UNKNOWN"), call: download, kind: fault.NotFound, want: fault.ImageNotFound},
		{name: "no such repository", fault: answer(404, "NAME_UNKNOWN"), call: manifest, kind: fault.NotFound, want: fault.RepositoryNotFound},
		{name: "no such repository to list", fault: answer(404, ""), call: tags, kind: fault.NotFound, want: fault.RepositoryNotFound},
		{name: "no such repository to write to", fault: answer(404, ""), call: access, kind: fault.NotFound, want: fault.RepositoryNotFound},
		{name: "413", fault: registrytest.Fault{Method: "PUT", Status: 413, Times: registrytest.Always}, call: upload, kind: fault.Unsupported, want: fault.BodyTooLarge, text: "413"},
		{name: "507", fault: registrytest.Fault{Method: "PUT", Status: 507, Times: registrytest.Always}, call: upload, kind: fault.Transient, want: fault.TargetFull, text: "507"},
		{name: "a full quota behind 403", fault: registrytest.Fault{Method: "PUT", Status: 403, Body: `{"errors":[{"code":"DENIED","message":"Quota exceeded"}]}`, Times: registrytest.Always},
			call: upload, kind: fault.Denied, want: fault.TargetFull, text: "Quota exceeded"},
		{name: "403 that passes by waiting", fault: registrytest.Fault{Status: 403, RetryAfter: "1", Times: registrytest.Always}, call: manifest, kind: fault.RateLimited, want: fault.TooManyRequests, text: "403"},
		{name: "407 has a hint alone", fault: answer(407, ""), call: manifest, kind: fault.Denied, text: "the proxy wants a login"},
		{name: "an upload that is forgotten is no image", fault: registrytest.Fault{Method: "PUT", Status: 404, Times: registrytest.Always},
			call: upload, kind: fault.NotFound},
		{name: "501 says nothing more", fault: answer(501, ""), call: access, kind: fault.Unsupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := start(t)
			srv.PutBlob("a", blob)
			host := srv.Host
			if tt.host != "" {
				host = tt.host
			}
			if tt.fault.Times != 0 {
				srv.Inject(tt.fault)
			}
			c := newClient(t, func(o *wire.Options) {
				o.Retries = -1
				if tt.change != nil {
					tt.change(o)
				}
			})
			repo := oci.Repository{Host: host, Path: "a"}
			if tt.want == fault.BodyTooLarge {
				repo.Path = "b"
			}
			err := tt.call(t.Context(), c, repo)
			registrytest.WantKind(t, err, tt.kind)
			if got := fault.CauseOf(err); got != tt.want {
				t.Errorf("cause %v, want %v (%v)", got, tt.want, err)
			}
			if err == nil || !strings.Contains(err.Error()+" | "+fault.HintOf(err), tt.text) {
				t.Errorf("%v, hint %q: want %q in it", err, fault.HintOf(err), tt.text)
			}
		})
	}
}

// S1.9.1, S9 row 49: a registry that refuses an artifact's types is told from
// one that finds a manifest invalid, and the types are named as Quay wants them.
func TestArtifactRefused(t *testing.T) {
	t.Parallel()
	manifestOf := func(config string, layers ...string) []byte {
		desc := func(mediaType string) oci.Descriptor {
			return oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf([]byte("x")), Size: 1}
		}
		var list []oci.Descriptor
		for _, l := range layers {
			list = append(list, desc(l))
		}
		return registrytest.ImageManifest(desc(config), list...)
	}
	const (
		trivy      = "application/vnd.aquasec.trivy.config.v1+json"
		trivyLayer = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
		config     = "application/vnd.oci.image.config.v1+json"
		layer      = "application/vnd.oci.image.layer.v1.tar+gzip"
	)
	for _, tt := range []struct {
		name   string
		status int
		code   string
		body   []byte
		want   *fault.Cause
		hint   string
	}{
		{"Quay", 400, "MANIFEST_INVALID", manifestOf(trivy, trivyLayer, trivyLayer), fault.ArtifactRefused, trivy + ": [" + trivyLayer + "]"},
		{"415", 415, "UNSUPPORTED", manifestOf(trivy, trivyLayer), fault.ArtifactRefused, trivyLayer},
		{"an image's config", 400, "MANIFEST_INVALID", manifestOf(config, "application/deckhouse.io.bdu.layer.v1.tar+gzip"), fault.ArtifactRefused, "bdu"},
		{"an image's layer", 400, "MANIFEST_INVALID", manifestOf(trivy, layer), fault.ArtifactRefused, trivy},
		{"an image", 400, "MANIFEST_INVALID", manifestOf(config, layer), fault.ManifestRefused, ""},
		{"an index", 400, "MANIFEST_INVALID", registrytest.IndexManifest(), fault.ManifestRefused, ""},
		{"another refusal", 400, "NAME_INVALID", manifestOf(trivy, trivyLayer), nil, ""},
		{"no right", 403, "DENIED", manifestOf(trivy, trivyLayer), fault.Forbidden, ""},
	} {
		srv := start(t)
		srv.Inject(registrytest.Fault{Method: "PUT", Kind: registrytest.KindManifest, Status: tt.status, Times: registrytest.Always,
			Body: `{"errors":[{"code":"` + tt.code + `","message":"manifest invalid"}]}`})
		mediaType := oci.MediaTypeManifest
		if tt.name == "an index" {
			mediaType = oci.MediaTypeIndex
		}
		err := newClient(t).PutManifest(t.Context(), srv.Repository("a").WithTag("2"), mediaType, tt.body)
		if got := fault.CauseOf(err); err == nil || got != tt.want || !strings.Contains(fault.HintOf(err), tt.hint) {
			t.Errorf("%s: %v, cause %v, hint %q; want %v and %q", tt.name, err, got, fault.HintOf(err), tt.want, tt.hint)
		}
		if tt.want == fault.ArtifactRefused {
			registrytest.WantKind(t, err, fault.Unsupported)
		}
	}
	quay := strings.Join(fault.ArtifactRefused.Advice(), " ")
	for _, setting := range []string{"FEATURE_GENERAL_OCI_SUPPORT: true", "ALLOWED_OCI_ARTIFACT_TYPES"} {
		if !strings.Contains(quay, setting) {
			t.Errorf("the advice %q does not name %s", quay, setting)
		}
	}
}

// S2.3.2, S9 rows 61 and 62: an expired deadline is a failure that heals, never an
// absence or a success; without one there is no limit.
func TestDeadline(t *testing.T) {
	t.Parallel()
	data := randomBytes(200_000)
	desc := oci.Descriptor{Digest: oci.DigestOf(data), Size: int64(len(data))}
	for name, tt := range map[string]struct {
		fault registrytest.Fault
		run   func(context.Context, *wire.Client, oci.Repository) error
	}{
		"head": {registrytest.Fault{Stall: true}, func(ctx context.Context, c *wire.Client, r oci.Repository) error {
			_, err := c.Resolve(ctx, r.WithTag("v1"))
			return err
		}},
		"tags": {registrytest.Fault{Stall: true}, func(ctx context.Context, c *wire.Client, r oci.Repository) error {
			_, err := c.Tags(ctx, r)
			return err
		}},
		"exists": {registrytest.Fault{Stall: true}, func(ctx context.Context, c *wire.Client, r oci.Repository) error {
			_, err := c.HasBlob(ctx, r, desc)
			return err
		}},
		"a blob's body": {registrytest.Fault{Kind: registrytest.KindBlob, Stall: true, CutAfter: 1000}, func(ctx context.Context, c *wire.Client, r oci.Repository) error {
			_, _, err := fetch(ctx, c, r, desc, nil)
			return err
		}},
		"an upload": {registrytest.Fault{Method: "PUT", Stall: true}, func(ctx context.Context, c *wire.Client, r oci.Repository) error {
			return c.PutBlob(ctx, oci.Repository{Host: r.Host, Path: "b"}, desc, bytes.NewReader(data))
		}},
		"access": {registrytest.Fault{Stall: true}, func(ctx context.Context, c *wire.Client, r oci.Repository) error { return c.CheckWrite(ctx, r) }},
		"between two tries": {registrytest.Fault{Status: 503, RetryAfter: "100"}, func(ctx context.Context, c *wire.Client, r oci.Repository) error {
			_, _, err := c.Manifest(ctx, r.WithTag("v1"))
			return err
		}},
		"while a registry repeats itself": {registrytest.Fault{Status: 503}, func(ctx context.Context, c *wire.Client, r oci.Repository) error {
			return c.PutBlob(ctx, oci.Repository{Host: r.Host, Path: "b"}, desc, bytes.NewReader(data))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := start(t)
			srv.PutBlob("a", data)
			srv.PutImage("a", "v1")
			tt.fault.Times = registrytest.Always
			srv.Inject(tt.fault)
			c := newClient(t, func(o *wire.Options) {
				o.Timeout, o.Retries, o.Backoff = 100*time.Millisecond, 1000, 10*time.Millisecond
			})
			err := tt.run(t.Context(), c, srv.Repository("a"))
			registrytest.WantKind(t, err, fault.Transient)
			if fault.CauseOf(err) != fault.Timeout || err == nil || !strings.Contains(err.Error(), "deadline") {
				t.Errorf("%v, cause %v", err, fault.CauseOf(err))
			}
			srv.Release()
			if n := srv.OpenUploads(); n != 0 {
				t.Errorf("%d upload sessions are open", n)
			}
		})
	}
	for _, none := range []time.Duration{0, -time.Second} {
		srv := start(t)
		srv.PutBlob("a", data)
		got, _, err := fetch(t.Context(), newClient(t, func(o *wire.Options) { o.Timeout = none }), srv.Repository("a"), desc, nil)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("timeout %v: %d bytes, %v", none, len(got), err)
		}
	}
}

// S7.3.2: an access check opens one upload, cancels it, and leaves nothing, with
// any kind of login.
func TestCheckWrite(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]registrytest.Option{
		"basic":                 registrytest.WithBasicAuth("u", secret),
		"token":                 registrytest.WithTokenAuth(registrytest.TokenAuth{User: "u", Password: secret}),
		"token for one request": registrytest.WithTokenAuth(registrytest.TokenAuth{User: "u", Password: secret, Uses: 1}),
	} {
		srv := start(t, opt)
		if err := loggedIn(t, srv.Host).CheckWrite(t.Context(), srv.Repository("a/b")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var wrote []string
		for _, w := range srv.Writes() {
			if w.Status < 300 {
				wrote = append(wrote, w.Method+" "+w.Repository)
			}
		}
		if !slices.Equal(wrote, []string{"POST a/b", "DELETE a/b"}) || srv.OpenUploads() != 0 || len(srv.Tags()) != 0 {
			t.Errorf("%s: %v, %d sessions are open, tags %v", name, wrote, srv.OpenUploads(), srv.Tags())
		}
		err := newClient(t).CheckWrite(t.Context(), srv.Repository("a"))
		registrytest.WantKind(t, err, fault.Denied)
	}
	// 201 has no session to cancel, a web page is no registry.
	for _, f := range []registrytest.Fault{{Status: 201, ContentType: "text/html", Body: "<html>"}, {Status: 202, ContentType: "text/html", Body: "ok"}} {
		srv := start(t)
		srv.Inject(f)
		err := newClient(t).CheckWrite(t.Context(), srv.Repository("a"))
		registrytest.WantKind(t, err, fault.Protocol)
	}
	// The registry names another host for the upload (N4): nothing goes there.
	other := start(t)
	srv := start(t)
	srv.Inject(registrytest.Fault{Status: 202, ContentType: "text/plain", Body: "x", Header: http.Header{"Location": {"http://" + other.Host + "/v2/a/blobs/uploads/1"}}})
	err := newClient(t).CheckWrite(t.Context(), srv.Repository("a"))
	registrytest.WantKind(t, err, fault.Protocol)
	if n := len(other.Requests()); n != 0 || !strings.Contains(err.Error(), "another host") {
		t.Errorf("%d requests to the other host; %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newClient(t).CheckWrite(ctx, srv.Repository("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
