package selection

import (
	"fmt"
	"regexp"
	"strings"

	"ferry/pkg/fault"
	"ferry/pkg/oci"

	"github.com/Masterminds/semver/v3"
)

// Constraint is what may stand behind "name@" (S3.1.2): an exact tag, a range,
// or a bare version.
type Constraint struct {
	text    string
	exact   string // a tag; "" for ranges and bare versions
	suffix  string // behind the "+" of an exact tag
	check   *semver.Constraints
	anchors []Version
	// accepted is what check was made from: of a bare version, its range.
	accepted string
}

// literalRE finds what stands behind an inclusive bound, up to a blank or
// comma. That "||" is taken for a part of it, and then refused, is the dialect
// (S3.1.5).
var literalRE = regexp.MustCompile(`[<>]=\s*([^\s,]*)`)

// ParseConstraint reads one constraint:
//
//	=TAG[+SUFFIX]     exactly this tag; the vendor says what the suffix means
//	> < ~ ^ ...       a range; blank or comma is AND, " || " is OR
//	1[.2[.3]]         this version and all later ones of the major
//
// Kind: fault.Usage.
func ParseConstraint(text string) (Constraint, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return Constraint{}, fault.Newf(fault.Usage, "", "the constraint is empty").Because(fault.EmptyConstraint).
			Hint("quote a constraint with > or <, which the shell takes for redirections, and check that the variable behind @ is set")
	}
	c := Constraint{text: text}
	var err error
	switch text[0] {
	case '=':
		err = c.parseExact(text[1:])
	case '>', '<', '~', '^':
		err = c.parseRange(text)
	default:
		err = c.parseBare(text)
	}
	if err != nil {
		return Constraint{}, err
	}
	return c, nil
}

func (c *Constraint) parseExact(rest string) error {
	tag, suffix, _ := strings.Cut(rest, "+")
	if tag == "" {
		return fault.Newf(fault.Usage, c.text, "no tag stands behind =")
	}
	if oci.ValidTag(tag) {
		c.exact, c.suffix = tag, suffix
		return nil
	}
	err := fault.Newf(fault.Usage, c.text, "%q cannot be a tag", tag)
	if strings.ContainsRune("<>=~^ ", rune(tag[0])) { // S9 row 79
		err.Hint("= names one exact tag, as in =v1.2.0; a range begins with its own operator, as in >=1.2.0")
	}
	return err
}

func (c *Constraint) parseRange(text string) error {
	check, err := semver.NewConstraint(text)
	if err != nil {
		return c.malformed(err)
	}
	for _, match := range literalRE.FindAllStringSubmatch(text, -1) {
		anchor, ok := ParseVersion(match[1])
		if !ok {
			return c.malformed(fmt.Errorf("%q is not a version", match[1]))
		}
		c.anchors = append(c.anchors, anchor)
	}
	c.check, c.accepted = check, text
	return nil
}

// parseBare reads a version as "it or later in its major". That is no caret:
// for major 0 it spans all of 0.x (S3.1.4, S9 row 5).
func (c *Constraint) parseBare(text string) error {
	v, ok := ParseVersion(text)
	if !ok {
		return c.malformed(fmt.Errorf("%q is not a version", text))
	}
	text = fmt.Sprintf(">=%s <%d.0.0", v.parsed, v.parsed.Major()+1)
	check, err := semver.NewConstraint(text)
	if err != nil {
		return c.malformed(err)
	}
	c.check, c.accepted = check, text
	return nil
}

func (c *Constraint) malformed(err error) error {
	f := fault.New(fault.Usage, c.text, err)
	if strings.Contains(c.text, "/") { // the shell took the operator, the next argument became the value (S2.4.4)
		return f.Because(fault.PathConstraint).Hint("this looks like a path: quote constraints with > or <, which the shell takes for redirections")
	}
	return f.Hint("write =TAG, a version as 1.2.0, or a range as ^1.2.0, ~1.2.0, \">=1.2.0 <1.4.0\"; put blanks around ||")
}

// String is the constraint as it was written.
func (c Constraint) String() string { return c.text }

// Exact returns the tag and the suffix of an exact constraint, false for any
// other.
func (c Constraint) Exact() (tag, suffix string, ok bool) { return c.exact, c.suffix, c.exact != "" }

// Match reports whether v satisfies the constraint. An exact one matches its
// tag only. Pre-releases satisfy a group of comparators in which one is named
// (S3.1.8).
func (c Constraint) Match(v Version) bool {
	if c.exact != "" {
		return v.tag == c.exact
	}
	return c.check.Check(v.parsed)
}
