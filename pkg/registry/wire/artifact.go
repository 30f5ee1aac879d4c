package wire

import "ferry/pkg/oci"

// isArtifact reports whether the manifest being sent has parts that are none of
// an image's.
func (op *operation) isArtifact() bool {
	m, err := oci.ParseManifest(op.mediaType, op.body)
	return err == nil && m.IsArtifact()
}

// artifactTypes are the types that the registry would have to take.
func (op *operation) artifactTypes() string {
	m, err := oci.ParseManifest(op.mediaType, op.body)
	if err != nil {
		return ""
	}
	return printable(m.ArtifactTypes())
}
