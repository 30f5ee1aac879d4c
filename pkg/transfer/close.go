package transfer

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/memo"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry"
	"ferry/pkg/store"
)

// maxDepth bounds indexes in indexes; real ones have one level (N13).
const maxDepth = 8

// Closer closes a Selection: it resolves every tag to a digest, follows links
// and indexes, and so finds every image, manifest and blob with its size. Only
// manifests, and the layers in which links are read, are downloaded, into Store,
// where a later download finds them.
type Closer struct {
	Source   registry.Source
	Store    store.Ingester
	Parallel int // requests at a time, at least 1
	Retry    Retry
	Log      *slog.Logger
	Progress progress.Tracker
}

// Close returns the closed contents of sel. All failures are tried to be found
// and joined. Kinds: those of registry.Source, and fault.Protocol when two
// descriptions of the same thing disagree.
func (c *Closer) Close(ctx context.Context, sel *contract.SelectionSpec) (contract.Contents, error) {
	c.Progress.Phase("resolving")
	crew := newCrew(ctx, c.Parallel)
	k := &closing{
		// The bytes read for links are not part of any total yet.
		receiver:  receiver{source: c.Source, store: c.Store, retry: c.Retry, log: c.Log, progress: progress.None()},
		crew:      crew,
		attached:  sel.Attached,
		tags:      newKnownTags(sel.Images),
		locked:    map[string]oci.Digest{},
		familiar:  map[oci.Repository]bool{},
		manifests: contract.Graph{},
		blobs:     map[oci.Digest]contract.Blob{},
		words:     map[string]string{},
	}
	for _, im := range sel.Images {
		if im.Digest != "" {
			k.locked[im.Source] = im.Digest
			if ref, err := oci.ParseReference(im.Source); err == nil {
				k.familiar[ref.Repository] = true
			}
		}
	}
	var aliases []*contract.SelectedImage
	for i := range sel.Images {
		im := &sel.Images[i]
		if im.Phase >= contract.PhaseChannel {
			aliases = append(aliases, im)
			continue
		}
		k.start(im)
	}
	crew.pause() // what aliases stand for is known then
	for _, im := range aliases {
		k.start(im)
	}
	if err := crew.wait(ctx); err != nil {
		return contract.Contents{}, err
	}
	if err := c.Store.Sync(ctx); err != nil {
		return contract.Contents{}, err
	}
	return k.contents(sel)
}

// start starts the search for a selected image.
func (k *closing) start(im *contract.SelectedImage) {
	k.crew.goUnlimited(im.Source, func(ctx context.Context) error { return k.want(ctx, wanted{SelectedImage: *im}) })
}

// wanted is an image to be had: selected, or found by a link at some depth.
type wanted struct {
	contract.SelectedImage
	depth    int
	attached bool // found by a link of the Selection's Attached
	guessed  bool // its tag is derived, so it need not exist
}

// found is an image of the contents, as the one that is wanted at a tag has it.
type found struct {
	contract.Image
	depth int
	needs string
}

// closing is the state of one Close.
type closing struct {
	receiver
	crew     *crew
	attached []contract.Link
	tags     *knownTags
	locked   map[string]oci.Digest // what references stand for, as the Selection says
	// familiar are the repositories of which something was read before: what their
	// tags lead to may be there.
	familiar map[oci.Repository]bool

	// opening is the first question for a tag, which others wait for. news is set
	// while what tags stand for is not in the store: then GET, which brings the
	// manifest, spares a request; else HEAD spares the content.
	opening sync.Once
	news    atomic.Bool

	resolved memo.Once[string, oci.Digest]
	loaded   memo.Once[loadKey, *oci.Manifest]
	parsed   memo.Settled[oci.Digest, parsedManifest]
	files    memo.Once[filesKey, map[string][]byte]
	lists    memo.Once[oci.Repository, map[string]bool]
	listed   memo.Once[loadKey, []oci.Descriptor]

	mu        sync.Mutex
	images    []found
	skipped   []contract.Skipped
	manifests contract.Graph
	blobs     map[oci.Digest]contract.Blob
	words     map[string]string // media types and repositories, each once
}

type loadKey struct {
	repo   oci.Repository
	digest oci.Digest
}

type parsedManifest struct {
	desc oci.Descriptor
	*oci.Manifest
}

