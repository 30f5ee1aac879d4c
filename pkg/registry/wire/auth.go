package wire

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"ferry/pkg/fault"
)

// credential is a login; identity is a refresh token that docker keeps in the
// place of a password.
type credential struct{ user, password, identity string }

// authorizer logs in to one registry. It learns from the first challenge how.
type authorizer struct {
	self    origin
	cred    credential
	servers []string // token servers that the user trusts
	via     *transport

	mu      sync.Mutex
	basic   bool
	realm   *url.URL // set: bearer tokens come from here
	service string
	tokens  map[string]*bearer // by scope: one token for each, scopes do not add up (N18)
}

// bearer is the token of one scope.
type bearer struct {
	turn  chan struct{} // one request for it at a time
	value string
	until time.Time
}

func (b *bearer) lock(ctx context.Context) error {
	select {
	case b.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *bearer) unlock() { <-b.turn }

func newAuthorizer(self origin, cred credential, servers []string) *authorizer {
	return &authorizer{self: self, cred: cred, servers: servers, tokens: map[string]*bearer{}}
}

// scopes are the rights that op needs, in the words of docker's token protocol.
func (op *operation) scopes() []string {
	actions := ":pull"
	if op.verb.writes() {
		actions = ":pull,push"
	}
	if op.deletes {
		actions += ",delete"
	}
	scopes := []string{"repository:" + op.repo.Path + actions}
	if op.from != "" {
		scopes = append(scopes, "repository:"+op.from+":pull")
	}
	return scopes
}

// authorize adds the login to req, as far as the registry is known to want one.
func (a *authorizer) authorize(ctx context.Context, op *operation, req *http.Request) error {
	a.mu.Lock()
	basic, realm := a.basic, a.realm
	a.mu.Unlock()
	switch {
	case basic:
		req.SetBasicAuth(a.cred.user, a.cred.password)
	case realm != nil:
		value, err := a.token(ctx, op, op.scopes())
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+value)
	}
	return nil
}

// challenged learns from a 401 and reports whether the request should be sent
// again. The answer's body is closed when it should.
func (a *authorizer) challenged(ctx context.Context, op *operation, req *http.Request, resp *http.Response) (bool, error) {
	sent := req.Header.Get("Authorization")
	challenges := parseChallenges(resp.Header.Values("WWW-Authenticate"))
	if i := slices.IndexFunc(challenges, func(c challenge) bool { return c.scheme == "bearer" && c.params["realm"] != "" }); i >= 0 {
		realm, err := req.URL.Parse(challenges[i].params["realm"]) // may be relative (Q31)
		if err != nil || !a.trusts(realm) {
			return false, fault.Newf(fault.Denied, op.subject, "%s wants the login to be sent to another host, %.100q", op.repo.Host, withoutQuery(challenges[i].params["realm"])).
				Hint("if that host is the token server of %s, allow it explicitly", op.repo.Host)
		}
		resp.Body.Close()
		a.mu.Lock()
		a.basic, a.realm, a.service = false, realm, challenges[i].params["service"]
		a.mu.Unlock()
		return true, a.forget(ctx, op.scopes(), strings.TrimPrefix(sent, "Bearer "))
	}
	// Some registries send no usable challenge at all (Q31).
	if a.cred.user == "" || strings.HasPrefix(sent, "Basic ") {
		return false, nil
	}
	resp.Body.Close()
	a.mu.Lock()
	a.basic = true
	a.mu.Unlock()
	return true, nil
}

// trusts decides whether realm may see the credential (N1): the registry
// itself, a host that the user named, or over TLS a host of the registry's own
// domain, such as auth.example.com of registry.example.com.
func (a *authorizer) trusts(realm *url.URL) bool {
	if a.self.same(originOf(realm)) {
		return true
	}
	if realm.Scheme != "https" && a.self.scheme == "https" || realm.User != nil {
		return false
	}
	if slices.Contains(a.servers, realm.Host) {
		return true
	}
	if realm.Scheme != "https" || realm.Port() != "" && realm.Port() != "443" {
		return false
	}
	own, _, err := net.SplitHostPort(a.self.host)
	if err != nil {
		own = a.self.host
	}
	if net.ParseIP(own) != nil {
		return false
	}
	host := strings.ToLower(realm.Hostname())
	_, domain, ok := strings.Cut(strings.ToLower(own), ".")
	if !ok || !strings.Contains(domain, ".") {
		return false // the registry's parent is a top-level domain
	}
	return host == domain || strings.HasSuffix(host, "."+domain)
}

// token returns a valid token for scopes, asking for one when there is none.
func (a *authorizer) token(ctx context.Context, op *operation, scopes []string) (string, error) {
	b := a.bearer(scopes)
	if err := b.lock(ctx); err != nil {
		return "", err
	}
	defer b.unlock()
	if b.value != "" && time.Now().Before(b.until) {
		return b.value, nil
	}
	for {
		value, life, err := a.fetch(ctx, op, scopes)
		if err == nil {
			b.value, b.until = value, time.Now().Add(life)
			return value, nil
		}
		refused := networkFault(op, err)
		pause, ok := op.nextPause()
		if !temporary(fault.KindOf(refused)) || errors.Is(refused, fault.ErrNotSoon) || !ok {
			return "", refused
		}
		if err := sleep(ctx, pause); err != nil {
			return "", err
		}
		if err := a.via.waitForPause(ctx, op); err != nil {
			return "", err
		}
	}
}

