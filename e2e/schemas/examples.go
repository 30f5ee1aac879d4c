package schemas

import (
	"fmt"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

// ExampleName is the name of the example document of a kind.
func ExampleName(kind contract.Kind) string { return strings.ToLower(string(kind)) + ".json" }

// codec reads a document strictly, links it to its inputs, and writes it
// canonically.
type codec struct {
	kind   contract.Kind
	relink func(data []byte, digests map[contract.Kind]oci.Digest) ([]byte, error)
}

// codecs are in the order of the pipeline, inputs before what is made of them.
func codecs() []codec {
	return []codec{
		{contract.KindCatalog, relink[contract.CatalogSpec]},
		{contract.KindSelection, relink[contract.SelectionSpec]},
		{contract.KindPlan, relink[contract.PlanSpec]},
		{contract.KindInventory, relink[contract.InventorySpec]},
		{contract.KindBundle, relink[contract.BundleSpec]},
		{contract.KindReceipt, relink[contract.ReceiptSpec]},
		{contract.KindReport, relink[contract.ReportSpec]},
		{contract.KindExplanation, relink[contract.ExplanationSpec]},
		{contract.KindTarget, relink[contract.TargetSpec]},
	}
}

// Relink returns the examples, given and returned by file name, in canonical
// form and telling one story: an input that an example names is the example of
// that kind. It lets a person edit one example by hand.
func Relink(examples map[string][]byte) (map[string][]byte, error) {
	digests := map[contract.Kind]oci.Digest{}
	out := map[string][]byte{}
	for _, c := range codecs() {
		name := ExampleName(c.kind)
		text, err := c.relink(examples[name], digests)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = text
		digests[c.kind] = oci.DigestOf(text)
	}
	return out, nil
}

func relink[S any, P contract.SpecOf[S]](data []byte, digests map[contract.Kind]oci.Digest) ([]byte, error) {
	doc, err := contract.Decode[S, P](data)
	if err != nil {
		return nil, err
	}
	for i, in := range doc.Metadata.Inputs {
		if digest, ok := digests[in.Kind]; ok {
			doc.Metadata.Inputs[i].Digest = digest
		}
	}
	return contract.Encode[S, P](doc)
}
