// Package summary says in a frame what a run came to, for people (S2.7). All
// that it tells is data of the documents, so it knows no vendor and no stage.
package summary

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"ferry/pkg/contract"
	"ferry/pkg/progress"
	"ferry/pkg/terminal"
)

// Summary is what is known at the end of a run. A stage fills it as it learns
// more, so that a run that fails tells what it knew.
type Summary struct {
	// Title is what the run makes: "Bundle".
	Title string
	// Outcome colours the title and chooses the words.
	Outcome Outcome
	Words   Words
	// From and To are the registries or directories that it is about; "" is
	// not shown.
	From, To string
	Overview contract.Overview
	// Archives are the files of the bundle, by name and size.
	Archives []contract.ArchiveFiles
	// Facts are figures that one stage alone has.
	Facts []Fact
	// State says in a sentence how the run ended.
	State   string
	Elapsed time.Duration
}

// Outcome is how a run ended.
type Outcome int

// The outcomes.
const (
	Done Outcome = iota
	// Planned: it worked, and nothing was carried yet.
	Planned
	Failed
)

// Words are what a stage says of a component.
type Words struct {
	// Done stands before what it has when the run worked; "" is nothing.
	Done string
	// Undone stands there when the run failed.
	Undone string
	// Absent stands alone where it was wanted and is not there.
	Absent string
	// LeftOut stands alone where a flag left it out; "" is "skipped", with
	// the flag.
	LeftOut string
}

// Pulling are the words of a stage that brings content nearer to a bundle;
// undone is what it is where the run failed: "not all packed".
func Pulling(undone string) Words {
	return Words{Undone: undone, Absent: "not pulled: the source has none"}
}

// Publishing are the words of a stage that writes to a registry.
func Publishing() Words {
	return Words{Done: "pushed", Undone: "not all pushed", Absent: "not present", LeftOut: "not present"}
}

// Standing are the words of a stage that looks at what was published.
func Standing() Words {
	return Words{Done: "stands", Undone: "does not all stand", Absent: "not present", LeftOut: "not present"}
}

// Verifying are the words of a stage that reads a bundle.
func Verifying() Words {
	return Words{Undone: "not verified", Absent: "not present", LeftOut: "not present"}
}

// Fact is a line of its own.
type Fact struct {
	Label, Text string
	// Warning marks what a person should not overlook.
	Warning bool
}

// Render returns the frame, lines that end in a newline. verbose lists every
// member of the components that are counted.
func (s Summary) Render(style terminal.Style, verbose bool) []byte {
	f := frame{style: style}
	f.section(s.head())
	f.section(s.components(verbose))
	f.section(s.cautions())
	f.section(s.archives())
	f.section(factLines(s.Facts))
	f.section(s.notes())
	f.section(s.end())
	return f.bytes(s.title())
}

func (s Summary) title() (string, terminal.Colour) {
	switch s.Outcome {
	case Failed:
		return s.Title + " failed", terminal.Red
	case Planned:
		return s.Title, terminal.Yellow
	}
	return s.Title, terminal.Green
}

func (s Summary) head() []line {
	edition := ""
	if s.Overview.Edition != "" {
		edition = strings.ToUpper(s.Overview.Edition)
	}
	return given(line{label: "From", text: s.From}, line{label: "To", text: s.To}, line{label: "Edition", text: edition})
}

// given are the lines that have text.
func given(lines ...line) []line {
	return slices.DeleteFunc(lines, func(l line) bool { return l.text == "" })
}

func (s Summary) components(verbose bool) []line {
	var lines []line
	for _, c := range s.Overview.Components {
		members := s.Overview.Of(c.Name)
		lines = append(lines, s.component(c, members))
		if verbose && c.Unit != "" {
			for _, m := range members {
				lines = append(lines, line{text: m.Name + ": " + describe(m), indent: "  "})
			}
		}
	}
	return lines
}

