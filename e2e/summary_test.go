package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/registry/registrytest"
)

// framesIn counts frames; each begins with one corner.
func framesIn(text string) int { return strings.Count(text, "╔") }

// rowsOf are the rows of the one frame in text by label; rows that go on are
// joined, and rows without a label are under "".
func rowsOf(t *testing.T, text string) map[string]string {
	t.Helper()
	if n := framesIn(text); n != 1 {
		t.Fatalf("%d frames, want one:\n%s", n, text)
	}
	rows := map[string]string{}
	label := ""
	for line := range strings.Lines(text[strings.Index(text, "╔"):]) {
		line = strings.TrimRight(line, "\n")
		if title, ok := strings.CutPrefix(line, "╔═ "); ok {
			rows["title"] = strings.TrimRight(title, " ═")
		}
		row, ok := strings.CutPrefix(line, "║ ")
		if !ok {
			label = ""
			continue
		}
		text := strings.Join(strings.Fields(row), " ")
		if !strings.HasPrefix(row, " ") {
			var rest string
			label, rest, _ = strings.Cut(row, "  ")
			text = strings.Join(strings.Fields(rest), " ")
		}
		rows[label] = strings.TrimSpace(rows[label] + " " + text)
	}
	return rows
}

// pullRows runs ferry-pull from src to disk and returns the rows of its summary.
// Exit statuses other than want fail the test.
func pullRows(t *testing.T, want int, src *registrytest.Server, disk string, flags ...string) map[string]string {
	t.Helper()
	return rowsOfPull(t, want, append([]string{disk, "--source", src.Host + "/deckhouse/ee"}, flags...)...)
}

func rowsOfPull(t *testing.T, want int, words ...string) map[string]string {
	t.Helper()
	r := try(t, "", "ferry-pull", append(words, "--insecure", "--progress", "none")...)
	if r.code != want || r.stdout != "" {
		t.Fatalf("exit status %d, want %d; stdout %q\n%s", r.code, want, r.stdout, r.stderr)
	}
	return rowsOf(t, r.stderr)
}

// size is a figure of the frame, computed apart from the code that writes it.
func size(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// filesBelow lists all files of dir.
func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func documentOf[S any, P contract.SpecOf[S]](t *testing.T, dir, name string) *contract.Document[S] {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return decode[S, P](t, string(text))
}

// S5.12.1, S5.12.3, S5.12.5, S9 row 93: a dry run is the pull's own list, with the pull's own
// reader; what it says of archives and of the network is what the pull does.
func TestDryRunTellsWhatThePullDoes(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Default())
	disk, documents := t.TempDir(), t.TempDir()
	planned := pullRows(t, 0, src, disk, "--dry-run", "--documents", documents, "-c", "1")
	plan := documentOf[contract.PlanSpec](t, documents, "plan.json").Spec
	src.Reset()
	real := rowsOfPull(t, 0, disk, "--plan", filepath.Join(documents, "plan.json"), "--documents", documents, "-c", "1")
	made := documentOf[contract.BundleSpec](t, disk, "bundle.json").Spec

	if diff := cmp.Diff(plan.Contents, made.Contents); diff != "" {
		t.Errorf("contents of Plan and Bundle (-plan +bundle):\n%s", diff)
	}
	var sizes []contract.ArchiveSize
	for _, a := range made.Archives {
		sizes = append(sizes, contract.ArchiveSize{Name: a.Name, Size: a.Size})
		var onDisk int64
		for _, f := range a.Files {
			info, err := os.Stat(filepath.Join(disk, f.Name))
			if err != nil {
				t.Fatal(err)
			}
			onDisk += info.Size()
		}
		if onDisk != a.Size {
			t.Errorf("%s has %d bytes on disk, not %d", a.Name, onDisk, a.Size)
		}
	}
	if diff := cmp.Diff(plan.Archives, sizes); diff != "" {
		t.Errorf("sizes of archives (-plan +bundle):\n%s", diff)
	}
	var received int64
	for _, r := range src.Requests() {
		if r.Status < 300 {
			received += r.BytesOut
		}
	}
	if want := size(received) + " of "; received == 0 || !strings.HasPrefix(planned["Download"], want) {
		t.Errorf("%d bytes came over the network, the plan said %q", received, planned["Download"])
	}
	// Every row of a component and of the bundle is the same in both frames.
	for _, label := range []string{"Edition", "Platform", "Installer", "Security", "Modules", "Packages", "Package versions", "Bundle", "Note", ""} {
		if planned[label] != real[label] {
			t.Errorf("%q: the plan says %q, the pull %q", label, planned[label], real[label])
		}
	}
	if planned["title"] != "Plan" || real["title"] != "Bundle" {
		t.Errorf("titles %q and %q", planned["title"], real["title"])
	}
}

