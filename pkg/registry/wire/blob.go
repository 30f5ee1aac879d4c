package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Blob implements registry.Source. The body counts as an operation until it is
// closed.
func (c *Client) Blob(ctx context.Context, repo oci.Repository, desc oci.Descriptor, held *io.SectionReader) (io.ReadCloser, int64, error) {
	op := newOperation(verbBlob, repo.WithDigest(desc.Digest))
	op.size, op.keepOpen = desc.Size, true
	switch {
	case held == nil || held.Size() > desc.Size: // more than the whole is no part of it
	case held.Size() == desc.Size:
		return http.NoBody, desc.Size, nil
	default:
		op.at = held.Size()
	}
	r := &blobReader{caller: ctx, op: op}
	if err := c.do(ctx, op, r.open); err != nil {
		return nil, 0, err
	}
	return r, op.at, nil
}

// blobReader is the body of a blob. What breaks it is followed by a request for
// the rest, as long as the operation has patience. It hashes nothing: whoever
// keeps the bytes does.
type blobReader struct {
	caller context.Context
	op     *operation
	ctx    context.Context // the operation's
	host   *host
	body   io.ReadCloser
	err    error // what ended it
	closed bool
}

// open asks for the blob from op.at on, where the registry can begin there.
func (r *blobReader) open(ctx context.Context, h *host) error {
	r.ctx, r.host = ctx, h
	req, err := h.request(ctx, http.MethodGet, r.op.repo, "/blobs/"+string(r.op.ref.Digest), nil)
	if err != nil {
		return err
	}
	resp, err := h.exchange(r.op, req)
	if err != nil {
		return err
	}
	r.body, r.op.begun = resp.Body, true
	return nil
}

func (r *blobReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.body.Read(p)
	if n > 0 {
		r.op.moved()
		r.host.limits.of(r.op.size).moved(n)
	}
	over := int(max(0, r.op.at+int64(n)-r.op.size))
	n -= over
	r.op.at += int64(n)
	switch {
	case over > 0:
		err = protocol(r.op.subject, "the registry sends more than the %d bytes of the blob", r.op.size)
	case err != nil && r.op.at == r.op.size:
		err = io.EOF // what broke the connection after the last byte does not matter
	case err != nil:
		err = r.goOn(err)
	}
	r.err = err
	return n, err
}

// goOn asks for the rest of a body that cause has cut.
func (r *blobReader) goOn(cause error) error {
	if cause == io.EOF {
		cause = io.ErrUnexpectedEOF
	}
	broken := r.host.transport.heed(r.op, networkFault(r.op, cause), "")
	pause, ok := r.op.nextPause()
	if !ok || !temporary(fault.KindOf(broken)) || r.ctx.Err() != nil {
		return r.op.fault(r.caller, r.op.fail(broken))
	}
	r.op.mu.Lock()
	r.op.wait = pause
	r.op.mu.Unlock()
	r.body.Close()
	r.body = http.NoBody
	if err := r.open(r.ctx, r.host); err != nil {
		return r.op.fault(r.caller, err)
	}
	return nil
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
	r.host.end(r.op)
	return err
}

// askRange asks for the part of the blob that is not there yet: behind the held
// bytes, or where a body was cut.
func (op *operation) askRange(req *http.Request) {
	if op.verb == verbBlob && op.at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", op.at))
	}
}

// dropHeld gives the held bytes up after the registry would not go on behind
// them, and reports whether there were any to give up: once a body has begun,
// the caller knows from where.
func (op *operation) dropHeld() bool {
	dropped := op.verb == verbBlob && !op.begun && op.at > 0
	if dropped {
		op.at = 0
	}
	return dropped
}

// acceptBlob takes the whole blob, or the range that was asked for.
func (op *operation) acceptBlob(resp *http.Response) (*http.Response, bool, error) {
	switch {
	case resp.StatusCode == http.StatusPartialContent && op.at > 0:
		if rangeFits(resp.Header.Get("Content-Range"), op.at, op.size) {
			return resp, false, nil
		}
		resp.Body.Close()
		if op.dropHeld() {
			return nil, true, nil
		}
		return nil, false, op.fail(fault.Newf(fault.Transient, op.subject, "the connection was cut, and the registry went on at another place than asked"))
	case resp.StatusCode == http.StatusOK && op.begun && op.at > 0:
		resp.Body.Close()
		return nil, false, op.fail(fault.Newf(fault.Transient, op.subject, "the connection was cut, and the registry cannot go on where it was"))
	case resp.StatusCode == http.StatusOK && (resp.ContentLength < 0 || resp.ContentLength == op.size):
		op.at = 0
		return resp, false, nil
	}
	resp.Body.Close()
	return nil, false, op.fail(protocol(op.subject, "the registry answers %d with %d bytes of %.60q, the blob has %d",
		resp.StatusCode, resp.ContentLength, resp.Header.Get("Content-Type"), op.size))
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
