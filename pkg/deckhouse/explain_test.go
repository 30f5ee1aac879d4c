package deckhouse

import (
	"fmt"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/explain"
	"ferry/pkg/fault"
)

// explained asks the questions of a catalog and returns a line an answer.
func explained(t *testing.T, c *catalog, p Policy, questions ...string) []string {
	t.Helper()
	queries, err := explain.ParseAll(questions)
	if err != nil {
		t.Fatal(err)
	}
	c.Normalize()
	answers, err := Explain(c.CatalogSpec, p, queries)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, a := range answers {
		line := fmt.Sprintf("%s %s: %s", a.Decision, strings.TrimPrefix(a.Subject, testSource), a.Reason)
		if a.Rule != "" {
			line += " (" + a.Rule + ")"
		}
		if a.Target != "" {
			line += " -> " + a.Target + " in " + a.Archive
		}
		out = append(out, line)
	}
	spec := contract.ExplanationSpec{Vendor: Vendor, Answers: answers}
	if err := spec.Validate(); err != nil {
		t.Errorf("the answers are not valid: %v", err)
	}
	return out
}

// big is an edition with one of everything that is left out for a reason.
func big() *catalog {
	return newCatalog().
		row("release-channel", "alpha beta early-access stable rock-solid v1.67.0 v1.68.0 v1.70.0 v1.70.1 v1.70.2 v1.72.10 v1.73.0 v1.71.0-rc.1 1.70.2 pr7").
		channels("platform", "alpha=v1.72.10 beta=v1.71.0 early-access=v1.70.0 stable=v1.69.0 rock-solid=v1.68.0").
		addOn(Modules, "console", "alpha=v1.43.5 stable=v1.40.1", "v1.39.0 v1.40.0 v1.40.1 v1.41.0 v1.41.1 v1.43.5 v2.0.0").
		addOn(Packages, "redis", "stable=v7.0.0", "v6.0.0 v7.0.0").
		beside("", "v0.9.0 v0.10.0 v0.11.0-rc.1").
		beside("plugins", "db idle").
		plugin("db", "v1.0.0 v1.1.0", needsModule("console", ">=1")).
		plugin("idle", "v1.0.0", needsModule("absent", ">=1")).
		plugin("package", "").plugin("system", "")
}

