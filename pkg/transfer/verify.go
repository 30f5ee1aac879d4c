package transfer

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/progress"
	"ferry/pkg/registry"
)

// Verifier proves that Contents stand at a target, at any time after they were
// published, and writes nothing there. It needs no content: a Bundle tells all.
//
// Nothing is taken for granted: neither the word of a tag for what is below it,
// as a Publisher takes it, nor a list of tags. Every tag and every manifest below
// one is read whole and hashed, in each repository where it has to be. Every blob
// is asked for there by HEAD, and its size compared, or read and hashed too. Of
// what is attached the target has to list each manifest (S7.6.5).
type Verifier struct {
	Target   registry.Standing
	Root     oci.Repository // where the contents' path "" lands
	Prefixes []Prefix       // where else paths land; the first that fits counts
	// ReadBlobs reads and hashes blobs, which takes as long as to pull them.
	ReadBlobs bool
	Parallel  int // requests at a time, at least 1
	Retry     Retry
	Log       *slog.Logger
	Progress  progress.Tracker
}

// Verified are figures of a verification: what was found to be right, and Gaps,
// what is missing or differs.
type Verified struct {
	Tags, Children, Blobs int64
	BytesRead             int64 // of blobs
	Gaps                  int64
}

// verifying is the state of one Verify.
type verifying struct {
	*Verifier
	proof

	// What follows is guarded by proof.mu.
	figures Verified
	gaps    []error
}

// Verify asks the target for all of c, and returns what was read there. All gaps
// are told, joined: fault.NotFound for what is definitely missing, fault.Protocol
// for what differs, or is no manifest. Neither stops the others. What the target
// does not let itself be asked is no gap: it keeps the kinds of registry.Source,
// and after a refusal, or a few failures that do not heal, the rest is not asked.
func (v *Verifier) Verify(ctx context.Context, c *contract.Contents) (contract.ReceiptSpec, Verified, error) {
	placeholder := oci.NewPlaceholder()
	to := landing{v.Root, v.Prefixes}
	all, err := to.tasks(c, placeholder.Descriptor.Digest)
	if err != nil {
		return contract.ReceiptSpec{}, Verified{}, err
	}
	run := &verifying{Verifier: v, proof: proof{
		standing: v.Target, graph: graphOf(c, placeholder),
		parallel: v.Parallel, retry: v.Retry, log: v.Log, progress: v.Progress,
	}}
	sizes := make(map[oci.Digest]int64, len(c.Blobs)+len(placeholder.Blobs))
	for _, b := range c.Blobs {
		sizes[b.Digest] = b.Size
	}
	for _, b := range placeholder.Blobs {
		sizes[b.Descriptor.Digest] = b.Descriptor.Size
	}
	err = run.verify(ctx, all, to.assumed(c), sizes)
	run.figures.Gaps = int64(len(run.gaps))
	slices.SortFunc(run.gaps, func(a, b error) int { return cmp.Compare(fault.SubjectOf(a), fault.SubjectOf(b)) })
	// Gaps first: what is known to be missing does not come back by asking again.
	if err := errors.Join(append(run.gaps, err)...); err != nil {
		return contract.ReceiptSpec{}, run.figures, err
	}
	receipt := run.finished(c)
	receipt.Verified = contract.VerifiedSizes
	if v.ReadBlobs {
		receipt.Verified = contract.VerifiedContents
	}
	receipt.Children, receipt.Blobs = run.figures.Children, run.figures.Blobs
	return receipt, run.figures, nil
}

