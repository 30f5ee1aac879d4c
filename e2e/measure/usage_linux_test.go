package measure

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What is measured is the program's own, not that of the process which started
// it, and not less than it must have used.
func TestRunner(t *testing.T) {
	runner, err := NewRunner(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ours := make([]byte, 128<<20)
	for i := range ours {
		ours[i] = 1 // resident, so that a child could inherit it
	}
	out := filepath.Join(t.TempDir(), "out")
	onDisk := int64(4_000_000)
	if inMemory(t, out) {
		onDisk = 0
	}
	for _, tt := range []struct {
		script   string
		min, max int64 // MiB of memory
		written  int64 // bytes at least
		cpu      time.Duration
		exit     int
	}{
		{"exit 3", 1, 64, 0, 0, 3},
		{"text=$(head -c 40000000 /dev/zero | tr '\\0' x)", 38, 1 << 10, 0, 0, 0},
		{"head -c 4000000 /dev/zero > " + out + "; rm " + out, 1, 64, onDisk, 0, 0},
		{"dd if=/dev/zero of=" + out + " bs=1M count=4 oflag=direct; rm " + out, 1, 64, onDisk, 0, 0},
		{"i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done", 1, 64, 0, 10 * time.Millisecond, 0},
	} {
		used, err := runner.Run(exec.CommandContext(t.Context(), "/bin/sh", "-c", tt.script))
		exit := 0
		if status := (*exec.ExitError)(nil); errors.As(err, &status) {
			exit = status.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.exit, exit); diff != "" {
			t.Errorf("%s: exit status (-want +got):\n%s", tt.script, diff)
		}
		if mib := used.Peak >> 20; mib < tt.min || mib > tt.max {
			t.Errorf("%s: peak of %d MiB, want %d to %d", tt.script, mib, tt.min, tt.max)
		}
		if used.CPU < tt.cpu || used.CPU > 10*time.Second {
			t.Errorf("%s: %v on processors, want at least %v", tt.script, used.CPU, tt.cpu)
		}
		if used.Written < tt.written {
			t.Errorf("%s: %d bytes written, want at least %d", tt.script, used.Written, tt.written)
		}
	}
	if len(ours) != 128<<20 || ours[len(ours)-1] != 1 {
		t.Error("the compiler dropped what the child could have inherited")
	}
}

// inMemory reports whether path lies on a tmpfs, whose writes reach no disk.
func inMemory(t *testing.T, path string) bool {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &s); err != nil {
		t.Fatal(err)
	}
	return s.Type == 0x01021994
}

// A file that is gone at the end has been there.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	stop := Watch(dir)
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := SyncFS(dir); err != nil { // nothing is on disk before
		t.Fatal(err)
	}
	time.Sleep(3 * shortestPause)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	peak, err := stop()
	if err != nil {
		t.Fatal(err)
	}
	if peak < 1<<20 || peak > 2<<20 {
		t.Errorf("the peak is %d bytes, want %d", peak, 1<<20)
	}
}

func TestSum(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for path, size := range map[string]int{a + "/one": 10, a + "/sub/two": 20, b + "/three": 5000} {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := Settle(a, b); err != nil {
		t.Fatal(err)
	}
	got, err := Sum(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if got.Bytes != 5030 {
		t.Errorf("%d bytes, want 5030", got.Bytes)
	}
	if got.Disk%512 != 0 {
		t.Errorf("%d bytes on disk: not in sectors", got.Disk)
	}
}
