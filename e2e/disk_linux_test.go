package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// needSmallDisks skips a test where no small file system can be mounted.
func needSmallDisks(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs many processes")
	}
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir).CombinedOutput()
	if err != nil {
		unavailable(t, "a small file system cannot be mounted here: %v: %s", err, out)
	}
}

// growing runs a stage on a file system of some size, again on the same with
// more room, and copies what is there then: the mount is visible to it alone.
const growing = `
	set -u
	dir=$1 small=$2 large=$3 copy=$4; shift 4
	mount -t tmpfs -o "$small" tmpfs "$dir" || exit 99
	"$@" < "$copy/stdin" 2> "$copy/first.log"; echo $?
	find "$dir" -path '*/blobs/sha256/*' -type f | sort > "$copy/kept"
	mount -o "remount,$large" "$dir" || exit 99
	touch "$copy/between"
	"$@" < "$copy/stdin" 2> "$copy/second.log"; echo $?
	find "$dir" -path '*/blobs/sha256/*' -type f -newer "$copy/between" | sort > "$copy/written"
	cp -a "$dir" "$copy/end"
`

// grown is how the two runs ended.
type grown struct {
	first, second string // exit status
	firstLog      string
	secondLog     string
	kept, written []string // blobs after the first, and those that the second wrote
	state         map[string]string
}

