package connect

import (
	"testing"

	"ferry/pkg/fault"
)

// Q2, Q3, S7.2.1: what is wrong with a target is said with the user's own
// address in the example.
func TestRepository(t *testing.T) {
	for _, tc := range []struct{ in, want, hint string }{
		{"registry.example/deckhouse", "registry.example/deckhouse", ""},
		{"https://registry.example:5000/deckhouse/ee/", "registry.example:5000/deckhouse/ee", ""},
		{"registry.example:5000", "", "for example registry.example:5000/deckhouse"},
		{"registry.example/", "", "for example registry.example/deckhouse"},
		{"registry.example/Deckhouse", "", ""},
		{"", "", ""},
	} {
		got, err := Repository("target", tc.in)
		if tc.want == "" {
			if fault.KindOf(err) != fault.Usage || fault.HintOf(err) != tc.hint {
				t.Errorf("%q: got %v (hint %q), want usage with hint %q", tc.in, err, fault.HintOf(err), tc.hint)
			}
			continue
		}
		if err != nil || got.String() != tc.want {
			t.Errorf("%q: got %s, %v, want %s", tc.in, got, err, tc.want)
		}
	}
}

func TestHostOf(t *testing.T) {
	for _, tc := range []struct {
		references []string
		want       string
	}{
		{nil, ""},
		{[]string{"h:5000/a:v1", "h:5000/b@sha256:x"}, "h:5000"},
		{[]string{"h/a:v1", "k/a:v1"}, ""},
		{[]string{"h/a:v1", "k/a:v1", "h/b:v1"}, ""},
	} {
		if got := HostOf(tc.references); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.references, got, tc.want)
		}
	}
}
