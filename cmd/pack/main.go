// Command ferry-pack writes an Inventory's images into archives: a Bundle. Or it
// writes them as OCI image layouts, and an Inventory of these.
package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"

	"ferry/cmd/internal/ahead"
	"ferry/cmd/internal/content"
	"ferry/cmd/internal/signing"
	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/signature"
	"ferry/pkg/stage"
	"ferry/pkg/summary"
)

type flags struct {
	Dir       string           `arg:"" help:"The directory for the archives or layouts; made if it is missing."`
	Layouts   bool             `help:"Write no archives but OCI image layouts: each repository is one, in the directory DIR/PATH."`
	ChunkSize bundle.ChunkSize `placeholder:"SIZE" help:"Cut archives into files of at most SIZE: 4GiB, 4.7GB, 650MiB, or a plain number of gigabytes (10^9 bytes), as in d8. 0 does not cut."`
	Gost      bool             `name:"gost-digest" help:"Write a file NAME.gostsum beside each file NAME: its hash by GOST R 34.11-2012, 256 bits, as 64 hex digits."`
	Force     bool             `help:"Replace the archives or layouts of another bundle that are in the directory."`
	SignKey   string           `placeholder:"FILE" help:"Sign bundle.json with the Ed25519 key in FILE, which ssh-keygen or openssl has made."`
	Parallel  int              `default:"2" placeholder:"N" help:"Write at most ${default} archives, or blobs of layouts, at a time."`
	Ahead     ahead.Flags      `embed:""`
}

const description = `
Reads an Inventory and writes its images into DIR: one archive for the platform, one for each module, and so on, in the format of d8 mirror, which can push them too. The same content gives the same bytes, everywhere.

The document bundle.json is written last, into DIR and to stdout: a directory without it is not finished, and the same command finishes it. It travels with the archives.

    ferry-pack -i inventory.json /media/disk --chunk-size 4GiB

With --sign-key bundle.json.sig is written behind it, and travels too: a signature over the bytes of bundle.json, which names all content by digest. ferry-unpack --require-signature asks for it, and ssh-keygen checks it without ferry. The same command with --sign-key signs a directory that is finished already; without it bundle.json is written anew and has no signature, unless --keep finds it up to date.

    ssh-keygen -t ed25519 -f release
    ferry-pack -i inventory.json /media/disk --sign-key release -o bundle.json
    ssh-keygen -Y verify -f allowed_signers -I release -n ferry -s /media/disk/bundle.json.sig < /media/disk/bundle.json

The archive of a list of images is one OCI image layout, in which each blob is stored once. skopeo and others read it as it is, by the references that the images were read from:

    skopeo copy oci-archive:/media/disk/images.tar:quay.io/prometheus/prometheus:v3.1.0 dir:/tmp/prometheus

Archives that ferry-fetch --bundle has filled in DIR are not written again: what is left is bundle.json.

What the images will meet at the registry of the closed side tells --target FILE, where FILE is what ferry-publish probe has written there: names that are too deep or refused, media types that it does not take, blobs that are too large. All are warnings, which --report lists too, unless --target-strict makes them errors.

With --layouts DIR is a directory that other tools read too (skopeo, crane): DIR/modules/console is the OCI image layout of the repository modules/console. A blob that several repositories have is stored once, under several names (hard links), where the file system can; else it is copied. The document is then an Inventory, which ferry-publish reads; bundle.json is written too, and ferry-unpack verifies the directory by it.

    ferry-fetch -i selection.json --store /var/ferry | ferry-pack --layouts /srv/images -o inventory.json
`

func main() {
	f := &flags{}
	stage.Main(stage.Command{
		Name:        "pack",
		Summary:     "Write the images of an Inventory into archives",
		Description: description,
		Environment: []stage.Variable{signing.Environment()},
		Reads:       []contract.Kind{contract.KindInventory},
		Writes:      []contract.Kind{contract.KindBundle, contract.KindInventory},
		Flags:       f,
		Run:         f.run,
	})
}

// Validate is called by the flag library.
func (f *flags) Validate() error {
	if f.Layouts && (f.ChunkSize != 0 || f.Gost) {
		return errors.New("--chunk-size and --gost-digest are for archives, and with --layouts there are none; leave one of them out")
	}
	return f.Ahead.Check()
}

