package wire

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// echoed stands for what a registry says when that repeats a secret: a debug mode,
// or a proxy, may put the headers of the request into its error document (N8).
const echoed = "what it says repeats the login, and is not shown"

// publicParams are parameters of the distribution-spec that errors may well name.
var publicParams = []string{"digest", "mount", "from", "n", "last", "scope", "service", "artifactType"}

// secretsOf are what a request has carried that nobody may read: the login or token
// of its header, and what its address is signed with.
func secretsOf(req *http.Request) []string {
	if req == nil {
		return nil
	}
	var secrets []string
	_, value, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	secrets = append(secrets, value)
	for name, values := range req.URL.Query() {
		if !slices.Contains(publicParams, name) {
			secrets = append(secrets, values...)
		}
	}
	return secrets
}

// secrets are the credential in each form that a request may carry it in, or that a
// token server may have handed on.
func (c credential) secrets() []string {
	basic := strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(c.user+":"+c.password)), "=")
	if c.password == "" {
		basic = ""
	}
	return []string{c.password, url.QueryEscape(c.password), url.PathEscape(c.password), basic, c.identity}
}

// repeats reports whether text has one of secrets in it.
func repeats(text string, secrets []string) bool {
	return slices.ContainsFunc(secrets, func(s string) bool { return s != "" && strings.Contains(text, s) })
}

// withoutQuery is an address without the part that may be secret, as far as it is
// one.
func withoutQuery(address string) string {
	address, _, _ = strings.Cut(address, "?")
	return address
}
