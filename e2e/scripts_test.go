package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// What d8's flags become: the scripts route, in every spelling that d8 accepts.
//
// S2.4.5.
func TestPullFlags(t *testing.T) {
	t.Parallel()
	opts := edition.Tiny()
	opts.Packages = 2
	src, _ := source(t, opts)
	for _, tc := range []struct {
		name  string
		flags []string
		want  []string // archives
	}{
		{"default", nil, []string{"deckhouse-cli.tar", "installer.tar", "module-mod-00.tar", "package-pkg-00.tar", "package-pkg-01.tar", "package-versions.tar", "platform.tar", "plugin-db.tar", "plugin-mgr.tar", "plugin-system.tar", "security.tar"}},
		{"switches", []string{"--no-platform", "--no_modules", "--no_packages", "--no-installer=true"}, []string{"deckhouse-cli.tar", "package-versions.tar", "security.tar"}},
		{"switched off", []string{"--no-platform=false", "--no-security-db", "--no-modules", "--exclude-package", "pkg-00", "--no-packages=false", "--no-deckhouse-cli", "--no-plugins"}, []string{"installer.tar", "package-pkg-01.tar", "package-versions.tar", "platform.tar"}},
		{"plugins asked for", []string{"--no-platform", "--no-modules", "--no-packages", "--no-security-db", "--no-installer", "--include-plugin", "standalone", "--include_plugin=mgr@=v1.0.0", "--deckhouse-cli-tag", "v0.9.0"},
			[]string{"deckhouse-cli.tar", "package-versions.tar", "plugin-db.tar", "plugin-mgr.tar", "plugin-standalone.tar"}},
		{"short flags", []string{"-imod-00", "--no-deckhouse-cli", "--no-plugins", "--no-platform", "--no-packages", "--no-security-db", "--no-installer", "-c", "1"}, []string{"module-mod-00.tar.0000.chunk", "package-versions.tar.0000.chunk"}},
		{"includes win", []string{"--no-deckhouse-cli", "--no-plugins", "--no-modules", "-i", "mod-00", "--no-packages", "--include-package=pkg-01@=v1.1.0", "--no-platform", "--no-security-db", "--no-installer"}, []string{"module-mod-00.tar", "package-pkg-01.tar", "package-versions.tar"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			disk := t.TempDir()
			run(t, "", "ferry-pull", append([]string{"--source=" + src.Host + "/deckhouse/ee", "--insecure", disk}, tc.flags...)...)
			var got []string
			for name := range filesOf(t, disk) {
				if strings.HasSuffix(name, ".tar") || strings.HasSuffix(name, ".chunk") {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tc.want) {
				t.Errorf("archives %v, want %v", got, tc.want)
			}
			if _, err := os.Stat(filepath.Join(disk, ".tmp", "store")); err == nil {
				t.Error("the store was left beside the finished bundle")
			}
		})
	}
}

// What comes later, or cannot be, says so and exits with 64, before any work.
func TestPullRefusesFlags(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{
		{"--include-plugin"}, {"--deckhouse-cli-tag"},
		{"--gost-digest=perhaps"}, {"--dry-run=perhaps"}, {"--plan", "p.json", "--no-modules"},
		{"--release", "v1"}, {"--min-version", "v1"}, // S2.2.2
		{"--no-such-flag"}, {"--source"}, {"--force=perhaps"}, {"another-directory"},
	} {
		disk := t.TempDir()
		r := try(t, "", "ferry-pull", append([]string{disk}, flags...)...)
		if r.code != 64 || !strings.Contains(r.stderr, "ferry-pull: error:") || r.stdout != "" {
			t.Errorf("%v: exit status %d, stdout %q, stderr %q", flags, r.code, r.stdout, r.stderr)
		}
		if entries, err := os.ReadDir(disk); err != nil || len(entries) > 0 {
			t.Errorf("%v: work was begun: %v %v", flags, entries, err)
		}
	}
}

// S2.4: what cannot be carried out is refused before the first request, and
// nothing is begun.
func TestPullValidation(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	from := "--source=" + src.Host + "/deckhouse/ee"
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"full/.hidden", "file", "closed"} {
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		row  string
		args []string
		code int
		text string
	}{
		{"S2.4.1", []string{at("new"), "--source", src.Host}, 64, "--source"},
		{"S2.4.1", []string{at("new"), "--source", src.Host + "/"}, 64, src.Host + "/deckhouse/ee"},
		{"S2.4.1", []string{at("new"), "--source", src.Host + "/Deckhouse/EE"}, 64, "capital letters"},
		{"S2.4.2", []string{at("new"), from, "--deckhouse-tag=v1.70.0", "--since-version=1.64"}, 64, "ambiguous"},
		{"S2.4.2", []string{at("new"), from, "--deckhouse-tag=v1.70.0", "--include-platform=1.64"}, 64, "ambiguous"},
		{"S2.4.2", []string{at("new"), from, "--include-platform=1.64", "--since-version=1.64"}, 64, "ambiguous"},
		{"S2.4.3", []string{at("new"), from, "--since-version=bob"}, 64, "--since-version"},
		{"S2.4.4", []string{from, "--include-platform", at("new"), at("new")}, 64, "looks like a path"},
		{"S2.4.8, none", []string{from}, 64, "no directory"},
		{"S2.4.8, two", []string{at("new"), at("newer"), from}, 64, "two"},
		{"S2.4.8, a file", []string{at("file"), from}, 64, "not a directory"},
		{"S2.4.8, not empty", []string{at("full"), from}, 64, ".hidden"},
		{"S2.4.8, cannot be made", []string{at("file/below"), from}, 74, "cannot be made"},
		{"S2.4.9, cannot be made", []string{at("new"), from, "--tmp-dir", at("file/below")}, 74, "cannot be made"},
		{"S2.4.10", []string{at("new"), from, "-c", "-1"}, 64, "chunk size"},
		{"S2.4.10", []string{at("new"), from, "--images-bundle-chunk-size=huge"}, 64, "chunk size"},
		{"S2.4.11", []string{at("new"), from, "-i", "a", "-e", "b"}, 64, "ambiguous"},
		{"S2.4.11", []string{at("new"), from, "--include-package=a", "--exclude-package=b"}, 64, "ambiguous"},
		{"S2.4.12", []string{at("new"), from, "-i", "mod-00@"}, 64, "shell took"},
		{"S2.4.12", []string{at("new"), from, "-e", "mod-00@=>1"}, 64, "--exclude-module"},
	} {
		r := try(t, "", "ferry-pull", append(tc.args, "--insecure")...)
		if r.code != tc.code || !strings.Contains(r.stderr, tc.text) {
			t.Errorf("%s: %v: exit status %d, want %d with %q\n%s", tc.row, tc.args, r.code, tc.code, tc.text, r.stderr)
		}
	}
	if n := len(src.Requests()); n > 0 {
		t.Errorf("the source was asked %d times", n)
	}
}

