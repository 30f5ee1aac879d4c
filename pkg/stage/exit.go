package stage

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"ferry/pkg/fault"
)

// exit is an exit status, the kinds of error that lead to it, and what it
// tells the reader of the manual.
type exit struct {
	code    int
	meaning string
	kinds   []*fault.Kind
}

const (
	exitSuccess      = 0
	exitUnclassified = 1
	exitRetry        = 75
	exitInterrupted  = 130
	exitTerminated   = 143
)

// exits is the one table of exit statuses: sysexits.h where it has a word for
// it, 128 plus the signal for signals. 2 is Go's own for a crash, so that it
// never says anything else.
var exits = []exit{
	{exitSuccess, "The document is written.", nil},
	{exitUnclassified, "A failure of no class below.", nil},
	{3, "Refused by policy: a suspended channel, an include that nothing satisfies, a name that the target is known to refuse.", []*fault.Kind{fault.Policy}},
	{64, "The command line cannot be carried out.", []*fault.Kind{fault.Usage}},
	{65, "The input document or the bundle is damaged, missing, or of the wrong kind or version. Look at the stage before.", []*fault.Kind{fault.Damaged}},
	{74, "This machine's disk or output failed: full, read-only, closed.", []*fault.Kind{fault.Local}},
	{exitRetry, "It heals by itself: network, time-out, rate limit. The same command continues.", []*fault.Kind{fault.Transient, fault.RateLimited}},
	{76, "The other side lacks something, cannot do something, or broke the protocol.", []*fault.Kind{fault.NotFound, fault.Protocol, fault.Unsupported}},
	{77, "Credentials, rights or the licence do not suffice, or a signature that is required is missing.", []*fault.Kind{fault.Denied}},
	{exitInterrupted, "Interrupted (SIGINT). The same command continues.", []*fault.Kind{fault.Cancelled}},
	{exitTerminated, "Terminated (SIGTERM). The same command continues.", nil},
}

// ExitCode maps an error to the exit status, by the table in the manual. Of
// joined errors the first that trying again does not heal decides: a script
// that repeats on 75 must not repeat for ever.
func ExitCode(err error) int {
	if err == nil {
		return exitSuccess
	}
	code := exitSuccess
	for _, e := range flatten(err) {
		c := codeOf(e)
		if c != exitRetry && c != exitInterrupted {
			return c
		}
		if code == exitSuccess {
			code = c
		}
	}
	return code
}

func codeOf(err error) int {
	kind := fault.KindOf(err)
	for _, e := range exits {
		if kind != nil && slices.Contains(e.kinds, kind) {
			return e.code
		}
	}
	return exitUnclassified
}

// flatten takes errors.Join apart, and leaves alone what merely has several
// causes.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if reflect.TypeOf(err) != reflect.TypeOf(errors.Join(err)) {
		return []error{err}
	}
	var list []error
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		list = append(list, flatten(e)...)
	}
	return list
}

// errDefect marks what only a programming error can cause.
var errDefect = errors.New("this is a defect of ferry")

func defect(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errDefect, fmt.Errorf(format, args...))
}
