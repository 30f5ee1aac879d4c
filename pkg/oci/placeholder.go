package oci

import "encoding/json"

// Placeholder is the image behind discovery tags, whose name is their whole
// meaning (S7.7). It is one constant image, so publishing it again changes
// nothing; d8 pushes a random one each time (S9 row 92). It has the Docker
// types that d8's has, which every registry of the field accepts.
type Placeholder struct {
	Descriptor Descriptor
	Manifest   []byte
	Blobs      []PlaceholderBlob
}

// PlaceholderBlob is the config or the layer.
type PlaceholderBlob struct {
	Descriptor Descriptor
	Content    []byte
}

// emptyLayer is the gzip of an empty tar archive, as bytes: compressing it here
// could give other bytes with another release of the compressor.
const emptyLayer = "\x1f\x8b\x08\x00\x00\x09\x6e\x88\x00\xff\x62\x18\x05\xa3\x60\x14\x8c\x58\x00\x08\x00\x00\xff\xff\x2e\xaf\xb5\xef\x00\x04\x00\x00"

const placeholderConfig = `{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{"author":"ferry","created":"0001-01-01T00:00:00Z"}],"os":"","rootfs":{"type":"layers","diff_ids":["sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"]},"config":{}}`

// NewPlaceholder returns the placeholder image; it is the same on every call.
func NewPlaceholder() Placeholder {
	blob := func(mediaType, content string) PlaceholderBlob {
		return PlaceholderBlob{
			Descriptor: Descriptor{MediaType: mediaType, Digest: DigestOf([]byte(content)), Size: int64(len(content))},
			Content:    []byte(content),
		}
	}
	config := blob("application/vnd.docker.container.image.v1+json", placeholderConfig)
	layer := blob("application/vnd.docker.image.rootfs.diff.tar.gzip", emptyLayer)
	manifest, err := json.Marshal(struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        Descriptor   `json:"config"`
		Layers        []Descriptor `json:"layers"`
	}{2, MediaTypeDockerManifest, config.Descriptor, []Descriptor{layer.Descriptor}})
	if err != nil {
		panic(err) // a constant cannot fail to encode
	}
	return Placeholder{
		Descriptor: Descriptor{MediaType: MediaTypeDockerManifest, Digest: DigestOf(manifest), Size: int64(len(manifest))},
		Manifest:   manifest,
		Blobs:      []PlaceholderBlob{config, layer},
	}
}
