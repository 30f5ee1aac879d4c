package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/e2e/measure"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// marker is a password that must not get anywhere but to its own registry.
const marker = "marker-0b5ed9c1"

// memoryCap is what a stage may hold while a registry does its worst: more than
// all limits on answers together, far less than what is sent.
const memoryCap = 256 << 20

// stranger is a second origin. It notes what it is asked, and with which login.
type stranger struct {
	host string
	mu   sync.Mutex
	seen []string
}

func newStranger(t *testing.T, answer http.HandlerFunc) *stranger {
	t.Helper()
	s := &stranger{}
	s.host = serve(t, func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, req.Method+" "+req.URL.Path+" "+req.Header.Get("Authorization"))
		s.mu.Unlock()
		answer(w, req)
	})
	return s
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// want checks how many requests came, and that none of them had a login.
func (s *stranger) want(t *testing.T, some bool) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !some && len(s.seen) > 0 {
		t.Errorf("another host was asked: %q", s.seen)
	}
	for _, line := range s.seen {
		if !strings.HasSuffix(line, " ") {
			t.Errorf("another host got a login: %q", line)
		}
	}
}

// tree lists what is below dir, but for some directories.
func tree(t *testing.T, dir string, but ...string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case slices.Contains(but, name):
			return fs.SkipDir
		}
		list = append(list, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// hostileRun runs a stage in dir/work, with logins of its own, below all caps.
func hostileRun(t *testing.T, runner measure.Runner, dir, stdin, host, name string, args ...string) result {
	t.Helper()
	cmd := program(t, name, args...)
	cmd.Dir = filepath.Join(dir, "work")
	cmd.Stdin = strings.NewReader(stdin)
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".docker"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("u:"+marker)))
	if err := os.WriteFile(filepath.Join(home, ".docker", "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "HOME="+home, "D8_MIRROR_REGISTRY_LOGIN=u", "D8_MIRROR_REGISTRY_PASSWORD="+marker)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	used, _ := runner.Run(cmd)
	r := result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	if used.Peak == 0 || used.Peak > memoryCap {
		t.Errorf("%s held %d MB", name, used.Peak>>20)
	}
	if r.code == 2 || strings.Contains(r.stderr, "goroutine ") {
		t.Errorf("%s crashed:\n%.2000s", name, r.stderr)
	}
	for _, text := range []string{r.stdout, r.stderr} {
		if strings.Contains(text, marker) || strings.Contains(text, "\x1b") {
			t.Errorf("%s says what it must not: %.500q", name, text)
		}
	}
	return r
}

// spoiler answers a request in the place of a registry, or not.
type spoiler func(w http.ResponseWriter, req *http.Request) bool

func forever(w io.Writer) {
	block := bytes.Repeat([]byte(" "), 1<<20)
	for range 1 << 10 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func redirectTo(address string) spoiler {
	return func(w http.ResponseWriter, req *http.Request) bool {
		http.Redirect(w, req, address, http.StatusTemporaryRedirect)
		return true
	}
}

func on(match func(*http.Request) bool, do spoiler) spoiler {
	return func(w http.ResponseWriter, req *http.Request) bool { return match(req) && do(w, req) }
}

func at(part string) func(*http.Request) bool {
	return func(req *http.Request) bool { return strings.Contains(req.URL.Path, part) }
}

func replies(status int, header map[string]string, body string) spoiler {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

func babbles(w http.ResponseWriter, _ *http.Request) bool {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, _ = io.WriteString(conn, "\x00\x1b[31m garbage \r\n\r\n")
		conn.Close()
	}
	return true
}

func challenge(realm string) spoiler {
	return replies(401, map[string]string{"WWW-Authenticate": `Bearer realm="` + realm + `",service="\u001b[31m"`}, "")
}

// TestHostileSource runs the stages of a pull against a registry that lies (N1 to
// N13, N19): each ends with a refusal, in bounded memory; nothing is written beside
// the store, and no other host gets a request that it must not, nor any login.
func TestHostileSource(t *testing.T) {
	t.Parallel()
	runner, err := measure.NewRunner(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	json := map[string]string{"Content-Type": "application/json"}
	asManifest := map[string]string{"Content-Type": oci.MediaTypeManifest}
	asIndex := map[string]string{"Content-Type": oci.MediaTypeIndex}
	layer := []byte("a layer")
	digest := string(oci.DigestOf(layer))
	manifest := func(layers string) string {
		return `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeManifest + `","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + digest + `","size":7},"layers":[` + layers + `]}`
	}
	one := func(fields string) string {
		return `{"mediaType":"application/vnd.oci.image.layer.v1.tar",` + fields + `}`
	}
	var many []oci.Descriptor
	for i := range 10_000 {
		many = append(many, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.DigestOf(fmt.Append(nil, i)), Size: 100})
	}
	evil := newStranger(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token":"x"}`) })
	other := newStranger(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
	cases := map[string]struct {
		do   spoiler
		away bool // a read may be led elsewhere, without a login
	}{
		"realm elsewhere":    {challenge("http://" + evil.host + "/token"), false},
		"realm that is none": {challenge("http://%zz"), false},
		"token server leads away": {func(w http.ResponseWriter, r *http.Request) bool {
			return r.URL.Path == "/token" && redirectTo("http://"+evil.host+"/")(w, r) || challenge("/token")(w, r)
		}, false},
		"token without an end": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				forever(w)
				return true
			}
			return challenge("/token")(w, r)
		}, false},
		"token for a header": {func(w http.ResponseWriter, r *http.Request) bool {
			return r.URL.Path == "/token" && replies(200, json, `{"token":"x\r\nHost: y"}`)(w, r) || challenge("/token")(w, r)
		}, false},
		"challenges for ever": {func(w http.ResponseWriter, r *http.Request) bool {
			return r.URL.Path == "/token" && replies(200, json, `{"token":"x"}`)(w, r) || challenge("/token")(w, r)
		}, false},
		"manifest without an end": {on(at("/manifests/"), func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", oci.MediaTypeManifest)
			forever(w)
			return true
		}), false},
		"manifest of another type": {on(at("/manifests/"), replies(200, asManifest, string(registrytest.IndexManifest()))), false},
		"manifest of two shapes":   {on(at("/manifests/"), replies(200, asManifest, `{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}`)), false},
		"manifest that nests":      {on(at("/manifests/"), replies(200, asManifest, strings.Repeat("[", 1<<20))), false},
		"digest that is a path":    {on(at("/manifests/"), replies(200, asManifest, manifest(one(`"digest":"sha256:../../../../x","size":7`)))), false},
		"digest without an end":    {on(at("/manifests/"), replies(200, asManifest, manifest(one(`"digest":"sha256:`+strings.Repeat("a", 1<<20)+`","size":7`)))), false},
		"size below nothing":       {on(at("/manifests/"), replies(200, asManifest, manifest(one(`"digest":"`+digest+`","size":-7`)))), false},
		"size above all disks":     {on(at("/manifests/"), replies(200, asManifest, manifest(one(`"digest":"`+digest+`","size":9223372036854775807`)))), false},
		"layer of another address": {on(at("/manifests/"), replies(200, asManifest, manifest(one(`"digest":"`+string(oci.DigestOf([]byte("foreign")))+`","size":7,"urls":["http://`+evil.host+`/x"]`)))), false},
		"title that is a path":     {on(at("/manifests/"), replies(200, asManifest, manifest(one(`"digest":"`+string(oci.DigestOf([]byte("gone")))+`","size":4,"annotations":{"org.opencontainers.image.title":"../../../x"}`)))), false},
		"index of itself":          {on(at("/manifests/"), replies(200, asIndex, string(registrytest.IndexManifest(oci.Descriptor{MediaType: oci.MediaTypeIndex, Digest: oci.Digest(digest), Size: 7})))), false},
		"ten thousand children":    {on(at("/manifests/v1"), replies(200, asIndex, string(registrytest.IndexManifest(many...)))), false},
		"manifest elsewhere":       {on(at("/manifests/"), redirectTo("http://"+other.host+"/")), true},
		"manifest in a circle":     {on(at("/manifests/"), func(w http.ResponseWriter, r *http.Request) bool { return redirectTo(r.URL.Path)(w, r) }), false},
		"blob elsewhere":           {on(at("/blobs/"), redirectTo("http://"+other.host+"/")), true},
		"blob without an end":      {on(at("/blobs/"), func(w http.ResponseWriter, _ *http.Request) bool { forever(w); return true }), false},
		"blob of other bytes":      {on(at("/blobs/"), replies(200, nil, "b layer")), false},
		"blob that is a page":      {on(at("/blobs/"), replies(200, map[string]string{"Content-Type": "text/html"}, "<html>\x1b[31m</html>")), false},
		"referrers continue away":  {on(at("/referrers/"), replies(200, map[string]string{"Content-Type": oci.MediaTypeIndex, "Link": "<http://" + evil.host + `/>; rel="next"`}, string(registrytest.IndexManifest()))), false},
		"referrers without an end": {on(at("/referrers/"), func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", oci.MediaTypeIndex)
			forever(w)
			return true
		}), false},
		"referrers in a circle": {on(at("/referrers/"), func(w http.ResponseWriter, r *http.Request) bool {
			return replies(200, map[string]string{"Content-Type": oci.MediaTypeIndex, "Link": "<" + r.URL.Path + `>; rel="next"`}, string(registrytest.IndexManifest()))(w, r)
		}), false},
		"ten thousand referrers more": {on(at("/referrers/"), replies(200, map[string]string{"Content-Type": oci.MediaTypeIndex, "Link": `</v2/>; rel="next"`}, string(registrytest.IndexManifest(append(many, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.DigestOf(layer), Size: 1})...)))), false},
		"error that is a terminal's":  {on(at("/manifests/"), replies(400, json, `{"errors":[{"code":"\u001b[31m","message":"`+strings.Repeat("\\u001b[2J", 1000)+`"}]}`)), false},
		"error without an end":        {on(at("/manifests/"), func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(400); forever(w); return true }), false},
		"header without an end":       {on(at("/manifests/"), replies(200, map[string]string{"Docker-Content-Digest": strings.Repeat("a", 20<<20)}, "")), false},
		"no HTTP at all":              {babbles, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := registrytest.New()
			reg.PutImage("a", "v1", layer)
			host := serve(t, func(w http.ResponseWriter, req *http.Request) {
				if !tc.do(w, req) {
					reg.ServeHTTP(w, req)
				}
			})
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "work"), 0o755); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dir, "work/store")
			catalog := run(t, host+"/a:v1\n", "ferry-discover", "generic", "--insecure", "--retries=0")
			selection := run(t, catalog, "ferry-select")
			r := hostileRun(t, runner, dir, selection, host, "ferry-fetch", "--store", "store", "--insecure", "--retries=0", "--idle-timeout=5s")
			if r.code < 74 || r.code > 77 || r.stdout != "" {
				t.Errorf("it ends with %d and a document of %d bytes\n%s", r.code, len(r.stdout), r.stderr)
			}
			if diff := cmp.Diff(before, tree(t, dir, "work/store")); diff != "" {
				t.Errorf("written beside the store: %s", diff)
			}
		})
	}
	t.Cleanup(func() {
		evil.want(t, false)
		other.want(t, true)
	})
	t.Attr("cases", strconv.Itoa(len(cases)))
	t.Attr("figure:hostile-inputs", strconv.Itoa(len(cases)))
}

