package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
)

// ferry-select explain answers from every document of the pipeline, out of the
// document alone, and the plain ferry-select stays what it was.
func TestExplain(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	root := src.Host + "/deckhouse/ee"
	catalog := run(t, "", "ferry-discover", discoverArgs(src.Host)...)
	selection := run(t, catalog, "ferry-select", "--no-security-db")
	store := t.TempDir()
	plan := run(t, selection, "ferry-fetch", "--store", store, "--insecure", "--plan")
	inventory := run(t, plan, "ferry-fetch", "--store", store, "--insecure")
	disk := t.TempDir()
	bundle := run(t, inventory, "ferry-pack", disk)
	var component contract.Image
	for _, im := range decode[contract.PlanSpec](t, plan).Spec.Contents.Images {
		if im.Path == "" && len(im.Tag) == 64 {
			component = im
		}
	}
	if component.Tag == "" {
		t.Fatal("the plan has no component")
	}
	queries := []string{root + "/modules/mod-00/release:stable", "module/mod-00@v1.1.0", string(component.Digest), "security"}
	for _, tc := range []struct {
		name, document string
		flags          []string
		want           string
	}{
		{"Catalog", catalog, []string{"--no-security-db"}, "in out unknown out"},
		{"Selection", selection, nil, "in out unknown out"},
		{"Plan", plan, nil, "in out in out"},
		{"Inventory", inventory, nil, "in out in out"},
		{"Bundle", bundle, nil, "in out in out"},
	} {
		r := try(t, tc.document, "ferry-select", append(append([]string{"explain"}, queries...), tc.flags...)...)
		if r.code != 0 {
			t.Fatalf("%s: exit status %d\n%s", tc.name, r.code, r.stderr)
		}
		var got []string
		for _, a := range decode[contract.ExplanationSpec](t, r.stdout).Spec.Answers {
			got = append(got, string(a.Decision))
			if !strings.Contains(r.stderr, a.Query+": "+string(a.Decision)+": ") || !strings.Contains(r.stderr, a.Reason) {
				t.Errorf("%s: stderr does not tell of %+v:\n%s", tc.name, a, r.stderr)
			}
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s\n%s", tc.name, got, tc.want, r.stderr)
		}
	}
	for name, tc := range map[string]struct {
		document string
		args     []string
		code     int
	}{
		"no question":        {catalog, []string{"explain"}, 64},
		"no part":            {catalog, []string{"explain", "modul/x"}, 64},
		"no part, of a Plan": {plan, []string{"explain", "modul/x"}, 64},
		"a policy of a Plan": {plan, []string{"explain", "--no-modules", "platform"}, 64},
		"cut short":          {plan[:100], []string{"explain", "platform"}, 65},
		"select a Plan":      {plan, nil, 65},
	} {
		if r := try(t, tc.document, "ferry-select", tc.args...); r.code != tc.code || r.stdout != "" {
			t.Errorf("%s: exit status %d, want %d\n%s", name, r.code, tc.code, r.stderr)
		}
	}
	list := run(t, root+":v1.2.3 x\n", "ferry-discover", "generic", "--insecure")
	for _, document := range []string{list, run(t, list, "ferry-select")} {
		if out := run(t, document, "ferry-select", "explain", "x:v1.2.3", "x:v2"); strings.Count(out, `"decision":"in"`) != 1 {
			t.Errorf("a list:\n%s", out)
		}
	}
	// The same question of the same document has the same answer, which is kept.
	file, kept := filepath.Join(t.TempDir(), "catalog.json"), filepath.Join(t.TempDir(), "explanation.json")
	if err := os.WriteFile(file, []byte(catalog), 0o644); err != nil {
		t.Fatal(err)
	}
	first := run(t, "", "ferry-select", "explain", "-i", file, "--keep", kept, "platform")
	again := try(t, "", "ferry-select", "explain", "-i", file, "--keep", kept, "platform")
	if again.stdout != first || !strings.Contains(again.stderr, "up to date") {
		t.Errorf("the kept explanation was not used\n%s", again.stderr)
	}
	if other := run(t, "", "ferry-select", "explain", "-i", file, "--keep", kept, "installer"); other == first {
		t.Error("another question got the kept answer")
	}
}