func (f *flags) run(ctx context.Context, s *stage.Session) error {
	key, err := signing.Key(s, f.SignKey)
	if err != nil {
		return err
	}
	p := &packing{flags: f, key: key}
	if err := p.run(ctx, s); err != nil {
		return err
	}
	// What was made is signed already, before anybody else could touch it.
	return p.sign(s, p.kept)
}

// packing is a run.
type packing struct {
	*flags
	key *signature.PrivateKey // nil where nothing is signed
	// kept is the text of a finished directory's document that a kept document
	// was found to be of.
	kept []byte
}

func (f *packing) run(ctx context.Context, s *stage.Session) error {
	inventory, _, err := stage.DecodeInput[contract.InventorySpec](ctx, s)
	if err != nil {
		return err
	}
	contents := &inventory.Spec.Contents
	if err := f.lookAhead(ctx, s, &inventory.Spec); err != nil {
		return err
	}
	s.Summary.Title, s.Summary.Words = "Bundle", summary.Pulling("not all packed")
	s.Summary.From, s.Summary.To, s.Summary.Overview = contents.Source, f.Dir, contents.Overview
	inputs, err := f.inputs(inventory)
	if err != nil {
		return err
	}
	if f.Layouts {
		return f.produceLayouts(ctx, s, &inventory.Spec, inputs)
	}
	return stage.Produce(ctx, s, stage.Product[contract.BundleSpec]{
		Inputs: inputs,
		Tell: func(spec *contract.BundleSpec) {
			s.Summary.Archives, s.Summary.State = spec.Archives, "the bundle is complete"
		},
		Valid: func(_ context.Context, doc *contract.Bundle) error {
			// bundle.json is the mark of a finished directory.
			written, text, err := f.finished(&inventory.Spec.Contents)
			if err != nil || !reflect.DeepEqual(written, doc) {
				return errors.New("the directory does not hold it, or is not finished")
			}
			if err := content.CheckFiles(f.Dir, doc.Spec.Archives); err != nil {
				return err
			}
			f.kept = text
			return nil
		},
		Make: func(ctx context.Context) (contract.BundleSpec, error) {
			return f.write(ctx, s, &inventory.Spec, inputs)
		},
	})
}

// lookAhead warns of what the contents will meet at --target.
func (f *flags) lookAhead(ctx context.Context, s *stage.Session, inventory *contract.InventorySpec) error {
	prospect, err := f.Ahead.Prospect(ctx, s)
	if prospect == nil || err != nil {
		return err
	}
	from, err := content.Open(ctx, inventory)
	if err != nil {
		return err
	}
	defer from.Close()
	return prospect.Look(ctx, s, &inventory.Contents, from)
}

// finished is the Bundle that the directory is, and its text, if it has these
// contents.
func (f *flags) finished(contents *contract.Contents) (*contract.Bundle, []byte, error) {
	written, text, err := bundle.ReadDocument(f.Dir)
	if err == nil && !reflect.DeepEqual(written.Spec.Contents, *contents) {
		err = errors.New("the directory holds other images")
	}
	return written, text, err
}

// inputs are those of the Inventory itself: that document names a path of this
// machine, and the Bundle must be the same on every machine.
func (f *flags) inputs(inventory *contract.Inventory) ([]contract.Input, error) {
	options, err := stage.InputsOf(struct {
		ChunkSize bundle.ChunkSize
		Layouts   bool `json:",omitempty"`
		Gost      bool `json:",omitempty"`
	}{f.ChunkSize, f.Layouts, f.Gost})
	if err != nil {
		return nil, err
	}
	return append(inventory.Metadata.Inputs, options...), nil
}

func (f *flags) options(s *stage.Session) bundle.Options {
	return bundle.Options{
		ChunkSize: int64(f.ChunkSize), Gost: f.Gost, Force: f.Force, Parallel: f.Parallel, Progress: s.Progress,
	}
}

func (f *packing) write(
	ctx context.Context, s *stage.Session, inventory *contract.InventorySpec, inputs []contract.Input,
) (contract.BundleSpec, error) {
	from, err := content.Open(ctx, inventory)
	if err != nil {
		return contract.BundleSpec{}, err
	}
	defer from.Close()
	s.Progress.Phase("packing")
	opts := f.options(s)
	if opts.Proven, err = f.proven(inventory); err != nil {
		return contract.BundleSpec{}, err
	}
	spec := contract.BundleSpec{Contents: inventory.Contents}
	opts.Seal = func(archives []contract.ArchiveFiles) error {
		spec.Archives = archives
		f.tell(s, &spec)
		return f.finish(s, spec, inputs)
	}
	_, err = bundle.Write(ctx, f.Dir, &inventory.Contents, from, opts)
	return spec, err
}

