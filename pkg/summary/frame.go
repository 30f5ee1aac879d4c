package summary

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"ferry/pkg/terminal"
)

// line is a label, a text that is wrapped, and figures at the right end.
type line struct {
	label, text, figures string
	indent               string // before the text, for what is below another line
	warning              bool
}

// frame collects sections of lines. It is open to the right: a name that is
// wider than it looks would tear a border there.
type frame struct {
	style    terminal.Style
	sections [][]line
}

// section adds lines, if there are any. What they say comes from documents.
func (f *frame) section(lines []line) {
	for i := range lines {
		lines[i].label, lines[i].text = terminal.Printable(lines[i].label), terminal.Printable(lines[i].text)
	}
	if len(lines) > 0 {
		f.sections = append(f.sections, lines)
	}
}

const (
	top, bottom, side, rule = "╔", "╚", "║ ", "╟"
	gap                     = 2 // characters between columns
)

func (f *frame) bytes(title string, colour terminal.Colour) []byte {
	var b bytes.Buffer
	head := top + "═ " + f.style.Paint(terminal.Bold, f.style.Paint(colour, title)) + " "
	b.WriteString(head + strings.Repeat("═", max(1, f.style.Width-utf8.RuneCountInString(title)-4)) + "\n")
	labels, figures := f.columns()
	for i, lines := range f.sections {
		if i > 0 {
			b.WriteString(rule + strings.Repeat("─", f.style.Width-1) + "\n")
		}
		for _, l := range lines {
			f.write(&b, l, labels, figures)
		}
	}
	b.WriteString(bottom + strings.Repeat("═", f.style.Width-1) + "\n")
	return b.Bytes()
}

// columns are the widths of labels and figures, the same in all sections.
func (f *frame) columns() (labels, figures int) {
	for _, lines := range f.sections {
		for _, l := range lines {
			labels = max(labels, utf8.RuneCountInString(l.label))
			figures = max(figures, utf8.RuneCountInString(l.figures))
		}
	}
	return labels, figures
}

func (f *frame) write(b *bytes.Buffer, l line, labels, figures int) {
	room := f.style.Width - utf8.RuneCountInString(side) - labels - gap
	if l.figures != "" {
		room -= figures + gap
	}
	label := l.label
	for i, text := range wrap(l.text, max(room-len(l.indent), 1)) {
		text = l.indent + text
		row := pad(label, labels+gap) + text
		if i == 0 && l.figures != "" {
			row = pad(row, labels+gap+room+gap) + strings.Repeat(" ", figures-utf8.RuneCountInString(l.figures)) + l.figures
		}
		if l.warning {
			row = f.style.Paint(terminal.Yellow, row)
		}
		b.WriteString(strings.TrimRight(side+row, " ") + "\n")
		label = ""
	}
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// wrap breaks text at blanks into lines of at most width characters; a longer
// word stands alone. It returns at least one line.
func wrap(text string, width int) []string {
	var lines []string
	current := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case current == "":
			current = word
		case utf8.RuneCountInString(current)+1+utf8.RuneCountInString(word) <= width:
			current += " " + word
		default:
			lines = append(lines, current)
			current = word
		}
	}
	return append(lines, current)
}
