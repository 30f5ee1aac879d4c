package edition

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/klauspost/compress/zstd"

	"ferry/pkg/oci"
)

// compression of a layer. Sources carry all three, whatever their media types
// say (S1.10.1).
type compression int

const (
	gzipped compression = iota
	zstandard
	plain
)

// file is a small file of a layer, in the order of the archive.
type file struct{ name, body string }

// layer describes a tar layer. Its bytes are made whenever they are read, from
// the seed and the description alone, so that a set of any size needs no memory
// and no disk.
type layer struct {
	name        string // seeds the bulk: layers of equal description are equal
	compression compression
	mediaType   string // "" is the usual one of the manifest's format
	files       []file
	bulk        int64 // bytes of incompressible data in one more file
}

// measure returns the layer's digest and size, and the digest of the tar in it.
func (l layer) measure(seed uint64) (desc oci.Descriptor, diffID oci.Digest, err error) {
	blob, diff := sha256.New(), sha256.New()
	r := l.open(seed, 0)
	r.tee = diff
	size, err := io.Copy(blob, r)
	desc = oci.Descriptor{Digest: oci.DigestFromSum(blob.Sum(nil)), Size: size}
	return desc, oci.DigestFromSum(diff.Sum(nil)), err
}

// open returns the layer's bytes; size is what measure found.
func (l layer) open(seed uint64, size int64) *layerReader {
	r := &layerReader{layer: l, seed: seed, size: size}
	r.restart()
	return r
}

// tarStream is the uncompressed layer.
func (l layer) tarStream(seed uint64) (io.Reader, error) {
	var head bytes.Buffer
	tw := tar.NewWriter(&head)
	for _, f := range l.files {
		if err := tw.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.body)), Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(tw, f.body); err != nil {
			return nil, err
		}
	}
	if l.bulk == 0 {
		err := tw.Close()
		return &head, err
	}
	if err := tw.Flush(); err != nil {
		return nil, err
	}
	if err := tw.WriteHeader(&tar.Header{Name: "usr/share/bulk", Mode: 0o644, Size: l.bulk, Format: tar.FormatGNU}); err != nil {
		return nil, err
	}
	padding := (512 - l.bulk%512) % 512
	return io.MultiReader(&head, io.LimitReader(noise(seed, l.name), l.bulk), bytes.NewReader(make([]byte, padding+1024))), nil
}

// noise is an endless stream of incompressible bytes.
func noise(seed uint64, name string) io.Reader {
	return rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%d/%s", seed, name)))
}

// layerReader makes a layer's bytes while it is read. It can seek, by starting
// again, as an upload that is repeated needs.
type layerReader struct {
	layer  layer
	seed   uint64
	size   int64     // as measured; only for seeking from the end
	tee    io.Writer // receives the uncompressed tar
	source io.Reader
	packer io.WriteCloser
	buf    bytes.Buffer
	made   int64 // position of the first byte in buf
	pos    int64 // position of the next Read
	err    error // what follows buf
}

func (r *layerReader) restart() {
	r.buf.Reset()
	r.made = 0
	r.source, r.err = r.layer.tarStream(r.seed)
	if r.err != nil {
		return
	}
	switch r.layer.compression {
	case gzipped:
		// Stored, not deflated: the bytes do not depend on a compressor's
		// version, and bulk would not shrink anyway.
		r.packer, r.err = gzip.NewWriterLevel(&r.buf, gzip.NoCompression)
	case zstandard:
		r.packer, r.err = zstd.NewWriter(&r.buf, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	default:
		r.packer = unpacked{&r.buf}
	}
}

func (r *layerReader) Read(p []byte) (int, error) {
	if r.pos < r.made {
		r.restart()
	}
	for r.made+int64(r.buf.Len()) <= r.pos {
		if r.err != nil {
			return 0, r.err
		}
		r.made += int64(r.buf.Len())
		r.buf.Reset()
		r.fill()
	}
	r.made += int64(len(r.buf.Next(int(r.pos - r.made))))
	n, err := r.buf.Read(p)
	r.made += int64(n)
	r.pos = r.made
	return n, err
}

// fill packs one more piece of the tar.
func (r *layerReader) fill() {
	var to io.Writer = r.packer
	if r.tee != nil {
		to = io.MultiWriter(r.packer, r.tee)
	}
	_, r.err = io.CopyN(to, r.source, 256<<10)
	if r.err == io.EOF {
		if err := r.packer.Close(); err != nil {
			r.err = err
		}
	}
}

// Seek only notes the position; the next Read makes what lies before it.
func (r *layerReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d", offset)
	}
	r.pos = offset
	return offset, nil
}

type unpacked struct{ io.Writer }

func (unpacked) Close() error { return nil }
