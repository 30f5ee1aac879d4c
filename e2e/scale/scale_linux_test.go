package scale

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/registry/registrytest"
)

// binaries builds the programs that are measured.
func binaries(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, stage := range []string{"discover", "select", "fetch"} {
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, "ferry-"+stage), "ferry/cmd/"+stage)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", stage, err, out)
		}
	}
	return dir
}

// All stages are measured over all sizes, in figures that a program has, and
// nothing stays behind. Sources as small as these do not tell how a stage grows;
// that the figures grow at all shows in the stage that asks a registry for each.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	sizes := []int{200, 400, 800}
	logged := 0
	result, err := Run(t.Context(), Options{
		Binaries: binaries(t), Dir: dir, Sizes: sizes, Repeat: 1,
		Log: func(format string, args ...any) { logged++; t.Logf(format, args...) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
	text, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	var again Result
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(result, again); diff != "" {
		t.Errorf("through JSON (-before +after):\n%s", diff)
	}
	var names []string
	for _, source := range result.Sources {
		for _, stage := range source.Stages {
			name := source.Name + " " + stage.Name
			names = append(names, name)
			if len(stage.Points) != len(sizes) {
				t.Fatalf("%s: %d points, want %d", name, len(stage.Points), len(sizes))
			}
			document := stage.Base.Document
			for i, p := range stage.Points {
				if p.Images != sizes[i] || p.CPU <= 0 || p.Wall <= 0 || p.Peak < 4<<20 || p.Document <= document {
					t.Errorf("%s: %+v is not what %d images cost", name, p, sizes[i])
				}
				document = p.Document
			}
			// On a busy machine a small source may cost no more than the smallest, and
			// then nothing is fitted.
			grows := !slices.ContainsFunc(stage.Points, func(p Point) bool { return p.CPU <= stage.Base.CPU })
			if stage.Name == "plan" && grows && len(stage.Time.Points) != len(sizes) {
				t.Errorf("%s: its time is fitted over %v", name, stage.Time.Points)
			}
		}
	}
	want := []string{"list discover", "list select", "list plan", "edition discover", "edition select", "edition plan"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
	if all := len(want) * (len(sizes) + 1); logged != all {
		t.Errorf("%d lines were logged, want %d", logged, all)
	}
}

func TestRunRefusesSizes(t *testing.T) {
	for _, sizes := range [][]int{{}, {1_000}, {2_000, 1_000}, {100, 200}, {250, 1_000}} {
		if _, err := Run(t.Context(), Options{Dir: t.TempDir(), Sizes: sizes}); err == nil {
			t.Errorf("sizes %v are accepted", sizes)
		}
	}
}

// A source of n images makes a Plan of as many, and of what is attached to them.
func TestSourcesHaveWhatTheySay(t *testing.T) {
	bins := binaries(t)
	for _, s := range shapes() {
		reg := registrytest.New(registrytest.Q21NoReferrers())
		host, stop, err := reg.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		const n = 300
		stdin, err := s.fill(reg, host, n)
		if err != nil {
			t.Fatal(err)
		}
		list := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(list, stdin, 0o666); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		quoted := func(args []string) string {
			out := ""
			for _, a := range args {
				out += fmt.Sprintf(" %q", a)
			}
			return out
		}
		script := "ferry-discover" + quoted(s.discover(host)) + " < " + list + " | ferry-select" + quoted(s.selection) +
			" | ferry-fetch --plan --insecure --store " + dir
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
		cmd.Env = []string{"PATH=" + bins, "HOME=" + dir}
		text, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		plan, err := contract.Decode[contract.PlanSpec](text)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int{"list": n + n/10, "edition": n}[s.name]
		if got := len(plan.Spec.Contents.Images); got != want {
			t.Errorf("%s: the Plan has %d images, want %d", s.name, got, want)
		}
	}
}
