package transfer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// listFrom is the number of tags from which on a repository that lacks one of
// them is asked for its list: one request instead of as many.
const listFrom = 2

// compare returns the tasks whose tag does not stand yet, sorted by phase. One
// tag of each repository goes first: where it is missing, the repository's list
// of tags spares the questions for the others. Whether even that one is worth a
// question one repository tells: a target is mostly empty, or has all.
func (p *publishing) compare(ctx context.Context, tasks []tagTask) ([]tagTask, error) {
	var opening, others []tagTask
	for _, t := range tasks {
		if p.places[t.ref.Repository].first == t.row {
			opening = append(opening, t)
		} else {
			others = append(others, t)
		}
	}
	missing, err := p.scout(ctx, opening)
	for _, tasks := range [][]tagTask{opening[min(1, len(opening)):], others} {
		if err != nil {
			return nil, err
		}
		var more []tagTask
		more, err = p.ask(ctx, tasks, p.standsInList)
		missing = append(missing, more...)
	}
	slices.SortFunc(missing, func(a, b tagTask) int {
		return cmp.Or(cmp.Compare(a.phase, b.phase), cmp.Compare(a.ref.Path, b.ref.Path), cmp.Compare(a.ref.Tag, b.ref.Tag))
	})
	return missing, err
}

// scout asks for one tag. Where that is missing, so are others, and the lists tell
// which.
func (p *publishing) scout(ctx context.Context, opening []tagTask) (missing []tagTask, err error) {
	missing, err = p.ask(ctx, opening[:min(1, len(opening))], p.standsByName)
	if len(missing) > 0 {
		for _, t := range opening[1:] {
			p.places[t.ref.Repository].missed.Store(true)
		}
	}
	return missing, err
}

// ask returns those of tasks that do not stand, in no order.
func (p *publishing) ask(ctx context.Context, tasks []tagTask, stands func(context.Context, tagTask) (bool, error)) ([]tagTask, error) {
	var mu sync.Mutex
	var missing []tagTask
	crew := p.newCrew(ctx)
	for _, t := range tasks {
		crew.run(t.ref.String(), func(ctx context.Context) error {
			there, err := stands(ctx, t)
			switch {
			case err != nil:
				return err
			case there:
				p.Progress.AddImages(1)
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			missing = append(missing, t)
			return nil
		})
	}
	return missing, crew.wait(ctx)
}

// standsByName reads the tag, whole: one that is right is proven by that, and
// noted for the Receipt.
func (p *publishing) standsByName(ctx context.Context, t tagTask) (bool, error) {
	at := p.places[t.ref.Repository]
	desc, err := p.readManifest(ctx, t.ref)
	switch {
	case fault.KindOf(err) == fault.NotFound:
		at.missed.Store(true)
		return false, nil
	case err != nil:
		return false, err
	}
	at.used.Store(true)
	at.standing.CompareAndSwap(nil, &t.ref.Tag)
	if !t.stands(desc) {
		return false, nil
	}
	p.proven(t, desc)
	return true, nil
}

// standsInList is standsByName, but takes the word of a list that does not have
// the tag. At worst the list is behind, and what stands there is written again.
func (p *publishing) standsInList(ctx context.Context, t tagTask) (bool, error) {
	at := p.places[t.ref.Repository]
	if at.tags >= listFrom && at.missed.Load() {
		list, err := p.tagList(ctx, at)
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if _, has := slices.BinarySearch(list, t.ref.Tag); err == nil && !has {
			return false, nil
		}
	}
	return p.standsByName(ctx, t)
}

// tagList returns all tags of a repository, sorted, none of one that does not
// exist. After any error the tags are asked for one by one.
func (p *publishing) tagList(ctx context.Context, at *place) ([]string, error) {
	return p.listed.Get(at, func() (tags []string, err error) {
		err = p.try(ctx, at.name, func() (err error) {
			tags, err = p.Target.Tags(ctx, at.repo)
			return err
		})
		if err != nil && fault.KindOf(err) != fault.NotFound {
			p.Log.Debug("there is no list of tags; they are asked for one by one", "repository", at.name, "cause", err)
			return nil, err
		}
		slices.Sort(tags)
		if standing := at.standing.Load(); standing != nil {
			if _, has := slices.BinarySearch(tags, *standing); !has {
				return nil, fault.Newf(fault.Protocol, at.name, "the list does not have %s, which stands", *standing)
			}
		}
		if len(tags) > 0 {
			at.used.Store(true)
		}
		return tags, nil
	})
}

// contentFirst splits tasks, which are sorted by phase, behind the first phase.
func contentFirst(tasks []tagTask) (content, later []tagTask) {
	n := slices.IndexFunc(tasks, func(t tagTask) bool { return t.phase > contract.PhaseContent })
	if n < 0 {
		n = len(tasks)
	}
	return tasks[:n], tasks[n:]
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
			crew.run(t.ref.String(), func(ctx context.Context) error { return p.tag(ctx, t) })
		}
		if err := crew.wait(ctx); err != nil {
			return err
		}
		tasks = tasks[n:]
	}
	return nil
}

