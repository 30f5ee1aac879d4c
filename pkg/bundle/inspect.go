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
	layouts map[string]*layout // by repository path
	shared  bool               // they lie in one
	names   []string           // of all entries
}

// inspect reads an archive once. The files are returned also with an error of
// the archive, so that the caller can tell which file is to blame; they are
// complete unless the error is fault.Local or fault.Cancelled.
func inspect(ctx context.Context, name string, p *parts, gost bool, progress Progress) (*inspected, contract.ArchiveFiles, error) {
	stream := readAhead(ctx, name, p, gost, progress)
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

// layouts follows every index.json through its manifests. Each repository has a
// layout of its own then, whether the archive's are shared or not.
func (c *collector) layouts() (*inspected, error) {
	found := &inspected{names: c.names, layouts: map[string]*layout{}}
	last := c.parts.files[len(c.parts.files)-1].name
	for _, path := range slices.Sorted(maps.Keys(c.indexes)) {
		l, err := describe(c, path, c.indexes[path])
		if err != nil {
			return nil, damagedLayout(last, path, err)
		}
		found.shared = len(c.indexes) == 1 && l.shared()
		for at, part := range l.apart(path) {
			if found.layouts[at] != nil {
				return nil, damagedLayout(last, at, errors.New("it stands twice in the archive"))
			}
			found.layouts[at] = part
		}
	}
	if len(found.layouts) == 0 {
		return nil, damagedLayout(last, "", errors.New("the archive holds no image layout"))
	}
	for path := range c.blobs {
		if c.indexes[path] == nil {
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

// find implements blobFinder.
func (c *collector) find(path string, d oci.Digest) (int64, bool) {
	l, ok := c.blobs[path][d]
	return l.size, ok
}

// read implements blobFinder.
func (c *collector) read(path string, d oci.Digest) ([]byte, error) {
	l := c.blobs[path][d]
	body := make([]byte, l.size)
	_, err := l.parts.ReadAt(body, l.offset)
	return body, err
}
