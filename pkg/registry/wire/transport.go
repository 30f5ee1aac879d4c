package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// origin is what a credential belongs to: scheme, host and port.
type origin struct{ scheme, host string }

func originOf(u *url.URL) origin { return origin{u.Scheme, u.Host} }

// normal spells the default port out, so that two spellings are equal.
func (o origin) normal() origin {
	o.host = strings.ToLower(o.host)
	if _, _, err := net.SplitHostPort(o.host); err != nil {
		port := "443"
		if o.scheme == "http" {
			port = "80"
		}
		o.host = net.JoinHostPort(strings.Trim(o.host, "[]"), port)
	}
	return o
}

func (o origin) same(other origin) bool { return o.normal() == other.normal() }

// connections are what requests leave on: an http.Transport.
type connections interface {
	http.RoundTripper
	CloseIdleConnections()
}

// transport is the http.RoundTripper for one registry. It repeats what failed
// transiently, logs in, keeps credentials and uploads at the registry's own
// origin (N3 to N5), bounds what is read (N9), and gives up on silence (N16).
type transport struct {
	opts   Options
	base   connections
	self   origin
	auth   *authorizer
	limits limits

	nearness sync.Map // by host, what near has found out

	quiet silence
}

// maxRequests ends an operation that makes requests without a byte moving.
const maxRequests = 40

// staleConnections is how many connections that had been closed meanwhile a request
// may meet: as many as may lie idle, for others put theirs back all the time.
const staleConnections = MaxConcurrency

// RoundTrip implements http.RoundTripper for the requests of operations.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	op := operationOf(req.Context())
	if op == nil {
		return nil, errors.New("wire: a request outside of any operation")
	}
	if err := t.guard(op, req); err != nil {
		return nil, op.fail(err)
	}
	logins, stale := 0, 0
	for first := true; ; first = false {
		sent, release, err := t.prepare(op, req, first)
		if err != nil {
			return nil, op.fail(networkFault(op, err))
		}
		resp, err := t.send(op, sent)
		release()
		if err != nil && stale < staleConnections && strings.Contains(err.Error(), "server closed idle connection") {
			// Some proxies close what nobody uses without a word (Q43). It says
			// nothing of the registry, and net/http repeats reads alone.
			stale++
			t.base.CloseIdleConnections()
			continue
		}
		if err == nil && resp.StatusCode == http.StatusUnauthorized && logins < 2 && t.self.same(originOf(req.URL)) {
			// A token may expire at any request, and a challenge may ask
			// for more than the last one: two logins a request (N17).
			logins++
			again, err := t.auth.challenged(req.Context(), op, sent, resp)
			if err != nil {
				return nil, op.fail(networkFault(op, err))
			}
			if again {
				continue
			}
		}
		resp, again, err := t.judge(op, req, resp, err)
		if !again {
			return resp, err
		}
	}
}

// guard refuses requests that a registry may not make us send.
func (t *transport) guard(op *operation, req *http.Request) *fault.Error {
	op.mu.Lock()
	op.requests++
	requests, failure := op.requests, op.failure
	op.mu.Unlock()
	switch {
	case failure != nil:
		return failure
	case requests > maxRequests:
		return protocol(op.subject, "%s sends us in circles", op.repo.Host)
	case t.self.same(originOf(req.URL)):
		return nil
	case req.Response == nil:
		return protocol(op.subject, "%s points to another host, %s", op.repo.Host, req.URL.Host)
	}
	return nil
}

// prepare returns the request to send: a copy with login, or, to another
// origin, without anything that is the registry's. release must be called
// when the answer is there; from then on the body is not read any more.
func (t *transport) prepare(op *operation, req *http.Request, first bool) (sent *http.Request, release func(), err error) {
	if err := t.waitForPause(req.Context(), op); err != nil {
		return nil, nil, err
	}
	if err := t.limits.of(op.size).goOn(req.Context()); err != nil {
		return nil, nil, err
	}
	sent = req.WithContext(req.Context()) // a copy, but for its address and header
	sent.Header = req.Header.Clone()
	sent.Header.Set("User-Agent", t.opts.UserAgent)
	if !t.self.same(originOf(req.URL)) {
		for _, name := range []string{"Authorization", "Cookie", "Referer"} {
			sent.Header.Del(name)
		}
	} else if err := t.auth.authorize(req.Context(), op, sent); err != nil {
		return nil, nil, err
	}
	op.askRange(sent)
	body, err := requestBody(req, first)
	if err != nil || body == nil {
		return sent, func() {}, err
	}
	guarded := &sendBody{body: body}
	sent.Body = guarded
	sent.GetBody = nil
	return sent, guarded.stop, nil
}

