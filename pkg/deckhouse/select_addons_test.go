package deckhouse

import (
	"slices"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"

	"github.com/google/go-cmp/cmp"
)

const (
	consoleChannels = "alpha=v1.43.5 beta=v1.43.5 early-access=v1.43.5 stable=v1.43.5 rock-solid=v1.43.5"
	consoleTags     = "v1.39.0 v1.40.0 v1.40.1 v1.41.0 v1.42.0 v1.43.0 v1.43.5"
)

// only leaves out all but one family, of which it names add-ons.
func only(f Family, include, exclude []string) Policy {
	if f == Packages {
		return onlyPackages(Policy{IncludePackages: include, ExcludePackages: exclude})
	}
	return onlyModules(Policy{IncludeModules: include, ExcludeModules: exclude})
}

// in is what lands in one archive, uncounted.
func in(spec contract.SelectionSpec, archive string) contract.SelectionSpec {
	spec.Overview = contract.Overview{}
	spec.Images = slices.DeleteFunc(slices.Clone(spec.Images), func(im contract.SelectedImage) bool { return im.Archive != archive })
	spec.Archives = slices.DeleteFunc(slices.Clone(spec.Archives), func(a contract.Archive) bool { return a.Name != archive })
	return spec
}

// S3.4.1, S3.4.2, S3.4.3, S3.4.6, S3.4.9, S9 rows 3, 13 and 19.
func TestAddOnVersions(t *testing.T) {
	const console = "console"
	aliases := func(tag string, names string) string {
		return strings.Join(strings.Fields(names), "<"+tag+"? ") + "<" + tag + "?"
	}
	for _, tc := range []struct {
		name, channels, tags string
		include, exclude     []string
		versions             string
		release              string // channels in the release repository
	}{
		// The worked table of S3.4. What channels alone name is optional, as
		// in S5.6.6.
		{"bare", consoleChannels, consoleTags, []string{"console"}, nil, "v1.43.5?", allFive},
		{"bare version", consoleChannels, consoleTags, []string{"console@1.40.0"}, nil, "v1.40.1 v1.41.0 v1.42.0 v1.43.5", allFive},
		{"caret", consoleChannels, consoleTags, []string{"console@^1.40.0"}, nil, "v1.40.1 v1.41.0 v1.42.0 v1.43.5", allFive},
		{"tilde", consoleChannels, consoleTags, []string{"console@~1.40.0"}, nil, "v1.40.1 v1.43.5?", allFive},
		{"range", consoleChannels, consoleTags, []string{"console@>=1.40.0 <1.43.0"}, nil, "v1.40.0 v1.40.1 v1.41.0 v1.42.0 v1.43.5?", allFive},
		{"exact", consoleChannels, consoleTags, []string{"console@=v1.40.0"}, nil, "v1.40.0", aliases("v1.40.0", "alpha beta early-access lts rock-solid stable")},
		{"two exact", consoleChannels, consoleTags, []string{"console@=v1.40.0", "console@=v1.41.0+stable"}, nil, "v1.40.0 v1.41.0", aliases("v1.41.0", "stable")},
		{"deckhouse-cli#220", "alpha=v1.6.5 stable=v1.6.5", "v1.6.0 v1.6.1 v1.6.2 v1.6.3 v1.6.4 v1.6.5 v1.7.0 v1.7.1", []string{"console@v1.6.0"}, nil, "v1.6.5 v1.7.1", "alpha stable"},
		{"csi-huawei", "alpha=v0.3.13 stable=v0.3.13", "v0.1.1 v0.2.9 v0.3.11 v0.3.13", []string{"console"}, nil, "v0.3.13?", "alpha stable"},

		{"no filter", consoleChannels + " lts=v1.39.0", consoleTags, nil, nil, "v1.39.0? v1.43.5?", "alpha beta early-access lts rock-solid stable"},
		{"exact with a channel", consoleChannels, consoleTags, []string{"console@=v1.40.0+lts"}, nil, "v1.40.0", aliases("v1.40.0", "lts")},
		{"exact with something else (S3.2 row 29)", consoleChannels, consoleTags, []string{"console@=v1.40.0+bogus"}, nil, "v1.40.0", aliases("v1.40.0", "alpha beta early-access lts rock-solid stable")},
		{"exact and range (S3.4.4)", consoleChannels, consoleTags, []string{"console@=pr7", "console@~1.41.0"}, nil, "pr7 v1.41.0 v1.43.5?", allFive},
		{"exact, of a module without channels", "", "", []string{"console@=v9.0.0"}, nil, "v9.0.0", aliases("v9.0.0", "alpha beta early-access lts rock-solid stable")},
		{"suspended is ignored (S3.4.7)", "stable=v1.0.0!", "v1.0.0", nil, nil, "v1.0.0?", "stable"},
		{"channel without v (S1.4.4)", "stable=1.0.0", "v1.0.0", nil, nil, "v1.0.0?", "stable"},
		{"tag without v (S9 row 65)", "stable=1.0.0", "1.0.0", nil, nil, "1.0.0?", "stable"},
		{"excluded whole", consoleChannels, consoleTags, nil, []string{"console"}, "", ""},
		{"excluded versions (S9 row 78)", "alpha=v1.43.5 stable=v1.40.0", consoleTags, nil, []string{"console@>=1.43.0"}, "v1.40.0?", "stable"},
		{"excluded tag", "alpha=v1.43.5 stable=v1.40.0", consoleTags, nil, []string{"console@=v1.40.0"}, "v1.43.5?", "alpha"},
		{"excluded versions that are none of the channels'", "stable=v1.40.0", consoleTags, nil, []string{"console@~1.39.0"}, "v1.40.0?", "stable"},
	} {
		for _, f := range Families() {
			t.Run(f.one+"/"+tc.name, func(t *testing.T) {
				cat := newCatalog().addOn(f, console, tc.channels, tc.tags)
				if f == Modules {
					cat.withoutPackages()
				}
				spec, _ := selectAll(t, cat, only(f, tc.include, tc.exclude))
				spec = in(spec, f.archive(console))
				var versions, channels []string
				for tag := range strings.FieldsSeq(at(spec, f.releasePath(console))) {
					if name, _, _ := strings.Cut(strings.TrimSuffix(tag, "?"), "<"); IsChannel(name) {
						channels = append(channels, tag)
					} else {
						versions = append(versions, tag)
					}
				}
				if diff := cmp.Diff([]string{tc.versions, tc.release}, []string{at(spec, f.path(console)), strings.Join(channels, " ")}); diff != "" {
					t.Errorf("versions, channels (-want +got):\n%s", diff)
				}
				for i, tag := range strings.Fields(tc.versions) { // S9 row 43
					if want := strings.TrimSuffix(tag, "?") + "?"; i >= len(versions) || versions[i] != want {
						t.Errorf("release versions are %q, want %q among them", versions, want)
					}
				}
				wantArchive := tc.versions != ""
				if wantArchive != (len(spec.Archives) == 1) {
					t.Errorf("%d archives for the versions %q", len(spec.Archives), tc.versions)
				}
				// package-versions announces packages that are left out (S5.8).
				if f == Modules && wantArchive != (len(spec.Discovery) == 1) {
					t.Errorf("%d discovery tags for the versions %q", len(spec.Discovery), tc.versions)
				}
			})
		}
	}
}

