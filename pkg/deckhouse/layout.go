// Package deckhouse knows Deckhouse: where a source keeps what, and which
// images a policy wants. Select decides offline, over the Catalog that package
// discovery makes; nothing here can reach a network.
//
// Rules are cited by their numbers in docs/deckhouse.md.
package deckhouse

import (
	"slices"
	"strings"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/selection"
)

// Vendor is the name of this package in documents.
const Vendor = "deckhouse"

const lts = "lts"

// defaultChannels is in the order that everything follows (S1.3.1).
var defaultChannels = [...]string{"alpha", "beta", "early-access", "stable", "rock-solid"}

// Channels are the release channels, in their order; the last, lts, is optional
// everywhere (S1.3).
func Channels() []string { return append(defaultChannels[:], lts) }

// IsChannel reports whether tag is the name of a channel (S1.3.2).
func IsChannel(tag string) bool { return slices.Contains(Channels(), tag) }

var editions = [...]string{"ce", "be", "se", "se-plus", "ee", "fe", "cse"}

// Layout tells where a source keeps what (S1.2).
type Layout struct {
	// Edition is the root of the edition, E.
	Edition oci.Repository
	// Bare is the root above the edition, Rs; the same where the source has
	// no edition in its name. Its path may be empty.
	Bare oci.Repository
	// Name is the edition, "ee", or "".
	Name string

	modules string // path below Edition, "" for Edition itself
}

// NewLayout splits source into edition and root (S1.1) and takes the modules'
// path suffix (S1.2.1). Kind: fault.Usage.
func NewLayout(source, modulesPathSuffix string) (Layout, error) {
	if source == "" {
		source = DefaultSource
	}
	source = strings.TrimSuffix(source, "/")
	root, err := oci.ParseRepository(source)
	if err != nil {
		return Layout{}, fault.New(fault.Usage, "--source", err).Hint("a source is HOST/PATH, for example %s", DefaultSource)
	}
	l := Layout{Edition: root, Bare: root, modules: "modules"}
	parent, last := "", root.Path
	if i := strings.LastIndexByte(root.Path, '/'); i >= 0 {
		parent, last = root.Path[:i], root.Path[i+1:]
	}
	if slices.Contains(editions[:], last) {
		l.Name, l.Bare.Path = last, parent
	}
	if modulesPathSuffix != "" {
		l.modules = strings.Trim(modulesPathSuffix, "/")
		if l.modules != "" && !oci.ValidPath(l.modules) {
			return Layout{}, fault.Newf(fault.Usage, "--modules-path-suffix", "%q is not a repository path", modulesPathSuffix)
		}
	}
	return l, nil
}

// ReleaseChannel holds channels and, in its tag list, all releases.
func (l Layout) ReleaseChannel() oci.Repository { return l.Edition.Join("release-channel") }

// Modules is the catalogue: the names of its tags are modules.
func (l Layout) Modules() oci.Repository { return l.Edition.Join(l.modules) }

// Module holds the versions of a module.
func (l Layout) Module(name string) oci.Repository { return l.Modules().Join(name) }

// ModuleRelease holds the channels of a module.
func (l Layout) ModuleRelease(name string) oci.Repository { return l.Module(name).Join("release") }

func (l Layout) moduleExtra(name string) oci.Repository { return l.Module(name).Join("extra") }
func (l Layout) installer() oci.Repository              { return l.Bare.Join("installer") }

// database is a security database with the one tag it has.
type database struct{ path, tag string }

var databases = [...]database{
	{"security/trivy-db", "2"},
	{"security/trivy-bdu", "1"},
	{"security/trivy-java-db", "1"},
	{"security/trivy-checks", "0"},
}

// Components and roles of a Catalog.
const (
	ComponentPlatform = "platform"
	ComponentModules  = "modules"

	RoleMain           = "main"
	RoleReleaseChannel = "release-channel"
	RoleCatalogue      = "catalogue"
)

// ComponentModule is the component of one module.
func ComponentModule(name string) string { return "module/" + name }

// ModuleNames returns those catalogue tags that can name a module. Where the
// modules stand in the edition's root itself, its tags are versions, channels
// and attestations too.
func ModuleNames(tags []string) []string {
	var out []string
	for _, tag := range tags {
		_, version := selection.ParseVersion(tag)
		if oci.ValidPath(tag) && !version && !IsChannel(tag) && !strings.HasSuffix(tag, ".att") {
			out = append(out, tag)
		}
	}
	return out
}