// requestBody returns the body from its start.
func requestBody(req *http.Request, first bool) (io.ReadCloser, error) {
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		return nil, nil
	case first || req.GetBody == nil:
		return req.Body, nil
	}
	return req.GetBody()
}

// sendBody is a request body that can be taken away. net/http may still read a
// body after it has returned an answer, while the same file is already being
// read from its start for the next try.
type sendBody struct {
	mu       sync.Mutex
	body     io.ReadCloser
	stopped  bool
	progress func()
}

func (b *sendBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return 0, errors.New("the request is over")
	}
	if b.progress != nil {
		b.progress()
	}
	return b.body.Read(p)
}

func (b *sendBody) Close() error { return nil } // the caller's reader stays open

func (b *sendBody) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
}

// errStalled ends a request in which nothing moves.
var errStalled = errors.New("no byte moved within the idle timeout")

// commitPatience is how many idle timeouts an upload may take between its last
// byte and the answer: registries hash and move the whole blob in that time.
const commitPatience = 5

// send does one exchange under the idle timeout.
func (t *transport) send(op *operation, req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	watched := &watch{idle: t.opts.IdleTimeout, end: func() { cancel(errStalled) }}
	dog := watched.start()
	if body, ok := req.Body.(*sendBody); ok {
		body.progress = func() { dog.Reset(t.opts.IdleTimeout) }
		if op.verb == verbPutBlob {
			body.body = &lastByte{body.body, func() { dog.Reset(commitPatience * t.opts.IdleTimeout) }}
		}
	}
	began := time.Now()
	op.sending(began)
	resp, err := t.base.RoundTrip(req.WithContext(watched.connection(ctx)))
	dog.Stop()
	t.logRequest(req, resp, time.Since(began))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, byProxy(req.URL, err)
	}
	resp.Body = &receiveBody{body: resp.Body, ctx: ctx, cancel: cancel, dog: dog, idle: t.opts.IdleTimeout}
	return resp, nil
}

// logRequest notes what was asked, and how it was answered: resp is nil when it
// was not.
func (t *transport) logRequest(req *http.Request, resp *http.Response, took time.Duration) {
	if !t.opts.Log.Enabled(req.Context(), slog.LevelDebug) {
		return
	}
	status := 0
	if resp != nil {
		status = resp.StatusCode
	}
	path := req.URL.Path
	if !t.self.same(originOf(req.URL)) {
		path = "" // at a storage host it may be the key
	}
	t.opts.Log.Debug("request", "method", req.Method, "host", req.URL.Host, "path", path,
		"status", status, "took", took.Round(time.Millisecond))
}

// lastByte calls end when the body is read to its end.
type lastByte struct {
	io.ReadCloser
	end func()
}

func (b *lastByte) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.end()
	}
	return n, err
}

// receiveBody is a response body under the idle timeout. The time that the
// reader takes between two reads does not count.
type receiveBody struct {
	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	dog    *time.Timer
	idle   time.Duration
}

