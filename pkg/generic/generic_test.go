package generic

import (
	"context"
	"strings"
	"sync"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry"

	"github.com/google/go-cmp/cmp"
)

const digest = "sha256:0f1dab9f2c3e3bc8982c23813de8efff8bfa8a445279d16deceb6cc2e1838387"

// tagLists is a source that can list tags and nothing else.
type tagLists struct {
	registry.Source
	tags map[string][]string
	err  error

	mu    sync.Mutex
	asked []string
}

func (s *tagLists) Tags(_ context.Context, repo oci.Repository) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, repo.String())
	return s.tags[repo.String()], s.err
}

func TestListToSelection(t *testing.T) {
	const list = `# what the cluster needs
h.example/base/os:v1

h.example:5000/tool@` + digest + `   # pinned
h.example/tool:v2@` + digest + ` mirror/tool
h.example/base/os:v2 mirror/os:stable
h.example/app@^1.2.0
h.example/app@=0.9 legacy/app
h.example/app@=v1.1.0
`
	items, err := ParseList(strings.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	src := &tagLists{tags: map[string][]string{"h.example/app": {"latest", "v1.1.0", "v1.2.0", "v1.2.3", "v1.3.0", "v2.0.0"}}}
	cat, err := Discover(t.Context(), src, items, 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"h.example/app"}, src.asked); diff != "" {
		t.Errorf("repositories listed (-want +got):\n%s", diff)
	}
	if err := cat.Validate(); err != nil {
		t.Errorf("the catalog is not valid: %v", err)
	}
	selection, err := Select(cat, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := selection.Validate(); err != nil {
		t.Errorf("the selection is not valid: %v", err)
	}
	if diff := cmp.Diff([]contract.Archive{{Name: "images", Layouts: []string{}, Shared: true}}, selection.Archives); diff != "" {
		t.Errorf("archives (-want +got):\n%s", diff)
	}
	var got []string
	for _, im := range selection.Images {
		got = append(got, im.Source+" -> "+im.Path+":"+im.Tag+" ("+im.Reason+")")
		if im.Optional || im.Archive != "images" || im.Phase != contract.PhaseVersion {
			t.Errorf("%s: optional %v, archive %s, phase %d", im.Source, im.Optional, im.Archive, im.Phase)
		}
	}
	if diff := cmp.Diff([]string{
		"h.example/app:v1.1.0 -> app:v1.1.0 (listed: h.example/app@=v1.1.0)",
		"h.example/app:v1.2.3 -> app:v1.2.3 (listed: h.example/app@^1.2.0)",
		"h.example/app:v1.3.0 -> app:v1.3.0 (listed: h.example/app@^1.2.0)",
		"h.example/base/os:v1 -> base/os:v1 (listed: h.example/base/os:v1)",
		"h.example/app:0.9 -> legacy/app:0.9 (listed: h.example/app@=0.9 legacy/app)",
		"h.example/base/os:v2 -> mirror/os:stable (listed: h.example/base/os:v2 mirror/os:stable)",
		"h.example/tool:v2@" + digest + " -> mirror/tool:v2 (listed: h.example/tool:v2@" + digest + " mirror/tool)",
		"h.example:5000/tool@" + digest + " -> tool:" + strings.TrimPrefix(digest, "sha256:") + " (listed: h.example:5000/tool@" + digest + ")",
	}, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	var counted []string
	for _, m := range selection.Overview.Of("Images") {
		counted = append(counted, m.Path+": "+strings.Join(m.Versions, " "))
	}
	if diff := cmp.Diff([]string{
		"app: v1.3.0 v1.2.3 v1.1.0", "base/os: v1", "legacy/app: 0.9", "mirror/os: stable", "mirror/tool: v2",
		"tool: " + strings.TrimPrefix(digest, "sha256:"),
	}, counted); diff != "" {
		t.Errorf("repositories of the overview (-want +got):\n%s", diff)
	}
}

func TestParseListRefuses(t *testing.T) {
	for _, tc := range []struct{ list, want string }{
		{"\nh/a", "line 2: reference \"h/a\" has neither tag nor digest"},
		{"a:v1", "line 1"},
		{"h/a:v1 b c", "line 1: 3 words"},
		{"h/a:v1 /b", "line 1"},
		{"h/a:v1 b:-", "line 1"},
		{"h/a@^1 b:v1", "keep their tags"},
		{"h/a@>=1.0 <2.0 b", "3 words"},
		{"h/a@bob", "line 1"},
		{"h/a@", "line 1"},
		{"h/a@=v1+stable", "no channels"},
		{"h/a@sha256:12", "line 1"},
		{"h/a:v1\n# x\nk/a:v1", "line 3: line 1 and line 3 both land at a:v1"},
		{"h/a:v1\nh/b:v2 a:v1", "line 1 and line 2"},
		{strings.Repeat("x", maxLine+1), "line 1: bufio.Scanner: token too long"},
	} {
		_, err := ParseList(strings.NewReader(tc.list))
		if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.40q: got %v, want a usage fault with %q", tc.list, err, tc.want)
		}
	}
}

func TestSelectRefuses(t *testing.T) {
	repositories := []contract.CatalogRepository{{Repository: "h/a", Tags: []string{"v1.0.0"}, Listed: true}}
	for _, tc := range []struct {
		name, list string
		kind       *fault.Kind
		text       string
	}{
		{"a repository that was not looked at", "h/b@^1.0.0", fault.Damaged, "h/b"},
		{"no list", "h/b", fault.Damaged, "line 1"},
		{"nothing matches", "h/a@^2.0.0", fault.Policy, "h/a@^2.0.0"},
		{"two lines choose one version", "h/a@^1.0.0\nh/a@~1.0.0", fault.Usage, `"h/a@^1.0.0" and "h/a@~1.0.0" both land at a:v1.0.0`},
		{"a version collides with an image", "k/a:v1.0.0\nh/a@^1.0.0", fault.Usage, `"k/a:v1.0.0"`},
	} {
		cat := contract.CatalogSpec{Vendor: Vendor, Wanted: strings.Split(tc.list, "\n"), Repositories: repositories}
		if _, err := Select(cat, Options{}); fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: got %v (%v), want %v with %q", tc.name, err, fault.KindOf(err), tc.kind, tc.text)
		}
	}
	if _, err := Select(contract.CatalogSpec{Vendor: "x"}, Options{}); fault.KindOf(err) != fault.Damaged {
		t.Errorf("another vendor's catalog: got %v", err)
	}
}

