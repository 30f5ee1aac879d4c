package terminal

import "testing"

// S2.7.9: colour is for terminals; NO_COLOR removes it, FORCE_COLOR forces it.
func TestStyleOf(t *testing.T) {
	for _, tc := range []struct {
		name     string
		terminal bool
		width    int
		env      map[string]string
		want     Style
	}{
		{"terminal", true, 90, nil, Style{true, 90}},
		{"file", false, 0, nil, Style{false, 100}},
		{"NO_COLOR", true, 90, map[string]string{"NO_COLOR": "1"}, Style{false, 90}},
		{"FORCE_COLOR", false, 0, map[string]string{"FORCE_COLOR": "1"}, Style{true, 100}},
		{"both", true, 90, map[string]string{"NO_COLOR": "1", "FORCE_COLOR": "1"}, Style{false, 90}},
		{"narrow", true, 20, nil, Style{true, 60}},
		{"wide", true, 500, nil, Style{true, 140}},
	} {
		if got := StyleOf(tc.terminal, tc.width, func(name string) string { return tc.env[name] }); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestPaint(t *testing.T) {
	if got := (Style{Colour: true}).Paint(Red, "x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("red is %q", got)
	}
	if got := (Style{}).Paint(Red, "x"); got != "x" {
		t.Errorf("without colour it is %q", got)
	}
}

func TestPrintable(t *testing.T) {
	if got := Printable("a\nb\t\x1b[2J\n"); got != `a; b \u001b[2J` {
		t.Errorf("got %q", got)
	}
}
