package deckhouse

import (
	"slices"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"

	"github.com/google/go-cmp/cmp"
)

// S4.1.1, S4.1.2, S4.1.3, S4.1.4, S4.1.5, S4.1.6, S4.1.7, S2.4.7, S2.4.11, S9 row 75:
// what cannot be asked of a proxy is refused before any request.
func TestProxyPolicy(t *testing.T) {
	proxy := func(p Policy) Policy {
		p.ProxyRegistry = true
		return p
	}
	platform := func(p Policy) Policy {
		p.NoModules, p.NoPackages = true, true
		return proxy(p)
	}
	for _, tc := range []struct {
		name       string
		policy     Policy
		want, hint string // "" accepts
	}{
		{"all three named", proxy(Policy{IncludePlatform: "^1.64", IncludeModules: []string{"a@^1"}, IncludePackages: []string{"b@=v1"}}), "", ""},
		{"the platform alone", platform(Policy{IncludePlatform: ">=1.64 <1.70"}), "", ""},
		{"an exact platform needs no search", platform(Policy{IncludePlatform: "=v1.70.0"}), "", ""},
		{"S4.1.1, a pinned tag", proxy(Policy{DeckhouseTag: "stable"}), "--proxy-registry and --deckhouse-tag", "--include-platform"},
		{"S4.1.1, a floor", proxy(Policy{SinceVersion: "1.64"}), "--proxy-registry and --since-version", "--include-platform"},
		{"S4.1.2, nothing", proxy(Policy{NoPlatform: true, NoModules: true, NoPackages: true}), "nothing to ask for", "leave --proxy-registry out"},
		{"S4.1.3, a platform without versions", proxy(Policy{IncludeModules: []string{"a@^1"}, NoPackages: true}), "platform versions must be named", "--no-platform"},
		{"S4.1.4, modules without names", proxy(Policy{NoPlatform: true, NoPackages: true}), "lists no modules", "--no-modules"},
		{"S4.1.4, extra images of modules without names", proxy(Policy{NoPlatform: true, NoModules: true, NoPackages: true, OnlyExtraImages: true}), "lists no modules", "--include-module"},
		{"S4.1.4, a bare module", proxy(Policy{NoPlatform: true, NoPackages: true, IncludeModules: []string{"a@^1", "console"}}), "--include-module console", "'console@^1.40.0'"},
		{"S4.1.4, bare beside the same", proxy(Policy{NoPlatform: true, NoPackages: true, IncludeModules: []string{"a@^1", "a"}}), "--include-module a", "'a@^1.40.0'"},
		{"S4.1.5, a plugin without a tag", platform(Policy{IncludePlatform: "^1.64", IncludePlugins: []string{"db@=v1.0.0", "mgr"}}), "--include-plugin mgr", "mgr@=v1.2.0"},
		{"S4.1.5, a plugin by a range", platform(Policy{IncludePlatform: "^1.64", IncludePlugins: []string{"mgr@^1"}}), "--include-plugin mgr", "mgr@=v1.2.0"},
		{"S4.1.5, exact plugins, which are enough (S4.1.2)", proxy(Policy{NoPlatform: true, NoModules: true, NoPackages: true, IncludePlugins: []string{"db@=v1.0.0"}}), "", ""},
		{"S4.1.6, packages without names", proxy(Policy{NoPlatform: true, IncludeModules: []string{"a@^1"}}), "lists no packages", "--no-packages"},
		{"S4.1.6, a bare package", proxy(Policy{NoPlatform: true, NoModules: true, IncludePackages: []string{"redis"}}), "--include-package redis", "'redis@^1.40.0'"},
		{"S4.1.6, no packages at all", proxy(Policy{NoPlatform: true, NoPackages: true, IncludeModules: []string{"a@^1"}}), "", ""},
		{"S4.1.7, an exclusion is legal", platform(Policy{IncludePlatform: "^1.64", ExcludeModules: []string{"a"}, ExcludePackages: []string{"b"}}), "", ""},
		{"gaps", platform(Policy{IncludePlatform: "^1.64", ProxyGapPatches: new(0), ProxyGapMinors: new(100)}), "", ""},
		{"a negative gap", platform(Policy{IncludePlatform: "^1.64", ProxyGapPatches: new(-1)}), "--proxy-gap-patches", ""},
		{"an endless gap", platform(Policy{IncludePlatform: "^1.64", ProxyGapMinors: new(101)}), "--proxy-gap-minors", ""},
		{"a gap of no proxy", Policy{ProxyGapMinors: new(1)}, "--proxy-gap-minors", ""},
	} {
		err := tc.policy.Validate()
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), tc.want) || !strings.Contains(fault.HintOf(err), tc.hint) {
			t.Errorf("%s: got %v (%s), want a usage fault with %q and the hint %q", tc.name, err, fault.HintOf(err), tc.want, tc.hint)
		}
	}
}

// probed says which ranges the last repository was asked for; it has no list.
func (c *catalog) probed(constraints ...string) *catalog {
	row := &c.Repositories[len(c.Repositories)-1]
	row.Listed = false
	for _, text := range constraints {
		row.Probed = append(row.Probed, contract.Probe{Constraint: text, GapPatches: 3, GapMinors: 2, Requests: 9})
	}
	return c
}

