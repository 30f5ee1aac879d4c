package plugin

import (
	"fmt"
	"slices"
	"strings"

	"ferry/pkg/fault"
	"ferry/pkg/selection"
)

// Flag is the flag by which plugins are asked for.
const Flag = "--include-plugin"

// included chooses what was asked for (S5.10.8). All exact pins come first, so
// that whatever depends on a pinned plugin takes the pinned version, in whatever
// order they were named.
func (r *resolver) included() error {
	includes := slices.SortedStableFunc(slices.Values(r.Includes), func(a, b selection.Choice) int {
		return strings.Compare(a.Name, b.Name)
	})
	for _, step := range []func(selection.Choice) error{r.pins, r.dependenciesOfPins, r.ranges} {
		for _, c := range includes {
			if err := step(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// pins chooses the exact versions of an include.
func (r *resolver) pins(c selection.Choice) error {
	for _, tag := range c.ExactTags() {
		rel, ok := r.pinned(c.Name, tag)
		if !ok {
			return r.refuse(c.Name, "the source has no version %s of plugin %s, or refuses it to this login", tag, c.Name)
		}
		if rel.Problem != "" {
			return r.refuse(c.Name, "plugin %s %s cannot be relied on: %s", c.Name, tag, rel.Problem)
		}
		r.pick(c.Name, rel, reason{Included, Flag + " " + c.Name + "@=" + tag})
	}
	return nil
}

// pinned is the release that tag means: as it is spelled, else the same version.
func (r *resolver) pinned(name, tag string) (Release, bool) {
	want, _ := selection.ParseVersion(tag)
	same := -1
	for i, rel := range r.Published[name].Releases {
		if rel.Version.Tag() == tag {
			return rel, true
		}
		if rel.Version.Compare(want) == 0 {
			same = i
		}
	}
	if same < 0 {
		return Release{}, false
	}
	return r.Published[name].Releases[same], true
}

func (r *resolver) dependenciesOfPins(c selection.Choice) error {
	for _, tag := range c.ExactTags() {
		rel, _ := r.pinned(c.Name, tag)
		_ = r.admissible(c.Name, rel, false) // warns at most
		r.attempts = 0
		if err := r.dependencies(c.Name, rel, demand{}); err != nil {
			return r.refuse(c.Name, "plugin %s %s cannot be carried: %w", c.Name, tag, err)
		}
	}
	return nil
}

// ranges chooses a version for each range of an include, and the newest stable
// one for a bare name. That a version in the range is chosen already changes
// nothing (S9 row 47).
func (r *resolver) ranges(c selection.Choice) error {
	if len(c.Constraints) == 0 {
		return r.wanted(c, "", func(v selection.Version) bool { return v.Stable() })
	}
	for _, constraint := range c.Constraints {
		if _, _, exact := constraint.Exact(); exact {
			continue
		}
		within := func(v selection.Version) bool { return constraint.Match(v.Unmarked()) }
		if err := r.wanted(c, "@"+constraint.String(), within); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) wanted(c selection.Choice, constraint string, within func(selection.Version) bool) error {
	if r.PinsOnly {
		return fault.Newf(fault.Usage, Flag,
			"%s%s is no exact version, and the registry has no tag lists to choose from", c.Name, constraint).
			Hint("write %s %s@=VERSION", Flag, c.Name)
	}
	published := r.Published[c.Name]
	if !published.Listed || len(published.Releases) == 0 {
		if constraint == "" && isBuiltIn(c.Name) {
			r.warn(c.Name, "the source does not publish it, or the login may not see it; d8 does with its own %s", c.Name)
			return nil
		}
		return r.refuse(c.Name, "the source has no plugin %q, or refuses it to this login", c.Name)
	}
	releases := slices.DeleteFunc(published.newest(), func(rel Release) bool { return !within(rel.Version) })
	if len(releases) == 0 {
		return r.refuse(c.Name, "no version of plugin %s matches %q", c.Name, strings.TrimPrefix(constraint, "@"))
	}
	d := demand{fits: func(rel Release) error { return r.admissible(c.Name, rel, false) }}
	if err := r.newestThat(c.Name, releases, reason{Included, Flag + " " + c.Name + constraint}, d); err != nil {
		return r.refuse(c.Name, "no version of plugin %s%s can be carried: %w", c.Name, constraint, err)
	}
	return nil
}

// refuse says why an include cannot be had, and what there is.
func (r *resolver) refuse(name, format string, args ...any) error {
	err := fault.New(fault.Policy, Flag, fmt.Errorf(format, args...))
	var versions []string
	for _, rel := range r.Published[name].newest() {
		versions = append(versions, rel.Version.Tag())
	}
	if len(versions) > 0 {
		return err.Hint("it has %s", strings.Join(versions[:min(8, len(versions))], ", "))
	}
	var names []string
	for name, published := range r.Published {
		if len(published.Releases) > 0 {
			names = append(names, name)
		}
	}
	if slices.Sort(names); len(names) > 0 {
		return err.Hint("check the name and the login; there are %s", strings.Join(names[:min(16, len(names))], ", "))
	}
	return err.Hint("check the name and the login")
}
