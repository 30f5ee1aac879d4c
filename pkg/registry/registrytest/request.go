package registrytest

import (
	"io"
	"net/http"
	"strings"
)

// Kind names the endpoint of a request.
type Kind string

// The endpoints.
const (
	KindPing     Kind = "ping"     // /v2/
	KindManifest Kind = "manifest" // /v2/<path>/manifests/<reference>
	KindBlob     Kind = "blob"     // /v2/<path>/blobs/<digest>
	KindUpload   Kind = "upload"   // /v2/<path>/blobs/uploads/[<session>]
	KindMount    Kind = "mount"    // the POST of an upload that asks for a mount
	KindTags     Kind = "tags"     // /v2/<path>/tags/list
	KindToken    Kind = "token"    // /token
	KindOther    Kind = "other"

	KindReferrers Kind = "referrers" // /v2/<path>/referrers/<digest>
)

// Request is one request as it was answered.
type Request struct {
	Method     string
	Path       string // URL path
	Query      string // raw
	Kind       Kind
	Repository string
	Reference  string // tag, digest or upload session
	Range      string // Range header
	Auth       bool   // an Authorization header was sent
	Status     int    // 0 when the connection was dropped or stalled before an answer
	BytesIn    int64  // body bytes read
	BytesOut   int64  // body bytes written
}

// Write reports whether the request could change the registry.
func (r Request) Write() bool {
	return r.Kind != KindToken && r.Method != http.MethodGet && r.Method != http.MethodHead
}

// Requests returns every request since the last Reset, in order of arrival.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Request, len(r.log))
	for i, entry := range r.log {
		out[i] = *entry
	}
	return out
}

// Count returns how many requests of kind were made with method since the last
// Reset. An empty method counts all.
func (r *Registry) Count(kind Kind, method string) int {
	n := 0
	for _, req := range r.Requests() {
		if req.Kind == kind && (method == "" || req.Method == method) {
			n++
		}
	}
	return n
}

// Writes returns the requests that could change the registry, in order.
func (r *Registry) Writes() []Request {
	var out []Request
	for _, req := range r.Requests() {
		if req.Write() {
			out = append(out, req)
		}
	}
	return out
}

// Reset forgets the requests so far; content and faults stay.
func (r *Registry) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = nil
}

// parse tells what req asks for.
func parse(req *http.Request) *Request {
	p := &Request{
		Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Kind: KindOther,
		Range: req.Header.Get("Range"), Auth: req.Header.Get("Authorization") != "",
	}
	rest, ok := strings.CutPrefix(req.URL.Path, "/v2/")
	switch {
	case req.URL.Path == "/token":
		p.Kind = KindToken
		return p
	case req.URL.Path == "/v2" || ok && rest == "":
		p.Kind = KindPing
		return p
	case !ok:
		return p
	}
	for _, endpoint := range []struct {
		kind Kind
		mark string
	}{{KindUpload, "/blobs/uploads/"}, {KindBlob, "/blobs/"}, {KindManifest, "/manifests/"}, {KindTags, "/tags/"}, {KindReferrers, "/referrers/"}} {
		// The last mark counts: a repository may be named "blobs".
		if i := strings.LastIndex(rest, endpoint.mark); i > len(p.Repository) {
			p.Kind, p.Repository, p.Reference = endpoint.kind, rest[:i], rest[i+len(endpoint.mark):]
		}
	}
	if p.Kind == KindTags {
		p.Reference = ""
	}
	if p.Kind == KindUpload && req.Method == http.MethodPost && req.URL.Query().Has("mount") {
		p.Kind, p.Reference = KindMount, req.URL.Query().Get("mount")
	}
	return p
}

// recorder writes an answer, counts it into the log and applies the faults
// that concern the body. Counts change before the bytes leave, so a client
// that has its answer finds it counted.
type recorder struct {
	http.ResponseWriter
	reg   *Registry
	entry *Request
	fault *Fault // may be nil
	req   *http.Request
	sent  int64
}

// Unwrap lets http.ResponseController find Flush.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	w.reg.mu.Lock()
	if w.entry.Status == 0 {
		w.entry.Status = status
	}
	w.reg.mu.Unlock()
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) count(n int64) {
	w.reg.mu.Lock()
	defer w.reg.mu.Unlock()
	w.entry.BytesOut += n
	if w.entry.Status == 0 {
		w.entry.Status = http.StatusOK
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.fault != nil {
		return w.writeFaulty(p)
	}
	w.count(int64(len(p)))
	return w.ResponseWriter.Write(p)
}

// ReadFrom keeps sendfile possible for blobs in files.
func (w *recorder) ReadFrom(src io.Reader) (int64, error) {
	limited, ok := src.(*io.LimitedReader)
	if w.fault != nil || !ok {
		return io.Copy(struct{ io.Writer }{w}, src)
	}
	want := limited.N
	w.count(want)
	n, err := io.Copy(w.ResponseWriter, src)
	w.count(n - want)
	return n, err
}

// countingBody counts the body bytes that the registry read.
type countingBody struct {
	io.ReadCloser
	reg   *Registry
	entry *Request
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.reg.mu.Lock()
	b.entry.BytesIn += int64(n)
	b.reg.mu.Unlock()
	return n, err
}