// S1.7.3, S5.6.3, S5.6.7, S5.6.8, S5.6.9, S5.6.10, S9 rows 33 and 34: links
// stand at version images alone.
func TestAddOnImages(t *testing.T) {
	for _, f := range Families() {
		t.Run(f.one, func(t *testing.T) { testAddOnImages(t, f) })
	}
}

func testAddOnImages(t *testing.T, f Family) {
	path, release := f.many+"/console", f.many+"/console/release"
	if f == Packages {
		release = "packages/console/version"
	}
	source, archive := testSource+"/"+path, f.one+"-console"
	cat := newCatalog().addOn(f, "console", "stable=v1.43.5", consoleTags)
	if f == Modules {
		cat.withoutPackages()
	}
	spec, _ := selectAll(t, cat, only(f, nil, nil))
	vex := contract.Link{
		Kind: contract.LinkAttached, Templates: []string{"{digest}.att", "{tag}.att"},
		Repository: source, Path: path, Optional: true,
	}
	extra := contract.Link{
		Kind: contract.LinkNamedTags, File: "extra_images.json",
		Repository: source + "/extra", Path: path + "/extra", Optional: true, Links: []contract.Link{vex},
	}
	internal := contract.Link{
		Kind: contract.LinkDigests, File: "images_digests.json",
		Repository: source, Path: path, Links: []contract.Link{vex},
	}
	version := contract.SelectedImage{
		Source: source + ":v1.43.5", Archive: archive, Path: path, Tag: "v1.43.5",
		Phase: contract.PhaseVersion, Optional: true, Reason: "channel stable", Links: []contract.Link{extra, internal, vex},
	}
	want := contract.SelectionSpec{
		Vendor: Vendor, Source: testSource,
		Archives: []contract.Archive{{Name: archive, Layouts: []string{path, release}}},
		Images: []contract.SelectedImage{
			version,
			{Source: testSource + "/" + release + ":stable", Archive: archive, Path: release, Tag: "stable", Phase: contract.PhaseChannel, Needs: path + ":v1.43.5", Reason: "channel at v1.43.5"},
			{Source: testSource + "/" + release + ":v1.43.5", Archive: archive, Path: release, Tag: "v1.43.5", Phase: contract.PhaseVersion, Optional: true, Reason: "channel stable"},
		},
		Attached:  anyAttachment,
		Discovery: []contract.DiscoveryTag{{Path: f.many, Tag: "console", Phase: contract.PhaseDiscovery, Needs: path}},
	}
	spec.Overview = contract.Overview{} // see TestOverview
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("one channel (-want +got):\n%s", diff)
	}

	policy := only(f, nil, nil)
	policy.SkipVEX = true
	spec, _ = selectAll(t, cat, policy)
	version.Links = []contract.Link{extra, internal}
	version.Links[0].Links, version.Links[1].Links = nil, nil
	if diff := cmp.Diff(version, images(spec, path)[0]); diff != "" {
		t.Errorf("without VEX (-want +got):\n%s", diff)
	}
}

