package transfer

import (
	"bytes"
	"io"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/store"
)

// counted tells progress of the bytes read, those of a repeated upload once.
type counted struct {
	body     io.ReadSeeker
	mark     progress.Mark
	position int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.position += int64(n)
	c.mark.At(c.position)
	return n, err
}

func (c *counted) Seek(offset int64, whence int) (int64, error) {
	position, err := c.body.Seek(offset, whence)
	c.position = position
	return position, err
}

// placeholderContent is content with the placeholder image added.
type placeholderContent struct {
	store.Reader
	image oci.Placeholder
}

// graphOf is the graph of contents with the placeholder image added.
func graphOf(c *contract.Contents, image oci.Placeholder) contract.Graph {
	m := &contract.Manifest{Digest: image.Descriptor.Digest, MediaType: image.Descriptor.MediaType, Size: image.Descriptor.Size}
	for _, b := range image.Blobs {
		m.References = append(m.References, b.Descriptor.Digest)
	}
	graph := c.Graph()
	graph[m.Digest] = m
	return graph
}

func (c placeholderContent) find(d oci.Digest) ([]byte, bool) {
	if d == c.image.Descriptor.Digest {
		return c.image.Manifest, true
	}
	for _, b := range c.image.Blobs {
		if d == b.Descriptor.Digest {
			return b.Content, true
		}
	}
	return nil, false
}

func (c placeholderContent) Stat(d oci.Digest) (int64, error) {
	if b, ok := c.find(d); ok {
		return int64(len(b)), nil
	}
	return c.Reader.Stat(d)
}

func (c placeholderContent) Open(d oci.Digest) (store.Blob, error) {
	if b, ok := c.find(d); ok {
		return memoryBlob{bytes.NewReader(b)}, nil
	}
	return c.Reader.Open(d)
}

type memoryBlob struct{ *bytes.Reader }

func (memoryBlob) Close() error  { return nil }
func (b memoryBlob) Size() int64 { return b.Reader.Size() }
