package servers

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Request is one request that went through a recording proxy.
type Request struct {
	Method string
	Path   string
	Range  string
	Status int
	// Sent and Received are the bytes of the bodies as the client saw them:
	// sent to the registry, received from it.
	Sent, Received int64
}

// Log is what went through a recording proxy, in order of completion.
type Log struct {
	mu       sync.Mutex
	requests []Request
}

// Requests returns a copy of what there is so far. A request that is still
// under way is not in it.
func (l *Log) Requests() []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Request(nil), l.requests...)
}

// Count counts requests by method ("" is any) and a part of their path.
func (l *Log) Count(method, pathPart string) int {
	n := 0
	for _, r := range l.Requests() {
		if (method == "" || r.Method == method) && strings.Contains(r.Path, pathPart) {
			n++
		}
	}
	return n
}

// Bytes sums up the bodies of requests whose path has pathPart.
func (l *Log) Bytes(pathPart string) (sent, received int64) {
	for _, r := range l.Requests() {
		if strings.Contains(r.Path, pathPart) {
			sent += r.Sent
			received += r.Received
		}
	}
	return sent, received
}

// Recorded puts a recording proxy in front of the registry at upstream
// (host:port) and returns the proxy's host:port.
func Recorded(t testing.TB, upstream string) (addr string, log *Log) {
	t.Helper()
	log = &Log{}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1, // a client that breaks off must see what came before
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: upstream})
			r.Out.Host = r.In.Host // registries build absolute Locations from it
		},
	}
	server := httptest.NewServer(log.record(proxy))
	t.Cleanup(server.Close)
	return hostOf(server.URL), log
}

func (l *Log) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entry := Request{Method: r.Method, Path: r.URL.Path, Range: r.Header.Get("Range")}
		answer := &countedAnswer{ResponseWriter: w, entry: &entry}
		body := &countedBody{ReadCloser: r.Body}
		r.Body = body
		// Deferred, for the proxy panics to break off an answer.
		defer func() {
			entry.Sent = body.n
			l.mu.Lock()
			defer l.mu.Unlock()
			l.requests = append(l.requests, entry)
		}()
		next.ServeHTTP(answer, r)
	})
}

type countedBody struct {
	io.ReadCloser
	n int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}

type countedAnswer struct {
	http.ResponseWriter
	entry *Request
}

func (a *countedAnswer) WriteHeader(status int) {
	a.entry.Status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *countedAnswer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.entry.Received += int64(n)
	return n, err
}

// Unwrap lets the proxy flush.
func (a *countedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
