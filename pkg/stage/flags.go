package stage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/progress"
)

// inputFlags are those of programs that read a document.
type inputFlags struct {
	Input string `short:"i" placeholder:"FILE" help:"Read the input document from FILE; - is stdin, the default." group:"Common flags"`
}

// commonFlags are those of all programs.
type commonFlags struct {
	inputFlags `kong:"-"`

	Output         string `short:"o" placeholder:"FILE" help:"Write the document durably to FILE instead of stdout (-)." group:"Common flags"`
	Keep           string `placeholder:"FILE" help:"Keep the document in FILE. When FILE holds one that was made from the same input with the same options, pass it on and do no work." group:"Common flags"`
	Report         string `placeholder:"FILE" help:"Write to FILE how the run ended, item by item; on failure too." group:"Common flags"`
	Summary        string `placeholder:"FILE" help:"Write to FILE, in a frame for people, what the run came to; on failure too. - is stderr." group:"Common flags"`
	VerboseSummary bool   `help:"Like --summary -, or with it to FILE, and list every module, package and so on with its versions." group:"Common flags"`

	Progress  progress.Mode `enum:"auto,bar,plain,json,none" default:"auto" help:"Show progress on stderr: bar, plain, json, none, or auto, which is bar on a terminal and else plain." group:"Common flags"`
	LogLevel  string        `enum:"debug,info,warn,error" default:"info" help:"Log what is at least debug, info, warn or error." group:"Common flags"`
	LogFormat string        `enum:"text,json" default:"text" help:"Write logs and errors as text or json." group:"Common flags"`

	Help      question `short:"h" help:"Show this help." group:"Common flags"`
	Version   question `help:"Show the version." group:"Common flags"`
	Contracts question `help:"Show which documents are read and written." group:"Common flags"`
	Man       question `hidden:"" help:"Show the manual page in roff."`
}

// question is a flag that is answered instead of running, whatever else the
// command line lacks.
type question bool

func (question) BeforeReset(path *kong.Path) error { return &asked{about: path.Flag.Name} }

// asked says which question was asked, and of which command line.
type asked struct {
	about string
	line  *kong.Context
}

func (a *asked) Error() string { return "asked for --" + a.about }

func asAnswer(err error) (*asked, bool) {
	var a *asked
	return a, errors.As(err, &a)
}

// parse reads the command line into cmd.Flags and the common flags. verb is
// the subcommand, if there is one. Kinds: fault.Usage.
func parse(env Env, cmd Command) (flags commonFlags, verb string, err error) {
	parser, err := newParser(env, cmd, &flags)
	if err != nil {
		return flags, "", defect("flags: %w", err)
	}
	line, err := parser.Parse(dashed(env.Args))
	var parseErr *kong.ParseError
	if question, ok := asAnswer(err); ok && errors.As(err, &parseErr) {
		question.line = parseErr.Context
		return flags, "", question
	}
	if err == nil {
		err = flags.check()
	}
	if err != nil {
		// The flags may hold what was refused: errors are shown by default.
		return commonFlags{}, "", fault.New(fault.Usage, "", err).Hint("see %s --help", cmd.program())
	}
	verb, _, _ = strings.Cut(line.Command(), " ")
	return flags, verb, nil
}

// check refuses files that would overwrite each other, and those that could
// only be missed when hours of work are done.
func (f commonFlags) check() error {
	for _, flag := range []struct{ name, file string }{{"keep", f.Keep}, {"report", f.Report}, {"output", f.Output}, {"summary", f.Summary}} {
		switch flag.file {
		case "":
			continue
		case "-":
			if flag.name != "output" && flag.name != "summary" {
				return fmt.Errorf("--%s needs a file; - is none", flag.name)
			}
			continue
		}
		if info, err := os.Stat(filepath.Dir(flag.file)); err != nil || !info.IsDir() {
			return fmt.Errorf("--%s %s: there is no directory %s", flag.name, flag.file, filepath.Dir(flag.file))
		}
	}
	same := func(a, b string) bool { return a != "" && b != "" && filepath.Clean(a) == filepath.Clean(b) }
	if same(f.Report, f.Keep) || same(f.Report, f.Output) || same(f.Report, f.Input) {
		return fmt.Errorf("--report %s is the file of a document", f.Report)
	}
	for _, document := range []string{f.Keep, f.Output, f.Input, f.Report} {
		if same(f.Summary, document) && f.Summary != "-" {
			return fmt.Errorf("--summary %s is the file of a document", f.Summary)
		}
	}
	if same(f.Keep, f.Input) || same(f.Output, f.Input) {
		return fmt.Errorf("%s is the input document, and would be overwritten", f.Input)
	}
	return nil
}

func newParser(env Env, cmd Command, flags *commonFlags) (*kong.Kong, error) {
	own := cmd.Flags
	if own == nil {
		own = &struct{}{}
	}
	options := []kong.Option{
		kong.Name(cmd.program()),
		kong.Description(sentence(cmd.Summary)),
		kong.Writers(env.Stdout, env.Stderr),
		kong.NoDefaultHelp(),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		kong.ValueFormatter(helpText),
		kong.Resolvers(fromEnvironment(env.Getenv)),
		kong.Exit(func(int) { panic("the flag library must not end the process") }),
	}
	if len(cmd.Reads) > 0 {
		options = append(options, kong.Embed(&flags.inputFlags))
	}
	parser, err := kong.New(own, append(options, kong.Embed(flags))...)
	if err != nil {
		return nil, err
	}
	return parser, adapt(parser.Model.Node, map[string]bool{})
}