func (b *receiveBody) Read(p []byte) (int, error) {
	b.dog.Reset(b.idle)
	n, err := b.body.Read(p)
	b.dog.Stop()
	if err != nil && err != io.EOF {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (b *receiveBody) Close() error {
	b.dog.Stop()
	b.cancel(nil)
	return b.body.Close()
}

// judge decides what becomes of an answer, or of an error: it is handed
// to who asked, the request is sent again, or the operation is over.
func (t *transport) judge(op *operation, req *http.Request, resp *http.Response, err error) (_ *http.Response, again bool, _ error) {
	if err != nil {
		return t.retry(op, req, networkFault(op, err), "")
	}
	switch {
	case resp.StatusCode < 300:
		if !cancels(op, req) {
			op.refused(resp.StatusCode, "", nil)
		}
		return t.accept(op, req, resp)
	case resp.StatusCode < 400 && resp.Header.Get("Location") != "":
		if err := t.checkRedirect(op, req, resp); err != nil {
			resp.Body.Close()
			return nil, false, op.fail(err)
		}
		return resp, false, nil
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && op.dropHeld():
		resp.Body.Close()
		return nil, true, nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, errorLimit)) // a cut error document is no more than less detail
	resp.Body.Close()
	said := readRefusal(resp.StatusCode, body, append(secretsOf(resp.Request), t.auth.cred.secrets()...))
	said.later = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now()) > 0
	refusal := said.fault(op)
	if said.status == http.StatusProxyAuthRequired {
		if proxy := proxyOf(req.URL); proxy != "" {
			refusal.Hint(proxyLogin+", for %s", proxy)
		}
	}
	if !cancels(op, req) {
		op.refused(resp.StatusCode, said.code, refusal)
	}
	if temporary(fault.KindOf(refusal)) {
		return t.retry(op, req, refusal, resp.Header.Get("Retry-After"))
	}
	resp.Body = http.NoBody
	return resp, false, nil
}

// cancels reports whether req cancels an upload, whose answer says nothing of why
// it had to be.
func cancels(op *operation, req *http.Request) bool {
	return req.Method == http.MethodDelete && op.verb != verbAskWrite
}

// retry waits for the next try of req, or ends the operation.
func (t *transport) retry(op *operation, req *http.Request, cause *fault.Error, retryAfter string) (*http.Response, bool, error) {
	if cause = t.heed(op, cause, retryAfter); errors.Is(cause, fault.ErrNotSoon) {
		return nil, false, op.fail(cause)
	}
	if op.verb == verbPutBlob && (req.Method == http.MethodPatch || req.Method == http.MethodGet) {
		return nil, false, cause // a chunk: chunks.resume finds out where to go on
	}
	uploads := op.verb == verbPutBlob && req.Method != http.MethodPost && req.Method != http.MethodDelete
	if op.single && fault.KindOf(cause) != fault.RateLimited {
		return nil, false, op.fail(cause)
	}
	if !temporary(fault.KindOf(cause)) || uploads { // an upload goes on, or begins anew, with a request of its own
		return nil, false, op.fail(cause)
	}
	pause, ok := op.nextPause()
	if !ok {
		return nil, false, op.fail(cause)
	}
	level := slog.LevelDebug
	if pause >= visiblePause {
		level = slog.LevelWarn
	}
	t.opts.Log.Log(req.Context(), level, "trying again", "host", t.self.host, "in", pause.Round(100*time.Millisecond), "cause", cause)
	if err := sleep(req.Context(), pause); err != nil {
		return nil, false, op.fail(networkFault(op, err))
	}
	return nil, true, nil
}

// heed does what a refusal asks for: fewer operations at a time, and no request
// to the registry for a while. A pause that is too long to be waited for is an
// error instead, which repeating does not heal.
func (t *transport) heed(op *operation, cause *fault.Error, retryAfter string) *fault.Error {
	if fault.KindOf(cause) == fault.RateLimited {
		t.limits.tooMany(op.lastSent())
	}
	asked := parseRetryAfter(retryAfter, time.Now())
	if asked > maxRetryAfter {
		parts := cause.Unwrap() // its subject is said once
		return fault.Newf(fault.KindOf(cause), op.subject, "%w, with the wish for no requests within %v: %w", parts[len(parts)-1], asked.Round(time.Second), fault.ErrNotSoon).
			Because(fault.CauseOf(cause)).Hint("run the same command again then")
	}
	t.quiet.extend(asked)
	return cause
}

