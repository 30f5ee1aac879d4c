package imagefs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// source counts the stored bytes of a layer and keeps the error that reading
// them ended with, for decoders put their own in its place.
type source struct {
	ctx    context.Context
	reader io.Reader
	n      int64
	err    error
}

func (s *source) Read(p []byte) (int, error) {
	if s.err == nil {
		s.err = s.ctx.Err()
	}
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.reader.Read(p)
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// decompress looks at the first bytes, whatever media type was declared
// (S1.10.1).
func decompress(r io.Reader, window uint64) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(buffered)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), isSkippableFrame(magic):
		// One goroutine less to wait for, and less memory; the window
		// cap refuses frames that ask for gigabytes.
		decoder, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
		if err != nil {
			return nil, err
		}
		return decoder.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}

// isSkippableFrame knows the frames without content that a zstd stream may
// begin with.
func isSkippableFrame(magic []byte) bool {
	return len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18})
}

// counter holds a decompressed layer to its limits, and knows how it ends.
type counter struct {
	reader io.Reader
	source *source
	limits limits
	n      int64
	zeros  int64 // zero bytes at the end of what was read so far
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.reader.Read(p)
	c.n += int64(n)
	if used := bytes.TrimRight(p[:n], "\x00"); len(used) > 0 {
		c.zeros = int64(n - len(used))
	} else {
		c.zeros += int64(n)
	}
	if c.n > c.limits.layer {
		return n, fmt.Errorf("more than %d bytes decompressed", c.limits.layer)
	}
	if c.n > c.limits.free && c.n/c.limits.ratio > c.source.n {
		return n, fmt.Errorf("%d bytes grew to more than %d: a decompression bomb", c.source.n, c.n)
	}
	return n, err
}

// endsInZeros reports whether the archive has its end mark, a block of zeros.
// The tar reader takes a stream that ends between two entries for a whole one.
func (c *counter) endsInZeros() bool { return c.zeros >= 512 }
