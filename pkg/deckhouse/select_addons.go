package deckhouse

import (
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/selection"
)

// Files of an add-on's version image (S1.6).
const (
	extraImagesFile  = "extra_images.json"
	addOnDigestsFile = "images_digests.json"
)

// addOns decides about all add-ons of a family (S3.4).
func (s *selector) addOns(f filter) error {
	if !s.wants(f) {
		s.fates.leaveOut(f.Component(), f.OptOut()+" leaves "+f.many+" out", "S2.2")
		return nil
	}
	if f.leftOut && len(f.include) > 0 {
		s.note(f.many, f.includeFlag()+" wins over "+f.OptOut())
	}
	names, err := s.names(f)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.fates.failed(f.Member(name), s.addOn(f, name)); err != nil {
			return err
		}
	}
	return nil
}

// names are the add-ons to decide about: the catalogue's, or, at a proxy, those
// that are named.
func (s *selector) names(f filter) ([]string, error) {
	if s.ProxyRegistry {
		return f.included(), nil
	}
	row, err := s.row(s.layout.Catalogue(f.Family), true)
	if err != nil {
		return nil, err
	}
	names := Names(row.Tags)
	if len(names) == 0 {
		s.noteEmpty(f.Family)
	}
	return names, s.checkNames(f, names)
}

// noteEmpty tells of a catalogue without names. Editions without packages are
// normal; modules may be looked for in the wrong place.
func (s *selector) noteEmpty(f Family) {
	text := s.layout.Catalogue(f).String() + " lists no " + f.many
	switch {
	case s.ModuleSource:
		text += "; check spec.registry.repo of the ModuleSource"
	case f == Modules:
		text += "; check the source and --modules-path-suffix"
	}
	s.note(f.many, text)
}

// checkNames refuses to include what does not exist: a typo must not make a
// bundle smaller (S9 row 80).
func (s *selector) checkNames(f filter, names []string) error {
	for _, c := range f.include {
		if slices.Contains(names, c.Name) {
			continue
		}
		err := fault.Newf(fault.Policy, f.includeFlag(), "the source has no %s %q", f.one, c.Name)
		if guesses := near(c.Name, names); len(guesses) > 0 {
			return err.Hint("it has %s", quoted(guesses))
		}
		return err.Hint("%s lists its %d %s", s.layout.Catalogue(f.Family), len(names), f.many)
	}
	for _, c := range f.exclude {
		if !slices.Contains(names, c.Name) {
			text := f.excludeFlag() + " names a " + f.one + " that the source does not have"
			if guesses := near(c.Name, names); len(guesses) > 0 {
				text += "; it has " + quoted(guesses)
			}
			s.note(f.one+" "+c.Name, text)
		}
	}
	return nil
}

// addOnChoice is what is decided about one add-on.
type addOnChoice struct {
	versions choices
	channels choices // of the release repository
}

func (s *selector) addOn(f filter, name string) error {
	include, exclude, ok := f.choose(name)
	if !ok {
		s.fates.leaveOut(f.Member(name), f.unchosen(), "S3.4.1")
		return nil
	}
	var choice addOnChoice
	if s.tags != nil && f.Family == Modules {
		if err := s.chooseTags(&choice, name); err != nil {
			return err
		}
	} else if include.Exact() {
		s.fates.others(f.Member(name), f.includeFlag()+" names exact tags alone: "+include.String(), "S3.4.4")
		if err := choice.pin(f.Family, name, include, !s.OnlyExtraImages); err != nil {
			return err
		}
	} else if err := s.chooseVersions(&choice, f.Family, name, include, exclude); err != nil {
		return err
	}
	if len(choice.versions) > 0 {
		s.wantAddOn(f.Family, name, choice)
		if f.Family == Modules {
			s.bundled[name] = choice.versions.versions()
		}
		return nil
	}
	return s.nothingOf(f, name, exclude)
}

