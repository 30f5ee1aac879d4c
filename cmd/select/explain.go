package main

import (
	"context"
	"fmt"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/explain"
	"ferry/pkg/fault"
	"ferry/pkg/generic"
	"ferry/pkg/stage"
)

// asked is a document that can be asked, as its kind and vendor know.
type asked struct {
	vendor, source string
	options        any // the policy, for a Catalog
	answer         func([]explain.Query) ([]contract.Answer, error)
}

// explainer is what a vendor knows of explanations.
type explainer struct {
	catalog func(contract.CatalogSpec) (asked, error)
	check   func([]explain.Query) error
	names   explain.Names
}

func (f *flags) explainers() map[string]explainer {
	return map[string]explainer{ // one entry a vendor
		deckhouse.Vendor: {f.explainDeckhouse, deckhouse.CheckQueries, deckhouse.ComponentOf},
		generic.Vendor:   {f.explainGeneric, generic.CheckQueries, func(string) string { return "" }},
	}
}

func (f *flags) explain(ctx context.Context, s *stage.Session) error {
	if f.Releases != "" {
		return fault.Newf(fault.Usage, "--releases", "an explanation writes no list of releases")
	}
	queries, err := explain.ParseAll(f.Explain.Queries)
	if err != nil {
		return err
	}
	in, err := s.Input(ctx)
	if err != nil {
		return err
	}
	doc, err := f.open(in)
	if err != nil {
		return err
	}
	inputs, err := stage.InputsOf(struct {
		Policy  any
		Queries []string
	}{doc.options, f.Explain.Queries}, in)
	if err != nil {
		return err
	}
	s.Summary.Title, s.Summary.From = "Explanation", doc.source
	return stage.Produce(ctx, s, stage.Product[contract.ExplanationSpec]{
		Inputs: inputs,
		Make: func(context.Context) (contract.ExplanationSpec, error) {
			answers, err := doc.answer(queries)
			for _, a := range answers {
				s.Log.Info(line(a))
			}
			return contract.ExplanationSpec{Vendor: doc.vendor, Source: doc.source, Answers: answers}, err
		},
	})
}

// line is an answer for people.
func line(a contract.Answer) string {
	text := fmt.Sprintf("%s: %s: ", a.Query, a.Decision)
	if a.Subject != a.Query {
		text += a.Subject + ": "
	}
	text += a.Reason
	if a.Rule != "" {
		text += " (" + a.Rule + ")"
	}
	if a.Archive != "" {
		text += "; lands at " + a.Target + ", in " + a.Archive
	}
	return text
}

// open reads the document that is asked.
func (f *flags) open(in *stage.Input) (asked, error) {
	kind, err := in.Kind()
	if err != nil {
		return asked{}, err
	}
	if kind != contract.KindCatalog && f.Given() {
		return asked{}, fault.Newf(fault.Usage, in.Name, "the flags that say what to carry belong to a Catalog; a %s is decided", kind)
	}
	switch kind {
	case contract.KindCatalog:
		doc, err := stage.Decode[contract.CatalogSpec](*in)
		if err != nil {
			return asked{}, err
		}
		vendor, err := f.vendor(in, doc.Spec.Vendor)
		if err != nil {
			return asked{}, err
		}
		return vendor.catalog(doc.Spec)
	case contract.KindPlan:
		doc, err := stage.Decode[contract.PlanSpec](*in)
		if err != nil {
			return asked{}, err
		}
		return f.openContents(in, kind, &doc.Spec.Contents)
	case contract.KindInventory:
		doc, err := stage.Decode[contract.InventorySpec](*in)
		if err != nil {
			return asked{}, err
		}
		return f.openContents(in, kind, &doc.Spec.Contents)
	case contract.KindBundle:
		doc, err := stage.Decode[contract.BundleSpec](*in)
		if err != nil {
			return asked{}, err
		}
		return f.openContents(in, kind, &doc.Spec.Contents)
	}
	doc, err := stage.Decode[contract.SelectionSpec](*in)
	if err != nil {
		return asked{}, err
	}
	vendor, err := f.vendor(in, doc.Spec.Vendor)
	return asked{vendor: doc.Spec.Vendor, source: doc.Spec.Source, answer: func(queries []explain.Query) ([]contract.Answer, error) {
		return explain.Selection(&doc.Spec, queries, vendor.names), vendor.check(queries)
	}}, err
}

func (f *flags) openContents(in *stage.Input, kind contract.Kind, c *contract.Contents) (asked, error) {
	vendor, err := f.vendor(in, c.Vendor)
	return asked{vendor: c.Vendor, source: c.Source, answer: func(queries []explain.Query) ([]contract.Answer, error) {
		return explain.Contents(kind, c, queries, vendor.names), vendor.check(queries)
	}}, err
}

func (f *flags) vendor(in *stage.Input, name string) (explainer, error) {
	vendor, ok := f.explainers()[name]
	if !ok {
		return explainer{}, fault.Newf(fault.Damaged, in.Name, "it is a document of %q, which this release cannot explain", name)
	}
	return vendor, nil
}

func (f *flags) explainDeckhouse(catalog contract.CatalogSpec) (asked, error) {
	p, err := f.Read()
	return asked{catalog.Vendor, catalog.Source, p, func(queries []explain.Query) ([]contract.Answer, error) {
		return deckhouse.Explain(catalog, p, queries)
	}}, err
}

func (f *flags) explainGeneric(catalog contract.CatalogSpec) (asked, error) {
	opts, err := f.listOptions()
	return asked{catalog.Vendor, catalog.Source, opts, func(queries []explain.Query) ([]contract.Answer, error) {
		return generic.Explain(catalog, opts, queries)
	}}, err
}
