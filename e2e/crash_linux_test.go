package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/pkg/durable"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// unavailable skips a test for want of a program or a right, but not where all is
// known to be installed.
func unavailable(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("CI is set, but "+format, args...)
	}
	t.Skipf(format, args...)
}

func needStrace(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs many processes")
	}
	if out, err := exec.CommandContext(t.Context(), "strace", "-f", "-e", "trace=none", "true").CombinedOutput(); err != nil {
		unavailable(t, "strace is missing or may not trace: %v: %s", err, out)
	}
}

// stageJob is the work of one stage, to be begun in clean places as often as
// wanted.
type stageJob struct {
	name  string
	calls []string // system calls that change files, in which it may die
	begin func(t *testing.T) *attempt
}

// attempt is a stage's work in a place of its own.
type attempt struct {
	dir     string // everything that it writes
	program []string
	stdin   string
	// asks is the registry that it talks to; nil for none.
	asks *registrytest.Server
	// target is the registry that it writes to; nil for none.
	target *registrytest.Server
	// store and bundle are its places below dir; "" for none.
	store, bundle string
}

func (a *attempt) cmd(t *testing.T, wrap ...string) *exec.Cmd {
	t.Helper()
	cmd := program(t, a.program[0], a.program[1:]...)
	if len(wrap) > 0 {
		path, err := exec.LookPath(wrap[0])
		if err != nil {
			t.Fatal(err)
		}
		cmd.Args = append(wrap, append([]string{cmd.Path}, a.program[1:]...)...)
		cmd.Path = path
	}
	cmd.Stdin = strings.NewReader(a.stdin)
	return cmd
}

// state is everything that the stage leaves: the sum of every file, and the tags
// of the target. What names the place names none.
func (a *attempt) state(t *testing.T) map[string]string {
	t.Helper()
	return a.stateIn(t, a.dir)
}

// stateIn is the state that was copied to root.
func (a *attempt) stateIn(t *testing.T, root string) map[string]string {
	t.Helper()
	state := map[string]string{}
	for path := range infos(t, root) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".json") {
			text = bytes.ReplaceAll(text, []byte(a.dir), []byte("DIR"))
			if a.target != nil {
				text = bytes.ReplaceAll(text, []byte(a.target.Host), []byte("TARGET"))
				text = withoutInputs(t, text) // the target is among the options
			}
		}
		rest, _ := filepath.Rel(root, path)
		state[rest] = sumOf(text)
	}
	if a.target != nil {
		for name, digest := range a.target.Tags() {
			state["tag "+name] = string(digest)
		}
	}
	return state
}

func sumOf(text []byte) string {
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%d bytes, %s", len(text), hex.EncodeToString(sum[:8]))
}

func withoutInputs(t *testing.T, text []byte) []byte {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc, "metadata")
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// assertNotHalf checks what a run that did not end leaves: the document is whole
// or not there, visible blobs are right, a bundle is finished or says that it is
// not, and no tag stands at the target without all below it (B8, B12).
func (a *attempt) assertNotHalf(t *testing.T, want map[string]string) {
	t.Helper()
	if text, err := os.ReadFile(filepath.Join(a.dir, "out.json")); err == nil && a.state(t)["out.json"] != want["out.json"] {
		t.Errorf("the document is not what an undisturbed run writes: %.300s", text)
	}
	if a.store != "" {
		assertBlobs(t, filepath.Join(a.store, "blobs", "sha256"))
	}
	if a.bundle != "" {
		switch r := try(t, "", "ferry-unpack", a.bundle); r.code {
		case 0:
			for name, sum := range a.state(t) {
				passing := durable.IsUnfinished(filepath.Base(name)) || filepath.Base(name) == "bundle.partial.json"
				if want[name] != sum && !passing {
					t.Errorf("the directory passes for finished, with another %s", name)
				}
			}
		case 64, 65:
		default:
			t.Errorf("unpack of what a killed run left: exit status %d\n%s", r.code, r.stderr)
		}
	}
	if a.target != nil {
		assertTagsComplete(t, a.target)
	}
}

