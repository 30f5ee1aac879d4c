package deckhouse

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"ferry/pkg/deckhouse/plugin"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/selection"
)

// DefaultSource is where a pull looks when it is told nothing (S1.1.4).
const DefaultSource = "registry.deckhouse.ru/deckhouse/ee"

const defaultInstallerTag = "latest"

// Policy says what is wanted. discover and select take the same one: discover
// looks no further than it needs, select decides with it. The zero Policy wants
// everything that a pull without flags does. Field names are d8's flags.
type Policy struct {
	// Source is the edition's root, HOST/PATH; "" is DefaultSource.
	Source string `json:"source,omitempty"`

	// DeckhouseTag pins the platform to a channel, a version or a custom tag.
	DeckhouseTag string `json:"deckhouseTag,omitempty"`
	// IncludePlatform is one constraint on platform versions.
	IncludePlatform string `json:"includePlatform,omitempty"`
	// SinceVersion is the lowest platform version; one at or below
	// rock-solid changes nothing (S3.6.2).
	SinceVersion string `json:"sinceVersion,omitempty"`
	// IgnoreSuspend takes suspended channels like any other.
	IgnoreSuspend bool `json:"ignoreSuspend,omitempty"`

	// IncludeModules and ExcludeModules are lists of name[@constraint]; one
	// of them may be given.
	IncludeModules []string `json:"includeModule,omitempty"`
	ExcludeModules []string `json:"excludeModule,omitempty"`
	// IncludePackages and ExcludePackages are the same for packages.
	IncludePackages []string `json:"includePackage,omitempty"`
	ExcludePackages []string `json:"excludePackage,omitempty"`
	// ModulesPathSuffix is where the modules are below the source: "" is
	// "modules", "/" the source itself (S1.2.1).
	ModulesPathSuffix string `json:"modulesPathSuffix,omitempty"`
	// OnlyExtraImages takes nothing of modules and packages but their extra
	// images.
	OnlyExtraImages bool `json:"onlyExtraImages,omitempty"`

	// ModuleSource says that Source is a repository of modules, as a
	// ModuleSource names it: its tags are their names, nothing else is carried,
	// and the root of the target is the modules' repository too (S8).
	ModuleSource bool `json:"moduleSource,omitempty"`
	// ModulesFilter is NAME:TAG[;NAME:TAG...]: of a ModuleSource these modules,
	// each at this version or channel, and no others (S8.3).
	ModulesFilter string `json:"modulesFilter,omitempty"`

	// InstallerTag is the tag of the installer; "" is "latest", if there is
	// one.
	InstallerTag string `json:"installerTag,omitempty"`

	// IncludePlugins is a list of name[@constraint] of plugins of d8, besides
	// those that are chosen for the platform and the modules.
	IncludePlugins []string `json:"includePlugin,omitempty"`
	// DeckhouseCLITag is the tag of d8 itself; "" is the newest release, if
	// there is one.
	DeckhouseCLITag string `json:"deckhouseCliTag,omitempty"`
	// ProxyRegistry says that the source lists no tags: versions are asked for
	// one by one, and must be named (S4).
	ProxyRegistry bool `json:"proxyRegistry,omitempty"`
	// ProxyGapPatches and ProxyGapMinors are how many missing patches of a
	// line, and missing lines, in a row do not end the search; nil is 3 and 2.
	ProxyGapPatches *int `json:"proxyGapPatches,omitempty"`
	ProxyGapMinors  *int `json:"proxyGapMinors,omitempty"`

	// NoPlatform, NoModules, NoPackages, NoSecurityDB and NoInstaller leave a
	// part out. Without packages their lists of versions stay (S5.8).
	NoPlatform   bool `json:"noPlatform,omitempty"`
	NoModules    bool `json:"noModules,omitempty"`
	NoPackages   bool `json:"noPackages,omitempty"`
	NoSecurityDB bool `json:"noSecurityDb,omitempty"`
	NoInstaller  bool `json:"noInstaller,omitempty"`
	// NoPlugins chooses no plugins but the included ones; NoDeckhouseCLI
	// leaves d8 out.
	NoPlugins      bool `json:"noPlugins,omitempty"`
	NoDeckhouseCLI bool `json:"noDeckhouseCli,omitempty"`
	// SkipVEX leaves attestations out, wherever they are looked for by tag.
	SkipVEX bool `json:"skipVexImages,omitempty"`
	// SkipAttachments leaves out what d8 does not carry: signatures, SBOMs,
	// referrers, and attestations where d8 looks for none (S1.7.4).
	SkipAttachments bool `json:"skipAttachments,omitempty"`
}

