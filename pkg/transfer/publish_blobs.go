package transfer

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/store"
)

// needs are what the target lacks below the tags that it lacks, by what is known.
type needs struct {
	blobs []delivery // the largest first
	// children are the manifests to put by digest, by how many manifests stand
	// between them and their blobs: those that others refer to come first.
	children [][]child
	// manifests are all that will be written, by digest or by tag; with CheckBlobs,
	// all that may be.
	manifests []oci.Digest
}

// delivery is a blob, and the places that it has to get to.
type delivery struct {
	desc oci.Descriptor
	to   []*place // sorted
	// from has it, by the word of a tag that is right; or nil.
	from *place
}

// child is a manifest that gets to a place under its digest.
type child struct {
	at       *place
	manifest *contract.Manifest
}

// byRepository groups what tasks need: digests of tagged manifests by
// repository, repositories sorted.
func byRepository(tasks []tagTask) ([]oci.Repository, map[oci.Repository][]oci.Digest) {
	roots := map[oci.Repository][]oci.Digest{}
	var repos []oci.Repository
	for _, t := range tasks {
		if _, known := roots[t.ref.Repository]; !known {
			repos = append(repos, t.ref.Repository)
		}
		roots[t.ref.Repository] = append(roots[t.ref.Repository], t.digest)
	}
	slices.SortFunc(repos, func(a, b oci.Repository) int { return cmp.Compare(a.Path, b.Path) })
	return repos, roots
}

// needs finds what stands below the missing tags and the pending lists, and not
// below a tag that is right: that was written when all below it stood. To check
// blobs is to look below all tags, whatever they say.
func (p *publishing) needs(tasks, missing []tagTask, lists, pending []*referrerList) (*needs, error) {
	indexes := carried(pending)
	wanted := append(slices.Clone(missing), indexes...)
	var right []tagTask
	switch {
	case p.CheckBlobs:
		indexes = carried(lists)
		wanted = append(slices.Clone(tasks), indexes...)
	case len(wanted) == 0:
		return &needs{}, nil
	default:
		right = slices.DeleteFunc(slices.Clone(tasks), func(t tagTask) bool { return !p.wasProven(t) })
	}
	out := &needs{}
	repos, roots := byRepository(wanted)
	rightRepos, rightRoots := byRepository(right)
	early := tagsBeforeLists(missing, indexes)
	blobs, manifests := map[oci.Digest]*delivery{}, map[oci.Digest]bool{}
	for _, repo := range repos {
		at, has := p.places[repo], p.below(rightRoots[repo])
		below, digests := p.graph.Closure(roots[repo]...)
		for _, d := range digests {
			if has[d] {
				continue
			}
			if blobs[d] == nil {
				desc, err := p.describe(d)
				if err != nil {
					return nil, err
				}
				blobs[d] = &delivery{desc: desc}
			}
			blobs[d].to = append(blobs[d].to, at)
		}
		below = slices.DeleteFunc(below, func(m *contract.Manifest) bool { return has[m.Digest] })
		for _, m := range below {
			manifests[m.Digest] = true
		}
		early.addChildren(out, at, below)
	}
	for _, repo := range rightRepos {
		for d := range p.below(rightRoots[repo]) {
			if b := blobs[d]; b != nil && b.from == nil {
				b.from = p.places[repo]
			}
		}
	}
	for _, t := range wanted {
		manifests[t.digest] = true // it is written, whatever else stands
	}
	for _, b := range blobs {
		out.blobs = append(out.blobs, *b)
	}
	slices.SortFunc(out.blobs, func(a, b delivery) int {
		return cmp.Or(cmp.Compare(b.desc.Size, a.desc.Size), cmp.Compare(a.desc.Digest, b.desc.Digest))
	})
	for d := range manifests {
		out.manifests = append(out.manifests, d)
	}
	slices.Sort(out.manifests)
	return out, nil
}

// below is the set of all that roots need, and they themselves.
func (p *publishing) below(roots []oci.Digest) map[oci.Digest]bool {
	manifests, blobs := p.graph.Closure(roots...)
	set := make(map[oci.Digest]bool, len(manifests)+len(blobs))
	for _, m := range manifests {
		set[m.Digest] = true
	}
	for _, d := range blobs {
		set[d] = true
	}
	return set
}

// early tells which manifests need not be put by digest for the sake of a list of
// referrers: their own tag comes before it.
type early struct {
	tagged map[oci.Reference]bool // by digest
	lists  map[oci.Digest]bool    // the lists that the source had
}

