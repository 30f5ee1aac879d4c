package e2e

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferry/e2e/edition"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/store"
)

// killAfter starts cmd and kills it, hard, as soon as enough says so or after a
// while; it reports whether the program was still running.
func killAfter(t *testing.T, cmd *exec.Cmd, enough func() bool) bool {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		select {
		case <-ended:
			return false
		default:
		}
		if enough() {
			break
		}
		time.Sleep(200 * time.Microsecond) // polls the request log; nothing is asserted about time
	}
	_ = cmd.Process.Signal(syscall.SIGKILL)
	<-ended
	return true
}

// visible lists those of all blobs that a store shows.
func visible(t *testing.T, dir string, all []oci.Digest) map[string]bool {
	t.Helper()
	st, err := store.OpenDir(t.Context(), dir, store.Shared)
	if err != nil {
		return nil // killed before it made the store
	}
	defer st.Close()
	have := map[string]bool{}
	for _, d := range all {
		if _, err := st.Stat(d); err == nil {
			have[string(d)] = true
		}
	}
	return have
}

// Promise 3: fetch killed at 20 points goes on each time; no finished blob is
// requested again, and the end state is right.
//
// S9 row 1.
func TestFetchKilled(t *testing.T) {
	t.Parallel()
	opts := edition.Default()
	opts.LayerSize = 64 << 10
	src, made := source(t, opts)
	selection := run(t, run(t, "", "ferry-discover", discoverArgs(src.Host)...), "ferry-select")
	random := rand.New(rand.NewPCG(3, 4))

	// How many requests a fetch makes, to choose the points.
	src.Reset()
	fetch := func(dir string) *exec.Cmd {
		cmd := program(t, "ferry-fetch", "--store", dir, "--insecure")
		cmd.Stdin = strings.NewReader(selection)
		return cmd
	}
	reference := finish(t, fetch(t.TempDir()))
	if reference.code != 0 {
		t.Fatal(reference.stderr)
	}
	requests := src.Requests()
	var blobs []oci.Digest
	for _, r := range requests {
		if r.Kind == registrytest.KindBlob && r.Method == "GET" {
			blobs = append(blobs, oci.Digest(r.Reference))
		}
	}

	dir := t.TempDir()
	killed := 0
	for range 20 {
		have := visible(t, dir, blobs)
		src.Reset()
		after := random.IntN(len(requests)/4) + 1
		if !killAfter(t, fetch(dir), func() bool { return len(src.Requests()) >= after }) {
			break
		}
		killed++
		assertNotAgain(t, src, have)
	}
	t.Logf("killed %d times", killed)
	have := visible(t, dir, blobs)
	src.Reset()
	last := finish(t, fetch(dir))
	if last.code != 0 {
		t.Fatal(last.stderr)
	}
	assertNotAgain(t, src, have)
	if got, want := strings.ReplaceAll(last.stdout, dir, "STORE"), reference.stdout; contentsOf(got) != contentsOf(want) {
		t.Error("the inventory differs from that of an undisturbed run")
	}
	target := registrytest.Start(t, registrytest.New())
	run(t, last.stdout, "ferry-publish", target.Host+"/mirror", "--insecure")
	assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
}

// contentsOf is the part of an inventory that does not name the store.
func contentsOf(inventory string) string {
	_, contents, _ := strings.Cut(inventory, `"contents"`)
	return contents
}

func assertNotAgain(t *testing.T, src *registrytest.Server, have map[string]bool) {
	t.Helper()
	for _, r := range src.Requests() {
		if r.Kind == registrytest.KindBlob && r.Method == "GET" && have[r.Reference] {
			t.Errorf("the finished blob %s was requested again", r.Reference)
		}
	}
}

// pack killed at some points leaves nothing half-done that looks finished, and
// runs again.
//
// S6.10.
func TestPackKilled(t *testing.T) {
	t.Parallel()
	opts := edition.Default()
	opts.LayerSize = 256 << 10
	src, _ := source(t, opts)
	inventory := fetched(t, src.Host, t.TempDir())
	want := t.TempDir()
	run(t, inventory, "ferry-pack", want)
	unfinished := 0
	for i := range 12 {
		dir := t.TempDir()
		cmd := program(t, "ferry-pack", dir)
		cmd.Stdin = strings.NewReader(inventory)
		// By what is on the disk, not by the clock.
		after := i
		killAfter(t, cmd, func() bool {
			entries, err := os.ReadDir(dir)
			return err == nil && len(entries) > after
		})
		if r := try(t, "", "ferry-unpack", dir); r.code == 0 {
			assertSameFiles(t, want, dir) // it was done, but for its end
		} else {
			unfinished++
		}
		run(t, inventory, "ferry-pack", dir)
		assertSameFiles(t, want, dir)
	}
	if unfinished == 0 {
		t.Error("no pack was killed before its end: nothing was tested")
	}
}

// publish killed at some points runs again and ends complete, with nothing of
// the killed run besides (S9 row 88).
func TestPublishKilled(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Default())
	inventory := fetched(t, src.Host, t.TempDir())
	count := registrytest.Start(t, registrytest.New())
	run(t, inventory, "ferry-publish", count.Host+"/mirror", "--insecure")
	total := len(count.Requests())
	random := rand.New(rand.NewPCG(5, 6))
	for range 8 {
		target := registrytest.Start(t, registrytest.New())
		cmd := program(t, "ferry-publish", target.Host+"/mirror", "--insecure")
		cmd.Stdin = strings.NewReader(inventory)
		after := random.IntN(total)
		killAfter(t, cmd, func() bool { return len(target.Requests()) >= after })
		run(t, inventory, "ferry-publish", target.Host+"/mirror", "--insecure")
		assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
	}
}
