package generic

import (
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/explain"
	"ferry/pkg/fault"
)

// Each reason for which a list takes an image, or does not.
func TestExplain(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	cat := contract.CatalogSpec{
		Vendor: Vendor,
		Wanted: []string{"h.example/app:v1 tools/app", "h.example/lib@^1.2.0", "h.example/pin@" + digest},
		Repositories: []contract.CatalogRepository{
			{Repository: "h.example/lib", Tags: []string{"v1.1.0", "v1.2.0", "v1.2.1", "1.2.1", "latest"}, Listed: true},
		},
	}
	for query, want := range map[string]string{
		"h.example/app:v1":                  "in h.example/app:v1: listed: h.example/app:v1 tools/app",
		"tools/app:v1":                      "in h.example/app:v1",
		"images":                            "in h.example/lib:v1.2.1",
		"h.example/lib":                     "in h.example/lib:v1.2.1: listed: h.example/lib@^1.2.0",
		"h.example/pin@" + digest:           "in h.example/pin@" + digest,
		digest:                              "in h.example/pin@" + digest,
		"h.example/app:v2":                  "out h.example/app:v2: the list names other tags of the repository alone: h.example/app:v1 tools/app",
		"tools/app:v2":                      "out tools/app:v2: the list names other tags",
		"h.example/lib:v1.2.0":              "out h.example/lib:v1.2.0: h.example/lib@^1.2.0: v1.2.1 was taken in its place",
		"h.example/lib:1.2.1":               "out h.example/lib:1.2.1: h.example/lib@^1.2.0: v1.2.1 was taken in its place",
		"lib:v1.1.0":                        "out h.example/lib:v1.1.0: h.example/lib@^1.2.0: the version does not match",
		"h.example/lib:latest":              "out h.example/lib:latest: h.example/lib@^1.2.0: the tag is no version",
		"h.example/lib:v9":                  "out h.example/lib:v9: h.example/lib@^1.2.0: the repository has no such tag",
		"h.example/other:v1":                "out h.example/other:v1: no line of the list names it",
		"other:v1":                          "out other:v1: no line of the list names it",
		"sha256:" + strings.Repeat("b", 64): "unknown sha256:b",
	} {
		queries, err := explain.ParseAll([]string{query})
		if err != nil {
			t.Fatal(err)
		}
		answers, err := Explain(cat, Options{}, queries)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(answers[0].Decision) + " " + answers[0].Subject + ": " + answers[0].Reason; !strings.HasPrefix(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", query, got, want)
		}
	}
	if _, err := Explain(cat, Options{}, []explain.Query{{Text: "platform", Component: "platform"}}); fault.KindOf(err) != fault.Usage {
		t.Errorf("a part of a list: got %v", err)
	}
	if _, err := Explain(contract.CatalogSpec{Vendor: "x"}, Options{}, nil); fault.KindOf(err) != fault.Damaged {
		t.Errorf("another vendor: got %v", err)
	}
}
