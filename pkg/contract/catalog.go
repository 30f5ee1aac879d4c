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
}

// Kind is KindCatalog.
func (*CatalogSpec) Kind() Kind { return KindCatalog }

// Normalize sorts repositories, tags and channels.
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
