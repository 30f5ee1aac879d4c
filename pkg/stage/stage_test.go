package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// catalog is the text of an input document.
func catalog(t *testing.T, source string) string {
	t.Helper()
	data, err := contract.Encode(contract.New("ferry-discover test", nil, contract.CatalogSpec{Vendor: "generic", Source: source}))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// copier is the command of most tests: it makes a Selection of a Catalog, and
// does whatever else a test asks for.
type copier struct {
	Flags struct {
		Vendor   string   `help:"Say another vendor." env:"COPIER_VENDOR,OLD_VENDOR"`
		AddImage []string `name:"add-image" help:"Add an image."`
		Target   string   `arg:"" optional:"" help:"Where to."`
	}
	made  int // calls of Make
	valid func(context.Context, *contract.Selection) error
	extra func(ctx context.Context, s *Session) error // called by Make
	after func(ctx context.Context) error             // called after Produce
}

func (c *copier) command() Command {
	return Command{
		Name: "select", Summary: "copy a catalog", Description: "It copies.",
		Reads: []contract.Kind{contract.KindCatalog}, Writes: []contract.Kind{contract.KindSelection},
		Flags: &c.Flags, Run: c.run,
	}
}

func (c *copier) run(ctx context.Context, s *Session) error {
	in, err := s.Input(ctx)
	if err != nil {
		return err
	}
	doc, err := Decode[contract.CatalogSpec](*in)
	if err != nil {
		return err
	}
	inputs, err := InputsOf(c.Flags, in)
	if err != nil {
		return err
	}
	err = Produce(ctx, s, Product[contract.SelectionSpec]{Inputs: inputs, Valid: c.valid, Make: func(ctx context.Context) (contract.SelectionSpec, error) {
		c.made++
		s.Count("made", 1)
		spec := contract.SelectionSpec{Vendor: doc.Spec.Vendor, Source: doc.Spec.Source}
		if c.Flags.Vendor != "" {
			spec.Vendor = c.Flags.Vendor
		}
		if c.extra != nil {
			return spec, c.extra(ctx, s)
		}
		return spec, nil
	}})
	if err == nil && c.after != nil {
		err = c.after(ctx)
	}
	return err
}

// run is what a run in the process leaves behind.
type run struct {
	code           int
	stdout, stderr string
}

func runIn(ctx context.Context, cmd Command, env Env, stdin string, args ...string) run {
	var stdout, stderr bytes.Buffer
	env.Args, env.Stderr, env.Version = args, &stderr, "1.2.3"
	if env.Stdin == nil {
		env.Stdin = strings.NewReader(stdin)
	}
	if env.Stdout == nil {
		env.Stdout = &stdout
	}
	if env.Getenv == nil {
		env.Getenv = func(string) string { return "" }
	}
	code := Run(ctx, env, cmd)
	return run{code, stdout.String(), stderr.String()}
}

func expect(t *testing.T, got run, code int, stderr ...string) {
	t.Helper()
	if got.code != code {
		t.Errorf("exit status %d, want %d; stderr:\n%s", got.code, code, got.stderr)
	}
	for _, want := range stderr {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, got.stderr)
		}
	}
	if code != 0 && got.stdout != "" {
		t.Errorf("a failed run wrote to stdout: %q", got.stdout)
	}
}

