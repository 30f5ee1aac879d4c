package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/transfer"
)

func TestPrefixes(t *testing.T) {
	for _, tc := range []struct {
		flag string
		want transfer.Prefix
	}{
		{"modules=my/mods", transfer.Prefix{From: "modules", To: "my/mods"}},
		{"/modules/=my/mods/", transfer.Prefix{From: "modules", To: "my/mods"}},
		{"modules=", transfer.Prefix{From: "modules"}},
		{"installer=/mirror/installer", transfer.Prefix{From: "installer", To: "mirror/installer", Absolute: true}},
		{"a/b=/c/", transfer.Prefix{From: "a/b", To: "c", Absolute: true}},
	} {
		got, err := (&flags{Map: []string{tc.flag}}).prefixes()
		if err != nil {
			t.Errorf("%s: %v", tc.flag, err)
		}
		if diff := cmp.Diff([]transfer.Prefix{tc.want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.flag, diff)
		}
	}
	for _, flag := range []string{"", "modules", "=x", "/=x", "modules=/", "modules=//"} {
		if got, err := (&flags{Map: []string{flag}}).prefixes(); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q gives %v and %v, want usage", flag, got, err)
		}
	}
}

// S7.5.2: d8's flag never leaves the target, whatever slashes it has; a --map of
// the same repositories goes before it.
func TestModulesPathSuffix(t *testing.T) {
	for suffix, want := range map[string]string{"/": "", "/my/mods": "my/mods", "my/mods/": "my/mods"} {
		got, err := (&flags{Map: []string{"modules/x=y"}, ModulesPathSuffix: suffix}).prefixes()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]transfer.Prefix{{From: "modules/x", To: "y"}, {From: "modules", To: want}}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", suffix, diff)
		}
	}
}

// What stands outside of the target is told, not only done.
func TestElsewhere(t *testing.T) {
	receipt := contract.ReceiptSpec{Target: "h/mirror/ee"}
	for _, repo := range []string{"h/mirror/ee", "h/mirror/ee/install"} {
		receipt.Tags = append(receipt.Tags, contract.ReceiptTag{Repository: repo})
	}
	if got := elsewhere(&receipt); got != "" {
		t.Errorf("all below the target: %q", got)
	}
	for _, repo := range []string{"h/mirror/installer", "h/mirror/ee-old/install"} {
		receipt.Tags = append(receipt.Tags, contract.ReceiptTag{Repository: repo})
	}
	if got := elsewhere(&receipt); got != ", 2 of them outside of it (--map)" {
		t.Errorf("two beside it: %q", got)
	}
}
