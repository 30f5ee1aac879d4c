package transfer

import (
	"context"
	"maps"
	"slices"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// This file finds what is attached to images: by derived tags, which mostly do not
// exist, and by what the registry lists as referrers (S1.7).

// followAttached starts what is attached to a carried image, and to each manifest
// below it: an index is signed as a whole, or image by image.
func (k *closing) followAttached(ctx context.Context, w wanted, ref oci.Reference, digest oci.Digest, m *oci.Manifest) error {
	if w.LinksOnly || w.attached || len(k.attached) == 0 {
		return nil
	}
	w.Links = k.attached
	if err := k.startLinks(ctx, w, linkOrigin{image: w, ref: ref, digest: digest, attaches: true}, nil); err != nil {
		return err
	}
	for _, child := range m.Manifests {
		manifest, err := k.load(ctx, ref.Repository, child.Digest)
		if err != nil {
			return fault.Part(ref.String(), err)
		}
		if err := k.followAttached(ctx, w, ref.Repository.WithDigest(child.Digest), child.Digest, manifest); err != nil {
			return err
		}
	}
	return nil
}

// attachedTags derives tags from the image (S1.7.1). All of them are known to be
// asked for before the first is: that none of them stands in the list but another
// does is what sourceLacks goes by.
func attachedTags(_ context.Context, k *closing, link contract.Link, from linkOrigin) ([]target, error) {
	repo, path, err := from.place(link)
	if err != nil {
		return nil, err
	}
	var out []target
	for _, template := range link.Templates {
		if tag, ok := from.derive(template); ok {
			k.tags.ask(repo.WithTag(tag))
			out = append(out, target{repo.String(), tag, path, tag})
		}
	}
	return out, nil
}

// referrers takes what the registry lists as attached to the image, by its API or
// under the tag that stands for it; both, since a registry that got the API later
// may list there what came before (S1.7.5).
func referrers(ctx context.Context, k *closing, link contract.Link, from linkOrigin) ([]target, error) {
	repo, path, err := from.place(link)
	if err != nil {
		return nil, err
	}
	listed := map[oci.Digest]bool{}
	list, err := k.referrers(ctx, repo, from.digest)
	if err != nil {
		return nil, err
	}
	for _, desc := range list {
		listed[desc.Digest] = true
	}
	var out []target
	tagged, err := k.referrersTag(ctx, repo.WithTag(oci.ReferrersTag(from.digest)))
	if err != nil {
		return nil, err
	}
	if tagged != nil {
		tag := oci.ReferrersTag(from.digest)
		out = append(out, target{repo.String(), tag, path, tag})
		for _, desc := range tagged.Manifests {
			listed[desc.Digest] = true
		}
	}
	for _, digest := range slices.Sorted(maps.Keys(listed)) {
		out = append(out, target{repo.String(), string(digest), path, digest.Hex()})
	}
	return out, nil
}

// referrers asks the API. Without one, or where it does not know the image, the
// tag alone tells; no other failure means that nothing is attached.
func (k *closing) referrers(ctx context.Context, repo oci.Repository, digest oci.Digest) ([]oci.Descriptor, error) {
	return k.listed.Get(loadKey{repo, digest}, func() (list []oci.Descriptor, err error) {
		subject := repo.WithDigest(digest).String()
		err = k.crew.slot(func() error {
			return k.retry.do(ctx, k.log, "referrers of "+subject, func() (bool, error) {
				list, err = k.source.Referrers(ctx, repo, digest)
				return false, err
			})
		})
		if kind := fault.KindOf(err); kind == fault.NotFound || kind == fault.Unsupported {
			return nil, nil
		}
		return list, err
	})
}

// referrersTag loads what stands under a referrers tag, nil when nothing does. An
// image there lists nothing, and is not carried: it is attached to nothing.
func (k *closing) referrersTag(ctx context.Context, ref oci.Reference) (*oci.Manifest, error) {
	if lacks, err := k.sourceLacks(ctx, ref); lacks || err != nil {
		return nil, err
	}
	_, m, err := k.find(ctx, ref, false)
	switch {
	case fault.KindOf(err) == fault.NotFound:
		return nil, nil
	case err != nil:
		return nil, err
	case m.MediaType != oci.MediaTypeIndex:
		return nil, nil
	}
	return m, nil
}

// sourceLacks (S1.7.7) reports whether the repository's tag list, read once, tells that a
// derived tag does not exist. Else the tag has to be asked for; that is always
// right, and costs a request for each of some tags an image, most of which no
// image has.
//
// A wrong "no" would lose a signature without a word, so the list is believed only
// where nothing speaks against it. It must have come to its end (registry.Source
// sees to that). It must have every tag of the repository that this run knows to
// exist: a list that lags behind, or that hides what the login may not see, fails
// there. And it must have a tag that this run has not asked for: a cache that lists
// what was pulled through it would have that and nothing else.
func (k *closing) sourceLacks(ctx context.Context, ref oci.Reference) (bool, error) {
	k.tags.ask(ref)
	list, err := k.lists.Get(ref.Repository, func() (map[string]bool, error) {
		list, err := k.list(ctx, ref.Repository)
		k.tags.learn(ref.Repository, list)
		return list, err
	})
	if err != nil || list[ref.Tag] {
		return false, err
	}
	return k.tags.believe(ref.Repository), nil
}

// list reads a tag list, nil where there is none to be had: it only saves requests.
// What heals by itself is a failure here as it would be a tag later.
func (k *closing) list(ctx context.Context, repo oci.Repository) (map[string]bool, error) {
	var tags []string
	err := k.crew.slot(func() error {
		return k.retry.do(ctx, k.log, "tags of "+repo.String(), func() (bool, error) {
			var err error
			tags, err = k.source.Tags(ctx, repo)
			return false, err
		})
	})
	switch kind := fault.KindOf(err); {
	case err == nil:
	case kind == fault.NotFound, kind == fault.Unsupported, kind == fault.Denied, kind == fault.Protocol:
		k.log.Debug("no tag list, so each attachment is asked for", "repository", repo, "cause", err)
		return nil, nil
	default:
		return nil, err
	}
	list := make(map[string]bool, len(tags))
	for _, tag := range tags {
		list[tag] = true
	}
	return list, nil
}

// knownTags are the tags that a run has to do with, by repository.
type knownTags struct {
	mu    sync.Mutex
	repos map[oci.Repository]*tagsOf
}

// tagsOf are those of one repository. What its list is to be believed by is
// counted as it changes: it is asked for each tag that might be attached to each
// image, and there may be a hundred thousand in one repository.
type tagsOf struct {
	known   map[string]bool // asked for, or about to be; true for one that exists
	exist   int             // how many do
	learned bool            // whether the source was asked for its list
	list    map[string]bool // what it gave, nil for none
	missing int             // how many exist that list does not have
	others  int             // how many list has that are not asked for
}

// newKnownTags begins with the selected tags; those that are not optional exist,
// or did when the Catalog was made, or the run fails.
func newKnownTags(images []contract.SelectedImage) *knownTags {
	t := &knownTags{repos: map[oci.Repository]*tagsOf{}}
	for _, im := range images {
		ref, err := oci.ParseReference(im.Source)
		if err != nil || ref.Tag == "" {
			continue
		}
		t.of(ref.Repository).add(ref.Tag, !im.Optional && ref.Digest == "")
	}
	return t
}

// of returns the tags of repo. t.mu is held.
func (t *knownTags) of(repo oci.Repository) *tagsOf {
	if t.repos[repo] == nil {
		t.repos[repo] = &tagsOf{known: map[string]bool{}}
	}
	return t.repos[repo]
}

func (r *tagsOf) add(tag string, exists bool) {
	before, known := r.known[tag]
	switch {
	case !known && r.list[tag]:
		r.others--
	case !known && !exists && r.learned:
		return // that it is asked for tells nothing of the list, and there may be many
	}
	r.known[tag] = before || exists
	if exists && !before {
		r.exist++
		if r.learned && !r.list[tag] {
			r.missing++
		}
	}
}

// ask notes that ref will be asked for.
func (t *knownTags) ask(ref oci.Reference) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(ref.Repository).add(ref.Tag, false)
}

// prove notes that ref, if it is a tag, exists.
func (t *knownTags) prove(ref oci.Reference) {
	if ref.Tag == "" || ref.Digest != "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(ref.Repository).add(ref.Tag, true)
}

// learn notes the list of all tags of a repository; nil is none.
func (t *knownTags) learn(repo oci.Repository, list map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.of(repo)
	r.learned, r.list, r.missing, r.others = true, list, 0, len(list)
	for tag, exists := range r.known {
		switch {
		case list[tag]:
			r.others--
		case exists:
			r.missing++
		}
	}
}

// believe reports whether the list of a repository has all tags that exist, of
// which some are known, and others.
func (t *knownTags) believe(repo oci.Repository) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.of(repo)
	return r.learned && r.exist > 0 && r.missing == 0 && r.others > 0
}
