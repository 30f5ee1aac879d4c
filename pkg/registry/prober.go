package registry

import (
	"context"
	"net/url"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Prober asks a registry single questions, to find out what it can do. A refusal
// is an answer here, never an error; errors are what keeps the registry from
// answering. Kinds: Denied (no token was given), Transient, Protocol, Cancelled.
type Prober interface {
	Target

	// Ask makes one request about a repository. An upload that it opens is
	// cancelled before Ask returns.
	Ask(ctx context.Context, q Question) (Answer, error)

	// AskUpload begins an upload in repo, sends it as trial says, and cancels
	// it. Nothing is left behind where the registry lets uploads be cancelled.
	AskUpload(ctx context.Context, repo oci.Repository, trial Trial) (UploadAnswer, error)
}

// Question is a request to a registry.
type Question struct {
	Method     string
	Repository oci.Repository
	// Path is what stands behind the repository: "/tags/list".
	Path  string
	Query url.Values
	// Body is sent as MediaType; nil for none.
	Body      []byte
	MediaType string
	// From is the path of another repository that is read from.
	From string
}

// Answer is how a registry answered.
type Answer struct {
	Status int
	// Kind is the fault that a refusal is, nil for a success.
	Kind *fault.Kind
	// Code and Text are of its error document: "NAME_INVALID". Text is safe to
	// print.
	Code, Text string
	// Header is that of a success, by canonical names. It is no http.Header, which
	// would link a network into stages that have none.
	Header map[string][]string
	Body   []byte // of a success, at most oci.ManifestLimit
}

// Success reports whether the registry did what it was asked.
func (a Answer) Success() bool { return a.Status >= 200 && a.Status < 300 && a.Kind == nil }

// Trial is what is sent into an upload that will be cancelled: nothing in the
// zero value.
type Trial struct {
	// Zeros is how many zero bytes one request carries.
	Zeros int64
	// Whole sends them as a whole blob of a digest that they do not have, which
	// no registry may keep; else they are a chunk.
	Whole bool
}

// UploadAnswer is how a registry answered to an upload.
type UploadAnswer struct {
	// Begin is the answer to the start; Sent that to the bytes, where Trial has
	// some and the start was accepted, else the zero value.
	Begin, Sent Answer
	// Cancel is the answer to the cancelling of what was open at the end; the
	// zero value where nothing was.
	Cancel Answer
}
