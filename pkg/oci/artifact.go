package oci

import (
	"slices"
	"strings"
)

// PartTypes are the media types of an image manifest's config, "" for an index,
// and of its layers, each once, in order.
func (m *Manifest) PartTypes() (config string, layers []string) {
	if IsIndex(m.MediaType) || len(m.Blobs) == 0 {
		return "", nil
	}
	for _, l := range m.Layers {
		if !slices.Contains(layers, l.MediaType) {
			layers = append(layers, l.MediaType)
		}
	}
	return m.Blobs[0].MediaType, layers
}

// IsArtifact reports whether the manifest has parts that are none of an image's:
// registries that take only images refuse it (S1.9.1).
func (m *Manifest) IsArtifact() bool {
	config, layers := m.PartTypes()
	return config != "" && (!IsImageConfig(config) || slices.ContainsFunc(layers, func(t string) bool { return !isImageLayer(t) }))
}

// ArtifactTypes lists the types that a registry has to take for the manifest, as
// an entry of Quay's ALLOWED_OCI_ARTIFACT_TYPES (Q19): the config's, then the
// layers'.
func (m *Manifest) ArtifactTypes() string {
	config, layers := m.PartTypes()
	return config + ": [" + strings.Join(layers, ", ") + "]"
}

// IsImageConfig reports whether mediaType is that of an image's config.
func IsImageConfig(mediaType string) bool {
	return mediaType == "application/vnd.oci.image.config.v1+json" || mediaType == "application/vnd.docker.container.image.v1+json"
}

func isImageLayer(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.") || strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.")
}
