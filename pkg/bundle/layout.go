package bundle

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

const (
	// layoutText is what d8 writes into oci-layout, to the byte (S6.4.1).
	layoutText = "{\n    \"imageLayoutVersion\": \"1.0.0\"\n}"

	layoutFile = "oci-layout"
	indexFile  = "index.json"
	blobsDir   = "blobs/sha256/"

	// annotationTag is the tag at the target, annotationRef the reference
	// that the image was read from (S6.5.2).
	annotationTag = "io.deckhouse.image.short_tag"
	annotationRef = "org.opencontainers.image.ref.name"
	// annotationPath is the repository path at the target, where the layout is not
	// that of one repository alone.
	annotationPath = "ferry.image.path"

	// indexLimit bounds an index.json in bytes: 100,000 images are 50 MB.
	indexLimit = 128 << 20
)

// layoutIndex is the index.json of a layout. The order of the fields is d8's.
type layoutIndex struct {
	SchemaVersion int                `json:"schemaVersion"`
	MediaType     string             `json:"mediaType"`
	Manifests     []layoutDescriptor `json:"manifests"`
}

// layoutDescriptor is one tag of a layout (S6.5.1).
type layoutDescriptor struct {
	MediaType   string            `json:"mediaType"`
	Size        int64             `json:"size"`
	Digest      oci.Digest        `json:"digest"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *platform         `json:"platform,omitempty"`
}

// platform is empty on images and absent on indexes (S6.5.3).
type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// tag is the tag at the target. Other tools than d8 and ferry give it as the
// reference, where theirs is a whole one (S7.6.1).
func (d layoutDescriptor) tag() string {
	if tag := d.Annotations[annotationTag]; tag != "" {
		return tag
	}
	if ref := d.ref(); oci.ValidTag(ref) {
		return ref
	}
	return ""
}

func (d layoutDescriptor) ref() string { return d.Annotations[annotationRef] }

// path is the repository path at the target, "" where the layout's own path says it.
func (d layoutDescriptor) path() string { return d.Annotations[annotationPath] }

func (d layoutDescriptor) compare(other layoutDescriptor) int {
	return cmp.Or(cmp.Compare(d.path(), other.path()), cmp.Compare(d.tag(), other.tag()))
}

// encodeIndex returns the index.json of a layout. Images that land elsewhere than at
// the layout's own path say where.
func encodeIndex(layout contract.Layout, graph contract.Graph) ([]byte, error) {
	index := layoutIndex{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []layoutDescriptor{}}
	for _, im := range layout.Images {
		m := graph[im.Digest]
		d := layoutDescriptor{
			MediaType:   m.MediaType,
			Size:        m.Size,
			Digest:      m.Digest,
			Annotations: map[string]string{annotationTag: im.Tag, annotationRef: im.Source},
		}
		if im.Path != layout.Path {
			d.Annotations[annotationPath] = im.Path
		}
		if !oci.IsIndex(m.MediaType) {
			d.Platform = &platform{}
		}
		index.Manifests = append(index.Manifests, d)
	}
	slices.SortFunc(index.Manifests, func(a, b layoutDescriptor) int {
		return cmp.Or(cmp.Compare(a.ref(), b.ref()), a.compare(b))
	})
	return json.MarshalIndent(index, "", "  ")
}

// parseIndex reads an index.json and returns one descriptor per path and tag, sorted
// by these. Descriptors without a tag are nobody's (S7.6.1); of several with one tag
// the last counts (S6.5.6). The document's own media type is not looked at:
// d8 writes a wrong one (S6.4.2).
func parseIndex(data []byte) ([]layoutDescriptor, error) {
	var index struct {
		SchemaVersion int `json:"schemaVersion"`
		// Manifests is null in an empty layout of d8 (S6.4.2), but there.
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("not an index: %w", err)
	}
	if index.SchemaVersion != 2 || index.Manifests == nil {
		return nil, fmt.Errorf("not an index: schema version %d, %d bytes of manifests", index.SchemaVersion, len(index.Manifests))
	}
	var manifests []layoutDescriptor
	if err := json.Unmarshal(index.Manifests, &manifests); err != nil {
		return nil, fmt.Errorf("not an index: %w", err)
	}
	type target struct{ path, tag string }
	byTarget := map[target]layoutDescriptor{}
	for _, d := range manifests {
		tag := d.tag()
		switch {
		case tag == "":
			continue
		case !oci.ValidTag(tag):
			return nil, fmt.Errorf("%q is not a tag", tag)
		case d.path() != "" && !oci.ValidPath(d.path()):
			return nil, fmt.Errorf("tag %s is for %q, which is no repository path", tag, d.path())
		case !d.Digest.Valid() || d.Size < 0:
			return nil, fmt.Errorf("tag %s has digest %q and size %d", tag, d.Digest, d.Size)
		}
		byTarget[target{d.path(), tag}] = d
	}
	return slices.SortedFunc(maps.Values(byTarget), layoutDescriptor.compare), nil
}

// blobName splits the name of a blob's entry into layout path and digest. Names
// such as HEX followed by digits, which crashed runs of d8 leave, are no blobs
// (S6.4.4).
func blobName(name string) (layout string, d oci.Digest, ok bool) {
	i := len(name) - len(blobsDir) - 64
	if i < 0 || name[i:i+len(blobsDir)] != blobsDir || i > 0 && name[i-1] != '/' {
		return "", "", false
	}
	d, err := oci.ParseDigest("sha256:" + name[i+len(blobsDir):])
	return strings.TrimSuffix(name[:i], "/"), d, err == nil
}

// indexName returns the layout path of an index.json's entry.
func indexName(name string) (layout string, ok bool) {
	dir, file := path.Split(name)
	return strings.TrimSuffix(dir, "/"), file == indexFile
}
