package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry"
	"ferry/pkg/store"
)

// Publisher writes Contents to a target and proves that they stand there.
//
// Order is everything: blobs, then child manifests and what is attached, then
// tags by phase; no tag is written before all tags of lower phases. What stands
// there already is asked for and not written, so a second run writes nothing, and
// immutable tags are no trouble (Q24). Lists of referrers, which the target may
// have entries of its own in, are kept by publish_referrers.go.
type Publisher struct {
	Target   registry.Target
	Content  store.Reader
	Root     oci.Repository // where the contents' path "" lands
	Prefixes []Prefix       // where else paths land; the first that fits counts
	// TrustTags takes the word of a tag that has the right digest already for
	// all that is below it. Else every blob and child is asked for, and what a
	// target has lost is sent again.
	TrustTags bool
	// BypassAccessCheck goes on after a failed access check, with a warning:
	// for registries that refuse an upload without content (S7.3.2).
	BypassAccessCheck bool
	Parallel          int // requests at a time, at least 1
	Retry             Retry
	Log               *slog.Logger
	Progress          progress.Tracker
}

// Prefix maps the repositories at and below From to To: with modules to
// my/mods, modules/x/release lands in my/mods/x/release. To may be empty, unless
// it is absolute.
type Prefix struct {
	From, To string
	// Absolute makes To a path from the registry's root, beside or above the
	// Publisher's Root. Nothing else leaves the Root: a relative To cannot climb.
	Absolute bool
}

func (p Prefix) apply(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, p.From)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return strings.Trim(p.To+rest, "/"), true
}

// Published are figures of a publish: what was written, not what stands there.
type Published struct {
	Tags, TagsWritten            int64
	BlobsUploaded, BytesUploaded int64
	BlobsMounted                 int64
}

// tagTask is one tag to stand at the target.
type tagTask struct {
	ref       oci.Reference  // repository and tag at the target
	root      oci.Repository // the Root, or the To of an absolute prefix
	digest    oci.Digest
	phase     int
	discovery bool
	// list takes any index for the right one: what is listed there may have
	// become more at the target (S7.6.5).
	list bool
}

// stands reports whether desc is what the task wants at the target.
func (t tagTask) stands(desc oci.Descriptor) bool {
	return desc.Digest == t.digest || t.list && desc.MediaType == oci.MediaTypeIndex
}

// publishing is the state of one Publish.
type publishing struct {
	*Publisher
	graph   contract.Graph
	content placeholderContent
	roots   map[oci.Repository]oci.Repository // the root of each repository
	access  memo[oci.Repository, struct{}]    // the access check of each root

	mu      sync.Mutex
	figures Published
	// refusals counts the mounts in a row that the registry would not do;
	// after a few it is not asked again (Q5).
	refusals int
}

// Publish makes every tag of c stand at the target and returns what was read
// back. Nothing is written before every target name is known to be valid.
// Kinds: those of registry.Target; fault.Damaged when the content does not hash
// to its name; fault.Protocol when what is read back is not what was written.
func (p *Publisher) Publish(ctx context.Context, c *contract.Contents) (contract.ReceiptSpec, Published, error) {
	placeholder := oci.NewPlaceholder()
	run := &publishing{Publisher: p, graph: c.Graph(), content: placeholderContent{p.Content, placeholder}}
	run.graph[placeholder.Descriptor.Digest] = run.content.manifest()
	all, err := p.tasks(c, placeholder.Descriptor.Digest)
	if err != nil {
		return contract.ReceiptSpec{}, Published{}, err
	}
	tasks, lists := run.separate(all)
	run.roots = map[oci.Repository]oci.Repository{}
	for _, t := range all {
		run.roots[t.ref.Repository] = t.root
	}
	p.Progress.Phase("comparing tags")
	assumed := p.assumed(c)
	if err := run.expect(ctx, assumed); err != nil {
		return contract.ReceiptSpec{}, run.figures, err
	}
	run.figures.Tags = int64(len(all) + len(assumed))
	p.Progress.AddImages(int64(len(assumed)))
	missing, err := run.missing(ctx, tasks)
	if err != nil {
		return contract.ReceiptSpec{}, run.figures, err
	}
	if err := run.checkAccess(ctx, missing); err != nil {
		return contract.ReceiptSpec{}, run.figures, err
	}
	p.Progress.AddImages(int64(len(tasks) - len(missing)))
	checked := all
	if p.TrustTags {
		checked = append(slices.Clone(missing), carried(lists)...)
	}
	if err := run.blobs(ctx, checked); err != nil {
		return contract.ReceiptSpec{}, run.figures, err
	}
	if err := run.children(ctx, checked); err != nil {
		return contract.ReceiptSpec{}, run.figures, err
	}
	// What is attached is listed before a version shows that there is something
	// to verify.
	content, later := contentFirst(missing)
	if err := run.tags(ctx, content); err != nil {
		return contract.ReceiptSpec{}, run.figures, err
	}
	if err := run.list(ctx, lists); err != nil {
		return contract.ReceiptSpec{}, run.figures, err
	}
	if err := run.tags(ctx, later); err != nil {
		return contract.ReceiptSpec{}, run.figures, err
	}
	p.Progress.Phase("reading back")
	receipt, err := run.readBack(ctx, append(tasks, assumed...))
	if err == nil {
		err = run.readLists(ctx, lists, &receipt)
	}
	receipt.Skipped, receipt.Overview = c.Skipped, c.Overview
	return receipt, run.figures, err
}

