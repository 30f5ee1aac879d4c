package bundle

import (
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

// manifestCheck compares manifests with what the document says of them. It is safe
// for concurrent use.
type manifestCheck struct {
	graph contract.Graph
	blobs map[oci.Digest]int64 // sizes

	mu   sync.Mutex
	seen map[oci.Digest]bool
}

func newManifestCheck(contents *contract.Contents) *manifestCheck {
	return &manifestCheck{graph: contents.Graph(), blobs: blobSizes(contents), seen: map[oci.Digest]bool{}}
}

// unseen returns the manifest that d names, and only once: it may lie in many
// layouts. It is nil for a blob.
func (c *manifestCheck) unseen(d oci.Digest) *contract.Manifest {
	m := c.graph[d]
	if m == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[d] {
		return nil
	}
	c.seen[d] = true
	return m
}

// agrees tells whether the document says of m what body says, which has the right
// digest. It is stricter than need be with odd ones, such as a child of two
// indexes that give it different media types.
func (c *manifestCheck) agrees(m *contract.Manifest, body []byte) bool {
	parsed, err := oci.ParseManifest(m.MediaType, body)
	if err != nil {
		return false
	}
	got := contract.DescribeManifest(oci.Descriptor{Digest: m.Digest, Size: int64(len(body))}, parsed)
	if !sameManifest(got, *m) {
		return false
	}
	for _, child := range parsed.Manifests {
		known := c.graph[child.Digest]
		if known == nil || known.Size != child.Size || oci.IsManifest(child.MediaType) && known.MediaType != child.MediaType {
			return false
		}
	}
	for _, b := range parsed.Blobs {
		if size, ok := c.blobs[b.Digest]; !ok || size != b.Size {
			return false
		}
	}
	return true
}
