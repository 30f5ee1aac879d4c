package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// authenticator decides whether a request may be served; when not, it has
// written the challenge.
type authenticator interface {
	allow(r *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool
}

// WithBasicAuth demands user and password of every request.
func WithBasicAuth(user, password string) Option {
	return option(func(o *options) { o.auth = basicAuth{user, password} })
}

type basicAuth struct{ user, password string }

func (a basicAuth) allow(_ *Registry, w http.ResponseWriter, req *http.Request, _ *Request) bool {
	user, password, ok := req.BasicAuth()
	if ok && user == a.user && password == a.password {
		return true
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="registrytest"`)
	writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

// TokenAuth is the token protocol of the distribution project: a 401 names
// /token of this server as the realm, which gives a bearer token for basic
// credentials and a scope.
type TokenAuth struct {
	User, Password string
	AnonymousPull  bool          // tokens for reading are given without credentials
	Life           time.Duration // of a token; 0: as long as the registry
	Uses           int           // requests a token is good for: expiry without a clock; 0: no limit
}

// WithTokenAuth demands a bearer token of every request.
func WithTokenAuth(a TokenAuth) Option { return option(func(o *options) { o.auth = &a }) }

type token struct {
	scopes  string
	expires time.Time // zero: never
	uses    int       // left; -1: no limit
}

func (a *TokenAuth) allow(r *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool {
	scopes := neededScopes(req, p)
	if value, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); ok && r.useToken(value, scopes) {
		return true
	}
	scheme := "http"
	if req.TLS != nil {
		scheme = "https"
	}
	challenge := fmt.Sprintf(`Bearer realm="%s://%s/token",service="registrytest"`, scheme, req.Host)
	if len(scopes) > 0 {
		challenge += fmt.Sprintf(`,scope="%s"`, strings.Join(scopes, " "))
	}
	w.Header().Set("WWW-Authenticate", challenge)
	writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

func neededScopes(req *http.Request, p *Request) []string {
	if p.Repository == "" {
		return nil
	}
	actions := "pull"
	if p.Write() || p.Kind == KindUpload {
		actions = "pull,push"
	}
	if req.Method == http.MethodDelete && (p.Kind == KindManifest || p.Kind == KindBlob) {
		actions = "delete"
	}
	scopes := []string{"repository:" + p.Repository + ":" + actions}
	if from := req.URL.Query().Get("from"); p.Kind == KindMount && from != "" {
		scopes = append(scopes, "repository:"+from+":pull")
	}
	return scopes
}

// useToken spends one use of the token when it covers scopes.
func (r *Registry) useToken(value string, scopes []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tokens[value]
	if t == nil || t.uses == 0 || !t.expires.IsZero() && !time.Now().Before(t.expires) {
		return false
	}
	for _, scope := range scopes {
		if !covers(t.scopes, scope) {
			return false
		}
	}
	if t.uses > 0 {
		t.uses--
	}
	return true
}

// covers reports whether one of the granted scopes has every action of scope.
func covers(granted, scope string) bool {
	i := strings.LastIndexByte(scope, ':')
	for have := range strings.FieldsSeq(granted) {
		actions, ok := strings.CutPrefix(have, scope[:i+1])
		if !ok {
			continue
		}
		all := true
		for action := range strings.SplitSeq(scope[i+1:], ",") {
			all = all && strings.Contains(","+actions+",", ","+action+",")
		}
		if all {
			return true
		}
	}
	return false
}

// serveToken is the token endpoint. It has no OAuth2 POST form.
func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request) {
	a, ok := r.opts.auth.(*TokenAuth)
	if !ok || req.Method != http.MethodGet {
		writeError(w, http.StatusNotFound, "UNSUPPORTED", "no such endpoint")
		return
	}
	scopes := strings.Join(req.URL.Query()["scope"], " ")
	user, password, given := req.BasicAuth()
	anonymous := a.AnonymousPull && !given && !strings.Contains(scopes, "push")
	if !anonymous && (!given || user != a.User || password != a.Password) {
		writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong user or password")
		return
	}
	t := &token{scopes: scopes, uses: -1}
	if a.Uses > 0 {
		t.uses = a.Uses
	}
	answer := map[string]any{}
	if a.Life > 0 {
		t.expires = time.Now().Add(a.Life)
		answer["expires_in"] = max(1, int(a.Life.Seconds()))
	}
	r.mu.Lock()
	value := r.nextID("token")
	r.tokens[value] = t
	r.mu.Unlock()
	answer["token"] = value
	if change := r.opts.quirks.token; change != nil {
		change(answer)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}
