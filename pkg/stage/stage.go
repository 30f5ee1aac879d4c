// Package stage is the harness that every ferry program runs in. It owns what
// the six have in common, so that they cannot differ in it: flags, the document
// on stdin and the one on stdout, --keep, signals, logs, progress, the report
// and the exit status. It is the one importer of the flag library.
//
// A program is a value:
//
//	func main() { stage.Main(command()) }
//
//	func command() stage.Command {
//		var flags struct { ... }
//		return stage.Command{Name: "fetch", Flags: &flags, Run: func(ctx context.Context, s *stage.Session) error {
//			in, err := s.Input(ctx)
//			...
//			return stage.Produce(ctx, s, stage.Product[contract.InventorySpec]{Inputs: ..., Make: ...})
//		}}
//	}
//
// The rules that hold for all: stdout carries exactly one whole document or
// nothing, written after success; stderr is for people; the exit status tells
// a script what to do next (see [ExitCode]).
package stage

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"ferry/pkg/contract"
)

// Command describes a program.
type Command struct {
	// Name is the verb: "fetch" is the program ferry-fetch.
	Name string
	// Summary says in one line what it does, without a full stop.
	Summary string
	// Description is the manual's prose; empty lines part paragraphs, and
	// indented lines stay as they are.
	Description string
	// Environment are variables that the program heeds beside those that
	// flags name by an env tag.
	Environment []Variable
	// Reads are the kinds of document that Run takes from [Session.Input];
	// without any there is no --input.
	Reads []contract.Kind
	// Writes are the kinds that Run gives to [Produce].
	Writes []contract.Kind
	// Flags is a pointer to a struct with kong tags: the program's own flags,
	// arguments and subcommands. A hidden default subcommand is the program
	// without one. May be nil. A Validate() error method on it
	// is called after parsing; its error is one of usage.
	Flags any
	// Run does the work. It returns nil only after Produce did.
	Run func(ctx context.Context, s *Session) error
}

// Variable is an environment variable in the manual.
type Variable struct{ Name, Help string }

func (c Command) program() string { return "ferry-" + c.Name }

// Main runs the program in this process and ends it.
func Main(cmd Command) {
	// To lower a limit is always allowed; where it is not, a run is worth more.
	_ = forbidCore()
	ctx := withSignals(context.Background())
	os.Exit(Run(ctx, SystemEnv(), cmd))
}

// Run runs the program in env and returns the exit status.
func Run(ctx context.Context, env Env, cmd Command) int {
	flags, verb, err := parse(env, cmd)
	if answered, ok := asAnswer(err); ok {
		return answer(env, cmd, answered)
	}
	s := newSession(env, cmd, flags, verb)
	if err == nil {
		err = s.work(ctx)
	}
	return s.finish(ctx, err)
}

// work calls the command's Run, and catches its panic: Go's exit status for
// it, 2, says nothing to a script, and a half-drawn bar would hide the message.
func (s *Session) work(ctx context.Context) (err error) {
	defer s.announceSignal(ctx)()
	defer func() {
		if p := recover(); p != nil {
			s.display.Done()
			_, _ = fmt.Fprintf(s.display, "panic: %v\n\n%s", p, debug.Stack())
			err = defect("panic: %v", p)
		}
	}()
	return s.cmd.Run(ctx, s)
}
