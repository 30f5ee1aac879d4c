package contract

import (
	"cmp"
	"fmt"
	"slices"

	"ferry/pkg/oci"
)

// CatalogSpec is what the source offers. Vendors choose the words of Component,
// Role and Channel; nobody but the vendor's own select reads them.
type CatalogSpec struct {
	// Vendor is the package that made the catalog and must select from it:
	// "deckhouse", "generic".
	Vendor string `json:"vendor"`
	// Source is the root that was looked at, HOST/PATH, or "" where the
	// catalog is a list of images from anywhere.
	Source string `json:"source"`
	// Edition is the vendor's edition of the source, if it has any.
	Edition string `json:"edition,omitempty"`
	// Repositories are the repositories looked at, sorted by name.
	Repositories []CatalogRepository `json:"repositories"`
	// Channels are the release channels found, by component.
	Channels []CatalogChannel `json:"channels"`
	// Contracts are what versions of components say that they need of others,
	// by component and tag. A version that was looked at and needs nothing
	// stands here too.
	Contracts []CatalogContract `json:"contracts,omitempty"`
	// Files are files out of images that select needs to know, such as what
	// a release says of itself (S6.8).
	Files []CatalogFile `json:"files,omitempty"`
	// Wanted is a list of images that somebody wrote by hand, a line each,
	// for vendors that have nothing else to go by (pkg/generic).
	Wanted []string `json:"wanted,omitempty"`
}

// CatalogRepository is one repository of the source.
type CatalogRepository struct {
	// Repository is HOST/PATH.
	Repository string `json:"repository"`
	// Component is the part of the product it belongs to: "platform",
	// "module/console".
	Component string `json:"component"`
	// Role is what it holds for that component: "main", "release-channel".
	Role string `json:"role"`
	// Tags are the tags that it is known to have, sorted. Unless Listed is
	// set there may be more.
	Tags []string `json:"tags"`
	// Listed says that Tags is the registry's complete tag list.
	Listed bool `json:"listed"`
	// Probed are the constraints for whose versions a registry without a tag
	// list was asked, tag by tag: of these, Tags are all that it has (S4).
	Probed []Probe `json:"probed,omitempty"`
}

// Probe is what was asked to find the versions that one constraint means.
type Probe struct {
	// Constraint as it was written: "^1.64.0".
	Constraint string `json:"constraint"`
	// GapPatches and GapMinors are how many missing patches, and missing
	// minors, in a row the search stepped over.
	GapPatches int `json:"gapPatches"`
	GapMinors  int `json:"gapMinors"`
	// Requests is how many tags were asked for, without those that another
	// constraint had asked for already.
	Requests int `json:"requests"`
}

// CatalogChannel is a release channel and what it points at.
type CatalogChannel struct {
	// Component as in CatalogRepository.
	Component string `json:"component"`
	// Name is the channel: "stable".
	Name string `json:"name"`
	// Version is the version that the channel points at, as published.
	Version string `json:"version"`
	// Suspended says that the vendor has withdrawn the channel for now.
	Suspended bool `json:"suspended"`
	// Digest is what stood behind the channel's tag when Version was read. A
	// Selection asks for it, however the tag has moved since (S3.6.7).
	Digest oci.Digest `json:"digest,omitempty"`
}

// CatalogContract is what one version of a component says that it needs.
type CatalogContract struct {
	// Component as in CatalogRepository: "plugin/console".
	Component string `json:"component"`
	// Tag is the version, as published.
	Tag string `json:"tag"`
	// Digest is what stood behind the tag when its contract was read.
	Digest oci.Digest `json:"digest,omitempty"`
	// Problem says why nobody can rely on this version: its contract cannot
	// be read, or contradicts itself.
	Problem string `json:"problem,omitempty"`
	// Requirements are what it needs; none when there is a problem.
	Requirements []Requirement `json:"requirements,omitempty"`
}

