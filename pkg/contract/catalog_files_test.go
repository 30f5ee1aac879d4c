package contract

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/oci"
)

func catalogSpec() CatalogSpec {
	return CatalogSpec{
		Vendor:   "v",
		Channels: []CatalogChannel{{Component: "c", Name: "stable", Version: "v1", Digest: digestA}},
		Files: []CatalogFile{
			{Repository: "h/a", Tag: "v2", Digest: digestB, Name: "a", Text: "<2>"},
			{Repository: "h/a", Tag: "v1", Digest: digestA, Name: "b", Text: ""},
			{Repository: "h/a", Tag: "v1", Digest: digestA, Name: "a", Text: "1\n\"x\"\n"},
		},
	}
}

// What discover read comes back as it was read, and equal content has equal bytes.
func TestCatalogKeepsFiles(t *testing.T) {
	text, err := Encode(New("test", nil, catalogSpec()))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Decode[CatalogSpec](text)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range doc.Spec.Files {
		names = append(names, f.Tag+" "+f.Name+" "+f.Text)
	}
	if diff := cmp.Diff([]string{"v1 a 1\n\"x\"\n", "v1 b ", "v2 a <2>"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestCatalogRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*CatalogSpec){
		"digest of a channel":       func(s *CatalogSpec) { s.Channels[0].Digest = "sha256:../x" },
		"no digest of a file":       func(s *CatalogSpec) { s.Files[0].Digest = "" },
		"no tag":                    func(s *CatalogSpec) { s.Files[0].Tag = "" },
		"no repository":             func(s *CatalogSpec) { s.Files[0].Repository = "h" },
		"no name":                   func(s *CatalogSpec) { s.Files[0].Name = "" },
		"too large":                 func(s *CatalogSpec) { s.Files[0].Text = strings.Repeat("x", FileLimit+1) },
		"twice":                     func(s *CatalogSpec) { s.Files[1].Name = "a" },
		"one tag, two images (N21)": func(s *CatalogSpec) { s.Files[1].Digest = digestB },
	} {
		spec := catalogSpec()
		spoil(&spec)
		if _, err := Encode(New("test", nil, spec)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// N21: a Selection says once what a tag stands for.
func TestSelectionDigests(t *testing.T) {
	selection := func(sources ...string) SelectionSpec {
		s := SelectionSpec{Vendor: "v", Archives: []Archive{{Name: "x"}}}
		for i, source := range sources {
			im := SelectedImage{Source: source, Archive: "x", Path: "p", Tag: string(rune('a' + i))}
			if before, digest, ok := strings.Cut(source, " "); ok {
				im.Source = before
				im.Digest = map[string]oci.Digest{"A": digestA, "B": digestB, "bad": "md5:1"}[digest]
			}
			s.Images = append(s.Images, im)
		}
		return s
	}
	for _, tc := range []struct {
		sources []string
		ok      bool
	}{
		{[]string{"h/p:t A", "h/p:t A", "h/p:t", "h/p:u B"}, true},
		{[]string{"h/p:t A", "h/p:t", "h/p:t B"}, false},
		{[]string{"h/p:t bad"}, false},
		{[]string{"h/p@" + string(digestA) + " A"}, false},
	} {
		if _, err := Encode(New("test", nil, selection(tc.sources...))); (err == nil) != tc.ok {
			t.Errorf("%v: got %v", tc.sources, err)
		}
	}
}