// verify goes from the tags down. The errors tell what was not asked, and why:
// nothing further is once a crew has given up.
func (v *verifying) verify(ctx context.Context, all, assumed []tagTask, sizes map[oci.Digest]int64) error {
	tasks, lists := v.separate(all)
	v.begin(v.Root, tasks, assumed)
	var children []oci.Reference
	var blobs []placed
	var unasked []error
	for _, part := range []func() (bool, error){
		func() (bool, error) {
			v.Progress.Phase("reading tags")
			v.Progress.SetTotal(0, int64(len(all)+len(assumed)))
			return each(ctx, v, tasks, func(t tagTask) oci.Reference { return t.ref }, v.tag)
		},
		func() (bool, error) {
			return each(ctx, v, assumed, func(t tagTask) oci.Reference { return t.ref }, v.assumedTag)
		},
		func() (bool, error) {
			children, blobs = v.below(tasks, lists, sizes)
			v.Progress.Phase("reading manifests")
			return each(ctx, v, children, func(ref oci.Reference) oci.Reference { return ref }, v.child)
		},
		func() (bool, error) {
			v.Progress.Phase("reading lists of referrers")
			return each(ctx, v, lists, func(l *referrerList) oci.Reference { return l.tag() }, v.list)
		},
		func() (bool, error) {
			v.Progress.Phase("checking blobs")
			v.Progress.SetTotal(total(blobs), int64(len(all)+len(assumed)))
			return each(ctx, v, blobs, func(b placed) oci.Reference { return b.repo.WithDigest(b.desc.Digest) }, v.blob)
		},
	} {
		gaveUp, err := part()
		unasked = append(unasked, err)
		if gaveUp {
			v.Log.Warn("the target does not let itself be asked; the rest was not looked at")
			break
		}
	}
	return errors.Join(unasked...)
}

// each checks all items. What is missing or wrong is a gap, of which there may be
// any number; the error tells what could not be asked, and gaveUp that it was too
// much to go on.
func each[T any](ctx context.Context, v *verifying, items []T, ref func(T) oci.Reference, check func(context.Context, T) error) (gaveUp bool, err error) {
	crew := v.newCrew(ctx)
	for _, item := range items {
		name := ref(item).String()
		crew.run(name, func(ctx context.Context) error {
			err := check(ctx, item)
			if !isGap(err) {
				return err
			}
			v.gap(name, err)
			return nil
		})
	}
	crew.pause()
	gaveUp = crew.ctx.Err() != nil
	return gaveUp, crew.wait(ctx)
}

// isGap tells what the target has said of its content from what it did not let
// itself be asked: a refusal, an outage, or a connection that cannot be trusted.
func isGap(err error) bool {
	switch fault.KindOf(err) {
	case fault.NotFound:
		return true
	case fault.Protocol:
		cause := fault.CauseOf(err)
		return cause != fault.Certificate && cause != fault.NoTLS
	}
	return false
}

// gapHint is what mends gaps.
const gapHint = "publish the bundle again: ferry-publish --check-blobs sends what the target has lost, and tags that lead elsewhere"