// Requirement is one thing that a version of a component needs.
type Requirement struct {
	// Kind is what it is, a word of the vendor's: "module".
	Kind string `json:"kind"`
	// Mode says in which way it is needed.
	Mode RequirementMode `json:"mode"`
	// Group joins the members of one anyOf or noneOf.
	Group string `json:"group,omitempty"`
	// Name is which one of its kind, "" where there is but one.
	Name string `json:"name,omitempty"`
	// Constraint is a range of its versions, as written; "" is any version.
	Constraint string `json:"constraint,omitempty"`
}

// RequirementMode says in which way something is needed.
type RequirementMode string

// The modes.
const (
	// Mandatory: it must be there.
	Mandatory RequirementMode = "mandatory"
	// Conditional: it may be missing, but what is there must fit.
	Conditional RequirementMode = "conditional"
	// AnyOf: one member of the group must be there.
	AnyOf RequirementMode = "anyOf"
	// NoneOf: no member of the group may be there.
	NoneOf RequirementMode = "noneOf"
)

// grouped reports whether requirements of this mode belong to groups.
func (m RequirementMode) grouped() bool { return m == AnyOf || m == NoneOf }

// CatalogFile is a file of an image, as it was read.
type CatalogFile struct {
	// Repository is HOST/PATH.
	Repository string `json:"repository"`
	// Tag is the image's tag there.
	Tag string `json:"tag"`
	// Digest is what stood behind the tag when the file was read.
	Digest oci.Digest `json:"digest"`
	// Name is the file's path inside the image: "version.json".
	Name string `json:"name"`
	// Text is the file's content, at most FileLimit bytes of UTF-8.
	Text string `json:"text"`
}

// FileLimit is the size in bytes of the largest file that a Catalog holds: a
// change log has some ten kilobytes, and a document is read by people.
const FileLimit = 1 << 20

// Kind is KindCatalog.
func (*CatalogSpec) Kind() Kind { return KindCatalog }

// Normalize sorts repositories, tags, channels, contracts, requirements and files.
func (s *CatalogSpec) Normalize() {
	s.Repositories = sortedBy(s.Repositories, func(a, b CatalogRepository) int {
		return cmp.Compare(a.Repository, b.Repository)
	})
	for i := range s.Repositories {
		s.Repositories[i].Tags = sortedBy(s.Repositories[i].Tags, cmp.Compare[string])
		if s.Repositories[i].Probed != nil {
			s.Repositories[i].Probed = sortedBy(s.Repositories[i].Probed, func(a, b Probe) int { return cmp.Compare(a.Constraint, b.Constraint) })
		}
	}
	s.Channels = sortedBy(s.Channels, func(a, b CatalogChannel) int {
		return cmp.Or(cmp.Compare(a.Component, b.Component), cmp.Compare(a.Name, b.Name))
	})
	slices.SortStableFunc(s.Contracts, func(a, b CatalogContract) int {
		return cmp.Or(cmp.Compare(a.Component, b.Component), cmp.Compare(a.Tag, b.Tag))
	})
	for _, c := range s.Contracts {
		slices.SortStableFunc(c.Requirements, func(a, b Requirement) int {
			return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Mode, b.Mode), cmp.Compare(a.Group, b.Group),
				cmp.Compare(a.Name, b.Name), cmp.Compare(a.Constraint, b.Constraint))
		})
	}
	slices.SortStableFunc(s.Files, func(a, b CatalogFile) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Name, b.Name))
	})
}

