package deckhouse

import (
	"cmp"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse/plugin"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/selection"
)

// cli wants d8 itself: the pinned release, which must be there, or else the
// newest one, without which the bundle is complete all the same (S3.10, S5.11).
func (s *selector) cli() error {
	if !s.carriesCLI() {
		flag := "--no-deckhouse-cli"
		if s.OnlyExtraImages {
			flag = "--only-extra-images"
		}
		s.fates.leaveOut(ComponentCLI, flag+" leaves d8 itself out", "S3.10")
		return nil
	}
	repo := s.layout.CLI()
	row, err := s.row(repo, false)
	if err != nil {
		return err
	}
	im := contract.SelectedImage{
		Archive: ComponentCLI, Path: cliPath, Phase: contract.PhaseVersion,
		Reason: "--deckhouse-cli-tag " + s.DeckhouseCLITag,
	}
	if s.DeckhouseCLITag != "" {
		if im.Tag, err = s.pinnedCLI(row); err != nil {
			return err
		}
	} else {
		im.Tag = newestStable(row.Tags)
		if im.Tag == "" {
			text := repo.String() + " lists no release that this login may see, so d8 itself is not carried"
			if s.ProxyRegistry {
				text = "a proxy registry lists no releases of d8, so d8 itself is not carried; --deckhouse-cli-tag names one"
			}
			s.note("d8", text)
			s.fates.others(ComponentCLI, text, "S3.10")
			return nil
		}
		im.Optional, im.Reason = true, "newest release of d8"
	}
	im.Source = repo.WithTag(im.Tag).String()
	s.fates.others(ComponentCLI, "of d8 one release is carried, "+im.Tag, "S3.10")
	s.want(im)
	s.archive(ComponentCLI, cliPath)
	return nil
}

func (s *selector) pinnedCLI(row contract.CatalogRepository) (string, error) {
	for _, tag := range spellings(s.DeckhouseCLITag) {
		if slices.Contains(row.Tags, tag) {
			return tag, nil
		}
	}
	return "", fault.Newf(fault.Policy, "--deckhouse-cli-tag", "the source has no tag %s in %s, or refuses it to this login",
		quoted(spellings(s.DeckhouseCLITag)), row.Repository)
}

// newestStable is the newest version among tags that is no pre-release, or "".
func newestStable(tags []string) string {
	for _, v := range selection.Newest(selection.ParseVersions(tags)) {
		if v.Stable() {
			return v.Tag()
		}
	}
	return ""
}

// pluginImages wants the plugins that package plugin chooses (S5.10). They come
// last, for they are chosen for what else is selected.
func (s *selector) pluginImages() error {
	s.fates.others(ComponentPlugins, s.otherPlugins(), "S5.10")
	if s.ProxyRegistry && !s.NoPlugins && len(s.bundled) > 0 {
		s.note("plugins", "a proxy registry lists none, so none are chosen for modules; name those you need with "+plugin.Flag+" NAME@=TAG")
	}
	in, err := s.pluginInput()
	if err != nil {
		return err
	}
	result, err := plugin.Resolve(in)
	if err != nil && s.ProxyRegistry {
		return fault.New(fault.KindOf(err), "", err).
			Hint("a proxy registry is asked for pinned plugins alone, so what they depend on must be pinned too, as in %s NAME@=v1.2.0", plugin.Flag)
	}
	if err != nil {
		return err
	}
	for _, n := range result.Notes {
		s.notePlugin(n)
	}
	for _, p := range result.Selected {
		s.fates.others(PluginComponent(p.Name), "of its versions the newest that fits what is selected, or is asked for, is carried", "S5.10.5")
		path := pluginsPath + "/" + p.Name
		s.pluginsFor[p.Name] = cmp.Or(s.pluginsFor[p.Name], p.For)
		s.want(contract.SelectedImage{
			Source: s.layout.Plugin(p.Name).WithTag(p.Tag).String(), Archive: "plugin-" + p.Name,
			Path: path, Tag: p.Tag, Phase: contract.PhaseVersion, Reason: strings.Join(p.Reasons, ", "),
		})
		s.archive("plugin-"+p.Name, path)
		s.discoverable(contract.DiscoveryTag{Path: pluginsPath, Tag: p.Name, Phase: contract.PhaseDiscovery, Needs: path})
	}
	return nil
}