// want finds an image. What it leads to is started in turn.
func (k *closing) want(ctx context.Context, w wanted) error {
	ref, err := oci.ParseReference(w.Source)
	if err != nil {
		return fault.New(fault.Damaged, w.Source, err)
	}
	return k.advise(w, k.have(ctx, w, ref))
}

// have finds an image with all that belongs to it, and starts what it leads to.
func (k *closing) have(ctx context.Context, w wanted, ref oci.Reference) error {
	if w.guessed {
		lacks, err := k.sourceLacks(ctx, ref)
		if err != nil {
			return err
		}
		if lacks {
			return k.absent(w, fault.Newf(fault.NotFound, w.Source, "the tag list does not have it"))
		}
	}
	digest, manifest, err := k.find(ctx, ref, w.Phase >= contract.PhaseChannel)
	if fault.KindOf(err) == fault.NotFound {
		return k.absent(w, err)
	}
	if err != nil {
		return err
	}
	if err := k.require(ctx, ref.Repository, digest, 0); err != nil {
		return err
	}
	if !w.LinksOnly {
		k.mu.Lock()
		k.images = append(k.images, found{contract.Image{
			Archive: w.Archive, Path: w.Path, Tag: w.Tag, Phase: w.Phase, Digest: digest, Source: w.Source, Reason: w.Reason,
		}, w.depth, w.Needs})
		k.mu.Unlock()
	}
	return k.follow(ctx, w, ref, digest, manifest)
}

// advise tells the way around attachments that are broken at the source: nobody
// there may be able to repair them soon.
func (k *closing) advise(w wanted, err error) error {
	kind := fault.KindOf(err)
	if !w.attached || kind != fault.Protocol && kind != fault.NotFound {
		return err
	}
	return fault.New(fault.Protocol, "", err).Hint("if the source cannot be repaired, --skip-attachments leaves out all that is attached to images")
}

