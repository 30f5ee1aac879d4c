package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry"
)

// The tags that are written, in the repository where content is tried.
const (
	tag       = "ferry-probe"
	secondTag = "ferry-probe-2"
)

// content tries what only written content shows, and takes it back.
func (r *run) content(ctx context.Context) error {
	written := &written{samples: newSamples()}
	err := r.tryContent(ctx, written)
	// What was written is taken back after an interrupt, too.
	if cleanErr := r.clean(ctx, written); err == nil {
		err = cleanErr
	}
	return err
}

func (r *run) tryContent(ctx context.Context, w *written) error {
	for _, blob := range w.samples.blobs() {
		desc := describe("", blob)
		err := r.Registry.PutBlob(ctx, r.home, desc, bytes.NewReader(blob))
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			r.Log.Debug("a blob could not be written", "cause", err)
			r.rest(fmt.Sprintf("not asked for: a blob of %d bytes could not be written: %v", len(blob), err))
			return nil
		}
		w.blobs = append(w.blobs, place{r.home, desc.Digest})
	}
	for _, step := range []func(context.Context, *written) error{r.mount, r.types, r.tags, r.attached} {
		if err := step(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// mount takes a blob over from the repository where it was written (Q5).
func (r *run) mount(ctx context.Context, w *written) error {
	to := r.Root.Join(MountHome)
	digest := oci.DigestOf(w.bare)
	a, err := r.ask(ctx, registry.Question{
		Method: http.MethodPost, Repository: to, Path: "/blobs/uploads/", From: r.home.Path,
		Query: url.Values{"mount": {string(digest)}, "from": {r.home.Path}},
	})
	if err != nil {
		return err
	}
	has := judge(a)
	said := evidence(a)
	switch a.Status {
	case http.StatusCreated:
		w.blobs = append(w.blobs, place{to, digest})
	case http.StatusAccepted: // an upload began instead, and was cancelled
		has, said.Text = contract.VerdictNo, "the registry wants the blob to be uploaded"
	}
	r.note(contract.FeatureMount, has, said)
	return nil
}

// types tries manifests of each kind, by digest (Q18 to Q20, Q22, Q34).
func (r *run) types(ctx context.Context, w *written) error {
	w.accepted = map[contract.Feature]manifest{}
	for _, m := range w.samples.manifests() {
		if missing, ok := w.lacks(m.needs); !ok {
			r.note(m.feature, contract.VerdictUnknown, contract.Evidence{Text: fmt.Sprintf("not asked for: it needs %s", missing)})
			continue
		}
		a, err := r.put(ctx, m, string(m.descriptor().Digest), nil)
		if err != nil {
			return err
		}
		if a.Success() {
			w.accepted[m.feature] = m
			w.manifests = append(w.manifests, place{r.home, m.descriptor().Digest})
		}
		said := evidence(a)
		if m.feature == contract.FeatureSubject && a.Success() && http.Header(a.Header).Get("OCI-Subject") == "" {
			said.Text = "the answer does not say what it is attached to (OCI-Subject)"
		}
		r.note(m.feature, judge(a), said)
	}
	return nil
}

func (r *run) put(ctx context.Context, m manifest, reference string, query url.Values) (registry.Answer, error) {
	return r.ask(ctx, registry.Question{
		Method: http.MethodPut, Repository: r.home, Path: "/manifests/" + reference, Query: query, Body: m.body, MediaType: m.mediaType,
	})
}

// tags tries what tags can do, with two manifests that the registry takes.
func (r *run) tags(ctx context.Context, w *written) error {
	first, second, ok := w.two()
	if !ok {
		return nil
	}
	a, err := r.put(ctx, first, tag, nil)
	if err != nil {
		return err
	}
	if !a.Success() {
		for _, f := range []contract.Feature{contract.FeatureHead, contract.FeatureTags, contract.FeatureOverwrite} {
			r.note(f, contract.VerdictUnknown, contract.Evidence{Status: a.Status, Code: a.Code, Text: "not asked for: the tag could not be written"})
		}
		return nil
	}
	w.tags = append(w.tags, tag)
	if err := r.head(ctx, first); err != nil {
		return err
	}
	if err := r.tagList(ctx); err != nil {
		return err
	}
	if err := r.tagParameter(ctx, w, first); err != nil {
		return err
	}
	return r.overwrite(ctx, w, first, second)
}

// head asks for the tag by HEAD (Q13).
func (r *run) head(ctx context.Context, m manifest) error {
	a, err := r.ask(ctx, registry.Question{Method: http.MethodHead, Repository: r.home, Path: "/manifests/" + tag})
	if err != nil {
		return err
	}
	has, said := judge(a), evidence(a)
	if digest := http.Header(a.Header).Get("Docker-Content-Digest"); a.Success() && digest != string(m.descriptor().Digest) {
		has, said.Text = contract.VerdictNo, fmt.Sprintf("the answer names the digest %.80q", digest)
	}
	r.note(contract.FeatureHead, has, said)
	return nil
}

// tagList asks for the tags, among which there is one now (Q25).
func (r *run) tagList(ctx context.Context) error {
	a, err := r.ask(ctx, registry.Question{Method: http.MethodGet, Repository: r.home, Path: "/tags/list"})
	if err != nil {
		return err
	}
	has, said := judge(a), evidence(a)
	if a.Success() && !listsTag(a.Body, tag) {
		has, said.Text = contract.VerdictNo, "the list lacks a tag that was just written"
	}
	r.note(contract.FeatureTags, has, said)
	return nil
}

func listsTag(body []byte, tag string) bool {
	var list struct {
		Tags []string `json:"tags"`
	}
	if json.Unmarshal(body, &list) != nil {
		return false
	}
	for _, t := range list.Tags {
		if t == tag {
			return true
		}
	}
	return false
}

// tagParameter puts a manifest by digest and names the tag in the query (Q44).
// Where that is not known, the second tag is put as any other, for the steps that
// need it.
func (r *run) tagParameter(ctx context.Context, w *written, m manifest) error {
	a, err := r.put(ctx, m, string(m.descriptor().Digest), url.Values{"tag": {secondTag}})
	if err != nil {
		return err
	}
	has, said := judge(a), evidence(a)
	if a.Success() && http.Header(a.Header).Get("OCI-Tag") == "" {
		has, said.Text = contract.VerdictNo, "the answer has no OCI-Tag"
	}
	r.note(contract.FeatureTagParameter, has, said)
	if has != contract.VerdictYes {
		if a, err = r.put(ctx, m, secondTag, nil); err != nil {
			return err
		}
	}
	if a.Success() {
		w.tags = append(w.tags, secondTag)
	}
	return nil
}

// overwrite puts another manifest under the tag (Q24), and looks whether it is
// there: some registries say yes, and keep the old one.
func (r *run) overwrite(ctx context.Context, w *written, first, second manifest) error {
	a, err := r.put(ctx, second, tag, nil)
	if err != nil {
		return err
	}
	has, said := judge(a), evidence(a)
	if a.Success() {
		now, err := r.ask(ctx, registry.Question{Method: http.MethodGet, Repository: r.home, Path: "/manifests/" + tag})
		if err != nil {
			return err
		}
		if now.Success() && oci.DigestOf(now.Body) == first.descriptor().Digest {
			has, said.Text = contract.VerdictNo, "the answer was yes, and the tag has the old manifest"
		}
	}
	r.note(contract.FeatureOverwrite, has, said)
	// For the question whether a tag goes alone, both must stand for one manifest.
	if has == contract.VerdictYes {
		back, err := r.put(ctx, first, tag, nil)
		w.apart = !back.Success()
		return err
	}
	return nil
}

// attached asks the referrers API for what was attached (Q21).
func (r *run) attached(ctx context.Context, w *written) error {
	m, ok := w.accepted[contract.FeatureSubject]
	if !ok {
		r.note(contract.FeatureReferrers, contract.VerdictUnknown, contract.Evidence{Text: "not asked for: it needs " + string(contract.FeatureSubject)})
		return nil
	}
	a, err := r.referrers(ctx, w.accepted[contract.FeatureOCIImage].descriptor().Digest)
	if err != nil {
		return err
	}
	has, said := judge(a), evidence(a)
	if a.Success() && !listsManifest(a.Body, m.descriptor().Digest) {
		has, said.Text = contract.VerdictNo, "the list lacks a manifest that was just attached"
	}
	r.note(contract.FeatureReferrers, has, said)
	return nil
}

func (r *run) referrers(ctx context.Context, digest oci.Digest) (registry.Answer, error) {
	return r.ask(ctx, registry.Question{Method: http.MethodGet, Repository: r.home, Path: "/referrers/" + string(digest)})
}

func listsManifest(body []byte, digest oci.Digest) bool {
	list, err := oci.ParseManifest(oci.MediaTypeIndex, body)
	if err != nil {
		return false
	}
	for _, d := range list.Manifests {
		if d.Digest == digest {
			return true
		}
	}
	return false
}

// read asks what can be asked of a registry that nothing was written to: there an
// absent repository is no answer.
func (r *run) read(ctx context.Context) error {
	a, err := r.ask(ctx, registry.Question{Method: http.MethodGet, Repository: r.Root, Path: "/tags/list"})
	if err != nil {
		return err
	}
	r.note(contract.FeatureTags, unlessAbsent(a), evidence(a))
	if a, err = r.referrers(ctx, oci.DigestOf([]byte("{}"))); err != nil {
		return err
	}
	has, said := unlessAbsent(a), evidence(a)
	if _, err := oci.ParseManifest(oci.MediaTypeIndex, a.Body); a.Success() && err != nil {
		has, said.Text = contract.VerdictNo, "the answer is no image index"
	}
	r.note(contract.FeatureReferrers, has, said)
	return nil
}

// unlessAbsent is judge, but for a 404 that says that a repository or manifest is
// not there.
func unlessAbsent(a registry.Answer) contract.Verdict {
	if a.Status == http.StatusNotFound && a.Code != "" && a.Code != "UNSUPPORTED" {
		return contract.VerdictUnknown
	}
	return judge(a)
}