func (s Summary) component(c contract.Component, members []contract.Member) line {
	l := line{label: c.Name}
	switch {
	case c.State == contract.ComponentLeftOut && s.Words.LeftOut == "":
		l.text = "skipped (" + c.Flag + ")"
		return l
	case c.State == contract.ComponentLeftOut:
		l.text = s.Words.LeftOut
		return l
	case c.State == contract.ComponentStanding:
		l.text = "nothing new: all of it stands at the target already"
		return l
	case c.State == contract.ComponentAbsent:
		l.text = s.Words.Absent
		l.warning = c.Total > 0
		return l
	}
	word := s.Words.Done
	if s.Outcome == Failed {
		word = s.Words.Undone
	}
	if word != "" {
		l.text = word + ": "
	}
	l.text += content(c, members)
	l.warning = len(members) < c.Total
	if c.Images > 0 {
		l.figures = count(c.Images, "image") + "  " + fmt.Sprintf("%10s", progress.Size(c.Bytes))
	}
	return l
}

// content is what a component has.
func content(c contract.Component, members []contract.Member) string {
	parts := make([]string, 0, 4)
	switch {
	case c.Total > 0:
		parts = append(parts, fmt.Sprintf("%d of %s", len(members), count(int64(c.Total), c.Unit)))
	case c.Unit != "":
		parts = append(parts, count(int64(len(members)), c.Unit)+groups(members))
	default:
		for _, m := range members {
			parts = append(parts, describe(m))
		}
	}
	if c.Attestations > 0 {
		parts = append(parts, count(c.Attestations, "attestation"))
	}
	if c.Remark != "" {
		parts = append(parts, c.Remark)
	}
	return strings.Join(parts, "; ")
}

// describe is what a member has: versions, the newest first, and channels.
func describe(m contract.Member) string {
	text := strings.Join(m.Versions, ", ")
	if n := len(m.Channels); n > 0 {
		text = strings.TrimPrefix(text+"; "+count(int64(n), "channel"), "; ")
	}
	if text == "" {
		text = "no version" // an update may bring other images of known versions
	}
	if m.Group != "" {
		text += " (" + m.Group + ")"
	}
	return text
}

// groups tells how many members each group brought in.
func groups(members []contract.Member) string {
	counts := map[string]int{}
	var names []string
	for _, m := range members {
		if m.Group != "" && counts[m.Group] == 0 {
			names = append(names, m.Group)
		}
		counts[m.Group]++
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", counts[name], name)
	}
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}

func (s Summary) cautions() []line {
	var lines []line
	for _, c := range s.Overview.Components {
		if c.Caution != "" && len(s.Overview.Of(c.Name)) > 0 {
			lines = append(lines, line{label: c.Name, text: c.Caution, warning: true})
		}
	}
	return lines
}

func (s Summary) archives() []line {
	if len(s.Archives) == 0 {
		return nil
	}
	var lines []line
	var files int
	var size int64
	for _, a := range s.Archives {
		name := a.Name + ".tar"
		if len(a.Files) > 1 || a.Files[0].Name != name {
			name += " in " + count(int64(len(a.Files)), "chunk")
		}
		lines = append(lines, line{text: name, figures: progress.Size(a.Size)})
		files, size = files+len(a.Files), size+a.Size
	}
	total := count(int64(len(s.Archives)), "archive") + ", " + count(int64(files), "file")
	return append(lines, line{label: "Bundle", text: total, figures: progress.Size(size)})
}

func factLines(facts []Fact) []line {
	var lines []line
	for _, f := range facts {
		lines = append(lines, line{label: f.Label, text: f.Text, warning: f.Warning})
	}
	return lines
}

func (s Summary) notes() []line {
	var lines []line
	for _, n := range s.Overview.Notes {
		lines = append(lines, line{label: "Note", text: n.Subject + ": " + n.Text, warning: true})
	}
	return lines
}

func (s Summary) end() []line {
	return given(line{label: "State", text: s.State}, line{label: "Elapsed", text: s.Elapsed.Round(time.Second).String()})
}

// count is n of a unit, "3 repositories".
func count(n int64, unit string) string {
	if n != 1 {
		if stem, ok := strings.CutSuffix(unit, "y"); ok {
			unit = stem + "ie"
		}
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}