// TestHostileTarget is the same for a push (N1, N3, N4, N9, N19, N25): a target that
// takes all and keeps nothing is found out, too.
func TestHostileTarget(t *testing.T) {
	t.Parallel()
	runner, err := measure.NewRunner(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	src, _ := source(t, edition.Tiny())
	inventory := fetched(t, src.Host, t.TempDir())
	evil := newStranger(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) })
	other := newStranger(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
	method := func(method, part string) func(*http.Request) bool {
		return func(req *http.Request) bool { return req.Method == method && strings.Contains(req.URL.Path, part) }
	}
	location := func(address string) map[string]string { return map[string]string{"Location": address} }
	takesAll := func(w http.ResponseWriter, req *http.Request) bool {
		switch req.Method {
		case http.MethodPost:
			return replies(202, location("/v2/up/blobs/uploads/1"), "")(w, req)
		case http.MethodPut, http.MethodPatch:
			_, _ = io.Copy(io.Discard, req.Body)
			return replies(201, nil, "")(w, req)
		case http.MethodDelete:
			return replies(204, nil, "")(w, req)
		}
		return replies(404, nil, "")(w, req)
	}
	cases := map[string]struct {
		do   spoiler
		away bool
	}{
		"realm elsewhere":              {challenge("http://" + evil.host + "/token"), false},
		"upload elsewhere":             {on(method("POST", "/uploads/"), replies(202, location("http://"+evil.host+"/up"), "")), false},
		"upload elsewhere, no scheme":  {on(method("POST", "/uploads/"), replies(202, location("//"+evil.host+"/up"), "")), false},
		"upload at a user of the host": {on(method("POST", "/uploads/"), replies(202, location("http://registry@"+evil.host+"/up"), "")), false},
		"upload nowhere":               {on(method("POST", "/uploads/"), replies(202, nil, "")), false},
		"upload that leads away":       {on(method("POST", "/uploads/"), redirectTo("http://"+evil.host+"/up")), false},
		"blob that leads away":         {on(method("PUT", "/uploads/"), redirectTo("http://"+evil.host+"/up")), false},
		"manifest that leads away":     {on(method("PUT", "/manifests/"), redirectTo("http://"+evil.host+"/m")), false},
		"tag that is read elsewhere":   {on(method("GET", "/manifests/"), redirectTo("http://"+other.host+"/m")), true},
		"error without an end":         {on(method("PUT", ""), func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(400); forever(w); return true }), false},
		"answer without an end": {on(method("GET", "/manifests/"), func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", oci.MediaTypeManifest)
			forever(w)
			return true
		}), false},
		"takes all, keeps nothing":    {takesAll, false},
		"gives another manifest back": {on(method("GET", "/manifests/"), replies(200, map[string]string{"Content-Type": oci.MediaTypeIndex}, string(registrytest.IndexManifest()))), false},
		"takes it as another":         {on(method("PUT", "/manifests/"), replies(201, map[string]string{"Docker-Content-Digest": string(oci.DigestOf(nil))}, "")), false},
		"a page for everything":       {replies(200, map[string]string{"Content-Type": "text/html"}, "<html>\x1b[31m</html>"), false},
		"404 for everything":          {replies(404, nil, ""), false},
		"no HTTP at all":              {babbles, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := registrytest.New(registrytest.WithBasicAuth("u", marker))
			host := serve(t, func(w http.ResponseWriter, req *http.Request) {
				_, password, _ := req.BasicAuth()
				if strings.HasPrefix(name, "realm") || password == marker {
					if tc.do(w, req) {
						return
					}
				}
				reg.ServeHTTP(w, req)
			})
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "work"), 0o755); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dir)
			r := hostileRun(t, runner, dir, inventory, host, "ferry-publish", host+"/mirror", "--insecure", "--retries=0", "--idle-timeout=5s")
			if r.code < 75 || r.code > 77 || r.stdout != "" {
				t.Errorf("it ends with %d and a document of %d bytes\n%s", r.code, len(r.stdout), r.stderr)
			}
			if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
				t.Errorf("files were written: %s", diff)
			}
		})
	}
	t.Cleanup(func() {
		evil.want(t, false)
		other.want(t, true)
	})
	t.Attr("cases", strconv.Itoa(len(cases)))
	t.Attr("figure:hostile-inputs", strconv.Itoa(len(cases)))
}