// S4, S4.2.7: what was asked for decides as a list does, and nothing else is needed of
// the source; package-versions has the named packages alone (S4.1.6).
func TestSelectFromProxy(t *testing.T) {
	cat := newCatalog().
		row("release-channel", "alpha beta early-access stable rock-solid v1.69.0 v1.69.1 v1.70.0").probed(">=1.69.0 <1.71").channels("platform", fiveChannels).
		row("modules/console", "v1.40.0 v1.40.1 v1.41.0").probed("^1.40.0", "~1.39.0").release(Modules, "console", "stable=v1.41.0", "").
		row("packages/redis", "v7.0.0 v7.0.1").probed("~7.0.0").release(Packages, "redis", "stable=v7.0.1", "").unlisted()
	policy := Policy{
		ProxyRegistry: true, NoSecurityDB: true, NoInstaller: true, NoDeckhouseCLI: true, IncludePlatform: ">=1.69.0 <1.71",
		// One range twice is one, an exact tag needs no search.
		IncludeModules:  []string{"console@~1.39.0", "console@^1.40.0", "console@^1.40.0", "console@=pr7", "other@=v2"},
		IncludePackages: []string{"redis@~7.0.0"},
	}
	spec, notes := selectAll(t, cat, policy)
	got := map[string]string{}
	for _, path := range []string{"", "modules/console", "modules/other", "packages/redis", "packages/redis/version"} {
		got[path] = at(spec, path)
	}
	if diff := cmp.Diff(map[string]string{
		"":                       "v1.69.0 v1.69.1 v1.70.0",
		"modules/console":        "pr7 v1.40.1 v1.41.0",
		"modules/other":          "v2",
		"packages/redis":         "v7.0.1",
		"packages/redis/version": "stable v7.0.1?",
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(notes) != 2 || !strings.Contains(notes[0].Text, "packages/redis/version has no tag list") || !strings.Contains(notes[1].Text, "--include-plugin") {
		t.Errorf("notes %v", notes)
	}

	_, notes = selectAll(t, newCatalog().row("modules/a/release", ""), Policy{
		ProxyRegistry: true, NoPlatform: true, NoPackages: true, NoSecurityDB: true, NoInstaller: true, NoDeckhouseCLI: true, NoPlugins: true,
		IncludeModules: []string{"a@=v1"}})
	if len(notes) != 1 || !strings.Contains(notes[0].Text, "--include-package") {
		t.Errorf("without packages: notes %v", notes)
	}
}

// Of other ranges than those that were asked for, nobody knows what there is.
func TestSelectFromProxyWantsTheSameRanges(t *testing.T) {
	for _, tc := range []struct {
		name, asked string
		wanted      []string
		ok          bool
	}{
		{"the same", "^1.40.0", []string{"^1.40.0"}, true},
		{"narrower", "^1.40.0", []string{"~1.40.0"}, false},
		{"one more", "^1.40.0", []string{"^1.40.0", "~1.39.0"}, false},
		{"one less", "^1.40.0 ~1.39.0", []string{"^1.40.0"}, false},
		{"an exact tag more", "^1.40.0", []string{"^1.40.0", "=v1"}, true},
		{"nothing was asked", "", []string{"^1.40.0"}, false},
	} {
		cat := newCatalog().row("modules/console", "v1.40.0").probed(strings.Fields(tc.asked)...).release(Modules, "console", "stable=v1.40.0", "")
		policy := onlyModules(Policy{ProxyRegistry: true})
		for _, c := range tc.wanted {
			policy.IncludeModules = append(policy.IncludeModules, "console@"+c)
		}
		_, _, err := Select(cat.CatalogSpec, policy)
		if tc.ok && err != nil || !tc.ok && (fault.KindOf(err) != fault.Damaged || !strings.Contains(fault.HintOf(err), "narrower policy")) {
			t.Errorf("%s: asked %s, wanted %v: got %v", tc.name, tc.asked, tc.wanted, err)
		}
	}
	// The platform alike.
	for wanted, ok := range map[string]bool{">=1.70.0": true, ">=1.70": false} {
		cat := newCatalog().row("release-channel", "v1.70.0").probed(">=1.70.0").channels("platform", fiveChannels)
		_, _, err := Select(cat.CatalogSpec, onlyPlatform(Policy{ProxyRegistry: true, IncludePlatform: wanted}))
		if ok != (err == nil) || !ok && fault.KindOf(err) != fault.Damaged {
			t.Errorf("platform %s: got %v", wanted, err)
		}
	}
}

// A proxy is asked for what is named, and never for a list.
func TestScopeOfProxy(t *testing.T) {
	policy := Policy{ProxyRegistry: true, IncludePlatform: ">=1.69", IncludeModules: []string{"b@^1", "a@=v1", "a@~2.0.0"}, IncludePackages: []string{"p@=v1"}}
	s, err := policy.Scope()
	if err != nil {
		t.Fatal(err)
	}
	if names := s.Included(Modules); !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("modules %v", names)
	}
	for name, want := range map[string]Look{"a": {Channels: true, Versions: true}, "b": {Channels: true, Versions: true}} {
		if diff := cmp.Diff(want, s.Look(Modules, name)); diff != "" {
			t.Errorf("module %s (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(Look{Channels: true}, s.Look(Packages, "p")); diff != "" {
		t.Errorf("package (-want +got):\n%s", diff)
	}
	if ranges := s.Ranges(Modules, "a"); len(ranges) != 1 || ranges[0].String() != "~2.0.0" {
		t.Errorf("ranges of a: %v", ranges)
	}
}