// policyLimit is the largest policy file, in bytes.
const policyLimit = 1 << 20

// ReadPolicy reads a policy file: one JSON object with the fields of Policy and
// nothing else, for a misspelt exclusion must not pass unseen. The result is
// validated. Kind: fault.Usage.
func ReadPolicy(r io.Reader) (Policy, error) {
	limited := &io.LimitedReader{R: r, N: policyLimit}
	dec := json.NewDecoder(limited)
	dec.DisallowUnknownFields()
	var p Policy
	err := dec.Decode(&p)
	if err == nil {
		if _, after := dec.Token(); !errors.Is(after, io.EOF) {
			err = errors.New("something follows the JSON object")
		}
	}
	if limited.N <= 0 {
		err = fmt.Errorf("more than %d bytes", policyLimit)
	}
	if err != nil {
		return Policy{}, fault.Newf(fault.Usage, "policy", "cannot be read: %w", err)
	}
	return p, p.Validate()
}

// Validate tells the first thing that cannot be carried out (S2.4).
// Kind: fault.Usage.
func (p Policy) Validate() error {
	_, err := p.compile()
	return err
}

// intent is a Policy, parsed and with its defaults.
type intent struct {
	Policy
	layout  Layout
	pin     string             // the tag of --deckhouse-tag or of an exact include (S3.7); "" when there is none
	include selection.Choice   // of the platform; without constraints when there is none
	since   *selection.Version // nil when there is none

	modules, packages filter
	tags              moduleTags // nil without --modules-filter
	gaps              selection.Gaps
	plugins           []selection.Choice
}

// filter is what a policy says about the add-ons of one family.
type filter struct {
	Family
	flag             string // the one that include comes from; "" is --include-module
	leftOut          bool   // --no-modules
	include, exclude []selection.Choice
}

func (p Policy) compile() (*intent, error) {
	in := &intent{Policy: p}
	steps := []func() error{in.applyModuleSource, in.parseSource, in.checkPairs, in.parsePlatform, in.parseFilters, in.checkTags, in.parseGaps, in.checkProxy}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return in, nil
}

func (in *intent) parseSource() error {
	var err error
	in.layout, err = NewLayout(in.Source, in.ModulesPathSuffix)
	return err
}

func (in *intent) checkPairs() error {
	for _, pair := range []struct {
		first, second       string
		firstSet, secondSet bool
	}{
		{"--since-version", "--deckhouse-tag", in.SinceVersion != "", in.DeckhouseTag != ""},
		{"--include-platform", "--deckhouse-tag", in.IncludePlatform != "", in.DeckhouseTag != ""},
		{"--include-platform", "--since-version", in.IncludePlatform != "", in.SinceVersion != ""},
		{Modules.includeFlag(), Modules.excludeFlag(), len(in.IncludeModules) > 0, len(in.ExcludeModules) > 0},
		{modulesFilterFlag, Modules.includeFlag(), in.ModulesFilter != "", len(in.IncludeModules) > 0},
		{modulesFilterFlag, Modules.excludeFlag(), in.ModulesFilter != "", len(in.ExcludeModules) > 0},
		{Packages.includeFlag(), Packages.excludeFlag(), len(in.IncludePackages) > 0, len(in.ExcludePackages) > 0},
		{"--only-extra-images", plugin.Flag, in.OnlyExtraImages, len(in.IncludePlugins) > 0}, // S2.4.6
		{"--only-extra-images", "--deckhouse-cli-tag", in.OnlyExtraImages, in.DeckhouseCLITag != ""},
		{"--no-deckhouse-cli", "--deckhouse-cli-tag", in.NoDeckhouseCLI, in.DeckhouseCLITag != ""},
	} {
		if pair.firstSet && pair.secondSet {
			return fault.Newf(fault.Usage, pair.first+" and "+pair.second, "together they are ambiguous, or contradict each other").Hint("use one of them")
		}
	}
	return nil
}

