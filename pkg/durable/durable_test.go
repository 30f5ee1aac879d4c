package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/fault"
)

// files returns what lies in dir: name to content.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(text)
	}
	return out
}

func wantFiles(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("the directory (-want +got):\n%s", diff)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "document.json")
	for _, text := range []string{"first", "", "second, and longer"} {
		must(t, WriteFile(path, []byte(text), 0o600))
		wantFiles(t, dir, map[string]string{"document.json": text})
	}
	info, err := os.Stat(path)
	must(t, err)
	if runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("mode is %v, want 0600", info.Mode())
	}
}

func TestFileIsSeenWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.tar")
	must(t, os.WriteFile(path, []byte("old"), 0o644))

	abandoned, err := Create(path)
	must(t, err)
	_, err = fmt.Fprint(abandoned, "half")
	must(t, err)
	if got := files(t, dir)["a.tar"]; got != "old" {
		t.Errorf("before Commit the file is %q, want the old one", got)
	}
	must(t, abandoned.Close())
	must(t, abandoned.Close())
	wantFiles(t, dir, map[string]string{"a.tar": "old"})
	if err := abandoned.Commit(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Commit after Close is %v, want closed", err)
	}

	f, err := Create(path)
	must(t, err)
	_, err = fmt.Fprint(f, "new")
	must(t, err)
	must(t, f.Commit())
	must(t, f.Close())
	wantFiles(t, dir, map[string]string{"a.tar": "new"})
}

func TestCreateSweepsDeadWriters(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.tar")
	living, err := Create(path)
	must(t, err)
	defer living.Close()
	dead := ".a.tar." + strings.Repeat("D", 26) + ".tmp"
	others := map[string]string{
		".b.tar." + strings.Repeat("D", 26) + ".tmp":   "another file's writer",
		".a.tar.b." + strings.Repeat("D", 24) + ".tmp": "another file's writer",
		".a.tar.tmp": "somebody's own",
		"a.tar.tmp":  "somebody's own",
	}
	for name, text := range others {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	must(t, os.WriteFile(filepath.Join(dir, dead), []byte("half an archive"), 0o644))

	must(t, WriteFile(path, []byte("new"), 0o644))
	must(t, living.Commit())
	others["a.tar"] = "" // the last one to commit wins
	wantFiles(t, dir, others)
}

func TestIsUnfinished(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"f", "a.tar.0001.chunk"} {
		f, err := Create(filepath.Join(dir, name))
		must(t, err)
		defer f.Close()
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if !IsUnfinished(e.Name()) {
			t.Errorf("%s, of a file that is being written, is not known", e.Name())
		}
	}
	if len(entries) != 2 {
		t.Errorf("%d files are being written, want 2", len(entries))
	}
	random := strings.Repeat("A", 26)
	for _, name := range []string{"f", ".f", ".f.tmp", "x.f." + random + ".tmp", ".f." + random, ".f." + random + "A.tmp", "." + random + ".tmp"} {
		if IsUnfinished(name) {
			t.Errorf("%s, a file of somebody, is taken for unfinished", name)
		}
	}
}

func TestConcurrentWritersOfOneFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			text := strings.Repeat(string(rune('a'+i)), 10_000)
			for range 10 {
				if err := WriteFile(path, []byte(text), 0o644); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := files(t, dir)
	if text := got["f"]; len(got) != 1 || len(text) != 10_000 || strings.Trim(text, text[:1]) != "" {
		t.Errorf("%d files, and f is a mix of %d bytes", len(got), len(text))
	}
}

func TestCreateRefusesWhatIsNoFile(t *testing.T) {
	for _, path := range []string{t.TempDir(), os.DevNull} {
		if runtime.GOOS == "windows" && path == os.DevNull {
			continue
		}
		f, err := Create(path)
		if err == nil {
			f.Close()
		}
		if fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v, want a usage fault", path, err)
		}
	}
}

func TestCreateInMissingDirectory(t *testing.T) {
	_, err := Create(filepath.Join(t.TempDir(), "no", "f"))
	if fault.KindOf(err) != fault.Local || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want a local one that says what is missing", err)
	}
}

// A file that is created stands in a link's place; a document's name, which a
// person chose, may not be a link: /dev/stderr is one.
func TestLinks(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "target")
	must(t, os.WriteFile(elsewhere, []byte("kept"), 0o644))
	path := filepath.Join(dir, "f")
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Skipf("no symbolic links: %v", err)
	}
	if err := WriteFile(path, []byte("new"), 0o644); fault.KindOf(err) != fault.Usage {
		t.Errorf("writing through a link: %v, want usage", err)
	}
	f, err := Create(path)
	must(t, err)
	_, err = f.Write([]byte("new"))
	must(t, err)
	must(t, f.Commit())
	wantFiles(t, dir, map[string]string{"f": "new"})
	wantFiles(t, filepath.Dir(elsewhere), map[string]string{"target": "kept"})
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "c")
	for range 2 {
		must(t, MkdirAll(path, 0o755))
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			t.Fatalf("%s: %v", path, err)
		}
	}
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o644))
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if err := MkdirAll(path, 0o755); fault.KindOf(err) != fault.Local {
			t.Errorf("%s: %v, want a local fault", path, err)
		}
	}
	t.Chdir(dir)
	must(t, MkdirAll("relative/path", 0o755))
	must(t, MkdirAll(".", 0o755))
}

func TestTryLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	handle := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		must(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	want := func(f *os.File, exclusive, want bool) {
		t.Helper()
		if got, err := TryLock(f, exclusive); got != want || err != nil {
			t.Errorf("TryLock is %v, %v; want %v", got, err, want)
		}
	}
	a, b, c := handle(), handle(), handle()
	want(a, false, true)
	want(b, false, true)
	want(c, true, false)
	a.Close()
	b.Close()
	want(c, true, true)
	want(handle(), false, false)
	if runtime.GOOS == "windows" {
		return // a file in use cannot be removed
	}
	// A lock on a file that was removed would guard nothing.
	orphan := handle()
	c.Close()
	must(t, os.Remove(path))
	want(orphan, true, false)
	want(handle(), true, true)
	want(orphan, true, false) // and another file stands there now
}

func TestFault(t *testing.T) {
	if err := Fault("f", nil); err != nil {
		t.Errorf("nil becomes %v", err)
	}
	known := fault.New(fault.Transient, "blob", nil)
	if err := Fault("f", known); err != known {
		t.Errorf("an error with a kind becomes %v", err)
	}
	for _, tc := range []struct {
		err  error
		text string
		hint string
		want *fault.Cause // S2.6
	}{
		{&fs.PathError{Op: "write", Path: "/x/f", Err: syscall.ENOSPC}, "f: write: " + syscall.ENOSPC.Error(), "free space", fault.DiskFull},
		{&fs.PathError{Op: "write", Path: "/x/f", Err: syscall.EDQUOT}, "f: write: " + syscall.EDQUOT.Error(), "quota", fault.DiskFull},
		{&os.LinkError{Op: "rename", Old: "/x", New: "/y", Err: syscall.EROFS}, "f: rename: " + syscall.EROFS.Error(), "read-only", nil},
		{syscall.EACCES, "f: " + syscall.EACCES.Error(), "right", fault.Permission},
		{&fs.PathError{Op: "open", Path: "/x/f", Err: syscall.EPERM}, "f: open: " + syscall.EPERM.Error(), "right", fault.Permission},
		{syscall.EIO, "f: " + syscall.EIO.Error(), "disk failed", nil},
		{errors.New("odd"), "f: odd", "", nil},
	} {
		err := Fault("f", tc.err)
		if got := fault.CauseOf(err); runtime.GOOS != "windows" && got != tc.want {
			t.Errorf("the cause of %v is %v, want %v", tc.err, got, tc.want)
		}
		if fault.KindOf(err) != fault.Local || err.Error() != tc.text {
			t.Errorf("%v becomes %q of kind %v, want %q of kind local disk", tc.err, err, fault.KindOf(err), tc.text)
		}
		if hint := fault.HintOf(err); runtime.GOOS != "windows" && (!strings.Contains(hint, tc.hint) || (tc.hint == "") != (hint == "")) {
			t.Errorf("the advice for %v is %q, want one with %q", tc.err, hint, tc.hint)
		}
	}
}

// FuzzTempNames: sweeping removes files, so it must know its own from others.
func FuzzTempNames(f *testing.F) {
	f.Add("a", "a.b")
	f.Add("a.tar", ".a.tar.")
	f.Fuzz(func(t *testing.T, one, two string) {
		if strings.Contains(one+two, "/") || filepath.Base(one) == filepath.Base(two) {
			return
		}
		name := tempPrefix(two) + strings.Repeat("X", 26) + tempSuffix
		if !isTemp(two, name) {
			t.Errorf("%q is not taken for a temporary file of %q", name, two)
		}
		if isTemp(one, name) {
			t.Errorf("%q of %q is taken for one of %q", name, two, one)
		}
	})
}

// B13, B14: what does not fit is told before it is tried, with how much is missing.
// TestSmallDisks of e2e asks real file systems.
func TestFits(t *testing.T) {
	dir := t.TempDir()
	free, known := Free(dir)
	if !known {
		t.Skip("the system does not tell")
	}
	const much = 1 << 40
	for _, tc := range []struct {
		name      string
		sizes     []int64
		reclaimed int64
		refused   string
	}{
		{"nothing", nil, 0, ""},
		{"a little", []int64{1, 2}, 0, ""},
		{"more than is free", []int64{free, much}, 0, "are missing"},
		{"where much comes back", []int64{free, much}, 2 * much, ""},
	} {
		err := Fits(dir, tc.sizes, tc.reclaimed, "make room")
		if tc.refused == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if fault.KindOf(err) != fault.Local || fault.CauseOf(err) != fault.DiskFull || !strings.Contains(err.Error(), tc.refused) || fault.HintOf(err) != "make room" {
			t.Errorf("%s: %v (%v, hint %q)", tc.name, err, fault.KindOf(err), fault.HintOf(err))
		}
	}
}
