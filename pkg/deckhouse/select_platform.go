package deckhouse

import (
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/selection"
)

// Files of the install image that name the components; the first is the better
// one where both exist (S1.5).
const (
	imagesTagsFile    = "deckhouse/candi/images_tags.json"
	imagesDigestsFile = "deckhouse/candi/images_digests.json"
)

// platformChoice is what is decided about the platform.
type platformChoice struct {
	versions choices
	channels choices // of the release-channel repository
	// installers are the channels of the install repository, each read from
	// the tag of a version; all are among channels too (S3.9.3).
	installers choices
	// announced tells whether each version must have its image in
	// release-channel; a pinned one may lack it (S5.4.2).
	announced bool
}

func (s *selector) platform() error {
	if s.NoPlatform {
		s.fates.leaveOut(ComponentPlatform, "--no-platform leaves the platform out", "S2.2")
		return nil
	}
	choose := s.discovered
	if s.pin != "" {
		choose = s.pinned
	}
	choice, err := choose()
	if err != nil {
		return err
	}
	s.platformVersions = choice.versions.versions()
	s.archive("platform", "", "install", "install-standalone", "release-channel")
	for _, v := range choice.versions {
		s.wantPlatform("", v, contract.PhaseVersion, nil)
		// Without its install image the components of a version are unknown;
		// a custom tag may be the deckhouse image alone (S5.4.3).
		installer := v
		installer.optional = !IsVersion(v.tag)
		s.wantPlatform("install", installer, contract.PhaseVersion, s.componentLinks())
		standalone := v
		standalone.optional = true
		s.wantPlatform("install-standalone", standalone, contract.PhaseVersion, nil)
		release := v
		release.optional = !choice.announced
		s.wantPlatform("release-channel", release, contract.PhaseVersion, nil)
	}
	for _, c := range choice.channels {
		s.wantPlatform("release-channel", c, contract.PhaseChannel, nil)
	}
	for _, c := range choice.installers {
		s.wantInstallChannel(c)
	}
	return nil
}

func (s *selector) wantPlatform(path string, c chosen, phase int, links []contract.Link) {
	im := s.platformImage(path, c, phase)
	im.Links = links
	s.want(im)
}

// wantInstallChannel wants the install image of a version once more, under the
// name of a channel: documented commands begin with install:stable. Its links
// are followed from the version's tag already. Like that tag it is optional
// where an install image may be missing (S5.4.3), and it is skipped together
// with its channel, which a pinned version may lack (S3.9.1).
func (s *selector) wantInstallChannel(c chosen) {
	c.optional = !IsVersion(c.from)
	im := s.platformImage("install", c, contract.PhaseChannel)
	im.Needs = "release-channel:" + c.tag
	s.want(im)
}

func (s *selector) platformImage(path string, c chosen, phase int) contract.SelectedImage {
	return contract.SelectedImage{
		Source: s.layout.Edition.Join(path).WithTag(c.from).String(), Archive: "platform",
		Path: path, Tag: c.tag, Phase: phase, Optional: c.optional, Reason: c.reason,
	}
}

// componentLinks lead from an install image to the components, which are images
// of the edition's root (S1.5.2), and to their attestations (S1.7.2).
func (s *selector) componentLinks() []contract.Link {
	root := s.layout.Edition
	return []contract.Link{
		{
			Kind: contract.LinkTags, File: imagesTagsFile,
			Repository: root.String(), Phase: contract.PhaseContent, Links: s.attestations(root, ""),
		},
		{
			Kind: contract.LinkDigests, File: imagesDigestsFile, Unless: imagesTagsFile, Required: true,
			Repository: root.String(), Phase: contract.PhaseContent, Links: s.attestations(root, ""),
		},
	}
}

// platformChannel is a channel with its version, spelled as release-channel has
// it.
type platformChannel struct {
	name      string
	version   selection.Version
	suspended bool
}

