package reliability

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

func in(name string) string { return filepath.Join(root, filepath.FromSlash(name)) }

// Every failure has a row, once, in order, and those that no test proves say why.
func TestEveryFailureHasARow(t *testing.T) {
	rows, err := ReadRows(in(Failures))
	if err != nil {
		t.Fatal(err)
	}
	if missing := Missing(rows); len(missing) > 0 {
		t.Errorf("%s has no row for %s", Failures, strings.Join(missing, ", "))
	}
	last := Row{}
	for _, r := range rows {
		if r.Code[:1] == last.Code[:min(1, len(last.Code))] && r.Number <= last.Number {
			t.Errorf("%s stands behind %s", r.Code, last.Code)
		}
		last = r
	}
}

// The committed page speaks of the failures and tests that docs/failures.md names;
// and it is of a run in which all held.
func TestPageIsOfTheseRows(t *testing.T) {
	rows, err := ReadRows(in(Failures))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(in(Page))
	if err != nil {
		t.Fatal(err)
	}
	page := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, " | "); len(cells) == 4 && strings.HasPrefix(line, "| ") {
			page[strings.TrimPrefix(cells[0], "| ")] = cells[1]
			if strings.HasPrefix(cells[3], "**") {
				t.Errorf("%s: %s", cells[0], cells[3])
			}
		}
	}
	for _, r := range rows {
		want := strings.Join(r.Tests, ", ")
		if want == "" {
			want = "-"
		}
		if page[r.Code] != want {
			t.Errorf("run \"make reliability\": %s is proven by %q, the page says %q", r.Code, want, page[r.Code])
		}
	}
}

// The fixture has a test of each outcome, subtests of subtests, and a line that is
// no event.
func TestReadResults(t *testing.T) {
	events := `# ferry/pkg/x
{"Action":"run","Package":"ferry/pkg/x","Test":"TestA"}
{"Action":"pass","Package":"ferry/pkg/x","Test":"TestA/one"}
{"Action":"pass","Package":"ferry/pkg/x","Test":"TestA/two/deep"}
{"Action":"pass","Package":"ferry/pkg/x","Test":"TestA/two"}
{"Action":"pass","Package":"ferry/pkg/x","Test":"TestA"}
{"Action":"pass","Package":"ferry/pkg/x","Test":"TestPlain"}
{"Action":"attr","Package":"ferry/pkg/x","Test":"TestLoop","Key":"cases","Value":"500"}
{"Action":"attr","Package":"ferry/pkg/x","Test":"TestLoop","Key":"figure:inputs","Value":"7"}
{"Action":"attr","Package":"ferry/pkg/x","Test":"TestLoop","Key":"other","Value":"x"}
{"Action":"pass","Package":"ferry/pkg/x","Test":"TestLoop"}
{"Action":"attr","Package":"ferry/pkg/x","Test":"TestB/one","Key":"figure:inputs","Value":"3"}
{"Action":"fail","Package":"ferry/pkg/x","Test":"TestB/one"}
{"Action":"pass","Package":"ferry/pkg/x","Test":"TestB/two"}
{"Action":"fail","Package":"ferry/pkg/x","Test":"TestB"}
{"Action":"skip","Package":"ferry/e2e","Test":"TestC"}
{"Action":"pass","Package":"ferry/e2e"}
`
	results, err := ReadResults(strings.NewReader(events))
	if err != nil {
		t.Fatal(err)
	}
	type outcome struct {
		Outcome string
		Cases   int64
	}
	got := map[string]outcome{}
	for name, r := range results.Tests {
		got[name] = outcome{r.Outcome, r.Cases}
	}
	want := map[string]outcome{"x.TestA": {"pass", 2}, "x.TestPlain": {"pass", 1}, "x.TestLoop": {"pass", 500}, "x.TestB": {"fail", 1}, "e2e.TestC": {"skip", 0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tests (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"inputs": 10}, results.Figures); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
	if _, err := ReadResults(strings.NewReader(`{"Action":"attr","Package":"x","Test":"TestL","Key":"cases","Value":"many"}`)); err == nil {
		t.Error("an attribute that is no number is accepted")
	}
	rows := []Row{
		{Code: "B1", Number: 1, Tests: []string{"x.TestA", "x.TestLoop"}},
		{Code: "B2", Number: 2, Tests: []string{"x.TestA", "x.TestB"}},
		{Code: "N1", Number: 1, Tests: []string{"e2e.TestC"}},
		{Code: "N2", Number: 2, Tests: []string{"x.TestGone"}},
		{Code: "Q1", Number: 1, Does: "nothing, for a reason"},
	}
	page := string(Write(rows, results, Logs{
		Fuzzed: []Fuzzed{{"x.FuzzA", 90, 1000, 0}},
		Soaked: []Soaked{{600, 4, 30, 20, 10, 1}, {60, 1, 5, 2, 3, 0}},
	}))
	for _, line := range []string{
		"| B1 | x.TestA, x.TestLoop | 502 | held |\n",
		"| B2 | x.TestA, x.TestB | 3 | **failed: x.TestB** |\n",
		"| N1 | e2e.TestC | 0 | held, but for e2e.TestC, which was skipped |\n",
		"| N2 | x.TestGone | 0 | **no such test ran: x.TestGone** |\n",
		"| Q1 | - | 0 | not proven: nothing, for a reason |\n",
		"- 5 rules, 4 with a test, 1 of them held in all of 503 cases\n",
		"- inputs: 10\n",
		"- fuzz executions: 1000, crashers left: 0\n",
		"| x.FuzzA | 1.5 | 1000 | 0 |\n",
		"- soaks: 2, with 22 faults and 13 kills; losses: 1\n",
		"| 10.0 | 4 | 30 | 20 | 10 | 1 |\n",
	} {
		if !strings.Contains(page, line) {
			t.Errorf("the page lacks %q:\n%s", line, page)
		}
	}
}

func TestReadFuzzed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("x.FuzzB 60 s, 100 executions, 1 crashers\nx.FuzzA 30 s, 50 executions, 0 crashers\nx.FuzzB 60 s, 300 executions, 0 crashers\n")
	got, err := ReadFuzzed(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Fuzzed{{"x.FuzzA", 30, 50, 0}, {"x.FuzzB", 120, 400, 0}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	write("x.FuzzB was good\n")
	if _, err := ReadFuzzed(path); err == nil {
		t.Error("a line that says nothing is accepted")
	}
}

// The committed log can be read, and a loss in it was mended.
func TestSoakLog(t *testing.T) {
	soaked, err := ReadSoaked(in(SoakLog))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(soaked); n == 0 || soaked[n-1].Losses > 0 || soaked[n-1].Faults == 0 {
		t.Errorf("the last of %v lost something, or was not disturbed", soaked)
	}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("nothing was lost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSoaked(path); err == nil {
		t.Error("a line that says nothing is accepted")
	}
}

// The committed log can be read.
func TestFuzzLog(t *testing.T) {
	fuzzed, err := ReadFuzzed(in(FuzzLog))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fuzzed {
		if f.Crashers > 0 {
			t.Errorf("%s: a crasher is left", f.Target)
		}
	}
}
