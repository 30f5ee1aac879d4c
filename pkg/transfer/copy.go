package transfer

import (
	"context"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/store"
)

// Copy brings everything that c lists from one place into a store on this
// machine, durably, hashing every byte. What the store has is not copied again.
// Kinds: fault.Damaged where from has other bytes than c says, Local, Cancelled.
func Copy(ctx context.Context, c *contract.Contents, from store.Reader, to store.Ingester, tracker progress.Tracker) error {
	all := descriptors(c)
	var total int64
	for _, d := range all {
		total += d.Size
	}
	tracker.SetTotal(total, int64(len(c.Images)))
	for _, desc := range all {
		if err := copyBlob(ctx, desc, from, to, tracker); err != nil {
			return err
		}
	}
	if err := to.Sync(ctx); err != nil {
		return err
	}
	tracker.AddImages(int64(len(c.Images)))
	return nil
}

// descriptors lists all content of c.
func descriptors(c *contract.Contents) []oci.Descriptor {
	var all []oci.Descriptor
	for _, m := range c.Manifests {
		all = append(all, oci.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size})
	}
	for _, b := range c.Blobs {
		all = append(all, oci.Descriptor{Digest: b.Digest, Size: b.Size})
	}
	return all
}

func copyBlob(ctx context.Context, desc oci.Descriptor, from store.Reader, to store.Ingester, tracker progress.Tracker) error {
	if size, err := to.Stat(desc.Digest); err == nil && size == desc.Size {
		tracker.AddBytes(desc.Size)
		return nil
	}
	blob, err := from.Open(desc.Digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	in, err := to.Ingest(ctx, desc)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := in.CopyFrom(ctx, 0, progress.Reader(blob, tracker)); err != nil {
		return err
	}
	err = in.Commit(ctx)
	if fault.KindOf(err) == fault.Protocol {
		return fault.New(fault.Damaged, string(desc.Digest), err)
	}
	return err
}
