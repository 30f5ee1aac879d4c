package transfer

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/memo"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry"
)

// landing says where contents land at a target.
type landing struct {
	root     oci.Repository // where the path "" lands
	prefixes []Prefix       // where else paths land; the first that fits counts
}

// repository is where path lands at the target, and below which root.
func (l landing) repository(path string) (repo, root oci.Repository) {
	for _, prefix := range l.prefixes {
		to, ok := prefix.apply(path)
		switch {
		case ok && prefix.Absolute:
			return oci.Repository{Host: l.root.Host, Path: to}, oci.Repository{Host: l.root.Host, Path: strings.Trim(prefix.To, "/")}
		case ok:
			return l.root.Join(to), l.root
		}
	}
	return l.root.Join(path), l.root
}

// tasks lists all tags with their place at the target, and refuses two that
// would share one, or a name that no registry accepts (Q41), before any request.
func (l landing) tasks(c *contract.Contents, placeholder oci.Digest) ([]tagTask, error) {
	var tasks []tagTask
	owner := map[string]oci.Digest{}
	add := func(path, tag string, digest oci.Digest, phase int, discovery bool) error {
		repo, root := l.repository(path)
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
func (l landing) assumed(c *contract.Contents) []tagTask {
	var tasks []tagTask
	for _, a := range c.Assumed {
		repo, root := l.repository(a.Path)
		_, list := oci.SubjectOfTag(a.Tag)
		tasks = append(tasks, tagTask{ref: repo.WithTag(a.Tag), root: root, digest: a.Digest, list: list})
	}
	return tasks
}

// proof is what is learned of a target by reading it, and the Receipt that says
// so: all of a Verifier's work, and the half of a Publisher's that writes nothing.
type proof struct {
	standing registry.Standing
	graph    contract.Graph // of the contents and the placeholder
	parallel int
	retry    Retry
	log      *slog.Logger
	progress progress.Tracker
	apis     memo.Slots[oci.Repository, referrersAPI]

	mu      sync.Mutex
	names   map[oci.Repository]string // as they stand in the Receipt
	receipt contract.ReceiptSpec
}

// begin gives each tag its row in the Receipt.
func (p *proof) begin(root oci.Repository, tasks, assumed []tagTask) {
	p.receipt = contract.ReceiptSpec{Target: root.String(), Tags: make([]contract.ReceiptTag, len(tasks)+len(assumed))}
	p.names = map[oci.Repository]string{}
	for i := range tasks {
		tasks[i].row = i
	}
	for i := range assumed {
		assumed[i].row = len(tasks) + i
	}
}

// name is the repository as text, one for all that stands there.
func (p *proof) name(repo oci.Repository) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	name, ok := p.names[repo]
	if !ok {
		name = repo.String()
		p.names[repo] = name
	}
	return name
}

func (p *proof) newCrew(ctx context.Context) *crew { return newCrew(ctx, p.parallel) }

func (p *proof) try(ctx context.Context, what string, op func() error) error {
	return p.retry.do(ctx, p.log, what, func() (bool, error) { return false, op() })
}

// readManifest reads a manifest whole: what is returned is that of its bytes.
func (p *proof) readManifest(ctx context.Context, ref oci.Reference) (desc oci.Descriptor, err error) {
	err = p.try(ctx, ref.String(), func() (err error) {
		desc, _, err = p.standing.Manifest(ctx, ref)
		return err
	})
	return desc, err
}

// proven notes what was read under a tag. Each task has a row of its own.
func (p *proof) proven(t tagTask, desc oci.Descriptor) {
	p.receipt.Tags[t.row] = contract.ReceiptTag{
		Repository: p.name(t.ref.Repository), Tag: t.ref.Tag, Digest: desc.Digest,
		MediaType: desc.MediaType, Size: desc.Size, Discovery: t.discovery, Referrers: t.list && oci.IsIndex(desc.MediaType),
	}
}

// wasProven reports whether the tag was read and is right.
func (p *proof) wasProven(t tagTask) bool { return p.receipt.Tags[t.row].Digest != "" }

// finished is the Receipt, with what the contents say of themselves.
func (p *proof) finished(c *contract.Contents) contract.ReceiptSpec {
	p.receipt.Skipped, p.receipt.Overview = c.Skipped, c.Overview
	return p.receipt
}