// Validate checks names and that nothing stands twice.
func (s *CatalogSpec) Validate() error {
	if s.Vendor == "" {
		return fmt.Errorf("spec.vendor is empty")
	}
	for i, r := range s.Repositories {
		if _, err := oci.ParseRepository(r.Repository); err != nil {
			return fmt.Errorf("spec.repositories[%d]: %w", i, err)
		}
		if i > 0 && r.Repository == s.Repositories[i-1].Repository {
			return fmt.Errorf("spec.repositories[%d]: %s stands twice", i, r.Repository)
		}
		for _, t := range r.Tags {
			if !oci.ValidTag(t) {
				return fmt.Errorf("spec.repositories[%d]: %q is not a tag", i, t)
			}
		}
		if err := validProbes(r.Probed); err != nil {
			return fmt.Errorf("spec.repositories[%d]: %w", i, err)
		}
	}
	for i, c := range s.Channels {
		if c.Component == "" || c.Name == "" {
			return fmt.Errorf("spec.channels[%d]: component and name must not be empty", i)
		}
		if i > 0 && c.Component == s.Channels[i-1].Component && c.Name == s.Channels[i-1].Name {
			return fmt.Errorf("spec.channels[%d]: channel %s of %s stands twice", i, c.Name, c.Component)
		}
		if c.Digest != "" && !c.Digest.Valid() {
			return fmt.Errorf("spec.channels[%d]: %q is not a sha256 digest", i, c.Digest)
		}
	}
	for i, c := range s.Contracts {
		if err := c.validate(); err != nil {
			return fmt.Errorf("spec.contracts[%d]: %w", i, err)
		}
		if i > 0 && c.Component == s.Contracts[i-1].Component && c.Tag == s.Contracts[i-1].Tag {
			return fmt.Errorf("spec.contracts[%d]: %s of %s stands twice", i, c.Tag, c.Component)
		}
	}
	return validFiles(s.Files)
}

// validFiles checks that files are of images, and that those of one image say
// that it is one.
func validFiles(files []CatalogFile) error {
	for i, f := range files {
		where := fmt.Sprintf("spec.files[%d]", i)
		if _, err := oci.ParseRepository(f.Repository); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if !oci.ValidTag(f.Tag) || !f.Digest.Valid() || f.Name == "" {
			return fmt.Errorf("%s: tag %q, digest %q, name %q", where, f.Tag, f.Digest, f.Name)
		}
		if len(f.Text) > FileLimit {
			return fmt.Errorf("%s: %s has more than %d bytes", where, f.Name, FileLimit)
		}
		if i == 0 || f.Repository != files[i-1].Repository || f.Tag != files[i-1].Tag {
			continue
		}
		if last := files[i-1]; f.Name == last.Name || f.Digest != last.Digest {
			return fmt.Errorf("%s: %s of %s:%s stands twice, or beside a file of another image", where, f.Name, f.Repository, f.Tag)
		}
	}
	return nil
}

func (c CatalogContract) validate() error {
	if c.Component == "" || !oci.ValidTag(c.Tag) {
		return fmt.Errorf("%q of component %q is not a version of anything", c.Tag, c.Component)
	}
	if c.Digest != "" && !c.Digest.Valid() {
		return fmt.Errorf("%q is not a sha256 digest", c.Digest)
	}
	if c.Problem != "" && len(c.Requirements) > 0 {
		return fmt.Errorf("%s of %s has a problem, and requirements all the same", c.Tag, c.Component)
	}
	for i, r := range c.Requirements {
		if !slices.Contains([]RequirementMode{Mandatory, Conditional, AnyOf, NoneOf}, r.Mode) {
			return fmt.Errorf("requirements[%d]: unknown mode %q", i, r.Mode)
		}
		if r.Kind == "" || (r.Group != "") != r.Mode.grouped() {
			return fmt.Errorf("requirements[%d]: a requirement has a kind, and a group with anyOf and noneOf alone", i)
		}
	}
	return nil
}

func validProbes(probes []Probe) error {
	for i, p := range probes {
		if p.Constraint == "" || i > 0 && p.Constraint == probes[i-1].Constraint {
			return fmt.Errorf("the probed constraint %q is empty or stands twice", p.Constraint)
		}
		if p.GapPatches < 0 || p.GapMinors < 0 || p.Requests < 0 {
			return fmt.Errorf("the probe of %q has a negative number", p.Constraint)
		}
	}
	return nil
}

// sortedBy sorts list in place and turns nil into an empty list.
func sortedBy[T any](list []T, compare func(a, b T) int) []T {
	if list == nil {
		return []T{}
	}
	slices.SortStableFunc(list, compare)
	return list
}
