package main

import (
	"context"

	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/stage"
)

// proof is how much of a source is read before anything is said of it (--verify).
type proof struct {
	archives, layouts func(ctx context.Context, dir string, doc *contract.BundleSpec, progress bundle.Progress) error
	imported          func(ctx context.Context, tree *bundle.Tree, rules bundle.Rules, progress bundle.Progress) (*contract.Contents, error)
	// verified and state tell what was done, in the log and in the summary.
	verified, state string
	// options shape the document: a kept one that says less is not believed for
	// one that says more.
	options any
}

const everyByte = "every byte is what it should be"

func (f *flags) streams() bool { return f.Verify == "stream" }

func (f *flags) proof() proof {
	if !f.streams() {
		return proof{
			bundle.Verify, bundle.VerifyLayouts, bundle.ImportLayouts,
			"verified", everyByte, nil,
		}
	}
	p := proof{
		bundle.VerifyFrame, bundle.VerifyLayoutsFrame, bundle.ImportLayoutsFrame,
		"verified all but the layers and configs of", "all but layers and configs is what it should be; they are proven when they are read",
		struct{ Verify string }{f.Verify},
	}
	if f.To != "" {
		p.state = everyByte // the copy has proven the rest
	}
	return p
}

// warnOfSums says that sums are there for nothing.
func (f *flags) warnOfSums(s *stage.Session, dir string) error {
	if !f.streams() {
		return nil
	}
	there, err := bundle.HasGostSums(dir)
	if there {
		s.Log.Warn("the GOST sums beside the archives are not compared with them by --verify stream", "directory", dir)
	}
	return err
}

// refuseStream tells why archives that describe themselves are read completely:
// the Inventory has the digest of each file, which no document tells.
func (f *flags) refuseStream() error {
	if !f.streams() {
		return nil
	}
	return fault.Newf(fault.Usage, "--verify stream", "no %s describes these archives as a whole", bundle.DocumentName).
		Hint("leave the flag out, or name one directory with a %s and nothing else", bundle.DocumentName)
}
