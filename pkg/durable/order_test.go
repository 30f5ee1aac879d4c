//go:build linux

package durable

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const childDirEnv = "FERRY_DURABLE_TEST_DIR"

// TestChild is what TestOrderOfSystemCalls traces.
func TestChild(t *testing.T) {
	dir := os.Getenv(childDirEnv)
	if dir == "" {
		t.Skip("is run by TestOrderOfSystemCalls")
	}
	must(t, MkdirAll(filepath.Join(dir, "a", "b"), 0o755))
	must(t, WriteFile(filepath.Join(dir, "a", "b", "f"), []byte("text"), 0o644))
}

// TestOrderOfSystemCalls stands in for pulling the plug: bytes before their
// name, and every name, of directories too, synced where it stands.
func TestOrderOfSystemCalls(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "strace", "-f", "-e", "trace=none", "true").CombinedOutput(); err != nil {
		t.Skipf("strace is missing or may not trace: %v: %s", err, out)
	}
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	// -z prints a call when it has succeeded, so in one line: without it, a call
	// that another thread's event interrupts stands there in two, and only the
	// second says that it failed.
	cmd := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-z", "-y", "-s", "4096", "-o", log,
		"-e", "trace=mkdirat,fsync,renameat", os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childDirEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(log)
	must(t, err)
	var got []string
	random := regexp.MustCompile(`[A-Z2-7]{26}`)
	for _, m := range regexp.MustCompile(`(mkdirat|fsync|renameat)\((.*)`).FindAllStringSubmatch(string(text), -1) {
		// The last path of the call, relative to the test's directory.
		i := strings.LastIndex(m[2], dir)
		if i < 0 {
			continue
		}
		path := m[2][i+len(dir):]
		path = path[:strings.IndexAny(path, `>"`)]
		got = append(got, m[1]+" "+random.ReplaceAllString(path, "RANDOM"))
	}
	want := []string{
		"mkdirat /a", "fsync ", "mkdirat /a/b", "fsync /a",
		"fsync /a/b/.f.RANDOM.tmp", "renameat /a/b/f", "fsync /a/b",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the order (-want +got):\n%s\nthe log:\n%s", diff, text)
	}
}