// tell tells what was written.
func (f *packing) tell(s *stage.Session, spec *contract.BundleSpec) {
	var size int64
	for _, a := range spec.Archives {
		size += a.Size
	}
	s.Count("bytes", size)
	s.Log.Info(fmt.Sprintf("wrote %d archives with %d images, %d bytes", len(spec.Archives), len(spec.Contents.Images), size))
}

// proven are the archives of an Inventory that lie in the directory already, as
// ferry-fetch --bundle leaves them.
func (f *flags) proven(inventory *contract.InventorySpec) ([]contract.ArchiveFiles, error) {
	dir, err := filepath.Abs(f.Dir)
	if err != nil {
		return nil, fault.New(fault.Usage, f.Dir, err)
	}
	if at := inventory.Store; at.Type == contract.StoreArchives && at.Path == dir {
		return at.Archives, nil
	}
	return nil, nil
}

// finish writes bundle.json, and its signature.
func (f *packing) finish(s *stage.Session, spec contract.BundleSpec, inputs []contract.Input) error {
	text, err := contract.Encode(contract.New(s.Generator(), inputs, spec))
	if err != nil {
		return err
	}
	if err := bundle.Finish(f.Dir, text); err != nil {
		return err
	}
	return f.sign(s, text)
}

// sign writes the signature of the document with this text, nil for none, which
// is what the directory holds.
func (f *packing) sign(s *stage.Session, text []byte) error {
	if f.key == nil || text == nil {
		return nil
	}
	signed, err := f.key.Sign(text)
	if err != nil {
		return err
	}
	if err := bundle.WriteSignature(f.Dir, signed); err != nil {
		return err
	}
	s.Log.Info(fmt.Sprintf("%s is signed by %s: %s", bundle.DocumentName, f.key.Fingerprint(), bundle.SignatureName))
	return nil
}

func (f *packing) produceLayouts(
	ctx context.Context, s *stage.Session, inventory *contract.InventorySpec, inputs []contract.Input,
) error {
	dir, err := filepath.Abs(f.Dir)
	if err != nil {
		return err
	}
	return stage.Produce(ctx, s, stage.Product[contract.InventorySpec]{
		Inputs: inputs,
		Tell:   func(*contract.InventorySpec) { s.Summary.State = "the layouts are complete" },
		Valid: func(_ context.Context, doc *contract.Inventory) error {
			_, text, err := f.finished(&inventory.Contents)
			if err != nil {
				return err
			}
			if err := content.CheckPlace(doc, dir); err != nil {
				return err
			}
			f.kept = text
			return nil
		},
		Make: func(ctx context.Context) (contract.InventorySpec, error) {
			place := contract.StoreLocation{Type: contract.StoreLayouts, Path: dir}
			return contract.InventorySpec{Store: place, Contents: inventory.Contents}, f.writeLayouts(ctx, s, inventory, inputs)
		},
	})
}

func (f *packing) writeLayouts(
	ctx context.Context, s *stage.Session, inventory *contract.InventorySpec, inputs []contract.Input,
) error {
	from, err := content.Open(ctx, inventory)
	if err != nil {
		return err
	}
	defer from.Close()
	s.Progress.Phase("unpacking")
	opts := f.options(s)
	opts.Seal = func([]contract.ArchiveFiles) error {
		return f.finish(s, contract.BundleSpec{Layouts: true, Contents: inventory.Contents}, inputs)
	}
	written, err := bundle.WriteLayouts(ctx, f.Dir, &inventory.Contents, from, opts)
	if err != nil {
		return err
	}
	s.Count("bytes", written.Bytes)
	images := len(inventory.Contents.Images)
	s.Log.Info(fmt.Sprintf("wrote %d layouts with %d images, %d bytes", written.Layouts, images, written.Bytes))
	if written.Linked > 0 {
		s.Log.Info(fmt.Sprintf("blobs that several layouts have are hard links (%d); cp -a and rsync -aH keep them", written.Linked))
	}
	if written.Copied > 0 {
		s.Log.Info(fmt.Sprintf("the file system has no hard links: %d blobs that several layouts have were copied", written.Copied))
	}
	return nil
}
