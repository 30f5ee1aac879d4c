// Package policy holds the flags that say what is wanted, which discover and
// select share: one set a vendor.
package policy

import (
	"os"
	"reflect"

	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
)

// Deckhouse are d8's flags (S2.2), or a file that stands for all of them.
type Deckhouse struct {
	Policy string `placeholder:"FILE" help:"Read the policy from FILE, JSON with these flags' names in camelCase, instead of the flags below." group:"What to carry (Deckhouse)"`

	Source            string   `placeholder:"HOST/PATH" help:"The edition to read. Default: registry.deckhouse.ru/deckhouse/ee for discover, the Catalog's for select." group:"What to carry (Deckhouse)"`
	DeckhouseTag      string   `placeholder:"TAG" help:"Carry one platform version: a channel, a version or a custom tag." group:"What to carry (Deckhouse)"`
	IncludePlatform   string   `placeholder:"CONSTRAINT" help:"Carry the platform versions that match, such as '>=1.64 <=1.68'." group:"What to carry (Deckhouse)"`
	SinceVersion      string   `placeholder:"VERSION" help:"Carry no platform version below this one." group:"What to carry (Deckhouse)"`
	IgnoreSuspend     bool     `help:"Carry suspended channels like any other." group:"What to carry (Deckhouse)"`
	IncludeModule     []string `placeholder:"NAME[@CONSTRAINT]" help:"Carry this module, and no others that are not named; may be given again." group:"What to carry (Deckhouse)"`
	ExcludeModule     []string `placeholder:"NAME[@CONSTRAINT]" help:"Leave this module out, or those of its versions that match; may be given again." group:"What to carry (Deckhouse)"`
	IncludePackage    []string `placeholder:"NAME[@CONSTRAINT]" help:"Carry this package, and no others that are not named; may be given again." group:"What to carry (Deckhouse)"`
	ExcludePackage    []string `placeholder:"NAME[@CONSTRAINT]" help:"Leave this package out, or those of its versions that match; may be given again." group:"What to carry (Deckhouse)"`
	ModulesPathSuffix string   `placeholder:"PATH" help:"Where modules are below the source (default modules; / is the source itself)." group:"What to carry (Deckhouse)"`
	OnlyExtraImages   bool     `help:"Carry nothing of modules and packages but their extra images." group:"What to carry (Deckhouse)"`
	InstallerTag      string   `placeholder:"TAG" help:"Carry this tag of the installer (default latest, if there is one)." group:"What to carry (Deckhouse)"`
	IncludePlugin     []string `placeholder:"NAME[@CONSTRAINT]" help:"Carry this plugin of d8 besides those chosen for the platform and the modules; may be given again." group:"What to carry (Deckhouse)"`
	DeckhouseCLITag   string   `name:"deckhouse-cli-tag" placeholder:"TAG" help:"Carry this release of d8 itself (default the newest, if there is one)." group:"What to carry (Deckhouse)"`
	ProxyRegistry     bool     `help:"The source lists no tags, as proxies do: ask for versions one by one. Platform, modules and packages must then be named with their versions, or left out." group:"What to carry (Deckhouse)"`
	ProxyGapPatches   *int     `placeholder:"N" help:"With --proxy-registry: go on over N missing patches in a row (default 3)." group:"What to carry (Deckhouse)"`
	ProxyGapMinors    *int     `placeholder:"N" help:"With --proxy-registry: go on over N missing minors in a row (default 2). With both 0 the search is d8's." group:"What to carry (Deckhouse)"`
	NoPlatform        bool     `help:"Leave the platform out." group:"What to carry (Deckhouse)"`
	NoModules         bool     `help:"Leave modules out." group:"What to carry (Deckhouse)"`
	NoPackages        bool     `help:"Leave packages out; the lists of their versions stay." group:"What to carry (Deckhouse)"`
	NoSecurityDB      bool     `name:"no-security-db" help:"Leave the security databases out." group:"What to carry (Deckhouse)"`
	NoInstaller       bool     `help:"Leave the installer out." group:"What to carry (Deckhouse)"`
	NoPlugins         bool     `help:"Choose no plugins of d8; those of --include-plugin stay." group:"What to carry (Deckhouse)"`
	NoDeckhouseCLI    bool     `name:"no-deckhouse-cli" help:"Leave d8 itself out." group:"What to carry (Deckhouse)"`
	SkipAttachments   bool     `help:"Leave out signatures, SBOMs and other manifests attached to images; vulnerability attestations come as d8 carries them." group:"What to carry (Deckhouse)"`
	SkipVEXImages     bool     `name:"skip-vex-images" help:"Leave vulnerability attestations (VEX) out." group:"What to carry (Deckhouse)"`
}

// Given reports whether any flag was given.
func (f Deckhouse) Given() bool { return !reflect.ValueOf(f).IsZero() }

// Read returns the policy, validated. Kind: fault.Usage.
func (f Deckhouse) Read() (deckhouse.Policy, error) {
	if f.Policy != "" {
		return f.readFile()
	}
	p := deckhouse.Policy{
		Source: f.Source, DeckhouseTag: f.DeckhouseTag, IncludePlatform: f.IncludePlatform, SinceVersion: f.SinceVersion,
		IgnoreSuspend: f.IgnoreSuspend, IncludeModules: f.IncludeModule, ExcludeModules: f.ExcludeModule,
		IncludePackages: f.IncludePackage, ExcludePackages: f.ExcludePackage,
		ModulesPathSuffix: f.ModulesPathSuffix, OnlyExtraImages: f.OnlyExtraImages, InstallerTag: f.InstallerTag,
		NoPlatform: f.NoPlatform, NoModules: f.NoModules, NoPackages: f.NoPackages, NoSecurityDB: f.NoSecurityDB, NoInstaller: f.NoInstaller,
		IncludePlugins: f.IncludePlugin, DeckhouseCLITag: f.DeckhouseCLITag, NoPlugins: f.NoPlugins, NoDeckhouseCLI: f.NoDeckhouseCLI,
		SkipVEX: f.SkipVEXImages, SkipAttachments: f.SkipAttachments,
		ProxyRegistry: f.ProxyRegistry, ProxyGapPatches: f.ProxyGapPatches, ProxyGapMinors: f.ProxyGapMinors,
	}
	return p, p.Validate()
}

func (f Deckhouse) readFile() (deckhouse.Policy, error) {
	file := f.Policy
	f.Policy = ""
	if f.Given() {
		return deckhouse.Policy{}, fault.Newf(fault.Usage, "--policy", "it stands for all flags that say what to carry, but others are given too")
	}
	r, err := os.Open(file)
	if err != nil {
		return deckhouse.Policy{}, fault.New(fault.Usage, "--policy", err)
	}
	defer r.Close()
	return deckhouse.ReadPolicy(r)
}
