package bundle

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// archivePlan is an archive before it is written: everything but the bytes.
type archivePlan struct {
	name    string
	entries []plannedEntry
	// madeFrom names the entries: equal plans give equal archives.
	madeFrom oci.Digest
	size     int64
	// files are the names and sizes of the files that it will lie in.
	files []contract.File
}

// plannedEntry is a file of the tar.
type plannedEntry struct {
	name   string
	offset int64 // of the content, in the archive
	size   int64
	digest oci.Digest
	data   []byte // nil: the content is the store's
}

// planArchives plans each archive of valid contents, sorted by name.
func planArchives(contents *contract.Contents, chunkSize int64) ([]*archivePlan, error) {
	if chunkSize < 0 {
		return nil, fault.Newf(fault.Usage, "chunk size", "%d is negative", chunkSize)
	}
	plans := map[string]*archivePlan{}
	for _, a := range contents.Archives {
		plans[a.Name] = &archivePlan{name: a.Name}
	}
	graph := contents.Graph()
	sizes := blobSizes(contents)
	for _, l := range contents.ImageLayouts() {
		p := plans[l.Archive]
		index, err := encodeIndex(l, graph)
		if err != nil {
			return nil, fmt.Errorf("index of %s: %w", l.Path, err)
		}
		p.addData(path.Join(l.Path, indexFile), index)
		p.addData(path.Join(l.Path, layoutFile), []byte(layoutText))
		for _, m := range l.Manifests {
			p.addBlob(l.Path, m.Digest, m.Size)
		}
		for _, d := range l.Blobs {
			p.addBlob(l.Path, d, sizes[d])
		}
	}
	list := make([]*archivePlan, 0, len(plans))
	for _, p := range plans {
		p.complete(chunkSize)
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *archivePlan) int { return cmp.Compare(a.name, b.name) })
	if files := countFiles(list); files > maxFiles {
		return nil, fault.Newf(fault.Usage, "chunk size", "%d bytes would make %d files", chunkSize, files).
			Hint("choose larger chunks; %d files are the most", maxFiles)
	}
	return list, nil
}

// maxFiles is how many files a bundle may have: no medium's limit asks for
// more, and every step that looks at the directory takes longer with each.
const maxFiles = 10000

func countFiles(list []*archivePlan) int {
	files := 0
	for _, p := range list {
		files += len(p.files)
	}
	return files
}

func blobSizes(contents *contract.Contents) map[oci.Digest]int64 {
	sizes := make(map[oci.Digest]int64, len(contents.Blobs))
	for _, b := range contents.Blobs {
		sizes[b.Digest] = b.Size
	}
	return sizes
}

func (p *archivePlan) addData(name string, data []byte) {
	p.entries = append(p.entries, plannedEntry{name: name, size: int64(len(data)), digest: oci.DigestOf(data), data: data})
}

func (p *archivePlan) addBlob(layout string, d oci.Digest, size int64) {
	p.entries = append(p.entries, plannedEntry{name: path.Join(layout, blobsDir, d.Hex()), size: size, digest: d})
}

// complete sorts the entries as a walk through directories meets them (S6.3):
// by path component, so that "install/" comes before "install-standalone/".
func (p *archivePlan) complete(chunkSize int64) {
	slices.SortFunc(p.entries, func(a, b plannedEntry) int { return cmp.Compare(walkKey(a.name), walkKey(b.name)) })
	sum := sha256.New()
	for i := range p.entries {
		e := &p.entries[i]
		fmt.Fprintf(sum, "%s %d %s\n", e.name, e.size, e.digest)
		e.offset = p.size + e.frontSize()
		p.size = e.end()
	}
	p.size += trailerSize
	p.madeFrom = oci.DigestFromSum(sum.Sum(nil))
	p.files = splitFiles(p.name, p.size, chunkSize)
}

func walkKey(name string) string { return strings.ReplaceAll(name, "/", "\x00") }

const (
	blockSize = 512
	// nameLimit is the longest name, in bytes, that fits a tar header.
	nameLimit = 100
)

// trailerSize is that of the two blocks of zeros that end an archive.
const trailerSize = 2 * blockSize

// frontSize is what stands before the content: the header, and one more with the
// name where that is long.
func (e plannedEntry) frontSize() int64 {
	if len(e.name) <= nameLimit {
		return blockSize
	}
	return 2*blockSize + padded(int64(len(e.name))+1)
}

// end is where the entry and its padding end in the archive.
func (e plannedEntry) end() int64 { return e.offset + padded(e.size) }

func padded(size int64) int64 { return (size + blockSize - 1) / blockSize * blockSize }

// front is what stands before the content. It is d8's: GNU, no owner, no time
// (S6.3).
func (e plannedEntry) front() ([]byte, error) {
	var text bytes.Buffer
	header := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: e.size, Mode: 0o777, Format: tar.FormatGNU}
	if err := tar.NewWriter(&text).WriteHeader(header); err != nil {
		return nil, fmt.Errorf("header of %s: %w", e.name, err)
	}
	return text.Bytes(), nil
}

// splitFiles names the files of an archive of size bytes: one, or chunks of
// exactly chunkSize bytes but the last, which is never empty (S6.6).
func splitFiles(archive string, size, chunkSize int64) []contract.File {
	if chunkSize == 0 {
		return []contract.File{{Name: archive + tarSuffix, Size: size}}
	}
	var files []contract.File
	for size > 0 && len(files) <= maxFiles {
		n := min(size, chunkSize)
		files = append(files, contract.File{Name: chunkName(archive, len(files)), Size: n})
		size -= n
	}
	return files
}
