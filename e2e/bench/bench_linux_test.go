package bench_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ferry/e2e/bench/results"

	"github.com/google/go-cmp/cmp"
)

// bin holds the programs that a run needs.
var bin string

func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bench-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs := map[string]string{"bench": "ferry/e2e/cmd/bench"}
	for _, stage := range []string{"discover", "select", "fetch", "pack", "unpack", "publish"} {
		programs["ferry-"+stage] = "ferry/cmd/" + stage
	}
	for name, source := range programs {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), source).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building %s: %v\n%s", name, err, out)
			return 1
		}
	}
	bin = dir
	return m.Run()
}

// quick runs a mode on editions of a few images and returns what it measured.
func quick(t *testing.T, mode string, args ...string) (*results.Run, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "results.json")
	args = append([]string{mode, "--quick", "--rounds", "1", "--bin", bin, "--dir", t.TempDir(), "--json", path}, args...)
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "bench"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("bench %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	run, err := results.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return run, path
}

// The whole program works, and what it says of a run is true where that is known
// without measuring.
func TestQuick(t *testing.T) {
	chain, chainFile := quick(t, "chain", "--editions", "list,deckhouse", "--connections", "2", "--tools", "skopeo")
	latency, latencyFile := quick(t, "latency", "--connections", "4", "--round-trip", "20ms")

	_, err := exec.LookPath("skopeo")
	skopeo := err == nil
	if !skopeo && os.Getenv("CI") != "" {
		t.Fatal("skopeo is not installed, and CI is set")
	}
	for _, run := range []*results.Run{chain, latency} {
		for i := range run.Editions {
			e := &run.Editions[i]
			t.Run(run.Mode+"/"+e.Name, func(t *testing.T) {
				assertComplete(t, e, skopeo && run == chain && e.Name == "list")
				assertTrue(t, run, e)
			})
		}
	}

	page := filepath.Join(t.TempDir(), "performance.md")
	if out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "bench"), "report", chainFile, latencyFile, "-o", page).CombinedOutput(); err != nil {
		t.Fatalf("bench report: %v\n%s", err, out)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"edition list", "edition deckhouse", "| limit, 2 connections | ", "| limit, 4 connections | ", "round trip of 20ms"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// assertComplete checks who carried an edition, and that nobody failed.
func assertComplete(t *testing.T, e *results.Edition, skopeo bool) {
	t.Helper()
	got := map[string]int{}
	for _, r := range e.Rows {
		if r.Failed != "" {
			t.Errorf("%s, %s failed: %s", r.Way, r.Name, r.Failed)
		}
		if r.Name != results.DirectLimit && r.Name != results.WholeLimit { // the long line goes without
			got[r.Way+" "+r.Name] += len(r.Samples)
		}
	}
	want := []string{"pull limit", "push limit", "pull ferry, through a store", "push ferry", "push again ferry"}
	if skopeo {
		want = append(want, "pull skopeo", "push skopeo")
	}
	for _, row := range want {
		if got[row] != 1 {
			t.Errorf("%s: %d samples, want 1; there are %v", row, got[row], slices.Sorted(maps.Keys(got)))
		}
	}
}

// assertTrue checks figures by what cannot be otherwise.
func assertTrue(t *testing.T, run *results.Run, e *results.Edition) {
	t.Helper()
	for _, r := range e.Rows {
		for _, s := range r.Samples {
			title := r.Way + ", " + r.Name
			if s.Took <= 0 || s.CPU <= 0 || s.Peak < 1<<20 {
				t.Errorf("%s: %v, %v on processors, %d bytes of memory", title, s.Took, s.CPU, s.Peak)
			}
			sent, asked := s.Network.WireOut, s.Network.Requests["blob GET"]
			switch r.Way {
			case results.Pull:
				if s.Bundle < e.Bytes*99/100 && !strings.HasPrefix(r.Name, results.Limit) {
					t.Errorf("%s: a bundle of %d bytes for %d", title, s.Bundle, e.Bytes)
				}
				if asked < int64(e.Blobs) {
					t.Errorf("%s: %d blobs were asked for, there are %d", title, asked, e.Blobs)
				}
			case results.Push:
				sent = s.Network.WireIn
			case results.Repush:
				continue
			}
			if sent < blobBytes(e) {
				t.Errorf("%s: %d bytes on the wire, the blobs have %d", title, sent, blobBytes(e))
			}
			if run.Line != nil && s.Took < 2*run.Line.RoundTrip {
				t.Errorf("%s: %v over a line of %v", title, s.Took, run.Line.RoundTrip)
			}
		}
	}
	bare := e.Best(results.Pull, results.Limit).Samples[0].Network.Requests
	if diff := cmp.Diff(map[string]int64{"blob GET": int64(e.Blobs)}, bare); diff != "" {
		t.Errorf("requests of the limit (-want +got):\n%s", diff)
	}
	if run.Line != nil {
		return
	}
	whole := e.Best(results.Pull, results.WholeLimit).Samples[0].Network.Requests
	if diff := cmp.Diff(map[string]int64{"blob GET": int64(e.Blobs), "manifest GET": int64(e.Manifests)}, whole); diff != "" {
		t.Errorf("requests of the limit with manifests (-want +got):\n%s", diff)
	}
	// ferry puts an image of its own behind the tags that only name what there is.
	puts := e.Best(results.Push, results.WholeLimit).Samples[0].Network.Requests["manifest PUT"]
	ferry := e.Best(results.Push, results.Ferry).Samples[0].Network.Requests["manifest PUT"]
	if puts < int64(e.Manifests) || puts > ferry || e.Name == "list" && puts != ferry {
		t.Errorf("the limit puts %d manifests, ferry %d; there are %d", puts, ferry, e.Manifests)
	}
}

// blobBytes is what blobs have at least: all but the manifests, which are at most
// a few kilobytes each.
func blobBytes(e *results.Edition) int64 { return e.Bytes - int64(e.Manifests)*4000 }

// A tool that fails is a row that says so, as is one that carries too little, and
// the run goes on.
func TestToolsThatFail(t *testing.T) {
	dir := t.TempDir()
	for name, script := range map[string]string{
		"crane":  `[ "$1" = version ] && echo 1 || { echo no crane today >&2; exit 3; }`,
		"imgpkg": `echo 1`,
		"regsync": `echo 1
			mkdir -p "$SCRATCH/layouts"
			[ -e "$BUNDLE/images.tar" ] || head -c 400000 /dev/zero >"$SCRATCH/layouts/image"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("SCRATCH", t.TempDir()) // when it is asked for its version
	t.Setenv("BUNDLE", t.TempDir())
	run, _ := quick(t, "chain", "--editions", "small", "--connections", "2", "--tools", "crane,imgpkg,regsync")
	for _, tc := range []struct{ way, tool, want string }{
		{results.Pull, "crane", "no crane today"},
		{results.Pull, "imgpkg", "it left 0 bytes for the gap"},
		{results.Push, "regsync", "404"},
	} {
		row := run.Editions[0].Row(tc.way, tc.tool, "")
		if len(row.Samples) > 0 || !strings.Contains(row.Failed, tc.want) {
			t.Errorf("%s, %s: %d samples, failed: %q, want %q", tc.way, tc.tool, len(row.Samples), row.Failed, tc.want)
		}
		if !strings.Contains(run.Tables(), "| "+tc.tool+" | failed: ") {
			t.Errorf("the table does not tell of %s:\n%s", tc.tool, run.Tables())
		}
	}
}
