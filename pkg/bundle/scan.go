package bundle

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"ferry/pkg/fault"
)

// tape is a tar being read from its first byte. One that can seek is read by
// its headers alone.
type tape interface {
	io.Reader
	// Pos is how many bytes lie before the next one.
	Pos() int64
}

// skimming is a tape that seeks over content.
type skimming struct{ *io.SectionReader }

func (s skimming) Pos() int64 {
	pos, _ := s.Seek(0, io.SeekCurrent) // cannot fail: it moves nothing
	return pos
}

// entry is a regular file in a tar.
type entry struct {
	name   string
	offset int64 // of the content in the tar
	size   int64
}

// scan calls visit with each regular file of a tar. Directories are passed over
// (S9 row 39), everything else that an archive of images has no use for is
// refused (B4). It ends without an error only where the tar has its two blocks
// of zeros, so that a cut between entries is no end (B1).
func scan(t tape, visit func(e entry, content io.Reader) error) error {
	reader := tar.NewReader(t)
	seen := map[string]bool{}
	end := int64(0) // of the last entry with its padding
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("broken tar header: %w", err)
		}
		end = t.Pos()
		regular, err := checkHeader(header)
		if err != nil {
			return err
		}
		if !regular {
			continue
		}
		e := entry{name: path.Clean(header.Name), offset: end, size: header.Size}
		end += padded(e.size)
		if seen[e.name] {
			return fmt.Errorf("entry %.200q stands twice", e.name)
		}
		seen[e.name] = true
		if err := visit(e, reader); err != nil {
			return err
		}
	}
	if t.Pos()-end != 2*blockSize {
		return errors.New("the end is missing")
	}
	return onlyZeros(t)
}

// checkHeader tells regular files from what is passed over, and refuses the
// rest.
func checkHeader(h *tar.Header) (regular bool, err error) {
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return false, nil
	case tar.TypeReg:
	default:
		return false, fmt.Errorf("entry %.200q is no regular file (type %q)", h.Name, h.Typeflag)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return false, fmt.Errorf("entry %.200q is sparse", h.Name)
		}
	}
	if !safeName(h.Name) {
		return false, fmt.Errorf("entry name %.200q is not a relative path", h.Name)
	}
	return true, nil
}

// safeName refuses names that mean another place to somebody who unpacks:
// absolute, climbing, with a backslash or a drive letter.
func safeName(name string) bool {
	if name == "" || strings.HasPrefix(name, "/") || strings.ContainsAny(name, "\\:\x00") {
		return false
	}
	for segment := range strings.SplitSeq(name, "/") {
		if segment == ".." {
			return false
		}
	}
	return path.Clean(name) != "."
}

// onlyZeros reads the rest of a tape: some tools fill up the last record.
func onlyZeros(t tape) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := t.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return errors.New("something follows the end")
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// damagedAt blames the file that holds the byte at offset, unless err knows
// better.
func damagedAt(p *parts, offset int64, err error) error {
	if err == nil || fault.KindOf(err) != nil {
		return err
	}
	return fault.New(fault.Damaged, p.fileAt(offset), err).Hint("%s", hintCopyAgain)
}

const hintCopyAgain = "copy the file again from the medium, or make the bundle again; a missing last chunk looks like this too"