// parseRetryAfter reads seconds or a date; anything else is no advice (N14).
func parseRetryAfter(s string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(s); err == nil && seconds > 0 && seconds < 1<<30 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// waitForPause waits as long as the registry asked for, or as the operation
// rests after a cut body.
func (t *transport) waitForPause(ctx context.Context, op *operation) error {
	op.mu.Lock()
	rest := op.wait
	op.wait = 0
	op.mu.Unlock()
	if err := t.quiet.wait(ctx, t.opts.Log, t.self.host); err != nil || rest <= 0 {
		return err
	}
	return sleep(ctx, rest)
}

// checkRedirect lets reads go to another host, without credentials, but never
// uploads or lists, nothing from TLS to plain text (N3), and nothing from afar to
// what only this machine can reach.
func (t *transport) checkRedirect(op *operation, req *http.Request, resp *http.Response) *fault.Error {
	to, err := req.URL.Parse(resp.Header.Get("Location"))
	if err != nil {
		return protocol(op.subject, "%s redirects to an address that is none", op.repo.Host)
	}
	foreign := !t.self.same(originOf(to))
	switch {
	case to.Scheme != "https" && req.URL.Scheme == "https":
		return protocol(op.subject, "%s redirects from TLS to plain text at %s", op.repo.Host, to.Host)
	case foreign && t.near(req.Context(), to) && !t.near(req.Context(), req.URL):
		return protocol(op.subject, "%s redirects to %s, which is this machine or its link", op.repo.Host, to.Host)
	case foreign && (op.verb == verbTags || op.verb == verbReferrers || req.Method != http.MethodGet && req.Method != http.MethodHead):
		return protocol(op.subject, "%s redirects a %s to another host, %s", op.repo.Host, req.Method, to.Host)
	}
	return nil
}

// near reports whether what at names is this machine or on its link. A proxy
// looks names up itself, and has a place of its own.
func (t *transport) near(ctx context.Context, at *url.URL) bool {
	host := at.Hostname()
	if known, ok := t.nearness.Load(host); ok {
		return known.(bool)
	}
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: at}); err != nil || proxy != nil {
		return false
	}
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return false // nor will it be found when it is asked
	}
	near := slices.ContainsFunc(addresses, func(a net.IPAddr) bool {
		return a.IP.IsLoopback() || a.IP.IsLinkLocalUnicast() || a.IP.IsLinkLocalMulticast() || a.IP.IsUnspecified()
	})
	t.nearness.Store(host, near)
	return near
}

// accept reads a success as far as the verb needs it.
func (t *transport) accept(op *operation, req *http.Request, resp *http.Response) (*http.Response, bool, error) {
	switch op.verb {
	case verbBlob:
		return op.acceptBlob(resp)
	case verbResolve, verbManifest, verbReferrers:
		return t.acceptWhole(op, req, resp, oci.ManifestLimit)
	case verbTags:
		return t.acceptWhole(op, req, resp, tagPageLimit)
	case verbMount, verbAskWrite, verbProbe, verbPutBlob:
		if err := t.trackSession(op, req, resp); err != nil {
			resp.Body.Close()
			return nil, false, op.fail(err)
		}
	}
	return resp, false, nil
}

// acceptWhole reads a small answer at once, so that one cut in the middle is
// asked for again, and one without end fills no memory (N9).
func (t *transport) acceptWhole(op *operation, req *http.Request, resp *http.Response, limit int64) (*http.Response, bool, error) {
	body, err := readWhole(resp, limit)
	resp.Body.Close()
	switch {
	case err != nil:
		return t.retry(op, req, networkFault(op, err), "")
	case int64(len(body)) > limit:
		return nil, false, op.fail(protocol(op.subject, "the answer is larger than %d bytes", limit))
	}
	op.mu.Lock()
	op.answer = &answer{resp.Header, body}
	op.mu.Unlock()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, false, nil
}

// readWhole reads a body, or one byte more of it than limit. One of known size is
// read without a second copy.
func readWhole(resp *http.Response, limit int64) ([]byte, error) {
	if size := resp.ContentLength; size > 0 && size <= limit && resp.Request.Method != http.MethodHead {
		body := make([]byte, size)
		_, err := io.ReadFull(resp.Body, body)
		return body, err
	}
	return io.ReadAll(io.LimitReader(resp.Body, limit+1))
}

