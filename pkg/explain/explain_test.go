package explain

import (
	"fmt"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"

	"github.com/google/go-cmp/cmp"
)

func digest(n int) oci.Digest { return oci.DigestOf([]byte{byte(n)}) }

func ask(t *testing.T, texts ...string) []Query {
	t.Helper()
	queries, err := ParseAll(texts)
	if err != nil {
		t.Fatal(err)
	}
	return queries
}

// names calls everything below "modules/x" a part of it.
func names(path string) string {
	if rest, ok := strings.CutPrefix(path, "modules/"); ok {
		name, _, _ := strings.Cut(rest, "/")
		return "module/" + name
	}
	return ""
}

// short is an answer in a line.
func short(answers []contract.Answer) []string {
	var out []string
	for _, a := range answers {
		line := fmt.Sprintf("%s %s: %s", a.Decision, a.Subject, a.Reason)
		if a.Target != "" {
			line += " -> " + a.Target
		}
		if a.Archive != "" {
			line += " in " + a.Archive
		}
		if a.Rule != "" {
			line += " " + a.Rule
		}
		out = append(out, line)
	}
	return out
}

func TestParse(t *testing.T) {
	d := digest(1)
	repo := oci.Repository{Host: "h.example", Path: "d/ee"}
	for text, want := range map[string]Query{
		"h.example/d/ee:v1":           {Source: repo.WithTag("v1")},
		"h.example/d/ee@" + string(d): {Source: repo.WithDigest(d)},
		"h.example/d/ee":              {Source: oci.Reference{Repository: repo}},
		"h:5000/d/ee:v1":              {Source: oci.Repository{Host: "h:5000", Path: "d/ee"}.WithTag("v1")},
		"h:5000/d/ee":                 {Source: oci.Reference{Repository: oci.Repository{Host: "h:5000", Path: "d/ee"}}},
		"localhost/d:v1":              {Source: oci.Repository{Host: "localhost", Path: "d"}.WithTag("v1")},
		"modules/console:v1":          {Target: &Target{"modules/console", "v1"}},
		"install:stable":              {Target: &Target{"install", "stable"}},
		":v1.70.0":                    {Target: &Target{"", "v1.70.0"}},
		string(d):                     {Digest: d},
		" " + d.Hex() + " ":           {Digest: d},
		"platform@v1.70.1":            {Component: "platform", Version: "v1.70.1"},
		"module/console":              {Component: "module/console"},
		"module/console@1.40.0":       {Component: "module/console", Version: "1.40.0"},
	} {
		want.Text = strings.TrimSpace(text)
		got, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for _, text := range []string{"", "sha256:12", "h.example/D:v1", "h.example/d:", "h.example/d@x", "A:b", "a:b:c", "a@", "@v1", "a@b@c", "/x", "a:-"} {
		if q, err := Parse(text); fault.KindOf(err) != fault.Usage || !strings.Contains(fault.HintOf(err), "HOST/PATH:TAG") {
			t.Errorf("%q: got %+v, %v, want a usage fault with advice", text, q, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"h.example/d:v1", "a@v1", ":v1", "sha256:", "h:1/a@sha256:" + strings.Repeat("0", 64), "::", "@@"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := Parse(text)
		if err != nil {
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		forms := 0
		for _, set := range []bool{q.Source.Path != "", q.Target != nil, q.Digest != "", q.Component != ""} {
			if set {
				forms++
			}
		}
		if forms != 1 {
			t.Errorf("%q has %d forms: %+v", text, forms, q)
		}
	})
}

func selected() *contract.SelectionSpec {
	return &contract.SelectionSpec{
		Vendor: "v", Source: "h.example/d",
		Archives: []contract.Archive{{Name: "module-a"}, {Name: "root"}},
		Images: []contract.SelectedImage{
			{Source: "h.example/d/modules/a:v1.0.0", Archive: "module-a", Path: "modules/a", Tag: "v1.0.0", Reason: "named"},
			{Source: "h.example/d/modules/a/release:stable", Archive: "module-a", Path: "modules/a/release", Tag: "stable", Needs: "modules/a:v1.0.0", Optional: true, Reason: "channel"},
			{Source: "h.example/d/modules/b:v2", Archive: "module-a", Path: "modules/b", Tag: "v2", LinksOnly: true, Reason: "named"},
			{Source: "h.example/d@" + string(digest(7)), Archive: "root", Path: "", Tag: "x", Reason: "listed"},
		},
		Discovery: []contract.DiscoveryTag{{Path: "modules", Tag: "a", Needs: "modules/a"}},
	}
}

func TestSelection(t *testing.T) {
	const version = "in h.example/d/modules/a:v1.0.0: named -> modules/a:v1.0.0 in module-a"
	const channel = "in h.example/d/modules/a/release:stable: channel; where the source does not have it, it is left out; it goes with modules/a:v1.0.0 -> modules/a/release:stable in module-a"
	const links = "out h.example/d/modules/b:v2: it is read for the images that it names, and not carried itself: named S3.4.8"
	root := "in h.example/d@" + string(digest(7)) + ": listed -> :x in root"
	for text, want := range map[string][]string{
		"h.example/d/modules/a:v1.0.0":     {version},
		"h.example/d/modules/a":            {version},
		"modules/a:v1.0.0":                 {version},
		"module/a":                         {version, channel},
		"module/a@1.0":                     {version},
		"module/a@stable":                  {channel},
		"module-a":                         {version, channel, links},
		":x":                               {root},
		"h.example/d@" + string(digest(7)): {root},
		string(digest(7)):                  {root},
		"modules:a":                        {"in modules:a: its name tells that modules/a is there -> modules:a S7.7"},
		"modules/a:v1.0":                   {"out modules/a:v1.0: the Selection does not want it; ask over the Catalog, with the same flags, for the reason"},
		"other.example/d/modules/a:v1.0.0": {"out other.example/d/modules/a:v1.0.0: the Selection does not want it; ask over the Catalog, with the same flags, for the reason"},
	} {
		if diff := cmp.Diff(want, short(Selection(selected(), ask(t, text), names))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for _, text := range []string{string(digest(8)), "h.example/d@" + string(digest(8)), ":" + digest(8).Hex(), "modules/a:v1.0.0.att",
		"modules/a:sha256-" + digest(8).Hex(), "modules/a:sha256-" + digest(8).Hex() + ".sig"} {
		got := Selection(selected(), ask(t, text), names)
		if len(got) != 1 || got[0].Decision != contract.DecisionUnknown || !strings.Contains(got[0].Reason, "--plan") {
			t.Errorf("%s: %v, want that a Plan tells", text, got)
		}
	}
}

// Closed contents tell what an update leaves out (S6.11), what was skipped (S5.2),
// and of which images a digest is a part.
func TestContents(t *testing.T) {
	c := &contract.Contents{
		Vendor: "v", Source: "h.example/d",
		Archives: []contract.Archive{{Name: "module-a"}},
		Images: []contract.Image{
			{Archive: "module-a", Path: "modules/a", Tag: "v1.0.0", Source: "h.example/d/modules/a:v1.0.0", Reason: "named", Digest: digest(1)},
			{Archive: "module-a", Path: "modules/a", Tag: "v1.1.0", Source: "h.example/d/modules/a:v1.1.0", Reason: "named", Digest: digest(2)},
		},
		Manifests: []contract.Manifest{
			{Digest: digest(1), MediaType: oci.MediaTypeIndex, References: []oci.Digest{digest(3)}},
			{Digest: digest(2), MediaType: oci.MediaTypeManifest, References: []oci.Digest{digest(5)}},
			{Digest: digest(3), MediaType: oci.MediaTypeManifest, References: []oci.Digest{digest(4), digest(5)}},
		},
		Blobs:   []contract.Blob{{Digest: digest(4)}, {Digest: digest(5)}},
		Skipped: []contract.Skipped{{Source: "h.example/d/modules/a:v1.0.0.att", Path: "modules/a", Tag: "v1.0.0.att", Reason: "attestation"}},
		Assumed: []contract.Assumed{{Path: "modules/a", Tag: "v0.9.0", Digest: digest(6)}},
	}
	c.Normalize()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	const first = "in h.example/d/modules/a:v1.0.0: named -> modules/a:v1.0.0 in module-a"
	const assumed = "out modules/a:v0.9.0: it stands at the target already, so this update leaves it out -> modules/a:v0.9.0 S6.11"
	const skipped = "out h.example/d/modules/a:v1.0.0.att: it is optional, and was skipped: attestation -> modules/a:v1.0.0.att S5.2"
	for text, want := range map[string][]string{
		"modules/a:v1.0.0": {first},
		string(digest(1)):  {first},
		"h.example/d/modules/a@" + string(digest(1)): {first},
		"module/a@v1.0.0":                  {first},
		"modules/a:v1.0.0.att":             {skipped},
		"h.example/d/modules/a:v1.0.0.att": {skipped},
		"modules/a:v0.9.0":                 {assumed},
		string(digest(6)):                  {assumed},
		string(digest(3)):                  {"in h.example/d/modules/a:v1.0.0: a child of modules/a:v1.0.0"},
		string(digest(4)):                  {"in h.example/d/modules/a:v1.0.0: a config or layer of modules/a:v1.0.0"},
		string(digest(5)):                  {"in h.example/d/modules/a:v1.0.0: a config or layer of 2 images, the first of which is modules/a:v1.0.0"},
		string(digest(9)):                  {"out " + string(digest(9)) + ": the Plan, which is complete, does not have it; ask over the Catalog, with the same flags, for the reason"},
		"module/b":                         {"out module/b: the Plan, which is complete, does not have it; ask over the Catalog, with the same flags, for the reason"},
	} {
		if diff := cmp.Diff(want, short(Contents(contract.KindPlan, c, ask(t, text), names))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	if got := Contents(contract.KindPlan, c, ask(t, string(digest(4))), names); got[0].Digest != digest(4) {
		t.Errorf("digest %s", got[0].Digest)
	}
}
