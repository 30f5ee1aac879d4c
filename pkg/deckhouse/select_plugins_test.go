package deckhouse

import (
	"slices"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse/plugin"
	"ferry/pkg/fault"

	"github.com/google/go-cmp/cmp"
)

const cliRoot = "registry.example/deckhouse/deckhouse-cli"

// beside adds a listed repository beside the edition.
func (c *catalog) beside(path, tags string) *catalog {
	c.row("", tags)
	c.Repositories[len(c.Repositories)-1].Repository = strings.TrimSuffix(cliRoot+"/"+path, "/")
	return c
}

// plugin adds a plugin with the tags "v1.0.0 v1.1.0", all with these needs.
func (c *catalog) plugin(name, tags string, needs ...contract.Requirement) *catalog {
	c.beside("plugins/"+name, tags)
	for tag := range strings.FieldsSeq(tags) {
		c.Contracts = append(c.Contracts, contract.CatalogContract{Component: PluginComponent(name), Tag: tag, Requirements: needs})
	}
	return c
}

func needsModule(name, constraint string) contract.Requirement {
	return contract.Requirement{Kind: plugin.NeedsModule, Mode: contract.Mandatory, Name: name, Constraint: constraint}
}

// onlyCLI leaves out all but modules, d8 and plugins.
func onlyCLI(p Policy) Policy {
	p.NoPlatform, p.NoPackages, p.NoSecurityDB, p.NoInstaller = true, true, true, true
	return p
}