// adapt gives flags the manners that all programs share. Values are not split
// at commas (S2.1.1). The environment is ours to read, see fromEnvironment.
// A name that stands twice would make one of the two flags unreachable.
func adapt(node *kong.Node, taken map[string]bool) error {
	for _, flag := range node.Flags {
		names := append([]string{"--" + flag.Name}, flag.Aliases...)
		if flag.Short != 0 {
			names = append(names, "-"+string(flag.Short))
		}
		for _, name := range names {
			if taken[name] {
				return fmt.Errorf("flag %s is declared twice", name)
			}
			taken[name] = true
		}
		flag.Tag.Sep = -1
		flag.Tag.Envs = nil
	}
	for _, child := range node.Children {
		inherited := make(map[string]bool, len(taken))
		for name := range taken {
			inherited[name] = true
		}
		if err := adapt(child, inherited); err != nil {
			return err
		}
	}
	return nil
}

// fromEnvironment fills flags that the command line left out from the
// variables that their env tags name. An empty variable counts as unset. The
// flag library would do it too, but from the process instead of Env, and its
// error message quotes the value, which may be a password.
func fromEnvironment(getenv func(string) string) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		for _, name := range flag.Envs {
			if value := getenv(name); value != "" {
				return value, nil
			}
		}
		return nil, nil
	})
}

// helpText is a flag's help and the variables that it is read from.
func helpText(v *kong.Value) string {
	if v.Flag == nil || len(v.Flag.Envs) == 0 {
		return v.Help
	}
	return v.Help + " Environment: " + strings.Join(v.Flag.Envs, ", ") + "."
}

// dashed writes the names of flags with - for _ (S2.1.1), and leaves values
// and what follows -- alone.
func dashed(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		if arg == "--" {
			copy(out[i:], args[i:])
			break
		}
		if strings.HasPrefix(arg, "--") {
			name, value, hasValue := strings.Cut(arg, "=")
			arg = strings.ReplaceAll(name, "_", "-")
			if hasValue {
				arg += "=" + value
			}
		}
		out[i] = arg
	}
	return out
}

// answer writes what was asked for to stdout.
func answer(env Env, cmd Command, question *asked) int {
	var err error
	switch question.about {
	case "help":
		err = usage(env.Stdout, question.line)
	case "version":
		_, err = fmt.Fprintln(env.Stdout, generator(env, cmd))
	case "contracts":
		_, err = fmt.Fprint(env.Stdout, contracts(cmd))
	case "man":
		_, err = fmt.Fprint(env.Stdout, manual(env, cmd, question.line.Model))
	}
	if err != nil {
		_, _ = fmt.Fprintf(env.Stderr, "%s: error: %v\n", cmd.program(), err)
		return ExitCode(fault.Local)
	}
	return exitSuccess
}

// usage writes the help for a command line. For the default command, which nobody
// names, it is that of the program, where a command may then be left out.
func usage(w io.Writer, line *kong.Context) error {
	last := len(line.Path) - 1
	if line.Model.DefaultCmd == nil || line.Path[last].Command != line.Model.DefaultCmd {
		return line.PrintUsage(false)
	}
	line.Path = line.Path[:last]
	var text strings.Builder
	line.Stdout = &text
	if err := line.PrintUsage(false); err != nil {
		return err
	}
	words := append([]string{"[<command>]"}, defaultWords(line.Model)...)
	help := strings.Replace(text.String(), "<command>", strings.Join(words, " "), 1)
	if len(words) > 1 {
		var args strings.Builder
		args.WriteString("Arguments:\n")
		for _, p := range line.Model.DefaultCmd.Positional {
			fmt.Fprintf(&args, "  %s    %s\n", p.Summary(), helpText(p))
		}
		help = strings.Replace(help, "Flags:\n", args.String()+"\nFlags:\n", 1)
	}
	_, err := io.WriteString(w, help)
	return err
}

// defaultWords are the arguments of the program without a command.
func defaultWords(model *kong.Application) []string {
	var words []string
	for _, p := range model.DefaultCmd.Positional {
		words = append(words, p.Summary())
	}
	return words
}

// contracts lists the documents, a line each: "reads ferry/v1alpha1 Plan".
func contracts(cmd Command) string {
	var b strings.Builder
	for _, kind := range cmd.Reads {
		fmt.Fprintf(&b, "reads %s %s\n", contract.APIVersion, kind)
	}
	for _, kind := range append(cmd.Writes[:len(cmd.Writes):len(cmd.Writes)], contract.KindReport) {
		fmt.Fprintf(&b, "writes %s %s\n", contract.APIVersion, kind)
	}
	return b.String()
}

// sentence writes a summary with a capital and a full stop.
func sentence(s string) string {
	first, rest := s[:min(1, len(s))], s[min(1, len(s)):]
	return strings.ToUpper(first) + rest + "."
}
