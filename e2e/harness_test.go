// Package e2e holds the tests that run the real binaries, against registries
// inside the process and real servers.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
)

// binaries is the directory of the programs under test; TestMain fills it once.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ferry-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for _, stage := range []string{"discover", "select", "fetch", "pack", "unpack", "publish"} {
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, "ferry-"+stage), "ferry/cmd/"+stage)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building %s: %v\n%s", stage, err, out)
			return 1
		}
	}
	// Copies, for a script beside a checkout's bin prefers what stands there.
	for name, script := range map[string]string{"ferry-pull": "pull", "ferry-push": "push", "ferry-mirror-modules": "mirror-modules", "flags.sh": "flags.sh"} {
		text, err := os.ReadFile(filepath.Join("..", "scripts", script))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o755)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	binaries = dir
	if err := waitTogether(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// waitTogether lets more tests run at a time than there are cores, unless the command
// line says how many: most of a test's time goes into waiting for other processes, and
// for disks. With two at a time, two cores were idle for a quarter of the time.
func waitTogether() error {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0)))
}

// result is how a program ended.
type result struct {
	stdout, stderr string
	code           int
}

// program prepares one of our programs with an environment that holds nothing of
// the machine's: no credentials, no proxies.
func program(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(binaries, name), args...)
	cmd.Env = []string{"PATH=" + binaries + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	cmd.Stdin = strings.NewReader("")
	return cmd
}

func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd.Path, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// run runs a program on stdin and fails the test unless it ends with 0.
func run(t testing.TB, stdin, name string, args ...string) string {
	t.Helper()
	r := try(t, stdin, name, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: exit status %d\n%s", name, strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

// try runs a program on stdin.
func try(t testing.TB, stdin, name string, args ...string) result {
	t.Helper()
	cmd := program(t, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	return finish(t, cmd)
}

// shell runs a bash script with our programs in its path.
func shell(t testing.TB, dir, script string, env ...string) result {
	t.Helper()
	cmd := program(t, "ferry-fetch")
	cmd.Path, cmd.Args = "/bin/bash", []string{"bash", "-Eeuo", "pipefail", "-c", script}
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, env...)
	return finish(t, cmd)
}

// client talks to registries of the tests.
func client(t testing.TB) *wire.Client {
	t.Helper()
	c, err := wire.New(wire.Options{PlainHTTP: true, Anonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// source starts a registry in the process that holds an edition.
func source(t testing.TB, opts edition.Options) (*registrytest.Server, *edition.Edition) {
	t.Helper()
	server := registrytest.Start(t, registrytest.New())
	made, err := edition.Write(t.Context(), client(t), server.Repository("deckhouse/ee"), opts)
	if err != nil {
		t.Fatal(err)
	}
	server.Reset()
	return server, made
}

func decode[S any, P contract.SpecOf[S]](t testing.TB, text string) *contract.Document[S] {
	t.Helper()
	doc, err := contract.Decode[S, P]([]byte(text))
	if err != nil {
		t.Fatalf("%v in\n%.2000s", err, text)
	}
	return doc
}

// Flags that every test of the chain gives.
func discoverArgs(source string) []string {
	return []string{"deckhouse", "--source", source + "/deckhouse/ee", "--insecure"}
}

// fetched runs discover, select and fetch and returns the Inventory.
func fetched(t testing.TB, source, store string, policy ...string) string {
	t.Helper()
	catalog := run(t, "", "ferry-discover", discoverArgs(source)...)
	selection := run(t, catalog, "ferry-select", policy...)
	return run(t, selection, "ferry-fetch", "--store", store, "--insecure")
}

// packed makes a bundle of all of source in a new directory.
func packed(t testing.TB, source string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, fetched(t, source, t.TempDir()), "ferry-pack", append([]string{dir}, flags...)...)
	return dir
}

// assertTarget checks that a target holds what must be there and nothing else
// but discovery tags. want and discovery are relative to root.
func assertTarget(t testing.TB, have map[string]oci.Digest, root string, want map[string]oci.Digest, discovery []string) {
	t.Helper()
	rebased := map[string]oci.Digest{}
	for name, digest := range have {
		rest, ok := strings.CutPrefix(name, root)
		if !ok {
			t.Errorf("%s is outside of %s", name, root)
		}
		rebased[strings.TrimPrefix(rest, "/")] = digest
	}
	for _, name := range discovery {
		if _, ok := rebased[name]; !ok {
			t.Errorf("the discovery tag %s is missing", name)
		}
		delete(rebased, name)
	}
	if diff := cmp.Diff(want, rebased); diff != "" {
		t.Errorf("tags at the target (-want +got):\n%s", diff)
	}
}

// tagsBelow lists repo:tag and digest of every repository that names mention, by
// asking the registry; a real server has no other way in.
func tagsBelow(t testing.TB, host, root string, names []string) map[string]oci.Digest {
	t.Helper()
	return tagsSeenBy(t, client(t), host, root, names)
}

// tagsSeenBy is tagsBelow with a client of one's own.
func tagsSeenBy(t testing.TB, c *wire.Client, host, root string, names []string) map[string]oci.Digest {
	t.Helper()
	paths := map[string]bool{}
	for _, name := range names {
		path, _, _ := strings.Cut(name, ":")
		paths[strings.TrimSuffix(root+"/"+path, "/")] = true
	}
	have := map[string]oci.Digest{}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		repo := oci.Repository{Host: host, Path: path}
		tags, err := c.Tags(context.Background(), repo)
		if err != nil {
			t.Fatalf("%s: %v", repo, err)
		}
		for _, tag := range tags {
			desc, err := c.Resolve(context.Background(), repo.WithTag(tag))
			if err != nil {
				t.Fatal(err)
			}
			have[path+":"+tag] = desc.Digest
		}
	}
	return have
}

// refusedAfter lets a program fail for want of rights when some blobs have come,
// and returns those that are in the store by then. The source is healed, and its
// log is empty.
func refusedAfter(t *testing.T, src *registrytest.Server, store, name string, args ...string) map[string]bool {
	t.Helper()
	src.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET", Skip: 40, Status: 403, Times: registrytest.Always})
	if r := try(t, "", name, args...); r.code != 77 {
		t.Fatalf("exit status %d, want 77\n%s", r.code, r.stderr)
	}
	src.Heal()
	var asked []oci.Digest
	for _, r := range src.Requests() {
		if r.Kind == registrytest.KindBlob {
			asked = append(asked, oci.Digest(r.Reference))
		}
	}
	have := visible(t, store, asked)
	if len(have) < 10 {
		t.Fatalf("only %d blobs came before the failure: nothing is shown", len(have))
	}
	src.Reset()
	return have
}
