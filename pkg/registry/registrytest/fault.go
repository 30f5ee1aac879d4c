package registrytest

import (
	"io"
	"net/http"
	"strings"

	"ferry/pkg/oci"
)

// Fault makes matching requests go wrong. The matching fields that are set
// must all fit; the effect is the first that is set, from top to bottom, but
// Header always applies.
type Fault struct {
	Method     string
	Kind       Kind
	Repository string
	Reference  string     // tag, digest or upload session
	Digest     oci.Digest // as Reference, typed
	Match      func(*http.Request) bool

	// Skip lets so many matching requests pass first; Times is how many then
	// fail, 0 meaning one and Always all.
	Skip  int
	Times int

	Header http.Header // added to the answer

	// Drop closes the connection without an answer.
	Drop bool
	// LoseAnswer carries the request out, then closes the connection.
	LoseAnswer bool
	// Stall answers nothing until Release, after which the request is
	// served, or the client gives up. With CutAfter it stalls in the body.
	Stall bool
	// CutAfter sends the full Content-Length and closes the connection after
	// so many body bytes.
	CutAfter int64
	// Status answers with this status, Body and ContentType. When Body is ""
	// it is an error document of the distribution-spec.
	Status int
	// Body replaces the body of an answer with status 200, or Status.
	Body        string
	ContentType string
	RetryAfter  string
	// WrongBody alters the first byte of the body.
	WrongBody bool
	// NoRange ignores a Range header.
	NoRange bool
}

// Always as Fault.Times makes a fault permanent.
const Always = -1

// Inject adds a fault. Of several that match a request the one injected first
// applies, until it is used up.
func (r *Registry) Inject(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	if f.Digest != "" {
		f.Reference = string(f.Digest)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &f)
}

// Heal removes all faults, and makes room where a quota was full (Q38).
func (r *Registry) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults, r.roomy = nil, true
}

// Release lets every stalled request go on.
func (r *Registry) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.release)
	r.release = make(chan struct{})
}

// takeFault returns the fault for this request, counting it down. r.mu is held.
func (r *Registry) takeFault(req *http.Request, p *Request) *Fault {
	for _, f := range r.faults {
		if f.Times == 0 || !f.matches(req, p) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		return f
	}
	return nil
}

func (f *Fault) matches(req *http.Request, p *Request) bool {
	return (f.Method == "" || f.Method == p.Method) &&
		(f.Kind == "" || f.Kind == p.Kind) &&
		(f.Repository == "" || f.Repository == p.Repository) &&
		(f.Reference == "" || f.Reference == p.Reference) &&
		(f.Match == nil || f.Match(req))
}

// instead applies the faults that replace the answer. False means that the
// request is to be served, with the faults of the body.
func (w *recorder) instead(serve http.HandlerFunc) bool {
	f := w.fault
	for name, values := range f.Header {
		w.Header()[name] = values
	}
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	switch {
	case f.Drop:
		w.drop()
	case f.LoseAnswer:
		serve(&lostAnswer{header: http.Header{}}, w.req)
		w.drop()
	case f.Stall && f.CutAfter == 0:
		w.stall()
		w.fault = nil
	case f.CutAfter > 0:
	case f.Status != 0 || f.Body != "":
		w.fault = nil
		f.answer(w)
		return true
	}
	if f.NoRange {
		w.req.Header.Del("Range")
	}
	return false
}

// drop closes the connection within the status line. Without that first byte a
// client of net/http repeats a GET unseen when the connection was not new, and
// the fault would work by chance.
func (w *recorder) drop() {
	conn, buf, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		buf.WriteString("HTTP/1.1 ")
		buf.Flush()
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}

func (f *Fault) answer(w http.ResponseWriter) {
	status := f.Status
	if status == 0 {
		status = http.StatusOK
	}
	if f.Body == "" && f.ContentType == "" {
		writeError(w, status, "FAULT", http.StatusText(status))
		return
	}
	if f.ContentType != "" {
		w.Header().Set("Content-Type", f.ContentType)
	}
	w.WriteHeader(status)
	io.Copy(w, strings.NewReader(f.Body)) // a client that went away is no concern of ours
}

// stall waits for Release; when the client gives up or the server stops, the
// connection is closed.
func (w *recorder) stall() {
	w.reg.mu.Lock()
	release := w.reg.release
	w.reg.mu.Unlock()
	select {
	case <-release:
	case <-w.req.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// writeFaulty writes p with the body's faults.
func (w *recorder) writeFaulty(p []byte) (int, error) {
	f := w.fault
	if f.CutAfter > 0 && w.sent+int64(len(p)) >= f.CutAfter {
		head := p[:f.CutAfter-w.sent]
		w.fault = nil
		if err := w.flush(head); err != nil {
			return 0, err
		}
		if !f.Stall {
			panic(http.ErrAbortHandler)
		}
		w.stall()
		n, err := w.Write(p[len(head):])
		return len(head) + n, err
	}
	if f.WrongBody && w.sent == 0 && len(p) > 0 {
		p = append([]byte{p[0] ^ 0xff}, p[1:]...)
	}
	w.count(int64(len(p)))
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

// flush sends p at once: what net/http buffers is lost with the connection.
func (w *recorder) flush(p []byte) error {
	if _, err := w.Write(p); err != nil {
		return err
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// lostAnswer takes an answer that nobody will see.
type lostAnswer struct{ header http.Header }

func (w *lostAnswer) Header() http.Header         { return w.header }
func (w *lostAnswer) Write(p []byte) (int, error) { return len(p), nil }
func (w *lostAnswer) WriteHeader(int)             {}