// nothingOf tells of an add-on of which nothing is selected. One that nobody
// named is passed over in silence: a catalogue announces many that have no
// release yet (S9 row 12), and explain tells of each.
func (s *selector) nothingOf(f filter, name string, exclude selection.Choice) error {
	switch {
	case s.OnlyExtraImages: // S3.4.8
		s.noteOnce(f.many, "--only-extra-images reads no channels, so nothing is selected where no version is named, as in "+f.includeFlag()+" NAME@CONSTRAINT")
	case len(exclude.Constraints) > 0:
		s.note(f.one+" "+name, f.excludeFlag()+" leaves nothing of it")
	case len(f.include) > 0:
		return fault.Newf(fault.Policy, f.includeFlag(), "%s %s has no release channels, so there is nothing to select", f.one, name).
			Hint("name a version with %s %s@CONSTRAINT", f.includeFlag(), name)
	}
	if !s.OnlyExtraImages && len(exclude.Constraints) == 0 {
		s.fates.others(f.Member(name), "it has no release channels, so nothing of it is selected", "S3.4.1")
	}
	return nil
}

// unchosen tells why an add-on is left out whole.
func (f filter) unchosen() string {
	if len(f.include) > 0 {
		return f.includeFlag() + " names others"
	}
	return f.excludeFlag() + " names it"
}

// pin takes exact tags, and lets channels at the target lead to them: one tag
// without a suffix takes all channels, one with a suffix takes that channel
// (S3.4.9).
func (a *addOnChoice) pin(f Family, name string, include selection.Choice, channels bool) error {
	for _, tag := range include.ExactTags() {
		a.versions.add(chosen{tag: tag, from: tag, reason: f.includeFlag() + " " + name + "@=" + tag})
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
				return fault.Newf(fault.Usage, f.includeFlag()+" "+name, "channel %s cannot lead to both %s and %s", channel, other, tag)
			}
			if owner[channel] == "" {
				owner[channel] = tag
				a.channels.add(chosen{tag: channel, from: tag, reason: "alias of " + tag, optional: true})
			}
		}
	}
	return nil
}

// chooseVersions takes what the channels point at, and what the constraints
// select besides.
func (s *selector) chooseVersions(a *addOnChoice, f Family, name string, include, exclude selection.Choice) error {
	main := s.layout.Main(f, name)
	listed := s.rows[main.String()]
	if include.Ranged() {
		if _, err := s.versionsRow(main, include); err != nil {
			return err
		}
	}
	satisfied := !include.Ranged()
	if s.OnlyExtraImages {
		s.fates.others(f.Member(name), "--only-extra-images reads no channels", "S3.4.8")
	} else if satisfied {
		s.fates.others(f.Member(name), "without a range, the versions that channels point at are all that is carried", "S3.4.2")
	}
	if !s.OnlyExtraImages {
		channels, err := s.channelsOf(f, name)
		if err != nil {
			return err
		}
		for _, c := range channels {
			tag := versionTag(c.Version, listed)
			if v, ok := selection.ParseVersion(tag); ok {
				satisfied = satisfied || include.Match(v)
			}
			if excluded(exclude, tag) { // neither the version nor a channel that announces it
				reason := f.excludeFlag() + " " + name + "@" + exclude.String() + " leaves it out"
				s.fates.passOver(f.Member(name), tag, reason, "S3.4.1")
				s.fates.passOver(f.Member(name), c.Name, "channel at "+tag+": "+reason, "S3.4.1")
				continue
			}
			// A channel may be ahead of its image, which d8 tolerates (S5.6.6);
			// then the channel is not carried either.
			a.versions.add(chosen{tag: tag, from: tag, reason: "channel " + c.Name, optional: true})
			a.channels.add(chosen{tag: c.Name, from: c.Name, needs: tag, reason: "channel at " + tag})
		}
	}
	for _, tag := range include.ExactTags() {
		a.versions.add(chosen{tag: tag, from: tag, reason: f.includeFlag() + " " + name + "@=" + tag})
	}
	picked := include.Pick(listed.Tags)
	s.passOverUnpicked(f.Member(name), listed.Tags, include, picked)
	for _, v := range picked {
		satisfied = true
		a.versions.add(chosen{tag: v.Tag(), from: v.Tag(), reason: f.includeFlag() + " " + name + "@" + include.String()})
	}
	if !satisfied {
		return fault.Newf(fault.Policy, f.includeFlag(), "no version of %s %s matches %q", f.one, name, include.String()).
			Hint("it has %s", versionsOf(listed))
	}
	return nil
}

