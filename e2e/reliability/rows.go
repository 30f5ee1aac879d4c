// Package reliability says, for every failure of docs/failures.md, which tests
// prove what ferry does about it, how many cases they tried, and how that ended.
// The figures come from a run of the tests, not from anybody's word.
package reliability

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Failures and Page are the files, below the root of the repository, that are
// read and written.
const (
	Failures = "docs/failures.md"
	Page     = "docs/reliability.md"
)

// Last is the number of the last failure of each letter; all up to it have a row.
var Last = map[string]int{"B": 21, "N": 25, "Q": 44}

// Letters are the keys of Last in the order of the page.
var Letters = []string{"B", "N", "Q"}

// Row is a failure and what is said of it.
type Row struct {
	Code   string // "B1"
	Number int
	Wrong  string   // what goes wrong elsewhere
	Does   string   // what ferry does, or why not
	Tests  []string // "bundle.TestVerifyFindsEveryCut"; none where nothing proves it
}

var (
	rowLine  = regexp.MustCompile(`^\| ([BNQ])([0-9]+) \| (.*) \| (.*) \| (.*) \|$`)
	testName = regexp.MustCompile("`([a-z0-9_]+\\.(?:Test|Fuzz)[A-Za-z0-9_]*)`")
)

// ReadRows reads the tables of docs/failures.md, in their order.
func ReadRows(path string) ([]Row, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for line := range strings.Lines(string(text)) {
		m := rowLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		number, err := strconv.Atoi(m[2])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		row := Row{Code: m[1] + m[2], Number: number, Wrong: m[3], Does: m[4]}
		for _, name := range testName.FindAllStringSubmatch(m[5], -1) {
			row.Tests = append(row.Tests, name[1])
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Missing lists the failures that have no row.
func Missing(rows []Row) []string {
	known := map[string]bool{}
	for _, r := range rows {
		known[r.Code] = true
	}
	var missing []string
	for _, letter := range Letters {
		for n := 1; n <= Last[letter]; n++ {
			if code := letter + strconv.Itoa(n); !known[code] {
				missing = append(missing, code)
			}
		}
	}
	return missing
}
