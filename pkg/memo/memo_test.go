package memo

import (
	"errors"
	"testing"
)

// A repository that lacks what another one has does not keep that one from being
// asked.
func TestSettledTriesAgain(t *testing.T) {
	var s Settled[string, int]
	failure := errors.New("not here")
	if _, err := s.Get("k", func() (int, error) { return 1, failure }); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	if v, err := s.Get("k", func() (int, error) { return 2, nil }); v != 2 || err != nil {
		t.Errorf("got %d, %v", v, err)
	}
	if v, err := s.Get("k", func() (int, error) { return 3, nil }); v != 2 || err != nil {
		t.Errorf("a settled value was computed again: %d, %v", v, err)
	}
}
