package deckhouse

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"

	"github.com/google/go-cmp/cmp"
)

const testSource = "registry.example/deckhouse/ee"

// catalog builds a Catalog of testSource.
type catalog struct{ contract.CatalogSpec }

func newCatalog() *catalog {
	return &catalog{contract.CatalogSpec{Vendor: Vendor, Source: testSource, Edition: "ee"}}
}

// withoutPackages adds an empty catalogue of packages, at which discover always
// looks.
func (c *catalog) withoutPackages() *catalog { return c.row("packages", "") }

// row adds a listed repository; tags are blank-separated.
func (c *catalog) row(path, tags string) *catalog {
	name := testSource
	if path != "" {
		name += "/" + path
	}
	c.Repositories = append(c.Repositories, contract.CatalogRepository{
		Repository: name, Component: "test", Role: "test", Tags: strings.Fields(tags), Listed: true,
	})
	return c
}

// unlisted says that only the given tags of the last repository are known.
func (c *catalog) unlisted() *catalog {
	c.Repositories[len(c.Repositories)-1].Listed = false
	return c
}

// channels adds "name=version" pairs; a trailing "!" suspends.
func (c *catalog) channels(component, pairs string) *catalog {
	for pair := range strings.FieldsSeq(pairs) {
		name, version, _ := strings.Cut(pair, "=")
		version, suspended := strings.CutSuffix(version, "!")
		c.CatalogSpec.Channels = append(c.CatalogSpec.Channels, contract.CatalogChannel{
			Component: component, Name: name, Version: version, Suspended: suspended,
		})
	}
	return c
}

// addOn adds an add-on with channels and version tags to a catalog that has no
// catalogue of the family yet.
func (c *catalog) addOn(f Family, name, channels, tags string) *catalog {
	return c.row(f.many, name).row(f.path(name), tags).release(f, name, channels, "")
}

// release adds a release repository, listed as discover does for packages.
func (c *catalog) release(f Family, name, channels, tags string) *catalog {
	c.row(f.releasePath(name), tags).channels(f.Member(name), channels)
	for pair := range strings.FieldsSeq(channels) {
		channel, _, _ := strings.Cut(pair, "=")
		last := &c.Repositories[len(c.Repositories)-1]
		last.Tags = append(last.Tags, channel)
	}
	if f == Modules {
		return c.unlisted()
	}
	return c
}

