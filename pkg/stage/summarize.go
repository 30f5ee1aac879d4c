package stage

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/summary"
	"ferry/pkg/terminal"
)

// startedVariable is when a chain of stages began, in seconds since 1970: the
// summary of its last stage tells the time that the whole chain took.
const startedVariable = "FERRY_STARTED"

// summarize writes the summary, if it is wanted. A command line that is refused
// has nothing to sum up.
func (s *Session) summarize(o outcome) error {
	file := s.flags.Summary
	if file == "" && s.flags.VerboseSummary {
		file = "-"
	}
	if file == "" || o.code == ExitCode(fault.Usage) {
		return nil
	}
	sum := s.Summary
	sum.Elapsed = s.env.now().Sub(s.started())
	if o.code != exitSuccess {
		sum.Outcome, sum.State = summary.Failed, failedState(o)
	}
	width := 0
	if s.env.StderrTerminal {
		width = s.env.StderrWidth
	}
	onTerminal := file == "-" && s.env.StderrTerminal
	text := sum.Render(terminal.StyleOf(onTerminal, width, s.env.Getenv), s.flags.VerboseSummary)
	if file == "-" {
		_, err := s.display.Write(text)
		return err
	}
	// It may be a pipe or a terminal, and need not survive power loss.
	return durable.Fault(file, os.WriteFile(file, text, 0o644))
}

func failedState(o outcome) string {
	text := fmt.Sprintf("failed with exit status %d: %s. ", o.code, o.text())
	if o.code == exitRetry || o.code == exitInterrupted || o.code == exitTerminated {
		return text + "What is finished stays; the same command continues."
	}
	return text + "What is finished stays; when the cause is mended, the same command continues."
}

// started is when the chain began, or this program where nobody says.
func (s *Session) started() time.Time {
	seconds, err := strconv.ParseInt(s.env.Getenv(startedVariable), 10, 64)
	if began := time.Unix(seconds, 0); err == nil && began.Before(s.began) {
		return began
	}
	return s.began
}

func (e Env) now() time.Time {
	if e.Now == nil {
		return time.Now()
	}
	return e.Now()
}
