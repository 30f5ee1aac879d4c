package e2e

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// moment is when a stage gets its signal: at its n-th system call of a kind, or at
// its n-th request where call is "".
type moment struct {
	call string
	n    int
}

// wantStopped is how many signals of a stage shall come in time, and mostTries how
// many are sent for that: which call of a thread is the n-th differs.
const wantStopped, mostTries = 20, 60

// moments are spread over a stage: over its requests first, then over what it does
// between them.
func moments(requests int) []moment {
	var out []moment
	for i := 1; i <= 10 && requests > 0; i++ {
		out = append(out, moment{n: max(1, requests*i/10)})
	}
	for _, n := range []int{1, 2, 3, 5, 9, 17, 33, 65, 129, 257} {
		out = append(out, moment{"write", n}, moment{"fsync", n})
	}
	for _, n := range []int{1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24} {
		out = append(out, moment{"read", n}, moment{"mmap", n})
	}
	return out[:min(len(out), mostTries)]
}

// A stage that is told to stop, at any moment, ends with 130 or 143, as a shell
// sees it, and never with 0 unless its work was done; it leaves nothing half-done
// that looks whole, and the same command again ends as if nothing had been.
//
// B12, S9 row 84, S5.6.13.
func TestStagesInterrupted(t *testing.T) {
	t.Parallel()
	needStrace(t)
	for _, job := range stageJobs(t) {
		t.Run(job.name, func(t *testing.T) {
			want, requests := job.undisturbed(t)
			stopped := 0
			for i, at := range moments(requests) {
				if stopped == wantStopped {
					break
				}
				signal := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i%2]
				a := job.begin(t)
				code, stderr := a.stopped(t, at, signal)
				switch done := a.state(t)["out.json"] == want["out.json"]; {
				case code == 128+int(signal) && !done:
					stopped++
				case code == 0 && done, code == 128+int(signal): // it came too late
				default:
					t.Errorf("%v at %+v: exit status %d, the document is written: %v\n%s", signal, at, code, done, stderr)
				}
				a.assertNotHalf(t, want)
				if r := finish(t, a.cmd(t)); r.code != 0 {
					t.Fatalf("%v at %+v: the same command ends with %d\n%s", signal, at, r.code, r.stderr)
				}
				if diff := cmp.Diff(want, a.state(t)); diff != "" {
					t.Fatalf("%v at %+v: what is there after the same command (-undisturbed +stopped):\n%s", signal, at, diff)
				}
			}
			if stopped < wantStopped/2 {
				t.Errorf("only %d signals came in time", stopped)
			}
			t.Attr("cases", strconv.Itoa(stopped))
			t.Attr("figure:signals", strconv.Itoa(stopped))
		})
	}
}

// stopped runs the stage, sends it the signal and returns the exit status that a
// shell sees: 128 and the signal where that killed it, as a second one does.
func (a *attempt) stopped(t *testing.T, at moment, signal syscall.Signal) (code int, stderr string) {
	t.Helper()
	if at.call == "" {
		r, _ := a.runSignalled(t, at.n, signal)
		if r.code == -1 {
			r.code = 128 + int(signal)
		}
		return r.code, r.stderr
	}
	// Each thread counts for itself, so there may be a second signal.
	cmd := a.cmd(t, "strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace="+at.call,
		"-e", fmt.Sprintf("inject=%s:signal=%d:when=%d", at.call, int(signal), at.n))
	r := finish(t, cmd)
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() && status.Signal() == signal {
		r.code = 128 + int(signal)
	}
	return r.code, r.stderr
}
