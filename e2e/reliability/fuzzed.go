package reliability

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// FuzzLog is the file, below the root of the repository, to which scripts/fuzz
// adds a line for each run of a target.
const FuzzLog = "e2e/reliability/fuzz.txt"

// Fuzzed is what was tried on a target.
type Fuzzed struct {
	Target     string // "bundle.FuzzImport"
	Seconds    float64
	Executions int64
	Crashers   int // that the last run found
}

var fuzzLine = regexp.MustCompile(`^(\S+\.Fuzz\S+) ([0-9.]+) s, ([0-9]+) executions, ([0-9]+) crashers$`)

// ReadFuzzed sums up a log, by target.
func ReadFuzzed(path string) ([]Fuzzed, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sums := map[string]*Fuzzed{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		m := fuzzLine.FindStringSubmatch(lines.Text())
		if m == nil {
			return nil, fmt.Errorf("%s:%d: %q is not a run of a target", path, n, lines.Text())
		}
		s := sums[m[1]]
		if s == nil {
			s = &Fuzzed{Target: m[1]}
			sums[m[1]] = s
		}
		seconds, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		executions, err := strconv.ParseInt(m[3], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		if s.Crashers, err = strconv.Atoi(m[4]); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		s.Seconds += seconds
		s.Executions += executions
	}
	out := make([]Fuzzed, 0, len(sums))
	for _, s := range sums {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Fuzzed) int { return strings.Compare(a.Target, b.Target) })
	return out, lines.Err()
}
