package transfer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

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
	subject oci.Digest
	digests []oci.Digest // manifests of the contents with that subject
	carried *tagTask     // an index that the source had under the tag, or nil
}

func (l *referrerList) tag() oci.Reference { return l.repo.WithTag(oci.ReferrersTag(l.subject)) }

// separate tells tags from lists of referrers, which may stand at the target with
// more in them than in the contents.
func (p *publishing) separate(all []tagTask) (tasks []tagTask, lists []*referrerList) {
	known := map[string]*referrerList{}
	list := func(repo oci.Repository, subject oci.Digest) *referrerList {
		key := repo.WithDigest(subject).String()
		if known[key] == nil {
			known[key] = &referrerList{repo: repo, subject: subject}
			lists = append(lists, known[key])
		}
		return known[key]
	}
	for _, t := range all {
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

// list makes the target list everything that the contents attach.
func (p *publishing) list(ctx context.Context, lists []*referrerList) error {
	if len(lists) == 0 {
		return nil
	}
	p.Progress.Phase("listing referrers")
	crew := p.newCrew(ctx)
	for _, l := range lists {
		crew.run(l.tag().String(), func(ctx context.Context) error {
			missing, err := p.offer(ctx, l)
			if err != nil {
				return err
			}
			if len(missing) > 0 || l.carried != nil {
				if err := p.writeList(ctx, l, missing); err != nil {
					return err
				}
			}
			if l.carried != nil {
				p.Progress.AddImages(1)
			}
			return nil
		})
	}
	return crew.wait(ctx)
}

// offer returns what the target's API does not list. A manifest that came before
// the registry had the API may be unknown to it: it is sent once more.
func (p *publishing) offer(ctx context.Context, l *referrerList) (missing []oci.Digest, err error) {
	missing, api, err := p.unlisted(ctx, l)
	if err != nil || !api || len(missing) == 0 {
		return missing, err
	}
	for _, digest := range missing {
		if err := p.put(ctx, l.repo.WithDigest(digest), digest); err != nil {
			return nil, err
		}
	}
	missing, _, err = p.unlisted(ctx, l)
	if err == nil && len(missing) > 0 {
		p.Log.Warn("the target has a referrers API that does not list what is attached; it is listed by a tag", "image", l.repo.WithDigest(l.subject))
	}
	return missing, err
}

// unlisted returns those of l's manifests that the target's API does not list: all
// where there is no API.
func (p *publishing) unlisted(ctx context.Context, l *referrerList) (missing []oci.Digest, api bool, err error) {
	if len(l.digests) == 0 {
		return nil, false, nil
	}
	var listed []oci.Descriptor
	err = p.try(ctx, l.tag().String(), func() error {
		listed, err = p.Target.Referrers(ctx, l.repo, l.subject)
		return err
	})
	if kind := fault.KindOf(err); kind == fault.NotFound || kind == fault.Unsupported {
		return l.digests, false, nil
	}
	missing = slices.DeleteFunc(slices.Clone(l.digests), func(d oci.Digest) bool {
		return slices.ContainsFunc(listed, func(desc oci.Descriptor) bool { return desc.Digest == d })
	})
	return missing, true, err
}

// writeList makes the index under the tag list the manifests in digests, and those
// of the source's own index. What the target's index has besides stays in it; an
// index that has all of them stays as it is.
func (p *publishing) writeList(ctx context.Context, l *referrerList, digests []oci.Digest) error {
	have, err := p.readList(ctx, l)
	if err != nil {
		return err
	}
	wanted, base, err := p.wantedEntries(l, digests)
	if err != nil {
		return err
	}
	if have != nil {
		base = have
	}
	merged, added := base.with(wanted)
	if have != nil && added == 0 {
		return nil
	}
	err = p.putList(ctx, l, merged)
	if fault.KindOf(err) == fault.NotFound && have != nil {
		// The target's index may name what a garbage collection has taken.
		if base, err = p.existing(ctx, l, have); err != nil {
			return err
		}
		merged, _ = base.with(wanted)
		err = p.putList(ctx, l, merged)
	}
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.figures.TagsWritten++
	}
	return err
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
func (p *publishing) readList(ctx context.Context, l *referrerList) (*referrersIndex, error) {
	var desc oci.Descriptor
	var body []byte
	err := p.try(ctx, l.tag().String(), func() (err error) {
		desc, body, err = p.Target.Manifest(ctx, l.tag())
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
func (p *publishing) wantedEntries(l *referrerList, digests []oci.Digest) (entries []referrersEntry, base *referrersIndex, err error) {
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
	for _, digest := range digests {
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

// readLists asks how the target lists what is attached, when all is written, and
// adds it to the receipt. What is listed in neither way nobody would find.
func (p *publishing) readLists(ctx context.Context, lists []*referrerList, receipt *contract.ReceiptSpec) error {
	crew := p.newCrew(ctx)
	for _, l := range lists {
		crew.run(l.tag().String(), func(ctx context.Context) error {
			tag, referrers, err := p.readListed(ctx, l)
			if err != nil {
				return fmt.Errorf("reading it back: %w", err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if tag != nil {
				receipt.Tags = append(receipt.Tags, *tag)
			}
			receipt.Referrers = append(receipt.Referrers, referrers...)
			return nil
		})
	}
	err := crew.wait(ctx)
	p.figures.Tags = int64(len(receipt.Tags))
	return err
}

func (p *publishing) readListed(ctx context.Context, l *referrerList) (*contract.ReceiptTag, []contract.ReceiptReferrer, error) {
	byTag, _, err := p.unlisted(ctx, l)
	if err != nil {
		return nil, nil, err
	}
	wanted := map[oci.Digest]bool{} // in the index
	for _, digest := range byTag {
		wanted[digest] = true
	}
	var out []contract.ReceiptReferrer
	for _, digest := range l.digests {
		how := contract.ListedByAPI
		if wanted[digest] {
			how = contract.ListedByTag
		}
		out = append(out, contract.ReceiptReferrer{Repository: l.repo.String(), Subject: l.subject, Digest: digest, ListedBy: how})
	}
	if len(wanted) == 0 && l.carried == nil {
		return nil, out, nil
	}
	entries, _, err := p.wantedEntries(l, byTag)
	if err != nil {
		return nil, nil, err
	}
	have, err := p.readList(ctx, l)
	if err != nil {
		return nil, nil, err
	}
	if have == nil {
		have = newReferrers()
	}
	if _, missing := have.with(entries); missing > 0 {
		return nil, nil, fault.Newf(fault.Protocol, "", "%d manifests that are attached to %s are not listed", missing, l.subject).
			Hint("somebody else may be writing to the target; publish again when they are done")
	}
	return &contract.ReceiptTag{
		Repository: l.repo.String(), Tag: l.tag().Tag, Digest: oci.DigestOf(have.raw),
		MediaType: oci.MediaTypeIndex, Size: int64(len(have.raw)), Referrers: true,
	}, out, nil
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
