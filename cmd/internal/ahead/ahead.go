// Package ahead looks at what contents will meet at a target, for the stages that
// are given what ferry-publish probe has found out about it.
package ahead

import (
	"context"
	"errors"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/outlook"
	"ferry/pkg/stage"
	"ferry/pkg/store"
)

// Flags are those of the stages of the connected side.
type Flags struct {
	Target string `placeholder:"FILE" help:"Warn of what these images will meet at the registry that FILE tells of, a Target of ferry-publish probe: names and media types that it refuses, and so on."`
	Strict bool   `name:"target-strict" help:"With --target: end there with exit status 3, where there is anything to warn of."`
}

// Check is for Validate, by which the flag library asks.
func (f Flags) Check() error {
	if f.Strict && f.Target == "" {
		return errors.New("--target-strict is about --target, which is not given")
	}
	return nil
}

// Prospect is what is known of the registry of the closed side.
type Prospect struct {
	target *contract.TargetSpec
	place  func(path string) oci.Repository
	strict bool
}

// Prospect reads the document of --target; it is nil where that is not given.
// Kinds: those of Read.
func (f Flags) Prospect(ctx context.Context, s *stage.Session) (*Prospect, error) {
	if f.Target == "" {
		return nil, nil
	}
	target, err := Read(ctx, s, f.Target)
	if err != nil {
		return nil, err
	}
	place, err := Below(target)
	return &Prospect{target, place, f.Strict}, err
}

// Look warns of what contents will meet there. Kinds: those of
// [outlook.Journey.Findings], and fault.Policy for all of it with --target-strict.
func (p *Prospect) Look(ctx context.Context, s *stage.Session, contents *contract.Contents, content store.Reader) error {
	if p == nil {
		return nil
	}
	sure, perhaps, err := Look(ctx, p.target, contents, p.place, content)
	all := append(sure, perhaps...)
	if err != nil || p.strict {
		return errors.Join(append(all, err)...)
	}
	Warn(s, all)
	return nil
}

// Read reads the Target document in file. Kinds: fault.Usage, Damaged, Local.
func Read(ctx context.Context, s *stage.Session, file string) (*contract.TargetSpec, error) {
	if file == "-" {
		return nil, fault.Newf(fault.Usage, "--target", "it needs a file; standard input is for the other document")
	}
	in, err := s.Text(ctx, file, "Target document")
	if err != nil {
		return nil, err
	}
	doc, err := stage.Decode[contract.TargetSpec](*in)
	if err != nil {
		return nil, err
	}
	return &doc.Spec, nil
}

// Below is where paths land below the root that a Target document is of.
func Below(target *contract.TargetSpec) (func(path string) oci.Repository, error) {
	root, err := oci.ParseRepository(target.Target)
	if err != nil {
		return nil, err
	}
	return root.Join, nil
}

// Look is what contents will meet: what the registry has refused of them already,
// and what may be refused.
func Look(
	ctx context.Context, target *contract.TargetSpec, contents *contract.Contents, place func(path string) oci.Repository, content store.Reader,
) (sure, perhaps []error, err error) {
	found, err := outlook.Journey{Target: target, Contents: contents, Place: place, Content: content}.Findings(ctx)
	for _, f := range found {
		if f.Sure {
			sure = append(sure, f.Err)
		} else {
			perhaps = append(perhaps, f.Err)
		}
	}
	return sure, perhaps, err
}

// Warn warns of each.
func Warn(s *stage.Session, errs []error) {
	for _, err := range errs {
		s.Warn(err)
	}
}
