// Package fault names what can go wrong in the words an operator acts on.
//
// Every error that leaves a package of ferry either carries one of the kinds
// below or is a defect of ours. A kind answers one question: what does a script
// do next? It is found with errors.Is, and pkg/stage maps it to an exit status
// in one table. Packages wrap once, where they know the subject and can tell
// the reader what to do:
//
//	return fault.New(fault.Damaged, "platform.tar", err).Hint("copy the file again from the medium")
package fault

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// Kind classifies an error. Kinds are compared by identity with errors.Is.
type Kind struct{ name string }

// Error makes a Kind usable as the target of errors.Is.
func (k *Kind) Error() string { return k.name }

// The kinds. The comment of each says what a script does when it meets one.
var (
	// NotFound is a definite "it is not there": a 404, or the registry's
	// MANIFEST_UNKNOWN, NAME_UNKNOWN or BLOB_UNKNOWN. Never a refusal, a
	// time-out or a cancel: only this kind lets an optional image be skipped.
	NotFound = &Kind{"not found"}
	// Denied is a refusal for want of credentials, rights, a licence, or of a
	// signature that is required. A wrong signature is Damaged.
	Denied = &Kind{"denied"}
	// RateLimited is a refusal for asking too often; the same command
	// continues later.
	RateLimited = &Kind{"rate limited"}
	// Transient heals by itself: network failures, time-outs, 5xx. The same
	// command continues.
	Transient = &Kind{"transient"}
	// Protocol means that the other side broke a promise: a digest that does
	// not match, a manifest that contradicts itself, HTML instead of JSON.
	Protocol = &Kind{"protocol"}
	// Unsupported is something the other side cannot do (no tag list, a media
	// type it refuses).
	Unsupported = &Kind{"unsupported"}
	// Damaged is an input document, archive or blob that is cut, altered,
	// missing, or of another kind or version than expected.
	Damaged = &Kind{"damaged"}
	// Local is a failure of this machine's disk: full, read-only, sync failed.
	Local = &Kind{"local disk"}
	// Policy means that what was asked for may not or cannot be selected: a
	// suspended channel, an include that nothing satisfies.
	Policy = &Kind{"policy"}
	// Usage is a command line that cannot be carried out.
	Usage = &Kind{"usage"}
	// Cancelled is an interrupt; everything finished so far is kept.
	Cancelled = &Kind{"cancelled"}
)

// Error is an error with a kind, the thing it happened to, and advice: a hint
// for this very case, and perhaps a [Cause] with what is known of such cases.
type Error struct {
	kind    *Kind
	cause   *Cause // nil where nobody knows one
	subject string
	hint    string
	err     error
}

// New wraps err (which may be nil) as kind, having happened to subject: a
// file, a reference, a flag.
func New(kind *Kind, subject string, err error) *Error {
	return &Error{kind: kind, subject: subject, err: err}
}

// Newf is New with a formatted cause; %w works as in fmt.Errorf.
func Newf(kind *Kind, subject, format string, args ...any) *Error {
	return New(kind, subject, fmt.Errorf(format, args...))
}

// About names the thing that err happened to and keeps its kind, also when it
// has none: for work on many things, of which each failure is reported alone.
func About(subject string, err error) *Error { return New(KindOf(err), subject, err) }

// Hint adds what the reader can do about it, one sentence without a full stop.
func (e *Error) Hint(format string, args ...any) *Error {
	e.hint = fmt.Sprintf(format, args...)
	return e
}

func (e *Error) Error() string {
	switch {
	case e.err == nil && e.subject == "":
		return e.kind.name
	case e.err == nil:
		return e.subject + ": " + e.kind.name
	case e.subject == "":
		return e.err.Error()
	}
	return e.subject + ": " + e.err.Error()
}

// Unwrap lets errors.Is find both the kind and the cause.
func (e *Error) Unwrap() []error {
	var list []error
	if e.kind != nil {
		list = append(list, e.kind)
	}
	if e.err != nil {
		list = append(list, e.err)
	}
	return list
}

// KindOf returns the kind of err, looking at the outermost one first, or nil
// for an error that nobody classified. A cancelled context is Cancelled, an
// expired deadline Transient.
func KindOf(err error) *Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.kind
	}
	var k *Kind
	if errors.As(err, &k) {
		return k
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Cancelled
	case errors.Is(err, context.DeadlineExceeded):
		return Transient
	}
	return nil
}

// SubjectOf returns what err happened to, as the outermost Error says, or "".
func SubjectOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.subject
	}
	return ""
}

// ErrNotSoon marks, as a cause found with errors.Is, a failure that heals by itself,
// but takes longer than a program waits: whoever is asked wants to be left alone.
// The same command continues, later.
var ErrNotSoon = errors.New("it takes longer than ferry waits")

// Heals reports whether the same request may succeed soon, without anybody
// doing anything about it.
func Heals(err error) bool {
	kind := KindOf(err)
	return (kind == Transient || kind == RateLimited) && !errors.Is(err, ErrNotSoon)
}

// Part turns the absence of a part of subject, an image that is there, into
// Protocol: it must not count as the absence of the image, which may be
// optional. Other errors pass unchanged.
func Part(subject string, err error) error {
	if KindOf(err) != NotFound {
		return err
	}
	return Newf(Protocol, subject, "the source has the image, but not all of it: %v", err)
}

// HintOf returns the outermost advice that err carries, or "".
func HintOf(err error) string {
	for e := range layers(err) {
		if e.hint != "" {
			return e.hint
		}
	}
	return ""
}

// layers yields the Errors that err is wrapped in, the outermost first.
func layers(err error) iter.Seq[*Error] {
	return func(yield func(*Error) bool) {
		var e *Error
		for errors.As(err, &e) && yield(e) {
			err = e.err
		}
	}
}
