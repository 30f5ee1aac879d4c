package wire

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"ferry/pkg/fault"
)

// proxyLogin is the advice where a proxy asks for a login.
const proxyLogin = "the proxy wants a login; put it into HTTP_PROXY and HTTPS_PROXY"

// checkProxies refuses addresses of proxies that are none: net/http would go
// without. Their text stays out of the error, for it may hold a password (N8).
func checkProxies() error {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		value := os.Getenv(name)
		if _, err := url.Parse(value); err == nil || value == "" {
			continue
		}
		if _, err := url.Parse("http://" + value); err != nil {
			return fault.Newf(fault.Usage, name, "the address of the proxy is none").Hint("it is scheme://host:port, with user:password@ before the host where the proxy wants a login")
		}
	}
	return nil
}

// proxyOf is the host of the proxy that requests to at go through, "" for none.
func proxyOf(at *url.URL) string {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: at})
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Host
}

// proxyError is what went wrong on the way through a proxy (N23): without its
// name people look for the fault at the registry.
type proxyError struct {
	proxy string
	err   error
}

func (e *proxyError) Error() string { return fmt.Sprintf("through the proxy %s: %v", e.proxy, e.err) }
func (e *proxyError) Unwrap() error { return e.err }

// byProxy names the proxy that requests to at go through.
func byProxy(at *url.URL, err error) error {
	if proxy := proxyOf(at); proxy != "" {
		return &proxyError{proxy, err}
	}
	return err
}

// proxyRefusal is a proxy's answer to CONNECT that is no success.
type proxyRefusal struct {
	proxy, to string
	status    int
}

func (r *proxyRefusal) Error() string {
	return fmt.Sprintf("the proxy %s answers %d %s to a connection with %s", r.proxy, r.status, http.StatusText(r.status), r.to)
}

// proxyAnswer judges a proxy's answer to CONNECT; net/http itself would tell
// nothing but the words behind the status.
func proxyAnswer(_ context.Context, proxy *url.URL, req *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyRefusal{proxy.Host, req.URL.Opaque, resp.StatusCode}
}

// fault says what a script should do about it.
func (r *proxyRefusal) fault(op *operation) *fault.Error {
	switch {
	case r.status == http.StatusProxyAuthRequired:
		return fault.New(fault.Denied, op.subject, r).Hint(proxyLogin+", for %s", r.proxy)
	case r.status == http.StatusTooManyRequests || r.status >= 500:
		return fault.New(fault.Transient, op.subject, r).
			Hint("run the same command again, or ask whoever runs the proxy whether it can reach %s", r.to)
	}
	return fault.New(fault.Denied, op.subject, r).
		Hint("ask whoever runs the proxy to let %s through, or name it in NO_PROXY", r.to)
}
