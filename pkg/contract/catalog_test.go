package contract

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The contracts of a Catalog: sorted whatever the order they came in, one
// readable line each, and nothing that contradicts itself.
func TestCatalogContracts(t *testing.T) {
	spec := CatalogSpec{Vendor: "v", Contracts: []CatalogContract{
		{Component: "plugin/b", Tag: "v1", Problem: "broken"},
		{Component: "plugin/a", Tag: "v2", Requirements: []Requirement{
			{Kind: "plugin", Mode: Mandatory, Name: "x"},
			{Kind: "module", Mode: Mandatory, Name: "y", Constraint: ">=1.0.0 <2.0.0"},
			{Kind: "module", Mode: AnyOf, Group: "g", Name: "z"},
		}},
		{Component: "plugin/a", Tag: "v1"},
	}}
	text, err := Encode(New("ferry-discover 1.0", nil, spec))
	if err != nil {
		t.Fatal(err)
	}
	want := `    "contracts": [
      {"component":"plugin/a","tag":"v1"},
      {"component":"plugin/a","tag":"v2","requirements":[{"kind":"module","mode":"anyOf","group":"g","name":"z"},{"kind":"module","mode":"mandatory","name":"y","constraint":">=1.0.0 <2.0.0"},{"kind":"plugin","mode":"mandatory","name":"x"}]},
      {"component":"plugin/b","tag":"v1","problem":"broken"}
    ]
`
	if !strings.Contains(string(text), want) {
		t.Errorf("contracts are not written as\n%s\nbut\n%s", want, text)
	}
	doc, err := Decode[CatalogSpec](text)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Encode(doc); err != nil || string(again) != string(text) {
		t.Errorf("decode and encode change the text (%v):\n%s", err, cmp.Diff(string(text), string(again)))
	}
	for name, list := range map[string][]CatalogContract{
		"no component":              {{Tag: "v1"}},
		"no tag":                    {{Component: "a"}},
		"twice":                     {{Component: "a", Tag: "v1"}, {Component: "a", Tag: "v1", Problem: "x"}},
		"a problem and needs":       {{Component: "a", Tag: "v1", Problem: "x", Requirements: []Requirement{{Kind: "k", Mode: Mandatory}}}},
		"no kind":                   {{Component: "a", Tag: "v1", Requirements: []Requirement{{Mode: Mandatory}}}},
		"no mode":                   {{Component: "a", Tag: "v1", Requirements: []Requirement{{Kind: "k"}}}},
		"another mode":              {{Component: "a", Tag: "v1", Requirements: []Requirement{{Kind: "k", Mode: "some"}}}},
		"anyOf without a group":     {{Component: "a", Tag: "v1", Requirements: []Requirement{{Kind: "k", Mode: AnyOf}}}},
		"a group around mandatory ": {{Component: "a", Tag: "v1", Requirements: []Requirement{{Kind: "k", Mode: Mandatory, Group: "g"}}}},
	} {
		spec := CatalogSpec{Vendor: "v", Contracts: list}
		spec.Normalize()
		if err := spec.Validate(); err == nil || !strings.Contains(err.Error(), "contracts[") {
			t.Errorf("%s: got %v, want an error about contracts", name, err)
		}
	}
}
