package registrytest

import (
	"net/http"

	"ferry/pkg/oci"
)

// Option changes how a Registry behaves. A [Quirk] is one, too.
type Option interface{ apply(*options) }

type option func(*options)

func (f option) apply(o *options) { f(o) }

// Quirk is one way in which registries in the field differ from the
// distribution-spec, or from each other. Each is a switch: what is true of a
// registry is given to [New], together with any others. Where a quirk is known in
// several forms there is a value for each. Those that are not switches are
// properties of content: Q3, an address without a path; Q39, see [Q39Collects].
//
// A quirk may count what it has done, from New on; a value can be used for any
// number of registries.
type Quirk struct {
	Code string // "Q13", as docs/failures.md has it
	Name string // what the registry does
	set  func(*options)
}

func (q Quirk) apply(o *options) { q.set(o) }

func (q Quirk) String() string { return q.Code + " " + q.Name }

// quirks is what the switches have changed.
type quirks struct {
	instead   []instead
	edits     []edit
	judges    []judge
	token     func(map[string]any) // changes the token server's answer
	pageSize  int
	pageStyle PageStyle
	prefix    string // of all paths
	openRead  bool   // reading needs no login
	sparse    bool   // children may be missing
	foreign   bool   // foreign layers must be there, too
	closeIdle bool   // idle connections are closed at once
}

// instead answers a request in the registry's place, and reports whether it did.
type instead func(r *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool

// edit changes an answer before its status and header leave.
type edit func(a *answering)

// judge refuses a manifest that is well-formed, or returns nil. r.mu is held.
type judge func(r *Registry, p *Request, m *oci.Manifest, body []byte) *refused

// refused is an error answer.
type refused struct {
	status        int
	code, message string
}

func quirk(code, name string, set func(*options)) Quirk { return Quirk{code, name, set} }

func answers(code, name string, f instead) Quirk {
	return quirk(code, name, func(o *options) { o.quirks.instead = append(o.quirks.instead, f) })
}

func edits(code, name string, f edit) Quirk {
	return quirk(code, name, func(o *options) { o.quirks.edits = append(o.quirks.edits, f) })
}

func judges(code, name string, f judge) Quirk {
	return quirk(code, name, func(o *options) { o.quirks.judges = append(o.quirks.judges, f) })
}

// answering is an answer that quirks may edit.
type answering struct {
	http.ResponseWriter
	edits  []edit
	req    *http.Request
	p      *Request
	status int // 0 before there is one
}

// Unwrap lets http.ResponseController find Flush.
func (a *answering) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answering) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	a.status = status
	for _, f := range a.edits {
		f(a)
	}
	a.ResponseWriter.WriteHeader(a.status)
}

func (a *answering) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.status == http.StatusNoContent {
		return len(p), nil
	}
	return a.ResponseWriter.Write(p)
}

// codeOf is the code that registries send with a status.
func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "NAME_INVALID"
	case http.StatusUnauthorized:
		return "UNAUTHORIZED"
	case http.StatusForbidden:
		return "DENIED"
	case http.StatusNotFound:
		return "NAME_UNKNOWN"
	case http.StatusTooManyRequests:
		return "TOOMANYREQUESTS"
	case http.StatusRequestEntityTooLarge, http.StatusRequestedRangeNotSatisfiable:
		return "SIZE_INVALID"
	case http.StatusMethodNotAllowed:
		return "UNSUPPORTED"
	}
	return "UNKNOWN"
}

// refuse writes the error document that goes with status.
func refuse(w http.ResponseWriter, status int, message string) bool {
	writeError(w, status, codeOf(status), message)
	return true
}
