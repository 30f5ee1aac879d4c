package wire

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// CheckWrite implements registry.Target: it opens an upload and cancels it.
func (c *Client) CheckWrite(ctx context.Context, repo oci.Repository) error {
	op := newOperation(verbProbe, oci.Reference{Repository: repo})
	return c.do(ctx, op, func(ctx context.Context, h *host) error {
		// The session is closed while the operation, and so its login, lives.
		defer h.transport.closeSession(ctx, op)
		_, err := h.openSession(ctx, op)
		return err
	})
}

// openSession asks for an upload session and returns its address, which
// trackSession remembers, too.
func (h *host) openSession(ctx context.Context, op *operation) (*url.URL, error) {
	req, err := h.request(ctx, http.MethodPost, op.repo, "/blobs/uploads/", nil)
	if err != nil {
		return nil, err
	}
	header, err := h.finish(op, req, http.StatusAccepted)
	if err != nil {
		return nil, err
	}
	h.bodies.heed(header)
	return op.openedAt()
}

// PutBlob implements registry.Target. Every try is a new upload session.
func (c *Client) PutBlob(ctx context.Context, repo oci.Repository, desc oci.Descriptor, body io.ReadSeeker) error {
	ctx, stop := withDeadline(ctx, c.opts.Timeout) // of all tries together
	defer stop()
	pauses := &operation{retries: c.opts.Retries, backoff: c.opts.Backoff}
	for {
		err := c.putBlob(ctx, repo, desc, body)
		if !temporary(fault.KindOf(err)) || errors.Is(err, fault.ErrNotSoon) || ctx.Err() != nil {
			return err
		}
		pause, ok := pauses.nextPause()
		if !ok {
			return err
		}
		if errors.Is(sleep(ctx, pause), errDeadline) {
			return deadlineFault(repo.WithDigest(desc.Digest).String())
		}
		if ctx.Err() != nil {
			return fault.New(fault.KindOf(ctx.Err()), repo.WithDigest(desc.Digest).String(), ctx.Err())
		}
	}
}

func (c *Client) putBlob(ctx context.Context, repo oci.Repository, desc oci.Descriptor, body io.ReadSeeker) error {
	op := newOperation(verbPutBlob, repo.WithDigest(desc.Digest))
	op.size = desc.Size
	src := &source{blob: body, size: desc.Size, subject: op.subject}
	err := c.do(ctx, op, func(ctx context.Context, h *host) error {
		src.moved = h.limits.of(op.size).moved
		if h.bodies.take(desc.Size) {
			err := h.putWhole(ctx, op, desc, src)
			if err == nil || !op.tooLarge() {
				return err
			}
			h.transport.closeSession(ctx, op)
		}
		return h.putChunks(ctx, op, desc, src)
	})
	if err != nil && src.failure != nil {
		return src.failure // not the registry's doing
	}
	return err
}

// putWhole sends the blob in one request, behind the one that opens a session.
func (h *host) putWhole(ctx context.Context, op *operation, desc oci.Descriptor, src *source) error {
	if _, err := h.openSession(ctx, op); err != nil {
		return err
	}
	return h.commit(ctx, op, desc, src)
}

// open is the address of the operation's upload, nil where none is open.
func (op *operation) open() *url.URL {
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.session
}

func (op *operation) reopen(session *url.URL) {
	op.mu.Lock()
	defer op.mu.Unlock()
	op.session = session
}

// takeSession is open, and leaves the upload to the caller.
func (op *operation) takeSession() *url.URL {
	op.mu.Lock()
	defer op.mu.Unlock()
	session := op.session
	op.session = nil
	return session
}

// openedAt is the address of the open upload.
func (op *operation) openedAt() (*url.URL, error) {
	session := op.open()
	if session == nil {
		return nil, protocol(op.subject, "the registry accepts the start of an upload, without an address for it").
			Hint("check that %s is a registry and not a web page in front of it", op.repo.Host)
	}
	return session, nil
}

// tooLarge reports whether the last refusal was for the size of the body, which
// smaller ones may heal (Q8: some registries say 416).
func (op *operation) tooLarge() bool {
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.refusal != nil && (op.status == http.StatusRequestEntityTooLarge || op.status == http.StatusRequestedRangeNotSatisfiable)
}

// uploadRequest is a request about the open upload, without a body.
func (op *operation) uploadRequest(ctx context.Context, method string) (*http.Request, error) {
	session, err := op.openedAt()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, session.String(), nil)
	if err != nil {
		return nil, protocol(op.subject, "the address of an upload: %w", withoutURL(err))
	}
	return req, nil
}

// withDigest adds a digest to the query of an upload's address, which must stay
// as it is (Q12).
func withDigest(query string, digest oci.Digest) string {
	if query != "" {
		query += "&"
	}
	return query + "digest=" + url.QueryEscape(string(digest))
}

// source is a blob to send. It remembers when the fault is ours.
type source struct {
	blob    io.ReadSeeker
	size    int64
	at      int64
	subject string
	moved   func(int)
	failure error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.blob.Read(p)
	s.at += int64(n)
	s.moved(n)
	switch {
	case err == io.EOF && s.at != s.size:
		return n, s.fail(fault.Newf(fault.Damaged, s.subject, "the blob has %d bytes here, want %d", s.at, s.size))
	case err != nil && err != io.EOF:
		return n, s.fail(err)
	}
	return n, err
}

func (s *source) Seek(offset int64, whence int) (int64, error) {
	at, err := s.blob.Seek(offset, whence)
	s.at = at
	if err != nil {
		err = s.fail(err)
	}
	return at, err
}

func (s *source) fail(err error) error {
	if fault.KindOf(err) == nil {
		err = fault.New(fault.Local, s.subject, err)
	}
	s.failure = err
	return err
}
