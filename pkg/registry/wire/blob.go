package wire

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/blob"
	"github.com/regclient/regclient/types/errs"
	"github.com/regclient/regclient/types/ref"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Blob implements registry.Source. The body counts as an operation until it is
// closed.
func (c *Client) Blob(ctx context.Context, repo oci.Repository, desc oci.Descriptor, held *io.SectionReader) (io.ReadCloser, int64, error) {
	op := newOperation(verbBlob, repo.WithDigest(desc.Digest))
	if held != nil && held.Size() >= desc.Size {
		if matches(held, desc) {
			return http.NoBody, desc.Size, nil
		}
		held = nil
	}
	if held != nil && held.Size() > 0 {
		op.held = held
	}
	op.size, op.keepOpen = desc.Size, true
	var body blob.Reader
	err := c.do(ctx, op, func(ctx context.Context, r *reg.Reg, at ref.Ref) (err error) {
		body, err = r.BlobGet(ctx, at, descOf(desc))
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	reader := &blobReader{client: c, ctx: ctx, op: op, body: body}
	// regclient hashes the held bytes with the others; the caller has them.
	if _, err := io.CopyN(io.Discard, reader, op.start); err != nil {
		return nil, 0, errors.Join(err, reader.Close())
	}
	return reader, op.start, nil
}

// matches reports whether held is the whole blob: then nothing is asked for.
func matches(held *io.SectionReader, desc oci.Descriptor) bool {
	if held.Size() != desc.Size {
		return false
	}
	hash := sha256.New()
	_, err := io.Copy(hash, io.NewSectionReader(held, 0, held.Size()))
	return err == nil && oci.DigestFromSum(hash.Sum(nil)) == desc.Digest
}

// blobReader gives regclient's reader our errors.
type blobReader struct {
	client *Client
	ctx    context.Context
	op     *operation
	body   blob.Reader
	read   int64
	err    error // what ended it
	closed bool
}

func (r *blobReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.body.Read(p)
	r.read += int64(n)
	switch {
	case r.read > r.op.size:
		n, err = n-int(r.read-r.op.size), protocol(r.op.subject, "the registry sends more than the %d bytes of the blob", r.op.size)
	case err == nil || err == io.EOF:
	case errors.Is(err, errs.ErrDigestMismatch):
		err = protocol(r.op.subject, "what the registry sends does not match the digest")
	case errors.Is(err, errs.ErrShortRead):
		err = r.op.fault(r.ctx, io.ErrUnexpectedEOF)
	default:
		err = r.op.fault(r.ctx, err)
	}
	r.err = err
	return n, err
}

func (r *blobReader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if r.err == nil {
		r.err = errors.New("read of a closed blob")
	}
	err := r.body.Close()
	r.client.end(r.op)
	return err
}

// askRange asks for the part of the blob that is not there yet: behind the held
// bytes, or where regclient goes on with a body that was cut.
func (op *operation) askRange(req *http.Request) {
	if op.verb != verbBlob {
		return
	}
	op.offset = 0
	if from, _, ok := strings.Cut(strings.TrimPrefix(req.Header.Get("Range"), "bytes="), "-"); ok {
		op.offset, _ = strconv.ParseInt(from, 10, 64)
	}
	op.asked = op.offset
	if op.offset == 0 && op.held != nil {
		op.asked = op.held.Size()
	}
	req.Header.Del("Range")
	if op.asked > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", op.asked))
	}
}

// dropHeld gives the held bytes up after the registry would not go on behind
// them, and reports whether there were any to give up.
func (op *operation) dropHeld() bool {
	dropped := op.verb == verbBlob && op.offset == 0 && op.held != nil
	if dropped {
		op.held = nil
	}
	return dropped
}

// acceptBlob shows regclient what it knows how to read: the whole blob, made
// of the held bytes and the range that came, or the range it asked for itself.
func (op *operation) acceptBlob(resp *http.Response) (*http.Response, bool, error) {
	length := resp.Header.Get("Content-Length")
	switch {
	case resp.StatusCode == http.StatusPartialContent && op.asked > 0:
		if rangeFits(resp.Header.Get("Content-Range"), op.asked, op.size) {
			break
		}
		resp.Body.Close()
		if op.dropHeld() {
			return nil, true, nil
		}
		return nil, false, op.fail(fault.Newf(fault.Transient, op.subject, "the connection was cut, and the registry went on at another place than asked"))
	case resp.StatusCode == http.StatusOK && op.offset > 0:
		resp.Body.Close()
		return nil, false, op.fail(fault.Newf(fault.Transient, op.subject, "the connection was cut, and the registry cannot go on where it was"))
	case resp.StatusCode == http.StatusOK && (length == "" || length == strconv.FormatInt(op.size, 10)):
		op.held = nil
	default:
		resp.Body.Close()
		return nil, false, op.fail(protocol(op.subject, "the registry answers %d with %s bytes of %.60q, the blob has %d", resp.StatusCode, length, resp.Header.Get("Content-Type"), op.size))
	}
	body := &blobBody{resp.Body, op}
	resp.Body = body
	op.start = 0
	if op.offset == 0 && op.held != nil {
		op.start = op.held.Size()
		resp.StatusCode, resp.Status = http.StatusOK, "200 OK"
		resp.Header.Del("Content-Range")
		resp.Header.Set("Content-Length", strconv.FormatInt(op.size, 10))
		resp.ContentLength = op.size
		resp.Body = &prefixed{io.MultiReader(io.NewSectionReader(op.held, 0, op.start), body), body}
	}
	return resp, false, nil
}

// rangeFits reports whether a Content-Range begins at from and lies in a whole
// of size bytes (N12).
func rangeFits(header string, from, size int64) bool {
	span, total, ok := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	if !ok || total != "*" && total != strconv.FormatInt(size, 10) {
		return false
	}
	first, last, ok := strings.Cut(span, "-")
	end, err := strconv.ParseInt(last, 10, 64)
	return ok && err == nil && first == strconv.FormatInt(from, 10) && end >= from && end < size
}

type prefixed struct {
	io.Reader
	io.Closer
}

// blobBody turns what breaks a body into the one error at which regclient goes
// on with a Range request, as long as the operation has patience.
type blobBody struct {
	io.ReadCloser
	op *operation
}

func (b *blobBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.op.moved()
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	cause := networkFault(b.op, err)
	pause, ok := b.op.nextPause()
	if !ok || !temporary(fault.KindOf(cause)) {
		b.op.fail(cause)
	}
	b.op.mu.Lock()
	b.op.wait = pause
	b.op.mu.Unlock()
	return n, io.ErrUnexpectedEOF
}
