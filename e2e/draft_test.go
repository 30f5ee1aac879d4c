package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/registry/registrytest"
)

// S6.9.1: a bundle is the same to the byte, its document too, whether its blobs
// came through a store or straight into the archives, in which case pack reads and
// writes none of them again, and the store has next to nothing.
func TestFetchIntoArchives(t *testing.T) {
	t.Parallel()
	opts := edition.Default()
	opts.LayerSize = 64 << 10
	src, _ := source(t, opts)
	selection := run(t, run(t, "", "ferry-discover", discoverArgs(src.Host)...), "ferry-select")
	for name, flags := range map[string][]string{
		"whole":      nil,
		"chunks":     {"--chunk-size", "300000B"},
		"sums":       {"--gost-digest"},
		"odd chunks": {"--chunk-size", "123457B", "--gost-digest"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, got, store := t.TempDir(), t.TempDir(), t.TempDir()
			run(t, run(t, selection, "ferry-fetch", "--store", t.TempDir(), "--insecure"), "ferry-pack", append([]string{want}, flags...)...)

			inventory := run(t, selection, "ferry-fetch", append([]string{"--store", store, "--insecure", "--bundle", got}, flags...)...)
			before := modified(t, got)
			run(t, inventory, "ferry-pack", append([]string{got}, flags...)...)
			if diff := cmp.Diff(filesOf(t, want), filesOf(t, got)); diff != "" {
				t.Errorf("the bundles differ (-through a store +straight):\n%s", diff)
			}
			after := modified(t, got)
			for file, when := range before {
				if strings.Contains(file, ".tar") && after[file] != when {
					t.Errorf("pack wrote %s again", file)
				}
			}
			contents := decode[contract.InventorySpec](t, inventory).Spec.Contents
			var all, kept int64
			for _, p := range contents.Parts() {
				all += p.Size
			}
			for _, info := range infos(t, store) {
				kept += info.Size()
			}
			if kept > all/4 {
				t.Errorf("the store has %d bytes, the contents %d", kept, all)
			}
			run(t, "", "ferry-unpack", got)
		})
	}
}

func infos(t *testing.T, dir string) map[string]os.FileInfo {
	t.Helper()
	found := map[string]os.FileInfo{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			found[path] = info
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func modified(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	times := map[string]int64{}
	for path, info := range infos(t, dir) {
		times[path] = info.ModTime().UnixNano()
	}
	return times
}

// What the archives of another shape were kept for is no Inventory of these.
func TestFetchIntoArchivesKeeps(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	selection := run(t, run(t, "", "ferry-discover", discoverArgs(src.Host)...), "ferry-select")
	disk, kept := t.TempDir(), filepath.Join(t.TempDir(), "inventory.json")
	fetch := func(flags ...string) string {
		t.Helper()
		src.Reset()
		return run(t, selection, "ferry-fetch", append([]string{"--store", t.TempDir(), "--insecure", "--bundle", disk, "--keep", kept}, flags...)...)
	}
	first := fetch()
	if again := fetch(); again != first || len(src.Requests()) > 0 {
		t.Errorf("%d requests for a document that was kept", len(src.Requests()))
	}
	run(t, first, "ferry-pack", disk)
	if r := try(t, selection, "ferry-fetch", "--store", t.TempDir(), "--insecure", "--bundle", disk, "--keep", kept, "--chunk-size", "20000B"); r.code != 64 {
		t.Errorf("exit status %d over a bundle of another shape\n%s", r.code, r.stderr)
	}
	fetch("--chunk-size", "20000B", "--force")
	if blobs := src.Count(registrytest.KindBlob, ""); blobs == 0 {
		t.Error("nothing was fetched for other archives")
	}
}

var heldRE = regexp.MustCompile(`(?m)^[+=] ([0-9a-f]{64}) (\d+)`)

// receivedIn lists the blobs, by size, that drafts in dir say to have all bytes of.
func receivedIn(t *testing.T, dir string, sizes map[string]string) map[string]bool {
	t.Helper()
	have := map[string]bool{}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range heldRE.FindAllStringSubmatch(string(text), -1) {
			if blob := "sha256:" + m[1]; sizes[blob] == m[2] {
				have[blob] = true
			}
		}
	}
	return have
}

// S6.9.4: a fetch into archives that is killed at many points goes on each time;
// no finished blob is requested again, other images may be wanted meanwhile, and
// the bundle is that of an undisturbed run.
func TestFetchIntoArchivesKilled(t *testing.T) {
	t.Parallel()
	opts := edition.Default()
	opts.LayerSize = 64 << 10
	src, _ := source(t, opts)
	catalog := run(t, "", "ferry-discover", discoverArgs(src.Host)...)
	selections := []string{
		run(t, catalog, "ferry-select", "--exclude-module", "mod-02"),
		run(t, catalog, "ferry-select", "--include-platform", ">=1.70"),
		run(t, catalog, "ferry-select"),
	}
	want := t.TempDir()
	undisturbed := run(t, selections[2], "ferry-fetch", "--store", t.TempDir(), "--insecure")
	run(t, undisturbed, "ferry-pack", want)
	sizes := map[string]string{}
	for _, p := range decode[contract.InventorySpec](t, undisturbed).Spec.Contents.Parts() {
		sizes[string(p.Digest)] = fmt.Sprint(p.Size)
	}
	requests := len(src.Requests())
	random := rand.New(rand.NewPCG(9, 10))
	got, store := t.TempDir(), t.TempDir()
	fetch := func(selection string) *exec.Cmd {
		cmd := program(t, "ferry-fetch", "--store", store, "--insecure", "--bundle", got)
		cmd.Stdin = strings.NewReader(selection)
		return cmd
	}
	killed, received := 0, 0
	for i := range 24 {
		have := receivedIn(t, got, sizes)
		received = max(received, len(have))
		src.Reset()
		after := random.IntN(requests/2) + 1
		if killAfter(t, fetch(selections[i/8]), func() bool { return len(src.Requests()) >= after }) {
			killed++
		}
		assertNotAgain(t, src, have)
	}
	if killed < 5 || received < 20 {
		t.Errorf("killed %d times, and at most %d blobs were there: little is shown", killed, received)
	}
	have := receivedIn(t, got, sizes)
	src.Reset()
	last := finish(t, fetch(selections[2]))
	if last.code != 0 {
		t.Fatal(last.stderr)
	}
	assertNotAgain(t, src, have)
	run(t, last.stdout, "ferry-pack", got)
	if diff := cmp.Diff(filesOf(t, want), filesOf(t, got)); diff != "" {
		t.Errorf("the bundles differ (-undisturbed +killed):\n%s", diff)
	}
}
