package soak

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Faults counts what a proxy did, by name.
type Faults map[string]int

// Sum is how many they are.
func (f Faults) Sum() (n int) {
	for _, count := range f {
		n += count
	}
	return n
}

// proxy stands in front of a registry, and spoils some of what passes. Whether
// a request meets a fault depends on the seed, on what it asks for and on how often
// that was asked before, not on the order in which requests happen to come.
type proxy struct {
	requests atomic.Int64 // since the stage began

	mu      sync.Mutex
	target  http.Handler
	seed    uint64 // 0: nothing is spoilt
	seen    map[string]int
	counted Faults
}

// begin makes the proxy spoil requests to target by seed.
func (p *proxy) begin(target http.Handler, seed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target, p.seed, p.seen = target, seed, map[string]int{}
}

// faultRate is one of how many first requests is spoilt; every further try of the
// same is spoilt less often, so that each loop ends.
const faultRate = 16

// faults are what may happen to a request; which of them fit, spoil says.
var faults = []string{"dropped", "answer lost", "answer cut", "answer too short", "stalled", "429", "500", "502 page", "503", "wrong bytes", "upload cut"}

// choose returns the fault of a request, "" for none.
func (p *proxy) choose(req *http.Request) (fault string, target http.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seed == 0 {
		return "", p.target
	}
	what := req.Method + " " + req.URL.Path
	if strings.Contains(req.URL.Path, "/uploads/") { // a session's name tells nothing
		what = req.Method + " " + req.URL.Path[:strings.Index(req.URL.Path, "/uploads/")] + req.URL.Query().Get("digest")
	}
	p.seen[what]++
	hash := fnv.New64a()
	_ = binary.Write(hash, binary.LittleEndian, []uint64{p.seed, uint64(p.seen[what])})
	_, _ = io.WriteString(hash, what)
	chance := mix(hash.Sum64())
	if chance%uint64(faultRate*p.seen[what]) != 0 {
		return "", p.target
	}
	fault = faults[(chance>>32)%uint64(len(faults))]
	if !fits(fault, req) {
		fault = "dropped"
	}
	if p.counted == nil {
		p.counted = Faults{}
	}
	p.counted[fault]++
	return fault, p.target
}

// mix spreads what a hash of similar texts leaves together (the finalizer of
// MurmurHash3).
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// fits reports whether the fault can be noticed at all: wrong bytes of a tag or of
// a list cannot, for nothing says what they should be.
func fits(fault string, req *http.Request) bool {
	switch fault {
	case "wrong bytes":
		return req.Method == http.MethodGet && strings.Contains(req.URL.Path, "sha256:")
	case "answer too short":
		return req.Method == http.MethodGet
	case "upload cut":
		return req.Method == http.MethodPut && req.ContentLength > 1
	}
	return true
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	p.requests.Add(1)
	fault, target := p.choose(req)
	spoil(w, req, fault, target)
}

// spoil lets target answer, in the way that fault says.
func spoil(w http.ResponseWriter, req *http.Request, fault string, target http.Handler) {
	switch fault {
	case "dropped":
		panic(http.ErrAbortHandler)
	case "stalled":
		<-req.Context().Done()
		panic(http.ErrAbortHandler)
	case "upload cut":
		_, _ = io.CopyN(io.Discard, req.Body, req.ContentLength/2)
		panic(http.ErrAbortHandler)
	case "429":
		w.Header().Set("Retry-After", strconv.Itoa(len(req.URL.Path)%2))
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case "500", "503":
		status, _ := strconv.Atoi(fault)
		w.WriteHeader(status)
		return
	case "502 page":
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "<html>bad gateway</html>")
		return
	case "":
		target.ServeHTTP(w, req)
		return
	}
	answer := httptest.NewRecorder()
	target.ServeHTTP(answer, req)
	if fault == "answer lost" {
		panic(http.ErrAbortHandler)
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	body := answer.Body.Bytes()
	switch {
	case len(body) == 0:
	case fault == "wrong bytes":
		body = bytes.Clone(body)
		body[len(body)/2] ^= 0x40
	case fault == "answer too short":
		body = body[:len(body)/2]
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(answer.Code)
	if fault == "answer cut" {
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}
