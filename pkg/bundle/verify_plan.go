package bundle

import (
	"iter"
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

// planned are the archives that Write makes of contents, by name. There are none
// where no plan can prove what reading the tars proves: Write refuses the
// contents, or readers refuse a manifest of that size.
func planned(contents *contract.Contents) map[string]*archivePlan {
	tooLarge := func(m contract.Manifest) bool { return m.Size > oci.ManifestLimit }
	list, err := planArchives(contents, 0)
	if err != nil || slices.ContainsFunc(contents.Manifests, tooLarge) {
		return nil
	}
	plans := make(map[string]*archivePlan, len(list))
	for _, p := range list {
		plans[p.name] = p
	}
	return plans
}

// planOf returns the plan that proves the archive, nil where none does.
func (v *verifier) planOf(archive contract.ArchiveFiles) *archivePlan {
	p := v.plans[archive.Name]
	if p == nil || !p.readable() || !p.fits(archive) || contradictory(archive) {
		return nil
	}
	return p
}

// fits tells whether the archive's files are those of the plan, by name and size,
// whatever the size of chunks.
func (p *archivePlan) fits(archive contract.ArchiveFiles) bool {
	first, chunkSize := archive.Files[0], int64(0)
	if _, chunk, _ := archiveOf(first.Name); chunk == 0 {
		chunkSize = max(first.Size, 1)
	}
	same := func(a, b contract.File) bool { return a.Name == b.Name && a.Size == b.Size }
	return slices.EqualFunc(splitFiles(p.name, p.size, chunkSize), archive.Files, same)
}

// readable tells whether readers would take the archive.
func (p *archivePlan) readable() bool {
	tooLarge := func(e plannedEntry) bool { return len(e.data) > indexLimit }
	return len(p.entries) > 0 && !slices.ContainsFunc(p.entries, tooLarge)
}

// contradictory finds a damaged digest in a document at no cost, where an archive
// is one file: then its digest stands there twice.
func contradictory(archive contract.ArchiveFiles) bool {
	return len(archive.Files) == 1 && archive.Files[0].Digest != archive.Digest
}

// region is a range of an archive: bytes that the plan knows, or a blob.
type region struct {
	offset int64
	known  []byte
	blob   *plannedEntry // nil where the bytes are known
}

func (r region) size() int64 {
	if r.blob != nil {
		return r.blob.size
	}
	return int64(len(r.known))
}

// regions are all bytes of the archive in their order.
func (p *archivePlan) regions() iter.Seq2[region, error] {
	return func(yield func(region, error) bool) {
		for i := range p.entries {
			e := &p.entries[i]
			front, err := e.front()
			if err != nil {
				yield(region{}, err)
				return
			}
			content := region{offset: e.offset, known: e.data}
			if e.data == nil {
				content = region{offset: e.offset, blob: e}
			}
			padding := region{offset: e.offset + e.size, known: zeros[:padded(e.size)-e.size]}
			if !yield(region{offset: e.offset - int64(len(front)), known: front}, nil) || !yield(content, nil) || !yield(padding, nil) {
				return
			}
		}
		yield(region{offset: p.size - trailerSize, known: zeros[:trailerSize]}, nil)
	}
}

// difference is a place where an archive is not what was planned.
type difference struct {
	offset int64
	// layout is the region of known bytes that differs, nil where a blob or the
	// size of a file does. Another version may have put other bytes there.
	layout *region
	// opinion says that no byte is in doubt, but what the document says of a
	// manifest.
	opinion bool
}

// Error implements error. Nobody sees it: the second look explains more.
func (d *difference) Error() string { return "the archive is not what was planned" }
