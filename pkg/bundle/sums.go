package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/sha256pair"
	"ferry/pkg/streebog"
)

// sums hashes an archive and the files that it lies in.
type sums struct {
	whole, file hash.Hash // file is nil when there is one file: then it is the whole
	gost        hash.Hash // of the file; nil when nobody wants it
	size        int64     // of the file so far
	files       contract.ArchiveFiles
}

func newSums(name string, chunked, gost bool) *sums {
	s := &sums{whole: sha256.New(), files: contract.ArchiveFiles{Name: name}}
	if chunked {
		s.file = sha256.New()
	}
	if gost {
		s.gost = streebog.New256()
	}
	return s
}

// Write is io.Writer and never fails.
func (s *sums) Write(p []byte) (int, error) {
	s.add(p, nil)
	return len(p), nil
}

// add takes in p, and has the sum of a blob take it in, too, unless that is nil. The
// GOST sum takes longest by far, so all else is done beside it.
func (s *sums) add(p []byte, blob hash.Hash) {
	var hashing sync.WaitGroup
	if s.gost != nil {
		hashing.Go(func() { s.gost.Write(p) })
	}
	addSHA256(p, s.whole, blob, s.file)
	s.size += int64(len(p))
	hashing.Wait()
}

// addSHA256 adds p to sums, of which some may be nil, two at a time.
func addSHA256(p []byte, sums ...hash.Hash) {
	var first hash.Hash
	for _, sum := range sums {
		switch {
		case sum == nil:
		case first == nil:
			first = sum
		default:
			sha256pair.Write(first, sum, p)
			first = nil
		}
	}
	if first != nil {
		first.Write(p)
	}
}

func (s *sums) endFile(name string) {
	f := contract.File{Name: name, Size: s.size}
	if s.file == nil {
		f.Digest = oci.DigestFromSum(s.whole.Sum(nil))
	} else {
		f.Digest = oci.DigestFromSum(s.file.Sum(nil))
		s.file.Reset()
	}
	if s.gost != nil {
		f.Gost = hex.EncodeToString(s.gost.Sum(nil))
		s.gost.Reset()
	}
	s.files.Files = append(s.files.Files, f)
	s.files.Size += s.size
	s.size = 0
}

// result is what the archive is, once all files have ended.
func (s *sums) result() contract.ArchiveFiles {
	s.files.Digest = oci.DigestFromSum(s.whole.Sum(nil))
	return s.files
}
