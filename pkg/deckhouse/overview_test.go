package deckhouse

import (
	"fmt"
	"strings"
	"testing"

	"ferry/pkg/contract"

	"github.com/google/go-cmp/cmp"
)

// counted writes an overview as people would: a line a component, its members
// behind it.
func counted(o contract.Overview) []string {
	var lines []string
	for _, c := range o.Components {
		text := c.Name + " " + string(c.State) + c.Flag
		if c.Remark+c.Caution != "" {
			text += " (" + c.Remark + c.Caution + ")"
		}
		for _, m := range o.Of(c.Name) {
			text += fmt.Sprintf("; %s in %s at %q: %s", m.Name, m.Archive, m.Path, strings.Join(m.Versions, " "))
			if m.Group != "" {
				text += " (" + m.Group + ")"
			}
			if len(m.Channels) > 0 {
				text += fmt.Sprintf(" + %s at %s", strings.Join(m.Channels, " "), m.ChannelPath)
			}
		}
		lines = append(lines, text)
	}
	return lines
}

const (
	noPlatform = "Platform leftOut--no-platform"
	noModules  = "Modules leftOut--no-modules"
	noPackages = "Packages leftOut--no-packages"
	noVersions = "Package versions absent"
	noCLI      = "d8 CLI leftOut--no-deckhouse-cli"
	noPlugins  = "Plugins leftOut--no-plugins"
)

// S2.7.2, S2.7.3, S2.7.4: components with versions, newest first, channels, and why one is left
// out; each case is a policy on one edition.
func TestOverview(t *testing.T) {
	security := "Security wanted; trivy-bdu in security at \"security/trivy-bdu\": 1; trivy-checks in security at \"security/trivy-checks\": 0;" +
		" trivy-db in security at \"security/trivy-db\": 2; trivy-java-db in security at \"security/trivy-java-db\": 1"
	for _, tc := range []struct {
		name   string
		cat    *catalog
		policy Policy
		want   []string
	}{
		{"everything", newCatalog().row("release-channel", "v1.69.0 v1.9.1 v1.70.2").channels("platform", "alpha=v1.70.2 beta=v1.70.2 early-access=v1.70.2 stable=v1.69.0 rock-solid=v1.9.1").
			addOn(Modules, "console", consoleChannels, consoleTags).addOn(Packages, "p", "stable=v1.0.0", "v1.0.0"), Policy{},
			[]string{
				`Platform wanted; Platform in platform at "": v1.70.2 v1.69.0 v1.9.1 + alpha beta early-access stable rock-solid at release-channel`,
				`Installer wanted; Installer in installer at "installer": latest`,
				security,
				`Modules wanted; console in module-console at "modules/console": v1.43.5 + alpha beta early-access stable rock-solid at modules/console/release`,
				`Packages wanted; p in package-p at "packages/p": v1.0.0 + stable at packages/p/version`,
				noVersions, noCLI, noPlugins,
			}},
		{"left out", newCatalog().withoutPackages(), Policy{NoPlatform: true, NoInstaller: true, NoSecurityDB: true, NoModules: true, NoPackages: true},
			[]string{noPlatform, "Installer leftOut--no-installer", "Security leftOut--no-security-db", noModules, noPackages, noVersions, noCLI, noPlugins}},
		{"an include wins (S2.4.5)", newCatalog().withoutPackages().addOn(Modules, "console", consoleChannels, consoleTags),
			Policy{NoPlatform: true, NoInstaller: true, NoSecurityDB: true, NoModules: true, NoPackages: true, IncludeModules: []string{"console@=v1.40.0"}},
			[]string{noPlatform, "Installer leftOut--no-installer", "Security leftOut--no-security-db",
				`Modules wanted; console in module-console at "modules/console": v1.40.0 + alpha beta early-access stable rock-solid lts at modules/console/release`,
				noPackages, noVersions, noCLI, noPlugins}},
		{"extra images of modules from elsewhere", newCatalog().withoutPackages().row("mods", "console").row("mods/console", consoleTags),
			Policy{NoPlatform: true, NoInstaller: true, NoSecurityDB: true, OnlyExtraImages: true, ModulesPathSuffix: "mods", IncludeModules: []string{"console@=v1.40.0"}},
			[]string{noPlatform, "Installer leftOut--no-installer", "Security leftOut--no-security-db",
				`Modules wanted (extra images onlythe modules come from registry.example/deckhouse/ee/mods instead of registry.example/deckhouse/ee/modules);` +
					` console in module-console at "modules/console": v1.40.0`,
				"Packages absent (extra images only)", noVersions, "d8 CLI leftOut--only-extra-images", "Plugins leftOut--only-extra-images"}},
		{"a custom tag", newCatalog().withoutPackages().row("", "pr123").row("release-channel", "pr123"), Policy{DeckhouseTag: "pr123", NoInstaller: true, NoSecurityDB: true, NoModules: true, NoPackages: true},
			[]string{`Platform wanted; Platform in platform at "": pr123 + alpha beta early-access stable rock-solid at release-channel`,
				"Installer leftOut--no-installer", "Security leftOut--no-security-db", noModules, noPackages, noVersions, noCLI, noPlugins}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !tc.policy.OnlyExtraImages {
				tc.policy = withoutCLI(tc.policy)
			}
			spec, notes := selectAll(t, tc.cat, tc.policy)
			if diff := cmp.Diff(tc.want, counted(spec.Overview)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if spec.Overview.Edition != "ee" {
				t.Errorf("edition %q", spec.Overview.Edition)
			}
			if len(spec.Overview.Notes) != len(notes) {
				t.Errorf("notes %v, want %v", spec.Overview.Notes, notes)
			}
		})
	}
}