func (p *publishing) tag(ctx context.Context, t tagTask) error {
	err := p.put(ctx, t.ref, t.digest)
	if err != nil {
		if err = p.refused(ctx, t, err); err == nil {
			p.Progress.AddImages(1)
		}
		return err
	}
	p.Progress.AddImages(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.figures.TagsWritten++
	return nil
}

// refused returns nil for a tag that is right, though its writing was refused. Tags
// that may be written once are refused to whoever repeats himself (Q24): after an
// answer that was lost, or a list of tags that was behind. One that leads elsewhere
// is never written over by other means; the error says where it leads.
func (p *publishing) refused(ctx context.Context, t tagTask, refusal error) error {
	switch fault.KindOf(refusal) {
	case fault.Denied, fault.Protocol, fault.Unsupported:
	default:
		return refusal
	}
	desc, err := p.readManifest(ctx, t.ref)
	switch cause := fault.CauseOf(refusal); {
	case err != nil:
		return refusal
	case t.stands(desc):
		p.proven(t, desc)
		return nil
	case cause != nil && cause != fault.Forbidden:
		return refusal // it would be refused under any tag
	}
	return fault.Newf(fault.KindOf(refusal), "", "the tag is %s at the target, and the registry does not let it become %s: %w", desc.Digest, t.digest, refusal).
		Because(fault.TagImmutable)
}

// put sends a manifest. A registry may have said that it has a blob and then
// miss it (half-deleted, collected meanwhile, or eventually consistent: Q16, Q39);
// then the parts are sent once more, without asking.
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
	for try := 0; try < resends && fault.KindOf(err) == fault.NotFound && fault.CauseOf(err) != fault.ManifestRefused; try++ {
		p.Log.Warn("the registry misses a part that it said it had; sending again", "manifest", ref, "cause", err)
		if err := p.heal(ctx, ref.Repository, m, try); err != nil {
			return err
		}
		err = send()
	}
	p.noteWritten(ref, err)
	return p.explain(err, m, body)
}

// resends is how often a manifest is sent again for a part that is missing.
const resends = 3

// heal does something about a manifest whose parts are missing: it sends them
// again, and when that was done it waits, for some registries see a little later
// what they have taken (Q15).
func (p *publishing) heal(ctx context.Context, repo oci.Repository, m *contract.Manifest, try int) error {
	if try > 0 {
		select {
		case <-time.After(p.Retry.Delay << (try - 1)):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for _, d := range m.References {
		if _, isManifest := p.graph[d]; isManifest {
			if err := p.put(ctx, repo.WithDigest(d), d); err != nil {
				return err
			}
			continue
		}
		desc, err := p.describe(d)
		if err != nil {
			return err
		}
		if err := p.upload(ctx, desc, repo); err != nil {
			return err
		}
	}
	return nil
}

// noteWritten notes a manifest that was put by its digest. Tags are read back
// anyway.
func (p *publishing) noteWritten(ref oci.Reference, err error) {
	if err != nil || ref.Tag != "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written[ref] = true
}

// readWritten reads the manifests back that were put by digest since it was last
// called, whole, in one request each.
func (p *publishing) readWritten(ctx context.Context) error {
	p.mu.Lock()
	written := p.written
	p.written = map[oci.Reference]bool{}
	p.mu.Unlock()
	crew := p.newCrew(ctx)
	for ref := range written {
		crew.run(ref.String(), func(ctx context.Context) error {
			if _, err := p.readManifest(ctx, ref); err != nil {
				return fmt.Errorf("reading it back: %w", err)
			}
			return nil
		})
	}
	return crew.wait(ctx)
}

// readBack asks for the manifest of every tag that was written, whole, and hashes
// it: what the target gives its readers counts, not what it answered to the writer.
func (p *publishing) readBack(ctx context.Context, written []tagTask) error {
	crew := p.newCrew(ctx)
	for _, t := range written {
		if p.wasProven(t) {
			continue // it was refused, and read for that
		}
		crew.run(t.ref.String(), func(ctx context.Context) error {
			desc, err := p.readManifest(ctx, t.ref)
			if err != nil {
				return fmt.Errorf("reading it back: %w", err)
			}
			if !t.stands(desc) {
				return fault.Newf(fault.Protocol, "", "reading it back gave %s, but %s was published", desc.Digest, t.digest).
					Hint("somebody else may be writing to the target; publish again when they are done")
			}
			p.proven(t, desc)
			return nil
		})
	}
	return crew.wait(ctx)
}