// Each reason for which something is in or out, from the decision itself.
//
// S1.2, S1.7, S2.2, S3.3.1, S3.3.2, S3.3.3, S3.3.5, S3.4.1, S3.4.2, S3.4.4, S3.4.8,
// S3.5, S3.6.2, S3.6.3, S3.6.4, S3.7, S3.9.4, S3.10, S4.5, S5.5, S5.10.
func TestExplain(t *testing.T) {
	all := Policy{NoSecurityDB: true, NoInstaller: true, NoPackages: true}
	with := func(change func(p *Policy)) Policy {
		p := all
		change(&p)
		return p
	}
	ranged := with(func(p *Policy) { p.IncludePlatform = ">=1.70.0 <1.73" })
	since := with(func(p *Policy) { p.SinceVersion = "1.70.0" })
	pinned := with(func(p *Policy) { p.DeckhouseTag = "v1.70.2" })
	console := func(constraint string) Policy {
		return with(func(p *Policy) { p.IncludeModules = []string{"console" + constraint} })
	}
	excluding := with(func(p *Policy) { p.ExcludeModules = []string{"console@>=1.43.0"} })
	const noPlatform = "--no-platform leaves the platform out (S2.2)"
	for _, tc := range []struct {
		policy      Policy
		query, want string // what the first answer begins with
	}{
		// In: the reason of the selection, and where it lands.
		{all, "platform@v1.70.2", "in :v1.70.2: latest patch of 1.70 -> :v1.70.2 in platform"},
		{all, "platform@1.72.10", "in :v1.72.10: channel alpha, latest patch of 1.72"},
		{all, testSource + "/install:v1.70.2", "in /install:v1.70.2: latest patch of 1.70 -> install:v1.70.2 in platform"},
		{all, "release-channel:stable", "in /release-channel:stable: channel at v1.69.0"},
		{all, "install:stable", "in /install:v1.69.0: channel at v1.69.0"},
		{all, "module/console@v1.43.5", "in /modules/console:v1.43.5: channel alpha; where the source does not have it, it is left out -> modules/console:v1.43.5 in module-console"},
		{all, "modules:console", "in /modules/console:v1.40.1: channel stable"},
		{all, testSource + "/modules:console", "in /modules/console:v1.40.1"},
		{console("@=v1.39.0+lts"), "modules/console/release:lts", "in /modules/console/release:v1.39.0: alias of v1.39.0"},
		{Policy{}, "installer", "in registry.example/deckhouse/installer:latest: default installer"},
		{Policy{}, "security", "in /security/trivy-bdu:1: security database"},

		// Out, the platform.
		{with(func(p *Policy) { p.NoPlatform = true }), "platform@v1.70.2", "out platform@v1.70.2: " + noPlatform},
		{with(func(p *Policy) { p.NoPlatform = true }), testSource + "/install:v1.70.2", "out platform@v1.70.2: " + noPlatform},
		{all, "platform@v1.70.1", "out platform@v1.70.1: v1.70.2 is a later patch of 1.70, and was taken (S3.3.3)"},
		{all, "platform@v1.67.0", "out platform@v1.67.0: it is below channel rock-solid at v1.68.0 (S3.6.2)"},
		{all, "platform@v1.73.0", "out platform@v1.73.0: it is above channel alpha at v1.72.10 (S3.6.2)"},
		{all, "platform@v1.71.0-rc.1", "out platform@v1.71.0-rc.1: a pre-release"},
		{all, "platform@v1.66.0", "out platform@v1.66.0: the source has no such tag: " + testSource + "/release-channel does not list it (S3.3.1)"},
		{all, "platform@pr7", "out platform@pr7: only releases that release-channel announces are looked at; another tag comes with --deckhouse-tag (S3.6)"},
		{all, "platform@lts", "out platform@lts: the source has no such channel (S3.5)"},
		{all, testSource + ":stable", "out platform@stable: channels of this repository are not carried"},
		{all, "install-standalone:stable", "out platform@stable: channels of this repository are not carried"},
		{since, "platform@v1.68.0", "out platform@v1.68.0: it is below --since-version 1.70.0 (S3.6.2)"},
		{since, "platform@stable", "out platform@stable: channel at v1.69.0, which is below --since-version 1.70.0 (S3.6.4)"},
		{ranged, "platform@v1.68.0", "out platform@v1.68.0: >=1.70.0 <1.73 does not match it (S3.3.2)"},
		{ranged, "platform@v1.80.0", "out platform@v1.80.0: the source has no such tag"},
		{ranged, "platform@stable", "out platform@stable: channel at v1.69.0, which --include-platform >=1.70.0 <1.73 does not match (S3.6.3)"},
		{pinned, "platform@v1.70.0", "out platform@v1.70.0: the platform is pinned to v1.70.2 (S3.7)"},
		{pinned, "platform@lts", "out platform@lts: the platform is pinned to v1.70.2 (S3.7)"},

		// Out, modules and packages.
		{with(func(p *Policy) { p.NoModules = true }), "module/console", "out module/console: --no-modules leaves modules out (S2.2)"},
		{all, "module/consle", `out module/consle: the source has no module "consle"; it has "console" (S3.4.1)`},
		{all, testSource + "/modules/consle:v1", `out module/consle@v1: the source has no module "consle"`},
		{with(func(p *Policy) { p.ExcludeModules = []string{"console"} }), "module/console@v1.40.1", "out module/console@v1.40.1: --exclude-module names it (S3.4.1)"},
		{excluding, "module/console@v1.43.5", "out module/console@v1.43.5: --exclude-module console@>=1.43.0 leaves it out (S3.4.1)"},
		{excluding, "module/console@alpha", "out module/console@alpha: channel at v1.43.5: --exclude-module console@>=1.43.0 leaves it out (S3.4.1)"},
		{all, "module/console@v1.41.0", "out module/console@v1.41.0: without a range, the versions that channels point at are all that is carried (S3.4.2)"},
		{all, "module/console@v9.0.0", "out module/console@v9.0.0: the source has no such tag"},
		{all, "module/console@beta", "out module/console@beta: the source has no such channel (S3.5)"},
		{console("@^1.40.0"), "module/console@v1.40.0", "out module/console@v1.40.0: v1.40.1 is a later patch of 1.40, and was taken (S3.3.3)"},
		{console("@^1.40.0"), "module/console@v2.0.0", "out module/console@v2.0.0: ^1.40.0 does not match it (S3.3.2)"},
		{console("@=v1.39.0"), "module/console@v1.41.0", "out module/console@v1.41.0: --include-module names exact tags alone: =v1.39.0 (S3.4.4)"},
		{with(func(p *Policy) { p.OnlyExtraImages = true }), "module/console@v1.40.1", "out module/console@v1.40.1: --only-extra-images reads no channels"},
		{with(func(p *Policy) { p.OnlyExtraImages, p.IncludeModules = true, []string{"console@^1.41.0"} }), "module/console@v1.41.1", "out /modules/console:v1.41.1: it is read for the images that it names, and not carried itself"},
		{all, "package/redis@v7.0.0", "in /packages/redis/version:v7.0.0"}, // of the list of versions; the next answer:
		{with(func(p *Policy) { p.NoPackages, p.IncludePackages = false, []string{"other"} }), "package/redis@v6.0.0", `out package/redis@v6.0.0: --include-package names others (S3.4.1)`},

		// d8 and its plugins.
		{all, "deckhouse-cli", "in registry.example/deckhouse/deckhouse-cli:v0.10.0: newest release of d8"},
		{all, "deckhouse-cli:v0.9.0", "out deckhouse-cli@v0.9.0: of d8 one release is carried, v0.10.0 (S3.10)"},
		{with(func(p *Policy) { p.NoDeckhouseCLI = true }), cliRoot + ":v0.10.0", "out deckhouse-cli@v0.10.0: --no-deckhouse-cli leaves d8 itself out (S3.10)"},
		{all, "plugin/db", "in registry.example/deckhouse/deckhouse-cli/plugins/db:v1.1.0: "},
		{all, cliRoot + "/plugins:db", "in registry.example/deckhouse/deckhouse-cli/plugins/db:v1.1.0: "},
		{all, "deckhouse-cli/plugins/db:v1.0.0", "out plugin/db@v1.0.0: of its versions the newest that fits"},
		{all, "plugin/idle", "out plugin/idle: it is made for nothing that is selected"},
		{with(func(p *Policy) { p.NoPlugins = true }), "plugin/db", "out plugin/db: --no-plugins chooses none but those of --include-plugin (S5.10)"},
		{all, "plugin/system", "out plugin/system: "},
		{with(func(p *Policy) { p.IncludePlugins = []string{"db@=v9"} }), "plugin/db", "out plugin/db: select refuses: "},

		// Out, the rest.
		{all, "security", "out security: --no-security-db leaves the security databases out (S2.2)"},
		{all, "installer", "out installer: --no-installer leaves the installer out (S2.2)"},
		{Policy{}, "installer:v9", "out installer@v9: of the installer one tag is carried, latest (S5.5)"},
		{Policy{}, "security/trivy-db:3", "out security@3: of each security database one tag is carried (S1.2)"},
		{all, "registry.example/elsewhere:v1", "out registry.example/elsewhere:v1: it is no repository of an edition"},
		{all, testSource + "/unheard-of:v1", "out " + "/unheard-of:v1: it is no repository of an edition"},
		{with(func(p *Policy) { p.SkipVEX = true }), "modules/console:v1.43.5.att", "out module/console@v1.43.5.att: --skip-vex-images leaves attestations out (S1.7)"},
		{with(func(p *Policy) { p.SkipAttachments = true }), "modules/console:sha256-" + strings.Repeat("1", 64) + ".sig", "out module/console@sha256-"},

		// Unknown: only a Plan tells.
		{all, "modules/console:sha256-" + strings.Repeat("1", 64), "unknown modules/console:sha256-1"},
		{all, "sha256:" + strings.Repeat("1", 64), "unknown sha256:1"},
		{all, testSource + "@sha256:" + strings.Repeat("1", 64), "unknown @sha256:1"},
		{all, ":" + strings.Repeat("1", 64), "unknown :1"},
		{all, "modules/console:v1.43.5.att", "unknown modules/console:v1.43.5.att"},
		{all, "modules/console/extra/scanner:5", "unknown modules/console/extra/scanner:5"},
		{with(func(p *Policy) { p.NoModules = true }), "modules/console/extra/scanner:5", "out module/console@5: --no-modules"},
	} {
		cat := big()
		if len(tc.policy.IncludePackages) > 0 {
			cat.row("packages/other/version", "stable").channels("package/other", "stable=v1")
			cat.Repositories[4].Tags = []string{"redis", "other"}
		}
		got := explained(t, cat, tc.policy, tc.query)
		if len(got) == 0 || !strings.HasPrefix(got[0], tc.want) {
			t.Errorf("%s:\n got %s\nwant %s", tc.query, strings.Join(got, "\n     "), tc.want)
		}
	}
}

