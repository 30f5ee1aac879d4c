package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// inFakeTime serves handler to a client within one bubble, where hours pass at
// once: what is said of time here is exact. Pipes stand for the network.
func inFakeTime(t *testing.T, handler http.Handler, change func(*Options), run func(t *testing.T, c *Client, repo oci.Repository)) {
	t.Helper()
	overPipes(t, handler, func(c net.Conn) net.Conn { return c }, change, run)
}

// overPipes is inFakeTime with a line that is made of each pipe.
func overPipes(t *testing.T, handler http.Handler, line func(net.Conn) net.Conn, change func(*Options), run func(t *testing.T, c *Client, repo oci.Repository)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		pipes := &pipes{line: line, conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
		go server.Serve(pipes)
		opts := Options{PlainHTTP: true, Anonymous: true, Credentials: map[string]Credential{"registry.test": {User: "u", Password: "p"}}}
		if change != nil {
			change(&opts)
		}
		c, err := New(opts)
		if err != nil {
			t.Fatal(err)
		}
		c.base.DialContext = steady(pipes.dial, c.opts.IdleTimeout)
		defer func() {
			c.Close()
			server.Close()
			time.Sleep(time.Hour) // the server lingers on what it has refused
			synctest.Wait()
		}()
		run(t, c, oci.Repository{Host: "registry.test", Path: "a"})
	})
}

// pipes is a network of one host.
type pipes struct {
	line   func(net.Conn) net.Conn
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- p.line(far):
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// kindsOfRequests has a call for every kind of request that the client makes: a
// refusal of it, once, heals. The blob of an upload is 3 MB.
func kindsOfRequests(layer []byte, image oci.Descriptor) map[string]struct {
	fault registrytest.Fault
	run   func(context.Context, *Client, oci.Repository) error
} {
	blob := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	upload := oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}
	have := oci.Descriptor{Digest: oci.DigestOf(layer), Size: int64(len(layer))}
	put := func(ctx context.Context, c *Client, repo oci.Repository) error {
		return c.PutBlob(ctx, repo, upload, bytes.NewReader(blob))
	}
	return map[string]struct {
		fault registrytest.Fault
		run   func(context.Context, *Client, oci.Repository) error
	}{
		"GET of a manifest": {registrytest.Fault{Kind: registrytest.KindManifest, Method: "GET"}, func(ctx context.Context, c *Client, repo oci.Repository) error {
			_, _, err := c.Manifest(ctx, repo.WithTag("v1"))
			return err
		}},
		"HEAD of a manifest": {registrytest.Fault{Kind: registrytest.KindManifest, Method: "HEAD"}, func(ctx context.Context, c *Client, repo oci.Repository) error {
			_, err := c.Resolve(ctx, repo.WithTag("v1"))
			return err
		}},
		"GET of tags": {registrytest.Fault{Kind: registrytest.KindTags}, func(ctx context.Context, c *Client, repo oci.Repository) error {
			_, err := c.Tags(ctx, repo)
			return err
		}},
		"GET of referrers": {registrytest.Fault{Kind: registrytest.KindReferrers}, func(ctx context.Context, c *Client, repo oci.Repository) error {
			_, err := c.Referrers(ctx, repo, image.Digest)
			return err
		}},
		"GET of a token": {registrytest.Fault{Kind: registrytest.KindToken}, func(ctx context.Context, c *Client, repo oci.Repository) error {
			_, _, err := c.Manifest(ctx, repo.WithTag("v1"))
			return err
		}},
		"GET of a blob": {registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET"}, func(ctx context.Context, c *Client, repo oci.Repository) error {
			return readBlob(ctx, c, repo, have)
		}},
		"HEAD of a blob": {registrytest.Fault{Kind: registrytest.KindBlob, Method: "HEAD"}, func(ctx context.Context, c *Client, repo oci.Repository) error {
			_, err := c.HasBlob(ctx, repo, have)
			return err
		}},
		"POST of a mount": {registrytest.Fault{Kind: registrytest.KindMount}, func(ctx context.Context, c *Client, repo oci.Repository) error {
			_, err := c.MountBlob(ctx, oci.Repository{Host: repo.Host, Path: "b"}, have, repo)
			return err
		}},
		"POST of an upload":  {registrytest.Fault{Kind: registrytest.KindUpload, Method: "POST"}, put},
		"PATCH of an upload": {registrytest.Fault{Kind: registrytest.KindUpload, Method: "PATCH", Skip: 1}, put},
		"PUT of an upload":   {registrytest.Fault{Kind: registrytest.KindUpload, Method: "PUT", Skip: 1}, put}, // behind the one that is too large
		"PUT of a manifest": {registrytest.Fault{Kind: registrytest.KindManifest, Method: "PUT"}, func(ctx context.Context, c *Client, repo oci.Repository) error {
			return c.PutManifest(ctx, repo.WithTag("v2"), oci.MediaTypeIndex, registrytest.IndexManifest())
		}},
	}
}

