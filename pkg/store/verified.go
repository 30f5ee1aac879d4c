package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Verified reads b and proves on the way that it is what desc names. Its last
// bytes are given out only when size and digest of the whole are right;
// otherwise it ends with a fault.Damaged error in their place. So a peer that
// was promised desc.Size bytes (a registry, an archive's reader) never gets as
// many wrong ones, and cannot take them for the blob.
//
// It reads through b's ReadAt and neither moves nor closes b. Seeking to the
// start, as a repeated upload does, begins the proof anew; seeking elsewhere
// reads and hashes again what lies before. It is used by one goroutine.
func Verified(b Blob, desc oci.Descriptor) io.ReadSeeker {
	return VerifiedBy(sha256.New(), b, desc)
}

// VerifiedBy is [Verified] with a SHA-256 sum that nobody else uses meanwhile. Many
// blobs that are read at the same time by sums of one sha256pair.Group cost less.
func VerifiedBy(sum hash.Hash, b Blob, desc oci.Descriptor) io.ReadSeeker {
	return &verified{blob: b, desc: desc, hash: sum}
}

type verified struct {
	blob   Blob
	desc   oci.Descriptor
	hash   hash.Hash
	hashed int64 // bytes that hash has seen, from the start on
	pos    int64 // the next byte to give out
	err    error // sticks until the next Seek
}

func (v *verified) Read(p []byte) (int, error) {
	if v.err == nil && v.hashed != v.pos {
		v.err = v.catchUp()
	}
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.read(p)
	v.pos += int64(n)
	v.err = err
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// read hashes and returns the next bytes. It returns either bytes or an error,
// but io.EOF with the last bytes.
func (v *verified) read(p []byte) (int, error) {
	if size := v.blob.Size(); size != v.desc.Size {
		return 0, v.damaged(fmt.Errorf("has %d bytes, want %d", size, v.desc.Size))
	}
	due := v.desc.Size - v.hashed
	if due > 0 && len(p) == 0 {
		return 0, nil
	}
	p = p[:min(int64(len(p)), due)]
	n, err := v.blob.ReadAt(p, v.hashed)
	if n < len(p) {
		if errors.Is(err, io.EOF) {
			return 0, v.damaged(io.ErrUnexpectedEOF)
		}
		return 0, err
	}
	v.hash.Write(p)
	v.hashed += int64(n)
	if v.hashed < v.desc.Size {
		return n, nil
	}
	if got := oci.DigestFromSum(v.hash.Sum(nil)); got != v.desc.Digest {
		return 0, v.damaged(HasDigest(got))
	}
	return n, io.EOF
}

// catchUp hashes what lies before the position.
func (v *verified) catchUp() error {
	v.hash.Reset()
	v.hashed = 0
	buf := make([]byte, min(v.pos, 64<<10))
	for v.hashed < v.pos {
		if _, err := v.read(buf[:min(int64(len(buf)), v.pos-v.hashed)]); err != nil {
			return err // io.EOF at the very end is the answer there, too
		}
	}
	return nil
}

func (v *verified) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += v.pos
	case io.SeekEnd:
		offset += v.desc.Size
	}
	if offset < 0 || offset > v.desc.Size {
		return v.pos, fault.Newf(fault.Damaged, string(v.desc.Digest), "seek to byte %d of %d", offset, v.desc.Size)
	}
	if offset != v.pos || v.err != nil {
		v.pos, v.err = offset, nil
		v.hash.Reset()
		v.hashed = 0
	}
	return offset, nil
}

func (v *verified) damaged(cause error) error { return Damaged(v.desc.Digest, cause) }

// Damaged is the error of a stored blob that is not what it should be.
func Damaged(digest oci.Digest, cause error) error {
	return fault.New(fault.Damaged, string(digest), fmt.Errorf("the stored blob is damaged: %w", cause)).
		Hint("an archive: copy it again from where it came from; a store: run ferry-fetch --verify, which fetches anew what is damaged")
}
