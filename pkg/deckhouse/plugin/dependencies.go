package plugin

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/selection"
)

// dependencies chooses what a release depends on (S5.10.7). After an error the
// caller rolls back.
func (r *resolver) dependencies(name string, rel Release, d demand) error {
	path := append(slices.Clone(d.path), name)
	for _, q := range rel.of(NeedsPlugin, contract.Mandatory) {
		if err := r.dependency(q, rel, demand{gated: d.gated, path: path}); err != nil {
			return err
		}
	}
	return nil
}

// dependency sees to it that one requirement is met: by what is chosen already,
// else by the newest release that can be had, else, for commands that d8 has, by
// d8 itself.
func (r *resolver) dependency(q contract.Requirement, dependent Release, d demand) error {
	err := r.dependencyPlugin(q, dependent, d)
	if err != nil && isBuiltIn(q.Name) {
		r.warn(q.Name, "%s %s needs it, and d8 does with its own %s: %v", d.path[len(d.path)-1], dependent.Version.Tag(), q.Name, err)
		return nil
	}
	return err
}

func (r *resolver) dependencyPlugin(q contract.Requirement, dependent Release, d demand) error {
	rejected := func(format string, args ...any) error {
		return fmt.Errorf("it depends on %s, "+format, append([]any{described(q)}, args...)...)
	}
	if !ValidName(q.Name) {
		return rejected("which is no name of a plugin")
	}
	within, err := selection.ParseRange(q.Constraint)
	if err != nil {
		return rejected("which is no range of versions")
	}
	// Before anything is reused: what a cycle leads back to is chosen, too.
	if slices.Contains(d.path, q.Name) {
		return rejected("which depends on it in turn (a cycle: %s)", strings.Join(append(slices.Clone(d.path), q.Name), " > "))
	}
	if len(d.path) > maxDepth {
		return rejected("which is more than %d dependencies away from the first one", maxDepth)
	}
	why := reason{ForPlugins, "needed by plugin " + d.path[len(d.path)-1] + " " + dependent.Version.Tag()}
	if r.reuse(q.Name, within, why) {
		return nil
	}
	if r.PinsOnly {
		return rejected("which must be pinned too: --include-plugin %s@=VERSION", q.Name)
	}
	releases := r.Published[q.Name].stable()
	if len(releases) == 0 {
		return rejected("which is not published, or refused to this login")
	}
	newest := releases[0].Version.Tag()
	releases = slices.DeleteFunc(releases, func(rel Release) bool { return !within.Match(rel.Version) })
	if len(releases) == 0 {
		return rejected("of which there is no such version; the newest is %s", newest)
	}
	d.fits = func(rel Release) error {
		if r.attempts++; r.attempts > maxAttempts {
			return errors.New("there are too many ways to combine what plugins depend on")
		}
		return r.admissible(q.Name, rel, d.gated)
	}
	if err := r.newestThat(q.Name, releases, why, d); err != nil {
		return rejected("of which no version can be had: %w", err)
	}
	return nil
}

// reuse takes the newest chosen release of a plugin that lies within the range.
func (r *resolver) reuse(name string, within selection.Range, why reason) bool {
	var best *Release
	for _, p := range r.picks {
		if p.name == name && within.Match(p.release.Version) && (best == nil || p.release.Version.Compare(best.Version) > 0) {
			best = &p.release
		}
	}
	if best != nil {
		r.pick(name, *best, why)
	}
	return best != nil
}

// admissible applies the gate, or warns of what only the target can have.
func (r *resolver) admissible(name string, rel Release, gated bool) error {
	err := r.gate(rel)
	if err != nil && !gated {
		r.warn(name, "%s: %v; the target must have it", rel.Version.Tag(), err)
		return nil
	}
	return err
}