func selection(t *testing.T, text string) *contract.Selection {
	t.Helper()
	doc, err := contract.Decode[contract.SelectionSpec]([]byte(text))
	if err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return doc
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// S2.1.2: the document goes to standard output, all else to standard error.
func TestSuccess(t *testing.T) {
	in := catalog(t, "registry.example/a")
	file := writeFile(t, filepath.Join(t.TempDir(), "in.json"), in)
	for _, args := range [][]string{nil, {"-i", "-"}, {"--input", file}, {"-o", "-", "-i", file}} {
		var c copier
		got := runIn(t.Context(), c.command(), Env{}, in, args...)
		expect(t, got, 0)
		doc := selection(t, got.stdout)
		want := contract.Metadata{Generator: "ferry-select 1.2.3", Inputs: []contract.Input{
			{Kind: "Catalog", Digest: oci.DigestOf([]byte(in))},
			{Kind: "Options", Digest: oci.DigestOf([]byte(`{"Vendor":"","AddImage":null,"Target":""}`))},
		}}
		if diff := cmp.Diff(want, doc.Metadata); diff != "" {
			t.Errorf("%q: %s", args, diff)
		}
		if doc.Spec.Source != "registry.example/a" || got.stderr != "" {
			t.Errorf("%q: source %q, stderr %q", args, doc.Spec.Source, got.stderr)
		}
	}
}

func TestOutputFile(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.json")
	var c copier
	got := runIn(t.Context(), c.command(), Env{}, catalog(t, "a.example/b"), "-o", out)
	expect(t, got, 0)
	if got.stdout != "" {
		t.Errorf("stdout has %q", got.stdout)
	}
	selection(t, contentOf(t, out))
}

// S2.1.3: every kind of error has its exit status, and its two lines on stderr.
func TestExitCodes(t *testing.T) {
	hinted := fault.Newf(fault.Denied, "r.example/a", "no\x1b[2J\nentry").Hint("log in")
	cause := fault.NewCause("moon", []string{"the moon is full", "a cloud"}, []string{"wait a night", "log in"})
	explained := fault.New(fault.Transient, "r", nil).Because(cause)
	tests := []struct {
		name   string
		err    error
		code   int
		stderr string
	}{
		{"S2.6, a cause is explained below the errors, each line once", errors.Join(fault.About("a", explained), fault.New(fault.Denied, "b", explained).Hint("log in")), 77,
			"ferry-select: error: a: r: transient\n" +
				"ferry-select: error: b: r: transient\n" +
				"ferry-select: likely: the moon is full\n" +
				"ferry-select: likely: a cloud\n" +
				"ferry-select: hint: log in\n" +
				"ferry-select: hint: wait a night\n"},
		{"unclassified", errors.New("odd"), 1, "ferry-select: error: odd\n"},
		{"policy", fault.New(fault.Policy, "stable", nil), 3, "ferry-select: error: stable: policy\n"},
		{"usage", fault.New(fault.Usage, "--x", nil), 64, "ferry-select: error: --x: usage\n"},
		{"damaged", fault.New(fault.Damaged, "a.tar", nil), 65, "ferry-select: error: a.tar: damaged\n"},
		{"local", fault.New(fault.Local, "/x", syscall.ENOSPC), 74, "ferry-select: error: /x: no space left on device\n"},
		{"transient", fault.New(fault.Transient, "r", nil), 75, "ferry-select: error: r: transient\n"},
		{"rate limited", fault.New(fault.RateLimited, "r", nil), 75, "ferry-select: error: r: rate limited\n"},
		{"deadline", context.DeadlineExceeded, 75, "ferry-select: error: context deadline exceeded\n"},
		{"not found", fault.New(fault.NotFound, "r", nil), 76, "ferry-select: error: r: not found\n"},
		{"protocol", fault.New(fault.Protocol, "r", nil), 76, "ferry-select: error: r: protocol\n"},
		{"unsupported", fault.New(fault.Unsupported, "r", nil), 76, "ferry-select: error: r: unsupported\n"},
		{"hint, and no commands to the terminal", hinted, 77, "ferry-select: error: r.example/a: no\\u001b[2J; entry\nferry-select: hint: log in\n"},
		{"cancelled", context.Canceled, 130, "ferry-select: error: context canceled\n"},
		{"wrapped", fmt.Errorf("a: %w", fault.New(fault.Denied, "r", nil)), 77, "ferry-select: error: a: r: denied\n"},
		{"outermost kind", fault.New(fault.Transient, "a", fault.New(fault.Denied, "r", nil)), 75, "ferry-select: error: a: r: denied\n"},
		{"all transient", errors.Join(fault.New(fault.Transient, "a", nil), fault.New(fault.RateLimited, "b", nil)), 75,
			"ferry-select: error: a: transient\nferry-select: error: b: rate limited\n"},
		{"one that no repeating heals", errors.Join(fault.New(fault.Transient, "a", nil), errors.Join(hinted, hinted), fault.New(fault.Local, "b", nil)), 77,
			"ferry-select: error: a: transient\n" +
				"ferry-select: error: r.example/a: no\\u001b[2J; entry\n" +
				"ferry-select: error: r.example/a: no\\u001b[2J; entry\n" +
				"ferry-select: error: b: local disk\n" +
				"ferry-select: hint: log in\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := copier{extra: func(context.Context, *Session) error { return test.err }}
			got := runIn(t.Context(), c.command(), Env{}, catalog(t, "a.example/b"), "--log-level", "error")
			expect(t, got, test.code)
			if diff := cmp.Diff(test.stderr, got.stderr); diff != "" {
				t.Error(diff)
			}
			// An error behind a made document keeps it from stdout too.
			c = copier{after: func(context.Context) error { return test.err }}
			expect(t, runIn(t.Context(), c.command(), Env{}, catalog(t, "a.example/b")), test.code)
		})
	}
	if got := ExitCode(nil); got != 0 {
		t.Errorf("no error is status %d", got)
	}
}

