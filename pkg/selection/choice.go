package selection

import (
	"slices"
	"strings"

	"ferry/pkg/fault"
)

// Choice is a name with everything that was said about it. Without constraints
// it is bare: the name alone.
type Choice struct {
	Name        string
	Constraints []Constraint
}

// ParseChoice reads one entry, "name" or "name@constraint", split at the first
// "@" (S3.1.1). Kind: fault.Usage.
func ParseChoice(entry string) (Choice, error) {
	name, constraint, constrained := strings.Cut(strings.TrimSpace(entry), "@")
	choice := Choice{Name: strings.TrimSpace(name)}
	if choice.Name == "" {
		return Choice{}, fault.Newf(fault.Usage, entry, "no name stands there").Hint("write NAME or NAME@CONSTRAINT")
	}
	if !constrained {
		return choice, nil
	}
	c, err := ParseConstraint(constraint)
	if err != nil {
		return Choice{}, fault.New(fault.Usage, choice.Name, err)
	}
	choice.Constraints = []Constraint{c}
	return choice, nil
}

// ParseChoices reads entries and merges those of one name, in the order of
// their first appearance: the constraints are alternatives, and a bare entry
// adds nothing to a constrained one (S3.1.9). Kind: fault.Usage.
func ParseChoices(entries []string) ([]Choice, error) {
	var out []Choice
	for _, entry := range entries {
		choice, err := ParseChoice(entry)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(out, func(c Choice) bool { return c.Name == choice.Name })
		if i < 0 {
			out = append(out, choice)
			continue
		}
		out[i].Constraints = append(out[i].Constraints, choice.Constraints...)
	}
	return out, nil
}

// String lists the constraints: "^1.2.0 or =v2.0.0".
func (c Choice) String() string {
	var texts []string
	for _, constraint := range c.Constraints {
		texts = append(texts, constraint.text)
	}
	return strings.Join(texts, " or ")
}

// Exact reports whether every constraint is exact, and there is one: then the
// tags are known without looking at the source.
func (c Choice) Exact() bool {
	return len(c.Constraints) > 0 && !c.Ranged()
}

// Ranged reports whether a constraint is a range or a bare version, which only
// a tag list can answer.
func (c Choice) Ranged() bool {
	return slices.ContainsFunc(c.Constraints, func(c Constraint) bool { return c.exact == "" })
}

// Ranges are the constraints that are no exact tags, each once, in order.
func (c Choice) Ranges() []Constraint {
	var out []Constraint
	for _, constraint := range c.Constraints {
		same := func(other Constraint) bool { return other.text == constraint.text }
		if constraint.exact == "" && !slices.ContainsFunc(out, same) {
			out = append(out, constraint)
		}
	}
	return out
}

// ExactTags are the tags of the exact constraints, each once, in order.
func (c Choice) ExactTags() []string {
	var out []string
	for _, constraint := range c.Constraints {
		if constraint.exact != "" && !slices.Contains(out, constraint.exact) {
			out = append(out, constraint.exact)
		}
	}
	return out
}

// Match reports whether v satisfies one of the constraints. A bare choice has
// none to satisfy.
func (c Choice) Match(v Version) bool {
	return slices.ContainsFunc(c.Constraints, func(c Constraint) bool { return c.Match(v) })
}

// Pick returns the versions among tags that the ranges select: of those that
// match, the latest patch of each minor, and the anchors, sorted (S3.3). An
// anchor is the literal of an inclusive bound, for whoever names a version
// wants it (S3.1.6, S9 row 14).
func (c Choice) Pick(tags []string) []Version {
	var matching, anchors []Version
	for _, v := range ParseVersions(tags) {
		matches, anchor := false, false
		for _, constraint := range c.Constraints {
			if constraint.exact == "" && constraint.Match(v) {
				matches = true
				anchor = anchor || slices.ContainsFunc(constraint.anchors, func(a Version) bool { return a.Compare(v) == 0 })
			}
		}
		if matches {
			matching = append(matching, v)
		}
		if anchor {
			anchors = append(anchors, v)
		}
	}
	picked := append(LatestPatches(matching), anchors...)
	slices.SortFunc(picked, compareSpelled)
	// Of several spellings of one version the usual one stays, which sorts last.
	slices.Reverse(picked)
	picked = slices.CompactFunc(picked, func(a, b Version) bool { return a.Compare(b) == 0 })
	slices.Reverse(picked)
	return picked
}
