package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/imagefs"
	"ferry/pkg/oci"
)

// release is what version.json of a channel image says (S1.4). Its many other
// keys are not ours.
type release struct {
	Version string `json:"version"`
	Suspend bool   `json:"suspend"`
}

const versionFile = "version.json"

// readChannels reads those channels that repo has. Channels often share an
// image, which is read once.
func (e *explorer) readChannels(ctx context.Context, component string, repo oci.Repository) ([]contract.CatalogChannel, error) {
	var out []contract.CatalogChannel
	known := map[oci.Digest]release{}
	for _, name := range deckhouse.Channels() {
		ref := repo.WithTag(name)
		desc, body, err := e.src.Manifest(ctx, ref)
		if errors.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r, ok := known[desc.Digest]
		if !ok {
			if r, err = e.readRelease(ctx, ref, desc, body); err != nil {
				return nil, err
			}
			known[desc.Digest] = r
		}
		out = append(out, contract.CatalogChannel{Component: component, Name: name, Version: r.Version, Suspended: r.Suspend})
		e.log.DebugContext(ctx, "channel read", "channel", ref.String(), "version", r.Version)
	}
	return out, nil
}

func (e *explorer) readRelease(ctx context.Context, ref oci.Reference, desc oci.Descriptor, body []byte) (release, error) {
	manifest, err := e.imageManifest(ctx, ref, desc, body)
	if err != nil {
		return release{}, err
	}
	var layers []imagefs.Layer
	for _, layer := range manifest.Layers {
		layers = append(layers, imagefs.Layer{
			Name: string(layer.Digest),
			Open: func(ctx context.Context) (io.ReadCloser, error) {
				blob, _, err := e.src.Blob(ctx, ref.Repository, layer, nil)
				return blob, fault.Part(ref.String(), err)
			},
		})
	}
	files, err := imagefs.Find(ctx, layers, []string{versionFile})
	if err != nil {
		return release{}, err
	}
	content, ok := files[versionFile]
	if !ok {
		return release{}, fault.Newf(fault.Protocol, ref.String(), "the channel's image has no %s", versionFile)
	}
	r, err := parseRelease(content)
	if err != nil {
		return release{}, fault.New(fault.Protocol, ref.String(), err)
	}
	return r, nil
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
		return release{}, fault.Newf(fault.Protocol, versionFile, "is not what a release says: %w", err)
	}
	if !oci.ValidTag(r.Version) {
		return release{}, fault.Newf(fault.Protocol, versionFile, "its version %q cannot be a tag", r.Version)
	}
	return r, nil
}