func (a *authorizer) bearer(scopes []string) *bearer {
	key := strings.Join(scopes, " ")
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.tokens[key]
	if b == nil {
		b = &bearer{turn: make(chan struct{}, 1)}
		a.tokens[key] = b
	}
	return b
}

// forget drops the token for scopes when it is still the refused one; another
// request may have brought a new one meanwhile.
func (a *authorizer) forget(ctx context.Context, scopes []string, value string) error {
	b := a.bearer(scopes)
	if err := b.lock(ctx); err != nil {
		return err
	}
	defer b.unlock()
	if b.value == value {
		b.value = ""
	}
	return nil
}

// defaultLife is that of a token whose server does not say (Q30).
const defaultLife = time.Minute

// fetch asks the token server once.
func (a *authorizer) fetch(ctx context.Context, op *operation, scopes []string) (string, time.Duration, error) {
	req, err := a.tokenRequest(ctx, scopes)
	if err != nil {
		return "", 0, err
	}
	resp, body, err := a.via.sendToken(op, req)
	if err != nil {
		return "", 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return "", 0, a.refused(op, req, resp, body)
	}
	value, life, ok := readToken(body)
	if !ok {
		return "", 0, protocol(op.subject, "the token server %s sends no token", req.URL.Host)
	}
	return value, life * 4 / 5, nil
}

// refused is what a token server's refusal means.
func (a *authorizer) refused(op *operation, req *http.Request, resp *http.Response, body []byte) *fault.Error {
	if resp.StatusCode >= 300 && resp.StatusCode < 400 { // never followed: it would take the login along (N2)
		return protocol(op.subject, "the token server %s redirects", req.URL.Host)
	}
	refusal := readRefusal(resp.StatusCode, body, append(secretsOf(req), a.cred.secrets()...))
	kind, cause := refusal.kind(), refusal.cause(op)
	if kind == fault.NotFound || kind == fault.Unsupported { // of the token, not of the image
		kind, cause = fault.Protocol, nil
	}
	refused := fault.New(kind, op.subject, fmt.Errorf("token server %s: %w", req.URL.Host, refusal)).Because(cause)
	if !temporary(kind) {
		refused.Hint("check the login for %s", op.repo.Host)
	}
	return a.via.heed(op, refused, resp.Header.Get("Retry-After"))
}

// readToken reads the answer of a token server: the token, how long it lives, and
// whether there is one at all.
func readToken(body []byte) (value string, life time.Duration, ok bool) {
	var doc struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"` // seconds
	}
	if json.Unmarshal(body, &doc) != nil {
		return "", 0, false
	}
	value = cmp.Or(doc.Token, doc.AccessToken)
	if value == "" || strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c >= 0x7f }) { // fit for a header
		return "", 0, false
	}
	life = defaultLife
	if doc.ExpiresIn > 0 && doc.ExpiresIn < 1<<30 {
		life = time.Duration(doc.ExpiresIn) * time.Second
	}
	return value, life, true
}

func (a *authorizer) tokenRequest(ctx context.Context, scopes []string) (*http.Request, error) {
	a.mu.Lock()
	realm, service := *a.realm, a.service
	a.mu.Unlock()
	if a.cred.identity != "" {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {a.cred.identity},
			"client_id": {"ferry"}, "service": {service}, "scope": {strings.Join(scopes, " ")}}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	query := realm.Query()
	if service != "" {
		query.Set("service", service)
	}
	for _, scope := range scopes {
		query.Add("scope", scope)
	}
	realm.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err == nil && a.cred.user != "" {
		req.SetBasicAuth(a.cred.user, a.cred.password)
	}
	return req, err
}

// challenge is one entry of WWW-Authenticate (RFC 9110, 11.6.1).
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// parseChallenges reads what it can; the rest is left out. Header values come
// from outside: no input makes it fail.
func parseChallenges(headers []string) []challenge {
	var out []challenge
	for _, rest := range headers {
		for rest != "" {
			var word string
			word, rest = cutToken(strings.TrimLeft(rest, " \t,"))
			if word == "" {
				break // not a token: nothing sensible can follow
			}
			value, after, isParam := cutValue(rest)
			if !isParam {
				out = append(out, challenge{strings.ToLower(word), map[string]string{}})
				continue
			}
			rest = after
			if len(out) > 0 {
				out[len(out)-1].params[strings.ToLower(word)] = value
			}
		}
	}
	return out
}

// cutToken splits s after its leading token.
func cutToken(s string) (token, rest string) {
	i := strings.IndexFunc(s, func(c rune) bool { return strings.ContainsRune(" \t,=\"", c) })
	if i < 0 {
		i = len(s)
	}
	return s[:i], s[i:]
}

// cutValue reads `=token` or `="quoted"`.
func cutValue(s string) (value, rest string, ok bool) {
	s, ok = strings.CutPrefix(strings.TrimLeft(s, " \t"), "=")
	if !ok {
		return "", "", false
	}
	s = strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(s, `"`) {
		value, rest = cutToken(s)
		return value, rest, true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return b.String(), "", true
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), "", true
}
