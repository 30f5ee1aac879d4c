// Command ferry-select decides which images of a Catalog to carry: a Selection.
//
// It is pure: the same Catalog and the same policy give the same Selection, and
// it links no network.
package main

import (
	"context"
	"fmt"

	"ferry/cmd/internal/policy"
	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/generic"
	"ferry/pkg/stage"
)

type flags struct {
	policy.Deckhouse
	Select  struct{} `cmd:"" default:"1" hidden:"" help:"Write a Selection."`
	Explain struct {
		Queries []string `arg:"" name:"query" help:"What to ask for: HOST/PATH:TAG, HOST/PATH@DIGEST, PATH:TAG at the target, a digest, or a part such as platform@v1.70.1, module/console@v1.40.0, package/redis."`
	} `cmd:"" help:"Say why images are carried or not: an Explanation instead of a Selection. Of a Catalog, with the same flags, it tells what select decides and by which rule; of a Selection, Plan, Inventory or Bundle, where an image lands and why."`
}

const description = `
Reads a Catalog and writes a Selection: every image to carry, where it lands, and why it was chosen. Without flags a Deckhouse edition is carried as d8 mirror pull does: platform versions from rock-solid to alpha, what the channels of all modules and packages point at, the security databases and the installer.

Images that are named only inside other images are not listed yet; the Selection says where to read their names, and ferry-fetch --plan lists them.

    ferry-select -i catalog.json --include-platform '>=1.71' -o selection.json
    grep stable selection.json

Why something is carried or not, ferry-select explain tells, from any document:

    ferry-select explain -i catalog.json --include-platform '>=1.71' platform@v1.70.1 module/console
    ferry-select explain -i plan.json modules/console:v1.43.5
`

func main() {
	f := &flags{}
	stage.Main(stage.Command{
		Name:        "select",
		Summary:     "Decide which images of a Catalog to carry",
		Description: description,
		Reads: []contract.Kind{
			contract.KindCatalog, contract.KindSelection, contract.KindPlan, contract.KindInventory, contract.KindBundle,
		},
		Writes: []contract.Kind{contract.KindSelection, contract.KindExplanation},
		Flags:  f,
		Run:    f.run,
	})
}

// choice decides over one Catalog: its options, for the metadata, and the
// decision.
type choice struct {
	options any
	decide  func(s *stage.Session) (contract.SelectionSpec, error)
}

func (f *flags) run(ctx context.Context, s *stage.Session) error {
	if s.Verb == "explain" {
		return f.explain(ctx, s)
	}
	catalog, in, err := stage.DecodeInput[contract.CatalogSpec](ctx, s)
	if err != nil {
		return err
	}
	// One entry a vendor.
	vendors := map[string]func(contract.CatalogSpec) (choice, error){
		deckhouse.Vendor: f.deckhouse,
		generic.Vendor:   f.generic,
	}
	vendor, ok := vendors[catalog.Spec.Vendor]
	if !ok {
		return fault.Newf(fault.Damaged, in.Name, "it is a Catalog of %q, which this release cannot select from", catalog.Spec.Vendor)
	}
	chosen, err := vendor(catalog.Spec)
	if err != nil {
		return err
	}
	inputs, err := stage.InputsOf(chosen.options, in)
	if err != nil {
		return err
	}
	return stage.Produce(ctx, s, stage.Product[contract.SelectionSpec]{
		Inputs: inputs,
		Make: func(context.Context) (contract.SelectionSpec, error) {
			spec, err := chosen.decide(s)
			if err == nil {
				s.Log.Info(fmt.Sprintf("selected %d images in %d archives", len(spec.Images), len(spec.Archives)))
			}
			return spec, err
		},
	})
}

func (f *flags) deckhouse(catalog contract.CatalogSpec) (choice, error) {
	p, err := f.Deckhouse.Read()
	return choice{p, func(s *stage.Session) (contract.SelectionSpec, error) {
		spec, notes, err := deckhouse.Select(catalog, p)
		for _, n := range notes {
			s.Log.Warn(n.Subject + ": " + n.Text)
		}
		return spec, err
	}}, err
}

var errListKnows = fault.Newf(fault.Usage, "", "the Catalog was made from a list of images, which says itself what is wanted; the flags for Deckhouse do not fit")

func (f *flags) generic(catalog contract.CatalogSpec) (choice, error) {
	if f.Given() {
		return choice{}, errListKnows
	}
	return choice{nil, func(*stage.Session) (contract.SelectionSpec, error) { return generic.Select(catalog) }}, nil
}
