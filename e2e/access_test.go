package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/e2e/servers"
	"ferry/pkg/registry/registrytest"
)

// isTrivyManifest is a request that puts a manifest of a vulnerability database.
func isTrivyManifest(req *http.Request) bool {
	return strings.Contains(req.URL.Path, "/security/trivy") && strings.Contains(req.URL.Path, "/manifests/")
}

// S7.3.2, S9 rows 44 and 90: what a real registry keeps on its disk after a
// publish has no trace of the access check, and no unfinished upload.
func TestAccessCheckLeavesNothing(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Tiny())
	disk := packed(t, src.Host)
	host, root := servers.DistributionIn(t)
	run(t, "", "ferry-push", disk, host+"/mirror/ee", "--insecure")
	want := map[string]bool{}
	landing := func(name string) string { // S7.2.3
		path, _, _ := strings.Cut(name, ":")
		if path == "installer" || path == "deckhouse-cli" || strings.HasPrefix(path, "deckhouse-cli/") {
			return "mirror/" + path
		}
		return strings.TrimSuffix("mirror/ee/"+path, "/")
	}
	for name := range made.Expected {
		want[landing(name)] = true
	}
	for _, name := range made.Discovery {
		want[landing(name)] = true
	}
	uploads := 0
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		switch filepath.Base(path) {
		case "_uploads":
			// distribution writes the hash of nothing into the directory of an
			// upload that it has removed; one that can go on has this file.
			left, err := filepath.Glob(filepath.Join(path, "*", "startedat"))
			uploads += len(left)
			return err
		case "_manifests":
			repo, _ := filepath.Rel(filepath.Join(root, "docker", "registry", "v2", "repositories"), filepath.Dir(path))
			if !want[filepath.ToSlash(repo)] {
				t.Errorf("the repository %s was made", repo)
			}
			delete(want, filepath.ToSlash(repo))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if uploads > 0 || len(want) > 0 {
		t.Errorf("%d uploads were left, and these repositories are not there: %v", uploads, want)
	}
}

// S2.3.5, S7.3.2: MIRROR_BYPASS_ACCESS_CHECKS=1, or the flag, goes on after a refused
// check with a warning; without it nothing is sent.
func TestBypassAccessChecks(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Tiny())
	disk := packed(t, src.Host)
	target := registrytest.Start(t, registrytest.New())
	refuse := func() {
		target.Inject(registrytest.Fault{Method: "POST", Kind: registrytest.KindUpload, Repository: "mirror", Status: 403})
	}
	refuse()
	r := try(t, "", "ferry-push", disk, target.Host+"/mirror", "--insecure")
	if r.code != 77 || !strings.Contains(r.stderr, "access check") || !strings.Contains(r.stderr, target.Host+"/mirror") {
		t.Errorf("exit status %d\n%s", r.code, r.stderr)
	}
	if n := len(target.Writes()); n != 1 {
		t.Errorf("%d requests that write, want the refused check alone", n)
	}
	refuse()
	r = shell(t, disk, "ferry-push . "+target.Host+"/mirror --insecure", "MIRROR_BYPASS_ACCESS_CHECKS=1")
	if r.code != 0 || !strings.Contains(r.stderr, "warn: the access check failed") {
		t.Errorf("exit status %d\n%s", r.code, r.stderr)
	}
	assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
	again := registrytest.Start(t, registrytest.New())
	target = again
	refuse()
	run(t, run(t, "", "ferry-unpack", disk), "ferry-publish", again.Host+"/mirror", "--insecure", "--bypass-access-checks")
}

// S2.3.1, S2.3.2, S9 rows 28, 61 and 62: D8_MIRROR_TIMEOUT. An expired deadline fails the
// pull and leaves no bundle; 0 is no limit, in a push too; what is no duration is
// ignored with a warning.
func TestTimeoutVariable(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	disk := t.TempDir()
	flags := " --source " + src.Host + "/deckhouse/ee --insecure"
	src.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET", Repository: "deckhouse/ee/modules/mod-00", Stall: true, Times: registrytest.Always})
	r := shell(t, disk, "ferry-pull ."+flags, "D8_MIRROR_TIMEOUT=1s")
	if r.code != 75 || !strings.Contains(r.stderr, "deadline") || !strings.Contains(r.stderr, "mod-00") {
		t.Errorf("exit status %d, want 75\n%s", r.code, r.stderr)
	}
	if left, err := filepath.Glob(filepath.Join(disk, "*.[jt][sa]*")); err != nil || len(left) > 0 {
		t.Errorf("there is a bundle, or a part of it: %v %v", left, err)
	}
	src.Heal()
	src.Release()
	r = shell(t, disk, "ferry-pull ."+flags, "D8_MIRROR_TIMEOUT=soon")
	if r.code != 0 || !strings.Contains(r.stderr, "D8_MIRROR_TIMEOUT") || !strings.Contains(r.stderr, "ignored") {
		t.Errorf("exit status %d\n%s", r.code, r.stderr)
	}
	target := registrytest.Start(t, registrytest.New())
	for _, none := range []string{"0", "0s", "-1m", ""} {
		r := shell(t, disk, "ferry-push . "+target.Host+"/mirror --insecure", "D8_MIRROR_TIMEOUT="+none)
		if r.code != 0 || strings.Contains(r.stderr, "D8_MIRROR_TIMEOUT") {
			t.Errorf("%q: exit status %d\n%s", none, r.code, r.stderr)
		}
	}
}

// S2.3.3: MIRROR_DEBUG_LOG from 1 on logs each request; what is no number is told
// and means 0; the command line goes before it.
func TestDebugLogVariable(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	disk := packed(t, src.Host)
	target := registrytest.Start(t, registrytest.New())
	for _, tc := range []struct {
		value, flags   string
		debug, message bool
	}{
		{"", "", false, false},
		{"0", "", false, false},
		{"1", "", true, false},
		{"4", "", true, false},
		{"4", "--log-level=warn", false, false},
		{"-1", "", false, true},
		{"all", "", false, true},
	} {
		r := shell(t, disk, "ferry-push . "+target.Host+"/mirror --insecure "+tc.flags, "MIRROR_DEBUG_LOG="+tc.value)
		if r.code != 0 || strings.Contains(r.stderr, "debug: request") != tc.debug || strings.Contains(r.stderr, "MIRROR_DEBUG_LOG") != tc.message {
			t.Errorf("%q %s: exit status %d, want requests %v and a message %v\n%.2000s", tc.value, tc.flags, r.code, tc.debug, tc.message, r.stderr)
		}
	}
}
