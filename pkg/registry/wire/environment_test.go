package wire_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
)

// TestMain lets the test binary be a client in an environment of its own:
// net/http and crypto/x509 read theirs once in a process.
func TestMain(m *testing.M) {
	if at := os.Getenv("WIRE_TEST_RESOLVE"); at != "" {
		childResolve(at)
		return
	}
	if os.Getenv("WIRE_TEST_SERVE") != "" {
		childServe()
		return
	}
	os.Exit(m.Run())
}

// childResolve resolves a reference and prints the kind of error, the hint and
// the error.
func childResolve(at string) {
	ref, err := oci.ParseReference(at)
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := wire.New(wire.Options{PlainHTTP: os.Getenv("WIRE_TEST_PLAIN") != "", Retries: -1})
	if err == nil {
		_, err = c.Resolve(context.Background(), ref)
	}
	fmt.Printf("%v | %s | %v\n", fault.KindOf(err), fault.HintOf(err), err)
}

// resolveWith runs childResolve with env added to a bare environment.
func resolveWith(t *testing.T, at string, env ...string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append([]string{"WIRE_TEST_RESOLVE=" + at, "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

const resolved = "<nil> |  | <nil>\n"

// S2.3.4: SSL_CERT_FILE and SSL_CERT_DIR are the roots.
func TestTLS(t *testing.T) {
	t.Parallel()
	reg := registrytest.New()
	reg.PutImage("a", "v1")
	server := httptest.NewUnstartedServer(reg)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are meant
	server.StartTLS()
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	at := host + "/a:v1"

	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.crt")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := resolveWith(t, at); !strings.HasPrefix(got, "protocol | ") || !strings.Contains(got, "SSL_CERT_FILE") {
		t.Errorf("unknown CA: %s", got)
	}
	if got := resolveWith(t, at, "SSL_CERT_FILE="+ca); got != resolved {
		t.Errorf("SSL_CERT_FILE: %s", got)
	}
	if got := resolveWith(t, at, "SSL_CERT_DIR="+dir); got != resolved {
		t.Errorf("SSL_CERT_DIR: %s", got)
	}
	plain := start(t)
	if got := resolveWith(t, plain.Host+"/a:v1"); !strings.HasPrefix(got, "protocol | ") || !strings.Contains(got, "does not speak TLS") {
		t.Errorf("plain HTTP: %s", got)
	}

	insecure := newClient(t, func(o *wire.Options) { o.PlainHTTP, o.SkipTLSVerify = false, true })
	if _, err := insecure.Resolve(t.Context(), oci.Repository{Host: host, Path: "a"}.WithTag("v1")); err != nil {
		t.Errorf("SkipTLSVerify: %v", err)
	}
	trusting := newClient(t, func(o *wire.Options) { o.PlainHTTP, o.Roots = false, string(data) })
	if _, err := trusting.Resolve(t.Context(), oci.Repository{Host: host, Path: "a"}.WithTag("v1")); err != nil {
		t.Errorf("Roots: %v", err)
	}
}

// Roots are added to those of the environment, and what is no certificate is an
// error before the first request: passed over, it would show as a refused
// handshake.
func TestRoots(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(registrytest.New())
	t.Cleanup(server.Close)
	good := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	for name, tt := range map[string]struct{ roots, want string }{
		"none":                {"", ""},
		"one":                 {good, ""},
		"words between":       {"the old one\n" + good + "the new one\n" + good, ""},
		"no PEM":              {"MIIB", "no certificate"},
		"cut":                 {good[:len(good)/2], "1 of 1"},
		"cut, the second":     {good + good[:len(good)/2], "1 of 2"},
		"cut, the first":      {good[:len(good)/2] + good, "cut or altered"},
		"a key":               {good + "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n", "PRIVATE KEY"},
		"damaged, the second": {good + "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "certificate 2"},
	} {
		c, err := wire.New(wire.Options{Anonymous: true, Roots: tt.roots})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.want != "" && (fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want usage with %q", name, err, tt.want)
		}
		if c != nil {
			c.Close()
		}
	}
}

// TestLocationWithWrongScheme (Q11): a registry behind a TLS proxy says http.
func TestLocationWithWrongScheme(t *testing.T) {
	t.Parallel()
	reg := registrytest.New(registrytest.WithBasicAuth("u", secret))
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		reg.ServeHTTP(plainLocation{w, req.Host}, req)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	c := loggedIn(t, host, func(o *wire.Options) { o.PlainHTTP, o.SkipTLSVerify = false, true })
	desc := oci.Descriptor{Digest: oci.DigestOf([]byte("x")), Size: 1}
	if err := c.PutBlob(t.Context(), oci.Repository{Host: host, Path: "a"}, desc, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if !reg.Has("a", desc.Digest) {
		t.Error("the blob is not there")
	}
}

type plainLocation struct {
	http.ResponseWriter
	host string
}

func (w plainLocation) WriteHeader(status int) {
	if location := w.Header().Get("Location"); location != "" {
		w.Header().Set("Location", "http://"+w.host+location)
	}
	w.ResponseWriter.WriteHeader(status)
}

// S2.3.4: proxies are those of the environment.
func TestProxy(t *testing.T) {
	t.Parallel()
	srv := start(t) // a proxy for plain HTTP gets the same requests as the registry
	srv.PutImage("a", "v1")
	at := "registry.invalid/a:v1"
	proxy := "HTTP_PROXY=http://" + srv.Host
	if got := resolveWith(t, at, proxy, "WIRE_TEST_PLAIN=1"); got != resolved {
		t.Errorf("HTTP_PROXY: %s", got)
	}
	if got := resolveWith(t, at, proxy, "WIRE_TEST_PLAIN=1", "NO_PROXY=.invalid"); !strings.HasPrefix(got, "transient | ") {
		t.Errorf("NO_PROXY: %s", got)
	}
	srv.Inject(registrytest.Fault{Status: 407, Times: registrytest.Always})
	if got := resolveWith(t, at, proxy, "WIRE_TEST_PLAIN=1"); !strings.HasPrefix(got, "denied | the proxy wants a login") {
		t.Errorf("407: %s", got)
	}
	if got := resolveWith(t, at, "HTTPS_PROXY=http://"+srv.Host); !strings.HasPrefix(got, "denied | the proxy wants a login") {
		t.Errorf("407 to CONNECT: %s", got)
	}
}

// S2.2.1, S2.5.3.
func TestDockerConfiguration(t *testing.T) {
	t.Parallel()
	srv := start(t, registrytest.WithBasicAuth("u", secret))
	srv.PutImage("a", "v1")
	at := srv.Host + "/a:v1"
	helper := t.TempDir()
	script := "#!/bin/sh\nread host\n[ \"$host\" = " + srv.Host + " ] && echo '{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"" + secret + "\"}'\n"
	if err := os.WriteFile(filepath.Join(helper, "docker-credential-test"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	path := "PATH=" + helper + ":" + os.Getenv("PATH")
	auth := base64.StdEncoding.EncodeToString([]byte("u:" + secret))
	for name, tt := range map[string]struct{ config, want string }{
		"auths":          {fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, srv.Host, auth), resolved},
		"helper":         {fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, srv.Host), resolved},
		"missing helper": {fmt.Sprintf(`{"credHelpers":{%q:"nosuch"}}`, srv.Host), "denied | "},
		"other host":     {fmt.Sprintf(`{"auths":{"other.example.com":{"auth":%q}}}`, auth), "denied | "},
		"broken":         {`{"auths"`, "usage | "},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(tt.config), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := resolveWith(t, at, path, "WIRE_TEST_PLAIN=1", "DOCKER_CONFIG="+dir); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
	public := start(t)
	public.PutImage("a", "v1")
	dir := t.TempDir()
	config := fmt.Appendf(nil, `{"credHelpers":{%q:"nosuch"}}`, public.Host)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := resolveWith(t, public.Host+"/a:v1", "WIRE_TEST_PLAIN=1", "DOCKER_CONFIG="+dir); got != resolved {
		t.Errorf("a public image and a missing helper: %s", got)
	}
}

func TestAnonymousLeavesDockerAlone(t *testing.T) {
	srv := start(t, registrytest.WithBasicAuth("u", secret))
	srv.PutImage("a", "v1")
	auth := base64.StdEncoding.EncodeToString([]byte("u:" + secret))
	t.Setenv("DOCKER_AUTH_CONFIG", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, srv.Host, auth))
	for anonymous, want := range map[bool]*fault.Kind{false: nil, true: fault.Denied} {
		c := newClient(t, func(o *wire.Options) { o.Anonymous = anonymous })
		_, err := c.Resolve(t.Context(), srv.Repository("a").WithTag("v1"))
		registrytest.WantKind(t, err, want)
	}
}

// TestTokens counts tokens: one for each repository and right, a new one when
// the registry refuses it, none where anonymous reading is free.
//
// S5.3.7, S9 row 98.
func TestTokens(t *testing.T) {
	t.Parallel()
	srv := start(t, registrytest.WithTokenAuth(registrytest.TokenAuth{User: "u", Password: secret, AnonymousPull: true}))
	srv.PutImage("a", "v1")
	srv.PutImage("b", "v1")
	anonymous := newClient(t)
	for range 3 {
		for _, path := range []string{"a", "b"} {
			if _, err := anonymous.Resolve(t.Context(), srv.Repository(path).WithTag("v1")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := srv.Count(registrytest.KindToken, ""); n != 2 {
		t.Errorf("%d tokens for two repositories, want 2", n)
	}
	desc := oci.Descriptor{Digest: oci.DigestOf([]byte("x")), Size: 1}
	err := anonymous.PutBlob(t.Context(), srv.Repository("a"), desc, strings.NewReader("x"))
	registrytest.WantKind(t, err, fault.Denied)

	// A token for an upload runs out between its requests.
	srv = start(t, registrytest.WithTokenAuth(registrytest.TokenAuth{User: "u", Password: secret, Uses: 1}))
	blob := randomBytes(1 << 20)
	desc = oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}
	if err := loggedIn(t, srv.Host).PutBlob(t.Context(), srv.Repository("a"), desc, bytes.NewReader(blob)); err != nil {
		t.Fatal(err)
	}
	if n := srv.Count(registrytest.KindUpload, "POST"); n != 2 { // the first without a token
		t.Errorf("%d upload sessions were asked for, want 2", n)
	}
}
