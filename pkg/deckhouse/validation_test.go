package deckhouse

import (
	"strings"
	"testing"

	"ferry/pkg/fault"
)

// What a pull refuses at once, by the rows of S2.4, with the words that lead out
// of it.
func TestValidationExplains(t *testing.T) {
	for _, tc := range []struct {
		row    string
		policy Policy
		want   []string // in the error or its hint; none means accepted
	}{
		{"S2.4.1, the default", Policy{}, nil},
		{"S2.4.1, any other edition", Policy{Source: "registry.example:5000/mirror/fe/"}, nil},
		{"S2.4.1, a registry", Policy{Source: "registry.example"}, []string{"--source", "registry.example/deckhouse/ee"}},
		{"S2.4.1, a slash is no path", Policy{Source: "registry.example:5000/"}, []string{"--source", "registry.example:5000/deckhouse/ee"}},
		{"S2.4.1, capital letters", Policy{Source: "registry.example/Deckhouse/EE"}, []string{"--source", "registry.example/deckhouse/ee", "capital"}},
		{"S2.4.1, a scheme", Policy{Source: "https://registry.example/deckhouse/ee"}, []string{"--source", "scheme"}},
		{"S2.4.1, other characters", Policy{Source: "registry.example/deck house"}, []string{"--source", DefaultSource}},
		{"S2.4.1, no host", Policy{Source: "/deckhouse/ee"}, []string{"--source", DefaultSource}},
		{"S2.4.2", Policy{SinceVersion: "1.64", DeckhouseTag: "v1.65.0"}, []string{"--since-version and --deckhouse-tag", "ambiguous"}},
		{"S2.4.2", Policy{IncludePlatform: ">=1.64", DeckhouseTag: "v1.65.0"}, []string{"--include-platform and --deckhouse-tag", "ambiguous"}},
		{"S2.4.2", Policy{IncludePlatform: ">=1.64", SinceVersion: "1.64"}, []string{"--include-platform and --since-version", "ambiguous"}},
		{"S2.4.3, short", Policy{SinceVersion: "1.64"}, nil},
		{"S2.4.3, long", Policy{SinceVersion: "v1.64.0-rc.1+x"}, nil},
		{"S2.4.3", Policy{SinceVersion: "stable"}, []string{"--since-version", "not a version"}},
		{"S2.4.4", Policy{IncludePlatform: ">=1.64 <=1.68"}, nil},
		{"S2.4.4", Policy{IncludePlatform: "everything"}, []string{"--include-platform", "write =TAG"}},
		{"S2.4.4, the shell took the operator", Policy{IncludePlatform: "/media/disk"}, []string{"--include-platform", "looks like a path", "quote"}},
		{"S2.4.12, name@", Policy{IncludeModules: []string{"console@"}}, []string{"--include-module", "console", "empty", "quote"}},
		{"S2.4.12, name@", Policy{ExcludePackages: []string{"console@ "}}, []string{"--exclude-package", "console", "empty", "quote"}},
	} {
		err := tc.policy.Validate()
		if tc.want == nil {
			if err != nil {
				t.Errorf("%s: %+v is refused: %v", tc.row, tc.policy, err)
			}
			continue
		}
		if fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %+v gives %v, want a usage fault", tc.row, tc.policy, err)
			continue
		}
		text := err.Error() + " | " + fault.HintOf(err)
		for _, want := range tc.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q lacks %q", tc.row, text, want)
			}
		}
	}
}

// S2.6: a source without release channels is explained.
func TestNoChannelsIsACause(t *testing.T) {
	for _, p := range []Policy{{}, {DeckhouseTag: "stable"}} {
		_, _, err := Select(platformCatalog("", "v1.70.0").CatalogSpec, onlyPlatform(p))
		if cause := fault.CauseOf(err); cause == nil || cause.Name() != "no-release-channels" {
			t.Errorf("%+v: cause %v of %v", p, cause, err)
		}
	}
	_, _, err := Select(platformCatalog(fiveChannels, fiveTags).CatalogSpec, onlyPlatform(Policy{DeckhouseTag: "lts"}))
	if cause := fault.CauseOf(err); cause != nil {
		t.Errorf("channels are there, but the cause of %v is %s", err, cause.Name())
	}
}