// otherPlugins tells why a plugin of which nothing is said is not carried.
func (s *selector) otherPlugins() string {
	switch {
	case s.OnlyExtraImages:
		return "--only-extra-images leaves plugins out"
	case s.NoPlugins:
		return "--no-plugins chooses none but those of " + plugin.Flag
	case s.ProxyRegistry:
		return "a proxy registry lists no plugins, so those of " + plugin.Flag + " are all that is carried"
	}
	return "it is made for nothing that is selected, and " + plugin.Flag + " does not name it"
}

func (s *selector) notePlugin(n plugin.Note) {
	subject, text := "plugins", n.Text
	if n.Name != "" {
		subject = "plugin " + n.Name
		s.fates.others(PluginComponent(n.Name), n.Text, "S5.10")
	}
	if n.Skipped {
		text = "not carried: " + text
	}
	s.note(subject, text)
}

// pluginInput is what the choice of plugins rests on.
func (s *selector) pluginInput() (plugin.Input, error) {
	in := plugin.Input{
		Platform: s.platformVersions, Always: s.standingPlugins(), Includes: s.plugins,
		Published: map[string]plugin.Published{},
	}
	if s.choosesPlugins() {
		in.Modules = s.bundled
	}
	names := slices.Clone(in.Always)
	if len(in.Modules) > 0 {
		// A catalogue that was looked for and has no list says that there are
		// no plugins for this login (S5.10.2).
		row, err := s.row(s.layout.PluginCatalogue(), false)
		if err != nil {
			return in, err
		}
		in.Catalogue = PluginNames(row.Tags)
		names = append(names, in.Catalogue...)
	}
	for _, c := range in.Includes {
		names = append(names, c.Name)
	}
	return in, s.publishedPlugins(in.Published, names)
}

// publishedPlugins adds the named plugins and those that they depend on.
func (s *selector) publishedPlugins(published map[string]plugin.Published, names []string) error {
	contracts := s.contractsByTag()
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		if _, known := published[name]; known {
			continue
		}
		p, err := s.publishedPlugin(name, contracts)
		if err != nil {
			return err
		}
		published[name] = p
		for _, rel := range p.Releases {
			names = append(names, rel.DependsOn()...)
		}
	}
	return nil
}

// contractsByTag are the contracts of the catalog by component and tag.
func (s *selector) contractsByTag() map[[2]string]contract.CatalogContract {
	out := map[[2]string]contract.CatalogContract{}
	for _, c := range s.contracts {
		out[[2]string{c.Component, c.Tag}] = c
	}
	return out
}

func (s *selector) publishedPlugin(name string, contracts map[[2]string]contract.CatalogContract) (plugin.Published, error) {
	repo := s.layout.Plugin(name)
	row, ok := s.rows[repo.String()]
	if !ok {
		return plugin.Published{}, s.unknownPlugin(name, repo)
	}
	p := plugin.Published{Listed: row.Listed}
	for _, v := range selection.ParseVersions(row.Tags) {
		c, ok := contracts[[2]string{PluginComponent(name), v.Tag()}]
		if !ok {
			return plugin.Published{}, unknown(repo)
		}
		p.Releases = append(p.Releases, plugin.Release{Version: v, Problem: c.Problem, Requirements: c.Requirements})
	}
	return p, nil
}

// unknownPlugin is the error for a plugin at which discover did not look. Where
// it looked at all of the catalogue, this one is not among them.
func (s *selector) unknownPlugin(name string, repo oci.Repository) error {
	catalogue := s.rows[s.layout.PluginCatalogue().String()]
	if !catalogue.Listed {
		return unknown(repo)
	}
	err := fault.Newf(fault.Policy, plugin.Flag, "the source has no plugin %q", name)
	if guesses := near(name, PluginNames(catalogue.Tags)); len(guesses) > 0 {
		return err.Hint("it has %s", quoted(guesses))
	}
	return err.Hint("%s lists its %d plugins", s.layout.PluginCatalogue(), len(catalogue.Tags))
}