// absent skips an optional image, and fails for any other. Only a definite
// "not found" comes here: a refused or timed-out request never excuses (S5.2).
func (k *closing) absent(w wanted, err error) error {
	if !w.Optional {
		return fmt.Errorf("the source does not have it, and it is not optional (%s): %w", w.Reason, err)
	}
	if w.attached {
		return nil // an image without a signature lacks nothing
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.skipped = append(k.skipped, contract.Skipped{Source: w.Source, Path: w.Path, Tag: w.Tag, Reason: w.Reason})
	return nil
}

// find resolves ref once, however many ask for it, and loads its manifest: a
// tag that moves during the run is what it was at first (N21). One that the
// Selection has locked is not asked for at all: what it stood for was read, and
// something was decided by that. An alias mostly stands for what another tag does.
func (k *closing) find(ctx context.Context, ref oci.Reference, alias bool) (oci.Digest, *oci.Manifest, error) {
	if ref.Digest != "" {
		m, err := k.load(ctx, ref.Repository, ref.Digest)
		return ref.Digest, m, err
	}
	name := ref.String()
	if digest, ok := k.locked[name]; ok {
		m, err := k.load(ctx, ref.Repository, digest)
		return digest, m, outdated(ref, digest, err)
	}
	digest, err := k.resolved.Get(name, func() (oci.Digest, error) { return k.resolve(ctx, ref, alias) })
	if err != nil {
		return "", nil, err
	}
	k.tags.prove(ref)
	m, err := k.load(ctx, ref.Repository, digest)
	if err != nil {
		err = fault.Part(name, err) // the tag is there, so the image is not absent
	}
	return digest, m, err
}

// resolve asks what a tag stands for. A manifest that comes with the answer is kept.
func (k *closing) resolve(ctx context.Context, ref oci.Reference, alias bool) (oci.Digest, error) {
	var desc oci.Descriptor
	var body []byte
	err := k.crew.slot(func() (err error) {
		first := false
		k.opening.Do(func() {
			first = true
			desc, body, err = k.ask(ctx, ref, false)
		})
		if !first {
			desc, body, err = k.ask(ctx, ref, k.news.Load() && !alias && !k.familiar[ref.Repository])
		}
		return err
	})
	if err != nil || body == nil {
		return desc.Digest, err
	}
	_, err = k.parsed.Get(desc.Digest, func() (parsedManifest, error) {
		m, err := oci.ParseManifest(desc.MediaType, body)
		if err != nil {
			return parsedManifest{}, fault.New(fault.Protocol, ref.String(), err)
		}
		return parsedManifest{desc, k.slim(m)}, k.keep(ctx, desc, body)
	})
	return desc.Digest, err
}

// ask asks what a tag stands for, by HEAD, or by GET, which brings the manifest too.
// body is nil for one that the store has.
func (k *closing) ask(ctx context.Context, ref oci.Reference, whole bool) (desc oci.Descriptor, body []byte, err error) {
	err = k.retry.do(ctx, k.log, ref.String(), func() (_ bool, err error) {
		if whole {
			desc, body, err = k.source.Manifest(ctx, ref)
		} else {
			desc, err = k.source.Resolve(ctx, ref)
		}
		return false, err
	})
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	switch _, err := k.store.Stat(desc.Digest); {
	case err == nil:
		k.news.Store(false)
		return desc, nil, nil
	case fault.KindOf(err) == fault.NotFound:
		k.news.Store(true)
		return desc, body, nil
	default:
		return oci.Descriptor{}, nil, err
	}
}

// outdated turns the absence of a locked image into an error that nothing
// excuses: it was there, and the Selection relies on what it said.
func outdated(ref oci.Reference, digest oci.Digest, err error) error {
	if fault.KindOf(err) != fault.NotFound {
		return err
	}
	return fault.Newf(fault.Protocol, ref.String(), "when it was read it was %s, which the source has no longer: %v", digest, err).
		Hint("the Catalog is out of date; run discover and select again, and then the same command")
}

// load reads the manifest once, in the first repository that has it. That the
// store, or another repository, has it does not tell that this one does, but its
// content is what matters.
func (k *closing) load(ctx context.Context, repo oci.Repository, digest oci.Digest) (*oci.Manifest, error) {
	return k.loaded.Get(loadKey{repo, digest}, func() (*oci.Manifest, error) {
		p, err := k.parsed.Get(digest, func() (p parsedManifest, err error) {
			var m *oci.Manifest
			err = k.crew.slot(func() error {
				p.desc, _, m, err = k.parse(ctx, repo, digest)
				return err
			})
			if err != nil {
				return p, err
			}
			p.Manifest = k.slim(m)
			return p, nil
		})
		if err != nil {
			return nil, err
		}
		return p.Manifest, k.note(repo, p.desc, p.Manifest)
	})
}

// require makes sure that everything below a carried manifest is known.
func (k *closing) require(ctx context.Context, repo oci.Repository, digest oci.Digest, depth int) error {
	if depth > maxDepth {
		return fault.Newf(fault.Protocol, repo.WithDigest(digest).String(), "indexes are nested more than %d deep", maxDepth)
	}
	m, err := k.load(ctx, repo, digest)
	if err != nil {
		return fault.Part(repo.String(), err)
	}
	for _, child := range m.Manifests {
		if err := k.require(ctx, repo, child.Digest, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// note records a manifest and its blobs. The repository to read them from is
// the first by name, whatever order the answers came in: same input, same Plan.
func (k *closing) note(repo oci.Repository, desc oci.Descriptor, m *oci.Manifest) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	name := k.word(repo.String())
	for _, d := range m.Blobs {
		b, known := k.blobs[d.Digest]
		if !known {
			b = contract.Blob{Digest: d.Digest, Size: d.Size, Repository: name}
		}
		if b.Size != d.Size {
			return sizeError(d, b.Size)
		}
		b.Repository = min(b.Repository, name)
		k.blobs[d.Digest] = b
	}
	entry, known := k.manifests[desc.Digest]
	if !known {
		described := contract.DescribeManifest(desc, m)
		entry = &described
		entry.Repository = name
		k.manifests[desc.Digest] = entry
	}
	entry.Repository = min(entry.Repository, name)
	return nil
}

// slim returns what the closing needs of a manifest, which stays in memory until it
// ends, with all others: what many say in the same words is there once.
func (k *closing) slim(m *oci.Manifest) *oci.Manifest {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, list := range [][]oci.Descriptor{m.Manifests, m.Blobs} {
		for i := range list {
			list[i].MediaType = k.word(list[i].MediaType)
			if b, known := k.blobs[list[i].Digest]; known {
				list[i].Digest = b.Digest
			}
		}
	}
	out := &oci.Manifest{MediaType: k.word(m.MediaType), Manifests: m.Manifests, Blobs: m.Blobs, Subject: m.Subject}
	if len(m.Layers) > 0 {
		out.Layers = m.Blobs[1:] // behind the config
	}
	return out
}

// word returns the copy of s that is kept. k.mu is held.
func (k *closing) word(s string) string {
	kept, ok := k.words[s]
	if !ok {
		k.words[s], kept = s, s
	}
	return kept
}

// contents assembles what was found, in an order that does not depend on the
// order of the answers.
func (k *closing) contents(sel *contract.SelectionSpec) (contract.Contents, error) {
	c := contract.Contents{
		Vendor:    sel.Vendor,
		Source:    sel.Source,
		Archives:  slices.Clone(sel.Archives),
		Discovery: slices.Clone(sel.Discovery),
		Overview:  sel.Overview,
	}
	for d := range k.blobs {
		if m, both := k.manifests[d]; both {
			return contract.Contents{}, fault.Newf(fault.Protocol, m.Repository+"@"+string(d), "one image refers to it as a manifest, another as a blob; no archive and no registry can hold it as both")
		}
	}
	k.skipNeedy()
	var err error
	if c.Images, err = oneOwner(k.images); err != nil {
		return contract.Contents{}, err
	}
	k.addNeeded(&c)
	c.Skipped = skippedOnce(k.skipped, c.Images)
	c.PruneEmpty()
	c.UpdateOverview()
	c.Normalize()
	if err := c.Validate(); err != nil {
		return contract.Contents{}, fmt.Errorf("closing the selection: %w", err)
	}
	return c, nil
}

// skipNeedy skips the images that need one which was skipped.
func (k *closing) skipNeedy() {
	have := map[string]bool{} // of those that are needed
	for _, f := range k.images {
		if f.needs != "" {
			have[f.needs] = false
		}
	}
	if len(have) == 0 {
		return
	}
	for _, f := range k.images {
		target := f.Path + ":" + f.Tag
		if _, needed := have[target]; needed {
			have[target] = true
		}
	}
	k.images = slices.DeleteFunc(k.images, func(f found) bool {
		if f.needs == "" || have[f.needs] {
			return false
		}
		k.skipped = append(k.skipped, contract.Skipped{Source: f.Source, Path: f.Path, Tag: f.Tag, Reason: f.Reason + "; the source does not have " + f.needs})
		return true
	})
}

// oneOwner keeps one image a target tag: the selected one before those found
// by links. The same tag with two digests cannot be carried.
func oneOwner(images []found) ([]contract.Image, error) {
	slices.SortFunc(images, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.depth, b.depth),
			cmp.Compare(a.Archive, b.Archive), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Reason, b.Reason))
	})
	out := make([]contract.Image, 0, len(images))
	for i, f := range images {
		if i > 0 && f.Path == images[i-1].Path && f.Tag == images[i-1].Tag {
			if owner := out[len(out)-1]; owner.Digest != f.Digest {
				return nil, fault.Newf(fault.Protocol, f.Path+":"+f.Tag, "two images claim this tag: %s (%s) and %s (%s)", owner.Digest, owner.Source, f.Digest, f.Source)
			}
			continue
		}
		out = append(out, f.Image)
	}
	return out, nil
}