// A pinned tag that is a channel's name is carried once, as the channel.
func TestPinnedModuleChannel(t *testing.T) {
	cat := newCatalog().withoutPackages().addOn(Modules, "console", consoleChannels, consoleTags)
	spec, _ := selectAll(t, cat, onlyModules(Policy{IncludeModules: []string{"console@=stable"}}))
	if err := spec.Validate(); err != nil {
		t.Errorf("the selection is not valid: %v", err)
	}
	for _, im := range images(spec, "modules/console/release") {
		if im.Phase != contract.PhaseChannel || !strings.HasSuffix(im.Source, "/release:stable") {
			t.Errorf("release:%s of phase %d comes from %s", im.Tag, im.Phase, im.Source)
		}
	}
}

// S2.4.5, S5.6.11.
func TestOnlyExtraImages(t *testing.T) {
	cat := newCatalog().withoutPackages().addOn(Modules, "console", consoleChannels, consoleTags)
	policy := onlyModules(Policy{OnlyExtraImages: true, NoModules: true, IncludeModules: []string{"console@~1.40.0", "console@=v1.39.0"}})
	spec, _ := selectAll(t, cat, policy)
	if got := at(spec, "modules/console") + "|" + at(spec, "modules/console/release"); got != "v1.39.0 v1.40.1|" {
		t.Errorf("selected %s, want no channel and no release image", got)
	}
	for _, im := range spec.Images {
		if !im.LinksOnly || len(im.Links) != 1 || im.Links[0].File != "extra_images.json" {
			t.Errorf("%s: links only %v, links %v", im.Source, im.LinksOnly, im.Links)
		}
	}
	policy.IncludeModules = nil // S3.4.8
	spec, notes := selectAll(t, cat, policy)
	if len(spec.Images) != 0 || len(notes) == 0 || !strings.Contains(notes[0].Text, "--include-module") {
		t.Errorf("without versions: %d images, notes %v; want none, and advice", len(spec.Images), notes)
	}
}

