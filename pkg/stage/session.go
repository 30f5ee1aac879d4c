package stage

import (
	"log/slog"
	"sync"
	"time"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/progress"
	"ferry/pkg/summary"
)

// Session is what a running command is given. It is safe for concurrent use.
type Session struct {
	// Log writes to stderr, for people.
	Log *slog.Logger
	// Progress shows how far the run is.
	Progress progress.Tracker
	// Getenv reads the environment.
	Getenv func(string) string
	// Summary is what --summary shows at the end. The command fills it as it
	// learns more, before Run returns; the harness adds how the run ended.
	Summary summary.Summary
	// Verb is the subcommand, "" for a command without any.
	Verb string

	env     Env
	cmd     Command
	flags   commonFlags
	display *progress.Display
	began   time.Time

	mu       sync.Mutex // guards what follows
	inputs   []contract.Input
	counters map[string]int64
	warnings []failure
	document []byte // what goes to the output
	signable bool   // whether the output has, or may have had, a signature
	sign     Signer // nil for an output without a signature
	stdinFor string // what stdin was read for, "" while nothing was

	stdinSecret string // the first line of stdin, once it was read
}

func newSession(env Env, cmd Command, flags commonFlags, verb string) *Session {
	mode := flags.Progress
	if mode == "auto" {
		mode = progress.Plain
		if env.StderrTerminal {
			mode = progress.Bar
		}
	}
	display := progress.New(mode, env.Stderr, cmd.program())
	return &Session{
		Log:      newLogger(display, flags.LogFormat, cmd.program(), flags.LogLevel),
		Progress: display,
		Getenv:   env.Getenv,
		Verb:     verb,
		Summary:  summary.Summary{Title: cmd.program()},
		env:      env, cmd: cmd, flags: flags, display: display, began: env.now(),
		counters: map[string]int64{},
	}
}

// InputGiven reports whether the command line names an input document, for
// commands that can do without one.
func (s *Session) InputGiven() bool { return s.flags.Input != "" }

// Warn logs what does not end the run, and notes it for the report, as it would
// be noted if it did.
func (s *Session) Warn(err error) {
	f := failure{fault.SubjectOf(err), err}
	text := f.String()
	if hint := f.hint(); hint != "" {
		text += "; " + hint
	}
	s.Log.Warn(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warnings = append(s.warnings, f)
}

// Generator names the program and its version, for metadata.generator and the
// User-Agent: "ferry-fetch 0.1.0".
func (s *Session) Generator() string { return generator(s.env, s.cmd) }

func generator(env Env, cmd Command) string { return cmd.program() + " " + env.Version }

// Count adds n to a figure of the report, such as "bytesMissing".
func (s *Session) Count(name string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counters[name] += n
}