func assertBlobs(t *testing.T, dir string) {
	t.Helper()
	entries, _ := os.ReadDir(dir) // killed before it was made
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if oci.DigestOf(content).Hex() != e.Name() {
			t.Errorf("the blob %s is visible, and is %s", e.Name(), oci.DigestOf(content))
		}
	}
}

// stageJobs are all stages over one small edition, in all the shapes in which they
// write.
func stageJobs(t *testing.T) []stageJob {
	t.Helper()
	src, _ := source(t, edition.Tiny())
	catalog := run(t, "", "ferry-discover", discoverArgs(src.Host)...)
	selection := run(t, catalog, "ferry-select")
	store, disk := t.TempDir(), t.TempDir()
	inventory := run(t, selection, "ferry-fetch", "--store", store, "--insecure")
	run(t, inventory, "ferry-pack", disk)

	job := func(name string, calls string, begin func(t *testing.T, a *attempt)) stageJob {
		return stageJob{name, strings.Fields(calls), func(t *testing.T) *attempt {
			a := &attempt{dir: memoryDir(t)}
			begin(t, a)
			a.program = append(a.program, "-o", filepath.Join(a.dir, "out.json"))
			return a
		}}
	}
	return []stageJob{
		job("discover", "write fsync renameat", func(_ *testing.T, a *attempt) {
			a.asks, a.store = src, filepath.Join(a.dir, "store")
			a.program = append([]string{"ferry-discover"}, append(discoverArgs(src.Host), "--store", a.store)...)
		}),
		job("select", "write fsync renameat", func(_ *testing.T, a *attempt) {
			a.stdin, a.program = catalog, []string{"ferry-select"}
		}),
		job("fetch", "write pwrite64 fsync renameat", func(_ *testing.T, a *attempt) {
			a.asks, a.stdin, a.store = src, selection, filepath.Join(a.dir, "store")
			a.program = []string{"ferry-fetch", "--store", a.store, "--insecure"}
		}),
		job("fetch into archives", "write pwrite64 renameat fallocate", func(_ *testing.T, a *attempt) {
			a.asks, a.stdin, a.store, a.bundle = src, selection, filepath.Join(a.dir, "store"), filepath.Join(a.dir, "disk")
			a.program = []string{"ferry-fetch", "--store", a.store, "--insecure", "--bundle", a.bundle, "--chunk-size", "20000B"}
		}),
		job("pack", "write fsync renameat unlinkat", func(_ *testing.T, a *attempt) {
			a.stdin, a.bundle = inventory, filepath.Join(a.dir, "disk")
			a.program = []string{"ferry-pack", a.bundle}
		}),
		job("pack chunks", "write renameat", func(_ *testing.T, a *attempt) {
			a.stdin, a.bundle = inventory, filepath.Join(a.dir, "disk")
			a.program = []string{"ferry-pack", a.bundle, "--chunk-size", "20000B", "--gost-digest"}
		}),
		job("pack layouts", "write renameat linkat mkdirat", func(_ *testing.T, a *attempt) {
			a.stdin, a.bundle = inventory, filepath.Join(a.dir, "disk")
			a.program = []string{"ferry-pack", a.bundle, "--layouts"}
		}),
		job("unpack into a store", "write pwrite64 fsync renameat", func(_ *testing.T, a *attempt) {
			a.store = filepath.Join(a.dir, "store")
			a.program = []string{"ferry-unpack", disk, "--to", a.store}
		}),
		job("publish", "write fsync renameat", func(t *testing.T, a *attempt) {
			a.target = registrytest.Start(t, registrytest.New())
			a.asks, a.stdin = a.target, inventory
			a.program = []string{"ferry-publish", a.target.Host + "/mirror", "--insecure"}
		}),
	}
}

// sample gives the numbers 1 to n, ever fewer of the larger ones.
func sample(n int) []int {
	var out []int
	for i := 1; i <= n; i += 1 + i/2 {
		out = append(out, i)
	}
	return out
}

// The most calls or requests of one kind that a run of a small edition makes.
const mostPoints = 400

