package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"ferry/pkg/oci"
)

// Quirks of manifests, tags and lists.

func isRead(req *http.Request) bool {
	return req.Method == http.MethodGet || req.Method == http.MethodHead
}

// Q13NoHead answers HEAD of manifests with status (405, 403, or even 404).
func Q13NoHead(status int) Quirk {
	return answers("Q13", fmt.Sprintf("HEAD is answered with %d", status), func(_ *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool {
		if p.Kind != KindManifest || req.Method != http.MethodHead {
			return false
		}
		writeError(w, status, "UNSUPPORTED", "HEAD is not served here")
		return true
	})
}

// Q13NoDigest leaves the digest out when a manifest is read.
func Q13NoDigest() Quirk {
	return edits("Q13", "a manifest is sent without its digest", func(a *answering) {
		if a.p.Kind == KindManifest && isRead(a.req) {
			a.Header().Del("Docker-Content-Digest")
		}
	})
}

// Q13ChildDigest answers HEAD of an index as if it were its first child.
func Q13ChildDigest() Quirk {
	return answers("Q13", "HEAD of an index tells of a child", func(r *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool {
		if p.Kind != KindManifest || req.Method != http.MethodHead {
			return false
		}
		desc, ok := r.firstChild(p.Repository, p.Reference)
		if !ok {
			return false
		}
		w.Header().Set("Docker-Content-Digest", string(desc.Digest))
		w.Header().Set("Content-Type", oci.MediaTypeManifest)
		w.Header().Set("Content-Length", fmt.Sprint(desc.Size))
		w.WriteHeader(http.StatusOK)
		return true
	})
}

func (r *Registry) firstChild(path, reference string) (oci.Descriptor, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	digest, mediaType, ok := r.find(path, reference)
	if !ok || !oci.IsIndex(mediaType) {
		return oci.Descriptor{}, false
	}
	m, err := oci.ParseManifest(mediaType, r.content[digest].data)
	if err != nil || len(m.Manifests) == 0 {
		return oci.Descriptor{}, false
	}
	return m.Manifests[0], true
}

// Q14NoDigest does not say as what a manifest was taken.
func Q14NoDigest() Quirk {
	return edits("Q14", "a manifest is taken without its digest", func(a *answering) {
		if a.p.Kind == KindManifest && a.req.Method == http.MethodPut {
			a.Header().Del("Docker-Content-Digest")
		}
	})
}

// Q15Settles refuses each index n times, with status and code, as if its children
// were not there yet.
func Q15Settles(n, status int, code string) Quirk {
	return quirk("Q15", fmt.Sprintf("an index is refused %d times, with %d %s", n, status, code), func(o *options) {
		tries := map[oci.Digest]int{} // under r.mu
		o.quirks.judges = append(o.quirks.judges, func(_ *Registry, _ *Request, m *oci.Manifest, body []byte) *refused {
			if digest := oci.DigestOf(body); len(m.Manifests) > 0 && tries[digest] < n {
				tries[digest]++
				return &refused{status, code, "a manifest of the index is unknown"}
			}
			return nil
		})
	})
}

// Q17NoDuplicates refuses an index that lists a digest twice.
func Q17NoDuplicates() Quirk {
	return judges("Q17", "an index must not list a manifest twice", func(_ *Registry, _ *Request, m *oci.Manifest, _ []byte) *refused {
		seen := map[oci.Digest]bool{}
		for _, child := range m.Manifests {
			if seen[child.Digest] {
				return &refused{http.StatusBadRequest, "MANIFEST_INVALID", "manifest invalid"}
			}
			seen[child.Digest] = true
		}
		return nil
	})
}

// Q18Types refuses, with status, manifests of these types.
func Q18Types(status int, types ...string) Quirk {
	return judges("Q18", fmt.Sprintf("types are refused with %d: %s", status, strings.Join(types, ", ")), func(_ *Registry, _ *Request, m *oci.Manifest, _ []byte) *refused {
		if slices.Contains(types, m.MediaType) {
			return &refused{status, "MANIFEST_INVALID", "manifest schema unsupported"}
		}
		return nil
	})
}

// Q19ImagesOnly refuses artifacts: manifests whose config is not an image's.
func Q19ImagesOnly() Quirk {
	return judges("Q19", "only images are taken", func(_ *Registry, _ *Request, m *oci.Manifest, _ []byte) *refused {
		if len(m.Blobs) > 0 && !oci.IsIndex(m.MediaType) && !oci.IsImageConfig(m.Blobs[0].MediaType) {
			return &refused{http.StatusBadRequest, "MANIFEST_INVALID", "manifest invalid"}
		}
		return nil
	})
}

// Q20StrictConfig refuses images whose config lacks history or rootfs.
func Q20StrictConfig() Quirk {
	return judges("Q20", "a config must have history and rootfs", func(r *Registry, _ *Request, m *oci.Manifest, _ []byte) *refused {
		if len(m.Blobs) == 0 || !oci.IsImageConfig(m.Blobs[0].MediaType) {
			return nil
		}
		var config struct{ History, RootFS json.RawMessage }
		c := r.content[m.Blobs[0].Digest]
		if c == nil || json.Unmarshal(c.data, &config) != nil || config.History == nil || config.RootFS == nil {
			return &refused{http.StatusBadRequest, "MANIFEST_INVALID", "manifest invalid"}
		}
		return nil
	})
}

// Q21NoReferrers takes the referrers API away, as distribution has none: it
// answers 404, and a manifest that has a subject is stored without a word of it.
func Q21NoReferrers() Quirk {
	return quirk("Q21", "there is no referrers API", func(o *options) {
		o.quirks.instead = append(o.quirks.instead, func(_ *Registry, w http.ResponseWriter, _ *http.Request, p *Request) bool {
			if p.Kind == KindReferrers {
				http.Error(w, "404 page not found", http.StatusNotFound) // as a registry that does not know the path at all
			}
			return p.Kind == KindReferrers
		})
		o.quirks.edits = append(o.quirks.edits, func(a *answering) { a.Header().Del("OCI-Subject") })
	})
}

// Q21EmptyReferrers lists nothing in the referrers API.
func Q21EmptyReferrers() Quirk {
	return answers("Q21", "the referrers API lists nothing", func(_ *Registry, w http.ResponseWriter, _ *http.Request, p *Request) bool {
		if p.Kind != KindReferrers {
			return false
		}
		w.Header().Set("Content-Type", oci.MediaTypeIndex)
		w.Write(IndexManifest())
		return true
	})
}

// Q22OCISubjects refuses what is attached to an image of Docker's type.
func Q22OCISubjects() Quirk {
	return judges("Q22", "nothing is attached to Docker's types", func(_ *Registry, _ *Request, m *oci.Manifest, _ []byte) *refused {
		if m.Subject != nil && strings.Contains(m.Subject.MediaType, "docker") {
			return &refused{http.StatusBadRequest, "MANIFEST_INVALID", "subject has an unsupported media type"}
		}
		return nil
	})
}

// Q23Signatures refuses, with status, to write a tag again that stands for the
// signature of a digest.
func Q23Signatures(status int) Quirk {
	return immutable("Q23", fmt.Sprintf("tags of signatures are written once, says %d", status), status, func(tag string) bool {
		return strings.HasPrefix(tag, "sha256-")
	})
}

// Q24ImmutableTags refuses, with status, to write a tag that exists, also with the
// same digest.
func Q24ImmutableTags(status int) Quirk {
	return immutable("Q24", fmt.Sprintf("tags are written once, says %d", status), status, func(string) bool { return true })
}

func immutable(code, name string, status int, which func(tag string) bool) Quirk {
	return judges(code, name, func(r *Registry, p *Request, _ *oci.Manifest, _ []byte) *refused {
		if _, ok := r.repository(p.Repository).tags[p.Reference]; ok && which(p.Reference) {
			return &refused{status, "TAG_INVALID", "tag is immutable"}
		}
		return nil
	})
}

// PageStyle is how a page of a list says where the next one is.
type PageStyle string

// The styles.
const (
	PagesByPath  PageStyle = "a path"
	PagesByURL   PageStyle = "an address"
	PagesBare    PageStyle = "a path without brackets"
	PagesSilent  PageStyle = "nothing"
	PagesTurning PageStyle = "a path, and the list is not sorted"
)

// Q25Pages caps a page of the tag list at n tags, whatever the client asks, and a
// page of referrers at n manifests.
func Q25Pages(n int, style PageStyle) Quirk {
	return quirk("Q25", fmt.Sprintf("lists have pages of %d, with %s to the next", n, style), func(o *options) { o.quirks.pageSize, o.quirks.pageStyle = n, style })
}

// Q25NoTags answers the tag list of a repository without tags with text.
func Q25NoTags(status int, text string) Quirk {
	return answers("Q25", fmt.Sprintf("no tags are %d %s", status, text), func(r *Registry, w http.ResponseWriter, _ *http.Request, p *Request) bool {
		if p.Kind != KindTags {
			return false
		}
		r.mu.Lock()
		empty := r.repos[p.Repository] == nil || len(r.repos[p.Repository].tags) == 0
		r.mu.Unlock()
		if empty {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			w.Write([]byte(text))
		}
		return empty
	})
}

// Q27NoTagList answers every tag list with status (404 or 405), as a proxy cache.
func Q27NoTagList(status int) Quirk {
	return answers("Q27", fmt.Sprintf("there is no tag list, says %d", status), func(_ *Registry, w http.ResponseWriter, _ *http.Request, p *Request) bool {
		if p.Kind == KindTags {
			writeError(w, status, "UNSUPPORTED", "no tag list here")
		}
		return p.Kind == KindTags
	})
}

// Q27Absent answers with status when a manifest is not there, as a proxy cache.
func Q27Absent(status int) Quirk {
	return answers("Q27", fmt.Sprintf("what is not there is answered with %d", status), func(r *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool {
		if p.Kind != KindManifest || !isRead(req) {
			return false
		}
		r.mu.Lock()
		_, _, ok := r.find(p.Repository, p.Reference)
		r.mu.Unlock()
		return !ok && refuse(w, status, "the upstream says no")
	})
}

// Q33Delete answers the deletion of content with status: it is switched off.
func Q33Delete(status int) Quirk {
	return answers("Q33", fmt.Sprintf("nothing can be deleted, says %d", status), func(_ *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool {
		return req.Method == http.MethodDelete && (p.Kind == KindManifest || p.Kind == KindBlob) && refuse(w, status, "deletion is switched off")
	})
}

// Q33ByDigest deletes manifests by digest alone, and all their tags with them.
func Q33ByDigest() Quirk {
	return answers("Q33", "tags cannot be deleted", func(_ *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool {
		return req.Method == http.MethodDelete && p.Kind == KindManifest && oci.ValidTag(p.Reference) && refuse(w, http.StatusBadRequest, "a digest is wanted")
	})
}

// Q33WholeDigest deletes, with a tag, the manifest and all its other tags.
func Q33WholeDigest() Quirk {
	return answers("Q33", "a tag takes the others with it", func(r *Registry, _ http.ResponseWriter, req *http.Request, p *Request) bool {
		if req.Method == http.MethodDelete && p.Kind == KindManifest {
			r.mu.Lock()
			if digest, _, ok := r.find(p.Repository, p.Reference); ok {
				p.Reference = string(digest)
			}
			r.mu.Unlock()
		}
		return false
	})
}

// Q34Sparse takes an index whose manifests are not all there. Without this none is
// taken.
func Q34Sparse() Quirk {
	return quirk("Q34", "an index may be sparse", func(o *options) { o.quirks.sparse = true })
}

// Q35ForeignWanted wants foreign layers to be there as any others.
func Q35ForeignWanted() Quirk {
	return quirk("Q35", "foreign layers have to be there", func(o *options) { o.quirks.foreign = true })
}

// Q36Limit refuses manifests of more than n bytes with 413.
func Q36Limit(n int) Quirk {
	return judges("Q36", fmt.Sprintf("manifests above %d bytes are refused", n), func(_ *Registry, _ *Request, _ *oci.Manifest, body []byte) *refused {
		if len(body) > n {
			return &refused{http.StatusRequestEntityTooLarge, "SIZE_INVALID", "manifest is too large"}
		}
		return nil
	})
}

// Q37Schema1 sends schema 1 for every tag.
func Q37Schema1() Quirk {
	return answers("Q37", "tags are schema 1", func(_ *Registry, w http.ResponseWriter, req *http.Request, p *Request) bool {
		if p.Kind != KindManifest || !isRead(req) || !oci.ValidTag(p.Reference) {
			return false
		}
		body := []byte(`{"schemaVersion":1,"name":"x","tag":"v1","architecture":"amd64","fsLayers":[],"history":[],"signatures":[]}`)
		w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
		w.Header().Set("Docker-Content-Digest", string(oci.DigestOf(body)))
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Write(body)
		return true
	})
}

// Q39Collects removes, when the first manifest comes, every blob that no manifest
// needs: a garbage collection in the middle of a run.
func Q39Collects() Quirk {
	return quirk("Q39", "garbage is collected in the middle", func(o *options) {
		done := false // under r.mu
		o.quirks.judges = append(o.quirks.judges, func(r *Registry, _ *Request, _ *oci.Manifest, _ []byte) *refused {
			if !done {
				done = true
				for _, repo := range r.repos {
					if len(repo.manifests) == 0 {
						clear(repo.blobs)
					}
				}
			}
			return nil
		})
	})
}

// Q44NoDigest leaves the digest out of every answer, as 1.1 of the specification
// allows and what follows it does not.
func Q44NoDigest() Quirk {
	return edits("Q44", "no answer has a digest", func(a *answering) { a.Header().Del("Docker-Content-Digest") })
}
