package transfer

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/memo"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry"
	"ferry/pkg/sha256pair"
	"ferry/pkg/store"
)

// Publisher writes Contents to a target and proves that they stand there.
//
// Order is everything: blobs, then child manifests and what is attached, then
// tags by phase; no tag is written before all tags of lower phases. And no
// manifest or tag at all is written before every blob and manifest that has to be
// written is proven: hashed while it was sent, or known to the target by its
// digest. So content that nobody has verified may be published: what is damaged
// leaves nothing behind that a reader could find.
//
// What stands there already is not written, so a second run writes nothing, and
// immutable tags are no trouble (Q24). Each tag is read whole: one that is right
// was written when all below it stood, and nothing below it is asked for.
// Lists of referrers, which the target may have entries of its own in, are kept
// by publish_referrers.go.
type Publisher struct {
	Target   registry.Target
	Content  store.Reader
	Root     oci.Repository // where the contents' path "" lands
	Prefixes []Prefix       // where else paths land; the first that fits counts
	// CheckBlobs asks for every blob and child below tags that are right
	// already too, and sends again what the target has lost.
	CheckBlobs bool
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
	row  int // in the Receipt
}

// stands reports whether desc is what the task wants at the target.
func (t tagTask) stands(desc oci.Descriptor) bool {
	return desc.Digest == t.digest || t.list && desc.MediaType == oci.MediaTypeIndex
}

// place is a repository of the target, and what the run has learned of it.
type place struct {
	repo, root oci.Repository
	name       string // of repo, as it stands in the Receipt
	tags       int    // that shall stand there
	first      int    // row of the tag that is asked for first
	// missed is set by a tag that is not there: others may be missing too.
	missed atomic.Bool
	// used is set by anything found there: a tag, or a blob that an
	// interrupted run has left.
	used atomic.Bool
	// standing is the first tag that was found there.
	standing atomic.Pointer[string]
}

// publishing is the state of one Publish.
type publishing struct {
	*Publisher
	proof
	content placeholderContent
	sums    sha256pair.Group // of blobs on their way
	places  map[oci.Repository]*place
	access  memo.Once[oci.Repository, struct{}] // the access check of each root
	listed  memo.Once[*place, []string]         // the tag lists, sorted

	// misses counts the blobs that were asked for in vain in their first place.
	misses atomic.Int64

	// What follows is guarded by proof.mu.
	figures Published
	// written are the manifests that were put by digest and not read back yet.
	written map[oci.Reference]bool
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
	run := &publishing{
		Publisher: p, content: placeholderContent{p.Content, placeholder},
		proof: proof{
			standing: p.Target, graph: graphOf(c, placeholder),
			parallel: p.Parallel, retry: p.Retry, log: p.Log, progress: p.Progress,
		},
		places: map[oci.Repository]*place{}, written: map[oci.Reference]bool{},
	}
	to := landing{p.Root, p.Prefixes}
	all, err := to.tasks(c, placeholder.Descriptor.Digest)
	if err != nil {
		return contract.ReceiptSpec{}, Published{}, err
	}
	if err := run.publish(ctx, all, to.assumed(c)); err != nil {
		return contract.ReceiptSpec{}, run.figures, err
	}
	return run.finished(c), run.figures, nil
}

// publish makes all stand, on top of what is assumed to stand.
func (p *publishing) publish(ctx context.Context, all, assumed []tagTask) error {
	tasks, lists := p.separate(all)
	p.figures.Tags = int64(len(all) + len(assumed))
	p.begin(p.Root, tasks, assumed)
	p.survey(tasks, lists, assumed)
	p.Progress.Phase("comparing tags")
	if err := p.expect(ctx, assumed); err != nil {
		return err
	}
	missing, err := p.compare(ctx, tasks)
	if err != nil {
		return err
	}
	pending, err := p.compareLists(ctx, lists)
	if err != nil {
		return err
	}
	p.listed = memo.Once[*place, []string]{}
	if err := p.checkAccess(ctx, missing); err != nil {
		return err
	}
	needs, err := p.needs(tasks, missing, lists, pending)
	if err != nil {
		return err
	}
	if err := p.blobs(ctx, needs); err != nil {
		return err
	}
	if err := p.children(ctx, needs); err != nil {
		return err
	}
	// No tag shows anything that its readers would not get (N24).
	if err := p.readWritten(ctx); err != nil {
		return err
	}
	// What is attached is listed before a version shows that there is something
	// to verify.
	content, later := contentFirst(missing)
	if err := p.tags(ctx, content); err != nil {
		return err
	}
	if err := p.list(ctx, pending); err != nil {
		return err
	}
	if err := p.tags(ctx, later); err != nil {
		return err
	}
	p.Progress.Phase("reading back")
	if err := p.readBack(ctx, missing); err != nil {
		return err
	}
	if err := p.readWritten(ctx); err != nil { // what was sent once more
		return err
	}
	err = p.readLists(ctx, pending)
	p.figures.Tags = int64(len(p.receipt.Tags))
	return err
}

// survey notes the repositories of the target that the run is about.
func (p *publishing) survey(tasks []tagTask, lists []*referrerList, assumed []tagTask) {
	at := func(repo, root oci.Repository) *place {
		if p.places[repo] == nil {
			p.places[repo] = &place{repo: repo, root: root, name: p.name(repo)}
		}
		return p.places[repo]
	}
	for _, t := range tasks {
		to := at(t.ref.Repository, t.root)
		if to.tags == 0 {
			to.first = t.row
		}
		to.tags++
	}
	for _, l := range lists {
		at(l.repo, l.root)
	}
	for _, t := range assumed {
		at(t.ref.Repository, t.root)
	}
}

// expect refuses an update to something that the target does not have, before
// the first write: it would announce versions without their images (S6.11).
func (p *publishing) expect(ctx context.Context, assumed []tagTask) error {
	missing, err := p.ask(ctx, assumed, p.standsByName)
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