// 2 is Go's own status for a crash and must say nothing else.
func TestExitTable(t *testing.T) {
	seen := map[*fault.Kind]int{}
	for _, e := range exits {
		if e.code == 2 {
			t.Error("2 is in the table")
		}
		for _, kind := range e.kinds {
			if other, ok := seen[kind]; ok {
				t.Errorf("%s is both %d and %d", kind.Error(), other, e.code)
			}
			seen[kind] = e.code
		}
	}
}

// What the pages say of exit statuses is said of all that there are.
func TestExitStatusesAreDocumented(t *testing.T) {
	for page, more := range map[string][]int{"README.md": nil, "docs/failures.md": {2}} {
		text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(page)))
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(more)
		for _, e := range exits {
			want = append(want, e.code)
		}
		slices.Sort(want)
		var got []int
		for line := range strings.Lines(string(text)) {
			first, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
			for word := range strings.SplitSeq(first, ", ") {
				if code, err := strconv.Atoi(word); err == nil && ok && strings.HasPrefix(line, "| ") {
					got = append(got, code)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("statuses of %s (-want +got):\n%s", page, diff)
		}
	}
}

func TestPanic(t *testing.T) {
	c := copier{extra: func(context.Context, *Session) error { panic("index out of range") }}
	got := runIn(t.Context(), c.command(), Env{}, catalog(t, "a.example/b"), "--log-level=error")
	expect(t, got, 1, "panic: index out of range", "stage_test.go", "this is a defect of ferry", "hint: please report it")
}

func TestUndeclaredDocuments(t *testing.T) {
	tests := map[string]func(ctx context.Context, s *Session) error{
		"no document": func(context.Context, *Session) error { return nil },
		"wrong kind": func(ctx context.Context, s *Session) error {
			return Produce(ctx, s, Product[contract.CatalogSpec]{Make: func(context.Context) (contract.CatalogSpec, error) {
				return contract.CatalogSpec{Vendor: "generic"}, nil
			}})
		},
		"invalid": func(ctx context.Context, s *Session) error {
			return Produce(ctx, s, Product[contract.SelectionSpec]{Make: func(context.Context) (contract.SelectionSpec, error) {
				return contract.SelectionSpec{}, nil
			}})
		},
	}
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			cmd := Command{Name: "select", Writes: []contract.Kind{contract.KindSelection}, Run: body}
			expect(t, runIn(t.Context(), cmd, Env{}, ""), 1, "this is a defect of ferry")
		})
	}
}

func TestBadInput(t *testing.T) {
	whole := catalog(t, "a.example/b")
	missing := filepath.Join(t.TempDir(), "no.json")
	tests := []struct {
		name, stdin string
		args        []string
		code        int
		stderr      []string
	}{
		{"upstream died", "", nil, 65, []string{"error: standard input: document is empty", "hint: the program that writes this document failed"}},
		{"cut", whole[:len(whole)/2], nil, 65, []string{"standard input: document is cut short", "hint: the program that writes"}},
		{"not JSON", "hello", nil, 65, []string{"not JSON"}},
		{"two documents", whole + whole, nil, 65, []string{"a second document follows"}},
		{"wrong kind", strings.Replace(whole, "Catalog", "Plan", 1), nil, 65, []string{"wrong kind of document", "hint: --contracts shows"}},
		{"other version", strings.Replace(whole, "v1alpha1", "v9", 1), nil, 65, []string{"unsupported document version", "same ferry release"}},
		{"no file", "", []string{"-i", missing}, 65, []string{missing + ": file does not exist", "hint: "}},
		{"directory", "", []string{"-i", t.TempDir()}, 74, []string{"is a directory"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var c copier
			expect(t, runIn(t.Context(), c.command(), Env{}, test.stdin, test.args...), test.code, test.stderr...)
		})
	}
}