func (v *verifying) gap(subject string, err error) {
	gap := fault.About(subject, err)
	if fault.HintOf(err) == "" {
		gap.Hint(gapHint)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gaps = append(v.gaps, gap)
}

// missing replaces what the registry says of an absence: its advice is for those
// who pull.
func missing(err error) error {
	if fault.KindOf(err) == fault.NotFound {
		return fault.Newf(fault.NotFound, "", "it is not at the target")
	}
	return err
}

func (v *verifying) count(figure *int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	*figure++
}

func (v *verifying) tag(ctx context.Context, t tagTask) error {
	desc, err := v.readManifest(ctx, t.ref)
	if err != nil {
		return missing(err)
	}
	if !t.stands(desc) {
		return fault.Newf(fault.Protocol, "", "it leads to %s, and to %s in the bundle", desc.Digest, t.digest)
	}
	v.proven(t, desc)
	v.count(&v.figures.Tags)
	v.Progress.AddImages(1)
	return nil
}

// assumedTag is tag for one that this content does not bring.
func (v *verifying) assumedTag(ctx context.Context, t tagTask) error {
	err := v.tag(ctx, t)
	if !isGap(err) {
		return err
	}
	return fault.About("", err).Hint("the content is an update, and this is of a bundle before it; publish that one again")
}

func (v *verifying) child(ctx context.Context, ref oci.Reference) error {
	if _, err := v.readManifest(ctx, ref); err != nil {
		return missing(err)
	}
	v.count(&v.figures.Children)
	return nil
}

// placed is a blob in a repository where it has to be.
type placed struct {
	repo oci.Repository
	desc oci.Descriptor
}

// below lists what has to stand below tags: manifests that no tag has proven, and
// blobs, by repository. What a list of referrers names has to be there though
// the list itself may be another one at the target.
func (v *verifying) below(tasks []tagTask, lists []*referrerList, sizes map[oci.Digest]int64) (children []oci.Reference, blobs []placed) {
	right := map[oci.Reference]bool{}
	for _, t := range tasks {
		if v.wasProven(t) {
			right[t.ref.Repository.WithDigest(t.digest)] = true
		}
	}
	repos, roots := byRepository(append(slices.Clone(tasks), carried(lists)...))
	for _, repo := range repos {
		manifests, digests := v.graph.Closure(roots[repo]...)
		wanted := map[oci.Digest]bool{}
		for _, m := range manifests {
			for _, d := range m.References {
				wanted[d] = true
			}
		}
		for _, m := range manifests {
			if ref := repo.WithDigest(m.Digest); wanted[m.Digest] && !right[ref] {
				children = append(children, ref)
			}
		}
		for _, d := range digests {
			blobs = append(blobs, placed{repo, oci.Descriptor{Digest: d, Size: sizes[d]}})
		}
	}
	// The largest first, lest one comes last alone.
	slices.SortStableFunc(blobs, func(a, b placed) int { return cmp.Compare(b.desc.Size, a.desc.Size) })
	return children, blobs
}

func total(blobs []placed) (bytes int64) {
	for _, b := range blobs {
		bytes += b.desc.Size
	}
	return bytes
}

func (v *verifying) blob(ctx context.Context, b placed) error {
	size := int64(-1)
	if !v.ReadBlobs {
		err := v.try(ctx, string(b.desc.Digest), func() (err error) {
			size, err = v.Target.BlobSize(ctx, b.repo, b.desc.Digest)
			return err
		})
		if err != nil {
			return missing(err)
		}
	}
	switch {
	case size < 0: // asked for its content, or nothing else tells
		if err := v.read(ctx, b); err != nil {
			return missing(err)
		}
	case size != b.desc.Size:
		return fault.Newf(fault.Protocol, "", "the target says that it has %d bytes, and it has %d in the bundle", size, b.desc.Size)
	default:
		v.Progress.AddBytes(b.desc.Size)
	}
	v.count(&v.figures.Blobs)
	return nil
}

// read reads a blob to its end, and believes it when it hashes right.
func (v *verifying) read(ctx context.Context, b placed) error {
	mark := &progress.Mark{Tracker: v.Progress}
	return v.try(ctx, string(b.desc.Digest), func() error {
		body, _, err := v.Target.Blob(ctx, b.repo, b.desc, nil)
		if err != nil {
			return err
		}
		proven := registry.Verified(body, b.desc)
		defer proven.Close()
		var position int64
		n, err := io.Copy(io.Discard, readerFunc(func(p []byte) (int, error) {
			n, err := proven.Read(p)
			position += int64(n)
			mark.At(position)
			return n, err
		}))
		v.mu.Lock()
		defer v.mu.Unlock()
		v.figures.BytesRead += n
		return err
	})
}

func (v *verifying) list(ctx context.Context, l *referrerList) error {
	if _, err := v.askAPI(ctx, l); err != nil {
		return err
	}
	have, unlisted, err := v.listing(ctx, l)
	switch {
	case err != nil:
		return err
	case len(unlisted) == 0 && (have != nil || !l.needsTag()):
		v.provenList(l, have)
		if l.carried != nil {
			v.Progress.AddImages(1)
		}
		return nil
	case have == nil && l.carried != nil && len(unlisted) == 0:
		return fault.Newf(fault.NotFound, "", "it is not at the target")
	}
	for _, digest := range unlisted {
		v.gap(l.repo.WithDigest(digest).String(), fault.Newf(fault.NotFound, "",
			"it is attached to %s, and the target lists it neither by its referrers API nor under the tag %s", l.subject, l.tag().Tag))
	}
	return nil
}
