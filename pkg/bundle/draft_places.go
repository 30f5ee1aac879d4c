package bundle

import (
	"errors"
	"io"
	"strings"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// markStep is how many bytes of a blob are received before the log says so: that
// many may have to be received again after a kill.
const markStep = 8 << 20

// draftPlaces are the Places of a Draft: a blob has one range in each archive, or
// in each layout of an archive, that needs it. All are written at the same time;
// what is read is the first one.
type draftPlaces struct{ *Draft }

func (d *Draft) has(digest oci.Digest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.received[digest]
}

func (d *Draft) isRefused(digest oci.Digest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refused[digest] != nil
}

// Stat implements store.Reader.
func (d draftPlaces) Stat(digest oci.Digest) (int64, error) {
	if !d.has(digest) {
		return 0, fault.Newf(fault.NotFound, string(digest), "not received yet")
	}
	return d.spots[digest][0].planned().size, nil
}

// Open implements store.Reader.
func (d draftPlaces) Open(digest oci.Digest) (store.Blob, error) {
	if _, err := d.Stat(digest); err != nil {
		return nil, err
	}
	first := d.spots[digest][0]
	e := first.planned()
	return rangeOf(first.archive.files, e.offset, e.size), nil
}

// rangeOf is a blob that lies in an archive.
func rangeOf(files io.ReaderAt, offset, size int64) blob {
	return blob{io.NewSectionReader(files, offset, size)}
}

// Place implements store.Places.
func (d draftPlaces) Place(desc oci.Descriptor) (store.Place, int64, error) {
	d.mu.Lock()
	held, uneven, failure := d.held[desc.Digest], d.uneven[desc.Digest], errors.Join(d.failure, d.refused[desc.Digest])
	delete(d.uneven, desc.Digest)
	d.mu.Unlock()
	if failure != nil {
		return nil, 0, failure
	}
	open := openSpots(d.spots[desc.Digest])
	if len(open) == 0 {
		return nil, 0, fault.Newf(fault.Usage, string(desc.Digest), "no archive has a place for it")
	}
	if size := open[0].planned().size; size != desc.Size {
		return nil, 0, fault.Newf(fault.Protocol, string(desc.Digest), "it has a place of %d bytes, and is said to have %d", size, desc.Size)
	}
	p := &draftPlace{draft: d.Draft, desc: desc, spots: open, marked: held}
	if uneven {
		if err := p.even(held); err != nil {
			return nil, 0, err
		}
	}
	return p, held, nil
}

// Arrived implements store.Places: the sums need not wait until it is durable. When
// it does not get so, there is no use for them.
func (d draftPlaces) Arrived(w store.Whole) {
	as := unproven
	if w.Hashed {
		as = proven
	}
	for _, s := range w.Place.(*draftPlace).spots { // Place made it
		s.archive.arrive(s.entry, as)
	}
}

// Settle implements store.Places.
func (d draftPlaces) Settle(group []store.Whole) ([]oci.Digest, error) {
	lines := map[*draftArchive]*strings.Builder{}
	for _, w := range group {
		for _, s := range w.Place.(*draftPlace).spots { // Place made it
			if lines[s.archive] == nil {
				lines[s.archive] = &strings.Builder{}
			}
			e := s.planned()
			lines[s.archive].WriteString(receivedLine(e.digest, byteRange{e.size, e.offset}))
		}
	}
	for a := range lines {
		if err := a.files.Sync(); err != nil {
			return nil, err
		}
	}
	for a, text := range lines {
		if err := a.log.append(text.String()); err != nil {
			return nil, err
		}
		if err := a.log.sync(); err != nil {
			return nil, err
		}
	}
	settled := make([]oci.Digest, 0, len(group))
	for _, w := range group {
		digest := w.Desc.Digest
		if d.receive(digest) {
			settled = append(settled, digest)
			continue
		}
		// The log says now that it was received, behind the word that it was not.
		if err := d.forget(digest); err != nil {
			return settled, err
		}
	}
	return settled, nil
}

// receive counts a blob as received, unless it was refused already.
func (d *Draft) receive(digest oci.Digest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, refused := d.refused[digest]; refused {
		return false
	}
	d.received[digest] = true
	delete(d.held, digest)
	return true
}

// mark notes durably enough for a kill, not for a power loss, how much of a blob is
// there: it is hashed before it is believed.
func (d *Draft) mark(digest oci.Digest, first spot, n int64) error {
	d.mu.Lock()
	d.held[digest] = n
	d.mu.Unlock()
	return first.archive.log.append(heldLine(digest, byteRange{n, first.planned().offset}))
}

// forget has a blob received again by the next run. Its spots in finished archives are
// not touched.
func (d *Draft) forget(digest oci.Digest) error {
	for _, s := range d.spots[digest] {
		if s.archive.finished {
			continue
		}
		if err := s.archive.log.append(lostLine(digest)); err != nil {
			return err
		}
		if err := s.archive.log.sync(); err != nil {
			return err
		}
	}
	return nil
}

// draftPlace is where one blob is received.
type draftPlace struct {
	draft  *Draft
	desc   oci.Descriptor
	spots  []spot
	marked int64 // bytes that the log knows of
}

// Name implements store.Place.
func (p *draftPlace) Name() string { return p.draft.dir + " (" + string(p.desc.Digest) + ")" }

// HashedLater implements store.Place.
func (p *draftPlace) HashedLater() bool { return p.draft.later }

// ReadAt is io.ReaderAt.
func (p *draftPlace) ReadAt(b []byte, off int64) (int, error) {
	first := p.spots[0]
	return first.archive.files.ReadAt(b, first.planned().offset+off)
}

// WriteAt is io.WriterAt. The caller takes care that nothing is written behind the
// blob's size, where the archive goes on.
func (p *draftPlace) WriteAt(b []byte, off int64) (int, error) {
	if n, err := p.writeTo(p.spots, b, off); err != nil {
		return n, err
	}
	end := off + int64(len(b))
	if end-p.marked >= markStep || end == p.desc.Size {
		p.marked = end
		return len(b), p.draft.mark(p.desc.Digest, p.spots[0], end)
	}
	return len(b), nil
}

// writeTo writes to several spots, and returns the least that was written to one.
func (p *draftPlace) writeTo(spots []spot, b []byte, off int64) (int, error) {
	for _, s := range spots {
		if n, err := s.archive.files.WriteAt(b, s.planned().offset+off); err != nil {
			return n, err
		}
	}
	return len(b), nil
}

// even makes the first n bytes of all spots those of the first one: after a power
// loss they may differ, and only the first is hashed.
func (p *draftPlace) even(n int64) error {
	buf := make([]byte, min(n, copySize))
	for off := int64(0); off < n; off += int64(len(buf)) {
		buf = buf[:min(n-off, int64(len(buf)))]
		if _, err := p.ReadAt(buf, off); err != nil {
			return err
		}
		if _, err := p.writeTo(p.spots[1:], buf, off); err != nil {
			return err
		}
	}
	return nil
}

// Truncate implements store.Place. What lies behind size is overwritten before it
// counts.
func (p *draftPlace) Truncate(size int64) error {
	if size >= p.marked {
		return nil
	}
	p.marked = size
	return p.draft.mark(p.desc.Digest, p.spots[0], size)
}

// Close implements store.Place.
func (p *draftPlace) Close(size int64) error {
	if size == p.marked {
		return nil
	}
	return p.draft.mark(p.desc.Digest, p.spots[0], size)
}
