// Package terminal knows what may be shown to a person, and how: text that
// commands nobody's terminal, and colour only where it is wanted.
package terminal

import (
	"fmt"
	"strings"
	"unicode"
)

// Printable makes s one harmless line: an error can quote what a registry
// answered, and that must not command the reader's terminal.
func Printable(s string) string {
	s = strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "; ")
	var b strings.Builder
	for _, r := range s {
		if r == '\t' {
			r = ' '
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.String()
}

// Colour is the colour of a piece of text.
type Colour string

// The colours, as SGR sequences have them.
const (
	Red    Colour = "31"
	Green  Colour = "32"
	Yellow Colour = "33"
	Bold   Colour = "1"
)

// Style is how text is laid out.
type Style struct {
	// Colour says that colours are shown.
	Colour bool
	// Width is the length of a line in characters.
	Width int
}

// The widths of a line: that of a file, and the bounds for terminals. Below the
// least nothing can be read, above the most nothing is found.
const (
	fileWidth  = 100
	leastWidth = 60
	mostWidth  = 140
)

// StyleOf is the style for a terminal of width columns, or for a file where
// terminal is false. NO_COLOR removes colour, FORCE_COLOR brings it to files too;
// of both the first wins (S2.7). Empty variables count as unset.
func StyleOf(terminal bool, width int, getenv func(string) string) Style {
	s := Style{Colour: (terminal || getenv("FORCE_COLOR") != "") && getenv("NO_COLOR") == "", Width: fileWidth}
	if width > 0 {
		s.Width = min(max(width, leastWidth), mostWidth)
	}
	return s
}

// Paint returns text in a colour, if the style has any.
func (s Style) Paint(c Colour, text string) string {
	if !s.Colour || c == "" || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}
