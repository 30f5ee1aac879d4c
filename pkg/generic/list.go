// Package generic is the smallest vendor: a plain list of images, carried as
// they are. Read it first to see what a vendor does: it says what there is
// (Discover) and what is wanted (Select); all else is data in the documents.
package generic

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/selection"
)

// Vendor is the name of this package in documents.
const Vendor = "generic"

// Item is one line of a list.
type Item struct {
	// Text is the line without comment and superfluous blanks.
	Text string
	// Reference is the image. It has neither tag nor digest where Versions
	// chooses tags of the repository.
	Reference oci.Reference
	// Versions has one constraint, or none.
	Versions selection.Choice
	// Path and Tag are where it lands below the target root. Tag is "" where
	// Versions chooses.
	Path, Tag string
}

// maxLine is the longest line, in bytes; two references are far below it.
const maxLine = 4096

// ParseList reads a list of images, one a line:
//
//	HOST/PATH:TAG [TARGET[:TAG]]            one image
//	HOST/PATH@sha256:HEX [TARGET[:TAG]]     one image by digest
//	HOST/PATH@CONSTRAINT [TARGET]           tags of a repository, by version
//
// TARGET is a repository path below the target root; without it an image keeps
// its path and tag, and one that has only a digest gets its 64 hex digits as
// tag. CONSTRAINT is as in package selection, with commas in the place of
// blanks: "^1.2.0", ">=1.2.0,<1.4.0", "=v1". Of each minor version the latest
// patch is taken, and bounds that are named. Blank lines, and what follows a
// "#" at the beginning of a word, are passed over.
//
// Kind: fault.Usage, naming the line.
func ParseList(r io.Reader) ([]*Item, error) {
	var items []*Item
	targets := targets{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	number := 0
	for lines.Scan() {
		number++
		item, err := parseLine(words(lines.Text()))
		if err == nil && item != nil {
			items = append(items, item)
			if item.Tag != "" {
				err = targets.take(item.Path, item.Tag, number, func(line int) string { return fmt.Sprintf("line %d", line) })
			}
		}
		if err != nil {
			return nil, fault.New(fault.Usage, fmt.Sprintf("line %d", number), err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fault.New(fault.Usage, fmt.Sprintf("line %d", number+1), err)
	}
	return items, nil
}

func words(line string) []string {
	fields := strings.Fields(line)
	for i, f := range fields {
		if strings.HasPrefix(f, "#") {
			return fields[:i]
		}
	}
	return fields
}

// parseLine returns nil for a line without words.
func parseLine(words []string) (*Item, error) {
	if len(words) == 0 {
		return nil, nil
	}
	if len(words) > 2 {
		return nil, fault.Newf(fault.Usage, "", "%d words, want REFERENCE [TARGET]", len(words)).
			Hint("a constraint has commas in the place of blanks: >=1.2.0,<1.4.0")
	}
	item, err := parseSource(words[0])
	if err != nil {
		return nil, err
	}
	item.Text = strings.Join(words, " ")
	if len(words) == 2 {
		return item, item.retarget(words[1])
	}
	return item, nil
}

func parseSource(word string) (*Item, error) {
	name, after, ok := strings.Cut(word, "@")
	if ok && !strings.HasPrefix(after, "sha256:") {
		return parseVersions(name, after)
	}
	ref, err := oci.ParseReference(word)
	if err != nil {
		return nil, err
	}
	item := &Item{Reference: ref, Path: ref.Path, Tag: ref.Tag}
	if item.Tag == "" {
		item.Tag = ref.Digest.Hex()
	}
	return item, nil
}

func parseVersions(name, constraint string) (*Item, error) {
	repo, err := oci.ParseRepository(name)
	if err != nil {
		return nil, err
	}
	c, err := selection.ParseConstraint(constraint)
	if err != nil {
		return nil, err
	}
	if _, suffix, _ := c.Exact(); suffix != "" {
		return nil, fmt.Errorf("%q: a list of images knows no channels", constraint)
	}
	return &Item{
		Reference: oci.Reference{Repository: repo}, Path: repo.Path,
		Versions: selection.Choice{Name: name, Constraints: []selection.Constraint{c}},
	}, nil
}

func (item *Item) retarget(word string) error {
	path, tag, tagged := strings.Cut(word, ":")
	if !oci.ValidPath(path) {
		return fmt.Errorf("%q: %q is not a repository path", word, path)
	}
	if tagged && !oci.ValidTag(tag) {
		return fmt.Errorf("%q: %q is not a tag", word, tag)
	}
	if tagged && len(item.Versions.Constraints) > 0 {
		return fmt.Errorf("%q: versions keep their tags, so the target of a constraint has none", word)
	}
	item.Path = path
	if tagged {
		item.Tag = tag
	}
	return nil
}

// targets tells who owns a tag at the target: the number of a line.
type targets map[target]int

type target struct{ path, tag string }

// take makes a tag that of a line, unless it is another line's; name is how an error
// calls a line.
func (t targets) take(path, tag string, line int, name func(line int) string) error {
	at := target{path, tag}
	if other, taken := t[at]; taken {
		return fmt.Errorf("%s and %s both land at %s:%s", name(other), name(line), path, tag)
	}
	t[at] = line
	return nil
}
