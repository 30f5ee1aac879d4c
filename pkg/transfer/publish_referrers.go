package transfer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// This file makes the target list what is attached to its images (S7.6.5). A
// registry with the referrers API does so by itself, from the subject of each
// manifest. At any other the one who publishes owes the list: an index under the
// tag oci.ReferrersTag. Such an index is never simply replaced: somebody behind the
// gap may have signed the same image, and that signature stands in it too.

// referrerList is what a repository of the target has to list for one subject.
type referrerList struct {
	repo    oci.Repository
	root    oci.Repository // as of the tags there
	subject oci.Digest
	digests []oci.Digest // manifests of the contents with that subject
	carried *tagTask     // an index that the source had under the tag, or nil

	// byTag are those of digests that the target's API does not list, as it was
	// last asked; written is set when the index was, and has to be read back.
	byTag   []oci.Digest
	written bool
}

func (l *referrerList) tag() oci.Reference { return l.repo.WithTag(oci.ReferrersTag(l.subject)) }

// separate tells tags from lists of referrers, which may stand at the target with
// more in them than in the contents.
func (p *proof) separate(all []tagTask) (tasks []tagTask, lists []*referrerList) {
	known, tagRoots := map[oci.Reference]*referrerList{}, map[oci.Repository]oci.Repository{}
	list := func(repo oci.Repository, subject oci.Digest) *referrerList {
		key := repo.WithDigest(subject)
		if known[key] == nil {
			known[key] = &referrerList{repo: repo, root: tagRoots[repo], subject: subject}
			lists = append(lists, known[key])
		}
		return known[key]
	}
	for _, t := range all {
		tagRoots[t.ref.Repository] = t.root
		subject, ok := oci.SubjectOfTag(t.ref.Tag)
		if ok && !t.discovery && p.graph[t.digest].MediaType == oci.MediaTypeIndex {
			list(t.ref.Repository, subject).carried = &t
			continue
		}
		tasks = append(tasks, t)
	}
	repos, roots := byRepository(all)
	for _, repo := range repos {
		manifests, _ := p.graph.Closure(roots[repo]...)
		for _, m := range manifests {
			if m.Subject != "" {
				l := list(repo, m.Subject)
				l.digests = append(l.digests, m.Digest)
			}
		}
	}
	for _, l := range lists {
		slices.Sort(l.digests)
	}
	slices.SortFunc(lists, func(a, b *referrerList) int {
		return cmp.Or(cmp.Compare(a.repo.Path, b.repo.Path), cmp.Compare(a.subject, b.subject))
	})
	return tasks, lists
}

// carried are the tasks of the indexes that the source had.
func carried(lists []*referrerList) []tagTask {
	var out []tagTask
	for _, l := range lists {
		if l.carried != nil {
			out = append(out, *l.carried)
		}
	}
	return out
}

// compareLists returns the lists that lack something of the contents. Those that
// do not are proven by the same questions.
func (p *publishing) compareLists(ctx context.Context, lists []*referrerList) ([]*referrerList, error) {
	complete := make([]bool, len(lists))
	crew := p.newCrew(ctx)
	for i, l := range lists {
		if at := p.places[l.repo]; at.tags > 0 && !at.used.Load() {
			continue // nothing stands there
		}
		crew.run(l.tag().String(), func(ctx context.Context) (err error) {
			complete[i], err = p.complete(ctx, l)
			return err
		})
	}
	err := crew.wait(ctx)
	var pending []*referrerList
	for i, l := range lists {
		if !complete[i] {
			pending = append(pending, l)
		}
	}
	return pending, err
}

// complete reports whether the target lists all of l, and notes how.
func (p *publishing) complete(ctx context.Context, l *referrerList) (bool, error) {
	api, err := p.askAPI(ctx, l)
	if err != nil || api && len(l.byTag) > 0 {
		return false, err // what is sent to a registry with the API it lists by itself
	}
	have, missing, err := p.listing(ctx, l)
	switch {
	case fault.KindOf(err) == fault.Protocol:
		return false, nil // in the way only if the list has to be written
	case err != nil || len(missing) > 0 || have == nil && l.needsTag():
		return false, err
	}
	p.stands(l, have)
	return true, nil
}

