package fault

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestKindAndHint(t *testing.T) {
	inner := New(Transient, "blob", errors.New("reset")).Hint("try again")
	outer := fmt.Errorf("while fetching: %w", New(Protocol, "registry", inner))
	if KindOf(outer) != Protocol {
		t.Errorf("kind is %v, want the outermost, protocol", KindOf(outer))
	}
	if !errors.Is(outer, Transient) {
		t.Error("the inner kind is lost")
	}
	if got := HintOf(outer); got != "try again" {
		t.Errorf("hint is %q, want the one that is there", got)
	}
	if got, want := outer.Error(), "while fetching: registry: blob: reset"; got != want {
		t.Errorf("text is %q, want %q", got, want)
	}
}

func TestKindOfForeignErrors(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want *Kind
	}{
		{nil, nil},
		{errors.New("x"), nil},
		{fmt.Errorf("x: %w", context.Canceled), Cancelled},
		{context.DeadlineExceeded, Transient},
		{fmt.Errorf("x: %w", NotFound), NotFound},
	} {
		if got := KindOf(tc.err); got != tc.want {
			t.Errorf("KindOf(%v) is %v, want %v", tc.err, got, tc.want)
		}
	}
}

func TestPartOfAnImage(t *testing.T) {
	if err := Part("h/a:v1", New(NotFound, "layer", nil)); KindOf(err) != Protocol || errors.Is(err, NotFound) {
		t.Errorf("a missing part became %v of kind %v", err, KindOf(err))
	}
	if err := Part("h/a:v1", New(Denied, "layer", nil)); KindOf(err) != Denied {
		t.Errorf("a refused part became %v of kind %v", err, KindOf(err))
	}
}

func TestAboutKeepsTheKind(t *testing.T) {
	err := About("h/a:v1", New(Denied, "token", errors.New("401")))
	if KindOf(err) != Denied || SubjectOf(err) != "h/a:v1" {
		t.Errorf("kind %v, subject %q", KindOf(err), SubjectOf(err))
	}
	if err := About("h/a:v1", errors.New("x")); KindOf(err) != nil || err.Error() != "h/a:v1: x" {
		t.Errorf("an unclassified error became %v of kind %v", err, KindOf(err))
	}
}

// S2.6: the outermost cause counts, however deep it lies; what has none has none.
func TestCauseOf(t *testing.T) {
	inner := New(Transient, "blob", errors.New("reset")).Because(ConnectionCut)
	for _, tc := range []struct {
		name string
		err  error
		want *Cause
	}{
		{"nothing", nil, nil},
		{"foreign", errors.New("x"), nil},
		{"none", New(Local, "x", nil).Hint("h"), nil},
		{"its own", inner, ConnectionCut},
		{"wrapped", fmt.Errorf("given up: %w", About("layer", inner)), ConnectionCut},
		{"the outermost", New(Local, "x", inner).Because(DiskFull), DiskFull},
		{"unknown to the caller", New(Local, "x", inner).Because(nil), ConnectionCut},
	} {
		if got := CauseOf(tc.err); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
	likely := Timeout.Likely()
	likely[0] = "changed"
	if Timeout.Likely()[0] == "changed" {
		t.Error("a reader can change what a cause says")
	}
}

// What takes longer than a program waits keeps its kind, and so its exit status,
// but is not repeated.
func TestHeals(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{New(Transient, "x", cause), true},
		{New(RateLimited, "x", cause), true},
		{Newf(RateLimited, "x", "%w: %w", cause, ErrNotSoon), false},
		{About("y", Newf(Transient, "x", "%w", ErrNotSoon)), false},
		{New(Denied, "x", cause), false},
		{cause, false},
		{nil, false},
	} {
		if got := Heals(tt.err); got != tt.want {
			t.Errorf("%v heals: %t, want %t", tt.err, got, tt.want)
		}
	}
}
