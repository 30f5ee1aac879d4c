package plugin

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ferry/pkg/selection"
)

// Resolve chooses plugins: for the bundled modules, for the platform, and those
// that were asked for, each with what it depends on (S5.10).
//
// Kind: fault.Policy for an include that cannot be had.
func Resolve(in Input) (Result, error) {
	r := &resolver{Input: in, skipped: map[string]string{}}
	if r.PinsOnly {
		r.withoutChoice()
	} else {
		r.forModules()
		r.forPlatform()
	}
	if err := r.included(); err != nil {
		return Result{}, err
	}
	r.conditions()
	return r.result(), nil
}

// resolver is a choice in the making. Whatever is tried is appended, and what
// fails is cut off again: a rejected candidate leaves nothing behind (S5.10.7).
type resolver struct {
	Input
	picks    []pick
	warnings []Note
	skipped  map[string]string // reasons by name
	attempts int
}

// reason is why a release is chosen: what it is for, and for which in particular.
type reason struct{ what, text string }

// pick is a chosen release with one reason; there may be more picks of it.
type pick struct {
	name    string
	release Release
	reason  reason
}

type mark struct{ picks, warnings int }

func (r *resolver) mark() mark { return mark{len(r.picks), len(r.warnings)} }

func (r *resolver) rollback(m mark) {
	r.picks, r.warnings = r.picks[:m.picks], r.warnings[:m.warnings]
}

func (r *resolver) pick(name string, rel Release, why reason) {
	r.picks = append(r.picks, pick{name, rel, why})
}

func (r *resolver) warn(name, format string, args ...any) {
	r.warnings = append(r.warnings, Note{Name: name, Text: fmt.Sprintf(format, args...)})
}

// withoutChoice says what a registry without tag lists cannot give (S5.10.13).
func (r *resolver) withoutChoice() {
	if len(r.Modules) > 0 {
		r.warn("", "a registry without tag lists does not tell which plugins fit the modules; name them, as in %s NAME@=v1.2.3", Flag)
	}
}

// forModules chooses for the bundled modules (S5.10.3 to S5.10.6).
func (r *resolver) forModules() {
	if len(r.Modules) == 0 {
		return
	}
	names := slices.Clone(r.Catalogue)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if ValidName(name) {
			r.forModulesOf(name)
		}
	}
}

// forModulesOf chooses versions of one plugin. Whether it is made for a bundled
// module is what its newest readable contract says; an older one that named a
// module is history (S5.10.4).
func (r *resolver) forModulesOf(name string) {
	releases := r.Published[name].stable()
	if len(releases) == 0 {
		return // not published, refused, or nothing but pre-releases
	}
	newest := slices.IndexFunc(releases, func(rel Release) bool { return rel.Problem == "" })
	if newest < 0 {
		r.skipped[name] = fmt.Sprintf("no version has a contract that can be read: %s: %s",
			releases[0].Version.Tag(), releases[0].Problem)
		return
	}
	var missed []string
	found := false
	for _, module := range r.relevantModules(releases[newest]) {
		for _, v := range selection.Newest(r.Modules[module]) {
			if err := r.forModule(name, releases, module, v); err != nil {
				missed = append(missed, fmt.Sprintf("module %s %s: %v", module, v.Tag(), err))
				continue
			}
			found = true
		}
	}
	switch {
	case len(missed) > 0 && !found:
		r.skipped[name] = "no version fits " + missed[0]
	case len(missed) > 0:
		for _, reason := range missed {
			r.warn(name, "no version fits %s", reason)
		}
	}
}

// forModule chooses the newest release that fits one version of a module, and
// returns the newest one's reason when there is none (S5.10.5, S5.10.6).
func (r *resolver) forModule(name string, releases []Release, module string, v selection.Version) error {
	fits := func(rel Release) error {
		if err := pairs(rel, module, v); err != nil {
			return err
		}
		return r.gate(rel)
	}
	return r.newestThat(name, releases, reason{ForModules, "for module " + module + " " + v.Tag()}, demand{gated: true, fits: fits})
}

