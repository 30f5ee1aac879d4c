package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// What happens beside a run: another run, another release, another time, somebody
// who takes a file away.

// Two runs that begin at once in one place, a hundred times: the second waits for
// the store, or is told at once that another writes the bundle. What is there then
// is what one run alone writes.
//
// B18.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	selection := run(t, run(t, "", "ferry-discover", discoverArgs(src.Host)...), "ferry-select")
	store, disk := t.TempDir(), t.TempDir()
	inventory := run(t, selection, "ferry-fetch", "--store", store, "--insecure")
	run(t, inventory, "ferry-pack", disk)
	for _, tc := range []struct {
		name  string
		times int
		stdin string
		args  func(dir string) []string
		// second is the status of the run that came second, where it may not wait.
		second int
	}{
		{"pack", 40, inventory, func(dir string) []string { return []string{"ferry-pack", dir} }, 64},
		{"pack layouts", 10, inventory, func(dir string) []string { return []string{"ferry-pack", dir, "--layouts"} }, 64},
		{"fetch", 20, selection, func(dir string) []string { return []string{"ferry-fetch", "--store", dir, "--insecure"} }, 0},
		{"fetch into archives", 10, selection, func(dir string) []string {
			return []string{"ferry-fetch", "--store", store, "--insecure", "--bundle", dir}
		}, 0},
		{"unpack into a store", 20, "", func(dir string) []string { return []string{"ferry-unpack", disk, "--to", dir} }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			alone := memoryDir(t)
			args := tc.args(alone)
			run(t, tc.stdin, args[0], args[1:]...)
			want := sumsBelow(t, alone)
			met := 0
			for i := range tc.times {
				dir := memoryDir(t)
				var both sync.WaitGroup
				var ended [2]result
				var commands [2]*exec.Cmd
				for j := range commands {
					args := tc.args(dir)
					commands[j] = program(t, args[0], args[1:]...)
					commands[j].Stdin = strings.NewReader(tc.stdin)
					var stdout, stderr bytes.Buffer
					commands[j].Stdout, commands[j].Stderr = &stdout, &stderr
					both.Go(func() {
						_ = commands[j].Run() // how it ended is in the status
						ended[j] = result{stdout.String(), stderr.String(), commands[j].ProcessState.ExitCode()}
					})
				}
				both.Wait()
				if strings.Contains(ended[0].stderr+ended[1].stderr, "another run") {
					met++
				}
				codes := []int{ended[0].code, ended[1].code}
				slices.Sort(codes)
				refused := codes[1] == tc.second && strings.Contains(ended[0].stderr+ended[1].stderr, "another run")
				if codes[0] != 0 || codes[1] != 0 && !refused {
					t.Fatalf("run %d: exit statuses %v\n%s\n%s", i, codes, ended[0].stderr, ended[1].stderr)
				}
				if codes[1] == 0 && ended[0].stdout != ended[1].stdout {
					t.Errorf("run %d: two runs of one input write two documents", i)
				}
				if diff := cmp.Diff(want, sumsBelow(t, dir)); diff != "" {
					t.Fatalf("run %d: what two runs leave (-one +two):\n%s", i, diff)
				}
			}
			if met == 0 {
				t.Error("no run met the other: nothing is shown")
			}
			t.Logf("%d of %d met", met, tc.times)
			t.Attr("cases", strconv.Itoa(tc.times))
		})
	}
}

func sumsBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for path := range infos(t, dir) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rest, _ := filepath.Rel(dir, path)
		sums[rest] = string(oci.DigestOf(text))
	}
	return sums
}

