//go:build linux

package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
	"ferry/pkg/store/storetest"
)

// The tests below run this test binary again as a child, which does what
// childEnv says in the directory that childDirEnv names.
const (
	childEnv    = "FERRY_STORE_TEST_CHILD"
	childDirEnv = "FERRY_STORE_TEST_DIR"
)

func TestMain(m *testing.M) {
	var err error
	dir := os.Getenv(childDirEnv)
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "ingest":
		err = childIngest(dir, func() {})
	case "ingest in steps":
		err = childIngest(dir, step)
	case "fill disk":
		err = childFillDisk(dir)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

const (
	childBlobs = 24
	childGroup = 5
)

func childBlob(i int) []byte { return storetest.Content(1000 + i*4001) }

// step tells the parent that a step is reached, and waits until it says go on.
func step() {
	fmt.Println("step")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		os.Exit(1)
	}
}

// childIngest receives the blobs one after another, with a step in the middle
// and at the end of each.
func childIngest(dir string, step func()) error {
	ctx := context.Background()
	d, err := store.OpenDir(ctx, dir, store.Exclusive, store.GroupLimit(childGroup, 1<<40))
	if err != nil {
		return err
	}
	for i := range childBlobs {
		content := childBlob(i)
		if _, err := receive(ctx, d, content, func() { step() }); err != nil {
			return err
		}
		step()
	}
	return d.Close()
}

var errMiddle = errors.New("middle")

// receive continues the blob behind what is held, in two halves, and returns
// how much was held.
func receive(ctx context.Context, d *store.Dir, content []byte, middle func()) (held int64, err error) {
	ing, err := d.Ingest(ctx, describe(content))
	if err != nil {
		return 0, err
	}
	defer ing.Close()
	if h := ing.Held(); h != nil {
		held = h.Size()
	}
	half := max(held, int64(len(content)/2))
	_, err = ing.CopyFrom(ctx, held, io.MultiReader(bytes.NewReader(content[held:half]), failing{errMiddle}))
	if err != nil && !errors.Is(err, errMiddle) {
		return held, err
	}
	middle()
	if _, err := ing.CopyFrom(ctx, half, bytes.NewReader(content[half:])); err != nil {
		return held, err
	}
	return held, ing.Commit(ctx)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func child(t *testing.T, what, dir string, wrap ...string) *exec.Cmd {
	t.Helper()
	args := append(wrap, os.Args[0])
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"="+what, childDirEnv+"="+dir)
	return cmd
}

// visible checks that every visible blob is right, and returns their number.
func visible(t *testing.T, d *store.Dir) (n int) {
	t.Helper()
	if damaged, err := d.Verify(t.Context(), nil); len(damaged) > 0 || err != nil {
		t.Errorf("damaged after the crash: %v, %v", damaged, err)
	}
	for i := range childBlobs {
		content := childBlob(i)
		size, err := d.Stat(oci.DigestOf(content))
		switch {
		case err == nil && size == int64(len(content)):
			n++
		case !errors.Is(err, fault.NotFound):
			t.Errorf("blob %d: size %d, %v", i, size, err)
		}
	}
	return n
}