// forPlatform chooses what goes with the platform. What is missing is no
// failure: not every source has these plugins.
func (r *resolver) forPlatform() {
	for _, name := range r.Always {
		releases := r.Published[name].stable()
		if len(releases) == 0 {
			r.missing(name, "the source does not publish it, or the login may not see it")
			continue
		}
		if err := r.newestThat(name, releases, reason{ForPlatform, "for the platform"}, demand{gated: true, fits: r.gate}); err != nil {
			r.missing(name, err.Error())
		}
	}
}

// missing notes a plugin that goes with the platform and cannot be had.
func (r *resolver) missing(name, reason string) {
	if isBuiltIn(name) {
		reason += "; d8 does with its own " + name
	}
	r.skipped[name] = reason
}

// demand is what a candidate has to meet.
type demand struct {
	// gated: what it depends on must fit the bundle too. Otherwise the target
	// may have what the bundle lacks, which is a warning (S5.10.8).
	gated bool
	fits  func(Release) error
	path  []string // names from the root down to the dependent; none for a root
}

// newestThat chooses the first of releases that meets the demand and whose
// dependencies can be had. Contracts that cannot be read are passed over
// (S5.10.9), with a warning. The error is the first release's.
func (r *resolver) newestThat(name string, releases []Release, why reason, d demand) error {
	if len(d.path) == 0 {
		r.attempts = 0
	}
	var first error
	for i, rel := range releases {
		err := r.try(name, rel, why, d)
		if err == nil {
			for _, passed := range releases[:i] {
				if passed.Problem != "" {
					r.warn(name, "%s is passed over: %s", passed.Version.Tag(), passed.Problem)
				}
			}
			return nil
		}
		if first == nil {
			first = fmt.Errorf("%s: %w", rel.Version.Tag(), err)
		}
	}
	return first
}

// try chooses one release, or leaves nothing behind.
func (r *resolver) try(name string, rel Release, why reason, d demand) (err error) {
	before := r.mark()
	defer func() {
		if err != nil {
			r.rollback(before)
		}
	}()
	if rel.Problem != "" {
		return errors.New(rel.Problem)
	}
	if err := d.fits(rel); err != nil {
		return err
	}
	r.pick(name, rel, why)
	return r.dependencies(name, rel, d)
}

// result puts the picks together.
func (r *resolver) result() Result {
	var out Result
	for _, p := range r.picks {
		i := slices.IndexFunc(out.Selected, func(s Selected) bool { return s.Name == p.name && s.Tag == p.release.Version.Tag() })
		if i < 0 {
			out.Selected = append(out.Selected, Selected{Name: p.name, Tag: p.release.Version.Tag(), For: p.reason.what})
			i = len(out.Selected) - 1
		}
		if s := &out.Selected[i]; !slices.Contains(s.Reasons, p.reason.text) {
			s.Reasons = append(s.Reasons, p.reason.text)
		}
		delete(r.skipped, p.name) // chosen for another reason after all (S5.10.10)
	}
	slices.SortFunc(out.Selected, func(a, b Selected) int {
		v, _ := selection.ParseVersion(a.Tag)
		w, _ := selection.ParseVersion(b.Tag)
		return cmp.Or(strings.Compare(a.Name, b.Name), w.Compare(v), strings.Compare(a.Tag, b.Tag))
	})
	for _, name := range slices.Sorted(maps.Keys(r.skipped)) {
		out.Notes = append(out.Notes, Note{Name: name, Text: r.skipped[name], Skipped: true})
	}
	out.Notes = append(out.Notes, r.warnings...)
	slices.SortStableFunc(out.Notes, func(a, b Note) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Text, b.Text))
	})
	out.Notes = slices.Compact(out.Notes)
	return out
}