// S5.1, S5.11, S6.2, S7.7: where d8 and plugins land, as what, and why.
func TestPluginImages(t *testing.T) {
	c := newCatalog().withoutPackages().
		addOn(Modules, "pg", "stable=v1.5.0", "v1.0.0 v1.5.0").
		beside("", "v0.9.0 v0.10.0 v0.11.0-rc.1 latest").
		beside("plugins", "mgr db").
		plugin("mgr", "v1.0.0 v1.1.0", needsModule("pg", ">=1.2.0"), contract.Requirement{Kind: plugin.NeedsPlugin, Mode: contract.Mandatory, Name: "db"}).
		plugin("db", "2.0")
	spec, notes := selectAll(t, c, onlyCLI(Policy{}))
	want := contract.SelectionSpec{
		Archives: []contract.Archive{
			{Name: "deckhouse-cli", Layouts: []string{"deckhouse-cli"}},
			{Name: "plugin-db", Layouts: []string{"deckhouse-cli/plugins/db"}},
			{Name: "plugin-mgr", Layouts: []string{"deckhouse-cli/plugins/mgr"}},
		},
		Images: []contract.SelectedImage{
			{Source: cliRoot + ":v0.10.0", Archive: "deckhouse-cli", Path: "deckhouse-cli", Tag: "v0.10.0", Phase: contract.PhaseVersion, Optional: true, Reason: "newest release of d8"},
			{Source: cliRoot + "/plugins/db:2.0", Archive: "plugin-db", Path: "deckhouse-cli/plugins/db", Tag: "2.0", Phase: contract.PhaseVersion, Reason: "needed by plugin mgr v1.1.0"},
			{Source: cliRoot + "/plugins/mgr:v1.1.0", Archive: "plugin-mgr", Path: "deckhouse-cli/plugins/mgr", Tag: "v1.1.0", Phase: contract.PhaseVersion, Reason: "for module pg v1.5.0"},
		},
		Discovery: []contract.DiscoveryTag{
			{Path: "deckhouse-cli/plugins", Tag: "db", Phase: contract.PhaseDiscovery, Needs: "deckhouse-cli/plugins/db"},
			{Path: "deckhouse-cli/plugins", Tag: "mgr", Phase: contract.PhaseDiscovery, Needs: "deckhouse-cli/plugins/mgr"},
		},
	}
	got := contract.SelectionSpec{
		Archives:  slices.DeleteFunc(spec.Archives, func(a contract.Archive) bool { return a.Name == "module-pg" }),
		Images:    slices.DeleteFunc(spec.Images, func(im contract.SelectedImage) bool { return im.Archive == "module-pg" }),
		Discovery: slices.DeleteFunc(spec.Discovery, func(d contract.DiscoveryTag) bool { return d.Path == "modules" }),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(notes) > 0 {
		t.Errorf("notes %v, want none", notes)
	}
}

// S5.9.1: plugins are chosen for the versions of modules that are selected, and
// S5.9.2: their range of platform versions is judged by those selected.
func TestPluginsFollowTheSelection(t *testing.T) {
	build := func() *catalog {
		return newCatalog().withoutPackages().
			row("release-channel", "alpha beta early-access stable rock-solid v1.70.0").channels("platform", "alpha=v1.70.0 beta=v1.70.0 early-access=v1.70.0 stable=v1.70.0 rock-solid=v1.70.0").
			addOn(Modules, "pg", "stable=v1.5.0", "v1.0.0 v1.5.0 pr7").
			beside("", "v1").beside("plugins", "old new").
			plugin("old", "v1.0.0", needsModule("pg", "<1.2.0")).
			plugin("new", "v1.0.0", needsModule("pg", ">=1.2.0"), contract.Requirement{Kind: plugin.NeedsDeckhouse, Mode: contract.Mandatory, Constraint: ">=1.80"}).
			beside("plugins/package", "").unlisted().
			plugin("system", "v3.0.0")
	}
	for _, tc := range []struct {
		name     string
		policy   Policy
		old, new string
		system   string
	}{
		{"what the channels have", Policy{}, "", "", "v3.0.0"},
		{"without the platform nobody judges its versions", Policy{NoPlatform: true}, "", "v1.0.0", ""},
		{"another version of the module", Policy{NoPlatform: true, IncludeModules: []string{"pg@=v1.0.0"}}, "v1.0.0", "", ""},
		{"two", Policy{NoPlatform: true, IncludeModules: []string{"pg@>=1.0.0"}}, "v1.0.0", "v1.0.0", ""},
		{"a build that is no version", Policy{NoPlatform: true, IncludeModules: []string{"pg@=pr7"}}, "", "", ""},
		{"no modules (S5.10.1)", Policy{NoPlatform: true, NoModules: true}, "", "", ""},
		{"no plugins", Policy{NoPlugins: true}, "", "", ""},
		{"no plugins but one", Policy{NoPlugins: true, IncludePlugins: []string{"old@=v1.0.0"}}, "v1.0.0", "", ""},
		{"extra images alone (S5.1)", Policy{OnlyExtraImages: true, IncludeModules: []string{"pg@>=1.0.0"}}, "", "", "none"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := tc.policy
			p.NoPackages, p.NoSecurityDB, p.NoInstaller = true, true, true
			if tc.system == "none" {
				tc.system = ""
			}
			spec, _ := selectAll(t, build(), p)
			got := []string{at(spec, "deckhouse-cli/plugins/old"), at(spec, "deckhouse-cli/plugins/new"), at(spec, "deckhouse-cli/plugins/system")}
			if diff := cmp.Diff([]string{tc.old, tc.new, tc.system}, got); diff != "" {
				t.Errorf("old, new, system (-want +got):\n%s", diff)
			}
			if carried := at(spec, "deckhouse-cli") != ""; carried == p.OnlyExtraImages {
				t.Errorf("d8 is carried: %v", carried)
			}
		})
	}
}

// A package is no module, whatever its name (S5.9.1).
func TestPluginsAreNotForPackages(t *testing.T) {
	c := newCatalog().addOn(Packages, "pg", "stable=v1.5.0", "v1.5.0").row("modules", "").
		beside("", "v1").beside("plugins", "mgr").plugin("mgr", "v1.0.0", needsModule("pg", ""))
	spec, _ := selectAll(t, c, Policy{NoPlatform: true, NoSecurityDB: true, NoInstaller: true})
	if got := at(spec, "deckhouse-cli/plugins/mgr"); got != "" {
		t.Errorf("%s is chosen for a package", got)
	}
}