// S5.12.2, S9 rows 52 and 93: a dry run leaves the cache, which the pull uses, and
// nothing else; documents where they are asked for.
func TestDryRunLeavesTheCacheAlone(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	disk, documents, temporary := t.TempDir(), t.TempDir(), t.TempDir()
	dry := func(flags ...string) {
		t.Helper()
		cmd := program(t, "ferry-pull", append([]string{disk, "--source", src.Host + "/deckhouse/ee", "--insecure", "--dry-run"}, flags...)...)
		cmd.Env = append(cmd.Env, "TMPDIR="+temporary)
		if r := finish(t, cmd); r.code != 0 {
			t.Fatalf("exit status %d\n%s", r.code, r.stderr)
		}
	}
	dry()
	for _, file := range filesBelow(t, disk) {
		if !strings.HasPrefix(file, ".tmp/store/") {
			t.Errorf("the dry run left %s", file)
		}
	}
	dry("--documents", documents)
	if diff := cmp.Diff([]string{"catalog.json", "plan.json", "selection.json"}, slices.Sorted(slices.Values(filesBelow(t, documents)))); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
	if left := filesBelow(t, temporary); len(left) > 0 {
		t.Errorf("the dry run left %v in the directory for temporary files", left)
	}
}

// S5.12.4: a dry run ends as the pull would end. What could not be packed is told
// before anything is downloaded.
func TestDryRunRefusesWhatThePullRefuses(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	other := packed(t, src.Host)
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "module-x.tar"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, dir string
		flags     []string
		want      int
		text      string
	}{
		{"another bundle", other, []string{"--no-modules", "-c", "1"}, 64, "holds another bundle"},
		{"another bundle, by force", other, []string{"--no-modules", "-c", "1", "--force"}, 0, ""},
		{"the same bundle", other, nil, 0, ""},
		{"foreign archives, by force", foreign, []string{"--force"}, 64, "did not put there"},
		{"too many chunks", t.TempDir(), []string{"-c", "10B"}, 64, "are the most"},
		{"policy", t.TempDir(), []string{"--deckhouse-tag", "v9.9.9"}, 3, "has no tag"},
		{"ambiguous", t.TempDir(), []string{"--deckhouse-tag", "v1", "--since-version", "v1"}, 64, "ambiguous"},
	} {
		files := func() []string {
			return slices.DeleteFunc(filesBelow(t, tc.dir), func(f string) bool { return strings.HasPrefix(f, ".tmp/") })
		}
		before := files()
		r := try(t, "", "ferry-pull", append([]string{tc.dir, "--source", src.Host + "/deckhouse/ee", "--insecure", "--dry-run"}, tc.flags...)...)
		if r.code != tc.want || !strings.Contains(r.stderr, tc.text) {
			t.Errorf("%s: exit status %d, want %d with %q\n%s", tc.name, r.code, tc.want, tc.text, r.stderr)
		}
		if after := files(); !slices.Equal(before, after) {
			t.Errorf("%s: there were %v, now %v", tc.name, before, after)
		}
		if frames := framesIn(r.stderr); (frames == 1) != (tc.want != 64) {
			t.Errorf("%s: %d frames with exit status %d (S2.1.5)", tc.name, frames, r.code)
		}
	}
}

// S2.7.1, S2.7.2, S2.7.3, S2.7.5, S2.7.6: of a pull, against what is known of the edition; S1.1.5: the edition in
// upper case.
func TestPullSummary(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Default())
	disk := t.TempDir()
	rows := pullRows(t, 0, src, disk, "--no-installer")
	for label, want := range map[string]string{
		"title":            "Bundle",
		"From":             regexp.QuoteMeta(src.Host + "/deckhouse/ee"),
		"To":               regexp.QuoteMeta(disk),
		"Edition":          "EE",
		"Platform":         `v1\.71\.1, v1\.70\.2, v1\.69\.2, v1\.69\.1; 5 channels; 5 51 images .* KiB attestations`,
		"Installer":        `skipped \(--no-installer\)`,
		"Security":         `4 of 4 databases 4 images .*`,
		"Modules":          `4 modules; 11 attestations 89 images .*`,
		"Packages":         `2 packages; 11 attestations 68 images .*`,
		"Package versions": `2 packages 3 images .*`,
		"d8 CLI":           `v[0-9.]+ 1 image .*`,
		"Plugins":          `3 plugins: 1 for modules, 1 for plugins, 1 for the 4 images .* platform`,
		"Bundle":           `13 archives, 13 files .*iB`,
		"Note":             `plugin db: v0\.9\.2 is passed over.*`,
		"State":            "the bundle is complete",
		"Elapsed":          `[0-9msh]+`,
	} {
		if got := rows[label]; !regexp.MustCompile("^(?:" + want + ")$").MatchString(got) {
			t.Errorf("%s: %q, want %s", label, got, want)
		}
	}
	if got := slices.Sorted(maps.Keys(rows)); len(got) != 17 { // with the archives, which have no label
		t.Errorf("rows %v", got)
	}
}

