package wire_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
)

const secret = "hunter2-the-password"

// recordedServer notes what every request carried.
type recordedServer struct {
	host string
	mu   sync.Mutex
	seen []*http.Request
}

func (s *recordedServer) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request{}, s.seen...)
}

// hostile serves handler on a loopback port of its own.
func hostile(t *testing.T, handler http.HandlerFunc) *recordedServer {
	t.Helper()
	s := &recordedServer{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.host = listener.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, req.Clone(req.Context()))
		s.mu.Unlock()
		handler(w, req)
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return s
}

// wantNoSecret fails when the attacker saw a login.
func wantNoSecret(t *testing.T, attacker *recordedServer) {
	t.Helper()
	for _, req := range attacker.requests() {
		for _, name := range []string{"Authorization", "Cookie", "Referer"} {
			if value := req.Header.Get(name); value != "" {
				t.Errorf("%s %s carries %s: %s", req.Method, req.URL, name, value)
			}
		}
	}
}

func loggedIn(t *testing.T, host string, change ...func(*wire.Options)) *wire.Client {
	t.Helper()
	return newClient(t, append([]func(*wire.Options){func(o *wire.Options) {
		o.Credentials = map[string]wire.Credential{host: {User: "u", Password: secret}}
		o.Retries = 1
	}}, change...)...)
}

// TestRealmElsewhere (N1): no token server but the registry's own is asked.
func TestRealmElsewhere(t *testing.T) {
	t.Parallel()
	attacker := hostile(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token":"x"}`) })
	_, port, _ := net.SplitHostPort(attacker.host)
	for _, realm := range []string{
		"http://" + attacker.host + "/token", "https://" + attacker.host + "/token", "//" + attacker.host + "/token",
		"http://localhost:" + port + "/", "http://[::ffff:127.0.0.1]:" + port + "/", "http://u:p@" + attacker.host + "/",
		"http://0.0.0.0:" + port + "/", "ftp://" + attacker.host + "/", "file:///etc/passwd", "http://%zz", "https://auth.example.com/token",
	} {
		registry := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="s"`, realm))
			w.WriteHeader(401)
		})
		c := loggedIn(t, registry.host)
		_, _, err := c.Manifest(t.Context(), oci.Repository{Host: registry.host, Path: "a"}.WithTag("v1"))
		if fault.KindOf(err) != fault.Denied || fault.HintOf(err) == "" {
			t.Errorf("%s: %v, hint %q", realm, err, fault.HintOf(err))
		}
	}
	if n := len(attacker.requests()); n != 0 {
		t.Errorf("the attacker got %d requests", n)
	}
}

// TestTrustedTokenServer: the same, once the user says so.
func TestTrustedTokenServer(t *testing.T) {
	t.Parallel()
	var user, password string
	tokens := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		user, password, _ = req.BasicAuth()
		fmt.Fprint(w, `{"access_token":"good"}`)
	})
	registry := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "Bearer good" {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token"`, tokens.host))
			w.WriteHeader(401)
			return
		}
		w.Header().Set("Content-Type", oci.MediaTypeIndex)
		w.Write(registrytest.IndexManifest())
	})
	c := loggedIn(t, registry.host, func(o *wire.Options) { o.TokenServers = []string{tokens.host} })
	if _, _, err := c.Manifest(t.Context(), oci.Repository{Host: registry.host, Path: "a"}.WithTag("v1")); err != nil {
		t.Error(err)
	}
	if user != "u" || password != secret {
		t.Errorf("the token server saw %q", user)
	}
}

