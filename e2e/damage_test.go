package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/pkg/registry/registrytest"
)

// copyDir copies the files of a bundle.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// flipLayer damages the largest layer of platform.tar, in every archive that has it:
// readers take whichever copy they like.
func flipLayer(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil {
		t.Fatal(err)
	}
	layer := largestLayer(t, filepath.Join(dir, "platform.tar"))
	damaged := bytes.Clone(layer)
	damaged[len(layer)/2] ^= 1
	for _, name := range names {
		whole, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(name, bytes.ReplaceAll(whole, layer, damaged), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func largestLayer(t *testing.T, archive string) []byte {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var layer []byte
	for reader := tar.NewReader(f); ; {
		header, err := reader.Next()
		if err == io.EOF {
			return layer
		}
		if err != nil {
			t.Fatal(err)
		}
		blob, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(header.Name, "blobs/") && len(blob) > len(layer) && blob[0] != '{' {
			layer = blob
		}
	}
}

// S7.4.7: with --verify stream damage is found by whoever reads the blob. The
// target never gets it, nor any tag; a store or a bundle neither.
func TestDamagedBundlesAreStreamed(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Tiny())
	whole := packed(t, src.Host)
	target := registrytest.Start(t, registrytest.New())
	run(t, "", "ferry-push", whole, target.Host+"/mirror", "--insecure", "--verify", "stream")
	assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)

	dir := copyDir(t, whole)
	flipLayer(t, dir)
	target = registrytest.Start(t, registrytest.New())
	if r := try(t, "", "ferry-push", dir, target.Host+"/mirror", "--insecure", "--verify=stream"); r.code != 65 || r.stdout != "" {
		t.Errorf("push: exit status %d, want 65 and no Receipt:\n%s%s", r.code, r.stdout, r.stderr)
	}
	if tags := target.Tags(); len(tags) > 0 {
		t.Errorf("a damaged bundle left tags: %v", tags)
	}
	inventory := run(t, "", "ferry-unpack", dir, "--verify", "stream")
	if r := try(t, inventory, "ferry-pack", t.TempDir()); r.code != 65 {
		t.Errorf("pack: exit status %d, want 65:\n%s", r.code, r.stderr)
	}
	if r := try(t, "", "ferry-unpack", dir, "--verify", "stream", "--to", t.TempDir()); r.code != 65 {
		t.Errorf("unpack --to: exit status %d, want 65:\n%s", r.code, r.stderr)
	}
	kept := filepath.Join(t.TempDir(), "inventory.json")
	run(t, "", "ferry-unpack", dir, "--verify", "stream", "--keep", kept)
	if r := try(t, "", "ferry-unpack", dir, "--keep", kept); r.code != 65 {
		t.Errorf("what was not read is believed because it was kept: exit status %d", r.code)
	}

	// What can be seen without reading layers is found before the first write.
	if err := os.Truncate(filepath.Join(dir, "platform.tar"), 512); err != nil {
		t.Fatal(err)
	}
	target.Reset()
	r := try(t, "", "ferry-push", dir, target.Host+"/mirror", "--insecure", "--verify=stream")
	if writes := target.Writes(); r.code != 65 || len(writes) > 0 {
		t.Errorf("a cut archive: exit status %d, writes %v", r.code, writes)
	}
	// Archives that describe themselves must be read.
	if err := os.Remove(filepath.Join(whole, "bundle.json")); err != nil {
		t.Fatal(err)
	}
	if r := try(t, "", "ferry-unpack", whole, "--verify", "stream"); r.code != 64 || !strings.Contains(r.stderr, "bundle.json") {
		t.Errorf("no bundle.json: exit status %d, want 64\n%s", r.code, r.stderr)
	}
}

// refuses asserts that unpack | publish of dir ends with 65, names file, and
// that the target saw no write.
func refuses(t *testing.T, target *registrytest.Server, dir, file, what string) {
	t.Helper()
	target.Reset()
	r := shell(t, dir, `
		set +e
		ferry-unpack . | ferry-publish "$TARGET/mirror" --insecure
		echo "${PIPESTATUS[@]}"
	`, "TARGET="+target.Host)
	if !strings.Contains(r.stdout, "65 65") {
		t.Errorf("%s: exit statuses %q, want 65 65\n%s", what, strings.TrimSpace(r.stdout), r.stderr)
	}
	if !strings.Contains(r.stderr, file) {
		t.Errorf("%s: the error does not name %s:\n%s", what, file, r.stderr)
	}
	if writes := target.Writes(); len(writes) > 0 {
		t.Errorf("%s: the target was written to: %v", what, writes)
	}
}

// S11.2.13, B1, B3, B7: whatever happens to a bundle on its way, nothing of it is
// published. pkg/bundle sweeps every cut; here the binaries are asked at some.
//
// S7.4.6, S9 row 56.
func TestDamagedBundles(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	whole := packed(t, src.Host)
	chunked := packed(t, src.Host, "--chunk-size", "20000B")
	target := registrytest.Start(t, registrytest.New())
	random := rand.New(rand.NewPCG(1, 2))

	edit := func(from, file string, change func(content []byte) []byte) string {
		dir := copyDir(t, from)
		path := filepath.Join(dir, file)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	const archive = "platform.tar"
	info, err := os.Stat(filepath.Join(whole, archive))
	if err != nil {
		t.Fatal(err)
	}
	blocks := int(info.Size() / 512)
	cuts := []int{0, 1, 2, blocks - 2, blocks - 1}
	for range 12 {
		cuts = append(cuts, random.IntN(blocks))
	}
	for _, cut := range cuts {
		refuses(t, target, edit(whole, archive, func(c []byte) []byte { return c[:cut*512] }), archive, "cut")
	}
	for range 12 {
		at := random.IntN(int(info.Size()))
		refuses(t, target, edit(whole, archive, func(c []byte) []byte { c[at] ^= 1 << random.IntN(8); return c }), archive, "flipped bit")
	}

	names, err := filepath.Glob(filepath.Join(chunked, archive+".*.chunk"))
	if err != nil || len(names) < 3 {
		t.Fatalf("want at least three chunks, found %v (%v)", names, err)
	}
	slices.Sort(names)
	for _, i := range []int{0, 1, len(names) - 1} {
		dir := copyDir(t, chunked)
		name := filepath.Base(names[i])
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		refuses(t, target, dir, name, "missing chunk")
	}
	swap := copyDir(t, chunked)
	first, second := filepath.Join(swap, filepath.Base(names[0])), filepath.Join(swap, filepath.Base(names[1]))
	for _, move := range [][2]string{{first, swap + "/x"}, {second, first}, {swap + "/x", second}} {
		if err := os.Rename(move[0], move[1]); err != nil {
			t.Fatal(err)
		}
	}
	refuses(t, target, swap, filepath.Base(first), "swapped chunks")
	foreign := copyDir(t, chunked)
	if err := os.WriteFile(filepath.Join(foreign, archive+".9999.chunk"), []byte("of another bundle"), 0o644); err != nil {
		t.Fatal(err)
	}
	refuses(t, target, foreign, archive+".9999.chunk", "foreign chunk")
}