// S2.4.8: a pull that failed in any stage, or while it packed, goes on without
// --force: whatever it left in the directory is its own.
func TestPullGoesOnFromEveryStage(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	flags := []string{"--source=" + src.Host + "/deckhouse/ee", "--insecure", "--retries=0"}
	for name, breakIt := range map[string]func(disk string) func(){
		"discover": func(string) func() {
			src.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Skip: 3, Status: 403, Times: registrytest.Always})
			return src.Heal
		},
		"fetch": func(string) func() {
			src.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET", Skip: 30, Status: 403, Times: registrytest.Always})
			return src.Heal
		},
		"pack": func(disk string) func() {
			// Where an archive belongs there is a directory: not to be written.
			if err := os.MkdirAll(filepath.Join(disk, ".tmp"), 0o755); err != nil {
				t.Fatal(err)
			}
			blocked := filepath.Join(disk, "security.tar")
			src.Inject(registrytest.Fault{Kind: registrytest.KindTags, Match: func(*http.Request) bool {
				_ = os.Mkdir(blocked, 0o755)
				return false
			}})
			return func() { src.Heal(); os.Remove(blocked) }
		},
	} {
		disk := t.TempDir()
		heal := breakIt(disk)
		r := try(t, "", "ferry-pull", append([]string{disk}, flags...)...)
		if r.code == 0 || r.code == 64 && name != "pack" {
			t.Errorf("%s: exit status %d: the failure that is meant did not come\n%s", name, r.code, r.stderr)
		}
		left, err := os.ReadDir(disk)
		if err != nil || len(left) == 0 {
			t.Errorf("%s: nothing was left to go on from: %v", name, err)
		}
		heal()
		run(t, "", "ferry-pull", append([]string{disk}, flags...)...)
		run(t, "", "ferry-unpack", disk)
	}
}

