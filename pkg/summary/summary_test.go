package summary

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/terminal"
)

var update = flag.Bool("update", false, "write the frames to testdata")

func overview() contract.Overview {
	wanted := func(name, unit string, total int, images, attestations, bytes int64) contract.Component {
		return contract.Component{Name: name, State: contract.ComponentWanted, Unit: unit, Total: total, Images: images, Attestations: attestations, Bytes: bytes}
	}
	modules := wanted("Modules", "module", 0, 41, 12, 900<<20)
	modules.Remark = "extra images only"
	modules.Caution = "the modules come from registry.example/deckhouse/ee/mods instead of registry.example/deckhouse/ee/modules"
	empty := contract.Component{Name: "Packages", State: contract.ComponentAbsent, Unit: "package", Caution: "nobody should read this"}
	plugin := func(name, group string) contract.Member {
		return contract.Member{Component: "Plugins", Name: name, Group: group, Versions: []string{"v1.0.0"}}
	}
	return contract.Overview{
		Edition: "ee",
		Components: []contract.Component{
			wanted("Platform", "", 0, 420, 350, 7<<30),
			{Name: "Installer", State: contract.ComponentLeftOut, Flag: "--no-installer"},
			wanted("Security", "database", 4, 3, 0, 60<<20),
			modules, empty,
			wanted("Plugins", "plugin", 0, 4, 0, 5<<20),
			{Name: "d8 CLI", State: contract.ComponentStanding},
		},
		Members: []contract.Member{
			{Component: "Platform", Name: "Platform", Versions: []string{"v1.72.1", "v1.71.4", "v1.70.12", "v1.69.0", "v1.68.9", "v1.67.3", "v1.66.1"}, Channels: []string{"alpha", "beta", "early-access", "stable", "rock-solid"}},
			{Component: "Security", Name: "trivy-bdu", Versions: []string{"1"}},
			{Component: "Security", Name: "trivy-checks", Versions: []string{"0"}},
			{Component: "Security", Name: "trivy-db", Versions: []string{"2"}},
			{Component: "Modules", Name: "console", Versions: []string{"v1.43.5", "v1.43.4"}, Channels: []string{"stable"}},
			{Component: "Modules", Name: "prompp", Versions: []string{"v0.4.0"}},
			plugin("a", "for modules"), plugin("b", "for modules"), plugin("c", "explicit"), {Component: "Plugins", Name: "d"},
		},
		Notes: []contract.Note{{Subject: "plugin mgr", Text: "v2.0.0 needs module x, which is not carried, so it is left out, and so is every other version of it that is published"}},
	}
}

func archives() []contract.ArchiveFiles {
	return []contract.ArchiveFiles{
		{Name: "module-console", Size: 901 << 20, Files: []contract.File{{Name: "module-console.tar"}}},
		{Name: "platform", Size: 7<<30 + 1, Files: []contract.File{{Name: "platform.tar.0000.chunk"}, {Name: "platform.tar.0001.chunk"}}},
		{Name: "security", Size: 61 << 20, Files: []contract.File{{Name: "security.tar.0000.chunk"}}},
	}
}

// S2.7: the frames of a pull, a plan, a push and failures, as people see them.
func TestFrames(t *testing.T) {
	pull := Summary{
		Title: "Bundle", Words: Pulling("not all packed"), From: "registry.example/deckhouse/ee", To: "/media/disk",
		Overview: overview(), Archives: archives(), State: "the bundle is complete", Elapsed: 3*time.Minute + 12*time.Second,
	}
	plan := pull
	plan.Title, plan.Outcome, plan.State = "Plan", Planned, "nothing was pulled yet"
	plan.Facts = []Fact{{Label: "Download", Text: "1.0 GiB of 8.0 GiB"}, {Label: "Store's disk", Text: "only 10.0 MiB are free", Warning: true}}
	failed := pull
	failed.Title, failed.Outcome, failed.Archives, failed.State = "Download", Failed, nil, "failed with exit status 77: denied. What is finished stays."
	failed.Words = Pulling("not all pulled")
	push := pull
	push.Title, push.Words, push.From, push.To, push.Archives = "Publication", Publishing(), "", "registry.closed.example/mirror", nil
	pushFailed := push
	pushFailed.Outcome = Failed
	nothing := Summary{Title: "Discovery", Outcome: Failed, State: "failed with exit status 75: timeout"}
	for _, tc := range []struct {
		file    string
		summary Summary
		style   terminal.Style
		verbose bool
	}{
		{"pull", pull, terminal.Style{Width: 100}, false},
		{"pull-narrow", pull, terminal.Style{Width: 60}, false},
		{"pull-verbose", pull, terminal.Style{Width: 100}, true},
		{"pull-failed", failed, terminal.Style{Width: 100}, false},
		{"plan-colour", plan, terminal.Style{Width: 100, Colour: true}, false},
		{"push", push, terminal.Style{Width: 100}, false},
		{"push-failed", pushFailed, terminal.Style{Width: 100}, false},
		{"nothing-known", nothing, terminal.Style{Width: 100}, false},
	} {
		t.Run(tc.file, func(t *testing.T) {
			got := string(tc.summary.Render(tc.style, tc.verbose))
			file := filepath.Join("testdata", tc.file+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Names in documents come from registries; they must not command a terminal.
func TestFrameIsHarmless(t *testing.T) {
	s := Summary{Title: "Plan", State: "a\x1b[2Jb\nc", Overview: contract.Overview{
		Components: []contract.Component{{Name: "x\x1b[1m", State: contract.ComponentAbsent}},
		Notes:      []contract.Note{{Subject: "y\r", Text: "\x07"}},
	}}
	got := string(s.Render(terminal.Style{Width: 80}, true))
	if strings.ContainsAny(got, "\x1b\r\x07") || !strings.Contains(got, "c") {
		t.Errorf("%q", got)
	}
}

func TestCount(t *testing.T) {
	for want, got := range map[string]string{
		"1 module": count(1, "module"), "0 modules": count(0, "module"),
		"1 repository": count(1, "repository"), "2 repositories": count(2, "repository"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
