package bundle

import (
	"bytes"
	"context"
	"io"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

// proveFrames proves all archives but for the content of their layers and configs.
func (v *verifier) proveFrames(ctx context.Context, _ []gostSums) error {
	return nameAll(ctx, len(v.doc.Archives), 1, func(ctx context.Context, i int) error {
		return v.proveFrame(ctx, v.doc.Archives[i])
	})
}

func (v *verifier) proveFrame(ctx context.Context, archive contract.ArchiveFiles) error {
	plan := v.planOf(archive)
	if plan == nil {
		return v.examine(ctx, archive, nil)
	}
	f := &frame{v: v}
	err := f.read(ctx, plan, archive)
	return v.lookAgain(ctx, archive, nil, f.passed, err)
}

// frame is an archive whose blobs are passed over.
type frame struct {
	v      *verifier
	passed int64 // bytes, read or not
}

// read returns a difference where the frame is not what was planned.
func (f *frame) read(ctx context.Context, plan *archivePlan, archive contract.ArchiveFiles) error {
	opened := newHandles(f.v.dir)
	defer opened.Close()
	p, err := newParts(opened, archive.Files)
	if err != nil {
		return err
	}
	if p.size != plan.size {
		return &difference{offset: min(p.size, plan.size)}
	}
	for r, err := range plan.regions() {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = f.region(p, r)
		}
		if err != nil {
			return err
		}
		f.passed += r.size()
		f.v.told.AddBytes(r.size())
	}
	return nil
}

func (f *frame) region(content io.ReaderAt, r region) error {
	if r.blob != nil && f.v.manifests.graph[r.blob.digest] == nil {
		return nil
	}
	data := make([]byte, r.size())
	if _, err := content.ReadAt(data, r.offset); err != nil {
		return err
	}
	switch {
	case r.blob == nil && !bytes.Equal(data, r.known):
		return &difference{offset: r.offset, layout: &r}
	case r.blob == nil:
	case oci.DigestOf(data) != r.blob.digest:
		return &difference{offset: r.offset}
	default:
		if m := f.v.manifests.unseen(r.blob.digest); m != nil && !f.v.manifests.agrees(m, data) {
			return &difference{offset: r.offset, opinion: true}
		}
	}
	return nil
}

// VerifyLayoutsFrame proves as [VerifyLayouts] does everything but the content of
// blobs that are no manifests, as [VerifyFrame] does of archives.
// Kinds: fault.Damaged, fault.Local, fault.Cancelled.
func VerifyLayoutsFrame(ctx context.Context, dir string, doc *contract.BundleSpec, _ Progress) error {
	return verifyLayouts(dir, doc, frameOnly(ctx))
}

// ImportLayoutsFrame imports as [ImportLayouts] does, and reads nothing of blobs
// that are no manifests. Kinds: fault.Damaged, fault.Local, fault.Cancelled.
func ImportLayoutsFrame(ctx context.Context, tree *Tree, rules Rules, _ Progress) (*contract.Contents, error) {
	return importLayouts(tree, rules, frameOnly(ctx))
}