// S2.7.3, S2.7.7: what the source has not, and flags that change what a component is.
func TestPullSummaryOfOddSources(t *testing.T) {
	t.Parallel()
	opts := edition.Tiny()
	opts.NoSecurity = true
	src, _ := source(t, opts)
	rows := pullRows(t, 0, src, t.TempDir(), "--no-platform", "--modules-path-suffix=modules/", "--only-extra-images", "-i", "mod-00@>=1.0.0", "--verbose-summary")
	for label, want := range map[string]string{
		"Platform": "skipped (--no-platform)",
		"Security": "not pulled: the source has none",
	} {
		if rows[label] != want {
			t.Errorf("%s: %q, want %q", label, rows[label], want)
		}
	}
	if got := rows["Modules"]; !strings.Contains(got, "1 module;") || !strings.Contains(got, "extra images only") || !strings.Contains(got, "mod-00: v1.2.0") {
		t.Errorf("modules: %q, want one with its versions, extra images only", got)
	}
}

// S2.7.4: modules from elsewhere are told in a block of their own, in yellow,
// where at least one is pulled.
func TestPullSummaryOfModulesElsewhere(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	flags := []string{"--source", src.Host + "/deckhouse", "--insecure", "--no-platform", "--no-packages", "--no-security-db", "--no-installer"}
	cmd := program(t, "ferry-pull", append(flags, t.TempDir(), "--modules-path-suffix", "ee/modules")...)
	cmd.Env = append(cmd.Env, "FORCE_COLOR=1")
	r := finish(t, cmd)
	if r.code != 0 || !regexp.MustCompile(`║ \x1b\[33mModules +the modules come from `).MatchString(r.stderr) {
		t.Errorf("exit status %d, no yellow block\n%q", r.code, r.stderr)
	}
	r = try(t, "", "ferry-pull", append(flags, t.TempDir(), "--modules-path-suffix", "ee/none")...)
	if r.code != 0 || strings.Contains(r.stderr, "the modules come from") {
		t.Errorf("exit status %d; nothing is pulled from elsewhere\n%s", r.code, r.stderr)
	}
}

// S2.1.5, S2.7.8: one frame at the end of a pull that fails or is interrupted, of
// the stage that failed, with what is known by then.
func TestFailedPullSummary(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		fault registrytest.Fault
		code  int
		want  map[string]string
	}{
		{"discover", registrytest.Fault{Kind: registrytest.KindTags, Status: 403, Times: registrytest.Always}, 77,
			map[string]string{"title": "Discovery failed", "Modules": ""}},
		{"fetch", registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET", Skip: 40, Status: 403, Times: registrytest.Always}, 77,
			map[string]string{"title": "Download failed", "Modules": "not all pulled: 1 module"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src, _ := source(t, edition.Tiny())
			src.Inject(tc.fault)
			rows := pullRows(t, tc.code, src, t.TempDir())
			for label, want := range tc.want {
				if got := rows[label]; !strings.HasPrefix(got, want) || (got == "") != (want == "") {
					t.Errorf("%s: %q, want %q", label, got, want)
				}
			}
			if got := rows["State"]; !strings.Contains(got, "exit status 77") || !strings.Contains(got, "What is finished stays") {
				t.Errorf("state %q", got)
			}
		})
	}
}

