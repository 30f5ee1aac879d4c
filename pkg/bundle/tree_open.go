package bundle

import (
	"os"
	"path/filepath"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// Layouts is the content of a directory of layouts, read where it lies. It is a
// store.Reader.
type Layouts struct {
	root  *os.Root
	blobs map[oci.Digest]layoutBlob
}

type layoutBlob struct {
	name string
	size int64
}

var _ store.Reader = (*Layouts)(nil)

// OpenLayouts finds everything that the contents list in the directory of
// layouts dir, in each layout that needs it. It checks sizes, not digests: see
// [VerifyLayouts]. The caller calls Close. Kinds: fault.Damaged, fault.Local.
func OpenLayouts(dir string, contents *contract.Contents) (*Layouts, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.New(fault.Damaged, dir, durable.Fault(dir, err)).Hint("run unpack again on the directory")
	}
	l := &Layouts{root: root, blobs: map[oci.Digest]layoutBlob{}}
	sizes := blobSizes(contents)
	for _, m := range contents.Manifests {
		sizes[m.Digest] = m.Size
	}
	for _, at := range unpackedLayouts(contents) {
		for _, d := range layoutDigests(at) {
			if err := l.add(at.Path, d, sizes[d]); err != nil {
				root.Close()
				return nil, err
			}
		}
	}
	return l, nil
}

func (l *Layouts) add(at string, d oci.Digest, size int64) error {
	name := blobFile(at, d)
	shown := filepath.Join(l.root.Name(), filepath.FromSlash(name))
	info, err := l.root.Lstat(name)
	switch {
	case os.IsNotExist(err):
		return missingFile(shown)
	case err != nil:
		return durable.Fault(shown, err)
	case !info.Mode().IsRegular():
		return notRegular(shown)
	case info.Size() != size:
		return fault.Newf(fault.Damaged, shown, "the file has %d bytes, it should have %d", info.Size(), size).Hint("%s", hintCopyFile)
	}
	if _, known := l.blobs[d]; !known {
		l.blobs[d] = layoutBlob{name, size}
	}
	return nil
}

// Stat implements store.Reader.
func (l *Layouts) Stat(d oci.Digest) (int64, error) {
	b, err := l.find(d)
	return b.size, err
}

// Open implements store.Reader.
func (l *Layouts) Open(d oci.Digest) (store.Blob, error) {
	b, err := l.find(d)
	if err != nil {
		return nil, err
	}
	f, err := openInside(l.root, b.name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (l *Layouts) find(d oci.Digest) (layoutBlob, error) {
	b, ok := l.blobs[d]
	if !ok {
		return b, fault.Newf(fault.NotFound, string(d), "not in the layouts")
	}
	return b, nil
}

// Close ends the use of the directory; blobs that are open stay readable.
func (l *Layouts) Close() error { return durable.Fault(l.root.Name(), l.root.Close()) }
