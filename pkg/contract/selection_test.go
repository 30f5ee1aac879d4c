package contract

import (
	"strings"
	"testing"
)

// S1.7.4, S1.7.5, S1.7.8: what may be attached to any image is found without a file
// of it; the images' own repository may be left to them.
func TestAttachedLinks(t *testing.T) {
	for _, tc := range []struct {
		name  string
		links []Link
		want  string // in the error, "" for none
	}{
		{"two levels", Attachments(2, "{digest}.sig"), ""},
		{"none", nil, ""},
		{"a repository", []Link{{Kind: LinkReferrers, Repository: "h/a", Path: "a"}}, ""},
		{"a path alone", []Link{{Kind: LinkReferrers, Path: "a"}}, "repository"},
		{"a file", []Link{{Kind: LinkDigests, File: "f", Repository: "h/a"}}, "does not lead to what is attached"},
		{"a file below", []Link{{Kind: LinkReferrers, Links: []Link{{Kind: LinkTags, File: "f", Repository: "h/a"}}}}, "spec.attached[0].links[0]"},
		{"no templates", []Link{{Kind: LinkAttached}}, "has templates"},
		{"a template that climbs (B5)", Attachments(1, "../{digest}"), "does not make a tag"},
		{"a template with its own letters", Attachments(1, "{tag}.att", "{digest}.sig", "x_{tag}-1"), ""},
		{"referrers by a file", []Link{{Kind: LinkReferrers, File: "f"}}, "neither templates nor file"},
		{"referrers that may be missing", []Link{{Kind: LinkReferrers, Optional: true}}, "is not optional"},
	} {
		spec := SelectionSpec{Vendor: "v", Attached: tc.links}
		spec.Normalize()
		err := spec.Validate()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
	if n := len(Attachments(2, "t")[1].Links[0].Links); n != 0 {
		t.Errorf("%d links on the third level", n)
	}
	// Only attached images may be left without a repository.
	spec := SelectionSpec{Vendor: "v", Archives: []Archive{{Name: "a"}}, Images: []SelectedImage{
		{Source: "h/a:v1", Archive: "a", Path: "a", Tag: "v1", Links: []Link{{Kind: LinkDigests, File: "f"}}},
	}}
	if err := spec.Validate(); err == nil {
		t.Error("digests of no repository are accepted")
	}
}

// B5: what is looked for inside an image is a path of a file there.
func TestLinkFiles(t *testing.T) {
	for file, ok := range map[string]bool{
		"images.json": true, "/a/b.json": true, "./a//b": true, "a/..b": true,
		"../images.json": false, "a/../../b": false, "/": false, ".": false,
	} {
		for name, link := range map[string]Link{
			"file":   {Kind: LinkDigests, File: file, Repository: "h/a"},
			"unless": {Kind: LinkDigests, File: "f", Unless: file, Repository: "h/a"},
		} {
			if err := link.validate(); (err == nil) != ok {
				t.Errorf("%s %q: %v", name, file, err)
			}
		}
	}
}
