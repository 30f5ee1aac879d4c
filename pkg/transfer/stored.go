package transfer

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"ferry/pkg/fault"
	"ferry/pkg/memo"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry"
	"ferry/pkg/store"
)

// StoredSource is a registry.Source whose content comes through a store, where a
// later download finds it: what the store has is not asked for again, and what
// it lacks is received once, hashed and kept (S9 row 99). A tag, and the list of
// a repository's tags, are asked for once and stay what they were at first
// (N21). It is safe for concurrent use.
type StoredSource struct {
	receiver
	resolved  memo.Once[oci.Reference, oci.Descriptor]
	tags      memo.Once[oci.Repository, []string]
	manifests memo.Settled[oci.Digest, oci.Descriptor]
}

var _ registry.Source = (*StoredSource)(nil)

// NewStoredSource returns a source whose content passes from src through st.
func NewStoredSource(src registry.Source, st store.Ingester, retry Retry, log *slog.Logger) *StoredSource {
	return &StoredSource{receiver: receiver{source: src, store: st, retry: retry, log: log, progress: progress.None()}}
}

// Resolve implements registry.Source.
func (s *StoredSource) Resolve(ctx context.Context, ref oci.Reference) (oci.Descriptor, error) {
	return s.resolved.Get(ref, func() (oci.Descriptor, error) { return s.source.Resolve(ctx, ref) })
}

// Tags implements registry.Source.
func (s *StoredSource) Tags(ctx context.Context, repo oci.Repository) ([]string, error) {
	tags, err := s.tags.Get(repo, func() ([]string, error) { return s.source.Tags(ctx, repo) })
	return slices.Clone(tags), err // callers sort what they get
}

// Referrers implements registry.Source.
func (s *StoredSource) Referrers(ctx context.Context, repo oci.Repository, digest oci.Digest) ([]oci.Descriptor, error) {
	return s.source.Referrers(ctx, repo, digest)
}

// Manifest implements registry.Source. Besides its kinds there are fault.Local,
// and fault.Damaged for a store that has rotted.
func (s *StoredSource) Manifest(ctx context.Context, ref oci.Reference) (oci.Descriptor, []byte, error) {
	digest := ref.Digest
	if digest == "" {
		desc, err := s.Resolve(ctx, ref)
		if err != nil {
			return oci.Descriptor{}, nil, err
		}
		digest = desc.Digest
	}
	var body []byte
	desc, err := s.manifests.Get(digest, func() (desc oci.Descriptor, err error) {
		desc, body, _, err = s.parse(ctx, ref.Repository, digest)
		return desc, err
	})
	switch {
	case err != nil && ref.Digest == "":
		return oci.Descriptor{}, nil, fault.Part(ref.String(), err) // the tag is there, so the image is not absent
	case err != nil:
		return oci.Descriptor{}, nil, err
	case body == nil:
		body, err = s.reread(ctx, digest)
	}
	return desc, body, err
}

// reread returns a manifest that has been brought into the store. It is not to be
// seen there before it is durable.
func (s *StoredSource) reread(ctx context.Context, digest oci.Digest) ([]byte, error) {
	body, err := readSmall(s.store, digest)
	if fault.KindOf(err) != fault.NotFound {
		return body, err
	}
	if err := s.store.Sync(ctx); err != nil {
		return nil, err
	}
	if body, err = readSmall(s.store, digest); fault.KindOf(err) == fault.NotFound {
		// Nobody may take this for an image that the source lacks.
		return nil, fault.New(fault.Local, string(digest), fmt.Errorf("it was received, and is gone from the store: %v", err))
	}
	return body, err
}

// Blob implements registry.Source: the whole blob, out of the store. Kinds as
// those of Manifest.
func (s *StoredSource) Blob(ctx context.Context, repo oci.Repository, desc oci.Descriptor, _ *io.SectionReader) (io.ReadCloser, int64, error) {
	if err := s.blob(ctx, repo, desc); err != nil {
		return nil, 0, err
	}
	if err := s.store.Sync(ctx); err != nil {
		return nil, 0, err
	}
	blob, err := s.store.Open(desc.Digest)
	if err != nil {
		return nil, 0, err
	}
	return struct {
		io.Reader
		io.Closer
	}{store.Verified(blob, desc), blob}, 0, nil
}
