package transfer

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry"
	"ferry/pkg/store"
)

// receiver takes single blobs and manifests from a registry into a store.
type receiver struct {
	source   registry.Source
	store    store.Ingester
	retry    Retry
	log      *slog.Logger
	progress progress.Tracker
}

// has reports whether the store holds desc, and refuses a blob whose size two
// manifests disagree about.
func (r *receiver) has(desc oci.Descriptor) (bool, error) {
	size, err := r.store.Stat(desc.Digest)
	switch {
	case fault.KindOf(err) == fault.NotFound:
		return false, nil
	case err != nil:
		return false, err
	case size != desc.Size:
		return false, sizeError(desc, size)
	}
	return true, nil
}

// present is has, and counts what need not be fetched any more.
func (r *receiver) present(desc oci.Descriptor) (bool, error) {
	ok, err := r.has(desc)
	if ok {
		r.progress.AddBytes(desc.Size)
	}
	return ok, err
}

func sizeError(desc oci.Descriptor, size int64) error {
	return fault.Newf(fault.Protocol, string(desc.Digest), "a manifest says it has %d bytes, but it has %d", desc.Size, size)
}

// blob brings a blob into the store, unless it is there. An interrupted one is
// continued behind the bytes that an earlier try, or an earlier process, kept.
func (r *receiver) blob(ctx context.Context, repo oci.Repository, desc oci.Descriptor) error {
	if ok, err := r.present(desc); ok || err != nil {
		return err
	}
	in, err := r.store.Ingest(ctx, desc)
	if err != nil {
		return err
	}
	defer in.Close()
	// Another run may have finished it while we waited for the ingest.
	if ok, err := r.present(desc); ok || err != nil {
		return err
	}
	in.HashLater()
	mark := &progress.Mark{Tracker: r.progress}
	try := func() error {
		return r.retry.do(ctx, r.log, string(desc.Digest), func() (bool, error) {
			appended, err := r.receive(ctx, in, repo, desc, mark)
			return appended > 0, err
		})
	}
	resumed := in.Held() != nil
	err = try()
	if !resumed || fault.KindOf(err) != fault.Protocol {
		return err
	}
	// The bytes kept from an earlier run may be the wrong ones (a torn page
	// after a power loss); the registry gets the benefit of the doubt, once.
	r.log.Warn("a blob that was continued does not match; fetching it from its start", "blob", desc.Digest, "cause", err)
	if _, err := in.CopyFrom(ctx, 0, strings.NewReader("")); err != nil {
		return err
	}
	return try()
}

// receive is one try: it asks for what is missing and commits.
func (r *receiver) receive(ctx context.Context, in store.Ingest, repo oci.Repository, desc oci.Descriptor, mark *progress.Mark) (int64, error) {
	held := in.Held()
	if held != nil && held.Size() == desc.Size {
		mark.At(desc.Size)
		return 0, in.Commit(ctx)
	}
	body, start, err := r.source.Blob(ctx, repo, desc, held)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	mark.At(start)
	position := start
	appended, err := in.CopyFrom(ctx, start, readerFunc(func(p []byte) (int, error) {
		n, err := body.Read(p)
		position += int64(n)
		mark.At(position)
		return n, err
	}))
	if err != nil {
		return appended, err
	}
	return appended, in.Commit(ctx)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// manifest returns a manifest by digest, from the store if it is there, else
// from the registry into the store. The media type is what the registry said,
// and "" for a stored one.
func (r *receiver) manifest(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, []byte, error) {
	body, err := readSmall(r.store, digest)
	if err == nil {
		return oci.Descriptor{Digest: digest, Size: int64(len(body))}, body, nil
	}
	if fault.KindOf(err) != fault.NotFound {
		return oci.Descriptor{}, nil, err
	}
	var desc oci.Descriptor
	err = r.retry.do(ctx, r.log, repo.String()+"@"+string(digest), func() (bool, error) {
		var err error
		desc, body, err = r.source.Manifest(ctx, repo.WithDigest(digest))
		return false, err
	})
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	return desc, body, r.keep(ctx, desc, body)
}

// keep puts a manifest into the store.
func (r *receiver) keep(ctx context.Context, desc oci.Descriptor, body []byte) error {
	return store.Put(ctx, r.store, desc, bytes.NewReader(body))
}

// parse is manifest, read. The media type is the one that the manifest says
// itself, for the store does not know what the registry said.
func (r *receiver) parse(ctx context.Context, repo oci.Repository, digest oci.Digest) (oci.Descriptor, []byte, *oci.Manifest, error) {
	desc, body, err := r.manifest(ctx, repo, digest)
	if err != nil {
		return oci.Descriptor{}, nil, nil, err
	}
	m, err := oci.ParseManifest(desc.MediaType, body)
	if err != nil {
		return oci.Descriptor{}, nil, nil, fault.New(fault.Protocol, repo.WithDigest(digest).String(), err)
	}
	desc.MediaType = m.MediaType
	return desc, body, m, nil
}

// readSmall reads a stored manifest, and believes it when it hashes right.
func readSmall(content store.Reader, digest oci.Digest) ([]byte, error) {
	b, err := content.Open(digest)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if b.Size() > oci.ManifestLimit {
		return nil, fault.Newf(fault.Damaged, string(digest), "a manifest of %d bytes", b.Size())
	}
	body, err := io.ReadAll(b)
	if err != nil {
		return nil, fault.New(fault.Local, string(digest), err)
	}
	if oci.DigestOf(body) != digest {
		return nil, fault.Newf(fault.Damaged, string(digest), "the stored manifest is damaged").Hint("run ferry-fetch --verify, which fetches anew what is damaged")
	}
	return body, nil
}
