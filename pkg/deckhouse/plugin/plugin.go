package plugin

import (
	"cmp"
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/selection"
)

// Release is one published version of a plugin.
type Release struct {
	Version selection.Version
	// Problem says why nobody can rely on this version (S1.8.6); "" for a
	// readable contract.
	Problem string
	// Requirements are what its contract says; none for a plugin without one.
	Requirements []contract.Requirement
}

// Published is what the source has of one plugin.
type Published struct {
	// Listed says that Releases are all that there is. Otherwise the plugin is
	// not published, or refused to this login, or the registry lists no tags;
	// Releases are then the pinned ones that were found.
	Listed   bool
	Releases []Release
}

// Input is what the choice rests on. The same input gives the same result.
type Input struct {
	// Modules are the bundled modules with their selected versions (S5.9.1).
	Modules map[string][]selection.Version
	// Platform are the selected platform versions; none when the platform is
	// left out (S5.9.2).
	Platform []selection.Version
	// Catalogue are the names that plugins are chosen from for the modules;
	// none where that is off (S5.10.1, S5.10.2).
	Catalogue []string
	// Always are plugins that go with the platform, whatever the modules.
	Always []string
	// Includes are those that somebody asked for (S5.10.8).
	Includes []selection.Choice
	// Published are the plugins of the source by name; one that is missing is
	// not published.
	Published map[string]Published
	// PinsOnly is for a registry without tag lists: nothing is chosen but
	// exact includes, and what they depend on must be among them (S5.10.13).
	PinsOnly bool
}

// Result is the choice.
type Result struct {
	// Selected are the chosen versions, by name, the newest first (S5.10.12).
	Selected []Selected
	// Notes are what a person should know, by name, each once: plugins that
	// were passed over though a module wants them, and warnings.
	Notes []Note
}

// Selected is a chosen version.
type Selected struct {
	Name string
	// Tag is the version as published.
	Tag string
	// For is what it was chosen for first, as people count plugins (S2.7.2).
	For string
	// Reasons are why, each once, in the order in which they were found.
	Reasons []string
}

// What plugins are chosen for.
const (
	ForModules  = "for modules"
	ForPlatform = "for the platform"
	ForPlugins  = "for plugins"
	Included    = "included"
)

// Note is one sentence about a plugin, without a full stop.
type Note struct {
	Name, Text string
	// Skipped says that no version of the plugin was chosen, and Text why.
	Skipped bool
}

// builtIn are the commands that d8 has without a plugin. The source's plugin is
// the better one; without it d8 does with its own (S5.9.3).
var builtIn = [...]string{"delivery-kit", "package"}

func isBuiltIn(name string) bool { return slices.Contains(builtIn[:], name) }

const maxDepth = 16 // of dependencies (S5.10.7)

// maxAttempts bounds the search through versions of dependencies, for each
// plugin that it begins with: contracts can be written that it would not finish
// in a lifetime.
const maxAttempts = 10_000

// newest are the releases from the newest to the oldest.
func (p Published) newest() []Release {
	return slices.SortedFunc(slices.Values(p.Releases), func(a, b Release) int {
		return cmp.Or(b.Version.Compare(a.Version), cmp.Compare(a.Version.Tag(), b.Version.Tag()))
	})
}

// stable are the releases of a listed plugin without pre-releases, the newest
// first (S5.10.3).
func (p Published) stable() []Release {
	if !p.Listed {
		return nil
	}
	return slices.DeleteFunc(p.newest(), func(r Release) bool { return !r.Version.Stable() })
}

// of are the requirements of one kind in one mode.
func (r Release) of(kind string, mode contract.RequirementMode) []contract.Requirement {
	var out []contract.Requirement
	for _, q := range r.Requirements {
		if q.Kind == kind && q.Mode == mode {
			out = append(out, q)
		}
	}
	return out
}

// groups are the anyOf groups of modules, in the order of their first members.
func (r Release) groups() [][]contract.Requirement {
	var out [][]contract.Requirement
	for _, q := range r.of(NeedsModule, contract.AnyOf) {
		i := slices.IndexFunc(out, func(g []contract.Requirement) bool { return g[0].Group == q.Group })
		if i < 0 {
			out = append(out, nil)
			i = len(out) - 1
		}
		out[i] = append(out[i], q)
	}
	return out
}

// DependsOn are the plugins that must be there for the release, by name. Names
// that no plugin can have are left out; Resolve refuses them.
func (r Release) DependsOn() []string {
	var names []string
	for _, q := range r.of(NeedsPlugin, contract.Mandatory) {
		if ValidName(q.Name) {
			names = append(names, q.Name)
		}
	}
	return names
}
