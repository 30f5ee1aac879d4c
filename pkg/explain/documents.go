package explain

import (
	"fmt"
	"path"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

// Names tells which component an image below the target root belongs to, as its
// vendor calls it; "" for none.
type Names func(path string) string

// image is what all documents say of one.
type image struct {
	archive, path, tag, source, reason string
	digest                             oci.Digest // "" in a Selection
}

func (im image) target() string { return Target{im.path, im.tag}.String() }

// asks reports whether the question is about the image.
func (q Query) asks(im image, names Names) bool {
	switch {
	case q.Digest != "":
		return im.digest == q.Digest
	case q.Target != nil:
		return im.path == q.Target.Path && im.tag == q.Target.Tag
	case q.Component != "":
		return (names(im.path) == q.Component || im.archive == q.Component) && SameVersion(q.Version, im.tag)
	}
	ref, err := oci.ParseReference(im.source)
	ref.Digest = im.digest
	return err == nil && q.OfSource(ref)
}

func (q Query) answer(decision contract.Decision, im image, reason, rule string) contract.Answer {
	return contract.Answer{
		Query: q.Text, Decision: decision, Subject: im.source, Reason: reason, Rule: rule,
		Target: im.target(), Archive: im.archive, Digest: im.digest,
	}
}

// Answer is an answer about the question itself, not about an image.
func (q Query) Answer(decision contract.Decision, subject, reason, rule string) contract.Answer {
	return contract.Answer{Query: q.Text, Decision: decision, Subject: subject, Reason: reason, Rule: rule}
}

// Wanted answers out of a Selection's images; none where it wants nothing of the
// kind.
func Wanted(spec *contract.SelectionSpec, q Query, names Names) []contract.Answer {
	var out []contract.Answer
	for _, wanted := range spec.Images {
		im := image{wanted.Archive, wanted.Path, wanted.Tag, wanted.Source, wanted.Reason, wanted.Digest}
		if ref, err := oci.ParseReference(wanted.Source); err == nil && ref.Digest != "" {
			im.digest = ref.Digest
		}
		if !q.asks(im, names) {
			continue
		}
		switch {
		case wanted.LinksOnly:
			a := q.answer(contract.DecisionOut, im, "it is read for the images that it names, and not carried itself: "+im.reason, "S3.4.8")
			a.Archive, a.Target = "", ""
			out = append(out, a)
		default:
			out = append(out, q.answer(contract.DecisionIn, im, withDoubt(wanted), ""))
		}
	}
	for _, d := range spec.Discovery {
		if q.Target != nil && *q.Target == (Target{d.Path, d.Tag}) {
			out = append(out, q.discovery(d))
		}
	}
	return out
}

// withDoubt is the reason, and what may still leave the image out.
func withDoubt(wanted contract.SelectedImage) string {
	reason := wanted.Reason
	if wanted.Optional {
		reason += "; where the source does not have it, it is left out"
	}
	if wanted.Needs != "" {
		reason += "; it goes with " + wanted.Needs
	}
	return reason
}

func (q Query) discovery(d contract.DiscoveryTag) contract.Answer {
	target := Target{d.Path, d.Tag}.String()
	a := q.Answer(contract.DecisionIn, target, "its name tells that "+d.Needs+" is there", "S7.7")
	a.Target = target
	return a
}

// Selection answers from a Selection.
func Selection(spec *contract.SelectionSpec, queries []Query, names Names) []contract.Answer {
	var out []contract.Answer
	for _, q := range queries {
		found := Wanted(spec, q, names)
		switch {
		case len(found) > 0:
		case q.NamedInside():
			found = append(found, q.Inside())
		default:
			found = append(found, q.Answer(contract.DecisionOut, q.Text, "the Selection does not want it; ask over the Catalog, with the same flags, for the reason", ""))
		}
		out = append(out, found...)
	}
	return out
}

// NamedInside reports whether what is asked for can be named by other images
// alone: content by digest, and tags that stand for digests.
func (q Query) NamedInside() bool {
	tag := q.Source.Tag
	if q.Target != nil {
		tag = q.Target.Tag
	}
	return q.Digest != "" || q.Source.Digest != "" || hexRE.MatchString(tag) || Attached(tag)
}

// Attached reports whether a tag is one of those under which something is
// attached to an image: a signature, an attestation, an SBOM, a list of referrers
// (S1.7).
func Attached(tag string) bool {
	switch path.Ext(tag) {
	case ".att", ".sig", ".sbom":
		return true
	}
	hex, ok := strings.CutPrefix(tag, "sha256-")
	return ok && hexRE.MatchString(hex)
}

// Inside is the answer where only other images can name what is asked for.
func (q Query) Inside() contract.Answer {
	return q.Answer(contract.DecisionUnknown, q.Text,
		"digests are named only inside other images, or are known when tags are resolved; a Plan tells (ferry-fetch --plan)", "")
}

// Contents answers from the closed contents of a Plan, Inventory or Bundle,
// which document names.
func Contents(document contract.Kind, c *contract.Contents, queries []Query, names Names) []contract.Answer {
	var out []contract.Answer
	for _, q := range queries {
		found := q.contents(c, names)
		if len(found) == 0 {
			found = append(found, q.Answer(contract.DecisionOut, q.Text,
				fmt.Sprintf("the %s, which is complete, does not have it; ask over the Catalog, with the same flags, for the reason", document), ""))
		}
		out = append(out, found...)
	}
	return out
}

func (q Query) contents(c *contract.Contents, names Names) []contract.Answer {
	var out []contract.Answer
	for _, in := range c.Images {
		im := image{in.Archive, in.Path, in.Tag, in.Source, in.Reason, in.Digest}
		if q.asks(im, names) {
			out = append(out, q.answer(contract.DecisionIn, im, im.reason, ""))
		}
	}
	for _, d := range c.Discovery {
		if q.Target != nil && *q.Target == (Target{d.Path, d.Tag}) {
			out = append(out, q.discovery(d))
		}
	}
	for _, s := range c.Skipped {
		im := image{path: s.Path, tag: s.Tag, source: s.Source}
		if q.asks(im, names) {
			out = append(out, q.answer(contract.DecisionOut, im, "it is optional, and was skipped: "+s.Reason, "S5.2"))
		}
	}
	for _, a := range c.Assumed {
		im := image{path: a.Path, tag: a.Tag, digest: a.Digest}
		if q.asks(im, names) {
			im.source = im.target()
			out = append(out, q.answer(contract.DecisionOut, im, "it stands at the target already, so this update leaves it out", "S6.11"))
		}
	}
	if len(out) == 0 && q.digest() != "" {
		return q.part(c)
	}
	return out
}

func (q Query) digest() oci.Digest {
	if q.Digest != "" {
		return q.Digest
	}
	return q.Source.Digest
}

// part answers for content that is no image of its own: a child of an index, a
// config or a layer.
func (q Query) part(c *contract.Contents) []contract.Answer {
	graph := c.Graph()
	what := "a config or layer"
	if _, ok := graph[q.digest()]; ok {
		what = "a child"
	}
	parents := parents(c)
	// What leads to the content, upwards.
	leads := map[oci.Digest]bool{q.digest(): true}
	for pending := []oci.Digest{q.digest()}; len(pending) > 0; pending = pending[1:] {
		for _, parent := range parents[pending[0]] {
			if !leads[parent] {
				leads[parent] = true
				pending = append(pending, parent)
			}
		}
	}
	var of []contract.Image
	for _, im := range c.Images {
		if leads[im.Digest] {
			of = append(of, im)
		}
	}
	if len(of) == 0 {
		return nil
	}
	reason := fmt.Sprintf("%s of %d images, the first of which is %s", what, len(of), Target{of[0].Path, of[0].Tag})
	if len(of) == 1 {
		reason = fmt.Sprintf("%s of %s", what, Target{of[0].Path, of[0].Tag})
	}
	a := q.Answer(contract.DecisionIn, of[0].Source, reason, "")
	a.Digest = q.digest()
	return []contract.Answer{a}
}

// parents are the manifests that refer to each digest.
func parents(c *contract.Contents) map[oci.Digest][]oci.Digest {
	out := map[oci.Digest][]oci.Digest{}
	for _, m := range c.Manifests {
		for _, d := range m.References {
			out[d] = append(out[d], m.Digest)
		}
	}
	return out
}
