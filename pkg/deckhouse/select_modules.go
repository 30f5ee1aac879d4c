package deckhouse

import (
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/selection"
)

// Files of a module's version image (S1.6).
const (
	extraImagesFile   = "extra_images.json"
	moduleDigestsFile = "images_digests.json"
)

// modules decides about all modules (S3.4).
func (s *selector) modules() error {
	if !s.wantsModules() {
		return nil
	}
	if s.NoModules && len(s.wanted) > 0 {
		s.note("modules", "--include-module wins over --no-modules")
	}
	row, err := s.row(s.layout.Modules(), true)
	if err != nil {
		return err
	}
	names := ModuleNames(row.Tags)
	if err := s.checkNames(names); err != nil {
		return err
	}
	if len(names) == 0 {
		s.note("modules", s.layout.Modules().String()+" lists no modules; check the source and --modules-path-suffix")
	}
	for _, name := range names {
		if err := s.module(name); err != nil {
			return err
		}
	}
	return nil
}

// checkNames refuses to include what does not exist: a typo must not make a
// bundle smaller (S9 row 80).
func (s *selector) checkNames(names []string) error {
	for _, c := range s.wanted {
		if slices.Contains(names, c.Name) {
			continue
		}
		err := fault.Newf(fault.Policy, "--include-module", "the source has no module %q", c.Name)
		if guesses := near(c.Name, names); len(guesses) > 0 {
			return err.Hint("it has %s", quoted(guesses))
		}
		return err.Hint("%s lists its %d modules", s.layout.Modules(), len(names))
	}
	for _, c := range s.refused {
		if !slices.Contains(names, c.Name) {
			text := "--exclude-module names a module that the source does not have"
			if guesses := near(c.Name, names); len(guesses) > 0 {
				text += "; it has " + quoted(guesses)
			}
			s.note("module "+c.Name, text)
		}
	}
	return nil
}

// moduleChoice is what is decided about one module.
type moduleChoice struct {
	versions choices
	channels choices // of the release repository
}

func (s *selector) module(name string) error {
	include, exclude, ok := s.wantsModule(name)
	if !ok {
		return nil
	}
	var choice moduleChoice
	if include.Exact() {
		if err := choice.pin(name, include, !s.OnlyExtraImages); err != nil {
			return err
		}
	} else if err := s.chooseModule(&choice, name, include, exclude); err != nil {
		return err
	}
	if len(choice.versions) > 0 {
		s.wantModule(name, choice)
		return nil
	}
	text := "it has no release channels, so nothing of it is selected"
	if s.OnlyExtraImages { // S3.4.8
		text = "--only-extra-images reads no channels, so nothing of it is selected; name versions with --include-module " + name + "@CONSTRAINT"
	} else if len(exclude.Constraints) > 0 {
		text = "--exclude-module leaves nothing of it"
	} else if len(s.wanted) > 0 {
		return fault.Newf(fault.Policy, "--include-module", "module %s has no release channels, so there is nothing to select", name).
			Hint("name a version with --include-module %s@CONSTRAINT", name)
	}
	s.note("module "+name, text)
	return nil
}

// pin takes exact tags, and lets channels at the target lead to them: one tag
// without a suffix takes all channels, one with a suffix takes that channel
// (S3.4.9).
func (m *moduleChoice) pin(name string, include selection.Choice, channels bool) error {
	for _, tag := range include.ExactTags() {
		m.versions.add(chosen{tag: tag, from: tag, reason: "--include-module " + name + "@=" + tag})
	}
	if !channels {
		return nil
	}
	owner := map[string]string{}
	for _, c := range include.Constraints {
		tag, suffix, _ := c.Exact()
		var names []string
		if IsChannel(suffix) {
			names = []string{suffix}
		} else if len(include.ExactTags()) == 1 {
			names = Channels()
		}
		for _, channel := range names {
			if other, taken := owner[channel]; taken && other != tag {
				return fault.Newf(fault.Usage, "--include-module "+name, "channel %s cannot lead to both %s and %s", channel, other, tag)
			}
			if owner[channel] == "" {
				owner[channel] = tag
				m.channels.add(chosen{tag: channel, from: tag, reason: "alias of " + tag, optional: true})
			}
		}
	}
	return nil
}

