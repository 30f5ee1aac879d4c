package e2e

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/e2e/servers"
	"ferry/pkg/contract"
	"ferry/pkg/registry/registrytest"
)

// probed runs a probe and returns the file of its document, and what it says.
func probed(t *testing.T, target string, args ...string) (string, contract.TargetSpec) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "target.json")
	run(t, "", "ferry-publish", append([]string{"probe", target, "--insecure", "-o", file}, args...)...)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return file, decode[contract.TargetSpec](t, string(text)).Spec
}

// A probe of real registries says of each what it is known for, and what it keeps.
// Each takes all that an edition has, so publishing by the document has nothing to
// warn of but the referrers API.
func TestProbeRealRegistries(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		start func(testing.TB) string
		no    []contract.Feature
		left  int // 4 blobs, 8 manifests, 2 tags, 2 repositories at most
	}{
		"distribution":    {servers.Distribution, []contract.Feature{"oci-tag", "referrers-api", "sparse-index"}, 1},
		"docker-registry": {servers.DockerRegistry, []contract.Feature{"delete-tag", "oci-tag", "referrers-api", "sparse-index"}, 1},
		"olareg":          {servers.OlaregEmpty, []contract.Feature{"delete-blob", "delete-manifest", "delete-tag", "sparse-index"}, 16},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := tc.start(t)
			_, spec := probed(t, host+"/mirror")
			var not, unknown []contract.Feature
			for _, f := range spec.Features {
				switch f.Has {
				case contract.VerdictNo:
					not = append(not, f.Feature)
				case contract.VerdictUnknown:
					unknown = append(unknown, f.Feature)
				}
			}
			if diff := cmp.Diff(tc.no, not); diff != "" {
				t.Errorf("what it has not (-want +got):\n%s", diff)
			}
			// What stays cannot be tried after a tag was deleted alone.
			if len(unknown) > 1 || len(unknown) == 1 && unknown[0] != contract.FeatureDeleteTagAlone {
				t.Errorf("unknown: %v", unknown)
			}
			if len(spec.Leftovers) != tc.left {
				t.Errorf("%d things are left, want %d:\n%s", len(spec.Leftovers), tc.left, strings.Join(spec.Leftovers, "\n"))
			}
			if spec.Depth.Verdict != contract.VerdictYes || spec.Length.Verdict != contract.VerdictYes || spec.Body.Accepted != 8<<20 {
				t.Errorf("depth %+v, length %+v, body %+v", spec.Depth, spec.Length, spec.Body)
			}
			for _, n := range spec.Names {
				if n.Accepted != contract.VerdictYes {
					t.Errorf("names: %+v", n)
				}
			}
		})
	}
}

// What a probe has deleted again is gone from a real registry: it can be asked for
// in vain, and the next probe finds the same.
func TestProbeAgain(t *testing.T) {
	t.Parallel()
	host := servers.Distribution(t)
	_, first := probed(t, host+"/mirror")
	_, second := probed(t, host+"/mirror")
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the second probe (-first +second):\n%s", diff)
	}
}

// A registry that wants tokens gives them for a probe, too.
func TestProbeWithTokens(t *testing.T) {
	t.Parallel()
	srv := registrytest.Start(t, registrytest.New(registrytest.WithTokenAuth(registrytest.TokenAuth{User: "u", Password: "p"})))
	cmd := program(t, "ferry-publish", "probe", srv.Host+"/mirror", "--insecure", "--login", "u")
	cmd.Env = append(cmd.Env, "D8_MIRROR_REGISTRY_PASSWORD=p")
	r := finish(t, cmd)
	if r.code != 0 {
		t.Fatalf("exit status %d\n%s", r.code, r.stderr)
	}
	spec := decode[contract.TargetSpec](t, r.stdout).Spec
	for _, f := range spec.Features {
		if f.Has == contract.VerdictUnknown {
			t.Errorf("%s is unknown: %v", f.Feature, f.Evidence)
		}
	}
}