// contentFirst splits tasks, which are sorted by phase, behind the first phase.
func contentFirst(tasks []tagTask) (content, later []tagTask) {
	n := slices.IndexFunc(tasks, func(t tagTask) bool { return t.phase > contract.PhaseContent })
	if n < 0 {
		n = len(tasks)
	}
	return tasks[:n], tasks[n:]
}

// tasks lists all tags with their place at the target, and refuses two that
// would share one, or a name that no registry accepts (Q41), before any write.
func (p *Publisher) tasks(c *contract.Contents, placeholder oci.Digest) ([]tagTask, error) {
	var tasks []tagTask
	owner := map[string]oci.Digest{}
	add := func(path, tag string, digest oci.Digest, phase int, discovery bool) error {
		repo, root := p.repository(path)
		if _, err := oci.ParseRepository(repo.String()); err != nil {
			return fault.New(fault.Usage, path+":"+tag, err).Hint("choose another target path; every repository of the bundle must have a valid name below it")
		}
		ref := repo.WithTag(tag)
		if other, ok := owner[ref.String()]; ok && other != digest {
			return fault.Newf(fault.Usage, ref.String(), "two images would land here").Hint("choose another prefix mapping")
		}
		owner[ref.String()] = digest
		tasks = append(tasks, tagTask{ref: ref, root: root, digest: digest, phase: phase, discovery: discovery})
		return nil
	}
	for _, im := range c.Images {
		if err := add(im.Path, im.Tag, im.Digest, im.Phase, false); err != nil {
			return nil, err
		}
	}
	for _, d := range c.Discovery {
		if err := add(d.Path, d.Tag, placeholder, d.Phase, true); err != nil {
			return nil, err
		}
	}
	return tasks, nil
}

// assumed lists the tags that an update takes for granted.
func (p *Publisher) assumed(c *contract.Contents) []tagTask {
	var tasks []tagTask
	for _, a := range c.Assumed {
		repo, root := p.repository(a.Path)
		_, list := oci.SubjectOfTag(a.Tag)
		tasks = append(tasks, tagTask{ref: repo.WithTag(a.Tag), root: root, digest: a.Digest, list: list})
	}
	return tasks
}

// expect refuses an update to something that the target does not have, before
// the first write: it would announce versions without their images (S6.11).
func (p *publishing) expect(ctx context.Context, assumed []tagTask) error {
	missing, err := p.missing(ctx, assumed)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range missing {
		errs = append(errs, fault.Newf(fault.Policy, t.ref.String(), "the content is an update that takes for granted that this tag is %s, and it is not", t.digest).
			Hint("publish the bundles before it first, or fetch without --since"))
	}
	return errors.Join(errs...)
}

// repository is where path lands at the target, and below which root.
func (p *Publisher) repository(path string) (repo, root oci.Repository) {
	for _, prefix := range p.Prefixes {
		to, ok := prefix.apply(path)
		switch {
		case ok && prefix.Absolute:
			return oci.Repository{Host: p.Root.Host, Path: to}, oci.Repository{Host: p.Root.Host, Path: strings.Trim(prefix.To, "/")}
		case ok:
			return p.Root.Join(to), p.Root
		}
	}
	return p.Root.Join(path), p.Root
}

func (p *publishing) newCrew(ctx context.Context) *crew { return newCrew(ctx, p.Parallel) }

func (p *publishing) try(ctx context.Context, what string, op func() error) error {
	return p.Retry.do(ctx, p.Log, what, func() (bool, error) { return false, op() })
}

