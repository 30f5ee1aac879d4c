package wire

import (
	"slices"
	"strings"

	"ferry/pkg/oci"
)

// isArtifact reports whether the manifest being sent has parts that are none of
// an image's: registries that take only images refuse it (S1.9.1).
func (op *operation) isArtifact() bool {
	config, layers := op.partTypes()
	return config != "" && (!isImageConfig(config) || slices.ContainsFunc(layers, func(t string) bool { return !isImageLayer(t) }))
}

// artifactTypes lists the types that the registry would have to take, as an
// entry of Quay's ALLOWED_OCI_ARTIFACT_TYPES: the config's, then the layers'.
func (op *operation) artifactTypes() string {
	config, layers := op.partTypes()
	return printable(config + ": [" + strings.Join(layers, ", ") + "]")
}

// partTypes are the media types of the config, "" where there is none, and of
// the layers, each once.
func (op *operation) partTypes() (config string, layers []string) {
	m, err := oci.ParseManifest(op.mediaType, op.body)
	if err != nil || oci.IsIndex(m.MediaType) {
		return "", nil
	}
	for _, l := range m.Layers {
		if !slices.Contains(layers, l.MediaType) {
			layers = append(layers, l.MediaType)
		}
	}
	return m.Blobs[0].MediaType, layers
}

func isImageConfig(mediaType string) bool {
	return mediaType == "application/vnd.oci.image.config.v1+json" || mediaType == "application/vnd.docker.container.image.v1+json"
}

func isImageLayer(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.") || strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.")
}