// S2.4.8: what may stand in the bundle's directory without --force: what an
// earlier run left, what the flags name, and what a fresh medium has.
func TestPullIntoWhatIsThere(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	few := []string{"--source=" + src.Host + "/deckhouse/ee", "--insecure", "--no-platform", "--no-modules", "--no-security-db"}
	for _, name := range []string{".tmp", "lost+found", "work", "work/documents"} {
		disk := t.TempDir()
		if err := os.MkdirAll(filepath.Join(disk, name), 0o755); err != nil {
			t.Fatal(err)
		}
		args := append([]string{disk}, few...)
		if strings.HasPrefix(name, "work") {
			if r := try(t, "", "ferry-pull", args...); r.code != 64 {
				t.Errorf("%s: exit status %d without a flag that names it", name, r.code)
			}
			args = append(args, "--tmp-dir", filepath.Join(disk, "work"))
		}
		run(t, "", "ferry-pull", args...)
		run(t, "", "ferry-pull", args...) // and again, into the finished bundle
	}
	disk := t.TempDir()
	if err := os.WriteFile(filepath.Join(disk, "notes.txt"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "", "ferry-pull", append([]string{disk, "--force"}, few...)...)
	if _, err := os.Stat(filepath.Join(disk, "notes.txt")); err != nil {
		t.Errorf("--force removed what is not ours: %v", err)
	}
}

// S9 rows 52, 55 and 82: nothing that is not ours is removed, and foreign
// archives are noticed before the download.
//
// S6.9.3, S7.9.
func TestPullLeavesForeignFilesAlone(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	disk, precious := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(precious, "store"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(precious, "store", "thesis.txt"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--source", src.Host + "/deckhouse/ee", "--insecure", disk}
	if r := try(t, "", "ferry-pull", append(flags, "--tmp-dir", precious, "--no-pull-resume")...); r.code != 64 {
		t.Errorf("exit status %d for a directory that is no store\n%s", r.code, r.stderr)
	}
	if _, err := os.Stat(filepath.Join(precious, "store", "thesis.txt")); err != nil {
		t.Errorf("a file of the user's is gone: %v", err)
	}
	if err := os.WriteFile(filepath.Join(disk, "platform.tar"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	src.Reset()
	if r := try(t, "", "ferry-pull", flags...); r.code != 64 || len(src.Requests()) > 0 {
		t.Errorf("exit status %d and %d requests for a directory with foreign archives\n%s", r.code, len(src.Requests()), r.stderr)
	}
	run(t, "", "ferry-pull", append(flags, "--force")...)
	run(t, "", "ferry-unpack", disk)
}

// A pull that failed goes on: what is in the store is not asked for again.
//
// S6.9.1, S6.9.2, S9 row 51.
func TestPullContinues(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	disk := t.TempDir()
	flags := []string{disk, "--source", src.Host + "/deckhouse/ee", "--insecure"}
	have := refusedAfter(t, src, filepath.Join(disk, ".tmp", "store"), "ferry-pull", flags...)
	run(t, "", "ferry-pull", flags...)
	for _, r := range src.Requests() {
		if r.Kind == registrytest.KindBlob && have[r.Reference] {
			t.Errorf("blob %s of %s was requested again", r.Reference, r.Repository)
		}
	}
}

// S7.2.3: below a target that ends in an edition, what is shared by all editions
// goes to the parent. The bundle is one of d8's: it has plugins too.
//
// S9 row 50.
func TestPushEditionSplit(t *testing.T) {
	t.Parallel()
	tags, discovery := recorded(t, "d8-default")
	for _, name := range discovery {
		tags[name] = oci.NewPlaceholder().Descriptor.Digest
	}
	for _, tc := range []struct{ scheme, path, root, shared string }{
		{"", "mirror/ee", "mirror/ee", "mirror"},
		{"", "mirror/ee/", "mirror/ee", "mirror"},
		{"http://", "a/mirror/se-plus/", "a/mirror/se-plus", "a/mirror"},
		{"", "ee", "ee", "ee"}, // no parent
		{"", "mirror/ee-mirror", "mirror/ee-mirror", "mirror/ee-mirror"},
		{"", "ee/mirror", "ee/mirror", "ee/mirror"},
	} {
		t.Run(tc.scheme+tc.path, func(t *testing.T) {
			want := map[string]oci.Digest{}
			for name, digest := range tags {
				root := tc.root
				if strings.HasPrefix(name, "installer:") || strings.HasPrefix(name, "deckhouse-cli/") {
					root = tc.shared
				}
				want[strings.Replace(root+"/"+name, "/:", ":", 1)] = digest
			}
			target := registrytest.Start(t, registrytest.New())
			out := run(t, "", "ferry-push", filepath.Join("testdata", "golden", "d8-default"), tc.scheme+target.Host+"/"+tc.path, "--insecure")
			if diff := cmp.Diff(want, target.Tags()); diff != "" {
				t.Errorf("tags at the target (-want +got):\n%s", diff)
			}
			receipt := decode[contract.ReceiptSpec](t, out).Spec
			if receipt.Target != target.Host+"/"+tc.root {
				t.Errorf("the receipt is of %s, want the root", receipt.Target)
			}
			listed := map[string]oci.Digest{}
			for _, tag := range receipt.Tags {
				listed[strings.TrimPrefix(tag.Repository, target.Host+"/")+":"+tag.Tag] = tag.Digest
			}
			if diff := cmp.Diff(want, listed); diff != "" {
				t.Errorf("tags of the receipt (-want +got):\n%s", diff)
			}
		})
	}
}

// A target that ends in an edition is a source like the vendor's: all that was
// pushed there can be pulled from there, the installer included (S1.1.1), also
// where the edition has no parent (S1.1.3, S9 row 91).
func TestPullFromWhatWasPushed(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Tiny())
	first := t.TempDir()
	run(t, "", "ferry-pull", first, "--source", src.Host+"/deckhouse/ee", "--insecure")
	for _, root := range []string{"mirror/ee", "ee"} {
		t.Run(root, func(t *testing.T) {
			middle, target := registrytest.Start(t, registrytest.New()), registrytest.Start(t, registrytest.New())
			second := t.TempDir()
			run(t, "", "ferry-push", first, middle.Host+"/"+root, "--insecure")
			run(t, "", "ferry-pull", second, "--source", middle.Host+"/"+root, "--insecure")
			run(t, "", "ferry-push", second, target.Host+"/mirror", "--insecure")
			assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
		})
	}
}

// The exit status of a push is that of the stage that failed, not of the one
// that only missed its other end.
//
// S2.5, S7.1.2, S9 row 8.
func TestPushExitStatus(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	disk := packed(t, src.Host)
	denied := registrytest.Start(t, registrytest.New(registrytest.WithBasicAuth("user", "secret")))
	damaged := copyDir(t, disk)
	if err := os.Truncate(filepath.Join(damaged, "platform.tar"), 1024); err != nil {
		t.Fatal(err)
	}
	target := registrytest.Start(t, registrytest.New())
	for _, tc := range []struct {
		name string
		args []string
		want int
	}{
		{"no registry", []string{disk}, 64},
		{"S2.5.1, nothing", nil, 64},
		{"S2.5.1, three words", []string{disk, disk, target.Host + "/m"}, 64},
		{"S2.5.1, the registry comes last", []string{target.Host + "/m", disk}, 64},
		{"S7.2.1, schemes mean nothing", []string{"--file", filepath.Join(disk, "security.tar"), "http://https://" + target.Host + "/m/"}, 0},
		{"S7.2.1, empty", []string{disk, "https://"}, 64},
		{"S7.2.1, too long", []string{disk, target.Host + "/" + strings.Repeat("a", 255)}, 64},
		{"S7.2.1, capital letters", []string{disk, target.Host + "/Mirror"}, 64},
		{"S7.2.1, registry without a path", []string{disk, target.Host}, 64},
		{"no archives", []string{t.TempDir(), target.Host + "/m"}, 64},
		{"damaged archive", []string{damaged, target.Host + "/m"}, 65},
		{"credentials", []string{disk, denied.Host + "/m"}, 77},
		{"S2.5.2, password without login", []string{disk, target.Host + "/m", "-p", "x"}, 64},
		{"one archive", []string{"--file", filepath.Join(disk, "security.tar"), target.Host + "/m"}, 0},
		{"login", []string{disk, denied.Host + "/m", "--registry-login", "user", "-psecret"}, 0},
	} {
		if r := try(t, "", "ferry-push", append(tc.args, "--insecure")...); r.code != tc.want {
			t.Errorf("%s: exit status %d, want %d\n%s", tc.name, r.code, tc.want, r.stderr)
		}
	}
}

// SIGTERM to the script alone ends the stage that runs, and nothing goes on
// without it.
//
// S5.6.13, S9 row 84.
func TestPullTerminated(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	src.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET", Skip: 20, Stall: true, Times: registrytest.Always})
	cmd := program(t, "ferry-pull", t.TempDir(), "--source", src.Host+"/deckhouse/ee", "--insecure")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 20; {
		n = src.Count(registrytest.KindBlob, "GET")
		time.Sleep(time.Millisecond) // until the stall; nothing is asserted about time
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 143 {
		t.Errorf("exit status %d, want 143", code)
	}
	if err := syscall.Kill(-cmd.Process.Pid, 0); err == nil {
		t.Error("a stage still runs")
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}

// S7.5.3, S9 row 89: what a directory is called, and where it lies, means
// nothing.
func TestPushFromAnOddDirectory(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Tiny())
	target := registrytest.Start(t, registrytest.New())
	dir := t.TempDir()
	r := shell(t, dir, `
		ferry-pull module-mod-00/module-x --source "$SOURCE/deckhouse/ee" --insecure
		cd module-mod-00
		ferry-push module-x "$TARGET/mirror" --insecure --tmp-dir ./module-tmp/ >/dev/null
	`, "SOURCE="+src.Host, "TARGET="+target.Host)
	if r.code != 0 {
		t.Fatalf("exit status %d\n%s", r.code, r.stderr)
	}
	assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
}
