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
func IsChannel(tag string) bool { return tag == lts || slices.Contains(defaultChannels[:], tag) }

// Family is one of the kinds of add-on that a source keeps in the same way: a
// catalogue whose tags are names, and below it for each name versions, channels
// and extra images (S3.4, S5.7).
type Family struct {
	one     string // an add-on, in components, archive names and flags
	many    string // the catalogue, in archives and at the target
	release string // the repository below an add-on that has its channels
}

// The families.
var (
	Modules  = Family{one: "module", many: "modules", release: "release"}
	Packages = Family{one: "package", many: "packages", release: "version"}
)

// Families are all of them.
func Families() []Family { return []Family{Modules, Packages} }

// One is what an add-on of the family is called, as in --exclude-ONE.
func (f Family) One() string { return f.one }

// Component is the component of the family in a Catalog, and of its catalogue.
func (f Family) Component() string { return f.many }

// Member is the component of one add-on.
func (f Family) Member(name string) string { return f.one + "/" + name }

func (f Family) archive(name string) string { return f.one + "-" + name }

// path and releasePath are where an add-on stands in archives, and so at the
// target, wherever the source has it (S6.2.1).
func (f Family) path(name string) string        { return f.many + "/" + name }
func (f Family) releasePath(name string) string { return f.path(name) + "/" + f.release }

func (f Family) includeFlag() string { return "--include-" + f.one }
func (f Family) excludeFlag() string { return "--exclude-" + f.one }

// OptOut is the flag that leaves the family out.
func (f Family) OptOut() string { return "--no-" + f.many }

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
	root, err := parseSource(strings.TrimSuffix(source, "/"))
	if err != nil {
		return Layout{}, err
	}
	l := Layout{Edition: root, Bare: root, modules: "modules"}
	parent, last := "", root.Path
	if i := strings.LastIndexByte(root.Path, '/'); i >= 0 {
		parent, last = root.Path[:i], root.Path[i+1:]
	}
	if slices.Contains(editions[:], last) {
		l.Name = last
		// Without a parent nothing stands beside the edition, as for
		// ferry-push: what was pushed to HOST/ee is found there again
		// (S1.1.3, S9 row 91).
		if parent != "" {
			l.Bare.Path = parent
		}
	}
	if modulesPathSuffix != "" {
		l.modules = strings.Trim(modulesPathSuffix, "/")
		if l.modules != "" && !oci.ValidPath(l.modules) {
			return Layout{}, fault.Newf(fault.Usage, "--modules-path-suffix", "%q is not a repository path", modulesPathSuffix)
		}
	}
	return l, nil
}

// parseSource says of a source that is none what is wrong with it (S2.4.1).
func parseSource(source string) (oci.Repository, error) {
	root, err := oci.ParseRepository(source)
	if err == nil {
		return root, nil
	}
	f := fault.New(fault.Usage, "--source", err)
	host, path, _ := strings.Cut(source, "/")
	switch {
	case strings.HasPrefix(source, "http://"), strings.HasPrefix(source, "https://"):
		return root, f.Hint("leave the scheme out; plain HTTP is asked for by --insecure")
	case host != "" && path == "":
		return root, f.Hint("append the path of the edition: %s/deckhouse/ee", host)
	case strings.ToLower(path) != path:
		return root, f.Hint("names of repositories have no capital letters: %s/%s", host, strings.ToLower(path))
	}
	return root, f.Hint("a source is HOST/PATH, for example %s", DefaultSource)
}

// ReleaseChannel holds channels and, in its tag list, all releases.
func (l Layout) ReleaseChannel() oci.Repository { return l.Edition.Join("release-channel") }

// Catalogue holds the names of a family's add-ons: they are its tags. Modules
// alone may be moved (S1.2.1).
func (l Layout) Catalogue(f Family) oci.Repository {
	if f == Modules {
		return l.Edition.Join(l.modules)
	}
	return l.Edition.Join(f.many)
}

// Main holds the versions of an add-on.
func (l Layout) Main(f Family, name string) oci.Repository { return l.Catalogue(f).Join(name) }

// Release holds the channels of an add-on.
func (l Layout) Release(f Family, name string) oci.Repository { return l.Main(f, name).Join(f.release) }

// releasesOf is the repository that has the channels of a component of a Catalog.
func (l Layout) releasesOf(component string) (oci.Repository, bool) {
	if component == ComponentPlatform {
		return l.ReleaseChannel(), true
	}
	for _, f := range Families() {
		if name, ok := strings.CutPrefix(component, f.Member("")); ok {
			return l.Release(f, name), true
		}
	}
	return oci.Repository{}, false
}

func (l Layout) extra(f Family, name string) oci.Repository { return l.Main(f, name).Join("extra") }
func (l Layout) installer() oci.Repository                  { return l.Bare.Join("installer") }

// CLI holds the releases of the d8 command line.
func (l Layout) CLI() oci.Repository { return l.Bare.Join(cliPath) }

// PluginCatalogue holds the names of plugins: they are its tags.
func (l Layout) PluginCatalogue() oci.Repository { return l.Bare.Join(pluginsPath) }

// Plugin holds the versions of a plugin.
func (l Layout) Plugin(name string) oci.Repository { return l.PluginCatalogue().Join(name) }

// database is a security database with the one tag it has.
type database struct{ path, tag string }

var databases = [...]database{
	{"security/trivy-db", "2"},
	{"security/trivy-bdu", "1"},
	{"security/trivy-java-db", "1"},
	{"security/trivy-checks", "0"},
}

// Components and roles of a Catalog; those of add-ons are their family's.
const (
	ComponentPlatform = "platform"
	ComponentCLI      = "deckhouse-cli"
	ComponentPlugins  = "plugins"

	componentSecurity  = "security"
	componentInstaller = "installer"

	RoleMain           = "main"
	RoleReleaseChannel = "release-channel"
	RoleCatalogue      = "catalogue"
	RoleModuleSource   = "module-source" // the catalogue, and all that there is
)

// Where d8 and its plugins stand, below the root above the edition at the source
// and below the target's root in archives.
const (
	cliPath     = "deckhouse-cli"
	pluginsPath = cliPath + "/plugins"
)

// PluginComponent is the component of a plugin in a Catalog.
func PluginComponent(name string) string { return "plugin/" + name }

// Names returns those catalogue tags that can name an add-on. Where the modules
// stand in the edition's root itself, its tags are versions, channels, components
// and attachments too.
func Names(tags []string) []string {
	var out []string
	for _, tag := range tags {
		_, version := selection.ParseVersion(tag)
		if oci.ValidPath(tag) && !version && !IsChannel(tag) && !contentTagRE.MatchString(tag) {
			out = append(out, tag)
		}
	}
	return out
}
