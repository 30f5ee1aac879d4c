package selection

import (
	"maps"
	"slices"

	"ferry/pkg/fault"
)

// Gaps are how many missing versions in a row a [Walk] steps over. Both 0 is
// d8's walk, which ends at the first one (S4.2).
type Gaps struct {
	// Patches within a release line, 0 to GapLimit.
	Patches int
	// Minors are release lines of a major without any version, 0 to GapLimit.
	Minors int
}

// GapLimit is the largest gap.
const GapLimit = 100

// walkLimit is how many tags one constraint may ask for. A hundred lines of ten
// patches are below it; a registry that has every tag is not.
const walkLimit = 2000

// Walk seeks the versions that a constraint accepts at a source that lists no
// tags (S4.2): it says which tags to ask for, is told which exist, and says
// more, until nothing is left to ask. It never asks for a version that the
// constraint refuses, for a pre-release, or for anything twice.
//
// Each alternative of the constraint is walked on its own, from the first
// release that it accepts: patches upwards, then the next line, and when lines
// run out the next major. Known versions, the literals of inclusive bounds and
// the highest line below an upper bound are places to walk from as well, down
// the lines of their major too: a range may have no lower bound, or one far
// below what is there. With gaps of 0 they are not.
//
// What the walk can miss are versions behind a larger gap.
type Walk struct {
	constraint Constraint
	gaps       Gaps
	groups     []group
	known      []release
	answers    map[release]bool
}

// Walk begins a walk for a constraint that is a range or a bare version; an
// exact tag needs none. known are versions that others name.
func (c Constraint) Walk(gaps Gaps, known []Version) *Walk {
	w := &Walk{constraint: c, gaps: gaps, answers: map[release]bool{}}
	if c.check == nil {
		return w
	}
	w.groups = groups(c.accepted)
	if gaps == (Gaps{}) {
		return w
	}
	for _, v := range append(slices.Clone(c.anchors), known...) {
		if !v.Prerelease() {
			w.known = append(w.known, v.release())
		}
	}
	return w
}

// Next returns the tags to ask for now, sorted: all of them are needed whatever
// the answers are, so they can be asked in parallel. None means that the walk is
// over. Kind: fault.Policy, for a walk without end.
func (w *Walk) Next() ([]string, error) {
	r := round{Walk: w, needed: map[release]bool{}}
	for _, g := range w.groups {
		r.walk(g)
	}
	if len(w.answers)+len(r.needed) > walkLimit {
		return nil, fault.Newf(fault.Policy, w.constraint.text, "to find its versions more than %d tags would have to be asked for", walkLimit).
			Hint("give the range a lower and an upper bound that are closer to each other, or bridge smaller gaps")
	}
	var tags []string
	for _, next := range slices.SortedFunc(maps.Keys(r.needed), release.compare) {
		tags = append(tags, next.tag())
	}
	return tags, nil
}

// Answer tells whether a tag that Next returned exists.
func (w *Walk) Answer(tag string, exists bool) {
	if v, ok := ParseVersion(tag); ok {
		w.answers[v.release()] = exists
	}
}

// round is one pass over all that is answered so far. A release without an
// answer counts as missing: what is asked for then is needed in any case, for
// an answer can only widen a walk.
type round struct {
	*Walk
	needed map[release]bool
	lines  map[line]bool // of this group: whether a version of it was found
}

func (r *round) walk(g group) {
	r.lines = map[line]bool{}
	first, ok := g.next(release{})
	if !ok {
		return
	}
	r.up(g, first)
	if r.gaps == (Gaps{}) {
		return
	}
	if top, ok := g.top(); ok {
		r.from(g, top)
	}
	for _, known := range r.known {
		if g.accepts(known) {
			r.from(g, known.line())
		}
	}
}

// from walks both ways from a line that has accepted releases.
func (r *round) from(g group, l line) {
	if first, ok := g.next(l.first()); ok {
		r.up(g, first)
	}
	missing := 0
	for lower, ok := g.below(l); ok && missing <= r.gaps.Minors; lower, ok = g.below(lower) {
		missing = counted(missing, r.line(g, lower))
	}
}

// up walks from a release through its line, the lines above, and the majors
// above for as long as one has a version.
func (r *round) up(g group, first release) {
	r.line(g, first.line())
	if next, ok := g.following(first, 1); ok && next[0] == first[0] { // the line where it begins is no gap
		r.major(g, next)
	}
	major, ok := g.following(first, 0)
	for ok && r.major(g, major) {
		major, ok = g.following(major, 0)
	}
}

// major walks up the lines of one major from a release, and reports whether one
// of them has a version.
func (r *round) major(g group, from release) bool {
	any, missing := false, 0
	for at, ok := from, true; ok && at[0] == from[0] && missing <= r.gaps.Minors; at, ok = g.following(at, 1) {
		found := r.line(g, at.line())
		any = any || found
		missing = counted(missing, found)
	}
	return any
}

// line walks up the patches of a line from its first accepted release, and from
// the known ones, and reports whether one of them was found.
func (r *round) line(g group, l line) bool {
	if found, walked := r.lines[l]; walked {
		return found
	}
	found := false
	if first, ok := g.next(l.first()); ok {
		found = r.patches(g, first)
	}
	for _, known := range r.known {
		if known.line() == l && g.accepts(known) {
			found = r.patches(g, known) || found
		}
	}
	r.lines[l] = found
	return found
}

func (r *round) patches(g group, first release) bool {
	any, missing := false, 0
	for at, ok := first, true; ok && at.line() == first.line() && missing <= r.gaps.Patches; at, ok = g.following(at, 2) {
		found, asked := r.answers[at]
		if !asked {
			r.needed[at] = true
		}
		any = any || found
		missing = counted(missing, found)
	}
	return any
}

func counted(missing int, found bool) int {
	if found {
		return 0
	}
	return missing + 1
}
