// Package conformance runs the conformance suite of the OCI distribution-spec,
// the specification's own, against the registry of the tests, so that what passes
// there is asked of a registry as the specification wants it.
package conformance

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ferry/e2e/servers"
	"ferry/pkg/registry/registrytest"
)

// suite is the program, as e2e/go.mod has it.
const suite = "github.com/opencontainers/distribution-spec/conformance"

// report is what the suite says of each of its cases.
type report struct {
	Suites []struct {
		Cases []struct {
			Name   string `xml:"name,attr"`
			Status string `xml:"status,attr"`
			Out    string `xml:"system-out"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// parts are those of the suite for the registry of the tests: it keeps no sha512,
// for ferry carries none. All else that version 1.1 asks for is asked, and what the
// next one adds but for a tag in the query.
var parts = []string{
	"OCI_DATA_SHA512=false",
	"OCI_API_BLOBS_UPLOAD_CANCEL=true", "OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true",
}

// With all quirks switched off the registry of the tests passes. So that this says
// something the suite is held to what is known of others: two real registries, one
// of which has no referrers API, wants foreign layers and answers sha512 with another
// digest; and a registry with a quirk each.
func TestDistributionSpec(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "conformance")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, suite).CombinedOutput(); err != nil {
		t.Fatalf("building the suite: %v\n%s", err, out)
	}
	t.Run("registrytest", func(t *testing.T) {
		t.Parallel()
		cases := run(t, program, host(t), parts...)
		if len(cases) < 300 {
			t.Errorf("the suite has %d cases", len(cases))
		}
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				switch {
				case c.status == "skipped" && strings.Contains(c.name, "sha512"):
					t.Skip("no sha512 here")
				case c.status != "passed":
					t.Errorf("%s: %s", c.status, c.why)
				}
			})
		}
	})
	for name, tt := range map[string]struct {
		start func(testing.TB) string
		known []string // parts of the names of cases that fail
	}{
		"distribution": {servers.Distribution, []string{"sha512", "subject", "empty/referrers", "non-distributable"}},
		"olareg":       {servers.OlaregEmpty, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, c := range failures(run(t, program, tt.start(t))) {
				if !slices.ContainsFunc(tt.known, func(part string) bool { return strings.Contains(c.name, part) }) {
					t.Errorf("%s: %s", c.name, c.why)
				}
			}
		})
	}
	for name, q := range map[string]registrytest.Quirk{
		"head":      registrytest.Q13NoHead(405),
		"post-put":  registrytest.Q7End(202),
		"referrers": registrytest.Q21NoReferrers(),
		"mount":     registrytest.Q5Mount(405),
		"header":    registrytest.Q44NoDigest(),
	} {
		t.Run(q.String(), func(t *testing.T) {
			t.Parallel()
			if failed := failures(run(t, program, host(t, q), parts...)); !slices.ContainsFunc(failed, func(c outcome) bool { return strings.Contains(c.name+c.why, name) }) {
				t.Errorf("the suite does not see it: %v", failed)
			}
		})
	}
}

func host(t *testing.T, opts ...registrytest.Option) string {
	return registrytest.Start(t, registrytest.New(opts...)).Host
}

func failures(cases []outcome) []outcome {
	return slices.DeleteFunc(cases, func(c outcome) bool { return c.status == "passed" || c.status == "skipped" })
}

// outcome is what the suite says of one of its cases.
type outcome struct{ name, status, why string }

// run runs the suite against host and returns what it says of its cases.
func run(t *testing.T, program, host string, env ...string) []outcome {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Dir = dir
	cmd.Env = slices.Concat([]string{"HOME=" + dir, "OCI_REGISTRY=" + host, "OCI_TLS=disabled", "OCI_VERSION=1.1", "OCI_RESULTS_DIR=" + dir}, env)
	out, err := cmd.CombinedOutput()
	text, readErr := os.ReadFile(filepath.Join(dir, "junit.xml"))
	if readErr != nil {
		t.Fatalf("the suite left no report: %v\n%s", err, out)
	}
	var r report
	if err := xml.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	var cases []outcome
	for _, s := range r.Suites {
		for _, c := range s.Cases {
			cases = append(cases, outcome{strings.TrimPrefix(c.Name, "OCI Conformance Test/"), c.Status, c.Out})
		}
	}
	return cases
}
