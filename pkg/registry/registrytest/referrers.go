package registrytest

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"ferry/pkg/oci"
)

// referrer is a manifest in the list of its subject.
type referrer struct {
	oci.Descriptor
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

func (r *Registry) serveReferrers(w http.ResponseWriter, req *http.Request, p *Request) {
	if req.Method != http.MethodGet {
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "method not allowed")
		return
	}
	subject, err := oci.ParseDigest(p.Reference)
	if err != nil {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "invalid digest")
		return
	}
	r.mu.Lock()
	list := r.referrers(r.repos[p.Repository], subject)
	r.mu.Unlock()
	if kind := req.URL.Query().Get("artifactType"); kind != "" {
		list = slices.DeleteFunc(list, func(d referrer) bool { return d.ArtifactType != kind })
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	last := oci.Digest(req.URL.Query().Get("last"))
	list = slices.DeleteFunc(list, func(d referrer) bool { return d.Digest <= last })
	if size := r.opts.quirks.pageSize; size > 0 && size < len(list) {
		list = list[:size]
		setNext(w, req, r.opts.quirks.pageStyle, fmt.Sprintf("/v2/%s/referrers/%s?last=%s", p.Repository, subject, url.QueryEscape(string(list[size-1].Digest))))
	}
	w.Header().Set("Content-Type", oci.MediaTypeIndex)
	w.Write(marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeIndex, "manifests": list}))
}

// referrers are the manifests of repo that have subject, by digest. r.mu is held.
func (r *Registry) referrers(repo *repository, subject oci.Digest) []referrer {
	list := []referrer{}
	if repo == nil {
		return list
	}
	for _, digest := range slices.Sorted(maps.Keys(repo.manifests)) {
		c := r.content[digest]
		m, err := oci.ParseManifest(repo.manifests[digest], c.data)
		if err != nil || m.Subject == nil || m.Subject.Digest != subject {
			continue // what was seeded as hostile is attached to nothing
		}
		desc := oci.Descriptor{MediaType: m.MediaType, Digest: digest, Size: c.size}
		list = append(list, referrer{desc, m.ArtifactType, m.Annotations})
	}
	return list
}