// isAt reports whether tag means the version that the channel points at.
func (c platformChannel) isAt(tag string) bool {
	v, ok := selection.ParseVersion(tag)
	return ok && v.Compare(c.version) == 0
}

// platformChannels are the channels of the platform. releases are the tags of
// release-channel that are known.
func (s *selector) platformChannels(releases []string) ([]platformChannel, error) {
	var out []platformChannel
	for _, c := range s.channels[ComponentPlatform] {
		v, ok := selection.ParseVersion(c.Version)
		if !ok {
			return nil, fault.Newf(fault.Damaged, "Catalog", "channel %s points at %q, which is not a version", c.Name, c.Version)
		}
		out = append(out, platformChannel{c.Name, published(v, releases), c.Suspended && !s.IgnoreSuspend})
	}
	return out, nil
}

// published is v as one of tags spells it, or else in the usual way.
func published(v selection.Version, tags []string) selection.Version {
	usual, _ := selection.ParseVersion(v.Canonical())
	if slices.Contains(tags, usual.Tag()) {
		return usual
	}
	for _, other := range selection.ParseVersions(tags) {
		if other.Compare(v) == 0 {
			return other
		}
	}
	return usual
}

// discovered decides by channels and the list of releases (S3.6).
func (s *selector) discovered() (platformChoice, error) {
	row, err := s.versionsRow(s.layout.ReleaseChannel(), s.include)
	if err != nil {
		return platformChoice{}, err
	}
	channels, err := s.platformChannels(row.Tags)
	if err != nil {
		return platformChoice{}, err
	}
	if err := s.checkChannels(channels); err != nil {
		return platformChoice{}, err
	}
	if err := checkSuspended(channels); err != nil {
		return platformChoice{}, err
	}
	s.fates.others(ComponentPlatform, "only releases that release-channel announces are looked at; another tag comes with --deckhouse-tag", "S3.6")
	floor := s.floor(channels)
	constrained := len(s.include.Constraints) > 0

	choice := platformChoice{announced: true}
	for _, c := range channels {
		version := chosen{tag: c.version.Tag(), from: c.version.Tag(), reason: "channel " + c.name}
		if constrained && !s.include.Match(c.version) {
			s.fates.passOver(ComponentPlatform, c.name, "channel at "+version.tag+", which "+s.unmatched(), "S3.6.3")
			continue
		}
		if constrained || !floor.above(c.version) {
			choice.versions.add(version)
		}
		if floor.above(c.version) {
			s.fates.passOver(ComponentPlatform, c.name, "channel at "+version.tag+", which is below "+floor.String(), "S3.6.4")
			continue
		}
		reason := "channel at " + version.tag
		choice.channels.add(chosen{tag: c.name, from: c.name, reason: reason})
		choice.installers.add(chosen{tag: c.name, from: version.tag, reason: reason})
	}
	for _, v := range s.listedVersions(row.Tags, channels, floor) {
		choice.versions.add(v)
	}
	if len(choice.versions) == 0 {
		return platformChoice{}, s.nothingMatches(channels)
	}
	return choice, nil
}

// listedVersions are those that the list of releases adds to the channels'.
func (s *selector) listedVersions(tags []string, channels []platformChannel, floor *floor) []chosen {
	var versions []selection.Version
	reason := func(v selection.Version) string { return "latest patch of " + v.Minor() }
	if len(s.include.Constraints) > 0 {
		versions = s.include.Pick(tags)
		s.passOverUnpicked(ComponentPlatform, tags, s.include, versions)
		reason = func(selection.Version) string { return "--include-platform " + s.include.String() }
	} else if alpha, ok := versionOf(channels, "alpha"); ok {
		window := s.window(tags, floor, alpha)
		versions = selection.LatestPatches(window)
		s.passOverOlder(ComponentPlatform, window, versions)
	} else {
		s.fates.others(ComponentPlatform, "the source has no channel alpha, so the versions of its channels are all that is carried", "S3.6.2")
	}
	var out []chosen
	for _, v := range versions {
		v = published(v, tags)
		out = append(out, chosen{tag: v.Tag(), from: v.Tag(), reason: reason(v)})
	}
	return out
}

