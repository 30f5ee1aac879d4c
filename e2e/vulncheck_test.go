package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What the search for known vulnerabilities says is a failure when it is one, and
// only then: a database that is out of reach stops nobody.
func TestVulncheck(t *testing.T) {
	t.Parallel()
	const found = "Vulnerability #1: GO-2026-0001\n    a hole\n\nVulnerability #2: GO-2026-0002\n    another\n"
	for name, tc := range map[string]struct {
		status         string
		says, accepted string
		code           int
		want           string
	}{
		"nothing found":          {"0", "No vulnerabilities found.", "", 0, "ok"},
		"found":                  {"3", found, "", 1, "GO-2026-0001 GO-2026-0002"},
		"one is accepted":        {"3", found, "GO-2026-0001 is not called with input\n", 1, "accepted: GO-2026-0002"},
		"both are accepted":      {"3", found, "GO-2026-0001 x\nGO-2026-0002 y\n", 0, "accepted"},
		"accepted with no word":  {"3", found, "GO-2026-0001\nGO-2026-0002 y\n", 1, "GO-2026-0001"},
		"accepted is another":    {"3", found, "GO-2026-00011 x\nGO-2026-0002 y\n", 1, "GO-2026-0001"},
		"no database":            {"1", `govulncheck: fetching vulnerabilities: Get "https://vuln.go.dev/": dial tcp: no such host`, "", 0, "skipped"},
		"the tool does not come": {"1", "go: golang.org/x/vuln: Get https://proxy: dial tcp: i/o timeout", "", 0, "skipped"},
		"the code does not fit":  {"1", "govulncheck: loading packages: syntax error", "", 1, "syntax error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range map[string]string{"go": "#!/bin/sh\ncat <<'END'\n" + tc.says + "\nEND\nexit " + tc.status + "\n", "accepted": tc.accepted} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "../scripts/vulncheck")
			cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "ACCEPTED=" + filepath.Join(dir, "accepted")}
			r := finish(t, cmd)
			if r.code != tc.code || !strings.Contains(r.stdout+r.stderr, tc.want) {
				t.Errorf("it ends with %d, want %d and %q:\n%s%s", r.code, tc.code, tc.want, r.stdout, r.stderr)
			}
		})
	}
}
