package deckhouse

import (
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/selection"
)

// Note is something that a person should know about a selection that succeeded.
type Note struct {
	// Subject is what it is about: "module console".
	Subject string
	// Text is one sentence without a full stop.
	Text string
}

// Select decides which images of the catalog the policy wants, and where each
// lands. The policy's source may be left out; the catalog knows it.
//
// Kinds: fault.Usage for a policy that cannot be carried out, fault.Damaged for
// a catalog of another vendor or source, or one that was made with a narrower
// policy, fault.Policy for a wish that may not or cannot be satisfied.
func Select(cat contract.CatalogSpec, p Policy) (contract.SelectionSpec, []Note, error) {
	s, err := newSelection(cat, p)
	if err != nil {
		return contract.SelectionSpec{}, nil, err
	}
	if err := s.decide(); err != nil {
		return contract.SelectionSpec{}, nil, err
	}
	return s.out, s.notes, nil
}

// newSelection begins to decide. Kinds as Select, but Policy.
func newSelection(cat contract.CatalogSpec, p Policy) (*selector, error) {
	if cat.Vendor != Vendor {
		return nil, fault.Newf(fault.Damaged, "Catalog", "it is one of %q, this selects from %q", cat.Vendor, Vendor)
	}
	if p.Source == "" {
		p.Source = cat.Source
	}
	if ofModuleSource(cat) {
		p.ModuleSource = true
	} else if p.ModuleSource {
		return nil, fault.Newf(fault.Damaged, "Catalog", "it is not of a ModuleSource, and the policy is")
	}
	in, err := p.compile()
	if err != nil {
		return nil, err
	}
	if got := in.layout.Edition.String(); got != cat.Source {
		return nil, fault.Newf(fault.Damaged, "Catalog", "it is of %s, the policy is about %s", cat.Source, got)
	}
	return newSelector(cat, in), nil
}

func (s *selector) decide() error {
	for _, part := range []struct {
		component string
		decide    func() error
	}{
		{ComponentPlatform, s.platform},
		{componentSecurity, s.security},
		{componentInstaller, s.installer},
		{Modules.Component(), func() error { return s.addOns(s.modules) }},
		{Packages.Component(), func() error { return s.addOns(s.packages) }},
		{packageVersions, s.packageVersions}, // after packages: it takes what nobody else wants
		{ComponentCLI, s.cli},
		{ComponentPlugins, s.pluginImages}, // last: they are chosen for what else is selected
	} {
		if err := s.fates.failed(part.component, part.decide()); err != nil {
			return err
		}
	}
	s.out.Attached = s.attachments()
	s.out.Overview = s.overview()
	if s.ModuleSource {
		s.out = atRoot(s.out)
	}
	s.out.Normalize()
	return nil
}

// selector is a selection in the making.
type selector struct {
	*intent
	rows     map[string]contract.CatalogRepository // by repository
	channels map[string][]contract.CatalogChannel  // by component, in the order of Channels
	digests  map[string]oci.Digest                 // by reference, of the images that discover has read
	// contracts are those of plugins.
	contracts []contract.CatalogContract
	out       contract.SelectionSpec
	archives  map[string]int                 // index in out, by name
	discovery map[contract.DiscoveryTag]bool // those of out
	notes     []Note
	fates     fates

	// What is selected so far, for the choice of plugins (S5.9).
	platformVersions []selection.Version
	bundled          map[string][]selection.Version // versions by module

	pluginsFor map[string]string // what each plugin was chosen for
}

func newSelector(cat contract.CatalogSpec, in *intent) *selector {
	s := &selector{
		intent:    in,
		rows:      map[string]contract.CatalogRepository{},
		channels:  map[string][]contract.CatalogChannel{},
		digests:   map[string]oci.Digest{},
		contracts: cat.Contracts,
		out:       contract.SelectionSpec{Vendor: Vendor, Source: cat.Source},
		archives:  map[string]int{},
		discovery: map[contract.DiscoveryTag]bool{},
		bundled:   map[string][]selection.Version{},

		pluginsFor: map[string]string{},
	}
	for _, row := range cat.Repositories {
		s.rows[row.Repository] = row
	}
	for _, name := range Channels() {
		for _, c := range cat.Channels {
			if c.Name == name {
				s.channels[c.Component] = append(s.channels[c.Component], c)
			}
		}
	}
	for _, c := range cat.Channels {
		if repo, ok := in.layout.releasesOf(c.Component); ok {
			s.digests[repo.WithTag(c.Name).String()] = c.Digest
		}
	}
	for _, f := range cat.Files {
		s.digests[f.Repository+":"+f.Tag] = f.Digest
	}
	for _, c := range cat.Contracts {
		if name, ok := strings.CutPrefix(c.Component, PluginComponent("")); ok {
			s.digests[in.layout.Plugin(name).WithTag(c.Tag).String()] = c.Digest
		}
	}
	return s
}

// row is what the catalog knows of a repository. That it knows nothing means
// that discover did not look, which must not pass for "there is nothing".
func (s *selector) row(repo oci.Repository, listed bool) (contract.CatalogRepository, error) {
	row, ok := s.rows[repo.String()]
	if !ok || listed && !row.Listed {
		return row, unknown(repo)
	}
	return row, nil
}