// Q4: all repositories of a bundle that the target does not have are named at once,
// by the probe, and by publish before it asks the registry for anything.
func TestMissingRepositoriesAreNamedAtOnce(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	disk := packed(t, src.Host)
	dst := registrytest.Start(t, registrytest.New())
	missing := []string{"mirror/install", "mirror/release-channel", "mirror/modules/mod-00", "mirror/security/trivy-db"}
	for i, path := range missing {
		dst.Inject(registrytest.Fault{Repository: path, Method: "POST", Times: registrytest.Always, Status: []int{404, 403}[i%2]})
	}
	report := filepath.Join(t.TempDir(), "report.json")
	file, spec := probed(t, dst.Host+"/mirror", "-i", filepath.Join(disk, "bundle.json"), "--report", report)
	var refused []string
	for _, r := range spec.Repositories {
		if r.Writable != contract.VerdictYes {
			refused = append(refused, strings.TrimPrefix(r.Repository, dst.Host+"/"))
		}
	}
	want := []string{"mirror/install", "mirror/modules/mod-00", "mirror/release-channel", "mirror/security/trivy-db"}
	if diff := cmp.Diff(want, refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if n := len(reportOf(t, report).Warnings); n != len(missing)+len(spec.Leftovers) {
		t.Errorf("the report has %d warnings, want %d repositories and %d leftovers", n, len(missing), len(spec.Leftovers))
	}

	dst.Reset()
	inventory := run(t, "", "ferry-unpack", disk)
	r := try(t, inventory, "ferry-publish", dst.Host+"/mirror", "--insecure", "--target", file, "--report", report)
	if r.code != 3 || r.stdout != "" {
		t.Errorf("exit status %d, want 3\n%s", r.code, r.stderr)
	}
	var items []string
	for _, item := range reportOf(t, report).Items {
		items = append(items, strings.TrimPrefix(item.Item, dst.Host+"/"))
	}
	if diff := cmp.Diff(want, items); diff != "" {
		t.Errorf("items of the report (-want +got):\n%s", diff)
	}
	if n := len(dst.Requests()); n != 0 {
		t.Errorf("%d requests were made, want none", n)
	}
}

func reportOf(t *testing.T, file string) contract.ReportSpec {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return decode[contract.ReportSpec](t, string(text)).Spec
}

// Q1: a target that is too flat for a bundle is found out by pack, which warns, and by
// publish, which sends nothing. Where --map makes paths fit, publish goes on.
func TestTooDeepForTheTarget(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	inventory := fetched(t, src.Host, t.TempDir())
	dst := registrytest.Start(t, registrytest.New())
	dst.Inject(registrytest.Fault{Times: registrytest.Always, Status: 400, Match: func(r *http.Request) bool {
		path, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
		return strings.HasSuffix(r.URL.Path, "/blobs/uploads/") && strings.Count(path, "/") > 3
	}})
	file, spec := probed(t, dst.Host+"/a/mirror")
	if spec.Depth.Accepted != 4 || spec.Depth.Refused != 5 || spec.Depth.Verdict != contract.VerdictNo {
		t.Fatalf("depth %+v, want 4", spec.Depth)
	}

	plain, warned := t.TempDir(), t.TempDir()
	report := filepath.Join(t.TempDir(), "report.json")
	run(t, inventory, "ferry-pack", plain)
	r := try(t, inventory, "ferry-pack", warned, "--target", file, "--report", report)
	if r.code != 0 || !strings.Contains(r.stderr, "modules/mod-00/release: the path has 5 segments, and the target takes 4") {
		t.Errorf("exit status %d\n%s", r.code, r.stderr)
	}
	if n := len(reportOf(t, report).Warnings); n == 0 || n != strings.Count(r.stderr, "the target takes 4") {
		t.Errorf("the report has %d warnings, and stderr:\n%s", n, r.stderr)
	}
	sameFiles(t, plain, warned)

	strict := t.TempDir()
	r = try(t, inventory, "ferry-pack", strict, "--target", file, "--target-strict")
	if entries, err := os.ReadDir(strict); r.code != 3 || err != nil || len(entries) != 0 {
		t.Errorf("exit status %d, want 3; %d files, want none\n%s", r.code, len(entries), r.stderr)
	}

	dst.Reset()
	r = try(t, inventory, "ferry-publish", dst.Host+"/a/mirror", "--insecure", "--target", file)
	if n := len(dst.Requests()); r.code != 3 || n != 0 {
		t.Errorf("exit status %d, want 3; %d requests, want none\n%s", r.code, n, r.stderr)
	}
	run(t, inventory, "ferry-publish", dst.Host+"/a/mirror", "--insecure", "--target", file, "--map", "modules=/m", "--map", "packages=/p", "--map", "security=/s", "--map", "deckhouse-cli=/cli")
}

// sameFiles fails unless two directories have the same files, byte by byte.
func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	entries, err := os.ReadDir(a)
	if err != nil {
		t.Fatal(err)
	}
	others, err := os.ReadDir(b)
	if err != nil || len(entries) != len(others) || len(entries) == 0 {
		t.Fatalf("%d files, and %d (%v)", len(entries), len(others), err)
	}
	for _, e := range entries {
		one, err := os.ReadFile(filepath.Join(a, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(filepath.Join(b, e.Name()))
		if err != nil || !bytes.Equal(one, other) {
			t.Errorf("%s differs (%v)", e.Name(), err)
		}
	}
}

// Q19: where the target takes only images, pack lists the exact types that this
// bundle needs, ready for Quay's configuration.
func TestArtifactTypesOfTheBundle(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	inventory := fetched(t, src.Host, t.TempDir())
	dst := registrytest.Start(t, registrytest.New())
	// The fourth manifest of a probe is an artifact.
	dst.Inject(registrytest.Fault{Method: "PUT", Kind: registrytest.KindManifest, Skip: 3, Status: 400})
	file, _ := probed(t, dst.Host+"/mirror")
	r := try(t, inventory, "ferry-pack", t.TempDir(), "--target", file)
	want := []string{
		"application/octet-stream: [application/deckhouse.io.bdu.layer.v1.tar+gzip]",
		"application/vnd.aquasec.trivy.config.v1+json: [application/vnd.aquasec.trivy.db.layer.v1.tar+gzip, application/vnd.aquasec.trivy.javadb.layer.v1.tar+gzip]",
		"application/vnd.oci.empty.v1+json: [application/vnd.cncf.openpolicyagent.layer.v1.tar+gzip, application/vnd.dev.sigstore.bundle.v0.3+json]",
		"application/vnd.oci.image.config.v1+json: [application/vnd.dev.cosign.simplesigning.v1+json, application/vnd.dsse.envelope.v1+json, text/spdx+json]",
	}
	if diff := cmp.Diff(want, refusedTypes(r.stderr)); diff != "" || r.code != 0 {
		t.Errorf("exit status %d; types (-want +got):\n%s", r.code, diff)
	}
}

// refusedTypes are the types that a stage has warned of, sorted.
func refusedTypes(stderr string) []string {
	var types []string
	for line := range strings.Lines(stderr) {
		if _, after, ok := strings.Cut(line, "would have to take "); ok {
			after, _, _ = strings.Cut(after, ";")
			types = append(types, strings.TrimSpace(after))
		}
	}
	slices.Sort(types)
	return types
}

// Q19: what pack will warn of is told before the first layer is downloaded, too, and
// --target-strict ends the run there.
func TestWarnedBeforeTheDownload(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	dst := registrytest.Start(t, registrytest.New())
	dst.Inject(registrytest.Fault{Method: "PUT", Kind: registrytest.KindManifest, Skip: 3, Status: 400})
	file, _ := probed(t, dst.Host+"/mirror")
	selection := run(t, run(t, "", "ferry-discover", discoverArgs(src.Host)...), "ferry-select")

	src.Reset()
	plan := try(t, selection, "ferry-fetch", "--plan", "--store", t.TempDir(), "--insecure", "--target", file)
	want := refusedTypes(plan.stderr)
	if plan.code != 0 || len(want) != 4 {
		t.Fatalf("exit status %d, and types %q\n%s", plan.code, want, plan.stderr)
	}
	asked := len(src.Requests())

	src.Reset()
	r := try(t, selection, "ferry-fetch", "--store", t.TempDir(), "--insecure", "--target", file, "--target-strict")
	if diff := cmp.Diff(want, refusedTypes(r.stderr)); diff != "" || r.code != 3 || r.stdout != "" {
		t.Errorf("exit status %d, want 3; types (-want +got):\n%s", r.code, diff)
	}
	if n := len(src.Requests()); n > asked {
		t.Errorf("%d requests, and a plan takes %d", n, asked)
	}

	for _, args := range [][]string{{"--dry-run"}, {}} {
		pulled := t.TempDir()
		r := try(t, "", "ferry-pull", append(args, pulled, "--source", src.Host+"/deckhouse/ee", "--insecure", "--target", file)...)
		times := map[bool]int{true: 1, false: 2}[len(args) > 0]
		if diff := cmp.Diff(times*len(want), len(refusedTypes(r.stderr))); diff != "" || r.code != 0 {
			t.Errorf("ferry-pull %q: exit status %d; types (-want +got):\n%s", args, r.code, diff)
		}
	}
	r = try(t, "", "ferry-pull", t.TempDir(), "--source", src.Host+"/deckhouse/ee", "--insecure", "--target", file, "--target-strict")
	if r.code != 3 || r.stdout != "" {
		t.Errorf("ferry-pull --target-strict: exit status %d, want 3\n%s", r.code, r.stderr)
	}
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	if r := try(t, selection, "ferry-fetch", "--store", t.TempDir(), "--insecure", "--since", nowhere); r.code != 65 || !strings.Contains(r.stderr, "nowhere") {
		t.Errorf("ferry-fetch since what is not there: exit status %d, want 65\n%s", r.code, r.stderr)
	}
	for _, flag := range []string{"--target", "--since-bundle"} {
		src.Reset()
		r := try(t, "", "ferry-pull", t.TempDir(), "--source", src.Host+"/deckhouse/ee", "--insecure", flag, nowhere)
		if n := len(src.Requests()); r.code != 65 || !strings.Contains(r.stderr, "nowhere cannot be read") || n > 0 {
			t.Errorf("ferry-pull %s without its file: exit status %d, want 65, and %d requests, want none\n%s", flag, r.code, n, r.stderr)
		}
	}
	if r := try(t, "", "ferry-push", packed(t, src.Host), "other.example/mirror", "--target", file); r.code != 64 || !strings.Contains(r.stderr, "other.example") {
		t.Errorf("ferry-push --target: exit status %d, want 64\n%s", r.code, r.stderr)
	}
}

// Command lines of the probe that cannot be carried out, and a document of another
// registry.
func TestProbeUsage(t *testing.T) {
	t.Parallel()
	dst := registrytest.Start(t, registrytest.New())
	file, _ := probed(t, dst.Host+"/mirror", "--read-only")
	src, _ := source(t, edition.Tiny())
	inventory := fetched(t, src.Host, t.TempDir())
	for _, tc := range []struct {
		stdin, name string
		args        []string
		code        int
		text        string
	}{
		{"", "ferry-publish", []string{"probe", dst.Host}, 64, "a path in it is needed"},
		{"", "ferry-publish", []string{"probe", dst.Host + "/m", "--body-limit-probe", "8"}, 64, "at most"},
		{"", "ferry-publish", []string{"probe", dst.Host + "/m", "--body-limit-probe", "1KiB"}, 64, "too few"},
		{"", "ferry-publish", []string{"probe", dst.Host + "/m", "--check-blobs"}, 64, "for publishing"},
		{"", "ferry-publish", []string{"probe", dst.Host + "/m", "--target", file}, 64, "for publishing"},
		{"", "ferry-publish", []string{"probe", "127.0.0.1:1/m", "--insecure", "--retries", "0"}, 75, "127.0.0.1:1"},
		{"", "ferry-publish", []string{"probe", dst.Host + "/m", "-i", file}, 65, "Target"},
		{inventory, "ferry-publish", []string{"other.example/m", "--target", file}, 64, "other.example"},
		{inventory, "ferry-publish", []string{dst.Host + "/m", "--target", "-"}, 64, "needs a file"},
		{inventory, "ferry-pack", []string{t.TempDir(), "--target-strict"}, 64, "--target"},
		{inventory, "ferry-pack", []string{t.TempDir(), "--target", filepath.Join(t.TempDir(), "none")}, 65, "none"},
		{inventory, "ferry-fetch", []string{"--store", t.TempDir(), "--target-strict"}, 64, "--target"},
	} {
		r := try(t, tc.stdin, tc.name, tc.args...)
		if r.code != tc.code || !strings.Contains(r.stderr, tc.text) || r.stdout != "" {
			t.Errorf("%s %q: exit status %d, want %d; stderr should have %q:\n%s", tc.name, tc.args, r.code, tc.code, tc.text, r.stderr)
		}
	}
}