// The bundle that an early ferry made is kept beside these tests: every later one
// reads it. What a later release writes in another form is refused by name, by
// every stage, and not guessed at.
//
// B19.
func TestOtherReleases(t *testing.T) {
	t.Parallel()
	golden := filepath.Join("testdata", "golden", "ferry-v1alpha1")
	t.Run("the bundle of an early release", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(golden, "bundle.json"))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]oci.Digest{}
		for _, im := range decode[contract.BundleSpec](t, string(text)).Spec.Contents.Images {
			want[strings.Trim("mirror/"+im.Path, "/")+":"+im.Tag] = im.Digest
		}
		target := registrytest.Start(t, registrytest.New())
		run(t, run(t, "", "ferry-unpack", golden), "ferry-publish", target.Host+"/mirror", "--insecure")
		if diff := cmp.Diff(want, target.Tags()); diff != "" || len(want) == 0 {
			t.Errorf("tags (-want +got):\n%s", diff)
		}
		// And it is made to the byte as then.
		again := t.TempDir()
		run(t, run(t, "", "ferry-unpack", golden), "ferry-pack", again)
		then, now := sumsBelow(t, golden), sumsBelow(t, again)
		if then["images.tar"] != now["images.tar"] || now["images.tar"] == "" {
			t.Errorf("the archive is another: %s then, %s now", then["images.tar"], now["images.tar"])
		}
	})

	src, _ := source(t, edition.Tiny())
	catalog := run(t, "", "ferry-discover", discoverArgs(src.Host)...)
	selection := run(t, catalog, "ferry-select")
	inventory := run(t, selection, "ferry-fetch", "--store", t.TempDir(), "--insecure")
	disk := t.TempDir()
	run(t, inventory, "ferry-pack", disk)
	later := func(text string) string { return strings.Replace(text, "ferry/v1alpha1", "ferry/v2", 1) }
	text, err := os.ReadFile(filepath.Join(disk, "bundle.json"))
	if err == nil {
		err = os.WriteFile(filepath.Join(disk, "bundle.json"), []byte(later(string(text))), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, stdin string
		args        []string
	}{
		{"select", later(catalog), []string{"ferry-select"}},
		{"fetch", later(selection), []string{"ferry-fetch", "--store", t.TempDir(), "--insecure"}},
		{"pack", later(inventory), []string{"ferry-pack", t.TempDir()}},
		{"publish", later(inventory), []string{"ferry-publish", src.Host + "/mirror", "--insecure"}},
		{"unpack", "", []string{"ferry-unpack", disk}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := try(t, tc.stdin, tc.args[0], tc.args[1:]...)
			if r.code != 65 || r.stdout != "" || !strings.Contains(r.stderr, "ferry/v2") || !strings.Contains(r.stderr, "the same ferry release on both sides") {
				t.Errorf("exit status %d, want 65 and what to do\n%s", r.code, r.stderr)
			}
		})
	}
}

// clockReaders are the packages that ask what time it is, and what for. Nobody
// else does: what is fetched, kept, written or sent depends on no clock.
var clockReaders = map[string]string{
	"pkg/progress":      "shows rates",
	"pkg/registry/wire": "measures answers, holds back requests, renews tokens: by time that passes, which setting the clock does not change",
	"pkg/stage":         "says how long a run took",
}

// A clock that is wrong changes nothing: no package asks it for more than how long
// something takes, and files of 1970 or of the next century are as good as any.
//
// B20.
func TestClock(t *testing.T) {
	t.Parallel()
	t.Run("who asks", func(t *testing.T) {
		asked := map[string]bool{}
		for _, root := range []string{"../cmd", "../pkg"} {
			err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "registrytest") {
					return err
				}
				file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
				if err != nil {
					return err
				}
				ast.Inspect(file, func(n ast.Node) bool {
					if s, ok := n.(*ast.SelectorExpr); ok && isClock(s) {
						asked[filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, "../")))] = true
					}
					return true
				})
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for pkg := range asked {
			if clockReaders[pkg] == "" {
				t.Errorf("%s asks what time it is", pkg)
			}
		}
		if len(asked) == 0 {
			t.Error("nobody was found to ask: nothing is shown")
		}
	})

	src, made := source(t, edition.Tiny())
	selection := run(t, run(t, "", "ferry-discover", discoverArgs(src.Host)...), "ferry-select")
	for _, year := range []int{1970, 2150} {
		t.Run(fmt.Sprint("files of ", year), func(t *testing.T) {
			when := time.Date(year, 1, 1, 0, 0, 1, 0, time.UTC)
			aged := func(dir string) {
				for path := range infos(t, dir) {
					if err := os.Chtimes(path, when, when); err != nil {
						t.Fatal(err)
					}
				}
			}
			store, disk := t.TempDir(), t.TempDir()
			fetch := []string{"--store", store, "--insecure"}
			inventory := run(t, selection, "ferry-fetch", fetch...)
			aged(store)
			src.Reset()
			if again := run(t, selection, "ferry-fetch", fetch...); again != inventory {
				t.Error("fetch from an old store gives another inventory")
			}
			for _, r := range src.Requests() {
				if r.Method == "GET" && r.Kind == registrytest.KindBlob {
					t.Errorf("%s was fetched again", r.Reference)
				}
			}
			document := run(t, inventory, "ferry-pack", disk)
			aged(disk)
			if again := run(t, inventory, "ferry-pack", disk); again != document {
				t.Error("pack into an old directory gives another bundle")
			}
			target := registrytest.Start(t, registrytest.New())
			run(t, run(t, "", "ferry-unpack", disk), "ferry-publish", target.Host+"/mirror", "--insecure")
			assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
		})
	}
}

