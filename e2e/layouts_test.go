package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/e2e/servers"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// S6.2.4: an edition as a directory of layouts, which travels, is verified,
// published, and packed into the archives that it would have been.
func TestLayoutsChain(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Default())
	direct, travelled, copied := registrytest.Start(t, registrytest.New()), registrytest.Start(t, registrytest.New()), registrytest.Start(t, registrytest.New())
	work := t.TempDir()
	inventory := filepath.Join(work, "inventory.json")
	if err := os.WriteFile(inventory, []byte(fetched(t, src.Host, filepath.Join(work, "store"))), 0o644); err != nil {
		t.Fatal(err)
	}
	r := shell(t, work, `
		ferry-pack -i inventory.json --layouts tree | ferry-publish "$DIRECT/mirror" --insecure -o direct.json
		mv tree moved
		ferry-unpack moved -o unpacked.json
		ferry-publish -i unpacked.json "$TRAVELLED/mirror" --insecure -o travelled.json
		ferry-pack -i unpacked.json fromtree -o fromtree.json
		ferry-pack -i inventory.json fromstore -o fromstore.json
		ferry-unpack moved --to other | ferry-publish "$COPIED/mirror" --insecure -o copied.json
	`, "DIRECT="+direct.Host, "TRAVELLED="+travelled.Host, "COPIED="+copied.Host)
	if r.code != 0 {
		t.Fatalf("exit status %d\n%s", r.code, r.stderr)
	}
	for _, target := range []*registrytest.Server{direct, travelled, copied} {
		assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
	}
	assertSameFiles(t, filepath.Join(work, "fromtree"), filepath.Join(work, "fromstore"))
	// The path of each layout is that of its repository.
	for name := range made.Expected {
		path, _, _ := strings.Cut(name, ":")
		if _, err := os.Stat(filepath.Join(work, "moved", path, "index.json")); err != nil {
			t.Errorf("%s has no layout: %v", path, err)
		}
	}
}

func TestLayoutsFlags(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	dir := filepath.Join(t.TempDir(), "tree")
	inventory := fetched(t, src.Host, t.TempDir())
	for _, flag := range []string{"--chunk-size=1GB", "--gost-digest"} {
		if r := try(t, inventory, "ferry-pack", dir, "--layouts", flag); r.code != 64 {
			t.Errorf("%s: exit status %d, want 64\n%s", flag, r.code, r.stderr)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: work was begun", flag)
		}
	}
	kept := filepath.Join(t.TempDir(), "kept.json")
	first := run(t, inventory, "ferry-pack", dir, "--layouts", "--keep", kept)
	doc := decode[contract.InventorySpec](t, first)
	if doc.Spec.Store.Type != contract.StoreLayouts || doc.Spec.Store.Path != dir {
		t.Errorf("the Inventory is of %+v", doc.Spec.Store)
	}
	again := try(t, inventory, "ferry-pack", dir, "--layouts", "--keep", kept)
	if again.stdout != first || !strings.Contains(again.stderr, "up to date") {
		t.Errorf("the kept Inventory was not taken:\n%s", again.stderr)
	}
	if err := os.RemoveAll(filepath.Join(dir, "install")); err != nil {
		t.Fatal(err)
	}
	if r := try(t, inventory, "ferry-pack", dir, "--layouts", "--keep", kept); r.stdout != first || strings.Contains(r.stderr, "up to date") {
		t.Errorf("the kept Inventory was taken though files are gone:\n%s", r.stderr)
	}
	run(t, "", "ferry-unpack", dir)
}

// unpackTars extracts the archives of a bundle of d8 into one directory.
func unpackTars(t *testing.T, from string) string {
	t.Helper()
	dir := t.TempDir()
	archives, err := filepath.Glob(filepath.Join(from, "*.tar"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives in %s: %v", from, err)
	}
	for _, archive := range archives {
		// package-versions.tar has layouts that package-NAME.tar has too.
		if filepath.Base(archive) == "package-versions.tar" {
			continue
		}
		if out, err := exec.Command("tar", "-xf", archive, "-C", dir).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", archive, err, out)
		}
	}
	return dir
}

// S6.2.4: a bundle of d8 that somebody unpacked lands where d8 would push it.
func TestUnpackedBundleOfD8(t *testing.T) {
	t.Parallel()
	want, discovery := recorded(t, "d8-default")
	// What only package-versions.tar has is not there.
	maps.DeleteFunc(want, func(tag string, _ oci.Digest) bool { return strings.HasPrefix(tag, "packages/") })
	discovery = slices.DeleteFunc(discovery, func(tag string) bool { return strings.HasPrefix(tag, "packages:") })
	dir := unpackTars(t, filepath.Join("testdata", "golden", "d8-default"))
	if err := os.RemoveAll(filepath.Join(dir, "packages")); err != nil {
		t.Fatal(err)
	}
	target := registrytest.Start(t, registrytest.New())
	run(t, run(t, "", "ferry-unpack", dir), "ferry-publish", target.Host+"/mirror", "--insecure")
	assertTarget(t, target.Tags(), "mirror", want, discovery)
}