func selectAll(t *testing.T, c *catalog, p Policy) (contract.SelectionSpec, []Note) {
	t.Helper()
	c.Normalize()
	if err := c.Validate(); err != nil {
		t.Fatalf("the catalog of the test: %v", err)
	}
	spec, notes, err := Select(c.CatalogSpec, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Validate(); err != nil {
		t.Fatalf("the selection is not valid: %v", err)
	}
	return spec, notes
}

// at lists the tags that land at path, sorted, "?" behind optional ones, and
// "tag<from" where the tag at the source differs.
func at(spec contract.SelectionSpec, path string) string {
	var out []string
	for _, im := range spec.Images {
		if im.Path != path {
			continue
		}
		text := im.Tag
		if from := im.Source[strings.LastIndexByte(im.Source, ':')+1:]; from != im.Tag {
			text += "<" + from
		}
		if im.Optional {
			text += "?"
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func images(spec contract.SelectionSpec, path string) []contract.SelectedImage {
	var out []contract.SelectedImage
	for _, im := range spec.Images {
		if im.Path == path {
			out = append(out, im)
		}
	}
	return out
}

// withoutCLI leaves out d8 and its plugins, for tests of the rest.
func withoutCLI(p Policy) Policy {
	p.NoPlugins, p.NoDeckhouseCLI = true, true
	return p
}

func onlyPlatform(p Policy) Policy {
	p.NoModules, p.NoPackages, p.NoSecurityDB, p.NoInstaller = true, true, true, true
	return withoutCLI(p)
}

func onlyModules(p Policy) Policy {
	p.NoPlatform, p.NoPackages, p.NoSecurityDB, p.NoInstaller = true, true, true, true
	return withoutCLI(p)
}

func onlyPackages(p Policy) Policy {
	p.NoPlatform, p.NoModules, p.NoSecurityDB, p.NoInstaller = true, true, true, true
	return withoutCLI(p)
}

// anyAttachment is what a pull without flags looks for beside every image.
var anyAttachment = []contract.Link{
	{
		Kind: contract.LinkAttached, Templates: []string{"{digest}.sig", "{digest}.sbom", "{digest}.att", "{tag}.att"}, Optional: true,
		Links: []contract.Link{
			{Kind: contract.LinkAttached, Templates: []string{"{digest}.sig", "{digest}.sbom", "{digest}.att", "{tag}.att"}, Optional: true},
			{Kind: contract.LinkReferrers},
		},
	},
	{
		Kind: contract.LinkReferrers,
		Links: []contract.Link{
			{Kind: contract.LinkAttached, Templates: []string{"{digest}.sig", "{digest}.sbom", "{digest}.att", "{tag}.att"}, Optional: true},
			{Kind: contract.LinkReferrers},
		},
	},
}

// S1.7.4, S1.7.8: attachments are looked for beside every image, two levels deep.
// --skip-attachments leaves the attestations that d8 carries, --skip-vex-images
// leaves the rest.
func TestAttachments(t *testing.T) {
	choose := func(p Policy) contract.SelectionSpec {
		spec, _ := selectAll(t, platformCatalog(fiveChannels, fiveTags), onlyPlatform(p))
		return spec
	}
	text := func(links []contract.Link) string { return fmt.Sprint(links) }
	for _, tc := range []struct {
		name         string
		policy       Policy
		attached     []contract.Link
		attestations bool // in the links of install images (S1.7.2)
	}{
		{"all", Policy{}, anyAttachment, true},
		{"no attachments", Policy{SkipAttachments: true}, []contract.Link{}, true},
		{"neither", Policy{SkipAttachments: true, SkipVEX: true}, []contract.Link{}, false},
	} {
		spec := choose(tc.policy)
		if diff := cmp.Diff(tc.attached, spec.Attached); diff != "" {
			t.Errorf("%s: attached (-want +got):\n%s", tc.name, diff)
		}
		for _, im := range images(spec, "install") {
			if got := strings.Contains(text(im.Links), ".att"); len(im.Links) > 0 && got != tc.attestations {
				t.Errorf("%s: attestations are looked for: %v", tc.name, got)
			}
		}
		if err := spec.Validate(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	vex := text(choose(Policy{SkipVEX: true}).Attached)
	if strings.Contains(vex, ".att") || !strings.Contains(vex, ".sig") || !strings.Contains(vex, "referrers") {
		t.Errorf("without attestations %s is looked for", vex)
	}
}

// S1.2.1, S1.7.4: where modules stand in the edition's root, what is attached to
// components is no module.
func TestAttachmentsAreNoModules(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	tags := []string{"console", "v1.69.0", "stable", hex, "sha256-" + hex, "sha256-" + hex + ".sig", "sha256-" + hex + ".sbom", "v1.69.0.att"}
	if diff := cmp.Diff([]string{"console"}, Names(tags)); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
}

// S1.2.2, S5.5, S9 rows 23 and 31: what an edition may lack is optional.
func TestSecurityAndInstaller(t *testing.T) {
	p := withoutCLI(Policy{NoPlatform: true, NoModules: true, NoPackages: true})
	spec, _ := selectAll(t, newCatalog().withoutPackages(), p)
	want := contract.SelectionSpec{
		Vendor: Vendor, Source: testSource,
		Archives: []contract.Archive{
			{Name: "installer", Layouts: []string{"installer"}},
			{Name: "security", Layouts: []string{"security/trivy-bdu", "security/trivy-checks", "security/trivy-db", "security/trivy-java-db"}},
		},
		Images: []contract.SelectedImage{
			// Beside the edition, not in it (S1.1.1).
			{Source: "registry.example/deckhouse/installer:latest", Archive: "installer", Path: "installer", Tag: "latest", Phase: contract.PhaseVersion, Optional: true, Reason: "default installer"},
			{Source: testSource + "/security/trivy-bdu:1", Archive: "security", Path: "security/trivy-bdu", Tag: "1", Phase: contract.PhaseVersion, Optional: true, Reason: "security database"},
			{Source: testSource + "/security/trivy-checks:0", Archive: "security", Path: "security/trivy-checks", Tag: "0", Phase: contract.PhaseVersion, Optional: true, Reason: "security database"},
			{Source: testSource + "/security/trivy-db:2", Archive: "security", Path: "security/trivy-db", Tag: "2", Phase: contract.PhaseVersion, Optional: true, Reason: "security database"},
			{Source: testSource + "/security/trivy-java-db:1", Archive: "security", Path: "security/trivy-java-db", Tag: "1", Phase: contract.PhaseVersion, Optional: true, Reason: "security database"},
		},
		Attached:  anyAttachment,
		Discovery: []contract.DiscoveryTag{},
	}
	spec.Overview = contract.Overview{} // see TestOverview
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	p.InstallerTag = "v0.3.0" // S9 row 74: what was asked for must be there
	spec, _ = selectAll(t, newCatalog().withoutPackages(), p)
	if got := at(spec, "installer"); got != "v0.3.0" {
		t.Errorf("explicit installer: %s, want it required", got)
	}
	p.NoSecurityDB, p.NoInstaller = true, true
	if spec, _ = selectAll(t, newCatalog().withoutPackages(), p); len(spec.Images)+len(spec.Archives) > 0 {
		t.Errorf("everything is left out, yet %d images are wanted", len(spec.Images))
	}
}

func TestSelectRefusesForeignCatalogs(t *testing.T) {
	other := newCatalog()
	other.Vendor = "generic"
	for name, tc := range map[string]struct {
		cat *catalog
		p   Policy
	}{
		"another vendor":                 {other, Policy{}},
		"another source":                 {newCatalog(), Policy{Source: "registry.example/deckhouse/fe"}},
		"platform not looked at":         {newCatalog().row("modules", ""), Policy{}},
		"releases not listed":            {newCatalog().row("modules", "").row("release-channel", "").unlisted(), Policy{}},
		"modules not looked at":          {newCatalog(), onlyModules(Policy{})},
		"module not looked at":           {newCatalog().row("modules", "console"), onlyModules(Policy{})},
		"module's versions not listed":   {newCatalog().row("modules", "m").row("modules/m/release", ""), onlyModules(Policy{IncludeModules: []string{"m@^1"}})},
		"packages not looked at":         {newCatalog(), onlyPackages(Policy{})},
		"packages not listed":            {newCatalog().row("packages", "").unlisted(), onlyPackages(Policy{})},
		"versions not looked at":         {newCatalog(), onlyPackages(Policy{NoPackages: true})},
		"package's versions not read":    {newCatalog().row("packages", "p"), onlyPackages(Policy{NoPackages: true})},
		"channels of an excluded one":    {newCatalog().row("packages", "p").row("packages/p/version", "stable v1.0.0"), onlyPackages(Policy{})},
		"modules elsewhere":              {newCatalog().row("modules", ""), onlyModules(Policy{ModulesPathSuffix: "mods"})},
		"channels of a pin not read":     {newCatalog(), onlyPlatform(Policy{DeckhouseTag: "v1.70.0"})},
		"platform channel at no version": {newCatalog().row("release-channel", "").channels("platform", "alpha=bob"), onlyPlatform(Policy{})},
	} {
		if _, _, err := Select(tc.cat.CatalogSpec, tc.p); fault.KindOf(err) != fault.Damaged {
			t.Errorf("%s: got %v, want a damaged catalog", name, err)
		}
	}
}

// S1.3.2: six words and no others are channels.
func TestIsChannel(t *testing.T) {
	for _, name := range strings.Fields("alpha beta early-access stable rock-solid lts") {
		if !IsChannel(name) {
			t.Errorf("%s is no channel", name)
		}
	}
	for _, name := range strings.Fields("Stable EarlyAccess rocksolid LTS latest v1.0.0 stable-1") {
		if IsChannel(name) {
			t.Errorf("%s is a channel", name)
		}
	}
}

// S3.4.5: the order of what the source answered shapes nothing.
func TestSelectIsSorted(t *testing.T) {
	policy := Policy{IncludeModules: []string{"console@^1.40.0"}, NoSecurityDB: true, NoInstaller: true}
	cat := platformCatalog(fiveChannels, fiveTags).addOn(Modules, "console", consoleChannels, consoleTags).
		beside("", "v1.0.0 v1.1.0").beside("plugins", "a b").beside("plugins/package", "").unlisted().plugin("system", "v1.0.0").
		plugin("a", "v1.0.0 v1.1.0", needsModule("console", ">=1.40.0"), needsModule("console", "<2")).plugin("b", "v1.0.0", needsModule("console", ""))
	want, _, err := Select(cat.CatalogSpec, policy)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(cat.Repositories)
	slices.Reverse(cat.CatalogSpec.Channels)
	slices.Reverse(cat.Contracts)
	for _, r := range cat.Repositories {
		slices.Reverse(r.Tags)
	}
	got, _, err := Select(cat.CatalogSpec, policy)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-in order +reversed):\n%s", diff)
	}
}
