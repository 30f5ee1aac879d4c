package generic

import (
	"fmt"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/explain"
	"ferry/pkg/fault"
	"ferry/pkg/selection"
)

// Explain tells for each question what Select takes of the catalog's list, and
// why. Kinds: those of Select, and fault.Usage for a question that names a part
// of a product.
func Explain(cat contract.CatalogSpec, opts Options, queries []explain.Query) ([]contract.Answer, error) {
	if err := CheckQueries(queries); err != nil {
		return nil, err
	}
	spec, err := Select(cat, opts)
	if err != nil {
		return nil, err
	}
	items, err := ParseList(strings.NewReader(strings.Join(cat.Wanted, "\n")))
	if err != nil {
		return nil, fault.New(fault.Damaged, "Catalog", err)
	}
	var out []contract.Answer
	for _, q := range queries {
		found := explain.Wanted(&spec, q, func(string) string { return "" })
		if len(found) == 0 {
			found = append(found, absent(cat, items, q))
		}
		out = append(out, found...)
	}
	return out, nil
}

// CheckQueries refuses questions about parts of a product: a list has none but
// its one archive. Kind: fault.Usage.
func CheckQueries(queries []explain.Query) error {
	for _, q := range queries {
		if q.Component != "" && q.Component != archive {
			return fault.Newf(fault.Usage, q.Text, "a list of images has no parts").Hint("ask for HOST/PATH:TAG, or for PATH:TAG at the target; %s is all of them", archive)
		}
	}
	return nil
}

// absent answers for what no line takes.
func absent(cat contract.CatalogSpec, items []*Item, q explain.Query) contract.Answer {
	if q.NamedInside() {
		return q.Inside()
	}
	tag := q.Source.Tag
	if q.Target != nil {
		tag = q.Target.Tag
	}
	var lines []string
	for _, item := range items {
		if item.Reference.Repository != q.Source.Repository && (q.Target == nil || item.Path != q.Target.Path) {
			continue
		}
		lines = append(lines, item.Text)
		if reason := item.passed(cat, tag); reason != "" {
			return q.Answer(contract.DecisionOut, item.Reference.Repository.String()+":"+tag, item.Text+": "+reason, "")
		}
	}
	if len(lines) == 0 {
		return q.Answer(contract.DecisionOut, q.Text, "no line of the list names it", "")
	}
	return q.Answer(contract.DecisionOut, q.Text, "the list names other tags of the repository alone: "+strings.Join(lines, ", "), "")
}

// passed tells why a line that chooses versions does not take a tag; "" where it
// names tags outright.
func (item Item) passed(cat contract.CatalogSpec, tag string) string {
	if !item.Versions.Ranged() {
		return ""
	}
	var known []string
	for _, row := range cat.Repositories {
		if row.Repository == item.Reference.Repository.String() {
			known = row.Tags
		}
	}
	v, isVersion := selection.ParseVersion(tag)
	switch {
	case !slices.Contains(known, tag):
		return "the repository has no such tag"
	case !isVersion:
		return "the tag is no version"
	case !item.Versions.Match(v):
		return "the version does not match"
	}
	if other, ok := v.Instead(item.Versions.Pick(known)); ok {
		return fmt.Sprintf("%s was taken in its place", other.Tag())
	}
	return ""
}