// list makes the target list everything that the contents attach.
func (p *publishing) list(ctx context.Context, lists []*referrerList) error {
	if len(lists) == 0 {
		return nil
	}
	p.Progress.Phase("listing referrers")
	crew := p.newCrew(ctx)
	for _, l := range lists {
		crew.run(l.tag().String(), func(ctx context.Context) error {
			if err := p.offer(ctx, l); err != nil {
				return err
			}
			return p.writeList(ctx, l)
		})
	}
	return crew.wait(ctx)
}

// offer finds what the target's API does not list. A manifest that came before
// the registry had the API may be unknown to it: it is sent once more.
func (p *publishing) offer(ctx context.Context, l *referrerList) error {
	api, err := p.askAPI(ctx, l)
	if err != nil || !api || len(l.byTag) == 0 {
		return err
	}
	for _, digest := range l.byTag {
		if err := p.put(ctx, l.repo.WithDigest(digest), digest); err != nil {
			return err
		}
	}
	_, err = p.askAPI(ctx, l)
	if err == nil && len(l.byTag) > 0 {
		p.Log.Warn("the target has a referrers API that does not list what is attached; it is listed by a tag", "image", l.repo.WithDigest(l.subject))
	}
	return err
}

// referrersAPI is what is known of the referrers API of one root: what stands
// below it is one registry's.
type referrersAPI struct {
	mu            sync.Mutex // held by the first question
	known, silent bool       // that there is an answer, or that there is no API
}