// addNeeded adds the manifests and blobs that the images need; images read for
// their links alone leave none.
func (k *closing) addNeeded(c *contract.Contents) {
	roots := make([]oci.Digest, len(c.Images))
	for i, im := range c.Images {
		roots[i] = im.Digest
	}
	manifests, blobs := k.manifests.Closure(roots...)
	c.Manifests = make([]contract.Manifest, len(manifests))
	for i, m := range manifests {
		c.Manifests[i] = *m
	}
	c.Blobs = make([]contract.Blob, len(blobs))
	for i, d := range blobs {
		c.Blobs[i] = k.blobs[d]
	}
}

// skippedOnce drops repetitions, and images that another way found after all.
func skippedOnce(skipped []contract.Skipped, images []contract.Image) []contract.Skipped {
	type target struct{ source, path, tag string }
	seen := map[target]bool{}
	for _, im := range images {
		seen[target{im.Source, im.Path, im.Tag}] = true
	}
	slices.SortFunc(skipped, func(a, b contract.Skipped) int { return cmp.Compare(a.Reason, b.Reason) })
	var out []contract.Skipped
	for _, s := range skipped {
		t := target{s.Source, s.Path, s.Tag}
		if !seen[t] {
			seen[t] = true
			out = append(out, s)
		}
	}
	return out
}
