package bundle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// inspected is what an archive holds, proven by reading all of it.
type inspected struct {
	layouts map[string]*layout // by path
	names   []string           // of all entries
}

// layout is an image layout of an archive.
type layout struct {
	tags  []layoutDescriptor // sorted by tag
	graph contract.Graph
	blobs map[oci.Digest]int64 // sizes of what the manifests need
}

// inspect reads an archive once. The files are returned also with an error of
// the archive, so that the caller can tell which file is to blame; they are
// complete unless the error is fault.Local or fault.Cancelled.
func inspect(ctx context.Context, name string, p *parts, progress Progress) (*inspected, contract.ArchiveFiles, error) {
	stream := readAhead(ctx, name, p, progress)
	defer stream.Close()
	c := &collector{parts: p, blobs: map[string]map[oci.Digest]location{}, indexes: map[string][]byte{}, buf: make([]byte, 64<<10)}
	scanErr := scan(stream, c.visit)
	scanErr = damagedAt(p, max(stream.Pos()-1, 0), scanErr)
	files, err := stream.Finish()
	if err != nil {
		return nil, files, err
	}
	if scanErr != nil {
		return nil, files, scanErr
	}
	found, err := c.layouts()
	return found, files, err
}

// collector keeps what a scan meets.
type collector struct {
	parts   *parts
	names   []string
	blobs   map[string]map[oci.Digest]location // by path of the layout
	indexes map[string][]byte                  // index.json by path of the layout
	buf     []byte
}

func (c *collector) visit(e entry, content io.Reader) error {
	c.names = append(c.names, e.name)
	if path, d, ok := blobName(e.name); ok {
		if c.blobs[path] == nil {
			c.blobs[path] = map[oci.Digest]location{}
		}
		c.blobs[path][d] = location{parts: c.parts, offset: e.offset, size: e.size}
		return c.checkBlob(e, d, content)
	}
	if path, ok := indexName(e.name); ok {
		if e.size > indexLimit {
			return fmt.Errorf("%s has %d bytes, more than any index", e.name, e.size)
		}
		data, err := io.ReadAll(content)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		c.indexes[path] = data
	}
	return nil
}

func (c *collector) checkBlob(e entry, d oci.Digest, content io.Reader) error {
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, onlyReader{content}, c.buf); err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	if got := oci.DigestFromSum(sum.Sum(nil)); got != d {
		return damagedAt(c.parts, e.offset, fmt.Errorf("%s: the content is %s", e.name, got))
	}
	return nil
}

// layouts follows every index.json through its manifests.
func (c *collector) layouts() (*inspected, error) {
	found := &inspected{names: c.names, layouts: map[string]*layout{}}
	last := c.parts.files[len(c.parts.files)-1].name
	for _, path := range slices.Sorted(maps.Keys(c.indexes)) {
		l, err := c.layout(path)
		if err != nil {
			return nil, damagedLayout(last, path, err)
		}
		found.layouts[path] = l
	}
	if len(found.layouts) == 0 {
		return nil, damagedLayout(last, "", errors.New("the archive holds no image layout"))
	}
	for path := range c.blobs {
		if found.layouts[path] == nil {
			return nil, damagedLayout(last, path, errors.New("there are blobs, but no index.json"))
		}
	}
	return found, nil
}

func damagedLayout(file, layout string, err error) error {
	if fault.KindOf(err) != nil {
		return err
	}
	return fault.Newf(fault.Damaged, file, "layout %q: %w", layout, err).Hint("make the bundle again; the archive was incomplete when it was written")
}

func (c *collector) layout(path string) (*layout, error) {
	tags, err := parseIndex(c.indexes[path])
	if err != nil {
		return nil, err
	}
	l := &layout{tags: tags, graph: contract.Graph{}, blobs: map[oci.Digest]int64{}}
	for _, t := range tags {
		d := oci.Descriptor{MediaType: t.MediaType, Digest: t.Digest, Size: t.Size}
		if err := c.walk(path, l, d); err != nil {
			return nil, fmt.Errorf("tag %s: %w", t.tag(), err)
		}
	}
	return l, nil
}

// walk adds the manifest d and everything it needs, all from the same layout.
func (c *collector) walk(path string, l *layout, d oci.Descriptor) error {
	if known, ok := l.graph[d.Digest]; ok {
		if known.Size != d.Size {
			return fmt.Errorf("%s has %d bytes, but is said to have %d", d.Digest, known.Size, d.Size)
		}
		return nil
	}
	body, err := c.manifest(path, d)
	if err != nil {
		return err
	}
	m, err := oci.ParseManifest(d.MediaType, body)
	if err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	described := contract.DescribeManifest(d, m)
	l.graph[d.Digest] = &described
	for _, child := range m.Manifests {
		if err := c.walk(path, l, child); err != nil {
			return err
		}
	}
	for _, b := range m.Blobs {
		if _, err := c.locate(path, b); err != nil {
			return fmt.Errorf("%s: %w", d.Digest, err)
		}
		l.blobs[b.Digest] = b.Size
	}
	return nil
}

func (c *collector) locate(path string, d oci.Descriptor) (location, error) {
	l, ok := c.blobs[path][d.Digest]
	if !ok {
		return l, fmt.Errorf("%s is missing", d.Digest)
	}
	if l.size != d.Size {
		return l, fmt.Errorf("%s has %d bytes, but is said to have %d", d.Digest, l.size, d.Size)
	}
	return l, nil
}

// manifest reads the bytes of a manifest, which the scan has hashed already.
func (c *collector) manifest(path string, d oci.Descriptor) ([]byte, error) {
	l, err := c.locate(path, d)
	if err != nil {
		return nil, err
	}
	if l.size > oci.ManifestLimit {
		return nil, fmt.Errorf("%s has %d bytes, more than any manifest", d.Digest, l.size)
	}
	body := make([]byte, l.size)
	if _, err := l.parts.ReadAt(body, l.offset); err != nil {
		return nil, err
	}
	if got := oci.DigestOf(body); got != d.Digest {
		return nil, fmt.Errorf("%s changed while it was read", d.Digest)
	}
	return body, nil
}
