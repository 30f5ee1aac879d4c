package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// bodies is how large a request body a registry takes, as it has been found out:
// whole blobs are sent until one is refused as too large (Q8). What some proxies
// allow at least is 1 MiB, from 64 MiB on six halvings away.
type bodies struct {
	most  atomic.Int64 // what went through after a refusal; 0 while nothing was refused
	least atomic.Int64 // of a chunk but the last, as the registry says (OCI-Chunk-Min-Length)
}

const (
	firstChunk = 64 << 20
	leastChunk = 64 << 10
	// statusAsks is how often an upload asks where it stands: some registries
	// never say it right (Q10).
	statusAsks = 2
)

// take reports whether a blob of so many bytes may be sent as one body.
func (b *bodies) take(size int64) bool {
	most := b.most.Load()
	return most == 0 || size <= most
}

// first is the size of the first chunk of a blob.
func (b *bodies) first(size int64) int64 {
	if most := b.most.Load(); most > 0 {
		return max(most, b.least.Load())
	}
	return max(min(firstChunk, size/2), leastChunk, b.least.Load())
}

// floor is the smallest chunk that is tried.
func (b *bodies) floor() int64 { return max(leastChunk, b.least.Load()) }

// heed reads what an answer to the start of an upload says of chunks.
func (b *bodies) heed(header http.Header) {
	if n, err := strconv.ParseInt(header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && n > 0 && n <= firstChunk {
		b.least.Store(n)
	}
}

// chunked is an upload in chunks.
type chunked struct {
	host *host
	op   *operation
	desc oci.Descriptor
	src  *source
	at   int64 // bytes that the registry has taken
	asks int   // for the status that may still be made, after a 416
	most int64 // the highest that at was
	// breaks are those since most grew.
	breaks int
	told   bool // at is the registry's word, and no chunk has proven it
}

// putChunks sends the blob in chunks, halving them as long as they are too large,
// and keeps in mind what went through.
func (h *host) putChunks(ctx context.Context, op *operation, desc oci.Descriptor, src *source) error {
	if _, err := h.openSession(ctx, op); err != nil {
		return err
	}
	c := &chunked{host: h, op: op, desc: desc, src: src, asks: statusAsks}
	size, halved := h.bodies.first(desc.Size), false
	for c.at < desc.Size {
		n := min(size, desc.Size-c.at)
		err := c.send(ctx, n)
		switch {
		case err == nil:
			c.at, c.told = c.at+n, false
			c.progress()
			if halved || h.bodies.most.Load() == 0 {
				h.bodies.most.Store(size)
				halved = false
			}
		case temporary(fault.KindOf(err)):
			if err := c.resume(ctx, n, err); err != nil {
				return err
			}
		case !op.tooLarge():
			return c.unsupported(err)
		default:
			misplaced := op.status == http.StatusRequestedRangeNotSatisfiable
			moved, askErr := c.moved(ctx)
			if askErr != nil {
				return askErr
			}
			if moved {
				continue
			}
			if misplaced && c.told {
				return c.broken("the registry refuses the upload where it said that it stands: %w", err)
			}
			if size <= h.bodies.floor() {
				return err
			}
			size, halved = max(size/2, h.bodies.floor()), true
		}
	}
	return h.commit(ctx, op, desc, nil)
}

// send sends the next n bytes. Where the answer says how many are there is left
// unheeded: some registries always say the same (Q10), and the digest tells in the
// end.
func (c *chunked) send(ctx context.Context, n int64) error {
	req, err := c.op.uploadRequest(ctx, http.MethodPatch)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", c.at, c.at+n-1))
	if err := c.src.body(req, c.at, n); err != nil {
		return err
	}
	// 202 is right; 201 and 204 are seen, too (Q7).
	_, err = c.host.finish(c.op, req, http.StatusAccepted, http.StatusCreated, http.StatusNoContent)
	return err
}

// progress notes that the upload has got further.
func (c *chunked) progress() {
	if c.at > c.most {
		c.most, c.breaks = c.at, 0
		c.op.moved()
	}
}

// moved asks, after a 416, from where the registry goes on, and reports whether
// that is elsewhere than here; then it is here. At some registries the same status
// means that the chunk was too large.
func (c *chunked) moved(ctx context.Context) (bool, error) {
	if c.op.status != http.StatusRequestedRangeNotSatisfiable || c.asks == 0 {
		return false, nil
	}
	c.asks--
	at, err := c.where(ctx)
	if err != nil || at > c.desc.Size {
		return false, ctx.Err() // no answer is no other place
	}
	moved := at != c.at
	c.at, c.told = at, c.told || moved
	return moved, nil
}

// resume goes on where the registry says that the upload is, after a chunk of n
// bytes that cause has broken: a bad line costs a chunk, not the blob.
func (c *chunked) resume(ctx context.Context, n int64, cause error) error {
	if ctx.Err() != nil || errors.Is(cause, fault.ErrNotSoon) {
		return cause
	}
	pause, ok := c.op.nextPause()
	if !ok || c.breaks == statusAsks {
		return c.broken("the upload broke, and the registry does not tell where to go on: %w", cause)
	}
	if err := sleep(ctx, pause); err != nil {
		return err
	}
	c.breaks++
	at, err := c.where(ctx)
	switch {
	case err != nil && temporary(fault.KindOf(err)):
		return c.resume(ctx, n, err)
	case err != nil:
		return c.broken("the upload broke, and is not known any more: %w", err)
	case at > c.at+n:
		return c.broken("the upload broke, and the registry has %d bytes of it, of which %d were sent", at, c.at+n)
	}
	c.at, c.told = at, true
	return nil
}

// broken ends the upload, which has to begin anew: whatever the registry said of
// this one is no word about the blob.
func (c *chunked) broken(format string, args ...any) error {
	return c.op.fail(fault.Newf(fault.Transient, c.op.subject, format, args...).Hint("run the same command again"))
}

// where asks how many bytes the registry has of the open upload.
func (c *chunked) where(ctx context.Context) (int64, error) {
	req, err := c.op.uploadRequest(ctx, http.MethodGet)
	if err != nil {
		return 0, err
	}
	header, err := c.host.finish(c.op, req, http.StatusNoContent, http.StatusAccepted, http.StatusOK)
	if err != nil {
		return 0, err
	}
	at, ok := parseProgress(header.Get("Range"))
	if !ok {
		return 0, protocol(c.op.subject, "the registry tells %.60q of an upload, which is no range from its start", header.Get("Range"))
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

// unsupported says why the blob cannot be sent, when there are no chunks at a
// registry that would not take it whole (Q9).
func (c *chunked) unsupported(err error) error {
	switch c.op.status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return fault.Newf(fault.Unsupported, c.op.subject, "the registry refuses the blob of %d bytes as too large, and takes no chunks: %w", c.desc.Size, err).
			Because(fault.BodyTooLarge).Hint("raise the limit for request bodies at %s or the proxy in front of it", c.op.repo.Host)
	}
	return err
}

// commit ends the upload, with what is left of the blob as its body.
func (h *host) commit(ctx context.Context, op *operation, desc oci.Descriptor, rest *source) error {
	req, err := op.uploadRequest(ctx, http.MethodPut)
	if err != nil {
		return err
	}
	req.URL.RawQuery = withDigest(req.URL.RawQuery, desc.Digest)
	req.Header.Set("Content-Type", "application/octet-stream")
	if rest != nil && desc.Size > 0 {
		if err := rest.body(req, 0, desc.Size); err != nil {
			return err
		}
	}
	early := op.early
	_, err = h.finish(op, req, http.StatusCreated, http.StatusNoContent)
	if err == nil || op.tooLarge() || !early && op.status >= 300 {
		return err
	}
	// Another success than the two, or a refusal after a chunk was answered as if
	// the blob were there: whether it is, the registry tells its readers (Q7).
	if there, ok := h.askBlob(ctx, op); ok && there {
		return nil
	}
	return err
}

// askBlob asks whether the blob of op is there; ok is false where that was not
// answered.
func (h *host) askBlob(ctx context.Context, op *operation) (there, ok bool) {
	req, err := h.request(ctx, http.MethodHead, op.repo, "/blobs/"+string(op.ref.Digest), nil)
	if err != nil {
		return false, false
	}
	if _, err = h.finish(op, req, http.StatusOK); err == nil {
		return true, true
	}
	return false, fault.KindOf(err) == fault.NotFound
}

// body makes n bytes of the source, from start on, the body of req.
func (s *source) body(req *http.Request, start, n int64) error {
	req.ContentLength = n // always said: old proxies want it (Q43)
	req.GetBody = func() (io.ReadCloser, error) {
		if s.at != start || start == 0 {
			if _, err := s.Seek(start, io.SeekStart); err != nil {
				return nil, err
			}
		}
		return io.NopCloser(io.LimitReader(s, n)), nil
	}
	var err error
	req.Body, err = req.GetBody()
	return err
}