// S1.2.1, S9 row 20.
func TestModulesElsewhere(t *testing.T) {
	for suffix, prefix := range map[string]string{"": "modules/", "/modules": "modules/", "my/mods/": "my/mods/", "/": ""} {
		cat := newCatalog().withoutPackages().row(strings.TrimSuffix(prefix, "/"), "console v1.70.0 alpha sha256-12.att").
			row(prefix+"console/release", "").channels("module/console", "stable=v1.0.0").row(prefix+"console", "")
		spec, _ := selectAll(t, cat, onlyModules(Policy{ModulesPathSuffix: suffix}))
		var got []string
		for _, im := range spec.Images {
			got = append(got, strings.TrimPrefix(im.Source, testSource+"/")+" -> "+im.Path)
		}
		want := []string{ // S6.2.1: the same place in archives, whatever the source
			prefix + "console:v1.0.0 -> modules/console",
			prefix + "console/release:stable -> modules/console/release",
			prefix + "console/release:v1.0.0 -> modules/console/release",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("suffix %q (-want +got):\n%s", suffix, diff)
		}
	}
}

func TestModulesRefuse(t *testing.T) {
	for _, tc := range []struct {
		name       string
		include    []string
		kind       *fault.Kind
		text, hint string
	}{
		{"typo (S9 row 80)", []string{"consle"}, fault.Policy, `"consle"`, `"console"`},
		{"another name", []string{"zzzzzzzz"}, fault.Policy, `"zzzzzzzz"`, "2 modules"},
		{"no version matches", []string{"console@^9"}, fault.Policy, `"^9"`, "v1.43.5"},
		{"no channels", []string{"silent"}, fault.Policy, "silent has no release channels", "silent@"},
		{"two owners of a channel", []string{"console@=v1+stable", "console@=v2+stable"}, fault.Usage, "both v1 and v2", ""},
	} {
		cat := newCatalog().withoutPackages().addOn(Modules, "console", consoleChannels, consoleTags).row("modules/silent/release", "").row("modules/silent", "")
		cat.Repositories[1].Tags = []string{"console", "silent"}
		_, _, err := Select(cat.CatalogSpec, only(Modules, tc.include, nil))
		if fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) || !strings.Contains(fault.HintOf(err), tc.hint) {
			t.Errorf("%s: got %v (%s), want %v with %q and the hint %q", tc.name, err, fault.HintOf(err), tc.kind, tc.text, tc.hint)
		}
	}
}

// S5.6.2.
func TestModuleNotes(t *testing.T) {
	// S9 row 12: of what nobody named, and nothing is published of, no word.
	if _, notes := selectAll(t, newCatalog().withoutPackages().addOn(Modules, "console", "", ""), onlyModules(Policy{})); len(notes) > 0 {
		t.Errorf("announced only: %v", notes)
	}
	// With --only-extra-images one word for all.
	two := newCatalog().withoutPackages().row("modules", "a b").row("modules/a", "").row("modules/b", "").release(Modules, "a", "", "").release(Modules, "b", "", "")
	if _, notes := selectAll(t, two, onlyModules(Policy{OnlyExtraImages: true})); len(notes) != 2 || notes[0].Subject != "modules" || notes[1].Subject != "packages" {
		t.Errorf("extra images alone: %v, want one note about all modules, and one about packages", notes)
	}
	for _, tc := range []struct {
		name   string
		cat    *catalog
		policy Policy
		want   Note
	}{
		{"no modules (S9 row 73)", newCatalog().withoutPackages().row("modules", ""), Policy{},
			Note{"modules", testSource + "/modules lists no modules; check the source and --modules-path-suffix"}},
		{"excluded by a typo", newCatalog().withoutPackages().addOn(Modules, "console", "stable=v1.0.0", ""), Policy{ExcludeModules: []string{"consle"}},
			Note{"module consle", `--exclude-module names a module that the source does not have; it has "console"`}},
		{"all versions excluded", newCatalog().withoutPackages().addOn(Modules, "console", "stable=v1.0.0", ""), Policy{ExcludeModules: []string{"console@^1.0.0"}},
			Note{"module console", "--exclude-module leaves nothing of it"}},
		{"include wins (S9 row 4)", newCatalog().withoutPackages().addOn(Modules, "console", "stable=v1.0.0", ""), Policy{NoModules: true, IncludeModules: []string{"console"}},
			Note{"modules", "--include-module wins over --no-modules"}},
	} {
		_, notes := selectAll(t, tc.cat, onlyModules(tc.policy))
		if diff := cmp.Diff([]Note{tc.want}, notes); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}
