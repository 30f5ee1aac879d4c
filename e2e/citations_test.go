package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ferry/e2e/coverage"
)

// codeLine is where a failure stands in docs/failures.md.
var codeLine = regexp.MustCompile(`^\| ([BNQ][0-9]+) \|`)

// TestCitations: every rule and failure that is cited can be looked up.
func TestCitations(t *testing.T) {
	t.Parallel()
	rules, err := coverage.ReadRules(filepath.Join("..", filepath.FromSlash(coverage.RuleBook)))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, r := range rules {
		known[r.ID] = true
	}
	for _, line := range lines(t, filepath.Join("..", "docs", "failures.md")) {
		if m := codeLine.FindStringSubmatch(line); m != nil {
			if known[m[1]] {
				t.Errorf("docs/failures.md: %s is defined twice", m[1])
			}
			known[m[1]] = true
		}
	}
	found := 0
	for _, path := range citing(t) {
		for i, line := range lines(t, path) {
			for _, name := range coverage.Cited(line) {
				found++
				if !known[name] {
					t.Errorf("%s:%d: %s is neither in docs/deckhouse.md nor in docs/failures.md", strings.TrimPrefix(filepath.ToSlash(path), "../"), i+1, name)
				}
			}
		}
	}
	if found < 300 {
		t.Errorf("only %d citations were found; is the pattern right?", found)
	}
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
