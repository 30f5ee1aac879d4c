package stage

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
)

func TestFlags(t *testing.T) {
	tests := []struct {
		name string
		args []string
		env  map[string]string
		want func(c *copier) bool
	}{
		{"commas stay (S2.1.1)", []string{"--add-image", "a,b", "--add-image=c"}, nil,
			func(c *copier) bool { return slices.Equal(c.Flags.AddImage, []string{"a,b", "c"}) }},
		{"_ for - in names alone (S2.1.1)", []string{"--add_image=a_b", "--log_level", "error"}, nil,
			func(c *copier) bool { return slices.Equal(c.Flags.AddImage, []string{"a_b"}) }},
		{"argument before flags", []string{"x_y", "--vendor", "v"}, nil,
			func(c *copier) bool { return c.Flags.Target == "x_y" && c.Flags.Vendor == "v" }},
		{"argument after --", []string{"--", "--add_image"}, nil,
			func(c *copier) bool { return c.Flags.Target == "--add_image" }},
		{"environment", nil, map[string]string{"COPIER_VENDOR": "", "OLD_VENDOR": "old"},
			func(c *copier) bool { return c.Flags.Vendor == "old" }},
		{"flag over environment", []string{"--vendor=new"}, map[string]string{"COPIER_VENDOR": "env"},
			func(c *copier) bool { return c.Flags.Vendor == "new" }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var c copier
			env := Env{Getenv: func(name string) string { return test.env[name] }}
			expect(t, runIn(t.Context(), c.command(), env, catalog(t, "a.example/b"), test.args...), 0)
			if !test.want(&c) {
				t.Errorf("flags are %+v", c.Flags)
			}
		})
	}
}

func TestUsageErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	for _, args := range [][]string{
		{"--no-such-flag"},
		{"--vendor"},
		{"one", "two"},
		{"--progress=loud"},
		{"--log-format=xml"},
		{"--log-level=loud"},
		{"--log-level=error+4"}, // would hide errors
		{"--keep=-"},
		{"--report=-"},
		{"--output=" + dir + "/no/f"},
		{"--keep=" + dir + "/no/f"},
		{"--report=" + file, "-o", file},
		{"--report=" + file, "--keep", file},
		{"--keep=" + file, "-i", file},
	} {
		var c copier
		got := runIn(t.Context(), c.command(), Env{}, catalog(t, "a.example/b"), args...)
		expect(t, got, 64, "ferry-select: error: ", "ferry-select: hint: see ferry-select --help\n")
		if c.made > 0 || strings.Count(got.stderr, "\n") != 2 {
			t.Errorf("%q: stderr %q", args, got.stderr)
		}
	}
}

type checked struct{ N int }

func (c *checked) Validate() error {
	if c.N > 3 {
		return errors.New("--n is above 3")
	}
	return nil
}

func TestValidateMethod(t *testing.T) {
	cmd := Command{Name: "discover", Flags: &checked{}, Writes: []contract.Kind{contract.KindCatalog}}
	expect(t, runIn(t.Context(), cmd, Env{}, "", "--n=4"), 64, "--n is above 3")
	expect(t, runIn(t.Context(), cmd, Env{}, "", "-i", "x"), 64, "unknown flag -i") // it reads nothing
}

// A command that declares a common flag again would make one unreachable.
func TestFlagDeclaredTwice(t *testing.T) {
	for _, flags := range []any{
		&struct{ Output string }{},
		&struct {
			Other string `short:"i"`
		}{},
		&struct {
			Sub struct{ Keep string } `cmd:""`
		}{},
	} {
		cmd := Command{Name: "select", Flags: flags, Reads: []contract.Kind{contract.KindCatalog}}
		expect(t, runIn(t.Context(), cmd, Env{}, ""), 1, "declared twice", "defect of ferry")
	}
}

func TestSubcommands(t *testing.T) {
	var flags struct {
		Near struct {
			Source string `required:"" help:"The source." env:"NEAR_SOURCE"`
		} `cmd:"" help:"Look near."`
		Far struct {
			Place string `arg:"" help:"The place."`
		} `cmd:"" help:"Look far."`
	}
	var verb string
	cmd := Command{Name: "discover", Summary: "look", Flags: &flags, Writes: []contract.Kind{contract.KindCatalog},
		Run: func(ctx context.Context, s *Session) error {
			verb = s.Verb
			return Produce(ctx, s, Product[contract.CatalogSpec]{Make: func(context.Context) (contract.CatalogSpec, error) {
				return contract.CatalogSpec{Vendor: s.Verb}, nil
			}})
		}}
	expect(t, runIn(t.Context(), cmd, Env{}, "", "far", "moon", "--log_level=error"), 0)
	if verb != "far" || flags.Far.Place != "moon" {
		t.Errorf("verb %q, place %q", verb, flags.Far.Place)
	}
	getenv := func(string) string { return "r.example" }
	expect(t, runIn(t.Context(), cmd, Env{Getenv: getenv}, "", "near"), 0)
	if flags.Near.Source != "r.example" {
		t.Errorf("source %q", flags.Near.Source)
	}
	expect(t, runIn(t.Context(), cmd, Env{}, "", "near"), 64, "missing flags: --source")
	expect(t, runIn(t.Context(), cmd, Env{}, ""), 64, "expected one of")
	page := runIn(t.Context(), cmd, Env{}, "", "--man")
	expect(t, page, 0)
	for _, want := range []string{".SS \"near\"\n", ".B \"\\-\\-source=STRING\"\n", ".B \"<place>\"\n", "NEAR_SOURCE"} {
		if !strings.Contains(page.stdout, want) {
			t.Errorf("%q is not in:\n%s", want, page.stdout)
		}
	}
}

