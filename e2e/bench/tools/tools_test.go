package tools

import (
	"os/exec"
	"testing"

	"ferry/e2e/bench/content"
)

// An adapter is written once and used where its tool is installed: what can be
// wrong without the tool shows here.
func TestAdapters(t *testing.T) {
	seen := map[string]bool{}
	for _, tool := range All() {
		if seen[tool.Name] || tool.Way == "" || len(tool.version) == 0 {
			t.Errorf("%s: there are two, or it does not say how it works or its version", tool.Name)
		}
		seen[tool.Name] = true
		for side, script := range map[string]string{"pull": tool.Pull, "push": tool.Push} {
			if out, err := exec.CommandContext(t.Context(), "bash", "-n", "-c", script).CombinedOutput(); err != nil || script == "" {
				t.Errorf("%s, %s: %v\n%s", tool.Name, side, err, out)
			}
		}
	}
}

func TestLanding(t *testing.T) {
	im := content.Image{Repository: "a/b", Tag: "v1", Digest: "sha256:00"}
	for _, tc := range []struct{ got, want string }{
		{ByTag(im), "mirror/a/b:v1"},
		{ByTag(content.Image{Tag: "v1"}), "mirror:v1"},
		{inOne(im), "mirror/all@sha256:00"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s, want %s", tc.got, tc.want)
		}
	}
}