func isClock(s *ast.SelectorExpr) bool {
	pkg, ok := s.X.(*ast.Ident)
	return ok && pkg.Name == "time" && slices.Contains([]string{"Now", "Since", "Until"}, s.Sel.Name)
}

// A file of the bundle that somebody takes away while it is published, as a virus
// scanner does: the stage names it, no tag stands over what was lost, and when the
// file is back the same command ends well.
//
// B21.
func TestFileTakenAway(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Tiny())
	whole := packed(t, src.Host, "--chunk-size", "20000B")
	count := registrytest.Start(t, registrytest.New())
	inventory := run(t, "", "ferry-unpack", whole)
	run(t, inventory, "ferry-publish", count.Host+"/mirror", "--insecure")
	total := len(count.Requests())
	for name, take := range map[string]func(path string) error{
		"removed":          os.Remove,
		"emptied":          func(path string) error { return os.Truncate(path, 0) },
		"made another":     func(path string) error { return os.WriteFile(path, []byte("quarantined"), 0o644) },
		"made a directory": func(path string) error { return replaced(path, func() error { return os.Mkdir(path, 0o755) }) },
		"made a link": func(path string) error {
			return replaced(path, func() error { return os.Symlink("/etc/hostname", path) })
		},
		"closed to readers": func(path string) error { return os.Chmod(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			noticed := 0
			for n := 0; n < total; n += max(1, total/6) {
				dir := copyDir(t, whole)
				inventory := run(t, "", "ferry-unpack", dir)
				target := registrytest.Start(t, registrytest.New())
				var once sync.Once
				seen := 0
				target.Inject(registrytest.Fault{Match: func(*http.Request) bool {
					if seen++; seen > n {
						once.Do(func() {
							for path := range infos(t, dir) {
								if strings.Contains(path, ".tar") {
									if err := take(path); err != nil {
										t.Error(err)
									}
								}
							}
						})
					}
					return false
				}})
				r := try(t, inventory, "ferry-publish", target.Host+"/mirror", "--insecure")
				target.Heal()
				if r.code != 0 {
					noticed++
					if r.code != 65 && r.code != 74 {
						t.Errorf("at request %d: exit status %d, want 65 or 74", n, r.code)
					}
					if !strings.Contains(r.stderr, ".chunk") {
						t.Errorf("at request %d: the error names no file:\n%s", n, r.stderr)
					}
				}
				assertTagsComplete(t, target)
				for path := range infos(t, dir) {
					_ = os.Chmod(path, 0o644)
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
					t.Fatal(err)
				}
				run(t, inventory, "ferry-publish", target.Host+"/mirror", "--insecure")
				assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
			}
			if noticed == 0 && (name != "closed to readers" || os.Getuid() != 0) {
				t.Error("nothing was noticed: nothing is shown")
			}
		})
	}
}

func replaced(path string, by func() error) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return by()
}

// assertTagsComplete checks that below every tag of a registry everything is
// there (rule 6, N24).
func assertTagsComplete(t *testing.T, reg *registrytest.Server) {
	t.Helper()
	for name, digest := range reg.Tags() {
		path, _, _ := strings.Cut(name, ":")
		assertThere(t, reg, path, digest, name)
	}
}

func assertThere(t *testing.T, reg *registrytest.Server, path string, digest oci.Digest, tag string) {
	t.Helper()
	if !reg.Has(path, digest) {
		t.Errorf("the tag %s stands, but %s below it does not", tag, digest)
		return
	}
	var manifest struct {
		Config            struct{ Digest oci.Digest }
		Layers, Manifests []struct{ Digest oci.Digest }
	}
	if !slices.Contains(reg.Manifests(path), digest) {
		return
	}
	if err := json.Unmarshal(reg.Content(digest), &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Config.Digest != "" {
		assertThere(t, reg, path, manifest.Config.Digest, tag)
	}
	for _, d := range slices.Concat(manifest.Layers, manifest.Manifests) {
		assertThere(t, reg, path, d.Digest, tag)
	}
}

// memoryDir is a temporary directory in memory where there is one: what is killed
// hundreds of times need not wait for a disk each time.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ferry-e2e-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
