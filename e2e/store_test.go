package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/registry/registrytest"
)

// S9 row 87: a blob that rots in the store is noticed when it is packed, named,
// and fetched anew on demand.
func TestDamagedStore(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	store, disk := t.TempDir(), t.TempDir()
	selection := run(t, run(t, "", "ferry-discover", discoverArgs(src.Host)...), "ferry-select")
	fetch := []string{"--store", store, "--insecure"}
	inventory := run(t, selection, "ferry-fetch", fetch...)
	digest := decode[contract.InventorySpec](t, inventory).Spec.Contents.Blobs[0].Digest
	path := filepath.Join(store, "blobs", "sha256", digest.Hex())
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[0] ^= 1
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	// Nobody blames the source for what is copied from here.
	into := try(t, selection, "ferry-fetch", append(fetch, "--bundle", t.TempDir())...)
	if into.code != 65 || !strings.Contains(into.stderr, string(digest)) {
		t.Errorf("ferry-fetch --bundle: exit status %d, want 65 and the blob\n%s", into.code, into.stderr)
	}
	for _, stage := range [][]string{{"ferry-pack", disk}, {"ferry-publish", src.Host + "/mirror", "--insecure"}} {
		r := try(t, inventory, stage[0], stage[1:]...)
		if r.code != 65 || !strings.Contains(r.stderr, string(digest)) || !strings.Contains(r.stderr, "ferry-fetch --verify") {
			t.Errorf("%s: exit status %d, want 65, the blob and what to do\n%s", stage[0], r.code, r.stderr)
		}
	}
	src.Reset()
	inventory = run(t, selection, "ferry-fetch", append(fetch, "--verify")...)
	got := 0
	for _, r := range src.Requests() {
		if r.Method == "GET" && r.BytesOut > 0 && (r.Kind == registrytest.KindBlob || r.Kind == registrytest.KindManifest) {
			got++
		}
	}
	if got != 1 {
		t.Errorf("%d answers with content to fetch one damaged blob", got)
	}
	run(t, inventory, "ferry-pack", disk)
}

// A store serves many runs, and is cut back to one of them on demand.
func TestPruneStore(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	store := t.TempDir()
	catalog := run(t, "", "ferry-discover", discoverArgs(src.Host)...)
	fetch := []string{"--store", store, "--insecure"}
	all := run(t, run(t, catalog, "ferry-select"), "ferry-fetch", fetch...)
	part := run(t, run(t, catalog, "ferry-select", "--no-platform", "--no-modules"), "ferry-fetch", append(fetch, "--prune")...)
	run(t, part, "ferry-pack", t.TempDir())
	if r := try(t, all, "ferry-pack", t.TempDir()); r.code != 65 {
		t.Errorf("packing what was pruned: exit status %d, want 65\n%s", r.code, r.stderr)
	}
}

// --keep: the same input is not worked on again, another one is.
func TestKeep(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	dir := t.TempDir()
	r := shell(t, dir, `
		chain() {
			ferry-discover deckhouse --source "$SOURCE/deckhouse/ee" --insecure --keep catalog.json |
				ferry-select "$@" --keep selection.json |
				ferry-fetch --store store --insecure --keep inventory.json |
				ferry-pack disk --keep bundle.json
		}
		chain > first.json
		chain > second.json
		cmp first.json second.json
		chain --no-modules --no-security-db && exit 1 || echo "refused: $?"
	`, "SOURCE="+src.Host)
	// The third chain asks for less than the directory holds: pack refuses.
	if r.code != 0 || !strings.Contains(r.stdout, "refused: 64") {
		t.Fatalf("exit status %d, stdout %s\n%s", r.code, r.stdout, r.stderr)
	}
	if n := strings.Count(r.stderr, "nothing to do"); n != 5 { // all four, then discover
		t.Errorf("%d stages had nothing to do, want 5:\n%s", n, r.stderr)
	}
}

// A kept Inventory is that of one bundle: another one with the same file names,
// as d8's are each month, is read anew.
func TestUnpackKeepsOneBundle(t *testing.T) {
	t.Parallel()
	golden := filepath.Join("testdata", "golden")
	keep := filepath.Join(t.TempDir(), "inventory.json")
	first := run(t, "", "ferry-unpack", filepath.Join(golden, "d8-default"), "--keep", keep)
	second := run(t, "", "ferry-unpack", filepath.Join(golden, "d8-pinned-stable"), "--keep", keep)
	if first == second {
		t.Error("another bundle gave the kept Inventory")
	}
	src, _ := source(t, edition.Tiny())
	disk, a, b := packed(t, src.Host), t.TempDir(), t.TempDir()
	keep = filepath.Join(t.TempDir(), "inventory.json")
	for _, to := range []string{a, b, b} {
		inventory := decode[contract.InventorySpec](t, run(t, "", "ferry-unpack", disk, "--to", to, "--keep", keep))
		if inventory.Spec.Store.Path != to {
			t.Errorf("copied to %s, the Inventory names %s", to, inventory.Spec.Store.Path)
		}
	}
}

// A directory without bundle.json is not finished, whatever was kept elsewhere.
func TestPackFinishesAKeptBundle(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	inventory, disk := fetched(t, src.Host, t.TempDir()), t.TempDir()
	keep := filepath.Join(t.TempDir(), "bundle.json")
	first := run(t, inventory, "ferry-pack", disk, "--keep", keep)
	if err := os.Remove(filepath.Join(disk, "bundle.json")); err != nil {
		t.Fatal(err)
	}
	if again := run(t, inventory, "ferry-pack", disk, "--keep", keep, "--force"); again != first {
		t.Error("the second Bundle differs")
	}
	if _, err := os.Stat(filepath.Join(disk, "bundle.json")); err != nil {
		t.Errorf("the directory is not finished: %v", err)
	}
}
