package registrytest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ferry/pkg/oci"
)

// ServeHTTP answers one request, logs it, and applies the fault it meets.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if prefix := r.opts.quirks.prefix; prefix != "" {
		path, ok := strings.CutPrefix(req.URL.Path, prefix)
		if !ok {
			http.NotFound(w, req)
			return
		}
		req.URL.Path = path
	}
	entry := parse(req)
	served := *entry // the handlers' own copy: the log's is written under r.mu
	req.Body = &countingBody{req.Body, r, entry}
	r.mu.Lock()
	r.log = append(r.log, entry)
	fault := r.takeFault(req, entry)
	r.mu.Unlock()

	rec := &recorder{ResponseWriter: w, reg: r, entry: entry, fault: fault, req: req}
	serve := func(w http.ResponseWriter, req *http.Request) { r.serve(w, req, &served) }
	if fault != nil && rec.instead(serve) {
		return
	}
	serve(rec, req)
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request, p *Request) {
	if p.Kind == KindToken {
		r.serveToken(w, req)
		return
	}
	quirks := &r.opts.quirks
	if len(quirks.edits) > 0 {
		w = &answering{ResponseWriter: w, edits: quirks.edits, req: req, p: p}
	}
	open := quirks.openRead && isRead(req) && req.Header.Get("Authorization") == ""
	if r.opts.auth != nil && !open && !r.opts.auth.allow(r, w, req, p) {
		return
	}
	for _, instead := range quirks.instead {
		if instead(r, w, req, p) {
			return
		}
	}
	if p.Repository != "" && !oci.ValidPath(p.Repository) {
		writeError(w, http.StatusBadRequest, "NAME_INVALID", "invalid repository name")
		return
	}
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	switch p.Kind {
	case KindPing:
		w.WriteHeader(http.StatusOK)
	case KindManifest:
		r.serveManifest(w, req, p)
	case KindBlob:
		r.serveBlob(w, req, p)
	case KindTags:
		r.serveTags(w, req, p)
	case KindReferrers:
		r.serveReferrers(w, req, p)
	case KindMount:
		r.serveMount(w, req, p)
	case KindUpload:
		r.serveUpload(w, req, p)
	default:
		writeError(w, http.StatusNotFound, "UNSUPPORTED", "no such endpoint")
	}
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(marshal(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}}))
}

func setDigest(w http.ResponseWriter, digest oci.Digest) {
	w.Header().Set("Docker-Content-Digest", string(digest))
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, p *Request) {
	switch req.Method {
	case http.MethodHead, http.MethodGet:
		r.getManifest(w, req, p)
	case http.MethodPut:
		r.putManifest(w, req, p)
	case http.MethodDelete:
		r.serveDelete(w, p)
	default:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "method not allowed")
	}
}

func (r *Registry) getManifest(w http.ResponseWriter, req *http.Request, p *Request) {
	r.mu.Lock()
	repo := r.repos[p.Repository]
	var c *content
	digest, mediaType, ok := r.find(p.Repository, p.Reference)
	if ok {
		c = r.content[digest]
	}
	r.mu.Unlock()
	switch {
	case repo == nil:
		writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	case c == nil:
		writeError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	setDigest(w, digest)
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.FormatInt(c.size, 10))
	if req.Method == http.MethodGet {
		w.Write(c.data)
	} else {
		w.WriteHeader(http.StatusOK)
	}
}

// find returns what a tag or digest leads to. r.mu is held.
func (r *Registry) find(path, reference string) (digest oci.Digest, mediaType string, ok bool) {
	repo := r.repos[path]
	if repo == nil {
		return "", "", false
	}
	digest = oci.Digest(reference)
	if tagged, ok := repo.tags[reference]; ok {
		digest = tagged
	}
	mediaType, ok = repo.manifests[digest]
	return digest, mediaType, ok
}

// manifestLimit is the largest manifest that registries accept.
const manifestLimit = 4 << 20

func (r *Registry) putManifest(w http.ResponseWriter, req *http.Request, p *Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, manifestLimit))
	if err != nil {
		writeReadError(w, err)
		return
	}
	mediaType := req.Header.Get("Content-Type")
	m, err := oci.ParseManifest(mediaType, body)
	if err != nil {
		writeError(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	tag := p.Reference
	if digest, err := oci.ParseDigest(p.Reference); err == nil {
		tag = ""
		if digest != oci.DigestOf(body) {
			writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "manifest does not match its digest")
			return
		}
	} else if !oci.ValidTag(tag) {
		writeError(w, http.StatusBadRequest, "TAG_INVALID", "invalid tag")
		return
	}
	desc, no := r.acceptManifest(p, tag, mediaType, m, body)
	if no != nil {
		writeError(w, no.status, no.code, no.message)
		return
	}
	if m.Subject != nil {
		w.Header().Set("OCI-Subject", string(m.Subject.Digest))
	}
	setDigest(w, desc.Digest)
	w.Header().Set("Location", "/v2/"+p.Repository+"/manifests/"+string(desc.Digest))
	w.WriteHeader(http.StatusCreated)
}