// Named by hand, a repository that is not there is no absence to skip.
func TestDiscoverFails(t *testing.T) {
	items, err := ParseList(strings.NewReader("h/a@^1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	src := &tagLists{err: fault.New(fault.NotFound, "h/a", nil)}
	if _, err := Discover(t.Context(), src, items, 1); fault.KindOf(err) != fault.NotFound {
		t.Errorf("got %v, want the registry's error", err)
	}
}

func FuzzParseList(f *testing.F) {
	f.Add("h/a:v1 b:v2 # c\nh/a@^1.0.0\nh/a@" + digest)
	f.Add("h/a@>=1.0,<2.0 b/c\n\n#\n")
	f.Fuzz(func(t *testing.T, list string) {
		items, err := ParseList(strings.NewReader(list))
		if err != nil {
			return
		}
		var texts []string
		for _, item := range items {
			texts = append(texts, item.Text)
			if !oci.ValidPath(item.Path) || item.Tag != "" && !oci.ValidTag(item.Tag) {
				t.Errorf("%q lands at %q:%q", item.Text, item.Path, item.Tag)
			}
		}
		// The catalog carries the texts, and select reads them again.
		if again, err := ParseList(strings.NewReader(strings.Join(texts, "\n"))); err != nil || len(again) != len(items) {
			t.Errorf("%q reads back as %v, %v", texts, again, err)
		}
	})
}
