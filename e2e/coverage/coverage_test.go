package coverage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// Every rule has a test, and the committed page says which.
func TestEveryRuleIsProven(t *testing.T) {
	page, gaps, err := Generate(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(gaps) > 0 {
		t.Errorf("no test cites %s", strings.Join(gaps, ", "))
	}
	committed, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(Page)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(page), string(committed)); diff != "" {
		t.Errorf("run \"make generate\" (-generated +committed):\n%s", diff)
	}
}

func TestCited(t *testing.T) {
	for text, want := range map[string][]string{
		"S3.6.7":                      {"S3.6.7"},
		"(S3.2 row 14)":               {"S3.2 row 14"},
		"S9 rows 52, 55 and 82, B1":   {"S9 row 52", "S9 row 55", "S9 row 82", "B1"},
		"S3.2 rows 1 to 3 and 7 to 8": {"S3.2 row 1", "S3.2 row 2", "S3.2 row 3", "S3.2 row 7", "S3.2 row 8"},
		"XS3, s3.1 and SHA256":        nil,
	} {
		if diff := cmp.Diff(want, Cited(text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// The fixture has a rule book of each form, and tests that cite it in all ways.
func TestReadRules(t *testing.T) {
	book := filepath.Join(t.TempDir(), "rules.md")
	text := "## S1. Chapter\n### S1.1 Title\n- S1.1.1 First. More\n  of it. **d8:** differs.\n- S1.1.2 Fact: they have it.\n\nTail. **d8:** of the section.\n" +
		"### S1.2, S1.3 Two\nBody.\n### S1.4 List\n1. One\n2. Two\n\n| # | a |\n|---|---|\n| 7, 8 | x | y |\n"
	if err := os.WriteFile(book, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	rules, err := ReadRules(book)
	if err != nil {
		t.Fatal(err)
	}
	want := []Rule{
		{ID: "S1", Text: "Chapter.", group: true},
		{ID: "S1.1", Text: "Title. Tail.", Deviation: "of the section.", group: true},
		{ID: "S1.1.1", Text: "First. More of it.", Deviation: "differs."},
		{ID: "S1.1.2", Text: "Fact: they have it.", Fact: true},
		{ID: "S1.2", Text: "Two. Body."},
		{ID: "S1.3", Text: "Two."},
		{ID: "S1.4", Text: "List. | # | a | |---|---", group: true},
		{ID: "S1.4.1", Text: "One"},
		{ID: "S1.4.2", Text: "Two"},
		{ID: "S1.4 row " + "7", Text: "x | y"},
		{ID: "S1.4 row " + "8", Text: "x | y"},
	}
	if diff := cmp.Diff(want, Finish(rules), cmp.AllowUnexported(Rule{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCitations(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a_test.go": "package a\n\nimport \"testing\"\n\nvar table = []string{\"S1.1\"} // S1.2\n\n// S1.3\nfunc fixture() []string { return table }\n\n" +
			"// S1.4\nfunc TestA(t *testing.T) {\n\t_ = fixture() // S1.5\n}\n\nfunc TestB(t *testing.T) { _ = \"S1.6\" }\n",
		"suite.go":   "package a\n\nimport \"testing\"\n\n// S1.7\nfunc Suite(t *testing.T) {}\n",
		"product.go": "package a\n\n// S1.8\nfunc Product() {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tests, err := Citations(filepath.Dir(dir), filepath.Base(dir))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for rule, list := range tests {
		for _, test := range list {
			got[rule] += test.Name
		}
	}
	want := map[string]string{"S1.1": "TestA", "S1.2": "TestA", "S1.4": "TestA", "S1.5": "TestA", "S1.6": "TestB", "S1.7": "Suite"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
