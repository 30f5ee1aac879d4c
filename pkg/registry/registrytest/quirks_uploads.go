package registrytest

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"ferry/pkg/oci"
)

// Quirks of blobs and their uploads.

func isUpload(p *Request) bool { return p.Kind == KindUpload || p.Kind == KindMount }

// Q5Mount answers mounts with status. 202 opens an upload instead, as the spec
// wants; 400, 401, 403, 404 and 405 are what registries do.
func Q5Mount(status int) Quirk {
	return answers("Q5", fmt.Sprintf("a mount is answered with %d", status), func(r *Registry, w http.ResponseWriter, _ *http.Request, p *Request) bool {
		switch {
		case p.Kind != KindMount:
			return false
		case status == http.StatusAccepted:
			r.openUpload(w, p.Repository)
		default:
			writeError(w, status, "DENIED", "no mount here")
		}
		return true
	})
}

// Q6Mount refuses, with status, mounts that name no other repository.
func Q6Mount(status int) Quirk {
	return answers("Q6", fmt.Sprintf("a mount from nowhere is refused with %d", status), func(_ *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool {
		return p.Kind == KindMount && req.URL.Query().Get("from") == "" && refuse(w, status, "from where?")
	})
}

// Q7Chunk answers a chunk that was taken with status.
func Q7Chunk(status int) Quirk {
	return edits("Q7", fmt.Sprintf("a chunk is answered with %d", status), func(a *answering) {
		if a.p.Kind == KindUpload && a.req.Method == http.MethodPatch && a.status == http.StatusAccepted {
			a.status = status
		}
	})
}

// Q7Early answers a chunk as if the whole blob were there, and what ends chunks with
// 400, though it does end them.
func Q7Early() Quirk {
	return edits("Q7", "a chunk counts as the blob, and its end is refused", func(a *answering) {
		switch {
		case a.p.Kind != KindUpload:
		case a.req.Method == http.MethodPatch && a.status == http.StatusAccepted:
			a.status = http.StatusCreated
			a.Header().Set("Location", "/v2/"+a.p.Repository+"/blobs/"+string(oci.DigestOf(nil)))
		case a.req.Method == http.MethodPut && a.req.ContentLength == 0 && a.status == http.StatusCreated:
			a.status = http.StatusBadRequest
		}
	})
}

// Q7End answers the end of an upload with status.
func Q7End(status int) Quirk {
	return edits("Q7", fmt.Sprintf("the end of an upload is answered with %d", status), func(a *answering) {
		if a.p.Kind == KindUpload && a.req.Method == http.MethodPut && a.status == http.StatusCreated {
			a.status = status
		}
	})
}

// Q7Bare says nothing of an upload but its address, and that once.
func Q7Bare() Quirk {
	return edits("Q7", "an upload is answered without headers", func(a *answering) {
		if isUpload(a.p) {
			a.Header().Del("Range")
			a.Header().Del("Docker-Upload-UUID")
			if a.req.Method == http.MethodPatch {
				a.Header().Del("Location")
			}
		}
	})
}

// Q8Limit refuses, with status (413, or 416), bodies larger than n bytes.
func Q8Limit(status int, n int64) Quirk {
	return answers("Q8", fmt.Sprintf("bodies above %d bytes are refused with %d", n, status), func(_ *Registry, w http.ResponseWriter, req *http.Request, _ *Request) bool {
		if req.ContentLength > n {
			return refuse(w, status, "request body is too large")
		}
		req.Body = http.MaxBytesReader(w, req.Body, n)
		return false
	})
}

// Q8Least says that chunks have to have n bytes, and refuses smaller ones that are
// not the last by the digest of what they become.
func Q8Least(n int64) Quirk {
	return edits("Q8", fmt.Sprintf("chunks have to have %d bytes", n), func(a *answering) {
		if a.p.Kind == KindUpload && a.req.Method == http.MethodPost {
			a.Header().Set("OCI-Chunk-Min-Length", fmt.Sprint(n))
		}
	})
}

// Q9NoChunks refuses chunks with status.
func Q9NoChunks(status int) Quirk {
	return answers("Q9", fmt.Sprintf("chunks are refused with %d", status), func(_ *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool {
		return p.Kind == KindUpload && req.Method == http.MethodPatch && refuse(w, status, "no chunks here")
	})
}

// Q10Range says of every upload, whatever is there, that this range of it is.
func Q10Range(text string) Quirk {
	return edits("Q10", fmt.Sprintf("the range of an upload is always %q", text), func(a *answering) {
		if isUpload(a.p) && a.Header().Get("Range") != "" {
			a.Header().Set("Range", text)
		}
	})
}

// Q11PlainLocation gives the address of an upload as http, whatever was spoken.
func Q11PlainLocation() Quirk { return locations("Q11", "an upload's address is http", "http") }

// Q12AbsoluteLocation gives the address of an upload in full.
func Q12AbsoluteLocation() Quirk { return locations("Q12", "an upload's address is absolute", "") }

func locations(code, name, scheme string) Quirk {
	return edits(code, name, func(a *answering) {
		scheme := scheme
		if scheme == "" {
			scheme = "http"
			if a.req.TLS != nil {
				scheme = "https"
			}
		}
		if to := a.Header().Get("Location"); isUpload(a.p) && strings.HasPrefix(to, "/") {
			a.Header().Set("Location", scheme+"://"+a.req.Host+to)
		}
	})
}

// Q12RelativeLocation gives the address of an upload as seen from the one asked.
func Q12RelativeLocation() Quirk {
	return edits("Q12", "an upload's address is relative to the one asked", func(a *answering) {
		if to := a.Header().Get("Location"); isUpload(a.p) && strings.Contains(to, "/blobs/uploads/") {
			a.Header().Set("Location", path.Base(to))
		}
	})
}

// Q16Phantom says of these blobs that they are there, to whoever asks by HEAD.
func Q16Phantom(digests ...oci.Digest) Quirk {
	return answers("Q16", "blobs are said to be there that are not", func(r *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool {
		if p.Kind != KindBlob || req.Method != http.MethodHead || !slices.Contains(digests, oci.Digest(p.Reference)) {
			return false
		}
		w.WriteHeader(http.StatusOK)
		return true
	})
}

// Q40NoCancel answers the cancelling of an upload with status.
func Q40NoCancel(status int) Quirk {
	return answers("Q40", fmt.Sprintf("uploads cannot be cancelled, says %d", status), func(_ *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool {
		return p.Kind == KindUpload && req.Method == http.MethodDelete && refuse(w, status, "not here")
	})
}
