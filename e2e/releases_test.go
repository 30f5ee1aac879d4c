package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/pkg/registry/registrytest"
)

// described lists the releases of a deckhousereleases.yaml in its order; nil when
// there is no such file.
func described(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "  name: "); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// S5.4.6, S6.8.1, S9 rows 29, 30 and 94: the releases of a bundle are described in it, before
// anything large is downloaded, in order, and without those that are broken.
func TestPullDescribesReleases(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Default())
	disk := t.TempDir()
	file := filepath.Join(disk, "deckhousereleases.yaml")
	pull := []string{disk, "--source", src.Host + "/deckhouse/ee", "--insecure", "--no-modules", "--no-packages", "--no-security-db"}
	// The version that nobody's channel names has lost its log.
	src.PutImage("deckhouse/ee/release-channel", "v1.69.2", []byte("no archive"))

	src.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Repository: "deckhouse/ee/install", Status: 403, Times: registrytest.Always})
	r := try(t, "", "ferry-pull", pull...)
	if r.code != 77 {
		t.Fatalf("exit status %d, want 77\n%s", r.code, r.stderr)
	}
	want := []string{"v1.69.1", "v1.70.2", "v1.71.1"}
	if diff := cmp.Diff(want, described(t, file)); diff != "" {
		t.Errorf("releases after a download that failed (-want +got):\n%s", diff)
	}
	if !strings.Contains(r.stderr, "release v1.69.2") {
		t.Errorf("no word about the broken release:\n%s", r.stderr)
	}
	src.Heal()
	run(t, "", "ferry-pull", pull...)
	if diff := cmp.Diff(want, described(t, file)); diff != "" {
		t.Errorf("releases of the bundle (-want +got):\n%s", diff)
	}
	run(t, "", "ferry-unpack", disk)

	// S6.8.5: what a pinned pull puts in its place is described no more (S3.7.6).
	run(t, "", "ferry-pull", append(pull, "--force", "--deckhouse-tag", "v1.70.2")...)
	if got := described(t, file); got != nil {
		t.Errorf("the bundle of one pinned tag describes %v", got)
	}
	if err := os.WriteFile(file, []byte("mine: true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r = try(t, "", "ferry-pull", append(pull, "--force", "--deckhouse-tag", "v1.70.2")...)
	if text, err := os.ReadFile(file); r.code != 0 || err != nil || string(text) != "mine: true\n" {
		t.Errorf("exit status %d, a file of the user's: %q, %v", r.code, text, err)
	}
}

// S6.8.4: a Catalog of another policy lacks files; each release without is named.
// A Selection that is kept has its releases written all the same.
func TestSelectReleases(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Default())
	dir := t.TempDir()
	file := filepath.Join(dir, "releases.yaml")
	catalog := run(t, "", "ferry-discover", discoverArgs(src.Host)...)
	selected := func(flags ...string) result {
		t.Helper()
		r := try(t, catalog, "ferry-select", append(flags, "--releases", file)...)
		if r.code != 0 {
			t.Fatalf("exit status %d\n%s", r.code, r.stderr)
		}
		return r
	}
	r := selected("--include-platform", ">=1.68.1 <1.70.0")
	if diff := cmp.Diff([]string{"v1.69.1", "v1.69.2"}, described(t, file)); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
	for _, name := range []string{"v1.68.1", "v1.68.2"} { // the anchor and the latest patch
		if !strings.Contains(r.stderr, "release "+name+": left out of the list of releases") {
			t.Errorf("%s, which discover has not read, is not named:\n%s", name, r.stderr)
		}
	}
	if strings.Count(r.stderr, "left out of the list of releases") != 2 {
		t.Errorf("releases that discover has read are named:\n%s", r.stderr)
	}
	kept := filepath.Join(dir, "selection.json")
	selected("--keep", kept)
	all := described(t, file)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	selected("--keep", kept)
	if diff := cmp.Diff(all, described(t, file)); diff != "" || len(all) != 4 {
		t.Errorf("releases beside a kept Selection (-first +second):\n%s", diff)
	}
	// No document without its releases, and no releases without a document.
	if r := try(t, catalog, "ferry-select", "--releases", filepath.Join(dir, "no", "such", "dir", "f")); r.code != 74 || r.stdout != "" {
		t.Errorf("releases that cannot be written: exit status %d, %d bytes of a document", r.code, len(r.stdout))
	}
	if r := try(t, catalog, "ferry-select", "--releases", file, "--include-platform", ">=9"); r.code != 3 || len(described(t, file)) != 4 {
		t.Errorf("refused: exit status %d, releases %v", r.code, described(t, file))
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	// The platform is fine, something else is not.
	if r := try(t, catalog, "ferry-select", "--releases", file, "--include-module", "no-such"); r.code != 3 || described(t, file) != nil {
		t.Errorf("refused: exit status %d, releases %v", r.code, described(t, file))
	}
	generic := run(t, src.Host+"/deckhouse/ee:v1.70.1\n", "ferry-discover", "generic", "--insecure")
	if r := try(t, generic, "ferry-select", "--releases", file); r.code != 64 {
		t.Errorf("a list of images: exit status %d", r.code)
	}
}
