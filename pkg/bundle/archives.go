package bundle

import (
	"errors"
	"io"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// Archives is the content of a set of archives, read where it lies. It is a
// store.Reader.
type Archives struct {
	opened []*handles // of each directory
	blobs  map[oci.Digest]location
}

type location struct {
	parts        *parts
	offset, size int64
}

var _ store.Reader = (*Archives)(nil)

// Open finds every blob of the archives in dirs by their headers alone. It
// checks sizes, not digests: see [Verify]. The caller calls Close.
// Kinds: fault.Damaged, fault.Local.
func Open(dirs []contract.ArchiveDirectory) (*Archives, error) {
	a := &Archives{blobs: map[oci.Digest]location{}}
	for _, dir := range dirs {
		opened := newHandles(dir.Path)
		a.opened = append(a.opened, opened)
		for _, files := range dir.Archives {
			if err := a.add(opened, files); err != nil {
				a.Close()
				return nil, err
			}
		}
	}
	return a, nil
}

func (a *Archives) add(opened *handles, archive contract.ArchiveFiles) error {
	p, err := newParts(opened, archive.Files)
	if err != nil {
		return err
	}
	for i, f := range archive.Files {
		if got := p.files[i].size; got != f.Size {
			return wrongSize(f, got)
		}
	}
	t := skimming{io.NewSectionReader(p, 0, p.size)}
	err = scan(t, func(e entry, _ io.Reader) error {
		if _, d, ok := blobName(e.name); ok {
			if _, known := a.blobs[d]; !known {
				a.blobs[d] = location{parts: p, offset: e.offset, size: e.size}
			}
		}
		return nil
	})
	return damagedAt(p, t.Pos(), err)
}

// Stat implements store.Reader.
func (a *Archives) Stat(d oci.Digest) (int64, error) {
	l, err := a.find(d)
	return l.size, err
}

// Open implements store.Reader.
func (a *Archives) Open(d oci.Digest) (store.Blob, error) {
	l, err := a.find(d)
	if err != nil {
		return nil, err
	}
	return blob{io.NewSectionReader(l.parts, l.offset, l.size)}, nil
}

func (a *Archives) find(d oci.Digest) (location, error) {
	l, ok := a.blobs[d]
	if !ok {
		return location{}, fault.Newf(fault.NotFound, string(d), "not in the archives")
	}
	return l, nil
}

// Close closes the files; blobs that are still open fail from then on.
func (a *Archives) Close() error {
	var problems []error
	for _, opened := range a.opened {
		problems = append(problems, opened.Close())
	}
	return errors.Join(problems...)
}

// blob is a range of an archive; the files belong to Archives.
type blob struct{ *io.SectionReader }

func (blob) Close() error { return nil }

func wrongSize(want contract.File, got int64) error {
	return fault.Newf(fault.Damaged, want.Name, "the file has %d bytes, it should have %d", got, want.Size).
		Hint("copy the file again from the medium")
}
