package deckhouse

import (
	"strings"
	"testing"

	"ferry/pkg/contract"

	"github.com/google/go-cmp/cmp"
)

// packages has one package whose release repository knows more than channels
// lead to, and one that is announced only.
func packages() *catalog {
	c := newCatalog().addOn(Packages, "p", "stable=v1.1.0", "v1.0.0 v1.1.0").
		row("packages/silent", "").release(Packages, "silent", "", "")
	c.Repositories[0].Tags = []string{"p", "silent"}
	last := &c.Repositories[2]
	last.Tags = append(last.Tags, "v1.0.0", "v1.1.0", "v1.1.0.att")
	return c
}

// One archive holds what the release repositories of all packages have, but for
// the tags that the archive of a selected package owns (S5.8, S9 row 70).
func TestPackageVersions(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy Policy
		own    string // in packages/p/version, by package-p
		rest   string // the same, by package-versions
	}{
		{"selected", Policy{}, "stable v1.1.0?", "v1.0.0? v1.1.0.att?"},
		{"--no-packages", Policy{NoPackages: true}, "", "stable? v1.0.0? v1.1.0.att? v1.1.0?"},
		{"excluded", Policy{ExcludePackages: []string{"p"}}, "", "stable? v1.0.0? v1.1.0.att? v1.1.0?"},
		{"excluded version", Policy{ExcludePackages: []string{"p@^1.1"}}, "", "stable? v1.0.0? v1.1.0.att? v1.1.0?"},
		{"range", Policy{IncludePackages: []string{"p@>=1.0.0"}}, "stable v1.0.0? v1.1.0?", "v1.1.0.att?"},
		{"tag with a channel", Policy{IncludePackages: []string{"p@=v1.0.0+alpha"}}, "alpha<v1.0.0? v1.0.0?", "stable? v1.1.0.att? v1.1.0?"},
		{"pin", Policy{IncludePackages: []string{"p@=v1.0.0"}},
			"alpha<v1.0.0? beta<v1.0.0? early-access<v1.0.0? lts<v1.0.0? rock-solid<v1.0.0? stable<v1.0.0? v1.0.0?", "v1.1.0.att? v1.1.0?"},
		{"extra images alone", Policy{OnlyExtraImages: true, NoPackages: true, NoModules: true, IncludePackages: []string{"p@=v1.0.0"}},
			"", "stable? v1.0.0? v1.1.0.att? v1.1.0?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cat := packages()
			if tc.policy.OnlyExtraImages { // which wins over --no-modules
				cat.row("modules", "")
			}
			spec, _ := selectAll(t, cat, onlyPackages(tc.policy))
			got := []string{at(in(spec, "package-p"), "packages/p/version"), at(in(spec, "package-versions"), "packages/p/version")}
			if diff := cmp.Diff([]string{tc.own, tc.rest}, got); diff != "" {
				t.Errorf("in package-p, in package-versions (-want +got):\n%s", diff)
			}
			announced := []contract.DiscoveryTag{{Path: "packages", Tag: "p", Phase: contract.PhaseDiscovery, Needs: "packages/p"}}
			if diff := cmp.Diff(announced, spec.Discovery); diff != "" {
				t.Errorf("discovery tags (-want +got):\n%s", diff)
			}
		})
	}
}

// Where a release repository has no tag list, its channels and the versions that
// they name are all there is; packages without images leave no archive (S5.8).
func TestPackageVersionsOddSources(t *testing.T) {
	unlisted := newCatalog().row("packages", "p").release(Packages, "p", "stable=1.1.0", "").unlisted()
	spec, notes := selectAll(t, unlisted, onlyPackages(Policy{NoPackages: true}))
	if got := at(spec, "packages/p/version"); got != "stable? v1.1.0?" {
		t.Errorf("without a list %s is wanted", got)
	}
	wantNote := []Note{{"package-versions", testSource + "/packages/p/version has no tag list, so its channels and their versions are all that is carried of it"}}
	if diff := cmp.Diff(wantNote, notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}

	silent := newCatalog().row("packages", "p").release(Packages, "p", "", "")
	if spec, _ := selectAll(t, silent, onlyPackages(Policy{NoPackages: true})); len(spec.Archives)+len(spec.Discovery) > 0 {
		t.Errorf("a package without versions leaves archives %v, discovery tags %v", spec.Archives, spec.Discovery)
	}

	// One that is named like the archive of versions shares it.
	versions := newCatalog().addOn(Packages, "versions", "stable=v1.0.0", "").release(Packages, "old", "alpha=v0.1.0", "")
	versions.Repositories[0].Tags = []string{"old", "versions"}
	spec, _ = selectAll(t, versions, onlyPackages(Policy{ExcludePackages: []string{"old"}}))
	want := []contract.Archive{{Name: "package-versions", Layouts: []string{"packages/versions", "packages/versions/version"}}}
	if diff := cmp.Diff(want, spec.Archives); diff != "" {
		t.Errorf("archives (-want +got):\n%s", diff)
	}
}

// The phases follow from what a tag is: an attestation leads nowhere, a channel
// leads to versions.
func TestPackageVersionsPhases(t *testing.T) {
	spec, _ := selectAll(t, packages(), onlyPackages(Policy{NoPackages: true}))
	got := map[string]int{}
	for _, im := range spec.Images {
		got[im.Tag] = im.Phase
	}
	want := map[string]int{
		"stable": contract.PhaseChannel, "v1.0.0": contract.PhaseVersion, "v1.1.0": contract.PhaseVersion, "v1.1.0.att": contract.PhaseContent,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
}

func TestPackageNotes(t *testing.T) {
	for _, tc := range []struct {
		name   string
		cat    *catalog
		policy Policy
		want   string // the notes' texts
	}{
		{"no packages (S5.7, S9 row 10)", newCatalog().withoutPackages(), Policy{}, "/packages lists no packages"},
		{"no packages, none wanted", newCatalog().withoutPackages(), Policy{NoPackages: true}, ""},
		{"no lists (S9 row 75)", newCatalog().withoutPackages().unlisted(), Policy{NoPackages: true}, "/packages has no tag list, so the versions of packages are not carried"},
		{"announced only (S9 row 12)", packages(), Policy{}, ""},
		{"include wins", packages(), Policy{NoPackages: true, IncludePackages: []string{"p"}}, "--include-package wins over --no-packages"},
	} {
		_, notes := selectAll(t, tc.cat, onlyPackages(tc.policy))
		var texts []string
		for _, n := range notes {
			texts = append(texts, strings.TrimPrefix(n.Text, testSource))
		}
		if diff := cmp.Diff(tc.want, strings.Join(texts, "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}
