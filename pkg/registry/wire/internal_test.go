package wire

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/oci"
)

func TestParseChallenges(t *testing.T) {
	t.Parallel()
	type params = map[string]string
	for header, want := range map[string][]challenge{
		``:                         nil,
		`Basic`:                    {{"basic", params{}}},
		`Basic realm="a b, \"c\""`: {{"basic", params{"realm": `a b, "c"`}}},
		`Bearer realm="https://a/token",service="s",scope="repository:x:pull,push"`: {
			{"bearer", params{"realm": "https://a/token", "service": "s", "scope": "repository:x:pull,push"}}},
		`BEARER Realm = unquoted , service=""`: {{"bearer", params{"realm": "unquoted", "service": ""}}},
		`Basic realm="b", Bearer realm="c"`:    {{"basic", params{"realm": "b"}}, {"bearer", params{"realm": "c"}}},
		`Negotiate, Basic realm="b"`:           {{"negotiate", params{}}, {"basic", params{"realm": "b"}}},
		`Bearer realm="open`:                   {{"bearer", params{"realm": "open"}}},
		`realm="without scheme"`:               nil,
		`"`:                                    nil,
	} {
		if diff := cmp.Diff(want, parseChallenges([]string{header}), cmp.AllowUnexported(challenge{})); diff != "" {
			t.Errorf("%s: %s", header, diff)
		}
	}
}

func FuzzParseChallenges(f *testing.F) {
	for _, seed := range []string{``, `Basic realm="x"`, `Bearer realm="https://a/t",service=s`, `a=b"c`, `==`, `Bearer realm="\`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		for _, c := range parseChallenges([]string{header}) {
			if c.scheme == "" || c.params == nil || len(c.scheme) > len(header)*4 {
				t.Errorf("%q: %+v", header, c)
			}
		}
	})
}

func FuzzRangeFits(f *testing.F) {
	f.Add("bytes 4-9/10", int64(4), int64(10))
	f.Add("bytes 4-9/*", int64(4), int64(10))
	f.Add("bytes -", int64(0), int64(0))
	f.Fuzz(func(t *testing.T, header string, from, size int64) {
		if rangeFits(header, from, size) && (from >= size || size <= 0) {
			t.Errorf("%q fits %d of %d", header, from, size)
		}
	})
}

func FuzzReadRefusal(f *testing.F) {
	f.Add(404, []byte(`{"errors":[{"code":"NAME_UNKNOWN","message":"no \u001b[31m"}]}`))
	f.Add(200, []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		r := readRefusal(status, body, nil)
		if r.kind() == nil {
			t.Error("no kind")
		}
		if strings.ContainsAny(r.Error(), "\x1b\n\r\x00") || len(r.Error()) > 2000 {
			t.Errorf("%q is not fit for a terminal", r.Error())
		}
	})
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "7", "-1", "99999999999999999999", "Wed, 21 Oct 2015 07:28:00 GMT"} {
		f.Add(seed)
	}
	now := time.Date(2015, 10, 21, 7, 27, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		if parseRetryAfter(s, now) < 0 {
			t.Errorf("%q: negative", s)
		}
	})
}

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2015, 10, 21, 7, 27, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0": 0, "-1": 0, "soon": 0,
		now.Add(time.Minute).Format(http.TimeFormat):  time.Minute,
		now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := parseRetryAfter(s, now); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

// TestSendBodyStops: net/http may read on after it has returned the answer, and
// would then take bytes of the next try.
func TestSendBodyStops(t *testing.T) {
	t.Parallel()
	src := strings.NewReader("0123456789")
	body := &sendBody{body: io.NopCloser(src)}
	first := make([]byte, 4)
	if n, err := body.Read(first); n != 4 || err != nil {
		t.Fatalf("Read = %d, %v", n, err)
	}
	body.stop()
	if n, err := body.Read(first); n != 0 || err == nil {
		t.Errorf("after stop: Read = %d, %v", n, err)
	}
	if src.Len() != 6 {
		t.Errorf("%d bytes are left, want 6", src.Len())
	}
}

// TestRedirectInside (N3): a registry elsewhere sends us to nothing that only
// this machine can reach; one here may.
func TestRedirectInside(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		from, to string
		refused  bool
	}{
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "10.0.0.1", false},
		{"192.0.2.1", "127.0.0.1:8080", true},
		{"192.0.2.1", "[::1]:8080", true},
		{"192.0.2.1", "localhost", true},
		{"192.0.2.1", "169.254.169.254", true},
		{"192.0.2.1", "0.0.0.0", true},
		{"127.0.0.1:5000", "127.0.0.1:5001", false},
		{"192.0.2.1", "nowhere.invalid", false},
	} {
		tr := &transport{self: origin{"http", tt.from}}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+tt.from+"/v2/a/blobs/x", nil)
		for range 2 {
			err := tr.checkRedirect(newOperation(verbBlob, oci.Reference{}), req, &http.Response{Header: http.Header{"Location": {"http://" + tt.to + "/x"}}})
			if (err != nil) != tt.refused {
				t.Errorf("from %s to %s: %v", tt.from, tt.to, err)
			}
		}
	}
}

// TestTrusts is the table of N1: who may be sent the login.
func TestTrusts(t *testing.T) {
	t.Parallel()
	https := func(host string) origin { return origin{"https", host} }
	for _, tt := range []struct {
		self  origin
		realm string
		want  bool
	}{
		{https("registry.example.com"), "https://registry.example.com/token", true},
		{https("registry.example.com"), "https://registry.example.com:443/token", true},
		{https("registry.example.com"), "https://REGISTRY.example.com/token", true},
		{https("registry.example.com"), "https://auth.example.com/token", true},
		{https("registry.gitlab.com"), "https://gitlab.com/jwt/auth", true},
		{https("registry-1.docker.io"), "https://auth.docker.io/token", true},
		{https("registry.example.com"), "https://listed.org/token", true},
		{https("registry.example.com"), "http://listed.org/token", false},
		{https("registry.example.com"), "http://registry.example.com/token", false},
		{https("registry.example.com"), "https://registry.example.com:8443/token", false},
		{https("registry.example.com"), "https://auth.example.com:8443/token", false},
		{https("registry.example.com"), "https://example.com.evil.org/token", false},
		{https("registry.example.com"), "https://evilexample.com/token", false},
		{https("registry.example.com"), "https://u:p@auth.example.com/token", false},
		{https("example.com"), "https://evil.com/token", false},
		{https("registry"), "https://other/token", false},
		{https("10.0.0.1"), "https://9.0.0.1/token", false},
		{https("10.0.0.1:5000"), "https://10.0.0.1:5000/token", true},
		{https("[::1]:5000"), "https://[::1]:5000/token", true},
		{https("[::1]:5000"), "https://[::1]:5001/token", false},
		{origin{"http", "registry.example.com:5000"}, "http://registry.example.com:5000/token", true},
		{origin{"http", "registry.example.com:5000"}, "http://auth.example.com/token", false},
		{origin{"http", "registry.example.com:5000"}, "https://auth.example.com/token", true},
		{origin{"http", "registry.example.com:5000"}, "http://listed.org/token", true},
	} {
		realm, err := url.Parse(tt.realm)
		if err != nil {
			t.Fatal(err)
		}
		a := newAuthorizer(tt.self, credential{}, []string{"listed.org"})
		if got := a.trusts(realm); got != tt.want {
			t.Errorf("%v trusts %s = %t, want %t", tt.self, tt.realm, got, tt.want)
		}
	}
}
