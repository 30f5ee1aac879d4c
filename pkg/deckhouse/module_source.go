package deckhouse

import (
	"maps"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse/plugin"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/selection"
)

// This file has what differs where a ModuleSource is the source, as for
// mirror-modules (S8): a repository of modules stands for an edition, and at the
// target too.

const modulesFilterFlag = "--modules-filter"

// applyModuleSource leaves out all that a repository of modules has not, and
// refuses to be asked for it.
func (in *intent) applyModuleSource() error {
	if !in.ModuleSource {
		if in.ModulesFilter != "" {
			return fault.Newf(fault.Usage, modulesFilterFlag, "it is for the modules of a ModuleSource").
				Hint("of an edition choose modules with %s", Modules.includeFlag())
		}
		return nil
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{
		{"--deckhouse-tag", in.DeckhouseTag != ""},
		{"--include-platform", in.IncludePlatform != ""},
		{"--since-version", in.SinceVersion != ""},
		{"--installer-tag", in.InstallerTag != ""},
		{Packages.includeFlag(), len(in.IncludePackages) > 0},
		{Packages.excludeFlag(), len(in.ExcludePackages) > 0},
		{"--modules-path-suffix", in.ModulesPathSuffix != ""},
		{Modules.OptOut(), in.NoModules},
		{plugin.Flag, len(in.IncludePlugins) > 0},
		{"--deckhouse-cli-tag", in.DeckhouseCLITag != ""},
	} {
		if flag.set {
			return fault.Newf(fault.Usage, flag.name, "a ModuleSource has modules, and nothing else")
		}
	}
	in.NoPlatform, in.NoPackages, in.NoSecurityDB, in.NoInstaller = true, true, true, true
	in.NoPlugins, in.NoDeckhouseCLI = true, true
	in.ModulesPathSuffix = "/"
	return nil
}

// moduleTags are the versions and channels that --modules-filter names, by
// module.
type moduleTags map[string][]string

func (in *intent) parseModulesFilter() error {
	if in.ModulesFilter == "" {
		return nil
	}
	in.tags = moduleTags{}
	for entry := range strings.SplitSeq(in.ModulesFilter, ";") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		name, tag, _ := strings.Cut(entry, ":")
		name, tag = strings.TrimSpace(name), strings.TrimSpace(tag)
		if !oci.ValidPath(name) || !oci.ValidTag(tag) {
			return fault.Newf(fault.Usage, modulesFilterFlag, "%q is not NAME:VERSION or NAME:CHANNEL", entry).
				Hint("for example %s 'console:v1.2.3;virtualization:stable'", modulesFilterFlag)
		}
		in.tags[name] = append(in.tags[name], tag)
	}
	if len(in.tags) == 0 {
		return fault.Newf(fault.Usage, modulesFilterFlag, "it names no module")
	}
	in.modules.flag = modulesFilterFlag
	for _, name := range slices.Sorted(maps.Keys(in.tags)) {
		in.modules.include = append(in.modules.include, selection.Choice{Name: name})
	}
	return nil
}

// look is what there is to ask about a module: its releases, to know that what
// is named is among them, and the channels where one of them is named.
func (t moduleTags) look(name string) Look {
	channel := slices.ContainsFunc(t[name], IsChannel)
	return Look{Releases: len(t[name]) > 0, Channels: channel, Versions: channel}
}

// ofModuleSource reports whether a ModuleSource was looked at for the Catalog.
func ofModuleSource(cat contract.CatalogSpec) bool {
	return slices.ContainsFunc(cat.Repositories, func(r contract.CatalogRepository) bool { return r.Role == RoleModuleSource })
}

// chooseTags takes what --modules-filter names of a module: a version and no
// other, or a channel and its version. All of it was asked for by name, so it
// must be there (S8.3).
func (s *selector) chooseTags(a *addOnChoice, name string) error {
	repo := s.layout.Release(Modules, name)
	row, err := s.row(repo, false)
	if err != nil {
		return err
	}
	for _, wish := range s.tags[name] {
		reason := modulesFilterFlag + " " + name + ":" + wish
		tag, ok := spelled(wish, row.Tags)
		switch {
		case !ok && !row.Listed:
			return unknown(repo)
		case !ok:
			return notReleased(name, wish, row)
		case !IsChannel(tag):
			a.versions.add(chosen{tag: tag, from: tag, reason: reason})
			continue
		}
		channels, err := s.channelsOf(Modules, name)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(channels, func(c contract.CatalogChannel) bool { return c.Name == tag })
		version := versionTag(channels[i].Version, s.rows[s.layout.Main(Modules, name).String()])
		a.versions.add(chosen{tag: version, from: version, reason: reason})
		a.channels.add(chosen{tag: tag, from: tag, needs: version, reason: "channel at " + version})
	}
	return nil
}

