package selection

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// release is a version without pre-release and build: major, minor, patch.
type release [3]uint64

func (r release) compare(other release) int { return slices.Compare(r[:], other[:]) }

// tag is how a release is published where nobody lists tags (S4.3).
func (r release) tag() string { return fmt.Sprintf("v%d.%d.%d", r[0], r[1], r[2]) }

func (r release) line() line { return line{r[0], r[1]} }

// after returns the first release behind r that differs in the given part, 0 to
// 2, and false where numbers end.
func (r release) after(part int) (release, bool) {
	if r[part] == math.MaxUint64 {
		return r, false
	}
	next := release{}
	copy(next[:], r[:part+1])
	next[part]++
	return next, true
}

// line is a release line: major and minor.
type line [2]uint64

func (l line) first() release { return release{l[0], l[1], 0} }

// span is a run of releases: from is in it, to is not, and without a bound it
// has no end.
type span struct {
	from, to release
	bounded  bool
}

// group is what stands between "||": comparators that all must be content. Of
// pre-releases it knows nothing, for they are never sought (S4.5).
type group struct {
	spans []span // ascending and apart
}

// literalNumberRE finds the numbers of a comparator. It may find some that are
// none, in the words behind a version; they do no harm.
var literalNumberRE = regexp.MustCompile(`\d+(?:\.\d+){0,2}`)

// groups are the alternatives of a range, each with the releases it accepts.
func groups(text string) []group {
	var out []group
	for _, part := range strings.Split(text, "||") {
		if check, err := semver.NewConstraint(part); err == nil {
			out = append(out, newGroup(check, edges(part)))
		}
	}
	return out
}

// edges are the releases at which a comparator can begin or cease to be content:
// its literal, and what follows in each part, as partial versions, "~" and "^"
// demand. Whatever the operator, between two edges nothing changes.
func edges(text string) []release {
	out := []release{{}, {0, 0, 1}, {0, 1}, {1}} // of "*", which stands for no number
	for _, literal := range literalNumberRE.FindAllString(text, -1) {
		var r release
		for i, number := range strings.Split(literal, ".") {
			n, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				break // no version has such a number
			}
			r[i] = n
		}
		out = append(out, r)
		for part := range r {
			if next, ok := r.after(part); ok {
				out = append(out, next)
			}
		}
	}
	slices.SortFunc(out, release.compare)
	return slices.Compact(out)
}

func newGroup(check *semver.Constraints, edges []release) group {
	var g group
	for _, r := range edges {
		accepted := check.Check(semver.New(r[0], r[1], r[2], "", ""))
		last := len(g.spans) - 1
		open := last >= 0 && !g.spans[last].bounded
		if accepted && !open {
			g.spans = append(g.spans, span{from: r})
		}
		if !accepted && open {
			g.spans[last].to, g.spans[last].bounded = r, true
		}
	}
	return g
}

// accepts reports whether r is among the releases.
func (g group) accepts(r release) bool {
	next, ok := g.next(r)
	return ok && next == r
}

// next is the first accepted release that is not below r.
func (g group) next(r release) (release, bool) {
	for _, s := range g.spans {
		if s.bounded && s.to.compare(r) <= 0 {
			continue
		}
		if s.from.compare(r) > 0 {
			return s.from, true
		}
		return r, true
	}
	return release{}, false
}

// following is the accepted release behind r that differs in the given part.
func (g group) following(r release, part int) (release, bool) {
	next, ok := r.after(part)
	if !ok {
		return release{}, false
	}
	return g.next(next)
}

// top is the highest line with an accepted release. There is none where the last
// major, or the group, has no end.
func (g group) top() (line, bool) {
	if len(g.spans) == 0 || !g.spans[len(g.spans)-1].bounded {
		return line{}, false
	}
	return lastBefore(g.spans[len(g.spans)-1].to)
}

// below is the next lower line of the same major that has an accepted release.
func (g group) below(l line) (line, bool) {
	for _, s := range slices.Backward(g.spans) {
		if s.from.compare(l.first()) >= 0 {
			continue
		}
		end := l.first()
		if s.bounded && s.to.compare(end) < 0 {
			end = s.to
		}
		lower, ok := lastBefore(end)
		return lower, ok && lower[0] == l[0]
	}
	return line{}, false
}

// lastBefore is the last line that begins before end. Where that is the first
// release of a major there is none: nobody knows the last line of a major.
func lastBefore(end release) (line, bool) {
	switch {
	case end[2] > 0:
		return end.line(), true
	case end[1] > 0:
		return line{end[0], end[1] - 1}, true
	}
	return line{}, false
}
