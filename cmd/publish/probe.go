package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"ferry/cmd/internal/ahead"
	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/probe"
	"ferry/pkg/stage"
	"ferry/pkg/store"
	"ferry/pkg/transfer"
)

type probeFlags struct {
	targetArg
	ReadOnly bool             `help:"Write no content: begin and cancel uploads, and read. What only content shows is unknown then."`
	Body     bundle.ChunkSize `name:"body-limit-probe" default:"8MiB" placeholder:"SIZE" help:"Try requests of at most SIZE, of zeros, in uploads that are cancelled (default ${default}): from 64KiB to 256MiB."`
}

const aboutProbe = `
What a registry can do ferry-publish probe finds out before data moves, and writes as a Target: which repositories may be written to, how deep and how long paths may be, which names, media types and request sizes it takes, whether it mounts blobs, lists tags and what is attached, and whether tags can be changed and things deleted. It answers yes, no or unknown, with the status behind it; a refusal that can have other reasons (401, 403, 429, 5xx) is unknown. ferry-pack --target and ferry-publish --target read the document.

    ferry-publish probe registry.closed.example/deckhouse -i bundle.json -o target.json
    ferry-unpack /media/disk | ferry-publish registry.closed.example/deckhouse --target target.json -o receipt.json

For this it writes three blobs and nine manifests of some hundred bytes, and two tags, to HOST/PATH/ferry-probe, and mounts one blob in HOST/PATH/ferry-probe-mount, all with content that nothing else has, and deletes them again. What the registry does not delete is listed in the document and warned of: some keep the empty repositories, and some delete nothing at all. With --read-only nothing is written.
`

// probe finds out what the target can do.
func (f *flags) probe(ctx context.Context, s *stage.Session) error {
	if err := f.refuse(s, "probe finds out what the target can do", map[string]bool{"--sign-key": f.SignKey != ""}); err != nil {
		return err
	}
	root, prefixes, err := f.place(f.Probe.Target)
	if err != nil {
		return err
	}
	size := int64(f.Probe.Body)
	if size < probe.SmallestBody || size > probe.LargestBody {
		return fault.Newf(fault.Usage, "--body-limit-probe", "%d bytes are too few to tell anything, or too many to find it out; it is %d at least, and %d at most",
			size, probe.SmallestBody, probe.LargestBody)
	}
	repos, docs, err := f.destinations(ctx, s, transfer.Landing(root, prefixes))
	if err != nil {
		return err
	}
	s.Summary.Title, s.Summary.To = "Probe", root.String()
	inputs, err := stage.InputsOf(struct {
		Target   string
		Prefixes []transfer.Prefix
		ReadOnly bool
		Body     int64
	}{root.String(), prefixes, f.Probe.ReadOnly, size}, docs...)
	if err != nil {
		return err
	}
	return stage.Produce(ctx, s, stage.Product[contract.TargetSpec]{
		Inputs: inputs,
		Valid: func(context.Context, *contract.Target) error {
			return errors.New("what the registry could do on another day may have changed")
		},
		Tell: func(spec *contract.TargetSpec) { s.Summary.State = outcomeOf(spec) },
		Make: func(ctx context.Context) (contract.TargetSpec, error) {
			client, err := f.Client(ctx, s, root.Host)
			if err != nil {
				return contract.TargetSpec{}, err
			}
			defer client.Close()
			s.Progress.Phase("probing")
			if !f.Probe.ReadOnly {
				s.Log.Info(fmt.Sprintf("some hundred bytes are written to %s and %s, and deleted again where the registry lets them be; --read-only writes nothing",
					root.Join(probe.Home), root.Join(probe.MountHome)))
			}
			spec, err := (&probe.Prober{
				Registry: client, Root: root, Repositories: repos, ReadOnly: f.Probe.ReadOnly, Body: size,
				Parallel: f.InFlight(), Log: s.Log,
			}).Run(ctx)
			if err == nil {
				tell(s, &spec)
			}
			return spec, err
		},
	})
}

// destinations are the repositories that the document of --input, if there is
// one, will be published to, sorted.
func (f *flags) destinations(ctx context.Context, s *stage.Session, place func(path string) oci.Repository) ([]oci.Repository, []*stage.Input, error) {
	if !s.InputGiven() {
		return nil, nil, nil
	}
	in, err := s.Input(ctx)
	if err != nil {
		return nil, nil, err
	}
	contents, err := contentsOf(in)
	if err != nil {
		return nil, nil, err
	}
	var repos []oci.Repository
	for _, path := range contents.Paths() {
		repos = append(repos, place(path))
	}
	slices.SortFunc(repos, func(a, b oci.Repository) int { return cmp.Compare(a.Path, b.Path) })
	repos = slices.Compact(repos)
	for _, repo := range repos {
		if _, err := oci.ParseRepository(repo.String()); err != nil { // publish would refuse it too (Q41)
			return nil, nil, fault.New(fault.Usage, repo.String(), err).Hint("choose another target path; every repository of the bundle must have a valid name below it")
		}
	}
	return repos, []*stage.Input{in}, nil
}

// tell says what the registry cannot do, and warns of repositories that may not
// be written to and of what is left there.
func tell(s *stage.Session, spec *contract.TargetSpec) {
	for _, r := range spec.Repositories {
		if r.Writable != contract.VerdictYes {
			s.Warn(fault.Newf(fault.Policy, r.Repository, "cannot be written to, as far as the registry tells: %d %s %s", r.Evidence.Status, r.Evidence.Code, r.Evidence.Text))
		}
	}
	for _, left := range spec.Leftovers {
		s.Warn(fault.Newf(fault.Policy, left, "the registry keeps it").Hint("let the registry's administrator remove it, or leave it: it is small and in nobody's way"))
	}
	s.Log.Info(outcomeOf(spec))
}

// outcomeOf is the document in a line.
func outcomeOf(spec *contract.TargetSpec) string {
	counts := map[contract.Verdict]int{}
	var not []contract.Feature
	for _, f := range spec.Features {
		if counts[f.Has]++; f.Has == contract.VerdictNo {
			not = append(not, f.Feature)
		}
	}
	slices.Sort(not)
	text := fmt.Sprintf("%d features: %d yes, %d no, %d unknown", len(spec.Features), counts[contract.VerdictYes], counts[contract.VerdictNo], counts[contract.VerdictUnknown])
	if len(not) > 0 {
		text += fmt.Sprintf("; not: %v", not)
	}
	return text
}

// lookAhead refuses what the target of --target is known to refuse, all of it at
// once, and warns of what it may.
func (f *flags) lookAhead(ctx context.Context, s *stage.Session, p *transfer.Publisher, inventory *contract.InventorySpec, from store.Reader) error {
	if f.Known == "" {
		return nil
	}
	target, err := ahead.Read(ctx, s, f.Known)
	if err != nil {
		return err
	}
	below, err := ahead.Below(target)
	if err != nil {
		return err
	}
	if of := below(""); of.Host != p.Root.Host {
		return fault.Newf(fault.Usage, "--target", "%s tells of %s, and this goes to %s", f.Known, of.Host, p.Root.Host).
			Hint("probe the registry that is published to")
	}
	sure, perhaps, err := ahead.Look(ctx, target, &inventory.Contents, transfer.Landing(p.Root, p.Prefixes), from)
	if err != nil {
		return err
	}
	ahead.Warn(s, perhaps)
	return errors.Join(sure...)
}