// A default command may have words: help and manual show them for the program.
func TestDefaultCommandWithWords(t *testing.T) {
	var flags struct {
		Check bool `help:"Look closer."`
		Send  struct {
			To string `arg:"" help:"Where to."`
		} `cmd:"" default:"withargs" hidden:"" help:"As always."`
		Ask struct {
			At string `arg:"" help:"Where."`
		} `cmd:"" help:"Ask instead."`
	}
	var ran string
	cmd := Command{Name: "publish", Summary: "Send", Writes: []contract.Kind{contract.KindSelection}, Flags: &flags,
		Run: func(ctx context.Context, s *Session) error {
			ran = s.Verb + " " + flags.Send.To + flags.Ask.At
			return Produce(ctx, s, Product[contract.SelectionSpec]{Make: func(context.Context) (contract.SelectionSpec, error) {
				return contract.SelectionSpec{Vendor: "v"}, nil
			}})
		}}
	for args, want := range map[string]string{"h/p": "send h/p", "--check h/p": "send h/p", "h/p --check": "send h/p", "ask h/p": "ask h/p", "ask --check h/p": "ask h/p"} {
		flags.Send.To, flags.Ask.At = "", ""
		expect(t, runIn(t.Context(), cmd, Env{}, "", strings.Fields(args)...), 0)
		if ran != want {
			t.Errorf("%q runs %s, want %s", args, ran, want)
		}
	}
	expect(t, runIn(t.Context(), cmd, Env{}, ""), 64, "<to>")
	help, man := runIn(t.Context(), cmd, Env{}, "", "--help").stdout, runIn(t.Context(), cmd, Env{}, "", "--man").stdout
	for _, part := range []string{"Usage: ferry-publish [<command>] <to> [flags]\n", "\nArguments:\n  <to>    Where to.\n\nFlags:\n", "ask <at>"} {
		if !strings.Contains(help, part) {
			t.Errorf("%q is not in:\n%s", part, help)
		}
	}
	for _, part := range []string{"<to> [flags]\n", "\nWhere to.\n"} {
		if !strings.Contains(man, part) {
			t.Errorf("%q is not in:\n%s", part, man)
		}
	}
}