// small is a registry that takes no body above 2 MB, and gives tokens.
func small(layer []byte) (*registrytest.Registry, oci.Descriptor) {
	reg := registrytest.New(registrytest.Q8Limit(413, 2<<20), registrytest.WithTokenAuth(registrytest.TokenAuth{User: "u", Password: "p"}))
	return reg, reg.PutImage("a", "v1", layer)
}

// TestRetryAfterForms (N14): every form of advice, at every kind of request, is
// followed to the second, and the request heals.
func TestRetryAfterForms(t *testing.T) {
	t.Parallel()
	const limited = `{"errors":[{"code":"TOOMANYREQUESTS"}]}`
	layer := []byte("layer")
	_, image := small(layer)
	for form, tt := range map[string]struct {
		fault registrytest.Fault
		after func(now time.Time) string
		want  time.Duration
	}{
		"429, seconds":             {registrytest.Fault{Status: 429}, func(time.Time) string { return "70" }, 70 * time.Second},
		"429, a date":              {registrytest.Fault{Status: 429}, func(now time.Time) string { return now.Add(70 * time.Second).Format(http.TimeFormat) }, 69 * time.Second},
		"429, a date that is past": {registrytest.Fault{Status: 429}, func(now time.Time) string { return now.Add(-time.Hour).Format(http.TimeFormat) }, 0},
		"429 without":              {registrytest.Fault{Status: 429}, func(time.Time) string { return "" }, 0},
		"429, not advice":          {registrytest.Fault{Status: 429}, func(time.Time) string { return "soon" }, 0},
		"503, seconds":             {registrytest.Fault{Status: 503}, func(time.Time) string { return "70" }, 70 * time.Second},
		"code under 403":           {registrytest.Fault{Status: 403, Body: limited}, func(time.Time) string { return "70" }, 70 * time.Second},
		"code under 400, without":  {registrytest.Fault{Status: 400, Body: limited}, func(time.Time) string { return "" }, 0},
	} {
		for request, call := range kindsOfRequests(layer, image) {
			if tt.fault.Body != "" && strings.HasPrefix(request, "HEAD") {
				continue // its answer has no body to hold a code
			}
			if form == "503, seconds" && request == "HEAD of a manifest" {
				continue // GET is asked, which waits in its place: below
			}
			t.Run(form+"/"+request, func(t *testing.T) {
				t.Parallel()
				var reg *registrytest.Registry
				handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { reg.ServeHTTP(w, req) })
				inFakeTime(t, handler, nil, func(t *testing.T, c *Client, repo oci.Repository) {
					reg, _ = small(layer)
					f := tt.fault
					f.Kind, f.Method, f.Skip, f.RetryAfter = call.fault.Kind, call.fault.Method, call.fault.Skip, tt.after(time.Now())
					if f.Skip == 0 && f.Kind != registrytest.KindToken {
						f.Match = func(req *http.Request) bool { return req.Header.Get("Authorization") != "" }
					}
					reg.Inject(f)
					began := time.Now()
					if err := call.run(t.Context(), c, repo); err != nil {
						t.Fatal(err)
					}
					// The own pause and the spread come on top.
					if took := time.Since(began); took < tt.want || took > tt.want+5*time.Second {
						t.Errorf("it took %v, want %v and a little more", took, tt.want)
					}
					if n := reg.OpenUploads(); n != 0 {
						t.Errorf("%d uploads are open", n)
					}
				})
			})
		}
	}
}

