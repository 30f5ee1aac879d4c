// Command ferry-select decides which images of a Catalog to carry: a Selection.
//
// It is pure: the same Catalog and the same policy give the same Selection, and
// it links no network.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"ferry/cmd/internal/policy"
	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/generic"
	"ferry/pkg/stage"
	"ferry/pkg/summary"
)

type flags struct {
	Releases string `placeholder:"FILE" help:"Write the manifests of the selected Deckhouse releases to FILE, deckhousereleases.yaml in bundles of d8. Where no release is chosen by channels, an older FILE of that kind is removed."`
	policy.Deckhouse
	ModulesFilter string   `placeholder:"NAME:TAG[;NAME:TAG]" help:"Of a ModuleSource carry these modules alone, each at this version, or at this channel and its version." group:"What to carry (ModuleSource)"`
	Select        struct{} `cmd:"" default:"1" hidden:"" help:"Write a Selection."`
	Explain       struct {
		Queries []string `arg:"" name:"query" help:"What to ask for: HOST/PATH:TAG, HOST/PATH@DIGEST, PATH:TAG at the target, a digest, or a part such as platform@v1.70.1, module/console@v1.40.0, package/redis."`
	} `cmd:"" help:"Say why images are carried or not: an Explanation instead of a Selection. Of a Catalog, with the same flags, it tells what select decides and by which rule; of a Selection, Plan, Inventory or Bundle, where an image lands and why."`
}

const description = `
Reads a Catalog and writes a Selection: every image to carry, where it lands, and why it was chosen. Without flags a Deckhouse edition is carried as d8 mirror pull does: platform versions from rock-solid to alpha, what the channels of all modules and packages point at, the security databases and the installer, the newest d8 and those of its plugins that are made for what is carried.

Images that are named only inside other images are not listed yet; the Selection says where to read their names, and ferry-fetch --plan lists them.

    ferry-select -i catalog.json --include-platform '>=1.71' --releases deckhousereleases.yaml -o selection.json
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

// choice decides over one Catalog: its options, for the metadata, the decision,
// and what else is written, if anything.
type choice struct {
	options any
	decide  func(s *stage.Session) (contract.SelectionSpec, error)
	beside  func(s *stage.Session) error
}

func (f *flags) run(ctx context.Context, s *stage.Session) error {
	if s.Verb == "explain" {
		return f.explain(ctx, s)
	}
	catalog, in, err := stage.DecodeInput[contract.CatalogSpec](ctx, s)
	if err != nil {
		return err
	}
	s.Summary.Title, s.Summary.From, s.Summary.Words = "Selection", catalog.Spec.Source, summary.Pulling("not selected")
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
	err = stage.Produce(ctx, s, stage.Product[contract.SelectionSpec]{
		Inputs: inputs,
		Tell: func(spec *contract.SelectionSpec) {
			s.Summary.Overview, s.Summary.Outcome = spec.Overview, summary.Planned
			s.Summary.State = fmt.Sprintf("complete: %d images are selected by name", len(spec.Images))
		},
		Make: func(context.Context) (contract.SelectionSpec, error) {
			spec, err := chosen.decide(s)
			if err == nil {
				s.Log.Info(fmt.Sprintf("selected %d images in %d archives", len(spec.Images), len(spec.Archives)))
			}
			return spec, err
		},
	})
	if err != nil || chosen.beside == nil {
		return err
	}
	return chosen.beside(s)
}

func (f *flags) deckhouse(catalog contract.CatalogSpec) (choice, error) {
	p, err := f.Deckhouse.Read()
	if f.ModulesFilter != "" {
		if f.Policy != "" {
			return choice{}, fault.Newf(fault.Usage, "--policy", "it stands for all flags that say what to carry, but --modules-filter is given too")
		}
		p.ModulesFilter = f.ModulesFilter
	}
	c := choice{options: p, decide: func(s *stage.Session) (contract.SelectionSpec, error) {
		spec, notes, err := deckhouse.Select(catalog, p)
		warn(s, notes)
		return spec, err
	}}
	if f.Releases != "" {
		c.beside = func(s *stage.Session) error { return f.writeReleases(s, catalog, p) }
	}
	return c, err
}

func warn(s *stage.Session, notes []deckhouse.Note) {
	for _, n := range notes {
		s.Log.Warn(n.Subject + ": " + n.Text)
	}
}

// writeReleases has the file tell of the releases of this run, or of none: one
// that an earlier run left would promise releases that are not carried.
func (f *flags) writeReleases(s *stage.Session, catalog contract.CatalogSpec, p deckhouse.Policy) error {
	text, notes, err := deckhouse.Releases(catalog, p)
	warn(s, notes)
	if err != nil {
		return err
	}
	if text != nil {
		return durable.WriteFile(f.Releases, text, 0o644)
	}
	ours, err := describesReleases(f.Releases)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return durable.Fault(f.Releases, err)
	case !ours:
		s.Log.Warn("there are no releases to describe, and the file is not a description of releases, so it stays", "file", f.Releases)
		return nil
	}
	s.Log.Info("there are no releases to describe; removing the file of an earlier run", "file", f.Releases)
	if err := os.Remove(f.Releases); err != nil {
		return durable.Fault(f.Releases, err)
	}
	return durable.SyncDir(filepath.Dir(f.Releases))
}

// describesReleases reports whether a file is one that this command writes. Its
// head tells; what is no regular file may never end.
func describesReleases(path string) (bool, error) {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, int64(len(deckhouse.ReleasesHead))))
	return string(head) == deckhouse.ReleasesHead, err
}

var errListKnows = fault.Newf(fault.Usage, "", "the Catalog was made from a list of images, which says itself what is wanted; the flags for Deckhouse do not fit, but for --skip-attachments")

// listOptions are the options for a list of images.
func (f *flags) listOptions() (generic.Options, error) {
	others := f.Deckhouse
	others.SkipAttachments = false
	if others.Given() || f.ModulesFilter != "" {
		return generic.Options{}, errListKnows
	}
	return generic.Options{SkipAttachments: f.SkipAttachments}, nil
}

func (f *flags) generic(catalog contract.CatalogSpec) (choice, error) {
	if f.Releases != "" {
		return choice{}, errListKnows
	}
	opts, err := f.listOptions()
	if err != nil {
		return choice{}, err
	}
	var shaping any // no options at all are no input
	if opts != (generic.Options{}) {
		shaping = opts
	}
	return choice{options: shaping, decide: func(*stage.Session) (contract.SelectionSpec, error) { return generic.Select(catalog, opts) }}, nil
}
