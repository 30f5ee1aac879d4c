package wire

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// address is where what stands at path below the repository is.
func (h *host) address(repo oci.Repository, path string) *url.URL {
	self := h.transport.self
	return &url.URL{Scheme: self.scheme, Host: self.host, Path: "/v2/" + repo.Path + path}
}

// request is one to the registry itself, about what stands at path below the
// repository.
func (h *host) request(ctx context.Context, method string, repo oci.Repository, path string, body io.Reader) (*http.Request, error) {
	at := h.address(repo, path)
	req, err := http.NewRequestWithContext(ctx, method, at.String(), body)
	if err != nil {
		return nil, protocol(repo.String(), "the address %s%s: %w", repo.Path, path, withoutURL(err))
	}
	return req, nil
}

// exchange makes a request of op, redirects included, and returns the success.
// A refusal is an error.
func (h *host) exchange(op *operation, req *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	if req.Body == nil && op.verb != verbBlob { // what takes long is the way
		h.limits.brief.answered(time.Since(began))
	}
	op.mu.Lock()
	refusal := op.refusal
	op.mu.Unlock()
	if refusal != nil {
		resp.Body.Close()
		return nil, refusal
	}
	return resp, nil
}

// page asks for one page of a list; op.answer is what came. Where it leads is for the
// transport to judge (N5).
func (c *Client) page(ctx context.Context, op *operation, at *url.URL, accept string) error {
	return c.do(ctx, op, func(ctx context.Context, h *host) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			return protocol(op.subject, "the list continues at an address that is none")
		}
		req.Header.Set("Accept", accept)
		_, err = h.exchange(op, req)
		return err
	})
}

// finish makes a request whose answer has to have one of the statuses, and
// whose body says nothing.
func (h *host) finish(op *operation, req *http.Request, statuses ...int) (http.Header, error) {
	resp, err := h.exchange(op, req)
	if err != nil {
		return nil, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, errorLimit)) // for the connection to be used again
	resp.Body.Close()
	for _, status := range statuses {
		if resp.StatusCode == status {
			return resp.Header, nil
		}
	}
	return nil, fault.Newf(fault.Protocol, op.subject, "the registry answers %d to a %s, want %d", resp.StatusCode, req.Method, statuses[0]).
		Hint("check that %s is a registry and not a web page in front of it", op.repo.Host)
}
