package bundle

import (
	"cmp"
	"fmt"
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

// layout is an image layout of an archive or a directory.
type layout struct {
	tags  []layoutDescriptor // sorted by path and tag
	graph contract.Graph
	blobs map[oci.Digest]int64 // sizes of what the manifests need
}

// shared reports whether tags say that they are for other repositories than the one
// at the layout's path.
func (l *layout) shared() bool {
	return slices.ContainsFunc(l.tags, func(d layoutDescriptor) bool { return d.path() != "" })
}

// apart takes the layout at path apart: each repository that its tags are for has
// what it would have in a layout of its own.
func (l *layout) apart(path string) map[string]*layout {
	if !l.shared() {
		return map[string]*layout{path: l}
	}
	parts := map[string]*layout{}
	for _, d := range l.tags {
		at := cmp.Or(d.path(), path)
		if parts[at] == nil {
			parts[at] = &layout{graph: contract.Graph{}, blobs: map[oci.Digest]int64{}}
		}
		parts[at].tags = append(parts[at].tags, d)
	}
	for _, part := range parts {
		part.take(l)
	}
	return parts
}

// take takes what the tags need of the layout that they come from.
func (l *layout) take(from *layout) {
	roots := make([]oci.Digest, len(l.tags))
	for i, d := range l.tags {
		roots[i] = d.Digest
	}
	manifests, blobs := from.graph.Closure(roots...)
	for _, m := range manifests {
		l.graph[m.Digest] = m
	}
	for _, d := range blobs {
		l.blobs[d] = from.blobs[d]
	}
}

// blobFinder answers what a layout holds. What it reads is proven here.
type blobFinder interface {
	// find returns the size of a blob of the layout at path.
	find(path string, d oci.Digest) (size int64, ok bool)
	// read returns a blob that find found.
	read(path string, d oci.Digest) ([]byte, error)
}

// describe follows the index.json of the layout at path through its manifests.
// Everything that a tag needs must be in the same layout.
func describe(from blobFinder, path string, index []byte) (*layout, error) {
	tags, err := parseIndex(index)
	if err != nil {
		return nil, err
	}
	d := describer{from, path, &layout{tags: tags, graph: contract.Graph{}, blobs: map[oci.Digest]int64{}}}
	for _, t := range tags {
		if err := d.walk(oci.Descriptor{MediaType: t.MediaType, Digest: t.Digest, Size: t.Size}); err != nil {
			return nil, fmt.Errorf("tag %s: %w", t.tag(), err)
		}
	}
	return d.layout, nil
}

type describer struct {
	from   blobFinder
	path   string
	layout *layout
}

// walk adds the manifest desc and everything it needs.
func (d describer) walk(desc oci.Descriptor) error {
	if known, ok := d.layout.graph[desc.Digest]; ok {
		if known.Size != desc.Size {
			return wrongBlobSize(desc, known.Size)
		}
		return nil
	}
	body, err := d.manifest(desc)
	if err != nil {
		return err
	}
	m, err := oci.ParseManifest(desc.MediaType, body)
	if err != nil {
		return fmt.Errorf("%s: %w", desc.Digest, err)
	}
	described := contract.DescribeManifest(desc, m)
	d.layout.graph[desc.Digest] = &described
	for _, child := range m.Manifests {
		if err := d.walk(child); err != nil {
			return err
		}
	}
	for _, b := range m.Blobs {
		if err := d.there(b); err != nil {
			return fmt.Errorf("%s: %w", desc.Digest, err)
		}
		d.layout.blobs[b.Digest] = b.Size
	}
	return nil
}

func (d describer) there(desc oci.Descriptor) error {
	size, ok := d.from.find(d.path, desc.Digest)
	if !ok {
		return fmt.Errorf("%s is missing", desc.Digest)
	}
	if size != desc.Size {
		return wrongBlobSize(desc, size)
	}
	return nil
}

func wrongBlobSize(desc oci.Descriptor, got int64) error {
	return fmt.Errorf("%s has %d bytes, but is said to have %d", desc.Digest, got, desc.Size)
}

// manifest reads the bytes of a manifest.
func (d describer) manifest(desc oci.Descriptor) ([]byte, error) {
	if err := d.there(desc); err != nil {
		return nil, err
	}
	if desc.Size > oci.ManifestLimit {
		return nil, fmt.Errorf("%s has %d bytes, more than any manifest", desc.Digest, desc.Size)
	}
	body, err := d.from.read(d.path, desc.Digest)
	if err != nil {
		return nil, err
	}
	if got := oci.DigestOf(body); got != desc.Digest {
		return nil, fmt.Errorf("%s: the content is %s", desc.Digest, got)
	}
	return body, nil
}