func unknown(repo oci.Repository) error {
	return fault.Newf(fault.Damaged, "Catalog", "it does not tell what %s holds", repo).
		Hint("either the catalog was made with a narrower policy: run discover with the policy that select has; " +
			"or the registry lists no tags, as proxies do: then name versions for both, as in --proxy-registry --include-platform '>=1.68 <=1.70' " +
			"--include-module 'NAME@^1.40.0', and leave out what you do not need with --no-modules --no-packages")
}

func (s *selector) note(subject, text string) {
	s.notes = append(s.notes, Note{subject, text})
}

func (s *selector) noteOnce(subject, text string) {
	if !slices.Contains(s.notes, Note{subject, text}) {
		s.note(subject, text)
	}
}

// archive plans an archive. A package named "versions" shares package-versions.
func (s *selector) archive(name string, layouts ...string) {
	i, known := s.archives[name]
	if !known {
		i = len(s.out.Archives)
		s.archives[name] = i
		s.out.Archives = append(s.out.Archives, contract.Archive{Name: name})
	}
	s.out.Archives[i].Layouts = append(s.out.Archives[i].Layouts, layouts...)
}

// discoverable wants a discovery tag, once (S7.7).
func (s *selector) discoverable(tag contract.DiscoveryTag) {
	if !s.discovery[tag] {
		s.discovery[tag] = true
		s.out.Discovery = append(s.out.Discovery, tag)
	}
}

// want wants an image: where discover has read it, exactly the one that was
// read, for a tag may move before it is fetched (S3.6.7).
func (s *selector) want(im contract.SelectedImage) {
	im.Digest = s.digests[im.Source]
	s.out.Images = append(s.out.Images, im)
}

// attestations links to the VEX attestations of an image, under both names that
// they may have (S1.7.1).
func (s *selector) attestations(repo oci.Repository, path string) []contract.Link {
	if s.SkipVEX {
		return nil
	}
	return []contract.Link{{
		Kind: contract.LinkAttached, Templates: []string{"{digest}.att", "{tag}.att"},
		Repository: repo.String(), Path: path, Phase: contract.PhaseContent, Optional: true,
	}}
}

// attachments are looked for beside every image, and beside what is attached to
// it: cosign's tags and referrers (S1.7.4, S1.7.5, S1.7.8).
func (s *selector) attachments() []contract.Link {
	if s.SkipAttachments {
		return nil
	}
	templates := []string{"{digest}.sig", "{digest}.sbom"}
	if !s.SkipVEX {
		templates = append(templates, "{digest}.att", "{tag}.att")
	}
	return contract.Attachments(attachmentLevels, templates...)
}

// attachmentLevels: what is attached to an image, and what is attached to that, as
// the signature of an attestation is. Nobody signs signatures of signatures.
const attachmentLevels = 2

// security wants all databases; editions without them answer 404 (S1.2.2).
func (s *selector) security() error {
	if s.NoSecurityDB {
		s.fates.leaveOut(componentSecurity, "--no-security-db leaves the security databases out", "S2.2")
		return nil
	}
	s.fates.others(componentSecurity, "of each security database one tag is carried", "S1.2")
	var layouts []string
	for _, db := range databases {
		layouts = append(layouts, db.path)
		s.want(contract.SelectedImage{
			Source: s.layout.Edition.Join(db.path).WithTag(db.tag).String(), Archive: "security",
			Path: db.path, Tag: db.tag, Phase: contract.PhaseVersion, Optional: true, Reason: "security database",
		})
	}
	s.archive("security", layouts...)
	return nil
}

// installer wants the installer: one that was asked for must be there, the
// default may be missing (S5.5, S9 row 74).
func (s *selector) installer() error {
	if s.NoInstaller {
		s.fates.leaveOut(componentInstaller, "--no-installer leaves the installer out", "S2.2")
		return nil
	}
	im := contract.SelectedImage{
		Archive: "installer", Path: "installer", Tag: s.InstallerTag,
		Phase: contract.PhaseVersion, Reason: "--installer-tag " + s.InstallerTag,
	}
	if s.InstallerTag == "" {
		im.Tag, im.Optional, im.Reason = defaultInstallerTag, true, "default installer"
	}
	s.fates.others(componentInstaller, "of the installer one tag is carried, "+im.Tag, "S5.5")
	im.Source = s.layout.installer().WithTag(im.Tag).String()
	s.want(im)
	s.archive("installer", "installer")
	return nil
}

// chosen is a tag that is wanted, and why.
type chosen struct {
	tag      string
	from     string // the tag at the source
	needs    string // the tag of the version that it announces, if it is a channel
	reason   string
	optional bool
}

// choices collects chosen tags in order, each once, with all reasons.
type choices []chosen

func (list *choices) add(c chosen) {
	i := slices.IndexFunc(*list, func(old chosen) bool { return old.tag == c.tag })
	if i < 0 {
		*list = append(*list, c)
		return
	}
	(*list)[i].reason += ", " + c.reason
	(*list)[i].optional = (*list)[i].optional && c.optional
}

// versions are those of the tags that are versions.
func (list choices) versions() []selection.Version {
	var tags []string
	for _, c := range list {
		tags = append(tags, c.tag)
	}
	return selection.ParseVersions(tags)
}

func (list choices) has(tag string) bool {
	return slices.ContainsFunc(list, func(c chosen) bool { return c.tag == tag })
}

// IsVersion reports whether tag reads as a version.
func IsVersion(tag string) bool {
	_, ok := selection.ParseVersion(tag)
	return ok
}

// quoted lists names for people.
func quoted(names []string) string { return `"` + strings.Join(names, `", "`) + `"` }
