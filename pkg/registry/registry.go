// Package registry is the little that ferry needs of a container registry.
//
// Errors carry a kind of pkg/fault, listed at each method: NotFound (a definite
// 404), Denied (401, 403), RateLimited (429), Transient (network, time-out,
// 5xx), Protocol (the registry contradicts itself), Unsupported (it cannot do
// that). Cancelled contexts come back as such. An implementation repeats a
// request only where it can do so unseen, within its own retry limit; what to
// do about an operation that failed is the caller's choice.
//
// The package wire implements it over HTTP; registrytest is a registry in the
// process, for tests and the demo.
package registry

import (
	"context"
	"io"

	"ferry/pkg/oci"
)

// Source is a registry that is read from. Implementations are safe for
// concurrent use. References name their host, so one Source serves many hosts.
type Source interface {
	// Resolve returns the digest, size and media type that ref stands for,
	// by HEAD, or by GET where HEAD is refused or incomplete.
	// Kinds: NotFound, Denied, RateLimited, Transient, Protocol.
	Resolve(ctx context.Context, ref oci.Reference) (oci.Descriptor, error)

	// Manifest returns a manifest's bytes as the registry stores them, at
	// most oci.ManifestLimit, and the descriptor computed from them. When
	// ref has a digest the bytes match it. Kinds as Resolve.
	Manifest(ctx context.Context, ref oci.Reference) (oci.Descriptor, []byte, error)

	// Tags returns all tags of repo, following pages, in the registry's
	// order. Kinds as Resolve, and Unsupported where the registry has no
	// tag list.
	Tags(ctx context.Context, repo oci.Repository) ([]string, error)

	// Referrers lists the manifests of repo that have digest as their subject,
	// as the registry's referrers API tells, following pages, each once. Kinds
	// as Resolve: NotFound where the registry does not know the repository or
	// the manifest, and Unsupported where it has no such API. After these two
	// the tag oci.ReferrersTag(digest) tells, which is the caller's to ask for.
	Referrers(ctx context.Context, repo oci.Repository, digest oci.Digest) ([]oci.Descriptor, error)

	// Blob opens the blob that desc names. held, when not nil, are the first
	// held.Size() bytes of it, kept from an earlier try: they are not read, the
	// registry is asked for the rest alone (Range), and start tells how many of
	// them the body leaves out: held.Size(), or 0 where the registry began
	// anew. Of a blob that is held in full nothing is asked for.
	// The body ends with an error, never a clean EOF, unless it and what it
	// leaves out are desc.Size bytes. Whether they are those of desc.Digest is
	// for the caller to prove: who stores them hashes them anyway, and others
	// read through Verified.
	// Kinds as Resolve.
	Blob(ctx context.Context, repo oci.Repository, desc oci.Descriptor, held *io.SectionReader) (body io.ReadCloser, start int64, err error)
}

// Standing is a registry that is asked what it has, and not written to.
type Standing interface {
	Source

	// BlobSize tells how many bytes the blob has that repo keeps, by HEAD. -1
	// says that the registry would not tell, for it serves no HEAD or leaves the
	// length out (Q13): then only Blob shows whether it is there. Kinds as
	// Resolve.
	BlobSize(ctx context.Context, repo oci.Repository, digest oci.Digest) (int64, error)
}

// Target is a registry that is written to.
type Target interface {
	Standing

	// CheckWrite tells whether repo may be written to, by an upload that is
	// begun and cancelled at once; nothing is left there. nil means yes.
	// Kinds as PutBlob, where NotFound says that the registry does not make
	// repo by itself.
	CheckWrite(ctx context.Context, repo oci.Repository) error

	// HasBlob tells whether repo has the blob. Kinds as Resolve but
	// NotFound, which is the answer false.
	HasBlob(ctx context.Context, repo oci.Repository, desc oci.Descriptor) (bool, error)

	// MountBlob asks repo to take the blob over from another repository of
	// the same host. False says that the registry would not; that is no
	// failure, and nothing is left behind. Kinds: Transient, RateLimited.
	MountBlob(ctx context.Context, repo oci.Repository, desc oci.Descriptor, from oci.Repository) (bool, error)

	// PutBlob uploads the blob; body is read from its start, again after a
	// retry. A failed upload leaves no upload session open, as far as the
	// registry lets us. Kinds as Resolve, and Unsupported for a refused
	// size or type.
	PutBlob(ctx context.Context, repo oci.Repository, desc oci.Descriptor, body io.ReadSeeker) error

	// PutManifest stores a manifest under ref's tag, or under its digest
	// when it has no tag. Kinds as PutBlob, where NotFound also says that
	// the registry misses a part of the manifest.
	PutManifest(ctx context.Context, ref oci.Reference, mediaType string, body []byte) error
}
