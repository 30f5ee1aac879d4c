package registrytest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
)

// Quirks of names, rights and limits.

// Q1TooDeep refuses, with status, to write to repositories of more than n path
// segments.
func Q1TooDeep(n, status int) Quirk {
	return answers("Q1", fmt.Sprintf("paths of more than %d segments are refused with %d", n, status), func(_ *Registry, w http.ResponseWriter, _ *http.Request, p *Request) bool {
		return p.Write() && strings.Count(p.Repository, "/") >= n && refuse(w, status, "repository path is nested too deeply")
	})
}

// Q2BareProject refuses, with status, to write to a repository of one segment: that
// is a project.
func Q2BareProject(status int) Quirk {
	return answers("Q2", fmt.Sprintf("a project is no repository, says %d", status), func(_ *Registry, w http.ResponseWriter, _ *http.Request, p *Request) bool {
		return p.Write() && !strings.Contains(p.Repository, "/") && refuse(w, status, "not a repository")
	})
}

// Q4Projects refuses, with status, to write below first segments but these.
func Q4Projects(status int, projects ...string) Quirk {
	return answers("Q4", fmt.Sprintf("projects must exist, says %d", status), func(_ *Registry, w http.ResponseWriter, _ *http.Request, p *Request) bool {
		project, _, _ := strings.Cut(p.Repository, "/")
		return p.Write() && !slices.Contains(projects, project) && refuse(w, status, "project "+project+" not found")
	})
}

// Q26Catalog answers the catalog with status. Without this it is 404.
func Q26Catalog(status int) Quirk {
	return answers("Q26", fmt.Sprintf("the catalog is refused with %d", status), func(_ *Registry, w http.ResponseWriter, req *http.Request, _ *Request) bool {
		return strings.TrimSuffix(req.URL.Path, "/") == "/v2/_catalog" && refuse(w, status, "no catalog for you")
	})
}

// every refuses each n-th request.
func every(n, status int, code, retryAfter string) func(*options) {
	return func(o *options) {
		var count atomic.Int64
		o.quirks.instead = append(o.quirks.instead, func(_ *Registry, w http.ResponseWriter, _ *http.Request, _ *Request) bool {
			if count.Add(1)%int64(n) != 0 {
				return false
			}
			if retryAfter != "" {
				w.Header().Set("Retry-After", retryAfter)
			}
			writeError(w, status, code, "slow down")
			return true
		})
	}
}

// Q28Limit answers each n-th request with 429.
func Q28Limit(n int) Quirk {
	return quirk("Q28", fmt.Sprintf("each request of %d is one too many", n), every(n, http.StatusTooManyRequests, "TOOMANYREQUESTS", ""))
}

// Q29Limit answers each n-th request with status, code and Retry-After, where that
// is not "": a limit in the words of something else.
func Q29Limit(n, status int, code, retryAfter string) Quirk {
	return quirk("Q29", fmt.Sprintf("a limit is said with %d %s and Retry-After %q", status, code, retryAfter), every(n, status, code, retryAfter))
}

// Q38Quota refuses, with status, blobs that would make the registry hold more than
// n bytes of content, until [Registry.Heal] makes room.
func Q38Quota(status int, n int64) Quirk {
	return answers("Q38", fmt.Sprintf("the quota is full, says %d", status), func(r *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool {
		if p.Kind != KindUpload || !req.URL.Query().Has("digest") {
			return false
		}
		r.mu.Lock()
		held := req.ContentLength
		for _, c := range r.content {
			held += c.size
		}
		full := !r.roomy && held > n
		r.mu.Unlock()
		if full {
			writeError(w, status, "DENIED", "adding this would exceed the configured upper limit of storage quota")
		}
		return full
	})
}

// Q41Names refuses to write to repositories with part in their name.
func Q41Names(part string) Quirk {
	return answers("Q41", fmt.Sprintf("names with %q are refused", part), func(_ *Registry, w http.ResponseWriter, _ *http.Request, p *Request) bool {
		return p.Write() && strings.Contains(p.Repository, part) && refuse(w, http.StatusBadRequest, "invalid repository name")
	})
}

// Q42Prefix serves everything below a path, and nothing beside it.
func Q42Prefix(prefix string) Quirk {
	return quirk("Q42", "the API is below "+prefix, func(o *options) { o.quirks.prefix = prefix })
}

// Q43LengthRequired refuses bodies without a Content-Length.
func Q43LengthRequired() Quirk {
	return answers("Q43", "bodies without a length are refused", func(_ *Registry, w http.ResponseWriter, req *http.Request, _ *Request) bool {
		return req.ContentLength < 0 && refuse(w, http.StatusLengthRequired, "length required")
	})
}

// Q43ClosesIdle closes each connection behind its answer, without a word of it.
func Q43ClosesIdle() Quirk {
	return quirk("Q43", "idle connections are closed", func(o *options) { o.quirks.closeIdle = true })
}

// Q30Token renames or leaves out what the token server says: key and value pairs of
// an answer's field and what it is called instead, "" for nothing.
func Q30Token(renames ...string) Quirk {
	return quirk("Q30", fmt.Sprintf("tokens are given as %q", renames), func(o *options) {
		o.quirks.token = func(answer map[string]any) {
			for i := 0; i+1 < len(renames); i += 2 {
				if value, ok := answer[renames[i]]; ok && renames[i+1] != "" {
					answer[renames[i+1]] = value
				}
				delete(answer, renames[i])
			}
		}
	})
}

// Q31RelativeRealm names the token server by its path alone.
func Q31RelativeRealm() Quirk {
	return edits("Q31", "the realm is relative", func(a *answering) {
		challenge := a.Header().Get("WWW-Authenticate")
		if _, rest, ok := strings.Cut(challenge, "/token\""); ok {
			a.Header().Set("WWW-Authenticate", `Bearer realm="/token"`+rest)
		}
	})
}

// Q31Challenge sends this with 401; "" is an empty header, "-" none at all.
func Q31Challenge(text string) Quirk {
	return edits("Q31", fmt.Sprintf("the challenge is %q", text), func(a *answering) {
		switch {
		case a.status != http.StatusUnauthorized:
		case text == "-":
			a.Header().Del("WWW-Authenticate")
		default:
			a.Header().Set("WWW-Authenticate", text)
		}
	})
}

// Q32OpenRead lets anybody read, and wants a login for writes alone.
func Q32OpenRead() Quirk {
	return quirk("Q32", "only writes need a login", func(o *options) { o.quirks.openRead = true })
}
