package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
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
	later  bool   // it says when to come back
}

// readRefusal reads body, which may be anything, HTML included (N19). What repeats
// one of secrets is not kept.
func readRefusal(status int, body []byte, secrets []string) refusal {
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	r := refusal{status: status}
	if json.Unmarshal(body, &doc) == nil && len(doc.Errors) > 0 {
		code, message := doc.Errors[0].Code, doc.Errors[0].Message
		if repeats(message, secrets) {
			message = echoed
		}
		if repeats(code, secrets) {
			code = ""
		}
		r.code, r.text = printable(code), printable(message)
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
	if r.later && r.status == http.StatusForbidden { // a right that comes by waiting is a limit (Q29)
		return fault.RateLimited
	}
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

// fault is the refusal as an error about op, with what is known of such
// refusals (S2.6).
func (r refusal) fault(op *operation) *fault.Error {
	f := fault.New(r.kind(), op.subject, r)
	host := op.repo.Host
	switch cause := r.cause(op); cause {
	case nil:
		if r.status == http.StatusProxyAuthRequired {
			f.Hint(proxyLogin)
		}
		return f
	case fault.ArtifactRefused:
		// Quay, and whoever is like it, says only that the manifest is invalid.
		return fault.New(fault.Unsupported, op.subject, r).Because(cause).Hint("it must take %s", op.artifactTypes())
	case fault.Unauthorized:
		f.Hint("give a login for %s, or correct it", host)
	case fault.Forbidden:
		f.Hint("the login for %s lacks the right to this repository, or the licence does not cover it", host)
	case fault.TooManyRequests:
		f.Hint("run the same command again later")
	case fault.ServerError, fault.Timeout:
		f.Hint("run the same command again")
	case fault.BodyTooLarge:
		f.Hint("raise the limit for request bodies at %s or the proxy in front of it", host)
	}
	return f.Because(r.cause(op))
}

// cause names what mostly stands behind such a refusal, nil where nothing
// certain can be said.
func (r refusal) cause(op *operation) *fault.Cause {
	switch kind := r.kind(); {
	case r.status == http.StatusProxyAuthRequired:
		return nil
	case op.verb.writes() && r.full():
		return fault.TargetFull
	case kind == fault.Denied && (r.status == http.StatusUnauthorized || r.code == "UNAUTHORIZED" && r.status != http.StatusForbidden):
		return fault.Unauthorized
	case kind == fault.Denied:
		return fault.Forbidden
	case kind == fault.RateLimited:
		return fault.TooManyRequests
	case kind == fault.NotFound:
		return r.missing(op)
	case kind == fault.Transient && r.status >= 500:
		return fault.ServerError
	case r.status == http.StatusRequestTimeout:
		return fault.Timeout
	case r.status == http.StatusRequestEntityTooLarge:
		return fault.BodyTooLarge
	case op.verb == verbPutManifest && op.isArtifact() &&
		(r.code == "MANIFEST_INVALID" || r.status == http.StatusUnsupportedMediaType):
		return fault.ArtifactRefused
	case op.verb == verbPutManifest && r.status >= 400 && r.status < 500 && (r.code == "MANIFEST_INVALID" || kind == fault.Unsupported):
		return fault.ManifestRefused
	}
	return nil
}

// full reports whether there is no room for what was sent (Q38). Only the words
// tell most of these refusals from a lack of rights.
func (r refusal) full() bool {
	text := strings.ToLower(r.text)
	return r.status == http.StatusInsufficientStorage ||
		slices.ContainsFunc([]string{"quota", "no space left", "insufficient storage"}, func(s string) bool { return strings.Contains(text, s) })
}

// missing tells what a "not found" is about. The part of a manifest that was
// sent, and an upload that the registry forgot, are no images.
func (r refusal) missing(op *operation) *fault.Cause {
	switch {
	case r.code == "NAME_UNKNOWN", op.verb == verbTags, op.verb == verbProbe:
		return fault.RepositoryNotFound
	case op.verb == verbPutManifest && r.code == "MANIFEST_INVALID":
		return fault.ManifestRefused
	case op.verb.writes():
		return nil
	}
	return fault.ImageNotFound
}

// networkFault classifies a request that got no answer. A connection that ended
// too early says so, whatever was under way (S2.6).
func networkFault(op *operation, err error) *fault.Error {
	err = withoutURL(err)
	var (
		own       *fault.Error
		unknownCA x509.UnknownAuthorityError
		cert      *tls.CertificateVerificationError
		hostname  x509.HostnameError
		record    tls.RecordHeaderError
		dns       *net.DNSError
		proxied   *proxyError
		refused   *proxyRefusal
	)
	place := op.repo.Host
	if errors.As(err, &proxied) {
		place += " through the proxy " + proxied.proxy
	}
	transient := fault.New(fault.Transient, op.subject, err)
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return transient.Because(fault.ConnectionCut)
	case errors.As(err, &unknownCA), errors.As(err, &cert), errors.As(err, &hostname):
		return fault.New(fault.Protocol, op.subject, err).Because(fault.Certificate).
			Hint("name the CA of %s in SSL_CERT_FILE, or give --tls-skip-verify", place)
	case isOp(err, "remote error") && !strings.Contains(err.Error(), "internal error"): // an alert, but the one that may pass by itself
		return fault.New(fault.Protocol, op.subject, err).Because(fault.Certificate).
			Hint("%s refuses the TLS connection", op.repo.Host)
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fault.New(fault.Protocol, op.subject, err).Because(fault.NoTLS).
			Hint("%s does not speak TLS; allow plain HTTP for it if that is meant", op.repo.Host)
	case errors.As(err, &refused):
		return refused.fault(op)
	case strings.Contains(err.Error(), "ENHANCE_YOUR_CALM"): // a stream or a connection of HTTP/2 (N15)
		return fault.Newf(fault.RateLimited, op.subject, "the registry ends the connection for too many requests (ENHANCE_YOUR_CALM)").
			Because(fault.TooManyRequests).Hint("run the same command again later")
	case errors.As(err, &dns):
		return transient.Because(fault.NameLookup).Hint("check the name %s and the name server", op.repo.Host)
	case isTimeout(err):
		return transient.Because(fault.Timeout)
	case isOp(err, "dial"), isOp(err, "proxyconnect"):
		return transient.Because(fault.Unreachable).Hint("check that %s can be reached from here", place)
	}
	if isOp(err, "read") || isOp(err, "write") {
		transient.Because(fault.ConnectionCut)
	}
	return transient.Hint("run the same command again")
}

// isTimeout reports silence, an expired deadline, or what net/http and the
// system call a time-out.
func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, errStalled) || errors.Is(err, errDeadline) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// isOp reports whether err is of the network operation of that name.
func isOp(err error, name string) bool {
	var netErr *net.OpError
	return errors.As(err, &netErr) && netErr.Op == name
}
