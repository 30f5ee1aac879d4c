// Package bundle writes, verifies and reads the archives that cross the gap.
//
// An archive is an uncompressed tar of OCI image layouts, as "d8 mirror" makes
// and reads it (S6): the path of a layout in the tar is the path of its
// repository below the target root. It lies in one file NAME.tar or in chunks
// NAME.tar.0000.chunk, NAME.tar.0001.chunk, ..., which joined are that file.
//
// [Write] makes the archives of some contents, byte for byte the same each
// time, and [Finish] completes the directory with its table of contents,
// bundle.json. [Verify] reads everything once and believes nothing. [Open]
// reads content by digest straight out of the archives, so nothing is ever
// unpacked to a path that the data names. [Import] takes archives that have no
// bundle.json because another tool made them.
package bundle

import "ferry/pkg/contract"

const (
	// DocumentName is the Bundle document of a directory of archives. It is
	// written last: a directory without it is no finished bundle.
	DocumentName = "bundle.json"
	// SignatureName is the signature of that document's bytes. It comes after the
	// document, and goes before it.
	SignatureName = DocumentName + contract.SignatureSuffix
	// journalName is what a killed run leaves in its place.
	journalName = "bundle.partial.json"
)

// Progress is told how far the work is. Implementations are safe for
// concurrent use; nil stands for nobody listening.
type Progress interface {
	// SetTotal says how many bytes, and images (0: not counted), there are.
	SetTotal(bytes, images int64)
	// AddBytes says that n more bytes are done.
	AddBytes(n int64)
}

type silent struct{}

func (silent) SetTotal(int64, int64) {}
func (silent) AddBytes(int64)        {}

func audible(p Progress) Progress {
	if p == nil {
		return silent{}
	}
	return p
}

// totalSize is the size of all archives in bytes.
func totalSize(archives []contract.ArchiveFiles) int64 {
	var total int64
	for _, a := range archives {
		total += a.Size
	}
	return total
}