// TestTokenServerMisbehaves (N2, N9): no redirect is followed, no endless
// answer read, and only a refusal counts as one.
func TestTokenServerMisbehaves(t *testing.T) {
	t.Parallel()
	attacker := hostile(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token":"x"}`) })
	for name, tt := range map[string]struct {
		token http.HandlerFunc
		want  *fault.Kind
	}{
		"redirects": {func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "http://"+attacker.host+"/token", http.StatusTemporaryRedirect)
		}, fault.Protocol},
		"endless":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat(" ", 1<<20)) }, fault.Protocol},
		"page":     {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, fault.Protocol},
		"no token": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }, fault.Protocol},
		"refuses":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, fault.Denied},
		"is gone":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, fault.Protocol},
		"is down":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, fault.Transient},
		"is busy":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, fault.RateLimited},
	} {
		registry := hostile(t, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/token" {
				tt.token(w, req)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="/token"`)
			w.WriteHeader(401)
		})
		_, _, err := loggedIn(t, registry.host).Manifest(t.Context(), oci.Repository{Host: registry.host, Path: "a"}.WithTag("v1"))
		if got := fault.KindOf(err); got != tt.want {
			t.Errorf("token server %s: %v (%v), want %v", name, got, err, tt.want)
		}
		if n := len(registry.requests()); n > 10 {
			t.Errorf("token server %s: %d requests", name, n)
		}
	}
	if n := len(attacker.requests()); n != 0 {
		t.Errorf("the attacker got %d requests", n)
	}
}

// TestRedirects (N3): reading may be sent elsewhere, the login may not.
func TestRedirects(t *testing.T) {
	t.Parallel()
	blob := []byte("content of the blob")
	desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}
	final := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(blob))
	})
	middle := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, "http://"+final.host+"/blob?signature="+secret, http.StatusTemporaryRedirect)
	})
	asks := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(401)
	})
	for name, tt := range map[string]struct {
		to   *recordedServer
		want *fault.Kind
	}{"elsewhere": {final, nil}, "in a chain": {middle, nil}, "to one that asks for a login": {asks, fault.Denied}} {
		registry := hostile(t, func(w http.ResponseWriter, req *http.Request) {
			if _, _, ok := req.BasicAuth(); !ok {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(401)
				return
			}
			http.Redirect(w, req, "http://"+tt.to.host+"/blob", http.StatusTemporaryRedirect)
		})
		got, start, err := fetch(t.Context(), loggedIn(t, registry.host), oci.Repository{Host: registry.host, Path: "a"}, desc, blob[:4])
		if fault.KindOf(err) != tt.want {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if tt.want == nil && (start != 4 || !bytes.Equal(got, blob[4:])) {
			t.Errorf("%s: %q from %d", name, got, start)
		}
	}
	for _, s := range []*recordedServer{final, middle, asks} {
		if len(s.requests()) == 0 {
			t.Error("a redirect was not followed")
		}
		wantNoSecret(t, s)
	}
}

// TestUploadElsewhere (N4): neither the login nor the blob goes there.
func TestUploadElsewhere(t *testing.T) {
	t.Parallel()
	attacker := hostile(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) })
	for name, answer := range map[string]http.HandlerFunc{
		"location": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://"+attacker.host+"/upload")
			w.WriteHeader(202)
		},
		"location without scheme": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "//"+attacker.host+"/upload")
			w.WriteHeader(202)
		},
		"redirect": func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "http://"+attacker.host+"/upload", http.StatusTemporaryRedirect)
		},
	} {
		registry := hostile(t, answer)
		err := loggedIn(t, registry.host).PutBlob(t.Context(), oci.Repository{Host: registry.host, Path: "a"},
			oci.Descriptor{Digest: oci.DigestOf([]byte("x")), Size: 1}, strings.NewReader("x"))
		if fault.KindOf(err) != fault.Protocol {
			t.Errorf("%s: %v", name, err)
		}
		if n := len(registry.requests()); n != 1 {
			t.Errorf("%s: %d requests, want 1", name, n)
		}
	}
	if n := len(attacker.requests()); n != 0 {
		t.Errorf("the attacker got %d requests", n)
	}
}

// TestLinks (N5): pages stay at the registry, and end.
func TestLinks(t *testing.T) {
	t.Parallel()
	attacker := hostile(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"tags":["evil"]}`) })
	for name, link := range map[string]string{
		"elsewhere": "<http://" + attacker.host + `/v2/a/tags/list>; rel="next"`,
		"itself":    `</v2/a/tags/list>; rel="next"`,
	} {
		registry := hostile(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Link", link)
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"name":"a","tags":["v1"]}`)
		})
		_, err := loggedIn(t, registry.host).Tags(t.Context(), oci.Repository{Host: registry.host, Path: "a"})
		if fault.KindOf(err) != fault.Protocol {
			t.Errorf("%s: %v", name, err)
		}
		if n := len(registry.requests()); n > 100 {
			t.Errorf("%s: %d requests", name, n)
		}
		lists := hostile(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Link", link)
			w.Header().Set("Content-Type", oci.MediaTypeIndex)
			w.Write(registrytest.IndexManifest())
		})
		_, err = loggedIn(t, lists.host).Referrers(t.Context(), oci.Repository{Host: lists.host, Path: "a"}, oci.DigestOf(nil))
		if n := len(lists.requests()); fault.KindOf(err) != fault.Protocol || n > 100 {
			t.Errorf("referrers %s: %v after %d requests", name, err, n)
		}
	}
	if n := len(attacker.requests()); n != 0 {
		t.Errorf("the attacker got %d requests", n)
	}
}

// TestBadTagNames: names become parts of addresses and paths.
func TestBadTagNames(t *testing.T) {
	t.Parallel()
	registry := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"name":"a","tags":["v1","../../../etc/passwd"]}`)
	})
	_, err := newClient(t).Tags(t.Context(), oci.Repository{Host: registry.host, Path: "a"})
	registrytest.WantKind(t, err, fault.Protocol)
}

