package transfer

import (
	"context"
	"errors"
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/store"
)

// Copy brings everything that c lists from one place into a store on this
// machine, durably, hashing every byte. What the store has is not copied again.
// A copy for which the store has no room is not begun (B13).
// Kinds: fault.Damaged where from has other bytes than c says, Local, Cancelled.
func Copy(ctx context.Context, c *contract.Contents, from store.Reader, to *store.Dir, tracker progress.Tracker) error {
	parts := c.Parts()
	fits := func() error {
		return to.Fits(descriptors(slices.DeleteFunc(slices.Clone(parts), func(p contract.Part) bool { return isThere(to, p.Descriptor) })))
	}
	if err := fits(); err != nil {
		return err
	}
	var total int64
	for _, p := range parts {
		total += p.Size
	}
	tracker.SetTotal(total, int64(len(c.Images)))
	for _, p := range parts {
		if err := copyBlob(ctx, p.Descriptor, from, to, tracker); err != nil {
			if fault.CauseOf(err) == fault.DiskFull {
				err = errors.Join(err, fits())
			}
			return err
		}
	}
	if err := to.Sync(ctx); err != nil {
		return err
	}
	tracker.AddImages(int64(len(c.Images)))
	return nil
}

func isThere(in store.Reader, desc oci.Descriptor) bool {
	size, err := in.Stat(desc.Digest)
	return err == nil && size == desc.Size
}

func copyBlob(ctx context.Context, desc oci.Descriptor, from store.Reader, to store.Ingester, tracker progress.Tracker) error {
	if isThere(to, desc) {
		tracker.AddBytes(desc.Size)
		return nil
	}
	blob, err := from.Open(desc.Digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	err = store.Put(ctx, to, desc, progress.Reader(blob, tracker))
	if fault.KindOf(err) == fault.Protocol {
		return fault.New(fault.Damaged, string(desc.Digest), err)
	}
	return err
}
