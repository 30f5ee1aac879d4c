package probe

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

// Media types of what is written to try.
const (
	typeOCIConfig    = "application/vnd.oci.image.config.v1+json"
	typeOCILayer     = "application/vnd.oci.image.layer.v1.tar+gzip"
	typeDockerConfig = "application/vnd.docker.container.image.v1+json"
	typeDockerLayer  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	typeProbeConfig  = "application/vnd.ferry.probe.config.v1+json"
	typeProbeLayer   = "application/vnd.ferry.probe.layer.v1"
)

// samples are the blobs that are written to try. Nobody else's image has them: a
// registry that keeps a blob once for all its repositories may delete it for all,
// too, and must not delete what others need.
type samples struct {
	bare   []byte // a config that says nothing of layers
	config []byte
	layer  []byte
}

func newSamples() samples {
	files, diffID := layer()
	return samples{
		bare:   []byte(`{"ferry-probe":0}`),
		config: fmt.Appendf(nil, `{"architecture":"amd64","author":"ferry-probe","config":{},"history":[{"created_by":"ferry-probe"}],"os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, diffID),
		layer:  files,
	}
}

// layer is a gzipped tar of one empty file, and the digest of the tar.
func layer() (compressed []byte, diffID oci.Digest) {
	var files, zipped bytes.Buffer
	to := tar.NewWriter(&files)
	must(to.WriteHeader(&tar.Header{Name: "ferry-probe", Mode: 0o444, Format: tar.FormatUSTAR}))
	must(to.Close())
	zip := gzip.NewWriter(&zipped)
	_, err := zip.Write(files.Bytes())
	must(err)
	must(zip.Close())
	return zipped.Bytes(), oci.DigestOf(files.Bytes())
}

// must is for writers into memory, which cannot fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (s samples) blobs() [][]byte { return [][]byte{s.bare, s.config, s.layer} }

// manifest is one that is tried.
type manifest struct {
	feature   contract.Feature
	mediaType string
	body      []byte
	needs     []contract.Feature // manifests that must have been accepted before
}

func (m manifest) descriptor() oci.Descriptor { return describe(m.mediaType, m.body) }

func describe(mediaType string, content []byte) oci.Descriptor {
	return oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(content), Size: int64(len(content))}
}

// manifests are those that are tried, in the order in which they can be written.
func (s samples) manifests() []manifest {
	image := func(feature contract.Feature, mediaType string, config, layer, subject *oci.Descriptor, needs ...contract.Feature) manifest {
		return manifest{feature, mediaType, imageBody(mediaType, config, layer, subject), needs}
	}
	index := func(feature contract.Feature, mediaType string, children []oci.Descriptor, needs ...contract.Feature) manifest {
		return manifest{feature, mediaType, indexBody(mediaType, children), needs}
	}
	of := func(mediaType string, blob []byte) *oci.Descriptor {
		desc := describe(mediaType, blob)
		return &desc
	}
	ownConfig, ownLayer, layer := of(typeProbeConfig, s.bare), of(typeProbeLayer, s.bare), of(typeOCILayer, s.layer)
	docker := image(contract.FeatureDockerImage, oci.MediaTypeDockerManifest, of(typeDockerConfig, s.config), of(typeDockerLayer, s.layer), nil)
	plain := image(contract.FeatureOCIImage, oci.MediaTypeManifest, of(typeOCIConfig, s.config), layer, nil)
	dockerDesc, plainDesc := docker.descriptor(), plain.descriptor()
	absent := describe(oci.MediaTypeManifest, []byte("a manifest that nobody has"))
	return []manifest{
		docker,
		plain,
		image(contract.FeatureBareConfig, oci.MediaTypeManifest, of(typeOCIConfig, s.bare), layer, nil),
		image(contract.FeatureArtifact, oci.MediaTypeManifest, ownConfig, ownLayer, nil),
		index(contract.FeatureOCIIndex, oci.MediaTypeIndex, []oci.Descriptor{plainDesc}, contract.FeatureOCIImage),
		index(contract.FeatureDockerIndex, oci.MediaTypeDockerList, []oci.Descriptor{dockerDesc}, contract.FeatureDockerImage),
		index(contract.FeatureSparseIndex, oci.MediaTypeIndex, []oci.Descriptor{plainDesc, absent}, contract.FeatureOCIIndex),
		image(contract.FeatureSubject, oci.MediaTypeManifest, ownConfig, ownLayer, &plainDesc, contract.FeatureOCIImage, contract.FeatureArtifact),
		image(contract.FeatureDockerSubject, oci.MediaTypeManifest, ownConfig, ownLayer, &dockerDesc, contract.FeatureDockerImage, contract.FeatureArtifact),
	}
}

func imageBody(mediaType string, config, layer, subject *oci.Descriptor) []byte {
	return encode(struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Config        *oci.Descriptor   `json:"config"`
		Layers        []*oci.Descriptor `json:"layers"`
		Subject       *oci.Descriptor   `json:"subject,omitempty"`
	}{2, mediaType, config, []*oci.Descriptor{layer}, subject})
}

// child has a platform, which Docker's lists must have.
type child struct {
	MediaType string     `json:"mediaType"`
	Digest    oci.Digest `json:"digest"`
	Size      int64      `json:"size"`
	Platform  platform   `json:"platform"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

func indexBody(mediaType string, children []oci.Descriptor) []byte {
	list := make([]child, len(children))
	for i, c := range children {
		list[i] = child{c.MediaType, c.Digest, c.Size, platform{[]string{"amd64", "arm64"}[i], "linux"}}
	}
	return encode(struct {
		SchemaVersion int     `json:"schemaVersion"`
		MediaType     string  `json:"mediaType"`
		Manifests     []child `json:"manifests"`
	}{2, mediaType, list})
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	must(err)
	return text
}
