package oci

import (
	"cmp"
	"encoding/json"
	"fmt"
	"mime"
)

// Media types of manifests that ferry carries. Schema 1 is refused: its digest
// does not name its bytes.
const (
	MediaTypeIndex          = "application/vnd.oci.image.index.v1+json"
	MediaTypeManifest       = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// ManifestLimit is the largest manifest that is read, in bytes. Registries
// accept 4 MiB; twice that leaves room for indexes of odd sources while an
// endless body cannot fill the memory.
const ManifestLimit = 8 << 20

// IsIndex reports whether mediaType names a list of manifests.
func IsIndex(mediaType string) bool {
	return mediaType == MediaTypeIndex || mediaType == MediaTypeDockerList
}

// IsManifest reports whether mediaType names an image manifest or an index.
func IsManifest(mediaType string) bool {
	return IsIndex(mediaType) || mediaType == MediaTypeManifest || mediaType == MediaTypeDockerManifest
}

// Manifest is what ferry needs to know of a manifest. The bytes themselves are
// kept and sent as they came.
type Manifest struct {
	MediaType string
	Manifests []Descriptor // children of an index that are manifests, in order
	Blobs     []Descriptor // config first, then layers in order, bottom layer first
	Layers    []Descriptor // the layers alone
	// Subject is the manifest that this one is attached to. It is not checked:
	// its digest may be of a kind that ferry does not know.
	Subject *Descriptor
	// ArtifactType says what an artifact is; where its author left it out, an
	// image manifest's config type does, as the distribution-spec wants it in
	// lists of referrers.
	ArtifactType string
	Annotations  map[string]string
}

// References lists everything that must stand at a target before this manifest:
// child manifests, then blobs, each digest once.
func (m *Manifest) References() []Descriptor {
	seen := map[Digest]bool{}
	var out []Descriptor
	for _, list := range [][]Descriptor{m.Manifests, m.Blobs} {
		for _, d := range list {
			if !seen[d.Digest] {
				seen[d.Digest] = true
				out = append(out, d)
			}
		}
	}
	return out
}

type manifestJSON struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *Descriptor       `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Manifests     []Descriptor      `json:"manifests"`
	FSLayers      json.RawMessage   `json:"fsLayers"`
	Subject       *Descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// ParseManifest reads body as what contentType says it is; contentType may be
// "" or generic, then the body's own mediaType, or its shape, decides. The
// header, the body and the shape must not contradict each other: a body with
// both layers and manifests means different things to different readers
// (CVE-2021-41190).
func ParseManifest(contentType string, body []byte) (*Manifest, error) {
	var raw manifestJSON
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, fmt.Errorf("manifest is not JSON: %w", err)
	}
	if raw.SchemaVersion == 1 || raw.FSLayers != nil {
		return nil, fmt.Errorf("manifest has schema version 1, which cannot be carried unchanged; ask the publisher for a schema 2 or OCI image")
	}
	if raw.SchemaVersion != 2 {
		return nil, fmt.Errorf("manifest has schema version %d, want 2", raw.SchemaVersion)
	}
	mediaType, err := manifestMediaType(contentType, &raw)
	if err != nil {
		return nil, err
	}
	m := &Manifest{MediaType: mediaType, Subject: raw.Subject, ArtifactType: raw.ArtifactType, Annotations: raw.Annotations}
	if IsIndex(mediaType) {
		for _, d := range raw.Manifests {
			if err := d.validate(); err != nil {
				return nil, fmt.Errorf("index: %w", err)
			}
			// An index may list plain blobs (build caches do).
			if d.MediaType == "" || IsManifest(d.MediaType) {
				m.Manifests = append(m.Manifests, d)
			} else {
				m.Blobs = append(m.Blobs, d)
			}
		}
		return m, nil
	}
	if raw.Config == nil {
		return nil, fmt.Errorf("image manifest has no config")
	}
	m.Blobs = append([]Descriptor{*raw.Config}, raw.Layers...)
	m.Layers = raw.Layers
	m.ArtifactType = cmp.Or(raw.ArtifactType, raw.Config.MediaType)
	for _, d := range m.Blobs {
		if err := d.validate(); err != nil {
			return nil, fmt.Errorf("image manifest: %w", err)
		}
	}
	return m, nil
}

// manifestMediaType decides between header, body and shape.
func manifestMediaType(contentType string, raw *manifestJSON) (string, error) {
	if raw.Manifests != nil && (raw.Layers != nil || raw.Config != nil) {
		return "", fmt.Errorf("manifest has both manifests and layers")
	}
	header, _, err := mime.ParseMediaType(contentType)
	if err != nil || !IsManifest(header) {
		header = ""
	}
	if header != "" && raw.MediaType != "" && header != raw.MediaType {
		return "", fmt.Errorf("manifest says it is %s, its carrier says %s", raw.MediaType, header)
	}
	mediaType := raw.MediaType
	if mediaType == "" {
		mediaType = header
	}
	if mediaType == "" {
		mediaType = MediaTypeManifest
		if raw.Manifests != nil {
			mediaType = MediaTypeIndex
		}
	}
	if !IsManifest(mediaType) {
		return "", fmt.Errorf("%q is not a manifest type that ferry can carry", mediaType)
	}
	if IsIndex(mediaType) && (raw.Layers != nil || raw.Config != nil) {
		return "", fmt.Errorf("manifest says it is %s, but has layers", mediaType)
	}
	if !IsIndex(mediaType) && raw.Manifests != nil {
		return "", fmt.Errorf("manifest says it is %s, but has manifests", mediaType)
	}
	return mediaType, nil
}

func (d Descriptor) validate() error {
	if !d.Digest.Valid() {
		_, err := ParseDigest(string(d.Digest))
		return err
	}
	if d.Size < 0 {
		return fmt.Errorf("%s has size %d", d.Digest, d.Size)
	}
	return nil
}
