// Command ferry-publish writes an Inventory's images to a registry, reads every
// tag back, and says what stands there: a Receipt.
package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ferry/cmd/internal/connect"
	"ferry/cmd/internal/content"
	"ferry/cmd/internal/signing"
	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/stage"
	"ferry/pkg/summary"
	"ferry/pkg/transfer"
)

type flags struct {
	Publish struct {
		targetArg
	} `cmd:"" default:"withargs" hidden:"" help:"Write the images, and a Receipt."`
	Probe  probeFlags `cmd:"" help:"Find out what the registry can do, by small requests that are taken back: a Target instead of a Receipt. With -i, an Inventory or a Bundle, each repository of it is asked whether it may be written to."`
	Verify struct {
		targetArg
		Content bool `help:"Read every blob and hash it, instead of asking whether it is there and how large it is."`
	} `cmd:"" help:"Prove that all of an Inventory or a Bundle stands at the target, and write nothing there: a Receipt, or every gap."`
	Map []string `placeholder:"FROM=TO" help:"Put the repositories at and below FROM at and below TO instead, a path below the target, or from the registry's root when it begins with /; may be given again, the first that fits counts."`
	// d8's name for the one mapping that it has.
	ModulesPathSuffix  string `placeholder:"PATH" help:"Put modules below PATH, as --map modules=PATH does; / is the target itself (S7.5)."`
	CheckBlobs         bool   `help:"Ask for every blob and child manifest below tags that are right already too, and send again what the target has lost."`
	BypassAccessChecks bool   `env:"MIRROR_BYPASS_ACCESS_CHECKS" help:"Go on with a warning when the target refuses the access check before the first write (S7.3)."`
	SignKey            string `placeholder:"FILE" help:"Sign the Receipt with the Ed25519 key in FILE, which ssh-keygen or openssl has made. Needs -o."`
	Known              string `name:"target" placeholder:"FILE" help:"Look first at what FILE tells of the registry, a Target of ferry-publish probe: what would surely be refused ends the run before the first request, the rest is warned of."`
	connect.TargetFlags
}

// bypassVariable may be set for a whole chain.
const bypassVariable = "MIRROR_BYPASS_ACCESS_CHECKS"

// refuse ends another command than publishing that was given flags of it, or one of
// also.
func (f *flags) refuse(s *stage.Session, instead string, also map[string]bool) error {
	given := map[string]bool{
		"--check-blobs": f.CheckBlobs, "--target": f.Known != "",
		"--bypass-access-checks": f.BypassAccessChecks && s.Getenv(bypassVariable) == "",
	}
	maps.Copy(given, also)
	for _, flag := range slices.Sorted(maps.Keys(given)) {
		if given[flag] {
			return fault.Newf(fault.Usage, flag, "it is for publishing; %s", instead)
		}
	}
	return nil
}

// contentsOf is what an Inventory or a Bundle says. Where the content itself lies
// is of no interest: it may be gone.
func contentsOf(in *stage.Input) (*contract.Contents, error) {
	kind, err := in.Kind()
	if err != nil {
		return nil, err
	}
	if kind == contract.KindBundle {
		doc, err := stage.Decode[contract.BundleSpec](*in)
		if err != nil {
			return nil, err
		}
		return &doc.Spec.Contents, nil
	}
	doc, err := stage.Decode[contract.InventorySpec](*in)
	if err != nil {
		return nil, err
	}
	return &doc.Spec.Contents, nil
}

// targetArg is the one word of each command.
type targetArg struct {
	Target string `arg:"" help:"The registry and the path below which everything lands: HOST/PATH."`
}

const description = `
Reads an Inventory and writes its images to the registry: what is missing is sent, blobs before manifests, versions before the channels that point to them. Every tag is read, hashed and compared, before or after it was written. The Receipt lists them; it is written only when all are right.

A tag that is right already was written when all below it stood, so nothing below it is asked for. A registry that has lost blobs since gets them again with --check-blobs.

Everything lands below the target, but for what --map FROM=/TO names: that lands below TO from the registry's root.

Before the first write it asks each place that will be written to whether it may, by an upload that is begun and cancelled at once; where nothing is missing, nothing is asked.

Running it again is safe, and writes nothing when nothing is missing. With --keep, a Receipt that was made from the same Inventory is passed on, and the target is not asked again.

    ferry-unpack /media/disk | ferry-publish registry.closed.example/deckhouse -o receipt.json

With --sign-key the Receipt's file has a signature beside it, over its very bytes: receipt.json.sig. Whoever gets both learns which tags stand at the target, and from whom, without ferry. A Receipt that is written anew without the flag has no signature, and that of the old one is removed.

    ssh-keygen -Y verify -f allowed_signers -I NAME -n ferry -s receipt.json.sig < receipt.json

Whether all still stands there ferry-publish verify tells at any time later, from the bundle's document alone: it reads every tag, and every manifest below one, asks for every blob, and whether all that is attached is listed. All gaps are told. It writes nothing.

    ferry-publish verify registry.closed.example/deckhouse -i bundle.json -o receipt.json
    ferry-publish verify registry.closed.example/deckhouse -i bundle.json --content -o receipt.json   # each blob read and hashed
` + aboutProbe

func main() {
	f := &flags{}
	stage.Main(stage.Command{
		Name:        "publish",
		Summary:     "Write the images of an Inventory to a registry and prove that they are there",
		Description: description,
		Environment: append(connect.TargetEnvironment(), signing.Environment()),
		Reads:       []contract.Kind{contract.KindInventory, contract.KindBundle},
		Writes:      []contract.Kind{contract.KindReceipt, contract.KindTarget},
		Flags:       f,
		Run:         f.run,
	})
}