// spelled is the spelling of tag under which it stands among tags (S9 row 66).
func spelled(tag string, tags []string) (string, bool) {
	for _, spelling := range spellings(tag) {
		if slices.Contains(tags, spelling) {
			return spelling, true
		}
	}
	return "", false
}

func notReleased(name, tag string, row contract.CatalogRepository) error {
	err := fault.Newf(fault.Policy, modulesFilterFlag, "module %s has no release %q", name, tag)
	if guesses := near(tag, row.Tags); len(guesses) > 0 {
		return err.Hint("it has %s", quoted(guesses))
	}
	return err.Hint("it has %s", versionsOf(row))
}

// atRoot moves all from below "modules" to the root: there the target is the
// repository of the modules itself, as the source is (S8.5). They share one
// archive, for a name such as module-console promises the path of S7.4.4.
func atRoot(spec contract.SelectionSpec) contract.SelectionSpec {
	archive := contract.Archive{Name: Modules.many}
	for _, a := range spec.Archives {
		for _, path := range a.Layouts {
			archive.Layouts = append(archive.Layouts, belowModules(path))
		}
	}
	spec.Archives = []contract.Archive{archive}
	spec.Images = slices.Clone(spec.Images)
	for i := range spec.Images {
		im := &spec.Images[i]
		im.Archive, im.Path, im.Needs, im.Links = archive.Name, belowModules(im.Path), belowModules(im.Needs), linksBelowModules(im.Links)
	}
	spec.Discovery = slices.Clone(spec.Discovery)
	for i := range spec.Discovery {
		d := &spec.Discovery[i]
		d.Path, d.Needs = belowModules(d.Path), belowModules(d.Needs)
	}
	spec.Overview = overviewAtRoot(spec.Overview, archive.Name)
	return spec
}

// overviewAtRoot has the modules alone: nobody has left out the rest (S2.7.3),
// nor do modules at the root come from an unusual place (S2.7.4).
func overviewAtRoot(o contract.Overview, archive string) contract.Overview {
	i := slices.IndexFunc(o.Components, func(c contract.Component) bool { return c.Unit == Modules.one })
	modules := o.Components[i]
	modules.Caution = ""
	o.Components = []contract.Component{modules}
	o.Members = slices.Clone(o.Members)
	for i := range o.Members {
		m := &o.Members[i]
		m.Archive, m.Path, m.ChannelPath = archive, belowModules(m.Path), belowModules(m.ChannelPath)
	}
	return o
}

// linksBelowModules returns new links: images share them.
func linksBelowModules(links []contract.Link) []contract.Link {
	links = slices.Clone(links)
	for i := range links {
		links[i].Path, links[i].Links = belowModules(links[i].Path), linksBelowModules(links[i].Links)
	}
	return links
}

func belowModules(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, Modules.many), "/")
}

// ImportedModules are the rules for a directory that must hold modules alone, at
// whose layouts' paths it looks: each layout lies in the directory of a module,
// which is a layout itself (S8.4). Where the caller knows what must be there,
// nothing is guessed as by ImportedLayouts: one module without releases would
// hide the names of all.
// Kind: fault.Usage.
func ImportedModules(paths []string) (Imported, error) {
	for _, path := range paths {
		if path == "" || !slices.Contains(paths, firstSegment(path)) {
			return Imported{}, notModules(path)
		}
	}
	return Imported{modulesAlone: true}, nil
}

// CheckModules refuses a Bundle of something else than modules alone: its tags
// would land where nobody looks for them. Kind: fault.Usage.
func CheckModules(c *contract.Contents) error {
	for _, im := range c.Images {
		announces := func(d contract.DiscoveryTag) bool { return d.Path == "" && d.Tag == firstSegment(im.Path) }
		if !slices.ContainsFunc(c.Discovery, announces) {
			return notModules(im.Path)
		}
	}
	return nil
}

func notModules(path string) error {
	if path == "" {
		path = "." // the directory itself
	}
	return fault.Newf(fault.Usage, path, "this is not what a directory of modules holds").
		Hint("name the directory whose entries are modules; bundles of an edition are published by ferry-push")
}