// A person who forgot the pipe gets a sentence, not a program that hangs.
func TestTerminalInput(t *testing.T) {
	block, end := io.Pipe()
	defer end.Close()
	var c copier
	got := runIn(t.Context(), c.command(), Env{Stdin: block, StdinTerminal: true}, "")
	expect(t, got, 64, "error: there is no Catalog document: standard input is a terminal", "hint: ")
	// Who says -i - means to type.
	c = copier{}
	env := Env{Stdin: strings.NewReader(catalog(t, "a.example/b")), StdinTerminal: true}
	expect(t, runIn(t.Context(), c.command(), env, "", "-i", "-"), 0)
}

// Text is read as it is, from a file or a pipe, and is no input of the report.
func TestText(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "list.txt"), "from file")
	for path, want := range map[string]string{"-": "from stdin", file: "from file"} {
		var got *Input
		cmd := Command{Name: "discover", Run: func(ctx context.Context, s *Session) (err error) {
			if got, err = s.Text(ctx, path, "list"); err == nil && len(s.inputs) > 0 {
				err = errors.New("text counts as a document")
			}
			return errors.Join(err, fault.New(fault.Policy, "", nil)) // makes no document
		}}
		expect(t, runIn(t.Context(), cmd, Env{StdinTerminal: true}, "from stdin"), 3)
		if got == nil || string(got.Data) != want {
			t.Errorf("%q gives %+v", path, got)
		}
	}
	cmd := Command{Name: "discover", Run: func(ctx context.Context, s *Session) error {
		_, err := s.Text(ctx, "", "list of images")
		return err
	}}
	expect(t, runIn(t.Context(), cmd, Env{StdinTerminal: true}, ""), 64, "error: there is no list of images: standard input is a terminal")
}

func TestInputLimit(t *testing.T) {
	for size, want := range map[int]bool{9: true, 10: true, 11: false} {
		_, err := readLimited("x", strings.NewReader(strings.Repeat("x", size)), 10)
		if (err == nil) != want || (err != nil && fault.KindOf(err) != fault.Damaged) {
			t.Errorf("%d bytes of 10: %v", size, err)
		}
	}
}

func TestKeep(t *testing.T) {
	in, other := catalog(t, "a.example/b"), catalog(t, "a.example/other")
	dir := t.TempDir()
	keep := filepath.Join(dir, "keep.json")
	var c copier
	first := runIn(t.Context(), c.command(), Env{}, in, "--keep", keep)
	expect(t, first, 0)
	if first.stdout == "" || first.stdout != contentOf(t, keep) {
		t.Fatalf("stdout %q is not the kept document", first.stdout)
	}
	tests := []struct {
		name, keep, in string
		args           []string
		valid          error
		made           bool
	}{
		{"same", first.stdout, in, nil, nil, false},
		{"same, to a file", first.stdout, in, []string{"-o", filepath.Join(dir, "out.json")}, nil, false},
		{"other input", first.stdout, other, nil, nil, true},
		{"other options", first.stdout, in, []string{"--vendor", "x"}, nil, true},
		{"no more valid", first.stdout, in, nil, errors.New("blob is gone"), true},
		{"empty", "", in, nil, nil, true},
		{"cut", first.stdout[:len(first.stdout)-3], in, nil, nil, true},
		{"other version", strings.Replace(first.stdout, "v1alpha1", "v0", 1), in, nil, nil, true},
		{"unknown field", strings.Replace(first.stdout, `"vendor"`, `"seller"`, 1), in, nil, nil, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			writeFile(t, keep, test.keep)
			c := copier{valid: func(context.Context, *contract.Selection) error { return test.valid }}
			got := runIn(t.Context(), c.command(), Env{}, test.in, append(test.args, "--keep", keep)...)
			expect(t, got, 0)
			if made := c.made > 0; made != test.made {
				t.Errorf("made anew: %t, stderr:\n%s", made, got.stderr)
			}
			kept := contentOf(t, keep)
			if !test.made && kept != test.keep {
				t.Error("the kept document was changed")
			}
			if len(test.args) > 1 && test.args[0] == "-o" {
				got.stdout = contentOf(t, test.args[1])
			}
			if got.stdout != kept {
				t.Errorf("passed on %q, kept %q", got.stdout, kept)
			}
		})
	}
}

