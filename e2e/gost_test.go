package e2e

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/streebog"
)

// assertSums checks that every archive and chunk of dir has its sum beside it,
// and returns how many there are (S6.7.1).
func assertSums(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	for name := range filesOf(t, dir) {
		if !strings.HasSuffix(name, ".tar") && !strings.HasSuffix(name, ".chunk") {
			continue
		}
		n++
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		h := streebog.New256()
		h.Write(content)
		sum, err := os.ReadFile(filepath.Join(dir, name+".gostsum"))
		if want := hex.EncodeToString(h.Sum(nil)); err != nil || string(sum) != want {
			t.Errorf("%s.gostsum is %q, %v; want %s", name, sum, err, want)
		}
	}
	return n
}

// S6.7, S2.2: a pull with sums; what is damaged on its way, file or sum, is not
// published.
func TestGostDigest(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Tiny())
	target := registrytest.Start(t, registrytest.New())
	pull := func(dir string, flags ...string) {
		t.Helper()
		run(t, "", "ferry-pull", append([]string{dir, "--source", src.Host + "/deckhouse/ee", "--insecure"}, flags...)...)
	}
	disk := t.TempDir()
	pull(disk, "--gost-digest")
	if n := assertSums(t, disk); n < 3 {
		t.Fatalf("%d archives", n)
	}
	run(t, "", "ferry-push", disk, target.Host+"/mirror", "--insecure")
	assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)

	none := t.TempDir()
	pull(none, "--gost_digest=false")
	if sums, err := filepath.Glob(filepath.Join(none, "*.gostsum")); err != nil || len(sums) > 0 {
		t.Errorf("sums that nobody wants: %v, %v", sums, err)
	}
	assertSameArchives(t, disk, none)

	chunked := t.TempDir()
	run(t, run(t, "", "ferry-unpack", disk), "ferry-pack", chunked, "--gost-digest", "--chunk-size", "20000B")
	if n := assertSums(t, chunked); n < 10 {
		t.Fatalf("%d chunks", n)
	}
	run(t, "", "ferry-unpack", chunked)

	target = registrytest.Start(t, registrytest.New())
	for _, tc := range []struct {
		from, file string
		document   bool // whether bundle.json travels
	}{
		{disk, "platform.tar", true},
		{disk, "platform.tar", false},
		{disk, "platform.tar.gostsum", true},
		{disk, "platform.tar.gostsum", false},
		{chunked, "platform.tar.0001.chunk", true},
		{chunked, "platform.tar.0001.chunk", false},
		{chunked, "platform.tar.0001.chunk.gostsum", true},
		{chunked, "platform.tar.0001.chunk.gostsum", false},
	} {
		dir := copyDir(t, tc.from)
		if !tc.document {
			if err := os.Remove(filepath.Join(dir, "bundle.json")); err != nil {
				t.Fatal(err)
			}
		}
		content, err := os.ReadFile(filepath.Join(dir, tc.file))
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 1
		if err := os.WriteFile(filepath.Join(dir, tc.file), content, 0o644); err != nil {
			t.Fatal(err)
		}
		refuses(t, target, dir, tc.file, "flipped bit")
	}
	// Not compared, and said so, without reading the layers.
	warned := try(t, "", "ferry-unpack", disk, "--verify", "stream")
	if warned.code != 0 || !strings.Contains(warned.stderr, "warn: the GOST sums") {
		t.Errorf("--verify stream: exit status %d\n%s", warned.code, warned.stderr)
	}
	if quiet := try(t, "", "ferry-unpack", none, "--verify", "stream"); quiet.code != 0 || strings.Contains(quiet.stderr, "GOST") {
		t.Errorf("--verify stream without sums: exit status %d\n%s", quiet.code, quiet.stderr)
	}
	missing := copyDir(t, disk)
	if err := os.Remove(filepath.Join(missing, "platform.tar.gostsum")); err != nil {
		t.Fatal(err)
	}
	refuses(t, target, missing, "platform.tar.gostsum", "missing sum")
}

// assertSameArchives compares the archives of two bundles.
func assertSameArchives(t *testing.T, a, b string) {
	t.Helper()
	filesA, filesB := filesOf(t, a), filesOf(t, b)
	for name, digest := range filesA {
		if strings.HasSuffix(name, ".tar") && filesB[name] != digest {
			t.Errorf("%s differs", name)
		}
	}
}

// S6.7: a pack that was killed goes on, and its sums are right.
func TestPackWithSumsKilled(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Default())
	inventory := fetched(t, src.Host, t.TempDir())
	want := t.TempDir()
	run(t, inventory, "ferry-pack", want, "--gost-digest")
	killed := 0
	for i := range 6 {
		dir := t.TempDir()
		cmd := program(t, "ferry-pack", dir, "--gost-digest")
		cmd.Stdin = strings.NewReader(inventory)
		if killAfter(t, cmd, func() bool { // by what is on the disk, not by the clock
			sums, err := filepath.Glob(filepath.Join(dir, "*.gostsum"))
			return err == nil && len(sums) > i
		}) {
			killed++
		}
		run(t, inventory, "ferry-pack", dir, "--gost-digest")
		assertSums(t, dir)
		assertSameFiles(t, want, dir)
		run(t, "", "ferry-unpack", dir)
	}
	if killed == 0 {
		t.Error("no pack was killed before its end: nothing was tested")
	}
}