// S2.7.2: plugins are counted by what brought them in first.
func TestOverviewOfPlugins(t *testing.T) {
	cat := newCatalog().withoutPackages().addOn(Modules, "pg", "stable=v1.5.0", "v1.5.0").beside("", "v0.9.0 v0.10.0").beside("plugins", "mgr tool").
		plugin("mgr", "v1.0.0", needsModule("pg", "")).plugin("tool", "v2.0.0")
	spec, _ := selectAll(t, cat, onlyCLI(Policy{IncludePlugins: []string{"tool"}}))
	got := counted(spec.Overview)
	want := []string{
		`d8 CLI wanted; d8 CLI in deckhouse-cli at "deckhouse-cli": v0.10.0`,
		`Plugins wanted; mgr in plugin-mgr at "deckhouse-cli/plugins/mgr": v1.0.0 (for modules); tool in plugin-tool at "deckhouse-cli/plugins/tool": v2.0.0 (included)`,
	}
	if diff := cmp.Diff(want, got[len(got)-2:]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// S2.7.3: of archives that d8 made the images alone tell what is in them:
// components of the platform that are known by tag are no versions of it.
func TestImportedOverview(t *testing.T) {
	image := func(archive, path, tag string) contract.Image {
		return contract.Image{Archive: archive, Path: path, Tag: tag, Phase: Imported{}.Phase(path, tag)}
	}
	hex := strings.Repeat("a", 64)
	got := counted(Imported{}.Overview([]contract.Image{
		image("deckhouse-cli", "deckhouse-cli", "v0.13.0"),
		image("package-p", "packages/p", "v1.0.0"),
		image("package-versions", "packages/p/version", "v0.9.0"),
		image("package-versions", "packages/versions", "v3.0.0"),
		image("package-versions", "packages/versions/version", "stable"),
		image("platform", "", hex),
		image("platform", "", "component-by-tag"),
		image("platform", "", "pr1"),
		image("platform", "", "v1.70.0"),
		image("platform", "install", "pr1"),
		image("platform", "install", "stable"),
		image("platform", "release-channel", "stable"),
		image("plugin-x", "deckhouse-cli/plugins/x", "v2.0.0"),
	}))
	want := []string{
		`Platform wanted; Platform in platform at "": v1.70.0 pr1 + stable at release-channel`,
		"Installer absent",
		"Security absent",
		"Modules absent",
		`Packages wanted; p in package-p at "packages/p": v1.0.0; versions in package-versions at "packages/versions": v3.0.0`,
		`Package versions wanted; p in package-versions at "packages/p/version": v0.9.0; versions in package-versions at "packages/versions/version":  + stable at packages/versions/version`,
		`d8 CLI wanted; d8 CLI in deckhouse-cli at "deckhouse-cli": v0.13.0`,
		`Plugins wanted; x in plugin-x at "deckhouse-cli/plugins/x": v2.0.0`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
