package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
)

// listed is how many failures are printed; the report has all.
const listed = 10

// failure is one thing that went wrong.
type failure struct {
	item string // may be empty: the error says what it happened to
	err  error
}

func (f failure) String() string {
	text := f.err.Error()
	if f.item == "" || strings.Contains(text, f.item) {
		return printable(text)
	}
	return printable(f.item + ": " + text)
}

func (f failure) hint() string {
	if errors.Is(f.err, errDefect) {
		return "please report it, with all that is printed here"
	}
	return printable(fault.HintOf(f.err))
}

// likely and advice are what is known of failures with the same cause (S2.6).
func (f failure) likely() []string {
	if cause := fault.CauseOf(f.err); cause != nil {
		return cause.Likely()
	}
	return nil
}

func (f failure) advice() []string {
	if cause := fault.CauseOf(f.err); cause != nil {
		return cause.Advice()
	}
	return nil
}

func (f failure) causeName() string {
	if cause := fault.CauseOf(f.err); cause != nil {
		return cause.Name()
	}
	return ""
}

func (f failure) kind() string {
	if kind := fault.KindOf(f.err); kind != nil {
		return kind.Error()
	}
	return "unclassified"
}

// outcome is how a run ended.
type outcome struct {
	code     int
	failures []failure
}

// text is the outcome in one line, "" for success.
func (o outcome) text() string {
	switch n := len(o.failures); n {
	case 0:
		return ""
	case 1:
		return o.failures[0].String()
	default:
		return fmt.Sprintf("%s (and %d more)", o.failures[0], n-1)
	}
}

// finish ends the run: the document or the errors, the report, the status.
func (s *Session) finish(ctx context.Context, err error) int {
	s.display.Done()
	if err == nil {
		err = s.deliver(ctx)
	}
	o := outcome{code: exitSuccess}
	if err != nil {
		o = s.judge(ctx, err)
		s.print(o)
		if err := s.writeReport(o); err != nil {
			s.Log.Error("the report could not be written", "cause", err)
		}
	}
	if err := s.summarize(o); err != nil {
		s.Log.Error("the summary could not be written", "cause", err)
	}
	return o.code
}

// judge sorts what err says. A signal explains what was cancelled, so
// only other failures are told beside it; and it decides the status, for
// whatever else failed may have failed by it.
func (s *Session) judge(ctx context.Context, err error) outcome {
	var all []failure
	for _, e := range flatten(err) {
		all = append(all, failure{fault.SubjectOf(e), e})
	}
	if i, ok := interruptionOf(ctx); ok {
		all = slices.DeleteFunc(all, func(f failure) bool {
			var again interruption
			return fault.KindOf(f.err) == fault.Cancelled || errors.As(f.err, &again)
		})
		stopped := fault.New(fault.Cancelled, "", i).Hint("run the same command again; fetch, pack and publish go on where they stopped")
		return outcome{code: i.code(), failures: append([]failure{{err: stopped}}, all...)}
	}
	errs := make([]error, len(all))
	for i, f := range all {
		errs[i] = f.err
	}
	return outcome{code: ExitCode(errors.Join(errs...)), failures: all}
}

// print writes a line for each failure, and each explanation and advice once.
func (s *Session) print(o outcome) {
	shown := o.failures[:min(listed, len(o.failures))]
	if s.flags.LogFormat == "json" {
		for _, f := range shown {
			s.Log.Error(f.String(), f.attrs()...)
		}
	} else {
		s.printText(shown)
	}
	if more := len(o.failures) - len(shown); more > 0 {
		where := "--report FILE lists them"
		if s.flags.Report != "" {
			where = "see " + s.flags.Report
		}
		s.Log.Error(fmt.Sprintf("and %d more; %s", more, where))
	}
}

// attrs are what a program reads beside the message.
func (f failure) attrs() []any {
	attrs := []any{"kind", f.kind(), "hint", f.hint()}
	if name := f.causeName(); name != "" {
		attrs = append(attrs, "cause", name, "likely", f.likely(), "advice", f.advice())
	}
	return attrs
}

// printText writes what explains and advises past the log, whose level could
// hide it: what is likely first, then what to do, beginning with what is said of
// this very case.
func (s *Session) printText(failures []failure) {
	var likely, hints []string
	for _, f := range failures {
		s.Log.Error(f.String())
		likely = append(likely, f.likely()...)
		if hint := f.hint(); hint != "" {
			hints = append(hints, hint)
		}
	}
	for _, f := range failures {
		hints = append(hints, f.advice()...)
	}
	s.printOnce("likely", likely)
	s.printOnce("hint", hints)
}

func (s *Session) printOnce(label string, lines []string) {
	for i, line := range lines {
		if !slices.Contains(lines[:i], line) {
			// Nobody can be told of a stderr that is gone.
			_, _ = fmt.Fprintf(s.display, "%s: %s: %s\n", s.cmd.program(), label, line)
		}
	}
}

// writeReport writes how the run ended to the file of --report, if it is
// wanted.
func (s *Session) writeReport(o outcome) error {
	if s.flags.Report == "" {
		return nil
	}
	spec := contract.ReportSpec{Stage: s.cmd.Name, ExitCode: o.code, Error: o.text()}
	for i, f := range o.failures {
		if i == 0 {
			spec.Hint = f.hint()
		}
		spec.Items = append(spec.Items, f.reportItem())
	}
	s.mu.Lock()
	for name, value := range s.counters {
		spec.Counters = append(spec.Counters, contract.Counter{Name: name, Value: value})
	}
	for _, w := range s.warnings {
		spec.Warnings = append(spec.Warnings, w.reportItem())
	}
	inputs := slices.Clone(s.inputs)
	s.mu.Unlock()
	data, err := contract.Encode(contract.New(s.Generator(), inputs, spec))
	if err != nil {
		return defect("%w", err)
	}
	return durable.WriteFile(s.flags.Report, data, 0o644)
}

func (f failure) reportItem() contract.ReportItem {
	return contract.ReportItem{
		Item: f.item, Kind: f.kind(), Cause: printable(f.err.Error()), Hint: f.hint(),
		CauseName: f.causeName(), Likely: f.likely(), Advice: f.advice(),
	}
}
