package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

const d8Bundle = "testdata/golden/d8-default"

// pushedBy lists the tags that ferry-push with these arguments leaves at an empty
// registry, below mirror/dkp.
func pushedBy(t *testing.T, args ...string) map[string]oci.Digest {
	t.Helper()
	target := registrytest.Start(t, registrytest.New())
	run(t, "", "ferry-push", append(args, target.Host+"/mirror/dkp", "--insecure")...)
	return target.Tags()
}

// copyFile puts a copy of a file into dir, under its own name.
func copyFile(t *testing.T, path, dir string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(to, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return to
}

// allOf names every archive of dir: the first as the word, the others by --file.
func allOf(t *testing.T, dir string) []string {
	t.Helper()
	var args []string
	for _, name := range slices.Sorted(maps.Keys(filesOf(t, dir))) {
		if len(args) > 0 {
			args = append(args, "--file")
		}
		args = append(args, filepath.Join(dir, name))
	}
	return args
}

// S7.1.4, S2.5: the word and every --file are taken together, wherever they lie
// and however often they are named; what stands at the target is what one
// directory with all of them gives.
func TestPushMerges(t *testing.T) {
	t.Parallel()
	want := pushedBy(t, d8Bundle)
	first, second := t.TempDir(), t.TempDir()
	var loose []string
	archives, err := filepath.Glob(filepath.Join(d8Bundle, "*.tar"))
	if err != nil || len(archives) < 8 {
		t.Fatal(archives, err)
	}
	for i, path := range archives {
		switch i % 3 {
		case 0:
			copyFile(t, path, first)
		case 1:
			copyFile(t, path, second)
		default:
			loose = append(loose, "--file", copyFile(t, path, t.TempDir()))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(filesOf(t, second))) {
		loose = append(loose, "--file="+filepath.Join(second, path))
	}
	twice := append(slices.Clone(loose), "--file", copyFile(t, filepath.Join(first, filepath.Base(archives[0])), t.TempDir()))
	for name, args := range map[string][]string{
		"a directory and files of others":    append([]string{first}, loose...),
		"the same archive in two places":     append([]string{first}, twice...),
		"a file as the word, and the others": append(slices.Clone(loose), allOf(t, first)...),
	} {
		if diff := cmp.Diff(want, pushedBy(t, args...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// From unpack on the several directories are one Inventory: it can be packed.
	paths := []string{first, second}
	for _, path := range loose {
		if filepath.Dir(path) != second && strings.HasSuffix(path, ".tar") && !strings.HasPrefix(path, "--") {
			paths = append(paths, path)
		}
	}
	inventory := run(t, "", "ferry-unpack", paths...)
	if more := decode[contract.InventorySpec](t, inventory).Spec.Store.More; len(more) != len(paths)-1 {
		t.Errorf("the Inventory names %d more directories, want %d", len(more), len(paths)-1)
	}
	one := t.TempDir()
	run(t, inventory, "ferry-pack", one)
	if diff := cmp.Diff(want, pushedBy(t, one)); diff != "" {
		t.Errorf("packed into one (-want +got):\n%s", diff)
	}
}

// S7.1.1, S7.4.5: what cannot be taken together is refused before the first
// write: a directory without archives, whatever else is named; an unfinished
// bundle; one tag for two images, whose archives are named.
func TestPushRefusesToMerge(t *testing.T) {
	t.Parallel()
	target := registrytest.Start(t, registrytest.New())
	platform := filepath.Join(d8Bundle, "platform.tar")
	unfinished := t.TempDir()
	copyFile(t, platform, unfinished)
	if err := os.WriteFile(filepath.Join(unfinished, "bundle.partial.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join("testdata", "golden", "d8-pinned-stable", "platform.tar")
	for _, tc := range []struct {
		name string
		args []string
		code int
		text []string
	}{
		{"S7.1.1, no archives in the directory", []string{t.TempDir(), "--file", platform}, 64, []string{"there are no archives"}},
		{"S7.1.2, no such file", []string{d8Bundle, "--file", "nowhere.tar"}, 64, []string{"nowhere.tar"}},
		{"S7.1.2, a directory", []string{d8Bundle, "--file", filepath.Join("testdata", "golden", "d8-pinned-stable")}, 64, []string{"is a directory"}},
		{"S7.1.2, no archive", []string{d8Bundle, "--file", filepath.Join(d8Bundle, "flags.txt")}, 64, []string{"not an archive"}},
		{"S7.1.1, unfinished", []string{unfinished, "--file", filepath.Join(d8Bundle, "security.tar")}, 65, []string{"not finished"}},
		{"S7.4.5, two images for one tag", []string{"--file", platform, "--file", other}, 65, []string{"d8-default/platform.tar", "d8-pinned-stable/platform.tar"}},
	} {
		r := try(t, "", "ferry-push", append(tc.args, target.Host+"/mirror/dkp", "--insecure")...)
		for _, text := range tc.text {
			if r.code != tc.code || !strings.Contains(r.stderr, text) {
				t.Errorf("%s: exit status %d, want %d with %q\n%s", tc.name, r.code, tc.code, text, r.stderr)
			}
		}
	}
	if writes := target.Writes(); len(writes) > 0 {
		t.Errorf("there were writes: %v", writes)
	}
}

// rewritten copies an archive with other entry names; "" leaves an entry out.
func rewritten(t *testing.T, from, to string, rename func(string) string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	reader, writer := tar.NewReader(bytes.NewReader(text)), tar.NewWriter(&out)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Name = rename(header.Name); header.Name == "" {
			continue
		}
		if err := writer.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(writer, reader); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(writer.Close(), os.WriteFile(to, out.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// S7.4.4, S6.2.5: a module's archive of the old form, without the path of the
// module in it, gives the same tags and the same discovery tag; its file's name
// alone says which module it is. S7.5.2: with --modules-path-suffix too.
func TestPushLegacyModule(t *testing.T) {
	t.Parallel()
	modern := filepath.Join(d8Bundle, "module-mod-00.tar")
	dir := t.TempDir()
	rewritten(t, modern, filepath.Join(dir, "module-mod-00.tar"), func(name string) string {
		return strings.TrimPrefix(name, "modules/mod-00/")
	})
	for _, flags := range [][]string{nil, {"--modules-path-suffix", "/"}, {"--modules_path_suffix=/my/mods/"}, {"--modules-path-suffix="}} {
		want := pushedBy(t, append([]string{modern}, flags...)...)
		if len(want) < 3 {
			t.Fatalf("%v: only %v was pushed", flags, want)
		}
		if diff := cmp.Diff(want, pushedBy(t, append([]string{dir}, flags...)...)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", flags, diff)
		}
	}
	// A name that only begins like the module's is a name of the module: the
	// archive is not of the old form.
	longer := t.TempDir()
	rewritten(t, modern, filepath.Join(longer, "module-mod.tar"), func(name string) string { return name })
	if diff := cmp.Diff(pushedBy(t, modern), pushedBy(t, longer)); diff != "" {
		t.Errorf("a string prefix (-want +got):\n%s", diff)
	}
}

// S7.5.2, S7.7: where modules and their discovery tags land.
func TestPushModulesPathSuffix(t *testing.T) {
	t.Parallel()
	for suffix, want := range map[string]string{"": "modules", "/modules": "modules", "/": "", "/my/mods": "my/mods"} {
		base := strings.TrimSuffix("mirror/dkp/"+want, "/")
		tags := pushedBy(t, filepath.Join(d8Bundle, "module-mod-00.tar"), "--modules-path-suffix", suffix)
		if _, ok := tags[base+":mod-00"]; !ok {
			t.Errorf("%q: no discovery tag %s:mod-00 among %v", suffix, base, tags)
		}
		for name := range tags {
			if name != base+":mod-00" && !strings.HasPrefix(name, base+"/mod-00") {
				t.Errorf("%q: %s", suffix, name)
			}
		}
	}
}

// S2.5: what else d8's flags of push mean here.
func TestPushFlags(t *testing.T) {
	t.Parallel()
	security := filepath.Join(d8Bundle, "security.tar")
	target := registrytest.Start(t, registrytest.New(registrytest.WithBasicAuth("user", "")))
	work := filepath.Join(t.TempDir(), "work")
	receipt := filepath.Join(t.TempDir(), "receipt.json")
	out := run(t, "", "ferry-push", target.Host+"/mirror", "-uuser", "--insecure=true", "--file", security, "--tmp_dir", work, "--receipt", receipt)
	if _, err := os.Stat(work); out != "" || err == nil {
		t.Errorf("S2.5.2, a login without a password: standard output has %q, --tmp-dir was made: %v", out, err == nil)
	}
	text, err := os.ReadFile(receipt)
	if err != nil || len(decode[contract.ReceiptSpec](t, string(text)).Spec.Tags) == 0 {
		t.Errorf("--receipt: %v", err)
	}
	for _, flags := range [][]string{{"--no-such-flag"}, {"--file"}, {"--insecure=perhaps"}} {
		if r := try(t, "", "ferry-push", append([]string{"--file", security, target.Host + "/mirror"}, flags...)...); r.code != 64 {
			t.Errorf("%v: exit status %d", flags, r.code)
		}
	}
}