// window are the listed versions from floor to alpha. A pre-release comes only
// where a channel or a constraint names one.
func (s *selector) window(tags []string, floor *floor, alpha selection.Version) []selection.Version {
	var out []selection.Version
	for _, v := range selection.ParseVersions(tags) {
		switch {
		case v.Prerelease():
			s.fates.passOver(ComponentPlatform, v.Tag(), "a pre-release, which comes only where a channel or --include-platform names it", "S3.6.2")
		case floor.above(v):
			s.fates.passOver(ComponentPlatform, v.Tag(), "it is below "+floor.String(), "S3.6.2")
		case v.Compare(alpha) > 0:
			s.fates.passOver(ComponentPlatform, v.Tag(), "it is above channel alpha at "+alpha.Tag(), "S3.6.2")
		default:
			out = append(out, v)
		}
	}
	return out
}

// floor is the lowest version of the window; nil is none.
type floor struct {
	version selection.Version
	whose   string
}

// above reports whether v lies below the floor.
func (f *floor) above(v selection.Version) bool { return f != nil && v.Compare(f.version) < 0 }

func (f *floor) String() string { return f.whose + " " + f.version.Tag() }

// floor is rock-solid's version, or a later one of --since-version; nil where
// there is neither (S3.6.2).
func (s *selector) floor(channels []platformChannel) *floor {
	rockSolid, ok := versionOf(channels, "rock-solid")
	switch {
	case s.since != nil && (!ok || s.since.Compare(rockSolid) > 0):
		return &floor{*s.since, "--since-version"}
	case ok:
		return &floor{rockSolid, "channel rock-solid at"}
	}
	return nil
}

// unmatched tells that a version does not fit --include-platform.
func (s *selector) unmatched() string {
	return "--include-platform " + s.include.String() + " does not match"
}

func versionOf(channels []platformChannel, name string) (selection.Version, bool) {
	for _, c := range channels {
		if c.name == name {
			return c.version, true
		}
	}
	return selection.Version{}, false
}

// noChannels is a source that announces no release (S3.8).
var noChannels = fault.NewCause("no-release-channels",
	[]string{
		"--source does not lead to the root of an edition, such as HOST/deckhouse/ee",
		"the source is a development registry, or was filled with builds alone",
	},
	[]string{"compare --source with the address that the edition has at this registry"})