func (a *attempt) onDisk(t *testing.T, small string) grown {
	t.Helper()
	copied := t.TempDir()
	if err := os.WriteFile(filepath.Join(copied, "stdin"), []byte(a.stdin), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := a.cmd(t, "unshare", "-rm", "sh", "-c", growing, "sh", a.dir, small, "size=64m,nr_inodes=0", copied)
	r := finish(t, cmd)
	statuses := strings.Fields(r.stdout)
	if r.code != 0 || len(statuses) != 2 {
		t.Fatalf("the script ends with %d: %s%s", r.code, r.stdout, r.stderr)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(copied, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return grown{
		statuses[0], statuses[1], read("first.log"), read("second.log"), strings.Fields(read("kept")), strings.Fields(read("written")),
		a.stateIn(t, filepath.Join(copied, "end")),
	}
}

// jobsNamed are some of the stages.
func jobsNamed(t *testing.T, names ...string) []stageJob {
	t.Helper()
	return slices.DeleteFunc(stageJobs(t), func(j stageJob) bool { return !slices.Contains(names, j.name) })
}

// Disks that are too small, from nothing to all but a little of what is needed, in
// bytes and in inodes: the stage ends with 74, says what is missing as soon as it
// can know, and keeps what is finished; with more room the same command ends as if
// nothing had been.
//
// B13.
func TestSmallDisks(t *testing.T) {
	t.Parallel()
	needSmallDisks(t)
	for _, job := range jobsNamed(t, "fetch", "fetch into archives", "pack", "pack layouts", "unpack into a store") {
		t.Run(job.name, func(t *testing.T) {
			reference := job.begin(t)
			if r := finish(t, reference.cmd(t)); r.code != 0 {
				t.Fatal(r.stderr)
			}
			want := reference.state(t)
			var pages, files int64
			for _, info := range infos(t, reference.dir) {
				pages += (info.Size() + 4095) / 4096
				files++
			}
			var disks []string
			for step := int64(1); step <= 20; step++ {
				disks = append(disks, fmt.Sprintf("size=%dk,nr_inodes=0", max(1, pages*step/20)*4))
			}
			for _, percent := range []int64{10, 40, 80} {
				disks = append(disks, fmt.Sprintf("size=64m,nr_inodes=%d", max(2, files*percent/100)))
			}
			refused, explained := 0, 0
			for _, disk := range disks {
				got := job.begin(t).onDisk(t, disk)
				switch {
				case got.first == "74":
					refused++
					if strings.Contains(got.firstLog, "are missing") && !strings.Contains(got.firstLog, "no space left") {
						explained++ // before anything was tried
					}
					if !strings.Contains(got.firstLog, "hint: free some space") && !strings.Contains(got.firstLog, "hint: free space") {
						t.Errorf("%s: no advice:\n%s", disk, got.firstLog)
					}
				case got.first != "0":
					t.Errorf("%s: exit status %s, want 74\n%s", disk, got.first, got.firstLog)
				}
				if got.second != "0" {
					t.Fatalf("%s, and more room: exit status %s\n%s", disk, got.second, got.secondLog)
				}
				if diff := cmp.Diff(want, got.state); diff != "" {
					t.Fatalf("%s, and more room (-undisturbed +after):\n%s", disk, diff)
				}
				for _, blob := range got.written {
					if slices.Contains(got.kept, blob) {
						t.Errorf("%s: the finished %s was written again", disk, blob)
					}
				}
			}
			if refused < len(disks)-2 || explained < len(disks)/2 {
				t.Errorf("of %d disks %d were too small, and for %d that was said before the work, with how much is missing", len(disks), refused, explained)
			}
			t.Attr("cases", strconv.Itoa(refused))
			t.Attr("figure:disk-full-steps", strconv.Itoa(refused))
		})
	}
}

// A disk that fails or fills up in the middle of the work: 74, and when it is well
// again the same command ends as if nothing had been.
//
// B13.
func TestDiskFailsMidway(t *testing.T) {
	t.Parallel()
	needStrace(t)
	faults := map[string][]string{
		"fetch":               {"pwrite64 ENOSPC 2", "pwrite64 EIO 1", "fsync EIO 1", "fsync EIO 3", "renameat EIO 2", "openat ENOSPC 90"},
		"fetch into archives": {"pwrite64 ENOSPC 3", "pwrite64 EIO 1", "fsync EIO 2", "fallocate ENOSPC 1"},
		"pack":                {"write ENOSPC 5", "write EIO 9", "fsync EIO 2", "renameat EIO 1"},
		"pack layouts":        {"write ENOSPC 5", "fsync EIO 2", "mkdirat ENOSPC 2"},
		"unpack into a store": {"pwrite64 ENOSPC 4", "fsync EIO 1", "pread64 EIO 2"},
		"publish":             {"pread64 EIO 1", "openat EIO 40"},
	}
	for _, job := range stageJobs(t) {
		if len(faults[job.name]) == 0 {
			continue
		}
		t.Run(job.name, func(t *testing.T) {
			reference := job.begin(t)
			if r := finish(t, reference.cmd(t)); r.code != 0 {
				t.Fatal(r.stderr)
			}
			want := reference.state(t)
			for _, what := range faults[job.name] {
				t.Run(what, func(t *testing.T) {
					var call, errno string
					var n int
					if _, err := fmt.Sscan(what, &call, &errno, &n); err != nil {
						t.Fatal(err)
					}
					a, r := failing(t, job, call, errno, n)
					if r.code != 74 {
						t.Errorf("exit status %d, want 74\n%s", r.code, r.stderr)
					}
					a.assertNotHalf(t, want)
					if r := finish(t, a.cmd(t)); r.code != 0 {
						t.Fatalf("healed: exit status %d\n%s", r.code, r.stderr)
					}
					if diff := cmp.Diff(want, a.state(t)); diff != "" {
						t.Errorf("healed (-undisturbed +after):\n%s", diff)
					}
				})
			}
		})
	}
}

// failing runs the job with all its calls failing from the n-th on. Each thread counts
// for itself, and on a busy machine none may get so far: then it is begun anew, with
// fewer calls that pass.
func failing(t *testing.T, job stageJob, call, errno string, n int) (*attempt, result) {
	t.Helper()
	for ; ; n = max(1, n/2) {
		a, log := job.begin(t), filepath.Join(t.TempDir(), "strace")
		r := finish(t, a.cmd(t, "strace", "-f", "-qq", "-o", log, "-e", "trace="+call,
			"-e", fmt.Sprintf("inject=%s:error=%s:when=%d+", call, errno, n)))
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if n == 1 || bytes.Contains(text, []byte("(INJECTED)")) {
			return a, r
		}
	}
}

// B14: where files may not be as large as an archive, the message speaks of chunks
// before the work, and with them the work is done.
func TestFilesMayNotBeLarge(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("prlimit"); err != nil {
		unavailable(t, "there is no prlimit: %v", err)
	}
	const most = "100000" // bytes
	for _, job := range jobsNamed(t, "fetch into archives", "pack", "pack chunks") {
		t.Run(job.name, func(t *testing.T) {
			limited := func(chunk string) (*attempt, result) {
				a := job.begin(t)
				a.program = slices.DeleteFunc(a.program, func(arg string) bool { return arg == "--chunk-size" || arg == "20000B" })
				a.program = append(a.program, "--chunk-size", chunk)
				return a, finish(t, a.cmd(t, "prlimit", "--fsize="+most))
			}
			a, r := limited("0")
			if r.code != 74 || !strings.Contains(r.stderr, "--chunk-size") || !strings.Contains(r.stderr, "at most "+most) {
				t.Errorf("exit status %d, want 74 and advice\n%s", r.code, r.stderr)
			}
			for path := range infos(t, a.dir) {
				if strings.Contains(path, ".tar") {
					t.Errorf("%s was begun", path)
				}
			}
			if _, r := limited("60000B"); r.code != 0 {
				t.Errorf("in chunks: exit status %d\n%s", r.code, r.stderr)
			}
		})
	}
}
