package deckhouse

import (
	"slices"
	"strings"
	"testing"

	"ferry/pkg/fault"

	"github.com/google/go-cmp/cmp"
)

// S2.4.2, S2.4.11.
func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy Policy
		want   string // "" accepts
	}{
		{"zero", Policy{}, ""},
		{"everything", Policy{Source: "h/e/", IncludePlatform: ">=1.64 <1.70", IncludeModules: []string{"a", "a@^1"}, ModulesPathSuffix: "/", InstallerTag: "v1"}, ""},
		{"lenient since", Policy{SinceVersion: "v1.64.0-rc.1+x"}, ""},
		{"host alone", Policy{Source: "registry.example"}, "--source"},
		{"host and slash", Policy{Source: "registry.example/"}, "--source"},
		{"port alone (S9 row 7)", Policy{Source: "registry.example:5000"}, "--source"},
		{"upper case", Policy{Source: "h/EE"}, "--source"},
		{"since and tag", Policy{SinceVersion: "1.64", DeckhouseTag: "stable"}, "--since-version and --deckhouse-tag"},
		{"include and tag", Policy{IncludePlatform: "^1.64", DeckhouseTag: "stable"}, "--include-platform and --deckhouse-tag"},
		{"include and since", Policy{IncludePlatform: "^1.64", SinceVersion: "1.64"}, "--include-platform and --since-version"},
		{"include and exclude", Policy{IncludeModules: []string{"a"}, ExcludeModules: []string{"b"}}, "--include-module and --exclude-module"},
		{"both for packages", Policy{IncludePackages: []string{"a"}, ExcludePackages: []string{"b"}}, "--include-package and --exclude-package"},
		{"modules and packages", Policy{IncludeModules: []string{"a"}, ExcludePackages: []string{"b"}}, ""},
		{"since", Policy{SinceVersion: "bob"}, "--since-version"},
		{"include platform", Policy{IncludePlatform: "bob"}, "--include-platform"},
		{"redirection", Policy{IncludePlatform: "/var/bundle"}, "--include-platform"},
		{"include module", Policy{IncludeModules: []string{"a@"}}, "--include-module"},
		{"exclude module", Policy{ExcludeModules: []string{"@1"}}, "--exclude-module"},
		{"include package", Policy{IncludePackages: []string{"a@"}}, "--include-package"},
		{"exclude package", Policy{ExcludePackages: []string{"@1"}}, "--exclude-package"},
		{"tag", Policy{DeckhouseTag: "a/b"}, "--deckhouse-tag"},
		{"installer", Policy{InstallerTag: "-"}, "--installer-tag"},
		{"suffix", Policy{ModulesPathSuffix: "../x"}, "--modules-path-suffix"},
		{"plugins", Policy{IncludePlugins: []string{"a", "b@^1", "b@=v1.0.0-rc.1"}, NoPlugins: true}, ""},
		{"plugins without a range", Policy{IncludePlugins: []string{"a@"}}, "--include-plugin"},
		{"names of plugins (S1.8.7)", Policy{IncludePlugins: []string{"Up"}}, "--include-plugin"},
		{"a pin that is no version (S5.10.8)", Policy{IncludePlugins: []string{"a@=main"}}, "--include-plugin"},
		{"plugins and extra images alone (S2.4.6)", Policy{IncludePlugins: []string{"a"}, OnlyExtraImages: true}, "--only-extra-images and --include-plugin"},
		{"d8 and extra images alone (S2.4.6)", Policy{DeckhouseCLITag: "v1", OnlyExtraImages: true}, "--only-extra-images and --deckhouse-cli-tag"},
		{"d8 and no d8", Policy{DeckhouseCLITag: "v1", NoDeckhouseCLI: true}, "--no-deckhouse-cli and --deckhouse-cli-tag"},
		{"d8's tag", Policy{DeckhouseCLITag: "a/b"}, "--deckhouse-cli-tag"},
	} {
		err := tc.policy.Validate()
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want a usage fault with %q", tc.name, err, tc.want)
		}
	}
}