func (in *intent) parsePlatform() error {
	in.pin = in.DeckhouseTag
	if in.SinceVersion != "" {
		since, ok := selection.ParseVersion(in.SinceVersion)
		if !ok {
			return fault.Newf(fault.Usage, "--since-version", "%q is not a version", in.SinceVersion)
		}
		in.since = &since
	}
	if in.IncludePlatform == "" {
		return nil
	}
	constraint, err := selection.ParseConstraint(in.IncludePlatform)
	if err != nil {
		return fault.New(fault.Usage, "--include-platform", err)
	}
	if tag, _, ok := constraint.Exact(); ok {
		in.pin = tag
		return nil
	}
	in.include.Constraints = []selection.Constraint{constraint}
	return nil
}

func (in *intent) parseFilters() error {
	var err error
	if in.modules, err = parseFilter(Modules, in.NoModules, in.IncludeModules, in.ExcludeModules); err != nil {
		return err
	}
	if err := in.parseModulesFilter(); err != nil {
		return err
	}
	if in.packages, err = parseFilter(Packages, in.NoPackages, in.IncludePackages, in.ExcludePackages); err != nil {
		return err
	}
	in.plugins, err = parsePlugins(in.IncludePlugins)
	return err
}

// parsePlugins reads the plugins that are asked for: names are checked against
// their grammar (S1.8.7), and an exact tag must be a version (S5.10.8).
func parsePlugins(entries []string) ([]selection.Choice, error) {
	choices, err := selection.ParseChoices(entries)
	if err != nil {
		return nil, fault.New(fault.Usage, plugin.Flag, err)
	}
	for _, c := range choices {
		if !plugin.ValidName(c.Name) {
			return nil, fault.Newf(fault.Usage, plugin.Flag, "%q is no name of a plugin", c.Name).
				Hint("names are of lower case letters and digits, with single . _ or - between them")
		}
		for _, tag := range c.ExactTags() {
			if !IsVersion(tag) {
				return nil, fault.Newf(fault.Usage, plugin.Flag, "%s@=%s: %q is not a version", c.Name, tag, tag)
			}
		}
	}
	return choices, nil
}

// includeFlag is what a message calls the filter.
func (f filter) includeFlag() string { return cmp.Or(f.flag, f.Family.includeFlag()) }

func parseFilter(f Family, leftOut bool, include, exclude []string) (filter, error) {
	out := filter{Family: f, leftOut: leftOut}
	var err error
	if out.include, err = selection.ParseChoices(include); err != nil {
		return out, fault.New(fault.Usage, f.includeFlag(), err)
	}
	if out.exclude, err = selection.ParseChoices(exclude); err != nil {
		return out, fault.New(fault.Usage, f.excludeFlag(), err)
	}
	return out, nil
}

func (in *intent) filter(f Family) filter {
	if f == Packages {
		return in.packages
	}
	return in.modules
}

func (in *intent) checkTags() error {
	if in.pin != "" && !oci.ValidTag(in.pin) {
		return fault.Newf(fault.Usage, "--deckhouse-tag", "%q is not a tag", in.pin)
	}
	if in.DeckhouseCLITag != "" && !oci.ValidTag(in.DeckhouseCLITag) {
		return fault.Newf(fault.Usage, "--deckhouse-cli-tag", "%q is not a tag", in.DeckhouseCLITag)
	}
	if in.InstallerTag != "" && !oci.ValidTag(in.InstallerTag) {
		return fault.Newf(fault.Usage, "--installer-tag", "%q is not a tag", in.InstallerTag)
	}
	return nil
}

