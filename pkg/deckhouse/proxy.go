package deckhouse

import (
	"cmp"
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse/plugin"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/selection"
)

// A proxy registry serves images and lists no tags. What is wanted of it must
// therefore be named: versions are then asked for one by one (S4).

// defaultGaps bridge what real sources lack: withdrawn patches, skipped minors.
var defaultGaps = selection.Gaps{Patches: 3, Minors: 2}

func (in *intent) parseGaps() error {
	in.gaps = defaultGaps
	for _, flag := range []struct {
		name  string
		given *int
		value *int
	}{
		{"--proxy-gap-patches", in.ProxyGapPatches, &in.gaps.Patches},
		{"--proxy-gap-minors", in.ProxyGapMinors, &in.gaps.Minors},
	} {
		switch {
		case flag.given == nil:
			continue
		case !in.ProxyRegistry:
			return fault.Newf(fault.Usage, flag.name, "it means nothing without --proxy-registry")
		case *flag.given < 0 || *flag.given > selection.GapLimit:
			return fault.Newf(fault.Usage, flag.name, "%d is not between 0 and %d", *flag.given, selection.GapLimit)
		}
		*flag.value = *flag.given
	}
	return nil
}

// checkProxy refuses early what cannot be asked of a registry that lists no tags
// (S4.1).
func (in *intent) checkProxy() error {
	if !in.ProxyRegistry {
		return nil
	}
	for _, flag := range []struct {
		name  string
		given bool
	}{
		{"--deckhouse-tag", in.DeckhouseTag != ""},
		{"--since-version", in.SinceVersion != ""},
	} {
		if flag.given {
			return fault.Newf(fault.Usage, "--proxy-registry and "+flag.name, "together they are ambiguous").
				Hint("name platform versions with --include-platform; =TAG is one tag alone")
		}
	}
	if in.NoPlatform && !in.wants(in.modules) && !in.wants(in.packages) && len(in.plugins) == 0 {
		return fault.Newf(fault.Usage, "--proxy-registry", "platform, modules, packages and plugins are all left out, so there is nothing to ask for").
			Hint("leave --proxy-registry out: the installer and the security databases need no tag list")
	}
	if !in.NoPlatform && in.IncludePlatform == "" {
		return fault.Newf(fault.Usage, "--proxy-registry", "it lists no releases, so the platform versions must be named").
			Hint("name them, as in --include-platform '>=1.68 <=1.70', or leave the platform out with --no-platform")
	}
	return cmp.Or(
		in.checkNamed(in.modules, in.IncludeModules),
		in.checkNamed(in.packages, in.IncludePackages),
		in.checkPins(),
	)
}

// checkPins wants the plugins of d8 that are asked for to be exact tags.
func (in *intent) checkPins() error {
	for _, c := range in.plugins {
		if !c.Exact() {
			return fault.Newf(fault.Usage, plugin.Flag+" "+c.Name, "a proxy registry lists no versions of plugins").
				Hint("name one exactly, as in %s %s@=v1.2.0", plugin.Flag, c.Name)
		}
	}
	return nil
}

// checkNamed wants every add-on of a family that is wanted to be named with its
// versions.
func (in *intent) checkNamed(f filter, entries []string) error {
	if !in.wants(f) {
		return nil
	}
	hint := func(err *fault.Error, name string) error {
		return err.Hint("name versions, as in %s '%s@^1.40.0', or leave %s out with %s", f.includeFlag(), name, f.many, f.OptOut())
	}
	if len(entries) == 0 {
		return hint(fault.Newf(fault.Usage, "--proxy-registry", "it lists no %s, so they must be named", f.many), "NAME")
	}
	for _, entry := range entries {
		choice, err := selection.ParseChoice(entry)
		if err != nil {
			return err
		}
		if len(choice.Constraints) == 0 {
			return hint(fault.Newf(fault.Usage, f.includeFlag()+" "+choice.Name, "a proxy registry cannot be asked for a name without versions"), choice.Name)
		}
	}
	return nil
}

// Proxy reports whether the source lists no tags, so that versions are asked for
// one by one, and the gaps to bridge.
func (s Scope) Proxy() (selection.Gaps, bool) { return s.in.gaps, s.in.ProxyRegistry }

// PlatformRanges are the ranges of platform versions to ask a proxy for.
func (s Scope) PlatformRanges() []selection.Constraint { return s.in.include.Ranges() }

// Ranges are the ranges of an add-on's versions to ask a proxy for.
func (s Scope) Ranges(f Family, name string) []selection.Constraint {
	include, _, _ := s.in.filter(f).choose(name)
	return include.Ranges()
}

// Included are the names of the add-ons that are asked for: all that is known of
// a proxy's catalogue.
func (s Scope) Included(f Family) []string { return s.in.filter(f).included() }

func (f filter) included() []string {
	var names []string
	for _, c := range f.include {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return names
}

// versionsRow is what the catalog knows of a repository out of whose versions
// choice chooses: its tag list, or the answers to exactly these ranges.
func (s *selector) versionsRow(repo oci.Repository, choice selection.Choice) (contract.CatalogRepository, error) {
	row, err := s.row(repo, false)
	if err != nil || row.Listed || probedFor(row, choice) {
		return row, err
	}
	return row, unknown(repo)
}

// probedFor reports whether the ranges of choice are the ones that were asked
// for. Of others, nobody knows what there is.
func probedFor(row contract.CatalogRepository, choice selection.Choice) bool {
	var probed, wanted []string
	for _, p := range row.Probed {
		probed = append(probed, p.Constraint)
	}
	for _, c := range choice.Ranges() {
		wanted = append(wanted, c.String())
	}
	slices.Sort(probed)
	slices.Sort(wanted)
	return len(wanted) > 0 && slices.Equal(probed, wanted)
}
