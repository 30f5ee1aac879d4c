package streebog

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkStreebog256 has MB/s by the clock and, for a machine with other work,
// by the time that a core was given to it; for each form.
func BenchmarkStreebog256(b *testing.B) {
	for _, form := range forms {
		for _, write := range []struct {
			name string
			size int
		}{{"8KiB", 8 << 10}, {"1MiB", 1 << 20}} {
			b.Run(form.name+"/"+write.name, func(b *testing.B) {
				if !form.has {
					b.Skip("this processor has not got the instructions")
				}
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				h, data := newDigest(Size256, form.wide), make([]byte, write.size)
				b.SetBytes(int64(write.size))
				before := threadTime(b)
				for b.Loop() {
					h.Write(data)
				}
				used := threadTime(b) - before
				b.ReportMetric(float64(b.N)*float64(write.size)/1e6/used.Seconds(), "MB/cpu-s")
			})
		}
	}
}

// BenchmarkAgainstRhash has this package and rhash hash one file in turn. Both
// read it, from memory, and what counts is the time that a core worked for them,
// so other load on the machine hits both alike. x/rhash below 1 is faster.
func BenchmarkAgainstRhash(b *testing.B) {
	rhash, err := exec.LookPath("rhash")
	if err != nil {
		b.Skip("rhash is not installed")
	}
	const size = 16 << 20 // beside which the start of a process is nothing
	file := filepath.Join(b.TempDir(), "file")
	data := make([]byte, size)
	rand.Read(data)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		b.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var ours, theirs time.Duration
	n := 0
	for b.Loop() {
		for range 4 { // short turns
			before := threadTime(b)
			sum := sumOfFile(b, file)
			ours += threadTime(b) - before

			cmd := exec.Command(rhash, "--simple", "--gost12-256", file)
			out, err := cmd.Output()
			if err != nil || !strings.HasPrefix(string(out), sum) {
				b.Fatalf("rhash says %q, %v; want %s", out, err, sum)
			}
			theirs += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			n++
		}
	}
	b.ReportMetric(0, "ns/op") // of both together: of no use
	b.ReportMetric(float64(n)*size/1e6/ours.Seconds(), "MB/cpu-s")
	b.ReportMetric(float64(n)*size/1e6/theirs.Seconds(), "rhash-MB/cpu-s")
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x/rhash")
	if ours > theirs {
		b.Errorf("%v of a core, rhash %v", ours, theirs)
	}
}

func sumOfFile(b *testing.B, file string) string {
	b.Helper()
	f, err := os.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	h := New256()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, 64<<10)); err != nil {
		b.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// threadTime is how long a core has worked for this thread.
func threadTime(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
