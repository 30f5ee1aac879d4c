package connect

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferry/pkg/fault"
	"ferry/pkg/stage"
)

// Q2, Q3, S7.2.1: what is wrong with a target is said with the user's own
// address in the example.
func TestRepository(t *testing.T) {
	for _, tc := range []struct{ in, want, hint string }{
		{"registry.example/deckhouse", "registry.example/deckhouse", ""},
		{"https://registry.example:5000/deckhouse/ee/", "registry.example:5000/deckhouse/ee", ""},
		{"http://registry.example/deckhouse", "registry.example/deckhouse", ""},
		{"http://https://registry.example/http://deckhouse", "registry.example/deckhouse", ""},
		{"registry.example/d", "registry.example/d", ""}, // 2 characters with the slash
		{"registry.example/" + strings.Repeat("a", 254), "registry.example/" + strings.Repeat("a", 254), ""},
		{"registry.example/" + strings.Repeat("a", 255), "", "choose a shorter path"},
		{"registry.example:5000", "", "for example registry.example:5000/deckhouse"},
		{"registry.example/", "", "for example registry.example/deckhouse"},
		{"registry.example/Deckhouse", "", ""},
		{"", "", "it is HOST/PATH, for example registry.example.com/deckhouse"},
		{"https://", "", "it is HOST/PATH, for example registry.example.com/deckhouse"},
	} {
		got, err := Repository("target", tc.in)
		if tc.want == "" {
			if fault.KindOf(err) != fault.Usage || fault.HintOf(err) != tc.hint {
				t.Errorf("%q: got %v (hint %q), want usage with hint %q", tc.in, err, fault.HintOf(err), tc.hint)
			}
			continue
		}
		if err != nil || got.String() != tc.want {
			t.Errorf("%q: got %s, %v, want %s", tc.in, got, err, tc.want)
		}
	}
}

func TestHostOf(t *testing.T) {
	for _, tc := range []struct {
		references []string
		want       string
	}{
		{nil, ""},
		{[]string{"h:5000/a:v1", "h:5000/b@sha256:x"}, "h:5000"},
		{[]string{"h/a:v1", "k/a:v1"}, ""},
		{[]string{"h/a:v1", "k/a:v1", "h/b:v1"}, ""},
	} {
		if got := HostOf(tc.references); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.references, got, tc.want)
		}
	}
}

// --parallel is a bound where it is given; without it the client chooses, and is
// given enough to choose from.
func TestInFlight(t *testing.T) {
	s := &stage.Session{Log: slog.New(slog.DiscardHandler), Getenv: func(string) string { return "" }}
	for _, tc := range []struct{ parallel, inFlight, concurrency int }{{0, 64, 0}, {1, 1, 1}, {200, 200, 200}} {
		f := Flags{Parallel: tc.parallel}
		if got, concurrency := f.InFlight(), f.options(s, source).Concurrency; got != tc.inFlight || concurrency != tc.concurrency {
			t.Errorf("--parallel %d: %d in flight, concurrency %d", tc.parallel, got, concurrency)
		}
		if err := f.Validate(); err != nil {
			t.Errorf("--parallel %d: %v", tc.parallel, err)
		}
	}
	if (Flags{Parallel: -1}).Validate() == nil {
		t.Error("--parallel -1 is accepted")
	}
}

// S2.3.1, S9 row 62: 0, negative, unset and unreadable are no limit; the flag goes
// before the variable.
func TestDeadline(t *testing.T) {
	minute, none := time.Minute, time.Duration(0)
	for _, tc := range []struct {
		env     string
		flag    *time.Duration
		want    time.Duration // negative and 0 both mean no limit
		warning bool
	}{
		{"", nil, 0, false},
		{"0", nil, 0, false},
		{"-1h", nil, -time.Hour, false},
		{"30m", nil, 30 * time.Minute, false},
		{"30", nil, 0, true},
		{"soon", nil, 0, true},
		{"30m", &minute, time.Minute, false},
		{"30m", &none, 0, false},
		{"soon", &minute, time.Minute, false},
	} {
		var log bytes.Buffer
		s := &stage.Session{
			Log:    slog.New(slog.NewTextHandler(&log, nil)),
			Getenv: func(name string) string { return map[string]string{"D8_MIRROR_TIMEOUT": tc.env}[name] },
		}
		got := Flags{Timeout: tc.flag}.deadline(s)
		if got != tc.want || strings.Contains(log.String(), "D8_MIRROR_TIMEOUT") != tc.warning {
			t.Errorf("%q and flag %v: %v, want %v; the log says %q", tc.env, tc.flag, got, tc.want, log.String())
		}
	}
}

// S2.2.3: a password comes from the first line of standard input or of a file, and
// goes before the environment; what holds none is refused, and never quoted.
func TestPassword(t *testing.T) {
	const secret = "hunter2"
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		name, text, want string // want "" is a refusal
	}{
		{"a line", secret + "\n", secret},
		{"no end of the line", secret, secret},
		{"of another system", secret + "\r\n", secret},
		{"blanks are part of it", " " + secret + " \n", " " + secret + " "},
		{"more lines", secret + "\nand a note\n", secret},
		{"nothing", "", ""},
		{"an empty line", "\n" + secret, ""},
		{"too long", strings.Repeat(secret, 10000), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := (Secret{}).read(t.Context(), &stage.Session{Getenv: func(string) string { return "of the environment" }}, "X"); err != nil {
				t.Fatal(err)
			}
			s := &stage.Session{Getenv: func(string) string { return "of the environment" }}
			got, err := Secret{PasswordFile: file(tc.text)}.read(t.Context(), s, "X")
			if got != tc.want || (tc.want == "") != (fault.KindOf(err) == fault.Usage) || err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q, %v, want %q", got, err, tc.want)
			}
		})
	}
	if _, err := (Secret{PasswordFile: filepath.Join(t.TempDir(), "missing")}).read(t.Context(), &stage.Session{}, "X"); fault.KindOf(err) != fault.Usage {
		t.Errorf("no file: %v", err)
	}
}