// askAPI notes those of l's manifests that the target's API does not list: all
// where there is no API.
func (p *proof) askAPI(ctx context.Context, l *referrerList) (api bool, err error) {
	l.byTag = l.digests
	if len(l.digests) == 0 {
		return false, nil
	}
	root := p.apis.At(l.root)
	root.mu.Lock()
	if root.known {
		root.mu.Unlock()
	} else {
		defer root.mu.Unlock() // the others need not ask where there is none
	}
	if root.silent {
		return false, nil
	}
	var listed []oci.Descriptor
	err = p.try(ctx, l.tag().String(), func() (err error) {
		listed, err = p.standing.Referrers(ctx, l.repo, l.subject)
		return err
	})
	kind := fault.KindOf(err)
	definite := err == nil || kind == fault.Unsupported || kind == fault.NotFound
	if !root.known && definite {
		root.known, root.silent = true, kind == fault.Unsupported
	}
	if err != nil && definite {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	l.byTag = slices.DeleteFunc(slices.Clone(l.digests), func(d oci.Digest) bool {
		return slices.ContainsFunc(listed, func(desc oci.Descriptor) bool { return desc.Digest == d })
	})
	return true, nil
}

// needsTag reports whether the index under the tag has to have something.
func (l *referrerList) needsTag() bool { return len(l.byTag) > 0 || l.carried != nil }

// listing reads the target's index as far as it matters, nil when there is none,
// and tells what has to be in it and is not.
func (p *proof) listing(ctx context.Context, l *referrerList) (have *referrersIndex, missing []oci.Digest, err error) {
	if !l.needsTag() {
		return nil, nil, nil
	}
	if have, err = p.readList(ctx, l); err != nil {
		return nil, nil, err
	}
	wanted := l.byTag
	if l.carried != nil {
		wanted = slices.Concat(wanted, p.graph[l.carried.digest].References)
	}
	has := map[oci.Digest]bool{}
	if have != nil {
		for _, e := range have.entries {
			has[e.digest] = true
		}
	}
	for _, digest := range wanted {
		if !has[digest] {
			has[digest] = true
			missing = append(missing, digest)
		}
	}
	return have, missing, nil
}

// merged reads the target's index, nil when there is none or it does not matter,
// and returns it with what it lacks added, and how much that is.
func (p *publishing) merged(ctx context.Context, l *referrerList) (have, index *referrersIndex, added int, err error) {
	if !l.needsTag() {
		return nil, nil, 0, nil
	}
	if have, err = p.readList(ctx, l); err != nil {
		return nil, nil, 0, err
	}
	wanted, base, err := p.wantedEntries(l)
	if err != nil {
		return nil, nil, 0, err
	}
	if have != nil {
		base = have
	}
	index, added = base.with(wanted)
	return have, index, added, nil
}

// writeList makes the index under the tag list what the API does not, and what the
// source's own index has. What the target's index has besides stays in it; an
// index that has all of them stays as it is.
func (p *publishing) writeList(ctx context.Context, l *referrerList) error {
	have, index, added, err := p.merged(ctx, l)
	if err != nil {
		return err
	}
	if !l.needsTag() || have != nil && added == 0 {
		p.stands(l, have)
		return nil
	}
	err = p.putList(ctx, l, index)
	if fault.KindOf(err) == fault.NotFound && have != nil {
		// The target's index may name what a garbage collection has taken.
		index, err = p.withoutCollected(ctx, l, have)
		if err != nil {
			return err
		}
		err = p.putList(ctx, l, index)
	}
	if err != nil {
		return err
	}
	l.written = true
	if l.carried != nil {
		p.Progress.AddImages(1)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.figures.TagsWritten++
	return nil
}

// withoutCollected is the index with what has to be in it, and without what the
// target has not any more.
func (p *publishing) withoutCollected(ctx context.Context, l *referrerList, have *referrersIndex) (*referrersIndex, error) {
	base, err := p.existing(ctx, l, have)
	if err != nil {
		return nil, err
	}
	wanted, _, err := p.wantedEntries(l)
	if err != nil {
		return nil, err
	}
	index, _ := base.with(wanted)
	return index, nil
}

func (p *publishing) putList(ctx context.Context, l *referrerList, index *referrersIndex) error {
	if err := p.writable(ctx, l.repo); err != nil {
		return err
	}
	body, err := index.encode()
	if err != nil {
		return fault.New(fault.Protocol, l.tag().String(), err)
	}
	return p.try(ctx, l.tag().String(), func() error { return p.Target.PutManifest(ctx, l.tag(), oci.MediaTypeIndex, body) })
}

// readList reads the target's index, nil when there is none. What stands under the
// tag and is no index is replaced only by what the source had there.
func (p *proof) readList(ctx context.Context, l *referrerList) (*referrersIndex, error) {
	var desc oci.Descriptor
	var body []byte
	err := p.try(ctx, l.tag().String(), func() (err error) {
		desc, body, err = p.standing.Manifest(ctx, l.tag())
		return err
	})
	switch {
	case fault.KindOf(err) == fault.NotFound:
		return nil, nil
	case err != nil:
		return nil, err
	case desc.MediaType == oci.MediaTypeIndex:
		return parseReferrers(body)
	case l.carried != nil:
		return nil, nil
	}
	return nil, fault.Newf(fault.Protocol, l.tag().String(), "an image stands where the list of what is attached to %s has to be written", l.subject).
		Hint("give the image another tag")
}

// wantedEntries are the entries that the index must have, and the index to begin
// with where the target has none: the source's, byte for byte, or an empty one.
func (p *publishing) wantedEntries(l *referrerList) (entries []referrersEntry, base *referrersIndex, err error) {
	base = newReferrers()
	if l.carried != nil {
		body, err := readSmall(p.content, l.carried.digest)
		if err != nil {
			return nil, nil, err
		}
		if base, err = parseReferrers(body); err != nil {
			return nil, nil, err
		}
		entries = base.entries
	}
	for _, digest := range l.byTag {
		body, err := readSmall(p.content, digest)
		if err != nil {
			return nil, nil, err
		}
		entry, err := newReferrersEntry(p.graph[digest], body)
		if err != nil {
			return nil, nil, err
		}
		entries = append(slices.Clone(entries), entry)
	}
	return entries, base, nil
}

// existing is the index without what the target has not any more.
func (p *publishing) existing(ctx context.Context, l *referrerList, index *referrersIndex) (*referrersIndex, error) {
	out := *index
	out.raw, out.entries = nil, nil
	for _, entry := range index.entries {
		ref := l.repo.WithDigest(entry.digest)
		err := p.try(ctx, ref.String(), func() error {
			_, err := p.Target.Resolve(ctx, ref)
			return err
		})
		switch {
		case err == nil:
			out.entries = append(out.entries, entry)
		case fault.KindOf(err) != fault.NotFound:
			return nil, err
		}
	}
	return &out, nil
}

// readLists reads the indexes back that were written. What is listed in neither
// way nobody would find.
func (p *publishing) readLists(ctx context.Context, lists []*referrerList) error {
	crew := p.newCrew(ctx)
	for _, l := range lists {
		if !l.written {
			continue
		}
		crew.run(l.tag().String(), func(ctx context.Context) error {
			have, missing, err := p.listing(ctx, l)
			switch {
			case err != nil:
				return fmt.Errorf("reading it back: %w", err)
			case have == nil || len(missing) > 0:
				return fmt.Errorf("reading it back: %w", fault.Newf(fault.Protocol, "", "%d manifests that are attached to %s are not listed", len(missing), l.subject).
					Hint("somebody else may be writing to the target; publish again when they are done"))
			}
			p.stands(l, have)
			return nil
		})
	}
	return crew.wait(ctx)
}

// stands notes a list that has all that it must have.
func (p *publishing) stands(l *referrerList, have *referrersIndex) {
	if l.carried != nil && !l.written {
		p.Progress.AddImages(1)
	}
	p.provenList(l, have)
}

// provenList adds to the Receipt how the target lists what is attached; have is
// the index under the tag, nil where the API lists all.
func (p *proof) provenList(l *referrerList, have *referrersIndex) {
	name := p.name(l.repo)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, digest := range l.digests {
		how := contract.ListedByAPI
		if slices.Contains(l.byTag, digest) {
			how = contract.ListedByTag
		}
		p.receipt.Referrers = append(p.receipt.Referrers, contract.ReceiptReferrer{Repository: name, Subject: l.subject, Digest: digest, ListedBy: how})
	}
	if have == nil {
		return
	}
	p.receipt.Tags = append(p.receipt.Tags, contract.ReceiptTag{
		Repository: name, Tag: l.tag().Tag, Digest: oci.DigestOf(have.raw),
		MediaType: oci.MediaTypeIndex, Size: int64(len(have.raw)), Referrers: true,
	})
}

// referrersIndex is an index of referrers. Whatever its author wrote into it stays.
type referrersIndex struct {
	raw     []byte // as read; nil for one that was changed
	fields  map[string]json.RawMessage
	entries []referrersEntry
}

// referrersEntry is a descriptor as it was written, with all its fields.
type referrersEntry struct {
	digest oci.Digest
	raw    json.RawMessage
}

func newReferrers() *referrersIndex {
	mediaType, _ := json.Marshal(oci.MediaTypeIndex) // a string
	return &referrersIndex{fields: map[string]json.RawMessage{"schemaVersion": json.RawMessage("2"), "mediaType": mediaType}}
}

func parseReferrers(body []byte) (*referrersIndex, error) {
	index := &referrersIndex{raw: body}
	var list struct{ Manifests []json.RawMessage }
	if err := json.Unmarshal(body, &index.fields); err != nil {
		return nil, fault.New(fault.Protocol, "", err)
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fault.New(fault.Protocol, "", err)
	}
	for _, raw := range list.Manifests {
		var desc oci.Descriptor
		if err := json.Unmarshal(raw, &desc); err != nil {
			return nil, fault.New(fault.Protocol, "", err)
		}
		index.entries = append(index.entries, referrersEntry{desc.Digest, raw})
	}
	return index, nil
}

// newReferrersEntry describes a manifest as the distribution-spec wants it in a
// list of referrers: what kind it is, and its annotations.
func newReferrersEntry(m *contract.Manifest, body []byte) (referrersEntry, error) {
	parsed, err := oci.ParseManifest(m.MediaType, body)
	if err != nil {
		return referrersEntry{}, fault.New(fault.Damaged, string(m.Digest), err)
	}
	raw, err := json.Marshal(struct {
		oci.Descriptor
		ArtifactType string            `json:"artifactType,omitempty"`
		Annotations  map[string]string `json:"annotations,omitempty"`
	}{oci.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}, parsed.ArtifactType, parsed.Annotations})
	return referrersEntry{m.Digest, raw}, err
}

// with returns the index with those of entries that it lacks, and their number.
func (x *referrersIndex) with(entries []referrersEntry) (*referrersIndex, int) {
	has := map[oci.Digest]bool{}
	for _, e := range x.entries {
		has[e.digest] = true
	}
	out := &referrersIndex{fields: x.fields, entries: slices.Clone(x.entries)}
	for _, e := range entries {
		if !has[e.digest] {
			has[e.digest] = true
			out.entries = append(out.entries, e)
		}
	}
	added := len(out.entries) - len(x.entries)
	if added == 0 {
		return x, 0
	}
	return out, added
}

// encode returns the bytes that were read, or those of a changed index: the same
// for the same entries.
func (x *referrersIndex) encode() ([]byte, error) {
	if x.raw != nil {
		return x.raw, nil
	}
	fields := map[string]json.RawMessage{}
	for name, value := range x.fields {
		fields[name] = value
	}
	raws := make([]json.RawMessage, len(x.entries))
	for i, e := range x.entries {
		raws[i] = e.raw
	}
	list, err := json.Marshal(raws)
	if err != nil {
		return nil, err
	}
	fields["manifests"] = list
	return json.Marshal(fields)
}
