package wire

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"unicode"

	"ferry/pkg/fault"
)

// errorLimit is how much of an error document or token answer is read (N9).
const errorLimit = 64 << 10

// refusal is the error document of the distribution-spec, as far as it says
// something.
type refusal struct {
	status int
	code   string // "MANIFEST_UNKNOWN"
	text   string // safe to print
}

// readRefusal reads body, which may be anything, HTML included (N19).
func readRefusal(status int, body []byte) refusal {
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	r := refusal{status: status}
	if json.Unmarshal(body, &doc) == nil && len(doc.Errors) > 0 {
		r.code, r.text = printable(doc.Errors[0].Code), printable(doc.Errors[0].Message)
	}
	return r
}

// printable keeps what a terminal can show, at most 200 characters.
func printable(s string) string {
	s = strings.Map(func(c rune) rune {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, s)
	if runes := []rune(s); len(runes) > 200 {
		return string(runes[:200])
	}
	return s
}

func (r refusal) Error() string {
	s := fmt.Sprintf("the registry answers %d %s", r.status, http.StatusText(r.status))
	for _, more := range []string{r.code, r.text} {
		if more != "" {
			s += ": " + more
		}
	}
	return strings.TrimRight(s, " ")
}

// kind classifies the refusal. A code may say more than the status: some
// registries hide "denied" behind 404 and "too many requests" behind others.
func (r refusal) kind() *fault.Kind {
	switch r.code {
	case "DENIED", "UNAUTHORIZED":
		if r.status < 500 {
			return fault.Denied
		}
	case "TOOMANYREQUESTS":
		return fault.RateLimited
	case "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN":
		return fault.NotFound // of a manifest that was sent: a part of it
	}
	switch r.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return fault.Denied
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusTooManyRequests:
		return fault.RateLimited
	case http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusRequestEntityTooLarge,
		http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return fault.Unsupported
	case http.StatusRequestTimeout, http.StatusTooEarly, 499:
		return fault.Transient
	}
	switch {
	case r.code == "UNSUPPORTED":
		return fault.Unsupported
	case r.status >= 500:
		return fault.Transient
	}
	return fault.Protocol
}

// temporary reports whether asking again may help.
func temporary(kind *fault.Kind) bool { return kind == fault.Transient || kind == fault.RateLimited }

func (r refusal) fault(op *operation) *fault.Error {
	kind := r.kind()
	f := fault.New(kind, op.subject, r)
	host := op.repo.Host
	switch {
	case r.status == http.StatusProxyAuthRequired:
		return f.Hint("the proxy wants a login; put it into HTTP_PROXY and HTTPS_PROXY")
	case kind == fault.Denied && r.status == http.StatusUnauthorized:
		return f.Hint("give a login for %s, or correct it", host)
	case kind == fault.Denied:
		return f.Hint("the login for %s lacks the right to this repository, or the licence does not cover it", host)
	case kind == fault.RateLimited:
		return f.Hint("run the same command again later; it continues")
	case kind == fault.Transient:
		return f.Hint("run the same command again; it continues")
	case r.status == http.StatusRequestEntityTooLarge:
		return f.Hint("raise the limit for request bodies at %s or the proxy in front of it", host)
	}
	return f
}

// networkFault classifies a request that got no answer.
func networkFault(op *operation, err error) *fault.Error {
	err = withoutURL(err)
	var (
		own       *fault.Error
		unknownCA x509.UnknownAuthorityError
		cert      *tls.CertificateVerificationError
		hostname  x509.HostnameError
		record    tls.RecordHeaderError
		dns       *net.DNSError
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &unknownCA), errors.As(err, &cert), errors.As(err, &hostname):
		return fault.New(fault.Protocol, op.subject, err).
			Hint("name the CA of %s in SSL_CERT_FILE, or give --tls-skip-verify", op.repo.Host)
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fault.New(fault.Protocol, op.subject, err).
			Hint("%s does not speak TLS; allow plain HTTP for it if that is meant", op.repo.Host)
	case strings.Contains(err.Error(), http.StatusText(http.StatusProxyAuthRequired)):
		return fault.New(fault.Denied, op.subject, err).
			Hint("the proxy wants a login; put it into HTTPS_PROXY")
	case errors.As(err, &dns):
		return fault.New(fault.Transient, op.subject, err).
			Hint("check the name %s and the name server", op.repo.Host)
	}
	return fault.New(fault.Transient, op.subject, err).Hint("run the same command again; it continues")
}