// TestLongPauseEnds (N14): advice to wait for a day is for the operator. Nothing is
// asked again, and nothing waits.
func TestLongPauseEnds(t *testing.T) {
	t.Parallel()
	layer := []byte("layer")
	_, image := small(layer)
	for request, call := range kindsOfRequests(layer, image) {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			var reg *registrytest.Registry
			handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { reg.ServeHTTP(w, req) })
			inFakeTime(t, handler, nil, func(t *testing.T, c *Client, repo oci.Repository) {
				reg, _ = small(layer)
				asked := 0
				f := call.fault
				f.Status, f.RetryAfter, f.Times = 429, "86400", registrytest.Always
				f.Match = func(req *http.Request) bool {
					if f.Kind == registrytest.KindToken || req.Header.Get("Authorization") != "" {
						asked++
						return true
					}
					return false
				}
				reg.Inject(f)
				began := time.Now()
				err := call.run(t.Context(), c, repo)
				if took := time.Since(began); fault.KindOf(err) != fault.RateLimited || fault.Heals(err) || took > time.Second {
					t.Errorf("%v after %v, want a refusal at once that soon nothing heals", err, took)
				}
				if asked != 1+f.Skip {
					t.Errorf("asked %d times, want %d", asked, 1+f.Skip)
				}
				if err != nil && (!strings.Contains(err.Error(), "24h0m0s") || strings.Count(err.Error(), "registry.test/") != 1) {
					t.Errorf("it says: %v", err)
				}
				reg.Heal()
				if err := call.run(t.Context(), c, repo); err != nil || time.Since(began) > time.Second {
					t.Errorf("afterwards: %v after %v", err, time.Since(began))
				}
			})
		})
	}
}

// TestPauseIsShared (N14): one answer holds all requests to the registry back; they
// go on at different moments, and a person sees the time run down.
func TestPauseIsShared(t *testing.T) {
	t.Parallel()
	var (
		mu       sync.Mutex
		words    lockedBuffer
		requests []time.Duration // since the pause began
		began    time.Time
	)
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if began.IsZero() {
			began = time.Now()
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		requests = append(requests, time.Since(began))
		w.Header().Set("Content-Type", oci.MediaTypeIndex)
		w.Write(registrytest.IndexManifest())
	})
	logged := func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&words, &slog.HandlerOptions{Level: slog.LevelInfo}))
		o.Concurrency = 20
	}
	inFakeTime(t, handler, logged, func(t *testing.T, c *Client, repo oci.Repository) {
		var callers errgroup.Group
		ask := func() error {
			_, _, err := c.Manifest(t.Context(), repo.WithTag("v1"))
			return err
		}
		callers.Go(ask)
		time.Sleep(time.Millisecond)
		for range 19 {
			callers.Go(ask)
		}
		if err := callers.Wait(); err != nil {
			t.Fatal(err)
		}
	})
	moments := map[time.Duration]bool{}
	for _, at := range requests {
		moments[at.Round(time.Microsecond)] = true
		if at < 60*time.Second || at > 63*time.Second {
			t.Errorf("a request after %v", at)
		}
	}
	if len(requests) != 20 || len(moments) < 10 {
		t.Errorf("%d requests at %d moments, want 20 that are spread", len(requests), len(moments))
	}
	var told []string
	for line := range strings.Lines(words.String()) {
		if strings.Contains(line, "left alone") {
			_, after, _ := strings.Cut(line, "for=")
			told = append(told, strings.TrimSpace(after))
		}
	}
	if got := strings.Join(told, " "); got != "1m0s 45s 30s 15s" {
		t.Errorf("a person reads %q", got)
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// drip is a line on which every byte takes a while, told by how many have passed
// before it in its direction.
type drip struct {
	net.Conn
	down, up         func(before int) time.Duration
	received, passed int
}

func (d *drip) Read(p []byte) (int, error) {
	if d.up == nil || len(p) == 0 {
		return d.Conn.Read(p)
	}
	time.Sleep(d.up(d.received))
	n, err := d.Conn.Read(p[:1])
	d.received += n
	return n, err
}

func (d *drip) Write(p []byte) (int, error) {
	if d.down == nil {
		return d.Conn.Write(p)
	}
	for i := range p {
		time.Sleep(d.down(d.passed))
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
		d.passed++
	}
	return len(p), nil
}

// TestDripIsAlive (N16): in both directions a byte now and then keeps a transfer
// alive for hours, and a minute of silence ends it; the next try succeeds.
func TestDripIsAlive(t *testing.T) {
	t.Parallel()
	blob := bytes.Repeat([]byte("b"), 5000)
	desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: int64(len(blob))}
	every := func(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }
	once := func(d time.Duration) func(int) time.Duration {
		return func(before int) time.Duration {
			if before == 2000 {
				return d
			}
			return 0
		}
	}
	for name, tt := range map[string]struct {
		down, up        func(int) time.Duration // of the first line
		commit          time.Duration           // what the registry takes behind the last byte
		requests        string
		atLeast, atMost time.Duration
	}{
		"one byte a second comes":  {every(time.Second), nil, 0, "GET", 5000 * time.Second, 6000 * time.Second},
		"a byte comes in 59 s":     {once(59 * time.Second), nil, 0, "GET", 59 * time.Second, 60 * time.Second},
		"nothing comes for 61 s":   {once(61 * time.Second), nil, 0, "GET GET", 60 * time.Second, 63 * time.Second},
		"one byte a second leaves": {nil, every(time.Second), 0, "POST PUT", 5000 * time.Second, 6000 * time.Second},
		"a byte leaves in 59 s":    {nil, once(59 * time.Second), 0, "POST PUT", 59 * time.Second, 60 * time.Second},
		"nothing leaves for 71 s":  {nil, once(71 * time.Second), 0, "POST DELETE POST PUT", 60 * time.Second, 73 * time.Second},
		"the answer takes 299 s":   {nil, nil, 299 * time.Second, "POST PUT", 299 * time.Second, 300 * time.Second},
		"the answer takes 301 s":   {nil, nil, 301 * time.Second, "POST DELETE POST PUT", 300 * time.Second, 303 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var reg *registrytest.Registry
			commits := make(chan time.Duration, 10)
			handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Method == http.MethodPut {
					body, _ := io.ReadAll(req.Body)
					req.Body = io.NopCloser(bytes.NewReader(body))
					time.Sleep(<-commits)
				}
				reg.ServeHTTP(w, req)
			})
			lines := 0
			line := func(c net.Conn) net.Conn {
				if lines++; lines == 1 {
					return &drip{Conn: c, down: tt.down, up: tt.up}
				}
				return c
			}
			overPipes(t, handler, line, nil, func(t *testing.T, c *Client, repo oci.Repository) {
				reg = registrytest.New()
				commits = make(chan time.Duration, 10)
				commits <- tt.commit
				for range 9 {
					commits <- 0
				}
				began := time.Now()
				var err error
				if strings.HasPrefix(tt.requests, "POST") {
					err = c.PutBlob(t.Context(), repo, desc, bytes.NewReader(blob))
				} else {
					reg.PutBlob(repo.Path, blob)
					err = readBlob(t.Context(), c, repo, desc)
				}
				if took := time.Since(began); err != nil || took < tt.atLeast || took > tt.atMost {
					t.Errorf("after %v: %v; want %v to %v", took, err, tt.atLeast, tt.atMost)
				}
				var got []string
				for _, req := range reg.Requests() {
					got = append(got, req.Method)
				}
				if got := strings.Join(got, " "); got != tt.requests {
					t.Errorf("the registry was asked %s, want %s", got, tt.requests)
				}
			})
		})
	}
}