// TestForeignLayers (N6): a manifest's urls are nobody's business here.
func TestForeignLayers(t *testing.T) {
	t.Parallel()
	attacker := hostile(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
	srv := start(t, registrytest.WithBasicAuth("u", secret))
	layer := oci.DigestOf([]byte("foreign"))
	config := srv.PutBlob("a", []byte("{}"))
	srv.PutManifest("a", "v1", oci.MediaTypeManifest, fmt.Appendf(nil,
		`{"schemaVersion":2,"config":{"mediaType":"c","digest":%q,"size":2},"layers":[{"mediaType":"l","digest":%q,"size":7,"urls":["http://%s/x"]}]}`, config.Digest, layer, attacker.host))
	c := loggedIn(t, srv.Host)
	_, body, err := c.Manifest(t.Context(), srv.Repository("a").WithTag("v1"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := oci.ParseManifest("", body)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Blob(t.Context(), srv.Repository("a"), m.Layers[0], nil)
	registrytest.WantKind(t, err, fault.NotFound)
	if n := len(attacker.requests()); n != 0 {
		t.Errorf("the attacker got %d requests", n)
	}
}

// TestSecretsStayOut (N8) searches logs of all levels and errors.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	cdn := hostile(t, func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) })
	srv := start(t, registrytest.WithTokenAuth(registrytest.TokenAuth{User: "u", Password: secret}))
	desc := srv.PutBlob("a", []byte("x"))
	srv.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Skip: 1, Times: registrytest.Always, Status: 307,
		Header: http.Header{"Location": {"http://" + cdn.host + "/blob?signature=" + secret}}})
	var log bytes.Buffer
	c := loggedIn(t, srv.Host, func(o *wire.Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.Level(-100)}))
	})
	_, _, err := fetch(t.Context(), c, srv.Repository("a"), desc, nil)
	registrytest.WantKind(t, err, fault.Transient)
	if err := c.PutBlob(t.Context(), srv.Repository("a"), desc, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "path=/v2/a/blobs/") {
		t.Fatalf("the log says nothing:\n%s", &log)
	}
	for what, text := range map[string]string{"log": log.String(), "error": fmt.Sprintf("%v %+v", err, err)} {
		for _, marker := range []string{secret, "_state", "Bearer", "token-", "signature"} {
			if strings.Contains(text, marker) {
				t.Errorf("%s holds %q:\n%s", what, marker, text)
			}
		}
	}
}

// N8: a registry that repeats the login or token in an error, in any of its fields,
// and a host that repeats what its address was signed with, do not get it into ours;
// what else they say is shown.
func TestSecretsAreNotRepeated(t *testing.T) {
	t.Parallel()
	basic := base64.StdEncoding.EncodeToString([]byte("u:" + secret))
	say := func(code, message string) string {
		text, err := json.Marshal(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, tc := range map[string]struct{ code, message, want string }{
		"the header":   {"DENIED", "not allowed: Authorization: Basic " + basic, "repeats the login"},
		"the password": {"DENIED", "u has not the password " + secret + "!", "repeats the login"},
		"in the code":  {secret, "no", "no"},
		"nothing":      {"DENIED", "not today", "not today"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := start(t, registrytest.WithBasicAuth("u", secret))
			// The first request finds out that a login is wanted.
			srv.Inject(registrytest.Fault{Skip: 1, Times: registrytest.Always, Status: 403, ContentType: "application/json", Body: say(tc.code, tc.message)})
			_, _, err := loggedIn(t, srv.Host).Manifest(t.Context(), srv.Repository("a").WithTag("v1"))
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), basic) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
	t.Run("a signed address", func(t *testing.T) {
		t.Parallel()
		const signature = "what-it-is-signed-with"
		cdn := hostile(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(403)
			_, _ = w.Write([]byte(say("DENIED", "this was wrong: "+r.URL.RawQuery)))
		})
		srv := start(t)
		desc := srv.PutBlob("a", []byte("x"))
		srv.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Times: registrytest.Always, Status: 307,
			Header: http.Header{"Location": {"http://" + cdn.host + "/blob?signature=" + signature}}})
		_, _, err := fetch(t.Context(), loggedIn(t, srv.Host), srv.Repository("a"), desc, nil)
		if err == nil || !strings.Contains(err.Error(), "repeats the login") || strings.Contains(err.Error(), signature) {
			t.Error(err)
		}
	})
	t.Run("a token", func(t *testing.T) {
		t.Parallel()
		token := "secret-of-a-token"
		srv := hostile(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/token":
				_, _ = w.Write([]byte(`{"token":"` + token + `"}`))
			case r.Header.Get("Authorization") == "":
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="s"`)
				w.WriteHeader(401)
			default:
				w.WriteHeader(403)
				_, _ = w.Write([]byte(say("DENIED", r.Header.Get("Authorization")+" will not do")))
			}
		})
		_, _, err := loggedIn(t, srv.host).Manifest(t.Context(), oci.Repository{Host: srv.host, Path: "a"}.WithTag("v1"))
		if err == nil || !strings.Contains(err.Error(), "repeats the login") || strings.Contains(err.Error(), token) {
			t.Error(err)
		}
	})
}
