package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/registry/registrytest"
)

// absences are answers that are no "not found", with the exit status of each.
var absences = []struct {
	name  string
	fault registrytest.Fault
	code  int
}{
	{"401", registrytest.Fault{Status: 401}, 77},
	{"403", registrytest.Fault{Status: 403}, 77},
	{"429", registrytest.Fault{Status: 429, RetryAfter: "0"}, 75},
	{"500", registrytest.Fault{Status: 500}, 75},
	{"cut body", registrytest.Fault{Method: "GET", CutAfter: 5}, 75},
	{"time-out", registrytest.Fault{Stall: true}, 75},
	{"HTML page", registrytest.Fault{Status: 200, Body: "<html>Sign in</html>", ContentType: "text/html"}, 76},
}

// S5.2, S9 rows 2, 27, 67 and 68: whatever the source answers for something that
// it may lack, unless it is a definite "not found" the pull fails, with the
// status of the cause, and the report names what is missing.
func TestNothingOptionalIsSkippedSilently(t *testing.T) {
	t.Parallel()
	opts := edition.Default()
	opts.Minors, opts.Components = 1, 2
	src, _ := source(t, opts)
	tags := src.Tags()
	catalog := run(t, "", "ferry-discover", discoverArgs(src.Host)...)
	selection := run(t, catalog, "ferry-select")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	impatient := []string{"--insecure", "--retries=0", "--idle-timeout=1s"}
	discover := append([]string{"ferry-discover", "deckhouse", "--source", src.Host + "/deckhouse/ee"}, impatient...)
	fetch := append([]string{"ferry-fetch", "-i", file("selection.json", selection), "--plan"}, impatient...)

	const root = "deckhouse/ee/"
	signed, signature := "", ""
	for tag := range tags {
		if repository, name, _ := strings.Cut(tag, ":"); strings.HasSuffix(name, ".sig") && tag > signed+":"+signature {
			signed, signature = repository, name
		}
	}
	for _, tc := range []struct {
		item       string
		kind       registrytest.Kind
		repository string
		reference  string
		stage      []string
	}{
		{"channel of the platform", registrytest.KindManifest, root + "release-channel", "beta", discover},
		{"lts of a module", registrytest.KindManifest, root + "modules/mod-00/release", "lts", discover},
		{"channel of a module", registrytest.KindManifest, root + "modules/mod-01/release", "stable", discover},
		{"list of modules", registrytest.KindTags, root + "modules", "", discover},
		{"list of packages", registrytest.KindTags, root + "packages", "", discover},
		{"versions of a module", registrytest.KindTags, root + "modules/mod-00", "", discover},
		{"versions of a package", registrytest.KindTags, root + "packages/pkg-00/version", "", discover},
		{"security database", registrytest.KindManifest, root + "security/trivy-bdu", "1", fetch},
		{"the security databases' first", registrytest.KindManifest, root + "security/trivy-db", "2", fetch},
		{"installer", registrytest.KindManifest, "deckhouse/installer", "latest", fetch},
		{"install-standalone", registrytest.KindManifest, root + "install-standalone", "v1.68.1", fetch},
		{"version of a module", registrytest.KindManifest, root + "modules/mod-01", "v1.2.0", fetch},
		{"release of a module", registrytest.KindManifest, root + "modules/mod-01/release", "v1.2.0", fetch},
		{"attestation by tag", registrytest.KindManifest, root + "modules/mod-01", "v1.2.0.att", fetch},
		{"extra image", registrytest.KindManifest, root + "modules/mod-00/extra/extra-0", "5", fetch},
		{"attestation of an extra image", registrytest.KindManifest, root + "modules/mod-00", "5.att", fetch},
		{"d8 itself", registrytest.KindManifest, "deckhouse/deckhouse-cli", "v0.10.0", fetch},
		{"contract of a plugin", registrytest.KindManifest, "deckhouse/deckhouse-cli/plugins/mgr", "v1.0.0", discover},
		{"signature", registrytest.KindManifest, signed, signature, fetch},
		{"referrers", registrytest.KindReferrers, signed, "sha256:" + strings.TrimSuffix(strings.TrimPrefix(signature, "sha256-"), ".sig"), fetch},
		{"listed version of a package", registrytest.KindManifest, root + "packages/pkg-00/version", "v1.1.0", fetch},
	} {
		for _, absence := range absences {
			t.Run(tc.item+"/"+absence.name, func(t *testing.T) {
				f := absence.fault
				f.Kind, f.Repository, f.Reference, f.Times = tc.kind, tc.repository, tc.reference, registrytest.Always
				src.Inject(f)
				if digest, ok := tags[tc.repository+":"+tc.reference]; ok && f.CutAfter > 0 {
					f.Reference = string(digest) // HEAD, which may ask for the tag, has no body to cut
					src.Inject(f)
				}
				defer src.Heal()
				report := filepath.Join(t.TempDir(), "report.json")
				args := append(tc.stage[1:len(tc.stage):len(tc.stage)], "--report", report)
				if tc.stage[0] == "ferry-fetch" {
					args = append(args, "--store", t.TempDir())
				}
				r := try(t, "", tc.stage[0], args...)
				if r.code != absence.code || r.stdout != "" {
					t.Errorf("exit status %d, want %d, with %d bytes of a document\n%s", r.code, absence.code, len(r.stdout), r.stderr)
				}
				text, err := os.ReadFile(report)
				if err != nil {
					t.Fatal(err)
				}
				named := false
				for _, item := range decode[contract.ReportSpec](t, string(text)).Spec.Items {
					named = named || strings.Contains(item.Item+" "+item.Cause, fmt.Sprintf("%s/%s", src.Host, tc.repository))
				}
				if !named {
					t.Errorf("the report does not name %s:\n%s", tc.repository, text)
				}
			})
		}
	}
}