func tagsBeforeLists(missing []tagTask, lists []tagTask) early {
	e := early{map[oci.Reference]bool{}, map[oci.Digest]bool{}}
	content, _ := contentFirst(missing)
	for _, t := range content {
		e.tagged[t.ref.Repository.WithDigest(t.digest)] = true
	}
	for _, t := range lists {
		e.lists[t.digest] = true
	}
	return e
}

// addChildren adds those of manifests that have to stand under their digest before
// any tag: those that another one refers to, and those that only a list of
// referrers will refer to, unless their own tag comes before it. manifests are
// sorted, children before parents.
func (e early) addChildren(out *needs, at *place, manifests []*contract.Manifest) {
	first := map[oci.Digest]bool{}
	for _, m := range manifests {
		if m.Subject != "" && !e.tagged[at.repo.WithDigest(m.Digest)] {
			first[m.Digest] = true
		}
		for _, d := range m.References {
			if !e.lists[m.Digest] || !e.tagged[at.repo.WithDigest(d)] {
				first[d] = true
			}
		}
	}
	heights := contract.Heights(manifests)
	for _, m := range manifests {
		if !first[m.Digest] {
			continue
		}
		level := heights[m.Digest]
		for len(out.children) <= level {
			out.children = append(out.children, nil)
		}
		out.children[level] = append(out.children[level], child{at, m})
	}
}

// blobs brings each blob to all places that need it: sent once, mounted into the
// others where the registry can.
func (p *publishing) blobs(ctx context.Context, needs *needs) error {
	var total int64
	for _, d := range needs.blobs {
		total += d.desc.Size * int64(len(d.to))
	}
	p.Progress.Phase("sending blobs")
	p.Progress.SetTotal(total, p.figures.Tags)
	crew := p.newCrew(ctx)
	// No blob is begun before all but the last few before it have ended: find
	// tells by that what an interrupted run may have left out.
	underWay := make(chan struct{}, max(p.Parallel, 1))
	for _, d := range needs.blobs {
		select {
		case underWay <- struct{}{}:
		case <-crew.ctx.Done():
			return crew.wait(ctx)
		}
		crew.run(string(d.desc.Digest), func(ctx context.Context) error {
			defer func() { <-underWay }()
			return p.deliver(ctx, crew, d)
		})
	}
	return crew.wait(ctx)
}

// describe returns the descriptor of a blob of the content.
func (p *publishing) describe(d oci.Digest) (oci.Descriptor, error) {
	size, err := p.content.Stat(d)
	if err != nil {
		return oci.Descriptor{}, fault.Newf(fault.Damaged, string(d), "the content is not where the inventory says: %w", err)
	}
	return oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}, nil
}

// chain is how many places get a blob one after the other; what more there are
// get it at the same time, lest one blob of hundreds of places comes last alone.
const chain = 8

// deliver makes one blob stand in all places that need it.
func (p *publishing) deliver(ctx context.Context, crew *crew, d delivery) error {
	from, to := d.from, d.to
	if from == nil && len(to) > 0 {
		if err := p.bring(ctx, d.desc, to[0], nil); err != nil {
			return err
		}
		from, to = to[0], to[1:]
	}
	spread := func(ctx context.Context, to []*place) error {
		for _, at := range to {
			if err := p.bring(ctx, d.desc, at, from); err != nil {
				return err
			}
		}
		return nil
	}
	if len(to) <= chain {
		return spread(ctx, to)
	}
	for part := range slices.Chunk(to, chain) {
		crew.goNext(string(d.desc.Digest), func(ctx context.Context) error {
			return crew.slot(func() error { return spread(ctx, part) })
		})
	}
	return nil
}

// bring makes a blob stand at one place; from has it, if not nil.
func (p *publishing) bring(ctx context.Context, desc oci.Descriptor, at, from *place) error {
	err := p.bringOnce(ctx, desc, at, from)
	if err != nil {
		return fmt.Errorf("to %s: %w", at.name, err)
	}
	return nil
}

func (p *publishing) bringOnce(ctx context.Context, desc oci.Descriptor, at, from *place) error {
	there := false
	var err error
	if p.CheckBlobs || from == nil {
		if there, err = p.find(ctx, desc, at, from == nil); err != nil {
			return err
		}
	}
	if !there {
		if err := p.writable(ctx, at.repo); err != nil {
			return err
		}
	}
	if !there && from != nil {
		// A mount is one request, as a question is, and leaves nothing to do.
		if there, err = p.mount(ctx, desc, at.repo, from.repo); err != nil {
			return err
		}
		if !there && !p.CheckBlobs {
			if there, err = p.find(ctx, desc, at, false); err != nil {
				return err
			}
		}
	}
	if there {
		p.Progress.AddBytes(desc.Size)
		return nil
	}
	return p.upload(ctx, desc, at.repo)
}