// S2.1.5: an interrupted pull sums up too.
func TestInterruptedPullSummary(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	src.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET", Skip: 20, Stall: true, Times: registrytest.Always})
	cmd := program(t, "ferry-pull", t.TempDir(), "--source", src.Host+"/deckhouse/ee", "--insecure", "--progress", "none")
	ended := make(chan result, 1)
	go func() { ended <- finish(t, cmd) }()
	for n := 0; n < 20; {
		n = src.Count(registrytest.KindBlob, "GET")
		time.Sleep(time.Millisecond) // until the stall; nothing is asserted about time
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r := <-ended
	rows := rowsOf(t, r.stderr)
	if r.code != 143 || rows["title"] != "Download failed" || !strings.HasSuffix(rows["State"], "the same command continues.") {
		t.Errorf("exit status %d, rows %v", r.code, rows)
	}
}

// S2.7.1, S2.7.3, S2.7.5 of a push: what is pushed and what is not present, of a bundle of ours
// and of one that d8 made, whose archives alone tell; exactly one frame whoever
// fails, and none where the command line is refused (S2.1.5).
func TestPushSummary(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	disk := t.TempDir()
	run(t, "", "ferry-pull", disk, "--source", src.Host+"/deckhouse/ee", "--insecure", "--no-security-db")
	damaged := copyDir(t, disk)
	if err := os.Truncate(filepath.Join(damaged, "platform.tar"), 1000); err != nil {
		t.Fatal(err)
	}
	target := registrytest.Start(t, registrytest.New())
	denied := registrytest.Start(t, registrytest.New(registrytest.WithBasicAuth("user", "secret")))
	golden := filepath.Join("testdata", "golden", "d8-default")
	for _, tc := range []struct {
		name  string
		words []string
		code  int
		want  map[string]string // nil: no frame
	}{
		{"ours", []string{disk, target.Host + "/a"}, 0, map[string]string{
			"title": "Publication", "To": target.Host + "/a", "Edition": "EE", "Platform": "pushed: v1.", "Installer": "pushed: latest",
			"Security": "not present", "Modules": "pushed: 1 module", "Packages": "not present", "State": "",
		}},
		{"again", []string{disk, target.Host + "/a"}, 0, map[string]string{"Sent": "0 tags; 0 blobs, 0 B; 0 blobs were mounted", "Modules": "pushed: 1 module"}},
		{"d8's", []string{golden, target.Host + "/b"}, 0, map[string]string{
			"Platform": "pushed: v1.", "Security": "pushed: 4 of 4 databases", "Modules": "pushed: ", "Plugins": "pushed: ",
		}},
		{"verbose", []string{golden, target.Host + "/b", "--verbose-summary"}, 0, map[string]string{"Security": "pushed: 4 of 4 databases", "title": "Publication"}},
		{"damaged", []string{damaged, target.Host + "/c"}, 65, map[string]string{"title": "Verification failed", "Modules": "not verified: 1 module", "State": "failed with exit status 65"}},
		{"denied", []string{disk, denied.Host + "/a"}, 77, map[string]string{"title": "Publication failed", "Modules": "not all pushed: 1 module", "State": "failed with exit status 77"}},
		{"refused", []string{disk, target.Host}, 64, nil},
		{"unknown flag", []string{disk, target.Host + "/a", "--no-such-flag"}, 64, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := try(t, "", "ferry-push", append(tc.words, "--insecure", "--progress", "none")...)
			if r.code != tc.code {
				t.Fatalf("exit status %d, want %d\n%s", r.code, tc.code, r.stderr)
			}
			if tc.want == nil {
				if n := framesIn(r.stderr); n != 0 {
					t.Errorf("%d frames, want none\n%s", n, r.stderr)
				}
				return
			}
			rows := rowsOf(t, r.stderr)
			for label, want := range tc.want {
				if got := rows[label]; !strings.HasPrefix(got, want) {
					t.Errorf("%s: %q, want %q", label, got, want)
				}
			}
			if tc.name == "verbose" && !regexp.MustCompile(`mod[a-z0-9-]*: v|[a-z-]+: v[0-9]`).MatchString(rows["Modules"]) {
				t.Errorf("modules are not listed: %q", rows["Modules"])
			}
		})
	}
}

// A receipt is the same after a second push, its overview too.
func TestReceiptHasTheOverview(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	disk := packed(t, src.Host)
	target := registrytest.Start(t, registrytest.New())
	first := run(t, "", "ferry-push", disk, target.Host+"/a", "--insecure")
	second := run(t, "", "ferry-push", disk, target.Host+"/a", "--insecure")
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the second receipt differs (-first +second):\n%s", diff)
	}
	want := documentOf[contract.BundleSpec](t, disk, "bundle.json").Spec.Contents.Overview
	got := decode[contract.ReceiptSpec](t, first).Spec.Overview
	if diff := cmp.Diff(want, got); diff != "" || len(got.Members) == 0 {
		t.Errorf("overview (-bundle +receipt):\n%s", diff)
	}
}
