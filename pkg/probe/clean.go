package probe

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry"
)

// written is what the probe has put into the registry, in that order.
type written struct {
	samples
	blobs     []place
	manifests []place
	tags      []string // in the repository where content is tried
	accepted  map[contract.Feature]manifest
	// apart: the two tags do not stand for the same manifest.
	apart bool
}

type place struct {
	repo   oci.Repository
	digest oci.Digest
}

// lacks returns the first feature whose manifest was not accepted.
func (w *written) lacks(needs []contract.Feature) (contract.Feature, bool) {
	for _, f := range needs {
		if _, ok := w.accepted[f]; !ok {
			return f, false
		}
	}
	return "", true
}

// two returns two manifests that were accepted and need no other.
func (w *written) two() (first, second manifest, ok bool) {
	var found []manifest
	for _, m := range w.samples.manifests() {
		if _, ok := w.accepted[m.feature]; ok && m.needs == nil {
			found = append(found, m)
		}
	}
	if len(found) < 2 {
		return manifest{}, manifest{}, false
	}
	return found[0], found[1], true
}

// cleanTimeout bounds what is done after an interrupt.
const cleanTimeout = 30 * time.Second

// clean deletes all that was written, last first, and finds out on the way what
// can be deleted (Q33).
func (r *run) clean(ctx context.Context, w *written) error {
	cleaning, stop := ctx, context.CancelFunc(func() {})
	if ctx.Err() != nil {
		cleaning, stop = context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	}
	defer stop()
	tags, err := r.cleanTags(cleaning, w)
	if err != nil {
		return err
	}
	if err := r.cleanManifests(cleaning, w, tags); err != nil {
		return err
	}
	if err := r.cleanBlobs(cleaning, w); err != nil {
		return err
	}
	return r.emptied(cleaning, w)
}

// gone deletes what stands at path and looks whether it is gone. The answer is a
// success where it is.
func (r *run) gone(ctx context.Context, repo oci.Repository, path string) (registry.Answer, error) {
	deleted, err := r.ask(ctx, registry.Question{Method: http.MethodDelete, Repository: repo, Path: path})
	if err != nil || !deleted.Success() && deleted.Status != http.StatusNotFound {
		return deleted, err
	}
	there, err := r.ask(ctx, registry.Question{Method: http.MethodHead, Repository: repo, Path: path})
	if there.Success() {
		return registry.Answer{Status: deleted.Status, Kind: fault.Unsupported, Text: "it is still there"}, err
	}
	return deleted, err
}

// cleanTags deletes the tags, and returns those that stay. After the first, it
// looks whether the second has gone along.
func (r *run) cleanTags(ctx context.Context, w *written) (stay []string, err error) {
	for i, t := range w.tags {
		a, err := r.gone(ctx, r.home, "/manifests/"+t)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			r.note(contract.FeatureDeleteTag, judge(a), evidence(a))
		}
		if !a.Success() {
			stay = append(stay, t)
			continue
		}
		if i == 0 && len(w.tags) > 1 && !w.apart {
			other, err := r.ask(ctx, registry.Question{Method: http.MethodHead, Repository: r.home, Path: "/manifests/" + w.tags[1]})
			if err != nil {
				return nil, err
			}
			r.note(contract.FeatureDeleteTagAlone, judge(other), evidence(other))
		}
	}
	return stay, nil
}

// cleanManifests deletes manifests by digest, those that need others first. A tag
// that could not be deleted goes along with its manifest, or stays.
func (r *run) cleanManifests(ctx context.Context, w *written, tags []string) error {
	for i, m := range slices.Backward(w.manifests) {
		a, err := r.gone(ctx, m.repo, "/manifests/"+string(m.digest))
		if err != nil {
			return err
		}
		if a.Kind == fault.NotFound { // it went with the last of its tags
			continue
		}
		if i == len(w.manifests)-1 || !a.Success() {
			r.deletes(contract.FeatureDeleteManifest, a)
		}
		if !a.Success() {
			r.left("the manifest %s@%s", m.repo, m.digest)
		}
	}
	for _, t := range tags {
		a, err := r.ask(ctx, registry.Question{Method: http.MethodHead, Repository: r.home, Path: "/manifests/" + t})
		if err != nil {
			return err
		}
		if a.Status != http.StatusNotFound {
			r.left("the tag %s:%s", r.home, t)
		}
	}
	return nil
}

func (r *run) cleanBlobs(ctx context.Context, w *written) error {
	for i, b := range slices.Backward(w.blobs) {
		a, err := r.gone(ctx, b.repo, "/blobs/"+string(b.digest))
		if err != nil {
			return err
		}
		if a.Kind == fault.NotFound { // it went with the last manifest that needed it
			continue
		}
		if i == len(w.blobs)-1 || !a.Success() {
			r.deletes(contract.FeatureDeleteBlob, a)
		}
		if !a.Success() {
			r.left("the blob %s@%s", b.repo, b.digest)
		}
	}
	return nil
}

// deletes notes whether something can be deleted; a refusal outweighs what could
// be.
func (r *run) deletes(f contract.Feature, a registry.Answer) {
	for i, known := range r.spec.Features {
		if known.Feature == f {
			if known.Has == contract.VerdictYes {
				r.spec.Features[i] = contract.TargetFeature{Feature: f, Has: judge(a), Evidence: evidence(a)}
			}
			return
		}
	}
	r.note(f, judge(a), evidence(a))
}

// emptied looks whether the registry still knows the repositories.
func (r *run) emptied(ctx context.Context, w *written) error {
	seen := map[oci.Repository]bool{}
	for _, b := range w.blobs {
		if seen[b.repo] {
			continue
		}
		seen[b.repo] = true
		a, err := r.ask(ctx, registry.Question{Method: http.MethodGet, Repository: b.repo, Path: "/tags/list"})
		if err != nil {
			return err
		}
		if a.Success() && json.Valid(a.Body) {
			r.left("the repository %s", b.repo)
		}
	}
	return nil
}