func TestReadPolicy(t *testing.T) {
	got, err := ReadPolicy(strings.NewReader(`{"source":"h/e/ee","includeModule":["a@^1"],"excludePackage":["b"],"noPackages":true,"noSecurityDb":true}` + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Policy{Source: "h/e/ee", IncludeModules: []string{"a@^1"}, ExcludePackages: []string{"b"}, NoPackages: true, NoSecurityDB: true}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, text := range []string{"", "{", `{"exclude":[]}`, `{} {}`, `{} x`, `[]`, `{"sinceVersion":"bob"}`, "{" + strings.Repeat(" ", policyLimit) + "}"} {
		if _, err := ReadPolicy(strings.NewReader(text)); fault.KindOf(err) != fault.Usage {
			t.Errorf("%.40q: got %v, want a usage fault", text, err)
		}
	}
}

func FuzzReadPolicy(f *testing.F) {
	f.Add(`{"source":"h/e/ee","deckhouseTag":"stable","excludeModule":["a@=v1+lts"]}`)
	f.Add(`{"modulesPathSuffix":"/","includePlatform":"=v1.70.0"}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ReadPolicy(strings.NewReader(text))
		if err != nil {
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("%q fails with %v, which is no usage fault", text, err)
			}
			return
		}
		if _, err := p.Scope(); err != nil {
			t.Errorf("%q was accepted, then refused: %v", text, err)
		}
	})
}

func TestLayout(t *testing.T) {
	for _, tc := range []struct{ source, edition, bare, name string }{
		{"", DefaultSource, "registry.deckhouse.ru/deckhouse", "ee"}, // S1.1.4
		{"h/d/ee/", "h/d/ee", "h/d", "ee"},                           // S1.1.1
		{"h/d/se-plus", "h/d/se-plus", "h/d", "se-plus"},
		{"h/d/cse", "h/d/cse", "h/d", "cse"},
		{"h/d/ee-mirror", "h/d/ee-mirror", "h/d/ee-mirror", ""}, // S1.1.2
		{"h:5000/ee", "h:5000/ee", "h:5000/ee", "ee"},           // S1.1.3, S9 row 91
		{"h/d", "h/d", "h/d", ""},
	} {
		l, err := NewLayout(tc.source, "")
		if err != nil {
			t.Errorf("%s: %v", tc.source, err)
			continue
		}
		if diff := cmp.Diff([]string{tc.edition, tc.bare, tc.name}, []string{l.Edition.String(), l.Bare.String(), l.Name}); diff != "" {
			t.Errorf("%s: edition, bare root, name (-want +got):\n%s", tc.source, diff)
		}
	}
}

// S5.6.5: tags are listed only where a range, or a later select, may need them.
func TestScope(t *testing.T) {
	scope := func(p Policy) Scope {
		s, err := p.Scope()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, tc := range []struct {
		policy Policy
		family Family
		want   Look
	}{
		{Policy{}, Modules, Look{Channels: true, Versions: true}},
		{Policy{NoModules: true}, Modules, Look{}},
		{Policy{ExcludeModules: []string{"a"}}, Modules, Look{}},
		{Policy{ExcludeModules: []string{"a@^1"}}, Modules, Look{Channels: true, Versions: true}},
		{Policy{IncludeModules: []string{"b"}}, Modules, Look{}},
		{Policy{IncludeModules: []string{"a"}}, Modules, Look{Channels: true}},
		{Policy{IncludeModules: []string{"a@^1"}}, Modules, Look{Channels: true, Versions: true}},
		{Policy{IncludeModules: []string{"a@=v1"}}, Modules, Look{}},
		{Policy{IncludeModules: []string{"a@^1"}, OnlyExtraImages: true}, Modules, Look{Versions: true}},
		// Each family has its own filters; package-versions needs the lists of
		// all packages, whatever the filters (S5.8).
		{Policy{ExcludePackages: []string{"a"}}, Modules, Look{Channels: true, Versions: true}},
		{Policy{ExcludePackages: []string{"a"}}, Packages, Look{Releases: true}},
		{Policy{NoPackages: true}, Packages, Look{Releases: true}},
		{Policy{IncludePackages: []string{"b"}}, Packages, Look{Releases: true}},
		{Policy{IncludePackages: []string{"a"}, NoPackages: true}, Packages, Look{Channels: true, Releases: true}},
		{Policy{IncludeModules: []string{"b"}}, Packages, Look{Channels: true, Versions: true, Releases: true}},
	} {
		if diff := cmp.Diff(tc.want, scope(tc.policy).Look(tc.family, "a")); diff != "" {
			t.Errorf("%+v: %s a (-want +got):\n%s", tc.policy, tc.family.one, diff)
		}
	}
	for tag, want := range map[string][]string{
		"":        nil,
		"stable":  nil,
		"pr12":    {"pr12"},
		"1.71.2":  {"1.71.2", "v1.71.2"},
		"v1.71.2": {"v1.71.2", "1.71.2"},
		"v1.71":   {"v1.71", "v1.71.0", "1.71.0"},
	} {
		if got := scope(Policy{DeckhouseTag: tag}).PinnedTags(); !slices.Equal(got, want) {
			t.Errorf("pin %q stands under %q, want %q", tag, got, want)
		}
	}
}

func TestNear(t *testing.T) {
	names := []string{"cert-manager", "console", "commander", "csi-ceph", "csi-nfs", "prometheus", "prometheus-metrics-adapter"}
	for name, want := range map[string][]string{
		"consol":       {"console"},
		"cosnole":      {"console"},
		"certmanager":  {"cert-manager"},
		"prometeus":    {"prometheus"},
		"csi-":         {"csi-nfs", "csi-ceph"},
		"zzzzzzzzzzzz": nil,
	} {
		if got := near(name, names); !slices.Equal(got, want) {
			t.Errorf("near %q are %q, want %q", name, got, want)
		}
	}
}