// missing returns the tasks whose tag does not have the right digest yet.
func (p *publishing) missing(ctx context.Context, tasks []tagTask) ([]tagTask, error) {
	var mu sync.Mutex
	var missing []tagTask
	crew := p.newCrew(ctx)
	for _, t := range tasks {
		crew.run(t.ref.String(), func(ctx context.Context) error {
			var desc oci.Descriptor
			err := p.try(ctx, t.ref.String(), func() (err error) {
				desc, err = p.Target.Resolve(ctx, t.ref)
				return err
			})
			if err != nil && fault.KindOf(err) != fault.NotFound {
				return err
			}
			if err == nil && t.stands(desc) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			missing = append(missing, t)
			return nil
		})
	}
	err := crew.wait(ctx)
	slices.SortFunc(missing, func(a, b tagTask) int {
		return cmp.Or(cmp.Compare(a.phase, b.phase), cmp.Compare(a.ref.Path, b.ref.Path), cmp.Compare(a.ref.Tag, b.ref.Tag))
	})
	return missing, err
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

// blobs brings each blob to all repositories that need it: sent once, mounted
// into the others where the registry can.
func (p *publishing) blobs(ctx context.Context, tasks []tagTask) error {
	repos, roots := byRepository(tasks)
	wantedIn := map[oci.Digest][]oci.Repository{}
	for _, repo := range repos {
		_, blobs := p.graph.Closure(roots[repo]...)
		for _, d := range blobs {
			wantedIn[d] = append(wantedIn[d], repo)
		}
	}
	descs := make([]oci.Descriptor, 0, len(wantedIn))
	var total int64
	for d, repos := range wantedIn {
		desc, err := p.describe(d)
		if err != nil {
			return err
		}
		descs = append(descs, desc)
		total += desc.Size * int64(len(repos))
	}
	slices.SortFunc(descs, func(a, b oci.Descriptor) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Digest, b.Digest))
	})
	p.Progress.Phase("sending blobs")
	p.Progress.SetTotal(total, p.figures.Tags)
	crew := p.newCrew(ctx)
	for _, desc := range descs {
		crew.run(string(desc.Digest), func(ctx context.Context) error {
			return p.spread(ctx, desc, wantedIn[desc.Digest])
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

// spread makes one blob stand in all repos.
func (p *publishing) spread(ctx context.Context, desc oci.Descriptor, repos []oci.Repository) error {
	var has *oci.Repository
	for _, repo := range repos {
		if err := p.place(ctx, desc, repo, has); err != nil {
			return fmt.Errorf("to %s: %w", repo, err)
		}
		has = &repo
	}
	return nil
}

func (p *publishing) place(ctx context.Context, desc oci.Descriptor, repo oci.Repository, from *oci.Repository) error {
	var there bool
	err := p.try(ctx, string(desc.Digest), func() (err error) {
		there, err = p.Target.HasBlob(ctx, repo, desc)
		return err
	})
	if err != nil {
		return err
	}
	if !there {
		if err := p.writable(ctx, repo); err != nil {
			return err
		}
	}
	if !there && from != nil {
		if there, err = p.mount(ctx, desc, repo, *from); err != nil {
			return err
		}
	}
	if there {
		p.Progress.AddBytes(desc.Size)
		return nil
	}
	return p.upload(ctx, desc, repo)
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
	body := &counted{body: store.Verified(blob, desc), progress: p.Progress}
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
// those that are attached to others, by digest. Tags follow afterwards.
func (p *publishing) children(ctx context.Context, tasks []tagTask) error {
	repos, roots := byRepository(tasks)
	crew := p.newCrew(ctx)
	for _, repo := range repos {
		manifests, _ := p.graph.Closure(roots[repo]...)
		needed := p.first(manifests)
		if len(needed) == 0 {
			continue
		}
		crew.run(repo.String(), func(ctx context.Context) error {
			for _, m := range needed {
				if err := p.child(ctx, repo, m); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return crew.wait(ctx)
}

// first returns those of manifests that another one of them refers to, and those
// that a list of referrers will refer to, in the same order.
func (p *publishing) first(manifests []*contract.Manifest) []*contract.Manifest {
	isChild := map[oci.Digest]bool{}
	for _, m := range manifests {
		for _, d := range m.References {
			isChild[d] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(manifests), func(m *contract.Manifest) bool { return !isChild[m.Digest] && m.Subject == "" })
}

func (p *publishing) child(ctx context.Context, repo oci.Repository, m *contract.Manifest) error {
	ref := repo.WithDigest(m.Digest)
	err := p.try(ctx, ref.String(), func() error {
		_, err := p.Target.Resolve(ctx, ref)
		return err
	})
	if fault.KindOf(err) != fault.NotFound {
		return err
	}
	return p.put(ctx, ref, m.Digest)
}

// tags puts the tags, a phase after the other.
func (p *publishing) tags(ctx context.Context, tasks []tagTask) error {
	p.Progress.Phase("writing tags")
	for len(tasks) > 0 {
		n := slices.IndexFunc(tasks, func(t tagTask) bool { return t.phase != tasks[0].phase })
		if n < 0 {
			n = len(tasks)
		}
		crew := p.newCrew(ctx)
		for _, t := range tasks[:n] {
			crew.run(t.ref.String(), func(ctx context.Context) error {
				if err := p.put(ctx, t.ref, t.digest); err != nil {
					return err
				}
				p.Progress.AddImages(1)
				p.mu.Lock()
				defer p.mu.Unlock()
				p.figures.TagsWritten++
				return nil
			})
		}
		if err := crew.wait(ctx); err != nil {
			return err
		}
		tasks = tasks[n:]
	}
	return nil
}

// put sends a manifest. A registry may have said that it has a blob and then
// miss it (half-deleted, or eventually consistent: Q16); then the blobs are sent
// once more, without asking.
func (p *publishing) put(ctx context.Context, ref oci.Reference, digest oci.Digest) error {
	if err := p.writable(ctx, ref.Repository); err != nil {
		return err
	}
	body, err := readSmall(p.content, digest)
	if err != nil {
		return err
	}
	m := p.graph[digest]
	send := func() error {
		return p.try(ctx, ref.String(), func() error { return p.Target.PutManifest(ctx, ref, m.MediaType, body) })
	}
	err = send()
	if fault.KindOf(err) != fault.NotFound {
		return err
	}
	p.Log.Warn("the registry misses a part that it said it had; sending the parts again", "manifest", ref, "cause", err)
	for _, d := range m.References {
		if _, isManifest := p.graph[d]; isManifest {
			if err := p.put(ctx, ref.Repository.WithDigest(d), d); err != nil {
				return err
			}
			continue
		}
		desc, err := p.describe(d)
		if err != nil {
			return err
		}
		if err := p.upload(ctx, desc, ref.Repository); err != nil {
			return err
		}
	}
	return send()
}

// readBack asks for every tag's manifest, whole, and hashes it: what the target
// gives its readers counts, not what it answered to the writer.
func (p *publishing) readBack(ctx context.Context, tasks []tagTask) (contract.ReceiptSpec, error) {
	receipt := contract.ReceiptSpec{Target: p.Root.String(), Tags: make([]contract.ReceiptTag, len(tasks))}
	crew := p.newCrew(ctx)
	for i, t := range tasks {
		crew.run(t.ref.String(), func(ctx context.Context) error {
			var desc oci.Descriptor
			err := p.try(ctx, t.ref.String(), func() (err error) {
				desc, _, err = p.Target.Manifest(ctx, t.ref)
				return err
			})
			if err != nil {
				return fmt.Errorf("reading it back: %w", err)
			}
			if !t.stands(desc) {
				return fault.Newf(fault.Protocol, "", "reading it back gave %s, but %s was published", desc.Digest, t.digest).
					Hint("somebody else may be writing to the target; publish again when they are done")
			}
			receipt.Tags[i] = contract.ReceiptTag{
				Repository: t.ref.Repository.String(), Tag: t.ref.Tag, Digest: desc.Digest,
				MediaType: desc.MediaType, Size: desc.Size, Discovery: t.discovery, Referrers: t.list && oci.IsIndex(desc.MediaType),
			}
			return nil
		})
	}
	return receipt, crew.wait(ctx)
}

// counted tells progress of the bytes read, those of a repeated upload once.
type counted struct {
	body           io.ReadSeeker
	progress       progress.Tracker
	position, most int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.position += int64(n)
	if c.position > c.most {
		c.progress.AddBytes(c.position - c.most)
		c.most = c.position
	}
	return n, err
}

func (c *counted) Seek(offset int64, whence int) (int64, error) {
	position, err := c.body.Seek(offset, whence)
	c.position = position
	return position, err
}

// placeholderContent is content with the placeholder image added.
type placeholderContent struct {
	store.Reader
	image oci.Placeholder
}

func (c placeholderContent) manifest() *contract.Manifest {
	m := &contract.Manifest{Digest: c.image.Descriptor.Digest, MediaType: c.image.Descriptor.MediaType, Size: c.image.Descriptor.Size}
	for _, b := range c.image.Blobs {
		m.References = append(m.References, b.Descriptor.Digest)
	}
	return m
}

func (c placeholderContent) find(d oci.Digest) ([]byte, bool) {
	if d == c.image.Descriptor.Digest {
		return c.image.Manifest, true
	}
	for _, b := range c.image.Blobs {
		if d == b.Descriptor.Digest {
			return b.Content, true
		}
	}
	return nil, false
}

func (c placeholderContent) Stat(d oci.Digest) (int64, error) {
	if b, ok := c.find(d); ok {
		return int64(len(b)), nil
	}
	return c.Reader.Stat(d)
}

func (c placeholderContent) Open(d oci.Digest) (store.Blob, error) {
	if b, ok := c.find(d); ok {
		return memoryBlob{bytes.NewReader(b)}, nil
	}
	return c.Reader.Open(d)
}

type memoryBlob struct{ *bytes.Reader }

func (memoryBlob) Close() error  { return nil }
func (b memoryBlob) Size() int64 { return b.Reader.Size() }
