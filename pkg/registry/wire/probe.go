package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry"
)

var _ registry.Prober = (*Client)(nil)

// askRetries is how often a question is repeated that met a failure which may
// heal: a registry that answers 500 to what it does not know will do so again,
// and there are many questions.
const askRetries = 2

// Ask implements registry.Prober.
func (c *Client) Ask(ctx context.Context, q registry.Question) (registry.Answer, error) {
	op := newOperation(verbAsk, oci.Reference{Repository: q.Repository})
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		op.verb = verbAskWrite
	}
	op.deletes, op.from = q.Method == http.MethodDelete, q.From
	var answer registry.Answer
	err := c.do(ctx, op, func(ctx context.Context, h *host) error {
		defer h.transport.closeSession(ctx, op)
		op.limitRetries(askRetries)
		req, err := h.request(ctx, q.Method, q.Repository, q.Path, nil)
		if err != nil {
			return err
		}
		if q.Body != nil {
			setBody(req, int64(len(q.Body)), func() io.Reader { return bytes.NewReader(q.Body) })
			req.Header.Set("Content-Type", q.MediaType)
		}
		if len(q.Query) > 0 {
			req.URL.RawQuery = q.Query.Encode()
		}
		if op.verb == verbAsk {
			req.Header["Accept"] = manifestTypes
		}
		answer, err = h.ask(op, req)
		return err
	})
	return answer, err
}

// ask makes a request of op, and takes a refusal for the answer that it is.
func (h *host) ask(op *operation, req *http.Request) (registry.Answer, error) {
	resp, err := h.exchange(op, req)
	var said refusal
	switch {
	case errors.As(err, &said):
		return registry.Answer{Status: said.status, Kind: said.kind(), Code: said.code, Text: said.text}, nil
	case err != nil:
		return registry.Answer{}, err
	}
	body, err := readWhole(resp, oci.ManifestLimit)
	resp.Body.Close()
	if err != nil {
		return registry.Answer{}, networkFault(op, err)
	}
	return registry.Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// AskUpload implements registry.Prober.
func (c *Client) AskUpload(ctx context.Context, repo oci.Repository, trial registry.Trial) (registry.UploadAnswer, error) {
	op := newOperation(verbProbe, oci.Reference{Repository: repo})
	op.size = trial.Zeros
	var answer registry.UploadAnswer
	err := c.do(ctx, op, func(ctx context.Context, h *host) error {
		op.limitRetries(askRetries)
		req, err := h.request(ctx, http.MethodPost, repo, "/blobs/uploads/", nil)
		if err != nil {
			return err
		}
		if answer.Begin, err = h.ask(op, req); err != nil {
			return err
		}
		if trial.Zeros > 0 && op.open() != nil {
			answer.Sent, err = h.askZeros(ctx, op, trial)
		}
		answer.Cancel = h.cancel(ctx, op) // also when the bytes were not taken: the session stays
		return err
	})
	return answer, err
}

// wrongDigest is of bytes that are not zeros: an upload that ends with it leaves
// nothing.
var wrongDigest = oci.DigestOf([]byte("an upload that must not succeed"))

// askZeros sends zeros into the open upload. It waits for the registry to want
// them: one that refuses so many says so before they are on their way.
func (h *host) askZeros(ctx context.Context, op *operation, trial registry.Trial) (registry.Answer, error) {
	session, method := op.open(), http.MethodPatch
	if trial.Whole {
		method = http.MethodPut
	}
	req, err := op.uploadRequest(ctx, method)
	if err != nil {
		return registry.Answer{}, err
	}
	if trial.Whole {
		req.URL.RawQuery = withDigest(req.URL.RawQuery, wrongDigest)
	}
	setBody(req, trial.Zeros, func() io.Reader { return io.LimitReader(zeros{}, trial.Zeros) })
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Expect", "100-continue")
	answer, err := h.ask(op, req)
	if !trial.Whole && op.open() == nil { // the answer named no address: it is the old one
		op.reopen(session)
	}
	return answer, err
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// setBody gives req a body that can be sent again.
func setBody(req *http.Request, size int64, open func() io.Reader) {
	req.ContentLength = size
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(open()), nil }
	req.Body = io.NopCloser(open())
}

// cancel cancels the open upload, if there is one, and tells how the registry
// answered to that.
func (h *host) cancel(ctx context.Context, op *operation) registry.Answer {
	session := op.takeSession()
	if session == nil {
		return registry.Answer{}
	}
	err := h.transport.deleteSession(ctx, op, session)
	var said refusal
	switch {
	case err == nil:
		return registry.Answer{Status: http.StatusNoContent}
	case errors.As(err, &said):
		return registry.Answer{Status: said.status, Kind: said.kind()}
	}
	return registry.Answer{Kind: fault.Transient, Text: printable(err.Error())}
}

// limitRetries makes the operation less patient.
func (op *operation) limitRetries(most int) {
	op.mu.Lock()
	defer op.mu.Unlock()
	op.limit = min(op.limit, most)
	op.retries = min(op.retries, most)
}
