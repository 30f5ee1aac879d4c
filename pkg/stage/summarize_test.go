package stage

import (
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
)

// clock is one minute and one second later each time that it is asked.
func clock() func() time.Time {
	now := time.Unix(1000, 0)
	return func() time.Time {
		now = now.Add(61 * time.Second)
		return now
	}
}

func wants(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// S2.7.6, S2.7.8: a summary goes to stderr or a file, after success and failure, with the
// time since the chain began; without the flag there is none.
func TestSummary(t *testing.T) {
	in := catalog(t, "registry.example/a")
	var c copier
	got := runIn(t.Context(), c.command(), Env{Now: clock()}, in, "--summary", "-")
	expect(t, got, 0, "╔═ ferry-select ═", "║ Elapsed  1m1s")
	selection(t, got.stdout)

	file := filepath.Join(t.TempDir(), "summary.txt")
	started := func(name string) string { return map[string]string{"FERRY_STARTED": "1000"}[name] }
	c = copier{extra: func(context.Context, *Session) error { return fault.New(fault.Transient, "registry", nil) }}
	got = runIn(t.Context(), c.command(), Env{Now: clock(), Getenv: started}, in, "--summary", file)
	expect(t, got, 75)
	if strings.Contains(got.stderr, "╔") {
		t.Errorf("the frame is on stderr too:\n%s", got.stderr)
	}
	wants(t, contentOf(t, file), "╔═ ferry-select failed ═", "failed with exit status 75: registry: transient. What is finished stays;", "║ Elapsed  2m2s")

	got = runIn(t.Context(), (&copier{}).command(), Env{}, in)
	if expect(t, got, 0); got.stderr != "" {
		t.Errorf("without the flag stderr has %q", got.stderr)
	}
}

// S2.1.5: on an interrupt as well, but not when the command line is refused,
// whoever refuses it.
func TestSummaryOfInterruptAndRefusal(t *testing.T) {
	in := catalog(t, "registry.example/a")
	ctx, cancel := context.WithCancelCause(t.Context())
	c := copier{extra: func(ctx context.Context, _ *Session) error {
		cancel(interruption{syscall.SIGTERM})
		return ctx.Err()
	}}
	expect(t, runIn(ctx, c.command(), Env{}, in, "--summary", "-"), 143, "failed with exit status 143: stopped by signal: terminated. What is finished stays;")

	c = copier{extra: func(context.Context, *Session) error { return fault.New(fault.Usage, "--vendor", nil) }}
	for _, args := range [][]string{{"--summary", "-"}, {"--summary", "-", "--no-such-flag"}} {
		if got := runIn(t.Context(), c.command(), Env{}, in, args...); strings.Contains(got.stderr, "╔") || got.code != 64 {
			t.Errorf("%v: exit status %d with a frame\n%s", args, got.code, got.stderr)
		}
	}
}

// What a document says is told whether it is made or kept.
func TestSummaryOfKeptDocument(t *testing.T) {
	in := catalog(t, "registry.example/a")
	kept := filepath.Join(t.TempDir(), "kept.json")
	for i, made := range []int{1, 0} {
		c := copier{}
		cmd := c.command()
		cmd.Run = func(ctx context.Context, s *Session) error {
			return Produce(ctx, s, Product[contract.SelectionSpec]{
				Tell: func(spec *contract.SelectionSpec) { s.Summary.State = "it is of " + spec.Source },
				Make: func(context.Context) (contract.SelectionSpec, error) {
					c.made++
					return contract.SelectionSpec{Vendor: "v", Source: "registry.example/a"}, nil
				},
			})
		}
		got := runIn(t.Context(), cmd, Env{}, in, "--summary", "-", "--keep", kept)
		expect(t, got, 0, "║ State    it is of registry.example/a")
		if c.made != made {
			t.Errorf("run %d: made %d times, want %d", i, c.made, made)
		}
	}
}

// Colour is for terminals; a file has none, whatever stderr is (S2.7.9).
func TestSummaryColour(t *testing.T) {
	in := catalog(t, "registry.example/a")
	file := filepath.Join(t.TempDir(), "summary.txt")
	terminal := Env{StderrTerminal: true, StderrWidth: 70}
	got := runIn(t.Context(), (&copier{}).command(), terminal, in, "--summary", "-", "--progress", "none")
	wants(t, got.stderr, "\x1b[32mferry-select\x1b[0m")
	runIn(t.Context(), (&copier{}).command(), terminal, in, "--summary", file, "--progress", "none")
	text := contentOf(t, file)
	if strings.Contains(text, "\x1b") {
		t.Errorf("a file has colours: %q", text)
	}
	if first, _, _ := strings.Cut(text, "\n"); len([]rune(first)) != 70 {
		t.Errorf("the frame is not as wide as the terminal: %q", first)
	}
}

// --summary must not overwrite a document.
func TestSummaryFileIsRefused(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "in.json"), catalog(t, "a.example/b"))
	for _, args := range [][]string{
		{"-i", file, "--summary", file}, {"-o", file, "--summary", file}, {"--report", file, "--summary", file}, {"--keep", file, "--summary", file},
		{"--summary", filepath.Join(t.TempDir(), "no", "such")},
	} {
		expect(t, runIn(t.Context(), (&copier{}).command(), Env{}, catalog(t, "a.example/b"), args...), 64, "--summary")
	}
}