func (f *flags) run(ctx context.Context, s *stage.Session) error {
	if err := f.ReadPassword(ctx, s); err != nil {
		return err
	}
	if s.Verb == "probe" {
		return f.probe(ctx, s)
	}
	if err := f.signReceipt(s); err != nil {
		return err
	}
	if s.Verb == "verify" {
		return f.verify(ctx, s)
	}
	target, prefixes, err := f.place(f.Publish.Target)
	if err != nil {
		return err
	}
	inventory, in, err := stage.DecodeInput[contract.InventorySpec](ctx, s)
	if err != nil {
		return err
	}
	s.Summary.Title, s.Summary.Words = "Publication", summary.Publishing()
	s.Summary.To, s.Summary.Overview = target.String(), inventory.Spec.Contents.Overview
	inputs, err := stage.InputsOf(struct {
		Target   string
		Prefixes []transfer.Prefix
	}{target.String(), prefixes}, in)
	if err != nil {
		return err
	}
	publisher := &transfer.Publisher{
		Root: target, Prefixes: prefixes, CheckBlobs: f.CheckBlobs, BypassAccessCheck: f.BypassAccessChecks,
		Parallel: f.InFlight(), Retry: f.Retry(),
		Log: s.Log, Progress: s.Progress,
	}
	return stage.Produce(ctx, s, stage.Product[contract.ReceiptSpec]{
		Inputs: inputs,
		Tell: func(spec *contract.ReceiptSpec) {
			s.Summary.Overview = spec.Overview
			s.Summary.State = fmt.Sprintf("%d tags stand at the target, read back and equal by digest", len(spec.Tags))
		},
		Make: func(ctx context.Context) (contract.ReceiptSpec, error) {
			return f.publish(ctx, s, publisher, &inventory.Spec)
		},
	})
}

func (f *flags) signReceipt(s *stage.Session) error {
	key, err := signing.Key(s, f.SignKey)
	if err != nil {
		return err
	}
	if key == nil {
		return s.SignOutput(nil)
	}
	return s.SignOutput(key.Sign)
}

func (f *flags) publish(ctx context.Context, s *stage.Session, p *transfer.Publisher, inventory *contract.InventorySpec) (contract.ReceiptSpec, error) {
	from, err := content.Open(ctx, inventory)
	if err != nil {
		return contract.ReceiptSpec{}, err
	}
	defer from.Close()
	if err := f.lookAhead(ctx, s, p, inventory, from); err != nil {
		return contract.ReceiptSpec{}, err
	}
	client, err := f.Client(ctx, s, p.Root.Host)
	if err != nil {
		return contract.ReceiptSpec{}, err
	}
	defer client.Close()
	p.Content, p.Target = from, client
	receipt, figures, err := p.Publish(ctx, &inventory.Contents)
	s.Summary.Facts = []summary.Fact{{Label: "Sent", Text: fmt.Sprintf("%d tags; %d blobs, %s; %d blobs were mounted",
		figures.TagsWritten, figures.BlobsUploaded, progress.Size(figures.BytesUploaded), figures.BlobsMounted)}}
	s.Count("tags", figures.Tags)
	s.Count("tagsWritten", figures.TagsWritten)
	s.Count("blobsUploaded", figures.BlobsUploaded)
	s.Count("blobsMounted", figures.BlobsMounted)
	s.Count("bytesUploaded", figures.BytesUploaded)
	if err == nil {
		s.Log.Info(fmt.Sprintf("%d tags stand at %s%s, all equal by digest; %d were written now, with %d blobs of %d bytes",
			figures.Tags, p.Root, elsewhere(&receipt), figures.TagsWritten, figures.BlobsUploaded, figures.BytesUploaded))
	}
	return receipt, err
}

// elsewhere says how many tags of the receipt do not stand below its target.
func elsewhere(receipt *contract.ReceiptSpec) string {
	n := 0
	for _, tag := range receipt.Tags {
		if !strings.HasPrefix(tag.Repository+"/", receipt.Target+"/") {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of them outside of it (--map)", n)
}

// place is the word of a command line that names the target, and what lands
// elsewhere.
func (f *flags) place(word string) (oci.Repository, []transfer.Prefix, error) {
	target, err := connect.Repository("target", word)
	if err != nil {
		return target, nil, err
	}
	prefixes, err := f.prefixes()
	return target, prefixes, err
}

func (f *flags) prefixes() ([]transfer.Prefix, error) {
	var prefixes []transfer.Prefix
	for _, m := range f.Map {
		from, to, ok := strings.Cut(m, "=")
		if from = strings.Trim(from, "/"); !ok || from == "" {
			return nil, fault.Newf(fault.Usage, "--map", "%q is not FROM=TO", m)
		}
		prefix := transfer.Prefix{From: from, To: strings.Trim(to, "/"), Absolute: strings.HasPrefix(to, "/")}
		if prefix.Absolute && prefix.To == "" {
			return nil, fault.Newf(fault.Usage, "--map", "%q: the registry's root is no repository", m).
				Hint("--map %s= puts them directly below the target", from)
		}
		prefixes = append(prefixes, prefix)
	}
	if f.ModulesPathSuffix != "" {
		prefixes = append(prefixes, transfer.Prefix{From: "modules", To: strings.Trim(f.ModulesPathSuffix, "/")})
	}
	return prefixes, nil
}
