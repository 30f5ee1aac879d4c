// Command ferry-pack writes an Inventory's images into archives: a Bundle.
package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"ferry/cmd/internal/content"
	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/stage"
	"ferry/pkg/summary"
)

type flags struct {
	Dir       string           `arg:"" help:"The directory for the archives; made if it is missing."`
	ChunkSize bundle.ChunkSize `placeholder:"SIZE" help:"Cut archives into files of at most SIZE: 4GiB, 4.7GB, 650MiB, or a plain number of gigabytes (10^9 bytes), as in d8. 0 does not cut."`
	Force     bool             `help:"Replace the archives of another bundle that are in the directory."`
	Parallel  int              `default:"2" placeholder:"N" help:"Write at most ${default} archives at a time."`
}

const description = `
Reads an Inventory and writes its images into DIR: one archive for the platform, one for each module, and so on, in the format of d8 mirror, which can push them too. The same content gives the same bytes, everywhere.

The document bundle.json is written last, into DIR and to stdout: a directory without it is not finished, and the same command finishes it. It travels with the archives.

    ferry-pack -i inventory.json /media/disk --chunk-size 4GiB
`

func main() {
	f := &flags{}
	stage.Main(stage.Command{
		Name:        "pack",
		Summary:     "Write the images of an Inventory into archives",
		Description: description,
		Reads:       []contract.Kind{contract.KindInventory},
		Writes:      []contract.Kind{contract.KindBundle},
		Flags:       f,
		Run:         f.run,
	})
}

func (f *flags) run(ctx context.Context, s *stage.Session) error {
	inventory, _, err := stage.DecodeInput[contract.InventorySpec](ctx, s)
	if err != nil {
		return err
	}
	contents := &inventory.Spec.Contents
	s.Summary.Title, s.Summary.Words = "Bundle", summary.Pulling("not all packed")
	s.Summary.From, s.Summary.To, s.Summary.Overview = contents.Source, f.Dir, contents.Overview
	inputs, err := f.inputs(inventory)
	if err != nil {
		return err
	}
	return stage.Produce(ctx, s, stage.Product[contract.BundleSpec]{
		Inputs: inputs,
		Tell: func(spec *contract.BundleSpec) {
			s.Summary.Archives, s.Summary.State = spec.Archives, "the bundle is complete"
		},
		Valid: func(_ context.Context, doc *contract.Bundle) error {
			if !reflect.DeepEqual(doc.Spec.Contents, inventory.Spec.Contents) {
				return errors.New("it holds other images")
			}
			// bundle.json is the mark of a finished directory.
			if written, _, err := bundle.ReadDocument(f.Dir); err != nil || !reflect.DeepEqual(written, doc) {
				return errors.New("the directory does not hold it, or is not finished")
			}
			return content.CheckFiles(f.Dir, doc.Spec.Archives)
		},
		Make: func(ctx context.Context) (contract.BundleSpec, error) {
			return f.write(ctx, s, &inventory.Spec, inputs)
		},
	})
}

// inputs are those of the Inventory itself: that document names a path of this
// machine, and the Bundle must be the same on every machine.
func (f *flags) inputs(inventory *contract.Inventory) ([]contract.Input, error) {
	options, err := stage.InputsOf(struct{ ChunkSize bundle.ChunkSize }{f.ChunkSize})
	if err != nil {
		return nil, err
	}
	return append(inventory.Metadata.Inputs, options...), nil
}

func (f *flags) write(ctx context.Context, s *stage.Session, inventory *contract.InventorySpec, inputs []contract.Input) (contract.BundleSpec, error) {
	from, err := content.Open(ctx, inventory.Store)
	if err != nil {
		return contract.BundleSpec{}, err
	}
	defer from.Close()
	s.Progress.Phase("packing")
	archives, err := bundle.Write(ctx, f.Dir, &inventory.Contents, from, bundle.Options{
		ChunkSize: int64(f.ChunkSize), Force: f.Force, Parallel: f.Parallel, Progress: s.Progress,
	})
	if err != nil {
		return contract.BundleSpec{}, err
	}
	spec := contract.BundleSpec{Archives: archives, Contents: inventory.Contents}
	text, err := contract.Encode(contract.New(s.Generator(), inputs, spec))
	if err != nil {
		return spec, err
	}
	var size int64
	for _, a := range archives {
		size += a.Size
	}
	s.Count("bytes", size)
	s.Log.Info(fmt.Sprintf("wrote %d archives with %d images, %d bytes", len(archives), len(inventory.Contents.Images), size))
	return spec, bundle.Finish(f.Dir, text)
}