// channelsOf are the channels of an add-on. One that is listed and was not read
// says, like a repository that is not in the catalog, that discover did not look.
func (s *selector) channelsOf(f Family, name string) ([]contract.CatalogChannel, error) {
	repo, channels := s.layout.Release(f, name), s.channels[f.Member(name)]
	row, err := s.row(repo, false)
	if err != nil {
		return nil, err
	}
	for _, tag := range row.Tags {
		read := func(c contract.CatalogChannel) bool { return c.Name == tag }
		if IsChannel(tag) && !slices.ContainsFunc(channels, read) {
			return nil, unknown(repo)
		}
	}
	return channels, nil
}

// excluded reports whether an exclusion names this version (S9 row 78).
func excluded(exclude selection.Choice, tag string) bool {
	v, ok := selection.ParseVersion(tag)
	return ok && exclude.Match(v) || slices.Contains(exclude.ExactTags(), tag)
}

// versionTag is the tag of the version that a channel names. A "v" is often left
// out there (S1.4.4), rarely in the tag; the list, if there is one, tells.
func versionTag(version string, listed contract.CatalogRepository) string {
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

// wantAddOn wants the images of a decided add-on.
func (s *selector) wantAddOn(f Family, name string, choice addOnChoice) {
	archive := f.archive(name)
	image := func(path string, repo oci.Repository, c chosen, phase int) contract.SelectedImage {
		return contract.SelectedImage{
			Source: repo.WithTag(c.from).String(), Archive: archive,
			Path: path, Tag: c.tag, Phase: phase, Optional: c.optional, Reason: c.reason,
		}
	}
	path, releasePath := f.path(name), f.releasePath(name)
	main, release := s.layout.Main(f, name), s.layout.Release(f, name)
	for _, v := range choice.versions {
		im := image(path, main, v, contract.PhaseVersion)
		im.Links, im.LinksOnly = s.addOnLinks(f, name), s.OnlyExtraImages
		s.want(im)
		if s.OnlyExtraImages {
			continue
		}
		if !choice.channels.has(v.tag) { // --include-module name@=stable pins a channel
			v.optional = true
			s.want(image(releasePath, release, v, contract.PhaseVersion))
		}
	}
	for _, c := range choice.channels {
		im := image(releasePath, release, c, contract.PhaseChannel)
		if c.needs != "" {
			im.Needs = path + ":" + c.needs
		}
		s.want(im)
	}
	s.archive(archive, path, releasePath)
	s.announce(f, name)
}

// announce wants the discovery tag of an add-on.
func (s *selector) announce(f Family, name string) {
	s.discoverable(contract.DiscoveryTag{Path: f.many, Tag: name, Phase: contract.PhaseDiscovery, Needs: f.path(name)})
}

// addOnLinks lead from a version image to its extra images, which a source may
// lack (S5.6.9), to its internal images, which it may not, and to attestations,
// all in the add-on's main repository (S1.7.3).
func (s *selector) addOnLinks(f Family, name string) []contract.Link {
	repo, path := s.layout.Main(f, name), f.path(name)
	attestations := s.attestations(repo, path)
	extra := contract.Link{
		Kind: contract.LinkNamedTags, File: extraImagesFile,
		Repository: s.layout.extra(f, name).String(), Path: path + "/extra",
		Phase: contract.PhaseContent, Optional: true, Links: attestations,
	}
	if s.OnlyExtraImages {
		return []contract.Link{extra}
	}
	internal := contract.Link{
		Kind: contract.LinkDigests, File: addOnDigestsFile,
		Repository: repo.String(), Path: path,
		Phase: contract.PhaseContent, Links: attestations,
	}
	return append([]contract.Link{extra, internal}, attestations...)
}
