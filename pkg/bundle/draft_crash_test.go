//go:build linux

package bundle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ferry/pkg/fault"
)

// The tests below run this test binary again as a child, which fills the sample
// into the directory that the variable names.
const childDirEnv = "FERRY_BUNDLE_TEST_DIR"

// crashChunk makes a few files of each archive.
const crashChunk = 5000

func TestMain(m *testing.M) {
	dir := os.Getenv(childDirEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := fillAsChild(dir); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func fillAsChild(dir string) error {
	ctx := context.Background()
	b := sampleBuilder()
	contents, err := b.valid()
	if err != nil {
		return err
	}
	d, err := OpenDraft(ctx, dir, contents, nil, Options{ChunkSize: crashChunk, Gost: true, HashLater: true})
	if err != nil {
		return err
	}
	defer d.Close()
	if err := fillDraft(ctx, d, contents, b.store, rand.New(rand.NewPCG(7, 8))); err != nil {
		return err
	}
	if err := d.Sync(ctx); err != nil {
		return err
	}
	_, err = d.Finish(ctx)
	return err
}

func needStrace(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs many processes")
	}
	if out, err := exec.CommandContext(t.Context(), "strace", "-f", "-e", "trace=none", "true").CombinedOutput(); err != nil {
		t.Skipf("strace is missing or may not trace: %v: %s", err, out)
	}
}

// crashed fills the sample in a child that dies at its n-th call, and reports
// whether it lived.
func crashed(t *testing.T, dir, call string, n int) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), os.Args[0])
	cmd.Env = append(os.Environ(), childDirEnv+"="+dir)
	out, err := cmd.CombinedOutput()
	if len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	return err == nil
}

// A Draft that is killed in any of its steps goes on, and ends with the archives
// that Write makes and nothing else. strace counts by thread, so which call n
// stands for differs from run to run.
func TestDraftKilled(t *testing.T) {
	needStrace(t)
	opts := Options{ChunkSize: crashChunk, Gost: true}
	want, contents, content := reference(t, opts)
	for call, stride := range map[string]int{"fsync": 1, "renameat": 1, "unlinkat": 1, "fallocate": 1, "ftruncate": 1, "write": 3, "pwrite64": 5} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n += stride {
				dir := t.TempDir()
				lived := crashed(t, dir, call, n)
				if err := finishDraft(t, dir, contents, content, opts); err != nil {
					t.Fatalf("killed at %s %d: %v", call, n, err)
				}
				sameDirectories(t, want, dir)
				if lived {
					if n == 1 {
						t.Fatalf("the child never calls %s", call)
					}
					return
				}
				if n > 1000 {
					t.Fatalf("the child still dies at call %d", n)
				}
			}
		})
	}
}

// What was not synced when the power failed may be anything. What the log calls
// received is there; all else is hashed before it is believed, and at most asked
// for again.
func TestDraftAfterPowerLoss(t *testing.T) {
	needStrace(t)
	opts := Options{ChunkSize: crashChunk, Gost: true}
	want, contents, content := reference(t, opts)
	plans, err := planArchives(contents, crashChunk)
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for n := 1; n <= 60; n += 4 {
		dir := t.TempDir()
		if crashed(t, dir, "fsync", n) {
			break
		}
		for _, p := range plans {
			lost += garble(t, dir, p)
		}
		err := finishDraft(t, dir, contents, content, opts)
		for tries := 0; fault.KindOf(err) == fault.Transient && tries < len(contents.Parts()); tries++ {
			err = finishDraft(t, dir, contents, content, opts)
		}
		if err != nil {
			t.Fatalf("power lost at sync %d: %v", n, err)
		}
		sameDirectories(t, want, dir)
	}
	if lost == 0 {
		t.Error("nothing was lost: nothing is shown")
	}
}

var (
	writtenRE = regexp.MustCompile(`pwrite64\(\d+<([^>]*\.ferry-partial)>`)
	fsyncRE   = regexp.MustCompile(`fsync\(\d+<([^>]*)>`)
	loggedRE  = regexp.MustCompile(`write\(\d+<[^>]*\.log>, "[+]`)
)

// The log calls a blob received only after its bytes are on the disk, in all files
// that it lies in.
func TestDraftSyncsBeforeItLogs(t *testing.T) {
	needStrace(t)
	dir, trace := t.TempDir(), filepath.Join(t.TempDir(), "trace")
	cmd := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-y", "-s", "8", "-o", trace, "-e", "trace=pwrite64,write,fsync", os.Args[0])
	cmd.Env = append(os.Environ(), childDirEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dirty := map[string]bool{}
	syncing := map[string]string{} // by thread
	logged, written := 0, 0
	for line := range strings.Lines(string(readFile(t, trace))) {
		thread, _, _ := strings.Cut(line, " ")
		switch {
		case strings.Contains(line, "fsync resumed"):
			delete(dirty, syncing[thread])
		case fsyncRE.MatchString(line):
			if path := fsyncRE.FindStringSubmatch(line)[1]; strings.Contains(line, "unfinished") {
				syncing[thread] = path
			} else {
				delete(dirty, path)
			}
		case writtenRE.MatchString(line):
			dirty[writtenRE.FindStringSubmatch(line)[1]] = true
			written++
		case loggedRE.MatchString(line):
			logged++
			if len(dirty) > 0 {
				t.Fatalf("%d files are not synced when the log says what they hold: %v", len(dirty), dirty)
			}
		}
	}
	if logged == 0 || written == 0 {
		t.Errorf("%d lines were logged, and %d writes seen: nothing is shown", logged, written)
	}
}

// garble overwrites all places of an archive whose blobs the log does not call
// received, and returns how many.
func garble(t *testing.T, dir string, p *archivePlan) int {
	t.Helper()
	said, ok, err := readLog(filepath.Join(dir, p.name+logSuffix))
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return 0
	}
	opened := newWriters(dir)
	defer opened.Close()
	files, err := newParts(opened, (&Draft{dir: dir}).named(p.files))
	if errors.Is(err, fault.Damaged) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range p.entries {
		if _, received := said.received[e.digest]; received || e.data != nil || e.size == 0 {
			continue
		}
		noise := make([]byte, e.size)
		for i := range noise {
			noise[i] = 0xa5
		}
		if _, err := files.WriteAt(noise, e.offset); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}