// chooseModule takes what the channels point at, and what the constraints
// select besides.
func (s *selector) chooseModule(m *moduleChoice, name string, include, exclude selection.Choice) error {
	listed := s.rows[s.layout.Module(name).String()]
	if include.Ranged() {
		if _, err := s.row(s.layout.Module(name), true); err != nil {
			return err
		}
	}
	satisfied := !include.Ranged()
	if !s.OnlyExtraImages {
		if _, err := s.row(s.layout.ModuleRelease(name), false); err != nil {
			return err
		}
		for _, c := range s.channels[ComponentModule(name)] {
			tag := moduleTag(c.Version, listed)
			if v, ok := selection.ParseVersion(tag); ok {
				satisfied = satisfied || include.Match(v)
			}
			if excluded(exclude, tag) {
				continue // neither the version nor a channel that announces it
			}
			// A channel may be ahead of its image, which d8 tolerates (S5.6.6);
			// then the channel is not carried either.
			m.versions.add(chosen{tag: tag, from: tag, reason: "channel " + c.Name, optional: true})
			m.channels.add(chosen{tag: c.Name, from: c.Name, needs: tag, reason: "channel at " + tag})
		}
	}
	for _, tag := range include.ExactTags() {
		m.versions.add(chosen{tag: tag, from: tag, reason: "--include-module " + name + "@=" + tag})
	}
	for _, v := range include.Pick(listed.Tags) {
		satisfied = true
		m.versions.add(chosen{tag: v.Tag(), from: v.Tag(), reason: "--include-module " + name + "@" + include.String()})
	}
	if !satisfied {
		return fault.Newf(fault.Policy, "--include-module", "no version of module %s matches %q", name, include.String()).
			Hint("it has %s", versionsOf(listed))
	}
	return nil
}

// excluded reports whether an exclusion names this version (S9 row 78).
func excluded(exclude selection.Choice, tag string) bool {
	v, ok := selection.ParseVersion(tag)
	return ok && exclude.Match(v) || slices.Contains(exclude.ExactTags(), tag)
}

// moduleTag is the tag of the version that a channel names. A "v" is often left
// out there (S1.4.4), rarely in the tag; the list, if there is one, tells.
func moduleTag(version string, listed contract.CatalogRepository) string {
	if strings.HasPrefix(version, "v") || !IsVersion(version) {
		return version
	}
	if slices.Contains(listed.Tags, version) && !slices.Contains(listed.Tags, "v"+version) {
		return version
	}
	return "v" + version
}

func versionsOf(row contract.CatalogRepository) string {
	latest := selection.Tags(selection.LatestPatches(selection.ParseVersions(row.Tags)))
	if len(latest) == 0 {
		return "no versions"
	}
	return strings.Join(latest[max(0, len(latest)-8):], ", ")
}

// wantModule wants the images of a decided module. In archives, and so at the
// target, modules stand below "modules", wherever the source has them (S6.2.1).
func (s *selector) wantModule(name string, choice moduleChoice) {
	path, archive := "modules/"+name, "module-"+name
	image := func(path, repository string, c chosen, phase int) contract.SelectedImage {
		return contract.SelectedImage{
			Source: repository + ":" + c.from, Archive: archive,
			Path: path, Tag: c.tag, Phase: phase, Optional: c.optional, Reason: c.reason,
		}
	}
	main, release := s.layout.Module(name).String(), s.layout.ModuleRelease(name).String()
	for _, v := range choice.versions {
		im := image(path, main, v, contract.PhaseVersion)
		im.Links, im.LinksOnly = s.moduleLinks(name, path), s.OnlyExtraImages
		s.want(im)
		if s.OnlyExtraImages {
			continue
		}
		if !choice.channels.has(v.tag) { // --include-module name@=stable pins a channel
			v.optional = true
			s.want(image(path+"/release", release, v, contract.PhaseVersion))
		}
	}
	for _, c := range choice.channels {
		im := image(path+"/release", release, c, contract.PhaseChannel)
		if c.needs != "" {
			im.Needs = path + ":" + c.needs
		}
		s.want(im)
	}
	s.archive(archive, path, path+"/release")
	s.out.Discovery = append(s.out.Discovery, contract.DiscoveryTag{
		Path: "modules", Tag: name, Phase: contract.PhaseDiscovery, Needs: path,
	})
}

// moduleLinks lead from a version image to its extra images, which a source may
// lack (S5.6.9), to its internal images, which it may not, and to attestations,
// all in the module's main repository (S1.7.3).
func (s *selector) moduleLinks(name, path string) []contract.Link {
	repo := s.layout.Module(name)
	attestations := s.attestations(repo, path)
	extra := contract.Link{
		Kind: contract.LinkNamedTags, File: extraImagesFile,
		Repository: s.layout.moduleExtra(name).String(), Path: path + "/extra",
		Phase: contract.PhaseContent, Optional: true, Links: attestations,
	}
	if s.OnlyExtraImages {
		return []contract.Link{extra}
	}
	internal := contract.Link{
		Kind: contract.LinkDigests, File: moduleDigestsFile,
		Repository: repo.String(), Path: path,
		Phase: contract.PhaseContent, Links: attestations,
	}
	return append([]contract.Link{extra, internal}, attestations...)
}
