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

const (
	// chunkSize is what goes in one request where a whole blob is refused as too
	// large (Q8); a registry may want more.
	chunkSize = 1 << 20
	// statusLimit is how often a registry is asked where an upload stands before
	// it begins anew: an answer that is wrong twice stays wrong.
	statusLimit = 2
)

// chunks is an upload in several requests. What breaks one is followed by the
// question how far the upload is, so that a bad line costs a chunk, not the blob.
type chunks struct {
	h     *host
	op    *operation
	desc  oci.Descriptor
	src   *source
	at    int64 // the next byte to send
	most  int64 // the highest that at was
	asked int   // questions since most grew
}

// send uploads the blob.
func (c *chunks) send(ctx context.Context) error {
	if _, err := c.h.openSession(ctx, c.op); err != nil {
		return err
	}
	for c.at < c.desc.Size {
		n := min(max(chunkSize, c.op.chunkLeast()), c.desc.Size-c.at)
		err := c.patch(ctx, n)
		switch {
		case err == nil:
			c.at += n // what Range says of a chunk that was taken is wrong at some registries
		default:
			if err = c.resume(ctx, n, err); err != nil {
				return err
			}
		}
		if c.at > c.most {
			c.most, c.asked = c.at, 0
			c.op.moved()
		}
	}
	return c.h.commit(ctx, c.op, c.desc.Digest, nil, 0)
}

// patch sends the n bytes from at on.
func (c *chunks) patch(ctx context.Context, n int64) error {
	session, err := c.op.openedAt()
	if err != nil {
		return err
	}
	body := func() (io.ReadCloser, error) {
		_, err := c.src.Seek(c.at, io.SeekStart)
		return io.NopCloser(io.LimitReader(c.src, n)), err
	}
	first, err := body()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, session.String(), first)
	if err != nil {
		return protocol(c.op.subject, "the address of an upload: %w", withoutURL(err))
	}
	req.ContentLength, req.GetBody = n, body
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", c.at, c.at+n-1))
	_, err = c.h.finish(c.op, req, http.StatusAccepted, http.StatusCreated, http.StatusNoContent)
	return err
}

// resume goes on where the registry says that the upload is, after a chunk of n
// bytes that cause has broken.
func (c *chunks) resume(ctx context.Context, n int64, cause error) error {
	if ctx.Err() != nil {
		return cause
	}
	if !c.op.outOfOrder() && !temporary(fault.KindOf(cause)) || errors.Is(cause, fault.ErrNotSoon) {
		return cause
	}
	pause, ok := c.op.nextPause()
	if !ok || c.asked == statusLimit {
		return c.broken("the upload broke, and the registry does not tell where to go on: %w", cause)
	}
	if err := sleep(ctx, pause); err != nil {
		return err
	}
	c.asked++
	at, err := c.h.uploadStatus(ctx, c.op)
	switch {
	case err != nil && temporary(fault.KindOf(err)):
		return c.resume(ctx, n, err)
	case err != nil:
		return c.broken("the upload broke, and is not known any more: %w", err)
	case at > c.at+n:
		return c.broken("the upload broke, and the registry has %d bytes of it, of which %d were sent", at, c.at+n)
	}
	c.at = at
	return nil
}

// broken ends the upload, which has to begin anew: whatever the registry said of
// this one is no word about the blob.
func (c *chunks) broken(format string, args ...any) error {
	return c.op.fail(fault.Newf(fault.Transient, c.op.subject, format, args...).Hint("run the same command again"))
}

// uploadStatus asks how many bytes the registry has of the open upload.
func (h *host) uploadStatus(ctx context.Context, op *operation) (int64, error) {
	session, err := op.openedAt()
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, session.String(), nil)
	if err != nil {
		return 0, protocol(op.subject, "the address of an upload: %w", withoutURL(err))
	}
	header, err := h.finish(op, req, http.StatusNoContent, http.StatusAccepted, http.StatusOK)
	if err != nil {
		return 0, err
	}
	at, ok := parseProgress(header.Get("Range"))
	if !ok {
		return 0, protocol(op.subject, "the registry tells %.60q of an upload, which is no range from its start", header.Get("Range"))
	}
	return at, nil
}

// parseProgress reads the Range of an upload: "0-99" says that 100 bytes are
// there. "0-0" is said of an empty one, too; one byte is then sent twice, and the
// registry says so.
func parseProgress(header string) (int64, bool) {
	last, ok := strings.CutPrefix(strings.TrimPrefix(header, "bytes="), "0-")
	end, err := strconv.ParseUint(last, 10, 62)
	switch {
	case !ok || err != nil:
		return 0, false
	case end == 0:
		return 0, true
	}
	return int64(end) + 1, true
}