// A question about a whole part is answered for all that was decided about it.
func TestExplainComponents(t *testing.T) {
	p := Policy{NoPlatform: true, NoSecurityDB: true, NoInstaller: true, IncludeModules: []string{"console@~1.40.0"}, NoPackages: true}
	got := explained(t, big(), p, "module/console", "package/redis@v6.0.0")
	for _, want := range []string{
		"in /modules/console:v1.40.1: channel stable, --include-module console@~1.40.0",
		"in /modules/console/release:alpha: channel at v1.43.5",
		"out module/console@v1.40.0: v1.40.1 is a later patch of 1.40",
		"out module/console@v1.39.0: ~1.40.0 does not match it",
		"out package/redis@v6.0.0: --no-packages leaves packages out (S2.2)",
	} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("%q is not among\n%s", want, strings.Join(got, "\n"))
		}
	}
	// That a version of a package is listed says nothing of the package.
	p.IncludePackages = []string{"redis@>=6.0.0 <7.0.1"}
	cat := big()
	cat.Repositories[6].Tags = append(cat.Repositories[6].Tags, "v6.0.1")
	cat.Repositories[5].Tags = append(cat.Repositories[5].Tags, "v6.0.1", "v6.0.2")
	both := strings.Join(explained(t, cat, p, "package/redis@v6.0.1"), "\n")
	if !strings.Contains(both, "in /packages/redis/version:v6.0.1: version of package redis") || !strings.Contains(both, "out package/redis@v6.0.1: v6.0.2 is a later patch") {
		t.Errorf("of a version that is listed alone:\n%s", both)
	}
	// What a channel carries although the range passes it over is in, not out.
	for _, line := range got {
		if strings.HasPrefix(line, "out module/console@v1.43.5") {
			t.Errorf("%s, but channel alpha is at it", line)
		}
	}
}

