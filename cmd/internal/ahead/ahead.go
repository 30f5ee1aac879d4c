// Package ahead looks at what contents will meet at a target, for the stages that
// are given what ferry-publish probe has found out about it.
package ahead

import (
	"context"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/outlook"
	"ferry/pkg/stage"
	"ferry/pkg/store"
)

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
