package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// citation matches what comments, tests and pages cite: "S3.6.7",
	// "S3.2 row 14", "S9 rows 52, 55 and 82", "B1".
	citation = regexp.MustCompile(`\b(?:(S[0-9]+(?:\.[0-9]+)*)(?: rows? ([0-9]+(?:(?:, | and | to )[0-9]+)*))?|[BNQ][0-9]+)\b`)
	number   = regexp.MustCompile(`[0-9]+`)

	// Where a rule stands: its number begins a heading, a list item or a table
	// row, perhaps with others, or it is an item of a section's numbered list.
	ruleLine = regexp.MustCompile(`^(#+|-|\|) (S[0-9]+(?:\.[0-9]+)*(?:, S[0-9]+(?:\.[0-9]+)*)*)(?:[.:]? |$)`)
	itemLine = regexp.MustCompile(`^([0-9]+)\. `)
	rowLine  = regexp.MustCompile(`^\| ([0-9]+(?:, [0-9]+)*) \|`)
	codeLine = regexp.MustCompile(`^\| ([BNQ][0-9]+) \|`)
)

// TestCitations: every rule and failure that is cited can be looked up.
func TestCitations(t *testing.T) {
	known := map[string]int{} // how often it is defined
	rules(t, known)
	for _, line := range lines(t, filepath.Join("..", "docs", "failures.md")) {
		if m := codeLine.FindStringSubmatch(line); m != nil {
			known[m[1]]++
		}
	}
	for name, times := range known {
		if times > 1 {
			t.Errorf("docs: %s is defined %d times", name, times)
		}
	}
	found := 0
	for _, path := range citing(t) {
		for i, line := range lines(t, path) {
			for _, m := range citation.FindAllStringSubmatch(line, -1) {
				for _, name := range cited(m) {
					found++
					if known[name] == 0 {
						t.Errorf("%s:%d: %s is neither in docs/deckhouse.md nor in docs/failures.md", strings.TrimPrefix(filepath.ToSlash(path), "../"), i+1, name)
					}
				}
			}
		}
	}
	if found < 300 {
		t.Errorf("only %d citations were found; is the pattern right?", found)
	}
}

// rules counts what docs/deckhouse.md defines: "S3.6.7", and "S3.2 row 14".
func rules(t *testing.T, known map[string]int) {
	t.Helper()
	section := ""
	for _, line := range lines(t, filepath.Join("..", "docs", "deckhouse.md")) {
		if strings.HasPrefix(line, "#") {
			section = ""
		}
		if m := ruleLine.FindStringSubmatch(line); m != nil {
			names := strings.Split(m[2], ", ")
			for _, name := range names {
				known[name]++
			}
			if m[1][0] == '#' {
				section = names[0]
			}
		} else if m := itemLine.FindStringSubmatch(line); m != nil && section != "" {
			known[section+"."+m[1]]++
		} else if m := rowLine.FindStringSubmatch(line); m != nil && section != "" {
			for _, row := range strings.Split(m[1], ", ") {
				known[section+" row "+row]++
			}
		}
	}
}

// cited splits a match of citation into the names that must be defined.
func cited(m []string) []string {
	if m[2] == "" {
		return m[:1]
	}
	var names []string
	for _, row := range number.FindAllString(m[2], -1) {
		names = append(names, m[1]+" row "+row)
	}
	return names
}

// citing lists the sources, scripts and pages of the repository.
func citing(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, dir := range []string{"cmd", "pkg", "e2e", "scripts", "docs"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && slices.Contains([]string{".go", ".sh", ".md", ""}, filepath.Ext(path)) {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}
