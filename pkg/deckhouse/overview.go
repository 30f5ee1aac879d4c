package deckhouse

import (
	"cmp"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/selection"
)

// part is a component as people count it (S2.7): what lands where, and what a
// policy says of it. To add one: a row of parts.
type part struct {
	contract.Component
	// claims tells whether an image of this archive at this path is the
	// part's, of which member, and where that one's versions are.
	claims func(archive, path string) (member, at string, ok bool)
	// channels is the repository below a member that has its channels, ""
	// for the member's own.
	channels string
	// policy writes into the component what the policy says of it: the flag
	// that leaves it out, a remark, a caution.
	policy func(in *intent, c *contract.Component)
}

// The parts that more than their row knows by name.
const (
	partCLI     = "d8 CLI"
	partPlugins = "Plugins"
)

func parts() []part {
	return []part{
		{Component: contract.Component{Name: "Platform"}, claims: one("", "install", "install-standalone", "release-channel"), channels: "release-channel",
			policy: func(in *intent, c *contract.Component) { leaveOut(c, "--no-platform", in.NoPlatform) }},
		{Component: contract.Component{Name: "Installer"}, claims: one("installer"),
			policy: func(in *intent, c *contract.Component) { leaveOut(c, "--no-installer", in.NoInstaller) }},
		{Component: contract.Component{Name: "Security", Unit: "database", Total: len(databases)}, claims: each("security"),
			policy: func(in *intent, c *contract.Component) { leaveOut(c, "--no-security-db", in.NoSecurityDB) }},
		{Component: contract.Component{Name: "Modules", Unit: Modules.one}, claims: each(Modules.many), channels: Modules.release,
			policy: aboutModules},
		{Component: contract.Component{Name: "Packages", Unit: Packages.one}, claims: ownPackages, channels: Packages.release,
			policy: func(in *intent, c *contract.Component) { aboutAddOns(in, in.packages, c) }},
		{Component: contract.Component{Name: "Package versions", Unit: Packages.one}, claims: listedPackages,
			policy: func(*intent, *contract.Component) {}},
		{Component: contract.Component{Name: partCLI}, claims: one(cliPath),
			policy: func(in *intent, c *contract.Component) {
				leaveOut(c, "--no-deckhouse-cli", in.NoDeckhouseCLI)
				leaveOut(c, "--only-extra-images", in.OnlyExtraImages) // S5.1
			}},
		{Component: contract.Component{Name: partPlugins, Unit: "plugin"}, claims: each(pluginsPath),
			policy: func(in *intent, c *contract.Component) {
				leaveOut(c, "--no-plugins", in.NoPlugins && len(in.plugins) == 0)
				leaveOut(c, "--only-extra-images", in.OnlyExtraImages)
			}},
	}
}

func leaveOut(c *contract.Component, flag string, given bool) {
	if given {
		c.Flag = flag
	}
}

func aboutAddOns(in *intent, f filter, c *contract.Component) {
	leaveOut(c, f.OptOut(), !in.wants(f))
	if in.OnlyExtraImages {
		c.Remark = "extra images only"
	}
}

func aboutModules(in *intent, c *contract.Component) {
	aboutAddOns(in, in.modules, c)
	if usual := in.layout.Edition.Join(Modules.many); in.layout.Catalogue(Modules) != usual {
		c.Caution = "the modules come from " + in.layout.Catalogue(Modules).String() + " instead of " + usual.String()
	}
}

// one is a part that is one member, named like it, whose versions are at path and
// whose other repositories are others.
func one(path string, others ...string) func(archive, path string) (string, string, bool) {
	paths := append([]string{path}, others...)
	return func(_, at string) (string, string, bool) { return "", path, slices.Contains(paths, at) }
}

// each is a part that has a member for each path below root.
func each(root string) func(archive, path string) (string, string, bool) {
	return func(_, path string) (string, string, bool) {
		below, ok := strings.CutPrefix(path, root+"/")
		name, _, _ := strings.Cut(below, "/")
		return name, root + "/" + name, ok
	}
}

// ownPackages are all below packages/ but what package-versions lists. A package
// named "versions" has that archive too.
func ownPackages(archive, path string) (string, string, bool) {
	name, at, ok := each(Packages.many)(archive, path)
	return name, at, ok && (archive != packageVersions || path != Packages.releasePath(name))
}