// A stage that is killed in any of its steps leaves nothing half-done that looks
// whole; the same command again ends with the very files and tags of a run that
// nobody disturbed, and with no others: no temporary file stays.
//
// B8, N24, S6.10, S9 rows 1, 84 and 88.
func TestStagesKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	needStrace(t)
	for _, job := range stageJobs(t) {
		t.Run(job.name, func(t *testing.T) {
			want, requests := job.undisturbed(t)
			injected := 0
			check := func(t *testing.T, a *attempt, what string) {
				injected++
				a.assertNotHalf(t, want)
				if r := finish(t, a.cmd(t)); r.code != 0 {
					t.Fatalf("killed at %s: the same command ends with %d\n%s", what, r.code, r.stderr)
				}
				if diff := cmp.Diff(want, a.state(t)); diff != "" {
					t.Fatalf("killed at %s: what is there after the same command (-undisturbed +killed):\n%s", what, diff)
				}
			}
			for _, call := range job.calls {
				for _, n := range sample(mostPoints) {
					a := job.begin(t)
					if !a.killedInCall(t, call, n, syscall.SIGKILL) {
						if n == 1 {
							t.Errorf("it never calls %s", call)
						}
						break
					}
					check(t, a, fmt.Sprint(call, " ", n))
				}
			}
			for _, n := range sample(requests) {
				a := job.begin(t)
				if a.signalledAtRequest(t, n, syscall.SIGKILL) {
					check(t, a, fmt.Sprint("request ", n))
				}
			}
			t.Attr("cases", strconv.Itoa(injected))
			t.Attr("figure:crashes-injected", strconv.Itoa(injected))
			t.Attr("figure:crashes-survived", strconv.Itoa(injected))
		})
	}
}

// undisturbed is what a run that nobody disturbs leaves, and how many requests it
// makes.
func (j stageJob) undisturbed(t *testing.T) (state map[string]string, requests int) {
	t.Helper()
	a := j.begin(t)
	if a.asks != nil {
		a.asks.Reset()
	}
	if r := finish(t, a.cmd(t)); r.code != 0 {
		t.Fatal(r.stderr)
	}
	if a.asks != nil {
		requests = len(a.asks.Requests())
	}
	return a.state(t), requests
}

// killedInCall runs the stage, which gets a signal at its n-th call of one kind,
// and reports whether it did. strace counts by thread, so which call that is
// differs from run to run.
func (a *attempt) killedInCall(t *testing.T, call string, n int, signal syscall.Signal) bool {
	t.Helper()
	cmd := a.cmd(t, "strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:signal=%d:when=%d", call, int(signal), n))
	r := finish(t, cmd)
	if r.code == 0 {
		return false
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); signal == syscall.SIGKILL && (!status.Signaled() || status.Signal() != signal) {
		t.Fatalf("%s %d: it ended by itself with %d\n%s", call, n, r.code, r.stderr)
	}
	return true
}

// signalledAtRequest runs the stage, which gets a signal when its n-th request
// arrives, and no answer; it reports whether so many came.
func (a *attempt) signalledAtRequest(t *testing.T, n int, signal syscall.Signal) bool {
	t.Helper()
	r, sent := a.runSignalled(t, n, signal)
	if sent && signal == syscall.SIGKILL && r.code != -1 {
		t.Fatalf("request %d: it ended by itself with %d\n%s", n, r.code, r.stderr)
	}
	return sent
}

func (a *attempt) runSignalled(t *testing.T, n int, signal syscall.Signal) (result, bool) {
	t.Helper()
	cmd := a.cmd(t)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var seen atomic.Int64
	var sent atomic.Bool
	started := make(chan struct{})
	a.asks.Inject(registrytest.Fault{Times: registrytest.Always, Drop: true, Match: func(*http.Request) bool {
		<-started
		if seen.Add(1) != int64(n) {
			return false
		}
		sent.Store(cmd.Process.Signal(signal) == nil)
		return signal == syscall.SIGKILL
	}})
	err := cmd.Start()
	close(started)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // how it ended is in the result
	a.asks.Heal()
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}, sent.Load()
}