// A slip of the hand must not overwrite what --keep did not write.
func TestKeepSparesOtherFiles(t *testing.T) {
	in := catalog(t, "a.example/b")
	for _, text := range []string{in, "#!/bin/sh\n", `["list"]`} {
		keep := writeFile(t, filepath.Join(t.TempDir(), "file"), text)
		var c copier
		expect(t, runIn(t.Context(), c.command(), Env{}, in, "--keep", keep), 64, "hint: name another file")
		if got := contentOf(t, keep); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// What was cut off or failed in part is neither kept nor passed on.
func TestIncomplete(t *testing.T) {
	stopped, stop := context.WithCancelCause(t.Context())
	tests := []struct {
		name   string
		ctx    context.Context
		extra  func(context.Context, *Session) error
		code   int
		stderr string
	}{
		{"failed item", t.Context(), func(context.Context, *Session) error {
			return fault.About("a.example/b:c", fault.New(fault.Transient, "", errors.New("reset")))
		}, 75, "ferry-select: error: a.example/b:c: reset\n"},
		{"cancel that was overheard", stopped, func(context.Context, *Session) error {
			stop(interruption{syscall.SIGINT})
			return nil
		}, 130, "error: stopped by signal: interrupt\nferry-select: hint: run the same command again"},
		{"cancel that the work returns too", stopped, func(ctx context.Context, _ *Session) error {
			stop(interruption{syscall.SIGINT})
			return context.Cause(ctx)
		}, 130, "error: stopped by signal: interrupt\nferry-select: hint: run the same command again"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			keep := filepath.Join(t.TempDir(), "keep.json")
			c := copier{extra: test.extra}
			expect(t, runIn(test.ctx, c.command(), Env{}, catalog(t, "a.example/b"), "--keep", keep), test.code, test.stderr)
			if _, err := os.Stat(keep); err == nil {
				t.Error("the document is kept")
			}
		})
	}
}

// A signal explains everything that it cancelled; what else failed is told.
func TestSignalAmongFailures(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	c := copier{extra: func(ctx context.Context, s *Session) error {
		stop(interruption{syscall.SIGTERM})
		return errors.Join(ctx.Err(), fault.New(fault.Cancelled, "blob", nil), fault.New(fault.Denied, "r.example", nil))
	}}
	got := runIn(ctx, c.command(), Env{}, catalog(t, "a.example/b"), "--log-level=error")
	expect(t, got, 143)
	want := "ferry-select: error: stopped by signal: terminated\n" +
		"ferry-select: error: r.example: denied\n" +
		"ferry-select: hint: run the same command again; fetch, pack and publish go on where they stopped\n"
	if diff := cmp.Diff(want, got.stderr); diff != "" {
		t.Error(diff)
	}
}

func TestCancelWhileWaitingForInput(t *testing.T) {
	block, end := io.Pipe()
	defer end.Close()
	ctx, stop := context.WithCancelCause(t.Context())
	stop(interruption{syscall.SIGINT})
	var c copier
	expect(t, runIn(ctx, c.command(), Env{Stdin: block}, ""), 130)
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestReport(t *testing.T) {
	in := catalog(t, "a.example/b")
	inputs := []contract.Input{{Kind: "Catalog", Digest: oci.DigestOf([]byte(in))}}
	denied := fault.Newf(fault.Denied, "r.example", "401").Hint("log in")
	tests := []struct {
		name   string
		stdout io.Writer
		extra  func(context.Context, *Session) error
		want   contract.ReportSpec
	}{
		{"success", nil, nil, contract.ReportSpec{Stage: "select"}},
		{"warnings", nil, func(_ context.Context, s *Session) error {
			s.Warn(fault.Newf(fault.Policy, "r.example/b", "too deep").Hint("dig less"))
			s.Warn(fault.Newf(fault.Policy, "r.example/a", "too deep"))
			return nil
		}, contract.ReportSpec{
			Stage: "select",
			Warnings: []contract.ReportItem{
				{Item: "r.example/a", Kind: "policy", Cause: "r.example/a: too deep"},
				{Item: "r.example/b", Kind: "policy", Cause: "r.example/b: too deep", Hint: "dig less"},
			},
		}},
		{"one error", nil, func(context.Context, *Session) error { return denied }, contract.ReportSpec{
			Stage: "select", ExitCode: 77, Error: "r.example: 401", Hint: "log in",
			Items: []contract.ReportItem{{Item: "r.example", Kind: "denied", Cause: "r.example: 401", Hint: "log in"}},
		}},
		{"items", nil, func(context.Context, *Session) error {
			return errors.Join(fault.About("x:2", errors.New("odd")), fault.About("x:1", denied))
		}, contract.ReportSpec{
			Stage: "select", ExitCode: 1, Error: "x:2: odd (and 1 more)",
			Items: []contract.ReportItem{
				{Item: "x:1", Kind: "denied", Cause: "x:1: r.example: 401", Hint: "log in"},
				{Item: "x:2", Kind: "unclassified", Cause: "x:2: odd"},
			},
		}},
		{"S2.6, with its cause", nil, func(context.Context, *Session) error {
			return fmt.Errorf("doing it: %w", fault.New(fault.Transient, "r", nil).Because(fault.NewCause("moon", []string{"it is full"}, []string{"wait"})))
		}, contract.ReportSpec{
			Stage: "select", ExitCode: 75, Error: "doing it: r: transient",
			Items: []contract.ReportItem{{Item: "r", Kind: "transient", Cause: "doing it: r: transient", CauseName: "moon", Likely: []string{"it is full"}, Advice: []string{"wait"}}},
		}},
		{"broken pipe", failingWriter{}, nil, contract.ReportSpec{
			Stage: "select", ExitCode: 74, Error: "standard output: broken pipe", Hint: brokenPipeHint,
			Items: []contract.ReportItem{{Item: "standard output", Kind: "local disk", Cause: "standard output: broken pipe", Hint: brokenPipeHint}},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "report.json")
			c := copier{extra: test.extra}
			got := runIn(t.Context(), c.command(), Env{Stdout: test.stdout}, in, "--report", file)
			expect(t, got, test.want.ExitCode)
			report, err := contract.Decode[contract.ReportSpec]([]byte(contentOf(t, file)))
			if err != nil {
				t.Fatal(err)
			}
			test.want.Counters = []contract.Counter{{Name: "made", Value: 1}}
			test.want.Normalize()
			if diff := cmp.Diff(test.want, report.Spec); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(inputs, report.Metadata.Inputs); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A warning is told at once, with what to do; it ends nothing.
func TestWarn(t *testing.T) {
	c := copier{extra: func(_ context.Context, s *Session) error {
		s.Warn(fault.Newf(fault.Policy, "r.example/b", "too deep").Hint("dig less"))
		return nil
	}}
	got := runIn(t.Context(), c.command(), Env{}, catalog(t, "a.example/b"))
	expect(t, got, 0, "warn: r.example/b: too deep; dig less")
}

const brokenPipeHint = "the next program in the pipe ended early, or the disk is full; look at its message"

// A report that was asked for and is not there makes a success a failure.
func TestReportCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sub")
	for _, fails := range []bool{false, true} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		c := copier{extra: func(context.Context, *Session) error {
			if err := os.Remove(dir); err != nil {
				return err
			}
			if fails {
				return fault.New(fault.Denied, "r.example", nil)
			}
			return nil
		}}
		got := runIn(t.Context(), c.command(), Env{}, catalog(t, "a.example/b"), "--report", filepath.Join(dir, "report.json"))
		if fails {
			expect(t, got, 77, "error: r.example: denied", "error: the report could not be written")
		} else {
			expect(t, got, 74, "no such file")
		}
	}
}

func TestManyFailures(t *testing.T) {
	many := func(context.Context, *Session) error {
		var errs []error
		for i := range 27 {
			errs = append(errs, fault.About(fmt.Sprintf("image-%02d", i), fault.Newf(fault.Denied, "r.example", "401").Hint("log in")))
		}
		return errors.Join(errs...)
	}
	for _, flag := range []string{"", "--report=" + filepath.Join(t.TempDir(), "r.json")} {
		c := copier{extra: many}
		got := runIn(t.Context(), c.command(), Env{}, catalog(t, "a.example/b"), strings.Fields(flag)...)
		expect(t, got, 77, "error: image-00: r.example: 401\n", "error: image-09: ", "error: and 17 more; ")
		if strings.Contains(got.stderr, "image-10") || strings.Count(got.stderr, "log in") != 1 {
			t.Error(got.stderr)
		}
		if where, ok := strings.CutPrefix(flag, "--report="); ok && !strings.Contains(got.stderr, "see "+where) {
			t.Errorf("the report is not named:\n%s", got.stderr)
		}
	}
}

func TestJSONLog(t *testing.T) {
	c := copier{extra: func(_ context.Context, s *Session) error {
		s.Log.Info("hidden")
		s.Log.Warn("slow", "host", "r.example")
		return fault.New(fault.Denied, "r.example", nil).Hint("log in")
	}}
	got := runIn(t.Context(), c.command(), Env{}, catalog(t, "a.example/b"), "--log-format=json", "--log-level=warn")
	expect(t, got, 77,
		`"level":"WARN","msg":"slow","program":"ferry-select","host":"r.example"}`,
		`"level":"ERROR","msg":"r.example: denied","program":"ferry-select","kind":"denied","hint":"log in"}`)
	if strings.Contains(got.stderr, "hidden") {
		t.Error("--log-level is not heeded")
	}
	// S2.6: a program is told the name of the cause.
	c.extra = func(context.Context, *Session) error {
		return fault.New(fault.Local, "x", nil).Because(fault.NewCause("moon", []string{"it is full"}, []string{"wait"}))
	}
	expect(t, runIn(t.Context(), c.command(), Env{}, catalog(t, "a.example/b"), "--log-format=json"), 74,
		`"kind":"local disk","hint":"","cause":"moon","likely":["it is full"],"advice":["wait"]}`)
}

func TestTextLog(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(&out, "text", "ferry-fetch", "")
	log.Info("plain")
	log.With("a", 1).WithGroup("g").Warn("grouped\nline", "msg", "two words", "esc", "\x1b")
	log.Debug("hidden")
	want := "ferry-fetch: info: plain\n" +
		`ferry-fetch: warn: grouped; line a=1 g.msg="two words" g.esc="\x1b"` + "\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// The stages of a pipe show their progress through the one stderr.
func TestProgressModes(t *testing.T) {
	tests := []struct {
		args     []string
		terminal bool
		want     string
	}{
		{nil, false, "ferry-select: reading: 100 %, 3 of 3 images, in 0s\n"},
		{nil, true, "ferry-select: reading: 100 %, 3 of 3 images, in 0s\n"},
		{[]string{"--progress=plain"}, true, "ferry-select: reading: 100 %, 3 of 3 images, in 0s\n"},
		{[]string{"--progress=json"}, true, `"percent":100,"done":true}` + "\n"},
		{[]string{"--progress=none"}, true, ""},
	}
	for _, test := range tests {
		c := copier{extra: func(_ context.Context, s *Session) error {
			s.Progress.Phase("reading")
			s.Progress.SetTotal(0, 3)
			s.Progress.AddImages(3)
			return nil
		}}
		got := runIn(t.Context(), c.command(), Env{StderrTerminal: test.terminal}, catalog(t, "a.example/b"), test.args...)
		expect(t, got, 0)
		if !strings.HasSuffix(got.stderr, test.want) || (test.want == "") != (got.stderr == "") {
			t.Errorf("%q: stderr %q, want %q", test.args, got.stderr, test.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("")
	f.Add("a\nb\n")
	f.Add("\x1b]0;title\a\x9b31m\u202eevil\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s)
		if i := strings.IndexFunc(got, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u202e' }); i >= 0 {
			t.Errorf("%q lets %q through", s, got[i:])
		}
		if again := printable(got); again != got {
			t.Errorf("%q changes again, to %q", got, again)
		}
	})
}
