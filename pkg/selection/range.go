package selection

import (
	"strings"

	"ferry/pkg/fault"

	"github.com/Masterminds/semver/v3"
)

// Range is what one component demands of the version of another: a semver
// constraint as its libraries read it, not the dialect of [Constraint]. "1.2.0"
// is that version alone. The zero Range is content with any version.
type Range struct {
	text  string
	check *semver.Constraints
}

// ParseRange reads a range; "" is content with any version. Kind: fault.Usage.
func ParseRange(text string) (Range, error) {
	r := Range{text: strings.TrimSpace(text)}
	if r.text == "" {
		return r, nil
	}
	var err error
	if r.check, err = semver.NewConstraint(r.text); err != nil {
		return Range{}, fault.Newf(fault.Usage, "", "%q is no range of versions", r.text)
	}
	return r, nil
}

// String is the range as it was written, "any version" for none.
func (r Range) String() string {
	if r.text == "" {
		return "any version"
	}
	return r.text
}

// Match reports whether v, without the marks of its build, lies in the range
// (S5.10.5).
func (r Range) Match(v Version) bool { return r.check == nil || r.check.Check(v.Unmarked().parsed) }