// checkChannels refuses a source that lacks default channels, unless it has
// lts, as CSE has (S3.5.2).
func (s *selector) checkChannels(channels []platformChannel) error {
	if len(channels) == 0 {
		return fault.Newf(fault.Policy, s.layout.ReleaseChannel().String(), "the source has no release channels").Because(noChannels).
			Hint("name a version or custom tag with --deckhouse-tag; it needs no channels")
	}
	if _, ok := versionOf(channels, lts); ok {
		return nil
	}
	var missing []string
	for _, name := range defaultChannels {
		if _, ok := versionOf(channels, name); !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fault.Newf(fault.Policy, s.layout.ReleaseChannel().String(), "the source lacks the release channels %s", quoted(missing)).
		Hint("name a version with --deckhouse-tag")
}

func checkSuspended(channels []platformChannel) error {
	var names []string
	for _, c := range channels {
		if c.suspended {
			names = append(names, c.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	noun := "channel"
	if len(names) > 1 {
		noun = "channels"
	}
	return fault.Newf(fault.Policy, "platform", "the vendor has suspended the release %s %s", noun, quoted(names)).
		Hint("wait until the vendor resumes, pin another version with --deckhouse-tag, or override with --ignore-suspend")
}

func (s *selector) nothingMatches(channels []platformChannel) error {
	if s.since != nil {
		return fault.Newf(fault.Policy, "--since-version", "no release is at or above %s", s.since.Tag()).
			Hint("the channels are at %s", channelsAt(channels))
	}
	return fault.Newf(fault.Policy, "--include-platform", "no release matches %q", s.include.String()).
		Hint("the channels are at %s", channelsAt(channels))
}

func channelsAt(channels []platformChannel) string {
	text := ""
	for i, c := range channels {
		if i > 0 {
			text += ", "
		}
		text += c.name + " " + c.version.Tag()
	}
	return text
}

// pinned decides by --deckhouse-tag, or an exact --include-platform (S3.7).
func (s *selector) pinned() (platformChoice, error) {
	row, err := s.row(s.layout.ReleaseChannel(), false)
	if err != nil {
		return platformChoice{}, err
	}
	channels, err := s.platformChannels(row.Tags)
	if err != nil {
		return platformChoice{}, err
	}
	tag, err := s.pinnedTag(row.Tags, channels)
	if err != nil {
		return platformChoice{}, err
	}
	// A suspension matters only where the pin names the channel or its
	// version (S3.7.2, S9 row 6).
	matched := slices.DeleteFunc(slices.Clone(channels), func(c platformChannel) bool { return c.name != s.pin && !c.isAt(s.pin) })
	if err := checkSuspended(matched); err != nil {
		return platformChoice{}, err
	}
	var choice platformChoice
	choice.versions.add(chosen{tag: tag, from: tag, reason: "pinned by " + s.pin})
	s.fates.others(ComponentPlatform, "the platform is pinned to "+s.pin, "S3.7")
	if row.Listed && !slices.Contains(row.Tags, tag) && !IsChannel(s.pin) {
		s.note("platform", "the source announces no release "+tag+", so no channel will point at it")
		return choice, nil
	}
	// At the target all five channels lead to the pinned version, whatever
	// they are at the source (S3.9.1): each tag has one owner (S3.9.2).
	from, optional := tag, true
	if IsChannel(s.pin) {
		from, optional = s.pin, false
	}
	for _, name := range defaultChannels {
		alias := chosen{tag: name, from: from, reason: "alias of " + s.pin, optional: optional}
		choice.channels.add(alias)
		alias.from = tag
		choice.installers.add(alias)
	}
	// lts is no alias (S3.9.1): it comes where it leads to this version, and
	// install has the five alone (S3.9.3).
	if slices.ContainsFunc(channels, func(c platformChannel) bool { return c.name == lts && !c.suspended && c.isAt(tag) }) {
		choice.channels.add(chosen{tag: lts, from: lts, reason: "channel at " + tag})
	}
	return choice, nil
}

// pinnedTag is the tag in the edition's root that the pin means.
func (s *selector) pinnedTag(releases []string, channels []platformChannel) (string, error) {
	if IsChannel(s.pin) {
		v, ok := versionOf(channels, s.pin)
		if !ok {
			err := fault.Newf(fault.Policy, "--deckhouse-tag", "the source has no release channel %q", s.pin)
			if len(channels) == 0 {
				return "", err.Because(noChannels).Hint("it has no release channels at all: name a version or a custom tag")
			}
			return "", err.Hint("it has %s", channelsAt(channels))
		}
		return v.Tag(), nil
	}
	// A catalog that was made for this pin tells what stands in the root;
	// another one knows at least the announced releases.
	root, looked := s.rows[s.layout.Edition.String()]
	for _, known := range [][]string{root.Tags, releases} {
		for _, tag := range spellings(s.pin) {
			if slices.Contains(known, tag) {
				return tag, nil
			}
		}
	}
	if looked {
		return "", fault.Newf(fault.Policy, "--deckhouse-tag", "the source has no tag %s in %s", quoted(spellings(s.pin)), s.layout.Edition)
	}
	return s.pin, nil
}
