package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/imagefs"
	"ferry/pkg/memo"
	"ferry/pkg/oci"
	"ferry/pkg/registry"
)

// release is what version.json of a channel image says (S1.4). Its many other
// keys are not ours.
type release struct {
	Version string `json:"version"`
	Suspend bool   `json:"suspend"`
}

// releaseImages reads the images of one repository that say what a release is,
// each once, for channels and versions often share them. It is safe for
// concurrent use.
type releaseImages struct {
	*explorer
	repo oci.Repository
	// further are files wanted besides version.json.
	further []string

	known memo.Settled[oci.Digest, map[string][]byte]
}

// channels reads those channels that the repository has, all at once: there are few,
// and on a long line each answer takes as long as all of them. Of several errors it
// returns that of the first channel, whichever came first.
func (r *releaseImages) channels(ctx context.Context, component string) ([]contract.CatalogChannel, error) {
	names := deckhouse.Channels()
	channels, errs := make([]contract.CatalogChannel, len(names)), make([]error, len(names))
	var reading sync.WaitGroup
	for i, name := range names {
		reading.Go(func() { channels[i], errs[i] = r.channel(ctx, component, name) })
	}
	reading.Wait()
	var out []contract.CatalogChannel
	for i, err := range errs {
		if errors.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, channels[i])
	}
	return out, nil
}

func (r *releaseImages) channel(ctx context.Context, component, name string) (contract.CatalogChannel, error) {
	ref := r.repo.WithTag(name)
	digest, files, err := r.read(ctx, ref)
	if err != nil {
		return contract.CatalogChannel{}, err
	}
	content, ok := files[deckhouse.VersionFile]
	if !ok {
		return contract.CatalogChannel{}, fault.Newf(fault.Protocol, ref.String(), "the channel's image has no %s", deckhouse.VersionFile)
	}
	said, err := parseRelease(content)
	if err != nil {
		return contract.CatalogChannel{}, fault.New(fault.Protocol, ref.String(), err)
	}
	r.log.DebugContext(ctx, "channel read", "channel", ref.String(), "version", said.Version)
	return contract.CatalogChannel{
		Component: component, Name: name, Version: said.Version, Suspended: said.Suspend, Digest: digest,
	}, nil
}

// read returns what ref stands for, and those of the files that it has.
func (r *releaseImages) read(ctx context.Context, ref oci.Reference) (oci.Digest, map[string][]byte, error) {
	desc, body, err := r.src.Manifest(ctx, ref)
	if err != nil {
		return "", nil, err
	}
	files, err := r.known.Get(desc.Digest, func() (map[string][]byte, error) { return r.find(ctx, ref, desc, body) })
	if err != nil {
		return "", nil, err
	}
	return desc.Digest, files, nil
}

// find reads the files of an image. What keeps a further one from being read must
// not keep a channel from telling its version.
func (r *releaseImages) find(ctx context.Context, ref oci.Reference, desc oci.Descriptor, body []byte) (map[string][]byte, error) {
	manifest, err := r.imageManifest(ctx, ref, desc, body)
	if err != nil {
		return nil, err
	}
	var layers []imagefs.Layer
	for _, layer := range manifest.Layers {
		layers = append(layers, imagefs.Layer{
			Name: string(layer.Digest),
			Open: func(ctx context.Context) (io.ReadCloser, error) {
				blob, _, err := r.src.Blob(ctx, ref.Repository, layer, nil)
				if err != nil {
					if fault.KindOf(err) != fault.NotFound {
						err = undelivered{err}
					}
					return nil, fault.Part(ref.String(), err)
				}
				return delivery{registry.Verified(blob, layer)}, nil
			},
		})
	}
	names := append([]string{deckhouse.VersionFile}, r.further...)
	files, err := imagefs.Find(ctx, layers, names)
	if len(names) == 1 || !isContent(err) {
		return files, err
	}
	r.log.WarnContext(ctx, "some files of a release cannot be read", "release", ref.String(), "cause", err)
	return imagefs.Find(ctx, layers, names[:1])
}

// undelivered is an error about the way that a layer came. Other bytes than the
// digest names, or fewer, are no word of the publisher's, and excuse nothing (B10).
type undelivered struct{ error }

func (u undelivered) Unwrap() error { return u.error }

// delivery is a layer on its way.
type delivery struct{ io.ReadCloser }

func (d delivery) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = undelivered{err}
	}
	return n, err
}

// isContent reports whether an error is about what an image holds, and not about
// how it was asked for.
func isContent(err error) bool {
	kind := fault.KindOf(err)
	return !errors.As(err, new(undelivered)) && (kind == fault.Protocol || kind == fault.Unsupported)
}

// imageManifest descends from an index to its first image: what a channel says
// does not depend on the platform.
func (e *explorer) imageManifest(ctx context.Context, ref oci.Reference, desc oci.Descriptor, body []byte) (*oci.Manifest, error) {
	const maxDepth = 4
	for range maxDepth {
		manifest, err := oci.ParseManifest(desc.MediaType, body)
		if err != nil {
			return nil, fault.New(fault.Protocol, ref.String(), err)
		}
		if !oci.IsIndex(manifest.MediaType) {
			return manifest, nil
		}
		if len(manifest.Manifests) == 0 {
			return nil, fault.Newf(fault.Protocol, ref.String(), "the index lists no image")
		}
		desc, body, err = e.src.Manifest(ctx, ref.Repository.WithDigest(manifest.Manifests[0].Digest))
		if err != nil {
			return nil, fault.Part(ref.String(), err)
		}
	}
	return nil, fault.Newf(fault.Protocol, ref.String(), "more than %d indexes lie in each other", maxDepth)
}

func parseRelease(content []byte) (release, error) {
	var r release
	if err := json.Unmarshal(content, &r); err != nil {
		return release{}, fault.Newf(fault.Protocol, deckhouse.VersionFile, "is not what a release says: %w", err)
	}
	if !oci.ValidTag(r.Version) {
		return release{}, fault.Newf(fault.Protocol, deckhouse.VersionFile, "its version %q cannot be a tag", r.Version)
	}
	return r, nil
}