// acceptManifest stores a manifest, or says why not.
func (r *Registry) acceptManifest(p *Request, tag, mediaType string, m *oci.Manifest, body []byte) (oci.Descriptor, *refused) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, judge := range r.opts.quirks.judges {
		if no := judge(r, p, m, body); no != nil {
			return oci.Descriptor{}, no
		}
	}
	if missing := r.missing(r.repository(p.Repository), m); missing != "" {
		return oci.Descriptor{}, &refused{http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", string(missing) + " is unknown to the repository"}
	}
	return r.storeManifest(p.Repository, tag, mediaType, body), nil
}

// missing returns a digest that m refers to and repo has not, or "".
// Layers that may not be passed on need not be there.
func (r *Registry) missing(repo *repository, m *oci.Manifest) oci.Digest {
	for _, child := range m.Manifests {
		if _, ok := repo.manifests[child.Digest]; !ok && !r.opts.quirks.sparse {
			return child.Digest
		}
	}
	for _, blob := range m.Blobs {
		foreign := strings.Contains(blob.MediaType, "nondistributable") || strings.Contains(blob.MediaType, ".foreign.")
		if !repo.blobs[blob.Digest] && (!foreign || r.opts.quirks.foreign) {
			return blob.Digest
		}
	}
	return ""
}