// S8.4, S8.5: a directory of modules as mirror-modules makes it: the modules land
// below the target, and their names are tags of the target itself.
func TestDirectoryOfModules(t *testing.T) {
	t.Parallel()
	all, discovery := recorded(t, "d8-default")
	modules := filepath.Join(unpackTars(t, filepath.Join("testdata", "golden", "d8-default")), "modules")
	want := map[string]oci.Digest{}
	for name, digest := range all {
		if module, ok := strings.CutPrefix(name, "modules/"); ok {
			want[module] = digest
		}
	}
	var names []string
	for _, tag := range discovery {
		if name, ok := strings.CutPrefix(tag, "modules:"); ok {
			names = append(names, ":"+name)
		}
	}
	if len(want) == 0 || len(names) == 0 {
		t.Fatal("the bundle has no modules")
	}
	// The platform stands on descriptors.
	indexes, err := filepath.Glob(filepath.Join(modules, "*", "index.json"))
	if err != nil || len(indexes) == 0 {
		t.Fatalf("no layouts: %v", err)
	}
	for _, index := range indexes {
		text, err := os.ReadFile(index)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.NewReplacer(`"architecture": ""`, `"architecture": "amd64"`, `"os": ""`, `"os": "linux"`).Replace(string(text))
		if err := os.WriteFile(index, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	target := registrytest.Start(t, registrytest.New())
	inventory := run(t, "", "ferry-unpack", modules)
	run(t, inventory, "ferry-publish", target.Host+"/deckhouse/ee/modules", "--insecure")
	assertTarget(t, target.Tags(), "deckhouse/ee/modules", want, names)

	// As archives they land in the same places.
	disk := t.TempDir()
	run(t, inventory, "ferry-pack", disk)
	second := registrytest.Start(t, registrytest.New())
	run(t, run(t, "", "ferry-unpack", disk), "ferry-publish", second.Host+"/deckhouse/ee/modules", "--insecure")
	if diff := cmp.Diff(target.Tags(), second.Tags()); diff != "" {
		t.Errorf("tags (-layouts +archives):\n%s", diff)
	}
}

// S7.6.1: what skopeo copied to oci:DIR/PATH:TAG is published to PATH:TAG, and
// skopeo finds in our layouts what it understands, by its reference.
func TestLayoutsOfSkopeo(t *testing.T) {
	t.Parallel()
	skopeo := servers.Skopeo(t)
	src := registrytest.Start(t, registrytest.New())
	one, two := src.PutImage("team/app", "1.0"), src.PutImage("team/app", "2.0")
	dir := t.TempDir()
	for _, c := range [][2]string{{"1.0", "apps/app:v1"}, {"2.0", "apps/app:v2"}, {"2.0", "app:latest"}} {
		if err := os.MkdirAll(filepath.Join(dir, "apps"), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(skopeo, "--insecure-policy", "copy", "--preserve-digests", "--src-tls-verify=false",
			"docker://"+src.Host+"/team/app:"+c[0], "oci:"+filepath.Join(dir, c[1]))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("skopeo: %v\n%s", err, out)
		}
	}
	want := map[string]oci.Digest{"apps/app:v1": one.Digest, "apps/app:v2": two.Digest, "app:latest": two.Digest}
	target := registrytest.Start(t, registrytest.New())
	inventory := run(t, "", "ferry-unpack", dir)
	run(t, inventory, "ferry-publish", target.Host+"/mirror", "--insecure")
	assertTarget(t, target.Tags(), "mirror", want, nil)

	// The other way: skopeo reads what ferry wrote.
	tree := t.TempDir()
	run(t, fetched(t, sourceOf(t), t.TempDir()), "ferry-pack", "--layouts", tree)
	doc := decode[contract.InventorySpec](t, run(t, "", "ferry-unpack", tree))
	read := 0
	for _, im := range doc.Spec.Contents.Images {
		if doc.Spec.Contents.Graph()[im.Digest].MediaType != oci.MediaTypeManifest || strings.Contains(im.Source, "@") {
			continue // skopeo's oci: knows neither Docker manifests nor references by digest
		}
		text, err := exec.Command(skopeo, "inspect", "--raw", "oci:"+filepath.Join(tree, im.Path)+":"+im.Source).Output()
		if err != nil || oci.DigestOf(text) != im.Digest {
			t.Errorf("skopeo reads %s:%s as %q, %v", im.Path, im.Tag, text, err)
		}
		read++
	}
	if read == 0 {
		t.Error("there was nothing for skopeo to read")
	}
}

// The archive of a list is one image layout, in which skopeo finds every image by the
// reference that it was read from; and in which each blob stands once.
func TestSkopeoReadsTheArchiveOfAList(t *testing.T) {
	t.Parallel()
	skopeo := servers.Skopeo(t)
	src := registrytest.Start(t, registrytest.New())
	want := map[string]oci.Digest{}
	var list strings.Builder
	for _, name := range []string{"team/app", "team/tool"} {
		ref := src.Host + "/" + name + ":1.0"
		want[ref] = src.PutImage(name, "1.0", []byte("base"), []byte(name)).Digest
		fmt.Fprintln(&list, ref)
	}
	bundle := t.TempDir()
	selection := run(t, run(t, list.String(), "ferry-discover", "generic", "--insecure"), "ferry-select")
	run(t, run(t, selection, "ferry-fetch", "--store", t.TempDir(), "--insecure", "--bundle", bundle), "ferry-pack", bundle)
	archive := filepath.Join(bundle, "images.tar")
	for ref, digest := range want {
		text, err := exec.Command(skopeo, "inspect", "--raw", "oci-archive:"+archive+":"+ref).Output()
		if err != nil || oci.DigestOf(text) != digest {
			t.Errorf("skopeo reads %s as %q, %v", ref, text, err)
		}
	}
	text, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[string]int{}
	for _, m := range readTar(t, "images", text) {
		if _, hex, ok := strings.Cut(m.name, "blobs/sha256/"); ok {
			blobs[hex]++
		}
	}
	for hex, n := range blobs {
		if n != 1 {
			t.Errorf("%s stands %d times in the archive", hex, n)
		}
	}
	if len(blobs) == 0 {
		t.Error("there are no blobs in the archive")
	}
}

func sourceOf(t *testing.T) string {
	src, _ := source(t, edition.Tiny())
	return src.Host
}

// Promise 3, for layouts: killed at some points, a pack leaves nothing that
// looks finished, and runs again.
func TestPackLayoutsKilled(t *testing.T) {
	t.Parallel()
	opts := edition.Default()
	opts.LayerSize = 256 << 10
	src, _ := source(t, opts)
	inventory := fetched(t, src.Host, t.TempDir())
	want := t.TempDir()
	run(t, inventory, "ferry-pack", "--layouts", want)
	unfinished := 0
	for i := range 8 {
		dir := t.TempDir()
		cmd := program(t, "ferry-pack", "--layouts", dir)
		cmd.Stdin = strings.NewReader(inventory)
		killAfter(t, cmd, func() bool { // by what is on the disk, not by the clock
			blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
			return err == nil && len(blobs) >= i
		})
		if r := try(t, "", "ferry-unpack", dir); r.code == 0 {
			assertSameFiles(t, want, dir) // it was done, but for its end
		} else {
			unfinished++
		}
		run(t, inventory, "ferry-pack", "--layouts", dir)
		assertSameFiles(t, want, dir)
		run(t, "", "ferry-unpack", dir)
	}
	if unfinished == 0 {
		t.Error("no pack was killed before its end: nothing was tested")
	}
}

// B1, B3, B6 for layouts: whatever happens to them, nothing is published.
func TestDamagedLayouts(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	tree := t.TempDir()
	run(t, fetched(t, src.Host, t.TempDir()), "ferry-pack", "--layouts", tree)
	blobs, err := filepath.Glob(filepath.Join(tree, "install", "blobs", "sha256", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatalf("no blobs: %v", err)
	}
	target := registrytest.Start(t, registrytest.New())
	for _, withDocument := range []bool{true, false} {
		for what, change := range map[string]func(name string) error{
			"flipped bit": func(name string) error {
				content, err := os.ReadFile(name)
				if err == nil {
					content[len(content)/2] ^= 1
					err = os.WriteFile(name, content, 0o644)
				}
				return err
			},
			"cut":     func(name string) error { return os.Truncate(name, 1) },
			"missing": os.Remove,
			"link": func(name string) error {
				if err := os.Remove(name); err != nil {
					return err
				}
				return os.Symlink("/etc/hosts", name)
			},
		} {
			dir := copyDir(t, tree)
			if !withDocument {
				if err := os.Remove(filepath.Join(dir, "bundle.json")); err != nil {
					t.Fatal(err)
				}
			}
			name := filepath.Join("install", "blobs", "sha256", filepath.Base(blobs[0]))
			if err := change(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			refuses(t, target, dir, filepath.Base(blobs[0]), what)
		}
	}
}
