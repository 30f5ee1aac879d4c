package registrytest

import (
	"net/http"

	"ferry/pkg/oci"
)

// serveDelete deletes a blob, a tag, or a manifest with all its tags.
func (r *Registry) serveDelete(w http.ResponseWriter, p *Request) {
	r.mu.Lock()
	known := r.remove(p)
	r.mu.Unlock()
	switch {
	case known:
		w.WriteHeader(http.StatusAccepted)
	case p.Kind == KindBlob:
		writeError(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
	default:
		writeError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
	}
}

// remove deletes what p names, and reports whether it was there. r.mu is held.
func (r *Registry) remove(p *Request) bool {
	repo := r.repos[p.Repository]
	if repo == nil {
		return false
	}
	digest := oci.Digest(p.Reference)
	if p.Kind == KindBlob {
		known := repo.blobs[digest]
		delete(repo.blobs, digest)
		return known
	}
	if _, known := repo.tags[p.Reference]; known {
		delete(repo.tags, p.Reference)
		return true
	}
	_, known := repo.manifests[digest]
	delete(repo.manifests, digest)
	for tag, to := range repo.tags {
		if to == digest {
			delete(repo.tags, tag)
		}
	}
	return known
}