func listedPackages(archive, path string) (string, string, bool) {
	name, _, ok := each(Packages.many)(archive, path)
	return name, Packages.releasePath(name), ok && archive == packageVersions
}

// placed is a tag at the target.
type placed struct {
	archive, path, tag string
	phase              int
}

// overviewOf tells the members of all parts from where images land.
func overviewOf(images []placed) contract.Overview {
	var out contract.Overview
	counted := parts()
	counts := make([]*members, len(counted))
	for i, p := range counted {
		counts[i] = &members{part: p, index: map[string]int{}}
	}
	at := map[string]bool{}
	for _, im := range images {
		at[im.path+":"+im.tag] = true
	}
	for _, im := range images {
		for i, p := range counted {
			if name, path, ok := p.claims(im.archive, im.path); ok {
				counts[i].add(im, name, path, at)
				break
			}
		}
	}
	for _, c := range counts {
		component := c.part.Component
		component.State = contract.ComponentWanted
		if len(c.list) == 0 {
			component.State = contract.ComponentAbsent
		}
		out.Components = append(out.Components, component)
		out.Members = append(out.Members, c.sorted()...)
	}
	return out
}

// members are those of one part.
type members struct {
	part  part
	list  []contract.Member
	index map[string]int // by archive/path
}

func (m *members) add(im placed, name, path string, at map[string]bool) {
	name = cmp.Or(name, m.part.Name)
	key := im.archive + "/" + path
	i, known := m.index[key]
	if !known {
		i = len(m.list)
		m.index[key] = i
		m.list = append(m.list, contract.Member{Component: m.part.Name, Name: name, Archive: im.archive, Path: path, ChannelPath: m.channelPath(path)})
	}
	member := &m.list[i]
	switch {
	case im.path == member.ChannelPath && im.phase == contract.PhaseChannel:
		member.Channels = append(member.Channels, im.tag)
	case im.path == path && im.phase == contract.PhaseVersion && m.isVersion(im, at):
		member.Versions = append(member.Versions, im.tag)
	}
}

func (m *members) channelPath(path string) string {
	if m.part.channels == "" || path == "" {
		return path + m.part.channels
	}
	return path + "/" + m.part.channels
}

// isVersion keeps components of the platform that are known by tag from passing
// for its versions: a version has an install image (S1.5.2, S5.4.3).
func (m *members) isVersion(im placed, at map[string]bool) bool {
	return im.path != "" || IsVersion(im.tag) || at["install:"+im.tag]
}

func (m *members) sorted() []contract.Member {
	for i := range m.list {
		member := &m.list[i]
		member.Versions = selection.NewestFirst(member.Versions)
		slices.SortFunc(member.Channels, func(a, b string) int {
			return cmp.Or(cmp.Compare(slices.Index(Channels(), a), slices.Index(Channels(), b)), cmp.Compare(a, b))
		})
		if len(member.Channels) == 0 {
			member.ChannelPath = ""
		}
	}
	return m.list
}

// overview is that of a selection, with what the policy said.
func (s *selector) overview() contract.Overview {
	var images []placed
	for _, im := range s.out.Images {
		images = append(images, placed{im.Archive, im.Path, im.Tag, im.Phase})
	}
	o := overviewOf(images)
	o.Edition = s.layout.Name
	for _, n := range s.notes {
		o.Notes = append(o.Notes, contract.Note(n))
	}
	for i, p := range parts() {
		c := &o.Components[i]
		p.policy(s.intent, c)
		if c.Flag != "" {
			c.State = contract.ComponentLeftOut
		}
	}
	for i, m := range o.Members {
		if m.Component == partPlugins {
			o.Members[i].Group = s.pluginsFor[m.Name]
		}
	}
	return o
}

// Overview implements bundle.Rules. Modules alone are counted as those that lie
// below modules.
func (r Imported) Overview(images []contract.Image) contract.Overview {
	above := ""
	if r.modulesAlone {
		above = Modules.many + "/"
	}
	list := make([]placed, len(images))
	for i, im := range images {
		list[i] = placed{im.Archive, above + im.Path, im.Tag, im.Phase}
	}
	o := overviewOf(list)
	for i := range o.Members {
		m := &o.Members[i]
		m.Path, m.ChannelPath = strings.TrimPrefix(m.Path, above), strings.TrimPrefix(m.ChannelPath, above)
	}
	return o
}
