package wire

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/ref"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// CheckWrite implements registry.Target: it opens an upload and cancels it.
// regclient has no word for an upload without a blob.
func (c *Client) CheckWrite(ctx context.Context, repo oci.Repository) error {
	op := newOperation(verbProbe, oci.Reference{Repository: repo})
	t := c.host(repo.Host).transport
	return c.do(ctx, op, func(ctx context.Context, _ *reg.Reg, _ ref.Ref) error {
		// The session is closed while the operation, and so its login, lives.
		defer t.closeSession(ctx, op)
		return t.openSession(ctx, op)
	})
}

// openSession asks for an upload session, which trackSession remembers.
func (t *transport) openSession(ctx context.Context, op *operation) error {
	at := url.URL{Scheme: t.self.scheme, Host: t.self.host, Path: "/v2/" + op.repo.Path + "/blobs/uploads/"}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), nil)
	if err != nil {
		return protocol(op.subject, "the address of an upload: %w", err)
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, errorLimit)) // for the connection to be used again
	op.mu.Lock()
	refusal, session := op.refusal, op.session
	op.mu.Unlock()
	switch {
	case refusal != nil:
		return refusal
	case resp.StatusCode != http.StatusAccepted || session == nil:
		return fault.Newf(fault.Protocol, op.subject, "the registry answers %d to the start of an upload, without an address for it", resp.StatusCode).
			Hint("check that %s is a registry and not a web page in front of it", op.repo.Host)
	}
	return nil
}