// wants reports whether add-ons of the family are wanted at all. An include, and
// --only-extra-images, win over --no-modules (S2.4.5, S5.1).
func (in *intent) wants(f filter) bool {
	return !f.leftOut || len(f.include) > 0 || in.OnlyExtraImages
}

// choose tells whether an add-on is wanted, and what was said about it. exclude
// are the constraints whose versions are left out of it (S9 row 78).
func (f filter) choose(name string) (include, exclude selection.Choice, ok bool) {
	include, named := choiceOf(f.include, name)
	if len(f.include) > 0 && !named {
		return include, exclude, false
	}
	exclude, named = choiceOf(f.exclude, name)
	return include, exclude, !named || len(exclude.Constraints) > 0
}

func choiceOf(choices []selection.Choice, name string) (selection.Choice, bool) {
	for _, c := range choices {
		if c.Name == name {
			return c, true
		}
	}
	return selection.Choice{}, false
}

// Scope is what a policy needs to know of a source; discover looks at nothing
// else.
type Scope struct{ in *intent }

// Scope validates the policy and returns what it needs to know. Kind:
// fault.Usage.
func (p Policy) Scope() (Scope, error) {
	in, err := p.compile()
	return Scope{in}, err
}

// Layout is where things are.
func (s Scope) Layout() Layout { return s.in.layout }

// Platform reports whether the platform is looked at.
func (s Scope) Platform() bool { return !s.in.NoPlatform }

// Family reports whether add-ons of the family are looked at. Packages always
// are, except where there are modules alone: their versions are listed whatever
// the filters (S5.8).
func (s Scope) Family(f Family) bool { return f == Packages && !s.in.ModuleSource || s.Wanted(f) }

// ModuleSource reports whether the source has modules alone (S8.2).
func (s Scope) ModuleSource() bool { return s.in.ModuleSource }

// Wanted reports whether the policy asks for add-ons of the family.
func (s Scope) Wanted(f Family) bool { return s.in.wants(s.in.filter(f)) }

// Releases reports whether the list of all platform releases is needed; a
// pinned platform needs no release channels at all (S3.7.5).
func (s Scope) Releases() bool { return s.in.pin == "" }

// PinnedTags are the spellings under which a pinned version or custom tag may
// stand in the edition's root, best first (S9 row 66). There are none when
// nothing, or a channel, is pinned.
func (s Scope) PinnedTags() []string {
	if s.in.pin == "" || IsChannel(s.in.pin) {
		return nil
	}
	return spellings(s.in.pin)
}

// spellings are the tags that one may mean by tag, which is the first.
func spellings(tag string) []string {
	v, ok := selection.ParseVersion(tag)
	if !ok {
		return []string{tag}
	}
	out := []string{tag}
	for _, other := range []string{v.Canonical(), strings.TrimPrefix(v.Canonical(), "v")} {
		if other != tag && oci.ValidTag(other) {
			out = append(out, other)
		}
	}
	return out
}

// Look is what there is to ask about one add-on.
type Look struct {
	Channels bool // what the channels point at
	Versions bool // the tag list of the main repository
	Releases bool // the tag list of the release repository
}

// Look tells what is needed to know about an add-on (S3.4). Without an include
// all is looked at, so that the catalog serves any later select.
func (s Scope) Look(f Family, name string) Look {
	if s.in.tags != nil && f == Modules {
		return s.in.tags.look(name)
	}
	filter := s.in.filter(f)
	look := Look{Releases: f == Packages && !s.in.ProxyRegistry || s.in.ModuleSource}
	include, _, ok := filter.choose(name)
	if !ok || !s.in.wants(filter) {
		return look
	}
	everything := len(filter.include) == 0
	look.Channels = everything || !include.Exact() && !s.in.OnlyExtraImages
	look.Versions = everything || include.Ranged()
	if f == Packages && s.in.ProxyRegistry {
		look.Channels = true // all that package-versions can know of it (S5.8)
	}
	return look
}