func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, p *Request) {
	switch req.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodDelete:
		r.serveDelete(w, p)
		return
	default:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "method not allowed")
		return
	}
	digest := oci.Digest(p.Reference)
	r.mu.Lock()
	repo := r.repos[p.Repository]
	var c *content
	if repo != nil && repo.blobs[digest] {
		c = r.content[digest]
	}
	r.mu.Unlock()
	if c == nil {
		writeError(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	body, err := c.open()
	if err != nil {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	defer body.Close()
	if r.opts.noRange {
		req.Header.Del("Range")
	}
	setDigest(w, digest)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+string(digest)+`"`)
	http.ServeContent(w, req, "", time.Time{}, body)
}

func (r *Registry) serveTags(w http.ResponseWriter, req *http.Request, p *Request) {
	r.mu.Lock()
	repo := r.repos[p.Repository]
	var tags []string
	if repo != nil {
		tags = repo.sortedTags()
	}
	r.mu.Unlock()
	if repo == nil {
		writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	size, style := len(tags), r.opts.quirks.pageStyle
	query := req.URL.Query()
	if style == PagesTurning {
		slices.Reverse(tags)
	}
	if last := query.Get("last"); last != "" {
		at, found := slices.BinarySearch(tags, last)
		switch {
		case style == PagesTurning:
			at = slices.Index(tags, last) + 1
		case found:
			at++
		}
		tags = tags[at:]
		size = len(tags)
	}
	if n, err := strconv.Atoi(query.Get("n")); err == nil && n >= 0 {
		size = min(size, n)
	}
	if most := r.opts.quirks.pageSize; most > 0 {
		size = min(size, most)
	}
	if 0 < size && size < len(tags) {
		next := fmt.Sprintf("/v2/%s/tags/list?last=%s&n=%d", p.Repository, url.QueryEscape(tags[size-1]), size)
		setNext(w, req, style, next)
	}
	page := append([]string{}, tags[:size]...)
	w.Header().Set("Content-Type", "application/json")
	w.Write(marshal(map[string]any{"name": p.Repository, "tags": page}))
}

// setNext says where the next page of a list is.
func setNext(w http.ResponseWriter, req *http.Request, style PageStyle, next string) {
	switch style {
	case PagesSilent:
	case PagesBare:
		w.Header().Set("Link", next+`; rel="next"`)
	case PagesByURL:
		w.Header().Set("Link", "<http://"+req.Host+next+`>; rel="next"`)
	default:
		w.Header().Set("Link", "<"+next+`>; rel="next"`)
	}
}

func (r *Registry) serveMount(w http.ResponseWriter, req *http.Request, p *Request) {
	digest, from := oci.Digest(p.Reference), req.URL.Query().Get("from")
	r.mu.Lock()
	mounted := false
	for path, source := range r.repos {
		mounted = mounted || source.blobs[digest] && (path == from || from == "")
	}
	if mounted {
		r.repository(p.Repository).blobs[digest] = true
	}
	r.mu.Unlock()
	if !mounted {
		r.openUpload(w, p.Repository)
		return
	}
	created(w, p.Repository, digest)
}

func created(w http.ResponseWriter, repo string, digest oci.Digest) {
	setDigest(w, digest)
	w.Header().Set("Location", "/v2/"+repo+"/blobs/"+string(digest))
	w.WriteHeader(http.StatusCreated)
}

func (r *Registry) serveUpload(w http.ResponseWriter, req *http.Request, p *Request) {
	if p.Reference == "" {
		switch {
		case req.Method != http.MethodPost:
			writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "method not allowed")
		case req.URL.Query().Has("digest"):
			r.postBlob(w, req, p)
		default:
			r.openUpload(w, p.Repository)
		}
		return
	}
	r.mu.Lock()
	u := r.uploads[p.Reference]
	r.mu.Unlock()
	// A client that loses the query of the Location gets no further (Q12).
	if u == nil || u.repo != p.Repository || req.URL.Query().Get("_state") != p.Reference {
		writeError(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch req.Method {
	case http.MethodGet:
		r.uploadStatus(w, p, u, http.StatusNoContent)
	case http.MethodPatch:
		if r.appendChunk(w, req, u) {
			r.uploadStatus(w, p, u, http.StatusAccepted)
		}
	case http.MethodPut:
		if r.appendChunk(w, req, u) {
			r.finishUpload(w, req, p, u)
		}
	case http.MethodDelete:
		r.dropUpload(p.Reference, u)
		w.WriteHeader(http.StatusNoContent)
	default:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "method not allowed")
	}
}

// postBlob is the upload in a single POST.
func (r *Registry) postBlob(w http.ResponseWriter, req *http.Request, p *Request) {
	id, u, err := r.newSession(p.Repository)
	if err != nil {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.append(req.Body); err != nil {
		r.dropUpload(id, u)
		writeReadError(w, err)
		return
	}
	r.finishUpload(w, req, &Request{Repository: p.Repository, Reference: id}, u)
}

func (r *Registry) newSession(repo string) (string, *upload, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.nextID("upload")
	u, err := newUpload(repo, r.opts.dir, id)
	if err != nil {
		return "", nil, err
	}
	r.uploads[id] = u
	return id, u, nil
}

func (r *Registry) openUpload(w http.ResponseWriter, repo string) {
	id, u, err := r.newSession(repo)
	if err != nil {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	r.uploadStatus(w, &Request{Repository: repo, Reference: id}, u, http.StatusAccepted)
}

func (r *Registry) uploadStatus(w http.ResponseWriter, p *Request, u *upload, status int) {
	w.Header().Set("Location", fmt.Sprintf("/v2/%s/blobs/uploads/%s?_state=%s", p.Repository, p.Reference, p.Reference))
	w.Header().Set("Docker-Upload-UUID", p.Reference)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, u.size-1)))
	w.WriteHeader(status)
}

// appendChunk adds the request's body to the upload, or writes why not.
func (r *Registry) appendChunk(w http.ResponseWriter, req *http.Request, u *upload) bool {
	if start, _, ok := strings.Cut(req.Header.Get("Content-Range"), "-"); ok && start != strconv.FormatInt(u.size, 10) {
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, u.size-1)))
		writeError(w, http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", "chunk out of order")
		return false
	}
	if err := u.append(req.Body); err != nil {
		writeReadError(w, err)
		return false
	}
	return true
}

// finishUpload makes the upload a blob when its digest is right; else the
// session is gone, as at most registries.
func (r *Registry) finishUpload(w http.ResponseWriter, req *http.Request, p *Request, u *upload) {
	digest := oci.Digest(req.URL.Query().Get("digest"))
	if digest != u.digest() {
		r.dropUpload(p.Reference, u)
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "blob does not match its digest")
		return
	}
	c, err := u.finish()
	if err != nil {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	r.mu.Lock()
	delete(r.uploads, p.Reference)
	r.content[digest] = c
	r.repository(p.Repository).blobs[digest] = true
	r.mu.Unlock()
	created(w, p.Repository, digest)
}

func (r *Registry) dropUpload(id string, u *upload) {
	r.mu.Lock()
	delete(r.uploads, id)
	r.mu.Unlock()
	u.discard()
}

// writeReadError answers a body that could not be read.
func writeReadError(w http.ResponseWriter, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		writeError(w, http.StatusRequestEntityTooLarge, "SIZE_INVALID", "request body is too large")
		return
	}
	writeError(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "request body ended early")
}