// trackSession remembers the upload that the registry opened, and where its next
// part goes.
func (t *transport) trackSession(op *operation, req *http.Request, resp *http.Response) *fault.Error {
	location := resp.Header.Get("Location")
	asked := req.Method == http.MethodGet || req.Method == http.MethodPatch
	var session *url.URL
	switch early := req.Method == http.MethodPatch && resp.StatusCode == http.StatusCreated && strings.Contains(location, "/blobs/sha256:"); {
	case early, req.Method == http.MethodHead, asked && location == "":
		// The upload is where it was. Behind a chunk some say no address, or the
		// blob's, as if that were all (Q7).
		op.mu.Lock()
		defer op.mu.Unlock()
		op.early, op.requests = op.early || early, 0
		return nil
	case location != "" && (asked || resp.StatusCode == http.StatusAccepted && req.Method != http.MethodDelete):
		var err *fault.Error
		if session, err = t.uploadAddress(op, req, location); err != nil {
			return err
		}
	}
	op.mu.Lock()
	defer op.mu.Unlock()
	op.session = session
	op.requests = 0 // each chunk accepted is a step ahead
	return nil
}

// uploadAddress checks where the registry wants the bytes.
func (t *transport) uploadAddress(op *operation, req *http.Request, location string) (*url.URL, *fault.Error) {
	to, err := req.URL.Parse(location)
	if err != nil {
		return nil, protocol(op.subject, "%s names an upload address that is none", op.repo.Host)
	}
	if to.Scheme == "http" && t.self.scheme == "https" && to.Hostname() == req.URL.Hostname() {
		// A registry behind a proxy does not know that it speaks TLS (Q11).
		to.Scheme, to.Host = req.URL.Scheme, req.URL.Host
	}
	if !t.self.same(originOf(to)) {
		return nil, protocol(op.subject, "%s wants the upload at another host, %s", op.repo.Host, to.Host).
			Hint("configure relative upload addresses at the registry, or the forwarded host and scheme at its proxy")
	}
	return to, nil
}

// closeSession cancels the upload that a failed operation leaves behind, also
// when the caller gave up (Q40).
func (t *transport) closeSession(ctx context.Context, op *operation) {
	session := op.takeSession()
	if session == nil {
		return
	}
	if err := t.deleteSession(ctx, op, session); err != nil {
		t.opts.Log.Debug("an upload session stays open", "host", op.repo.Host, "repository", op.repo.Path, "cause", err)
	}
}

// deleteSession does not end with ctx. It asks once more where the login has expired meanwhile, the connection
// broke, or the registry had too much to do.
func (t *transport) deleteSession(ctx context.Context, op *operation, session *url.URL) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	for tries := 2; ; tries-- {
		req, err := http.NewRequestWithContext(ctx, http.MethodDelete, session.String(), nil)
		if err != nil {
			return withoutURL(err)
		}
		req.Header.Set("User-Agent", t.opts.UserAgent)
		if err := t.auth.authorize(ctx, op, req); err != nil {
			return err
		}
		resp, err := t.base.RoundTrip(req)
		if err != nil && tries > 1 && ctx.Err() == nil {
			continue // an idle connection may have been closed (Q43), and net/http repeats no DELETE
		}
		if err != nil {
			return withoutURL(err)
		}
		again := false
		if resp.StatusCode == http.StatusUnauthorized && tries > 1 {
			if again, err = t.auth.challenged(ctx, op, req, resp); err != nil {
				return err
			}
		}
		resp.Body.Close()
		switch {
		case again, temporary(refusal{status: resp.StatusCode}.kind()) && tries > 1:
		case resp.StatusCode < 300:
			return nil
		default:
			return refusal{status: resp.StatusCode}
		}
	}
}

// closeTimeout bounds the last courtesy to a registry after an interrupt.
const closeTimeout = 10 * time.Second

// sendToken does one request to a token server: no redirect is followed, the
// answer is short.
func (t *transport) sendToken(op *operation, req *http.Request) (resp *http.Response, body []byte, err error) {
	req.Header.Set("User-Agent", t.opts.UserAgent)
	resp, err = t.send(op, req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, errorLimit+1))
	if err == nil && len(body) > errorLimit {
		err = protocol(op.subject, "the token server's answer is larger than %d bytes", errorLimit)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("token server %s: %w", req.URL.Host, err)
	}
	return resp, body, nil
}