// A program with a default command works without one, and its help is that of the
// program.
func TestDefaultCommand(t *testing.T) {
	var flags struct {
		Source string   `help:"Where."`
		Select struct{} `cmd:"" default:"1" hidden:"" help:"As always."`
		Ask    struct {
			Words []string `arg:"" name:"word"`
		} `cmd:"" help:"Ask instead."`
	}
	var verb string
	cmd := Command{Name: "select", Summary: "Pick", Writes: []contract.Kind{contract.KindSelection}, Flags: &flags,
		Run: func(ctx context.Context, s *Session) error {
			verb = s.Verb
			return Produce(ctx, s, Product[contract.SelectionSpec]{Make: func(context.Context) (contract.SelectionSpec, error) {
				return contract.SelectionSpec{Vendor: "v"}, nil
			}})
		}}
	for args, want := range map[string]string{"": "select", "--source h": "select", "ask a b": "ask", "--source h ask a": "ask", "ask a --source h": "ask"} {
		expect(t, runIn(t.Context(), cmd, Env{}, "", strings.Fields(args)...), 0)
		if verb != want {
			t.Errorf("%q runs %s, want %s", args, verb, want)
		}
	}
	expect(t, runIn(t.Context(), cmd, Env{}, "", "a"), 64, "unexpected argument a")
	help := runIn(t.Context(), cmd, Env{}, "", "--help")
	for _, part := range []string{"Usage: ferry-select [<command>] [flags]\n", "--source", "ask <word> ...", "Ask instead."} {
		if !strings.Contains(help.stdout, part) || strings.Contains(help.stdout, "As always") {
			t.Errorf("%q in:\n%s", part, help.stdout)
		}
	}
	if help = runIn(t.Context(), cmd, Env{}, "", "ask", "--help"); !strings.Contains(help.stdout, "Usage: ferry-select ask <word> ... [flags]\n") {
		t.Errorf("help of ask:\n%s", help.stdout)
	}
	man := runIn(t.Context(), cmd, Env{}, "", "--man")
	if !strings.Contains(man.stdout, ".B \"ferry\\-select\"\n[flags]\n.br\n.B \"ferry\\-select\"\nask <word> ... [flags]\n") {
		t.Errorf("synopsis:\n%s", man.stdout)
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		flag string
		want []string
	}{
		{"--version", []string{"ferry-select 1.2.3\n"}},
		{"--contracts", []string{"reads ferry/v1alpha1 Catalog\nwrites ferry/v1alpha1 Selection\nwrites ferry/v1alpha1 Report\n"}},
		{"-h", []string{"Usage: ferry-select", "--vendor=STRING", "Copy a catalog.\n", "Environment: COPIER_VENDOR,", "-o, --output=FILE", "--progress=\"auto\""}},
		{"--man", []string{".TH \"FERRY\\-SELECT\"", ".SH \"EXIT STATUS\"\n", ".B \"75\"\n", "ferry\\-fetch(1)", "COPIER_VENDOR"}},
	}
	for _, test := range tests {
		var c copier
		got := runIn(t.Context(), c.command(), Env{StdinTerminal: true}, "", test.flag)
		expect(t, got, 0)
		for _, want := range test.want {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("%s lacks %q:\n%s", test.flag, want, got.stdout)
			}
		}
		if c.made > 0 || got.stderr != "" || (test.flag == "-h" && strings.Contains(got.stdout, "--man")) {
			t.Errorf("%s: made %d, stderr %q, stdout\n%s", test.flag, c.made, got.stderr, got.stdout)
		}
		expect(t, runIn(t.Context(), c.command(), Env{Stdout: failingWriter{}}, "", test.flag), 74, "broken pipe")
	}
}

func TestManual(t *testing.T) {
	var c copier
	cmd := c.command()
	cmd.Description = "First \\ paragraph,\n.with a dot.\n\n    a | b\n    'c'\n\nLast."
	cmd.Environment = []Variable{{"HTTPS_PROXY", "Where to go through."}}
	got := runIn(t.Context(), cmd, Env{}, "", "--man")
	expect(t, got, 0)
	want := `.SH "DESCRIPTION"
First \e paragraph,
\&.with a dot.
.PP
.RS "4"
.nf
a | b
\&'c'
.fi
.RE
.PP
Last.
.SH "OPTIONS"
.TP
.B "[<target>]"
Where to.
`
	if !strings.Contains(got.stdout, want) {
		t.Errorf("%q is not in:\n%s", want, got.stdout)
	}
	if !strings.Contains(got.stdout, ".B \"HTTPS_PROXY\"\nWhere to go through.\n") {
		t.Errorf("the variable is missing:\n%s", got.stdout)
	}
	if again := runIn(t.Context(), cmd, Env{}, "", "--man"); again.stdout != got.stdout {
		t.Error("two pages of the same program differ")
	}
	lint(t, got.stdout)
}

// lint asks groff, where it is installed, whether the page is well-formed.
func lint(t *testing.T, page string) {
	t.Helper()
	groff, err := exec.LookPath("groff")
	if err != nil {
		return
	}
	cmd := exec.CommandContext(t.Context(), groff, "-man", "-ww", "-z", "-Tutf8")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}

func TestBuildVersion(t *testing.T) {
	for _, test := range []struct{ stamped, module, want string }{
		{"0.1.0", "v9.9.9", "0.1.0"},
		{"", "v0.2.0", "0.2.0"},
		{"", "(devel)", "devel"},
		{"", "", "devel"},
	} {
		read := func() (*debug.BuildInfo, bool) {
			return &debug.BuildInfo{Main: debug.Module{Version: test.module}}, test.module != ""
		}
		if got := buildVersion(test.stamped, read); got != test.want {
			t.Errorf("%+v gives %q", test, got)
		}
	}
}

func FuzzDashed(f *testing.F) {
	f.Add("--a_b=c_d", "x_y")
	f.Add("--", "--a_b")
	f.Add("-i", "__")
	f.Add("---=", "--_")
	f.Fuzz(func(t *testing.T, first, second string) {
		args := []string{first, second}
		got := dashed(args)
		if diff := cmp.Diff([]string{first, second}, args); diff != "" {
			t.Fatal(diff)
		}
		for i, arg := range got {
			name, value, _ := strings.Cut(arg, "=")
			_, before, _ := strings.Cut(args[i], "=")
			isFlag := strings.HasPrefix(args[i], "--") && (i == 0 || first != "--")
			if !isFlag && arg != args[i] || isFlag && (strings.Contains(name, "_") || value != before) {
				t.Errorf("%q became %q", args, got)
			}
		}
	})
}