// What keeps select from deciding is the answer for its part alone; the others
// are decided.
func TestExplainRefusals(t *testing.T) {
	cat := func() *catalog {
		return newCatalog().withoutPackages().
			row("release-channel", "").channels("platform", "alpha=v1.72.10! beta=v1.71.0 early-access=v1.70.0 stable=v1.69.0 rock-solid=v1.68.0").
			row("modules", "console dark").row("modules/console", "v1.0.0").release(Modules, "console", "stable=v1.0.0", "")
	}
	for _, tc := range []struct {
		name, query, want string
		policy            Policy
	}{
		{"suspended", "platform@v1.69.0", "out platform@v1.69.0: select refuses: platform: the vendor has suspended", Policy{}},
		{"not looked at (S1.10.4)", "module/dark@v1", "unknown module/dark@v1: Catalog: it does not tell what", Policy{}},
		{"the others", "module/console@v1.0.0", "in /modules/console:v1.0.0", Policy{}},
		{"no version matches", "module/console@v1.0.0", "out module/console@v1.0.0: ^9 does not match it", Policy{IncludeModules: []string{"console@^9"}}},
		{"no version matches, whole", "module/console", "out module/console@v1.0.0: ^9 does not match it", Policy{IncludeModules: []string{"console@^9"}}},
		{"a name that is not there", "module/console", "out module/console: --include-module names others", Policy{IncludeModules: []string{"consle"}}},
		{"packages not looked at", "package/redis", "out package/redis: the source has no package", Policy{}},
	} {
		got := explained(t, cat(), tc.policy, tc.query)
		if !strings.HasPrefix(got[0], tc.want) {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got[0], tc.want)
		}
	}
	if got := explained(t, newCatalog(), Policy{}, "platform@v1", "module/x"); !strings.HasPrefix(got[0], "unknown") || !strings.HasPrefix(got[1], "unknown") {
		t.Errorf("an empty catalog: %v", got)
	}
	queries, err := explain.ParseAll([]string{"modul/console"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Explain(cat().CatalogSpec, Policy{}, queries); fault.KindOf(err) != fault.Usage || !strings.Contains(fault.HintOf(err), "module/NAME") {
		t.Errorf("a part that no edition has: got %v", err)
	}
	if _, err := Explain(cat().CatalogSpec, Policy{Source: "registry.example/deckhouse/fe"}, nil); fault.KindOf(err) != fault.Damaged {
		t.Errorf("another source: got %v", err)
	}
}

// Of a proxy, what was asked for is known (S4.5), and what was not named is out.
func TestExplainProxy(t *testing.T) {
	cat := newCatalog().row("modules/console", "v1.40.0").probed("^1.40.0").release(Modules, "console", "stable=v1.40.0", "")
	p := onlyModules(Policy{ProxyRegistry: true, IncludeModules: []string{"console@^1.40.0"}})
	for query, want := range map[string]string{
		"module/console@v1.40.0": "in /modules/console:v1.40.0",
		"module/console@v1.47.0": "out module/console@v1.47.0: the source has no such tag, or it lies behind a larger gap than the search stepped over (S4.5)",
		"module/console@v2.0.0":  "out module/console@v2.0.0: ^1.40.0 does not match it (S3.3.2)",
		"module/other":           "out module/other: --include-module names others (S3.4.1)",
	} {
		if got := explained(t, cat, p, query); !strings.HasPrefix(got[0], want) {
			t.Errorf("got %s\nwant %s", got[0], want)
		}
	}
}

// Explain never says what Select does not do: over every tag of the catalog, "in"
// is what is selected.
func TestExplainAgreesWithSelect(t *testing.T) {
	for _, p := range []Policy{
		{}, {IncludePlatform: "~1.70.0"}, {SinceVersion: "1.69"}, {DeckhouseTag: "stable"}, {NoPackages: true},
		{IncludeModules: []string{"console@>=1.39 <1.42"}}, {IncludeModules: []string{"console@=v1.39.0"}}, {ExcludeModules: []string{"console@^1"}},
		{IncludePackages: []string{"redis@^6"}}, {OnlyExtraImages: true, IncludeModules: []string{"console@^1"}},
	} {
		cat := big()
		spec, _ := selectAll(t, cat, p)
		selected := map[string]bool{}
		for _, im := range spec.Images {
			if !im.LinksOnly {
				selected[im.Path+":"+im.Tag] = true
			}
		}
		for _, row := range cat.Repositories {
			path := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(row.Repository, testSource), "registry.example/deckhouse"), "/")
			if path == "modules" || path == "packages" || path == "deckhouse-cli/plugins" {
				continue
			}
			for _, tag := range row.Tags {
				got := explained(t, cat, p, path+":"+tag)
				if in := strings.HasPrefix(got[0], "in "); in != selected[path+":"+tag] || strings.HasPrefix(got[0], "unknown") {
					t.Errorf("%+v: %s:%s is selected: %v, but: %s", p, path, tag, !in, got[0])
				}
			}
		}
	}
}