func readBlob(ctx context.Context, c *Client, repo oci.Repository, desc oci.Descriptor) error {
	body, _, err := c.Blob(ctx, repo, desc, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, body)
	return errors.Join(err, body.Close())
}

// TestShortTokens (N17): a push of 40 s with tokens of 2 s is refused nothing,
// for each token is renewed before its end; a blob that takes 10 s needs none.
func TestShortTokens(t *testing.T) {
	t.Parallel()
	var reg *registrytest.Registry
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPut {
			time.Sleep(200 * time.Millisecond)
		}
		reg.ServeHTTP(w, req)
	})
	inFakeTime(t, handler, nil, func(t *testing.T, c *Client, repo oci.Repository) {
		reg = registrytest.New(registrytest.WithTokenAuth(registrytest.TokenAuth{User: "u", Password: "p", Life: 2 * time.Second}))
		for i := range 200 {
			blob := []byte{byte(i)}
			desc := oci.Descriptor{Digest: oci.DigestOf(blob), Size: 1}
			if err := c.PutBlob(t.Context(), repo, desc, bytes.NewReader(blob)); err != nil {
				t.Fatal(err)
			}
		}
		slow := bytes.Repeat([]byte("s"), 100_000)
		desc := oci.Descriptor{Digest: oci.DigestOf(slow), Size: int64(len(slow))}
		if err := c.PutBlob(t.Context(), repo, desc, &slowly{bytes.NewReader(slow), 10 * time.Second}); err != nil {
			t.Fatal(err)
		}
		refused, tokens := 0, 0
		for _, req := range reg.Requests() {
			if req.Status == http.StatusUnauthorized {
				refused++
			}
			if req.Kind == registrytest.KindToken {
				tokens++
			}
		}
		if refused != 1 { // the first, which knew of no token
			t.Errorf("%d requests were refused, want 1", refused)
		}
		if tokens < 20 || tokens > 30 {
			t.Errorf("%d tokens for 50 s, want one for every 1.6 s", tokens)
		}
	})
}

// slowly takes its time before its first byte.
type slowly struct {
	*bytes.Reader
	time time.Duration
}

func (s *slowly) Read(p []byte) (int, error) {
	time.Sleep(s.time)
	s.time = 0
	return s.Reader.Read(p)
}
