package registrytest

import (
	"net/http"

	"ferry/pkg/oci"
)

// WithDelete lets tags, manifests and blobs be deleted; without it each such
// request is answered with 405. Deleting a manifest deletes its tags.
func WithDelete() Option { return func(o *options) { o.deletes = true } }

// deleteContent answers DELETE of a tag, manifest or blob.
func (r *Registry) deleteContent(w http.ResponseWriter, p *Request) {
	if !r.opts.deletes {
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "nothing is deleted here")
		return
	}
	if !r.forget(p) {
		code := "BLOB_UNKNOWN"
		if p.Kind == KindManifest {
			code = "MANIFEST_UNKNOWN"
		}
		writeError(w, http.StatusNotFound, code, "there is no such thing")
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// forget takes out of the repository what p names, and reports whether it was there.
func (r *Registry) forget(p *Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	repo := r.repos[p.Repository]
	if repo == nil {
		return false
	}
	digest := oci.Digest(p.Reference)
	if p.Kind == KindBlob {
		had := repo.blobs[digest]
		delete(repo.blobs, digest)
		return had
	}
	if _, ok := repo.tags[p.Reference]; ok {
		delete(repo.tags, p.Reference)
		return true
	}
	_, had := repo.manifests[digest]
	delete(repo.manifests, digest)
	for tag, of := range repo.tags {
		if of == digest {
			delete(repo.tags, tag)
		}
	}
	return had
}
