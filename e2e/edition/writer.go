package edition

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"ferry/pkg/oci"
	"ferry/pkg/registry"
)

const (
	ociConfig    = "application/vnd.oci.image.config.v1+json"
	ociLayer     = "application/vnd.oci.image.layer.v1.tar"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
	dockerLayer  = "application/vnd.docker.image.rootfs.diff.tar"
)

// image describes an image. Its name makes its digest its own even when the
// layers are another's.
type image struct {
	name   string
	oci    bool // OCI media types; else Docker's, as most of a real source has
	arch   string
	layers []layer
	config *artifactConfig // an artifact's, instead of an image's
	// annotations of the manifest.
	annotations map[string]string
}

// artifactConfig is a config that is no image config (S1.9).
type artifactConfig struct{ mediaType, body string }

// writer pushes images and keeps the books. After the first error it does
// nothing more; err holds it.
type writer struct {
	ctx    context.Context
	target registry.Target
	bare   oci.Repository
	opts   Options
	out    *Edition
	err    error
	pushed map[string]bool         // repository/digest of blobs that stand there
	layers map[string]measuredBlob // by description

	manifests map[oci.Digest]oci.Descriptor // all that were put
}

type measuredBlob struct {
	desc   oci.Descriptor
	diffID oci.Digest
}

// repository is where path, relative to the edition root, lies at the source:
// the installer and d8 with its plugins lie beside the editions (S1.2).
func (w *writer) repository(path string) oci.Repository {
	if path == "installer" || path == "deckhouse-cli" || strings.HasPrefix(path, "deckhouse-cli/") {
		return w.bare.Join(path)
	}
	return w.out.Root.Join(path)
}

// place puts an image at path, under tag or, without one, by digest only.
// wanted says that a default pull carries it, under its tag or its hex digits.
func (w *writer) place(path, tag string, im image, wanted bool) oci.Digest {
	mediaType, body := w.manifest(w.repository(path), im)
	return w.store(path, tag, mediaType, body, wanted)
}

// placeIndex puts a multi-platform image, by digest only.
func (w *writer) placeIndex(path string, children []image, wanted bool) oci.Digest {
	type platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	type child struct {
		oci.Descriptor
		Platform platform `json:"platform"`
	}
	var list []child
	repo := w.repository(path)
	for _, im := range children {
		mediaType, body := w.manifest(repo, im)
		desc := w.putManifest(repo, "", mediaType, body)
		list = append(list, child{desc, platform{im.arch, "linux"}})
	}
	body := encode(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeIndex, "manifests": list})
	return w.store(path, "", oci.MediaTypeIndex, body, wanted)
}

func (w *writer) store(path, tag, mediaType string, body []byte, wanted bool) oci.Digest {
	repo := w.repository(path)
	desc := w.putManifest(repo, tag, mediaType, body)
	w.out.Images = append(w.out.Images, Image{Repository: repo, Tag: tag, Digest: desc.Digest})
	if wanted {
		if tag == "" {
			tag = desc.Digest.Hex()
		}
		w.out.Expected[path+":"+tag] = desc.Digest
	}
	return desc.Digest
}

func (w *writer) putManifest(repo oci.Repository, tag, mediaType string, body []byte) oci.Descriptor {
	desc := oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(body), Size: int64(len(body))}
	w.manifests[desc.Digest] = desc
	ref := repo.WithTag(tag)
	if tag == "" {
		ref = repo.WithDigest(desc.Digest)
	}
	if w.err == nil {
		if err := w.target.PutManifest(w.ctx, ref, mediaType, body); err != nil {
			w.err = fmt.Errorf("put %s: %w", ref, err)
		}
	}
	return desc
}

// manifest pushes what an image consists of and returns its manifest.
func (w *writer) manifest(repo oci.Repository, im image) (mediaType string, body []byte) {
	mediaType, configType, layerType := oci.MediaTypeDockerManifest, dockerConfig, dockerLayer
	if im.oci {
		mediaType, configType, layerType = oci.MediaTypeManifest, ociConfig, ociLayer
	}
	var layers []oci.Descriptor
	var diffIDs []oci.Digest
	for _, l := range im.layers {
		if l.mediaType == "" {
			l.mediaType = layerType + layerSuffix(l.compression, im.oci)
		}
		m := w.putLayer(repo, l)
		layers = append(layers, m.desc)
		diffIDs = append(diffIDs, m.diffID)
	}
	config := encode(map[string]any{
		"architecture": im.arch, "os": "linux", "created": "2026-01-01T00:00:00Z",
		"config": map[string]any{"Labels": map[string]string{"edition.image": im.name}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if im.config != nil {
		configType, config = im.config.mediaType, []byte(im.config.body)
	}
	desc := oci.Descriptor{MediaType: configType, Digest: oci.DigestOf(config), Size: int64(len(config))}
	w.putBlob(repo, desc, bytes.NewReader(config))
	manifest := map[string]any{"schemaVersion": 2, "mediaType": mediaType, "config": desc, "layers": layers}
	if im.annotations != nil {
		manifest["annotations"] = im.annotations
	}
	if im.config != nil {
		manifest["annotations"] = map[string]string{"edition.image": im.name}
	}
	return mediaType, encode(manifest)
}

func layerSuffix(c compression, isOCI bool) string {
	switch {
	case c == plain:
		return ""
	case c == zstandard && isOCI:
		return "+zstd"
	case isOCI:
		return "+gzip"
	}
	return ".gzip" // Docker has no other word, whatever is inside
}

func (w *writer) putLayer(repo oci.Repository, l layer) measuredBlob {
	key := fmt.Sprintf("%+v", l)
	m, ok := w.layers[key]
	if !ok && w.err == nil {
		m.desc, m.diffID, w.err = l.measure(w.opts.Seed)
		m.desc.MediaType = l.mediaType
		w.layers[key] = m
	}
	w.putBlob(repo, m.desc, l.open(w.opts.Seed, m.desc.Size))
	return m
}

func (w *writer) putBlob(repo oci.Repository, desc oci.Descriptor, body io.ReadSeeker) {
	key := repo.String() + "@" + string(desc.Digest)
	if w.err != nil || w.pushed[key] {
		return
	}
	if err := w.target.PutBlob(w.ctx, repo, desc, body); err != nil {
		w.err = fmt.Errorf("put blob %s: %w", key, err)
		return
	}
	w.pushed[key] = true
}

// encode is JSON of values that cannot fail, map keys sorted.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a defect of this package
	}
	return text
}

// att is the tag of an attestation of the image that digest names (S1.7.1).
func att(d oci.Digest) string { return strings.Replace(string(d), ":", "-", 1) + ".att" }
