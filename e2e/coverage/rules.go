// Package coverage tells which test proves which rule. It reads the rules from
// docs/deckhouse.md and their citations from the test code, and writes
// docs/coverage.md.
package coverage

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Rule is one numbered rule of the rule book.
type Rule struct {
	// ID is "S3.6.7", or "S3.2 row 14" for a row of a table.
	ID string
	// Text is what it says, without its number.
	Text string
	// Fact says that the rule asks nothing of ferry: it describes what others
	// made. Its text begins with "Fact:".
	Fact bool
	// Deviation is what d8 does instead, and why ferry does not; "" where they
	// agree.
	Deviation string
	// group is a heading whose rules stand below it.
	group bool
}

// Where a rule stands: its number begins a heading, a list item or a table row,
// perhaps with others, or it is an item of a section's numbered list.
var (
	ruleLine = regexp.MustCompile(`^(#+|-|\|) (S[0-9]+(?:\.[0-9]+)*(?:, S[0-9]+(?:\.[0-9]+)*)*)(?:[.:]? |$)(.*)`)
	itemLine = regexp.MustCompile(`^([0-9]+)\. (.*)`)
	rowLine  = regexp.MustCompile(`^\| ([0-9]+(?:, [0-9]+)*) \|(.*)`)
	noteLine = regexp.MustCompile(`^- `)
)

// ReadRules returns the rules of the rule book at path, in its order.
func ReadRules(path string) ([]Rule, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b := &book{known: map[string]bool{}}
	for line := range strings.Lines(string(text)) {
		b.line(strings.TrimRight(line, "\n"))
	}
	b.end()
	return b.rules, b.err
}

// book is a rule book that is being read.
type book struct {
	rules   []Rule
	known   map[string]bool
	section string // the heading's number, "" below a heading without one
	current []int  // the rules that the next lines belong to
	err     error
}

func (b *book) line(line string) {
	if strings.HasPrefix(line, "#") {
		b.end()
		b.section = ""
	}
	if m := ruleLine.FindStringSubmatch(line); m != nil {
		ids := strings.Split(m[2], ", ")
		text := m[3]
		if m[1][0] == '#' {
			b.section = ids[0]
			text += ". "
		}
		b.begin(ids, text)
		return
	}
	if b.section == "" {
		return
	}
	if m := itemLine.FindStringSubmatch(line); m != nil {
		b.begin([]string{b.section + "." + m[1]}, m[2])
		return
	}
	if m := rowLine.FindStringSubmatch(line); m != nil {
		var ids []string
		for _, row := range strings.Split(m[1], ", ") {
			ids = append(ids, b.section+" row "+row)
		}
		b.begin(ids, m[2])
		return
	}
	b.more(line)
}

func (b *book) begin(ids []string, text string) {
	b.end()
	for _, id := range ids {
		if b.known[id] && b.err == nil {
			b.err = fmt.Errorf("the rule book defines %s twice", id)
		}
		b.known[id] = true
		b.current = append(b.current, len(b.rules))
		b.rules = append(b.rules, Rule{ID: id, Text: text})
	}
}

// more appends a line to the rule that it belongs to. A blank line ends an item
// of a list, and what follows belongs to the section.
func (b *book) more(line string) {
	inSection := len(b.current) == 1 && b.rules[b.current[0]].ID == b.section
	if !inSection && (line == "" || line[0] != ' ') {
		b.end()
		for i, r := range b.rules {
			if r.ID == b.section {
				b.current = []int{i}
			}
		}
	}
	if noteLine.MatchString(line) {
		line = line[2:]
	}
	for _, i := range b.current {
		b.rules[i].Text += " " + strings.TrimSpace(line)
	}
}

func (b *book) end() { b.current = nil }

// Finish takes notes and facts out of the texts, and tells headings that only
// group rules from those that are rules themselves.
func Finish(rules []Rule) []Rule {
	parents := map[string]bool{}
	for _, r := range rules {
		id, _, row := strings.Cut(r.ID, " row ")
		if row {
			parents[id] = true
		}
		for i := strings.LastIndexByte(id, '.'); i > 0; i = strings.LastIndexByte(id, '.') {
			id = id[:i]
			parents[id] = true
		}
	}
	for i := range rules {
		r := &rules[i]
		r.group = parents[r.ID]
		r.Text = strings.Join(strings.Fields(strings.Trim(r.Text, " |")), " ")
		r.Text, r.Deviation, _ = strings.Cut(r.Text, "**d8:**")
		r.Text, r.Deviation = strings.TrimSpace(r.Text), strings.TrimSpace(r.Deviation)
		r.Fact = strings.HasPrefix(r.Text, "Fact:")
	}
	return rules
}

// needsTest reports whether the rule must be proven by a test: S1 to S8, and
// the rows of S9.
func (r Rule) needsTest() bool {
	chapter, _ := strconv.Atoi(strings.FieldsFunc(r.ID[1:], func(c rune) bool { return c == '.' || c == ' ' })[0])
	return !r.group && !r.Fact && chapter >= 1 && chapter <= 9
}