// afterCrash opens the store that a killed process left, checks it, finishes
// what that began, and returns how many blobs were visible before and how many
// bytes were held of the others.
func afterCrash(t *testing.T, dir string) (seen int, held int64) {
	t.Helper()
	d, err := store.OpenDir(t.Context(), dir, store.Exclusive, store.OnWait(func(holder string) {
		t.Errorf("the dead process still holds the store as %q", holder)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	seen = visible(t, d)
	for i := range childBlobs {
		content := childBlob(i)
		if _, err := d.Stat(oci.DigestOf(content)); err == nil {
			continue
		}
		n, err := receive(t.Context(), d, content, func() {})
		if err != nil {
			t.Errorf("finishing blob %d: %v", i, err)
		}
		held += n
	}
	if err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := visible(t, d); n != childBlobs {
		t.Errorf("%d blobs are visible in the end, want %d", n, childBlobs)
	}
	return seen, held
}

// TestKill kills a process after each of many steps, two a blob.
func TestKill(t *testing.T) {
	for killAt := 1; killAt <= 2*childBlobs; killAt += 3 {
		dir := t.TempDir()
		runKilled(t, dir, killAt)
		committed := (killAt) / 2
		wantSeen := committed / childGroup * childGroup
		var wantHeld int64
		for i := wantSeen; i < committed; i++ {
			wantHeld += int64(len(childBlob(i)))
		}
		if killAt%2 == 1 {
			wantHeld += int64(len(childBlob(committed)) / 2)
		}
		seen, held := afterCrash(t, dir)
		if seen != wantSeen || held != wantHeld {
			t.Errorf("killed at step %d: %d blobs and %d more bytes are kept, want %d and %d", killAt, seen, held, wantSeen, wantHeld)
		}
	}
}

func runKilled(t *testing.T, dir string, killAt int) {
	t.Helper()
	cmd := child(t, "ingest in steps", dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for n := 1; lines.Scan(); n++ {
		if lines.Text() != "step" {
			t.Errorf("child says %q", lines.Text())
		}
		if n == killAt {
			break
		}
		_, _ = stdin.Write([]byte{1})
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
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

// TestKillInSystemCalls kills a process in each fsync and rename. (strace
// counts by thread, so which one N stands for differs from run to run; the
// sweep ends when no thread makes N.)
func TestKillInSystemCalls(t *testing.T) {
	needStrace(t)
	for _, call := range []string{"fsync", "renameat"} {
		t.Run(call, func(t *testing.T) {
			const most = 60
			for n := 1; ; n++ {
				if n > most {
					t.Fatalf("the child still dies at call %d", n)
				}
				dir := t.TempDir()
				out, err := child(t, "ingest", dir, "strace", "-f", "-qq", "-o", os.DevNull,
					"-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n)).CombinedOutput()
				if len(out) > 0 {
					t.Fatalf("%v: %s", err, out)
				}
				afterCrash(t, dir)
				if err == nil {
					if n == 1 {
						t.Fatalf("the child never calls %s", call)
					}
					return
				}
			}
		})
	}
}

var (
	fsyncRE  = regexp.MustCompile(`fsync\(\d+<([^>]*)>`)
	renameRE = regexp.MustCompile(`renameat\(.*?, "([^"]*)", .*?, "([^"]*)"\)`)
)

// TestOrderOfSystemCalls stands in for pulling the plug: a name must not reach
// the disk before the bytes, and a group needs one sync of the directory after
// its last rename.
func TestOrderOfSystemCalls(t *testing.T) {
	needStrace(t)
	dir := t.TempDir()
	log := filepath.Join(t.TempDir(), "log")
	if out, err := child(t, "ingest", dir, "strace", "-f", "-qq", "-y", "-s", "4096", "-o", log, "-e", "trace=fsync,renameat").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	blobs := filepath.Join(dir, "blobs/sha256")
	synced := map[string]bool{}    // files
	running := map[string]string{} // file whose fsync a thread is in
	undurable := map[string]bool{} // names in blobs
	renamed, dirSyncs := 0, 0
	finish := func(path string) {
		synced[path] = true
		if path == blobs && len(undurable) > 0 {
			dirSyncs++
			clear(undurable)
		}
	}
	for line := range strings.Lines(string(text)) {
		thread, _, _ := strings.Cut(line, " ")
		switch {
		case strings.Contains(line, "fsync resumed"):
			finish(running[thread])
		case fsyncRE.MatchString(line):
			path := fsyncRE.FindStringSubmatch(line)[1]
			if strings.Contains(line, "unfinished") {
				running[thread] = path
			} else {
				finish(path)
			}
		case renameRE.MatchString(line):
			m := renameRE.FindStringSubmatch(line)
			if filepath.Dir(m[2]) != blobs {
				continue
			}
			renamed++
			undurable[m[2]] = true
			if !synced[m[1]] {
				t.Errorf("%s got its name before its bytes were on the disk", filepath.Base(m[2]))
			}
		}
	}
	if renamed != childBlobs {
		t.Errorf("%d blobs were renamed, want %d; the log:\n%s", renamed, childBlobs, text)
	}
	if len(undurable) > 0 {
		t.Errorf("%d names were not synced", len(undurable))
	}
	if want := (childBlobs + childGroup - 1) / childGroup; dirSyncs != want {
		t.Errorf("%d syncs of the directory, want %d: one a group", dirSyncs, want)
	}
}

// TestDiskFull runs a child on a file system that is too small, in bytes and in
// inodes.
func TestDiskFull(t *testing.T) {
	unshare := []string{"unshare", "--mount"}
	if os.Getuid() != 0 {
		unshare = append(unshare, "--map-root-user")
	}
	for name, options := range map[string]string{"bytes": "size=600k", "inodes": "size=20m,nr_inodes=25"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mount := append(unshare, "mount", "-t", "tmpfs", "-o", options, "tmpfs", dir)
			if out, err := exec.CommandContext(t.Context(), mount[0], mount[1:]...).CombinedOutput(); err != nil {
				t.Skipf("cannot mount a small file system here: %v: %s", err, out)
			}
			script := append(unshare, "sh", "-c", `mount -t tmpfs -o "$1" tmpfs "$2" && exec "$3"`, "sh", options, dir)
			if out, err := child(t, "fill disk", dir, script...).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// childFillDisk ingests until the disk is full, and checks what is kept then
// and after space was made.
func childFillDisk(dir string) error {
	ctx := context.Background()
	path := filepath.Join(dir, "store")
	// What takes the space that is freed later: bytes and inodes.
	for i := range 10 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("filler", i)), make([]byte, 40<<10), 0o644); err != nil {
			return err
		}
	}
	open := func() (*store.Dir, error) {
		return store.OpenDir(ctx, path, store.Exclusive, store.GroupLimit(1, 1))
	}
	d, err := open()
	if err != nil {
		return err
	}
	finished := 0
	for ; err == nil && finished < childBlobs; finished++ {
		_, err = receive(ctx, d, smallBlob(finished), func() {})
	}
	finished-- // the last one failed
	if fault.KindOf(err) != fault.Local || !strings.Contains(fault.HintOf(err), "free space") {
		return fmt.Errorf("on the full disk: %v (kind %v, hint %q), want a local fault with advice", err, fault.KindOf(err), fault.HintOf(err))
	}
	if finished < 1 {
		return fmt.Errorf("the disk was full before the first blob")
	}
	if err := d.Close(); err != nil {
		return fmt.Errorf("closing on the full disk: %w", err)
	}
	// Opening again writes nothing, so it works on the full disk too.
	if d, err = open(); err != nil {
		return fmt.Errorf("opening on the full disk: %w", err)
	}
	defer d.Close()
	if damaged, err := d.Verify(ctx, nil); err != nil || len(damaged) > 0 {
		return fmt.Errorf("on the full disk %v are damaged, %w", damaged, err)
	}
	for i := range finished {
		if _, err := d.Stat(oci.DigestOf(smallBlob(i))); err != nil {
			return fmt.Errorf("finished blob %d: %w", i, err)
		}
	}
	for i := range 10 {
		if err := os.Remove(filepath.Join(dir, fmt.Sprint("filler", i))); err != nil {
			return err
		}
	}
	if _, err := receive(ctx, d, smallBlob(finished), func() {}); err != nil {
		return fmt.Errorf("after space was made: %w", err)
	}
	return nil
}

// smallBlob returns different content for every i, 20 kB of it.
func smallBlob(i int) []byte { return storetest.Content(20_000 + i) }