// worthAsking is the size from which on a blob is always asked for before it is
// sent: about what a line of 20 MB/s carries in the time of one question, 50 ms.
const worthAsking = 1 << 20

// find asks whether the blob is there, where that can save an upload. It cannot in
// a repository that has neither tags nor blobs so far, once more blobs were
// missed than an interrupted run may have left out before it came this far: blobs
// are sent in one order, so it leaves holes only for what was under way and for
// what failed. Large blobs are asked for even then, in case another content was
// sent before.
func (p *publishing) find(ctx context.Context, desc oci.Descriptor, at *place, first bool) (bool, error) {
	holes := int64(max(p.Parallel, 1) + maxFailures)
	if !p.CheckBlobs && !at.used.Load() && desc.Size < worthAsking && p.misses.Load() > holes {
		return false, nil
	}
	var there bool
	err := p.try(ctx, string(desc.Digest), func() (err error) {
		there, err = p.Target.HasBlob(ctx, at.repo, desc)
		return err
	})
	switch kind := fault.KindOf(err); {
	case kind == fault.Denied, kind == fault.Protocol, kind == fault.Unsupported:
		// A question that is refused says nothing of the blob, and by HEAD not even
		// why: that may be a limit (Q29). The upload tells.
		p.Log.Debug("the registry does not say whether it has the blob; it is sent", "blob", desc.Digest, "repository", at.name, "cause", err)
		return false, nil
	case err != nil:
		return false, err
	case there:
		at.used.Store(true)
	case first:
		p.misses.Add(1)
	}
	return there, nil
}

// maxRefusals in a row are a registry that does not mount, not one blob that it
// could not find.
const maxRefusals = 3

// mount is an optimisation only: whatever goes wrong with it, the blob is sent
// (Q5).
func (p *publishing) mount(ctx context.Context, desc oci.Descriptor, repo, from oci.Repository) (bool, error) {
	p.mu.Lock()
	refusals := p.refusals
	p.mu.Unlock()
	if refusals >= maxRefusals {
		return false, nil
	}
	mounted, err := p.Target.MountBlob(ctx, repo, desc, from)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || !mounted {
		p.refusals++
		p.Log.Debug("the registry would not mount; the blob is sent", "blob", desc.Digest, "repository", repo, "cause", err)
		return false, nil
	}
	p.refusals = 0
	p.figures.BlobsMounted++
	return true, nil
}

// upload sends a blob, hashing it on the way: damaged content is never
// completed at the target.
func (p *publishing) upload(ctx context.Context, desc oci.Descriptor, repo oci.Repository) error {
	blob, err := p.content.Open(desc.Digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	body := &counted{body: store.VerifiedBy(p.sums.New(), blob, desc), mark: progress.Mark{Tracker: p.Progress}}
	err = p.try(ctx, string(desc.Digest), func() error {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return p.Target.PutBlob(ctx, repo, desc, body)
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.figures.BlobsUploaded++
	p.figures.BytesUploaded += desc.Size
	return nil
}

// children puts the manifests that others refer to, each below its parents, and
// those that are attached to others, by digest. Tags follow afterwards. All that
// will be written is read before: it may be what nobody has verified.
func (p *publishing) children(ctx context.Context, needs *needs) error {
	for _, d := range needs.manifests {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := readSmall(p.content, d); err != nil {
			return err
		}
	}
	for _, level := range needs.children {
		crew := p.newCrew(ctx)
		for _, c := range level {
			ref := c.at.repo.WithDigest(c.manifest.Digest)
			crew.run(ref.String(), func(ctx context.Context) error { return p.child(ctx, ref) })
		}
		if err := crew.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// child puts a manifest by its digest. To ask before would cost as much, unless
// most are there, as when blobs are checked.
func (p *publishing) child(ctx context.Context, ref oci.Reference) error {
	if p.CheckBlobs {
		if _, err := p.readManifest(ctx, ref); fault.KindOf(err) != fault.NotFound {
			return err
		}
	}
	return p.put(ctx, ref, ref.Digest)
}