// What was passed over is said, with the reason (S5.10.6, S5.9.3).
func TestPluginNotes(t *testing.T) {
	c := newCatalog().withoutPackages().
		row("release-channel", "alpha beta early-access stable rock-solid v1.70.0").channels("platform", "alpha=v1.70.0 beta=v1.70.0 early-access=v1.70.0 stable=v1.70.0 rock-solid=v1.70.0").
		addOn(Modules, "pg", "stable=v1.5.0", "v1.5.0").
		beside("", "").unlisted().beside("plugins", "mgr").
		plugin("mgr", "v1.0.0", needsModule("pg", ">=2.0.0")).
		beside("plugins/package", "").unlisted().beside("plugins/system", "").unlisted()
	_, notes := selectAll(t, c, Policy{NoSecurityDB: true, NoInstaller: true, NoPackages: true})
	got := map[string]string{}
	for _, n := range notes {
		got[n.Subject] = n.Text
	}
	want := map[string]string{
		"d8":             cliRoot + " lists no release that this login may see, so d8 itself is not carried",
		"plugin mgr":     "not carried: no version fits module pg v1.5.0: v1.0.0: it does not accept module pg v1.5.0",
		"plugin package": "not carried: the source does not publish it, or the login may not see it; d8 does with its own package",
		"plugin system":  "not carried: the source does not publish it, or the login may not see it",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// S3.10: the newest release that is no pre-release; marks of builds are none.
func TestCLIVersion(t *testing.T) {
	for _, tc := range []struct{ tags, pin, want string }{
		{"v0.9.0 v0.10.0 v0.2.0", "", "v0.10.0?"},
		{"v0.10.0 v0.11.0-rc.1 v0.11.0-alpha v0.11.0-beta.1 v0.11.0-pre v0.11.0-preview.2 v0.11.0-snapshot", "", "v0.10.0?"},
		{"v0.10.0 v0.11.0-main", "", "v0.11.0-main?"},
		{"v0.10.0 1.0 latest", "", "1.0?"},
		{"v0.9.0 v0.10.0", "v0.9.0", "v0.9.0"},
		{"v0.9.0 v0.10.0", "0.9.0", "v0.9.0"}, // either spelling, as S9 row 66
		{"v0.10.0 nightly", "nightly", "nightly"},
		{"v0.11.0-rc.1", "", ""},
		{"", "", ""},
	} {
		spec, notes := selectAll(t, newCatalog().withoutPackages().beside("", tc.tags), onlyCLI(Policy{NoModules: true, DeckhouseCLITag: tc.pin}))
		if got := at(spec, "deckhouse-cli"); got != tc.want {
			t.Errorf("S3.10: of %q, pinned to %q, %q is taken, want %q", tc.tags, tc.pin, got, tc.want)
		}
		if (len(notes) == 1) != (tc.want == "") {
			t.Errorf("of %q: notes %v", tc.tags, notes)
		}
	}
	_, _, err := Select(newCatalog().withoutPackages().beside("", "v0.9.0").CatalogSpec, onlyCLI(Policy{NoModules: true, DeckhouseCLITag: "v9"}))
	if fault.KindOf(err) != fault.Policy || !strings.Contains(err.Error(), `"v9"`) {
		t.Errorf("S3.10: a pin that is not there: %v", err)
	}
}

// That discover did not look is never taken for an absence.
func TestPluginsNotLookedAt(t *testing.T) {
	base := func() *catalog {
		return newCatalog().withoutPackages().addOn(Modules, "pg", "stable=v1.5.0", "v1.5.0").beside("", "v1")
	}
	unread := base().beside("plugins", "mgr").beside("plugins/mgr", "v1.0.0")
	for name, tc := range map[string]struct {
		cat *catalog
		p   Policy
	}{
		"d8":                    {newCatalog().withoutPackages(), Policy{NoModules: true}},
		"the catalogue":         {base(), Policy{}},
		"a plugin":              {base().beside("plugins", "mgr").row("x", ""), Policy{NoModules: true, NoPlatform: true, IncludePlugins: []string{"x"}, NoPlugins: true}},
		"a contract":            {unread, Policy{}},
		"what goes with it all": {base(), Policy{NoModules: true, NoPlatform: false}},
	} {
		p := tc.p
		if name != "what goes with it all" {
			p = onlyCLI(p)
		} else {
			p.NoPackages, p.DeckhouseTag = true, "pr1"
		}
		_, _, err := Select(tc.cat.CatalogSpec, p)
		want := fault.Damaged
		if name == "a plugin" { // the catalogue was read, and does not name it
			want = fault.Policy
		}
		if fault.KindOf(err) != want {
			t.Errorf("%s: got %v (%v), want %v", name, err, fault.KindOf(err), want)
		}
	}
}
