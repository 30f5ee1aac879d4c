package reliability

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// CasesAttr is the attribute by which a test that tries its cases in a loop says
// how many they were: t.Attr(CasesAttr, "512"). Other tests' cases are their
// subtests that have none of their own.
const CasesAttr = "cases"

// FigurePrefix begins the name of an attribute with a number that is summed up
// over all tests: t.Attr("figure:crashes-injected", "37").
const FigurePrefix = "figure:"

// Result is what became of a test.
type Result struct {
	Outcome string // pass, fail or skip
	Cases   int64  // that passed
	failed  bool   // any part of it

	parents map[string]bool // names of its parts that have parts
	passed  []string        // names of its parts, itself included
	tried   int64           // by attribute
}

// Results are those of a run, by "package.TestName" with the last element of the
// package's path, and the sums of figures.
type Results struct {
	Tests   map[string]*Result
	Figures map[string]int64
}

// event is one line of "go test -json".
type event struct {
	Action, Package, Test, Key, Value string
}

// ReadResults reads the output of "go test -json". Lines that are no event, such
// as what the go command says while it builds, are passed over.
func ReadResults(r io.Reader) (*Results, error) {
	out := &Results{Tests: map[string]*Result{}, Figures: map[string]int64{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Test == "" {
			continue
		}
		if err := out.note(e); err != nil {
			return nil, err
		}
	}
	for _, t := range out.Tests {
		t.finish()
	}
	return out, lines.Err()
}

func (r *Results) note(e event) error {
	top, _, isPart := strings.Cut(e.Test, "/")
	name := path.Base(e.Package) + "." + top
	t := r.Tests[name]
	if t == nil {
		t = &Result{parents: map[string]bool{}}
		r.Tests[name] = t
	}
	if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
		t.parents[e.Test[:i]] = true
	}
	switch e.Action {
	case "attr":
		return r.attribute(t, e)
	case "pass":
		t.passed = append(t.passed, e.Test)
	case "fail":
		t.failed = true
	}
	if !isPart && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
		t.Outcome = e.Action
	}
	return nil
}

func (r *Results) attribute(t *Result, e event) error {
	figure, isFigure := strings.CutPrefix(e.Key, FigurePrefix)
	if !isFigure && e.Key != CasesAttr {
		return nil
	}
	n, err := strconv.ParseInt(e.Value, 10, 64)
	if err != nil {
		return fmt.Errorf("%s: the attribute %s is %q, want a number", e.Test, e.Key, e.Value)
	}
	if isFigure {
		r.Figures[figure] += n
	} else {
		t.tried += n
	}
	return nil
}

func (t *Result) finish() {
	if t.Cases = t.tried; t.Cases > 0 {
		return
	}
	for _, name := range t.passed {
		if !t.parents[name] {
			t.Cases++
		}
	}
}
