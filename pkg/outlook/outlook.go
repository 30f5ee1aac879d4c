// Package outlook says what contents will meet at a registry, by what was found
// out about it (a contract.TargetSpec), before a byte of them moves. It asks
// nothing and changes nothing.
package outlook

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// Journey is contents and where they are to go.
type Journey struct {
	Target   *contract.TargetSpec
	Contents *contract.Contents
	// Place is where a path of the contents lands.
	Place func(path string) oci.Repository
	// Content has the manifests of the contents, and configs. What it lacks is not
	// looked into: before a download there are no configs yet.
	Content store.Reader
}

// Finding is something that the contents will meet.
type Finding struct {
	// Err says what and where, of the kind fault.Policy.
	Err *fault.Error
	// Sure: the registry has said so of this very name, or of all like it. Else
	// publishing may get along.
	Sure bool
}

// Findings are all that the contents will meet, in the order in which they would.
// Kinds: fault.Damaged where the content is not what the contents say, those of
// store.Reader, Cancelled.
func (j Journey) Findings(ctx context.Context) ([]Finding, error) {
	found := j.places()
	found = append(found, j.types()...)
	found = append(found, j.attached()...)
	found = append(found, j.sizes()...)
	found = append(found, j.moves()...)
	inside, err := j.inside(ctx)
	return append(found, inside...), err
}

func perhaps(subject, hint, format string, args ...any) Finding {
	return Finding{Err: fault.Newf(fault.Policy, subject, format, args...).Hint("%s", hint)}
}

func surely(subject, hint, format string, args ...any) Finding {
	f := perhaps(subject, hint, format, args...)
	f.Sure = true
	return f
}

// said is the evidence behind a finding, for people.
func said(e contract.Evidence) string {
	text := "it answered"
	if e.Status != 0 {
		text = fmt.Sprintf("it answered %d", e.Status)
	}
	for _, more := range []string{e.Code, e.Text} {
		if more != "" {
			text += " " + more
		}
	}
	return text
}

func (j Journey) feature(f contract.Feature) contract.TargetFeature {
	i := slices.IndexFunc(j.Target.Features, func(t contract.TargetFeature) bool { return t.Feature == f })
	if i < 0 {
		return contract.TargetFeature{Feature: f, Has: contract.VerdictUnknown}
	}
	return j.Target.Features[i]
}

// lacks reports whether the registry is known not to have a feature, and by what.
func (j Journey) lacks(f contract.Feature) (string, bool) {
	known := j.feature(f)
	return said(known.Evidence), known.Has == contract.VerdictNo
}

// repositories are all that will be written to, sorted.
func (j Journey) repositories() []oci.Repository {
	var repos []oci.Repository
	for _, path := range j.Contents.Paths() {
		repos = append(repos, j.Place(path))
	}
	slices.SortFunc(repos, func(a, b oci.Repository) int { return cmp.Compare(a.Path, b.Path) })
	return slices.Compact(repos)
}

// places looks at each repository by its name (Q1, Q4, Q41).
func (j Journey) places() []Finding {
	asked := map[string]contract.RepositoryAccess{}
	for _, r := range j.Target.Repositories {
		asked[r.Repository] = r
	}
	var found []Finding
	var unasked []string
	for _, repo := range j.repositories() {
		known, ok := asked[repo.String()]
		switch {
		case ok && known.Writable == contract.VerdictYes:
			continue // it was asked itself: no rule says more
		case ok && known.Writable == contract.VerdictNo:
			found = append(found, surely(repo.String(), "create the repository or project, or give the login the right to write there, and probe again",
				"the target lets nobody write to this repository, or does not have it: %s", said(known.Evidence)))
			continue
		}
		named := j.name(repo)
		found = append(found, named...)
		if len(named) == 0 && !ok {
			unasked = append(unasked, repo.String())
		}
	}
	if why, no := j.lacks(contract.FeatureWrite); no && len(unasked) > 0 {
		found = append(found, perhaps(unasked[0], "probe again with -i, which asks for each of them",
			"a new repository below %s could not be written to (%s), and this one was not asked for, nor %d others", j.Target.Target, why, len(unasked)-1))
	}
	return found
}

// name looks at a repository that was not asked for itself.
func (j Journey) name(repo oci.Repository) []Finding {
	const shorten = "publish to a shorter path, or map what lies deep elsewhere with --map"
	var found []Finding
	depth, bound := int64(strings.Count(repo.Path, "/")+1), j.Target.Depth
	if bound.Refused > 0 && depth >= bound.Refused {
		f := perhaps(repo.String(), shorten, "the path has %d segments, and the target takes %d: with %d %s", depth, bound.Accepted, bound.Refused, said(bound.Evidence))
		f.Sure = bound.Verdict == contract.VerdictNo
		found = append(found, f)
	}
	length, bound := int64(len(repo.Path)), j.Target.Length
	if bound.Refused > 0 && length >= bound.Refused {
		found = append(found, perhaps(repo.String(), shorten, "the path has %d characters, and of %d in one segment %s", length, bound.Refused, said(bound.Evidence)))
	}
	forms := formsOf(j.below(repo))
	for _, rule := range j.Target.Names {
		if slices.Contains(forms, rule.Form) && rule.Accepted == contract.VerdictNo {
			found = append(found, surely(repo.String(), "map it to another name with --map",
				"the target refuses such names (%s): of %s %s", rule.Form, rule.Example, said(rule.Evidence)))
		}
	}
	return found
}

// below is the path of a repository without the target's own, which is known to be
// accepted.
func (j Journey) below(repo oci.Repository) string {
	_, root, _ := strings.Cut(j.Target.Target, "/")
	if rest, ok := strings.CutPrefix(repo.Path+"/", root+"/"); ok {
		return strings.TrimSuffix(rest, "/")
	}
	return repo.Path
}

// formsOf lists the forms that a path has.
func formsOf(path string) []contract.NameForm {
	var forms []contract.NameForm
	add := func(form contract.NameForm, has bool) {
		if has && !slices.Contains(forms, form) {
			forms = append(forms, form)
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" {
			continue
		}
		add(contract.NameDot, strings.Contains(segment, "."))
		add(contract.NameDoubleUnderscore, strings.Contains(segment, "__"))
		add(contract.NameUnderscore, strings.Contains(strings.ReplaceAll(segment, "__", ""), "_"))
		add(contract.NameDashes, strings.Contains(segment, "--"))
		digits := strings.Trim(segment, "0123456789") == ""
		add(contract.NameDigits, digits)
		add(contract.NameLeadingDigit, !digits && segment[0] >= '0' && segment[0] <= '9')
		add(contract.NameOneLetter, !digits && len(segment) == 1)
	}
	return forms
}

// example names a manifest for people: where it lands, or by its digest.
func (j Journey) example(d oci.Digest) string {
	i := slices.IndexFunc(j.Contents.Images, func(im contract.Image) bool { return im.Digest == d })
	if i < 0 {
		return string(d)
	}
	return j.Place(j.Contents.Images[i].Path).WithTag(j.Contents.Images[i].Tag).String()
}

// manifests counts those that fit, and names one.
func (j Journey) manifests(fits func(contract.Manifest) bool) (n int, example string) {
	for _, m := range j.Contents.Manifests {
		if !fits(m) {
			continue
		}
		if n++; n == 1 {
			example = j.example(m.Digest)
		}
	}
	return n, example
}

// types looks at kinds of manifests (Q18). None is converted: its digest would
// change, and signatures of it would not fit any more.
func (j Journey) types() []Finding {
	var found []Finding
	for _, kind := range []struct {
		feature   contract.Feature
		mediaType string
	}{
		{contract.FeatureOCIImage, oci.MediaTypeManifest},
		{contract.FeatureDockerImage, oci.MediaTypeDockerManifest},
		{contract.FeatureOCIIndex, oci.MediaTypeIndex},
		{contract.FeatureDockerIndex, oci.MediaTypeDockerList},
	} {
		why, no := j.lacks(kind.feature)
		n, example := j.manifests(func(m contract.Manifest) bool { return m.MediaType == kind.mediaType })
		if d := j.Contents.Discovery; len(d) > 0 && kind.feature == contract.FeatureDockerImage { // the placeholder behind them is one
			n, example = n+1, cmp.Or(example, j.Place(d[0].Path).WithTag(d[0].Tag).String())
		}
		if no && n > 0 {
			found = append(found, perhaps(kind.mediaType, "let the target take this type, or leave these images out; they are never converted",
				"%d manifests of this type, such as %s, and the target does not take it: %s", n, example, why))
		}
	}
	return found
}

// attached looks at what is attached to images (Q21, Q22).
func (j Journey) attached() []Finding {
	var found []Finding
	graph := j.Contents.Graph()
	docker := func(m contract.Manifest) bool {
		subject := graph[m.Subject]
		return subject != nil && (subject.MediaType == oci.MediaTypeDockerManifest || subject.MediaType == oci.MediaTypeDockerList)
	}
	for _, kind := range []struct {
		feature contract.Feature
		fits    func(contract.Manifest) bool
	}{
		{contract.FeatureSubject, func(m contract.Manifest) bool { return m.Subject != "" && !docker(m) }},
		{contract.FeatureDockerSubject, func(m contract.Manifest) bool { return m.Subject != "" && docker(m) }},
	} {
		why, no := j.lacks(kind.feature)
		if n, example := j.manifests(kind.fits); no && n > 0 {
			found = append(found, perhaps(example, "let the target take manifests with a subject, or leave signatures out with --skip-attachments of ferry-select",
				"%d manifests are attached to others, and the target does not take such ones (%s): %s", n, kind.feature, why))
		}
	}
	n, example := j.manifests(func(m contract.Manifest) bool { return m.Subject != "" })
	if why, no := j.lacks(contract.FeatureReferrers); no && n > 0 {
		found = append(found, perhaps(example, "who verifies images there must look at the tag sha256-HEX; ferry keeps it",
			"%d manifests are attached to others, and the target lists none by its referrers API: %s", n, why))
	}
	return found
}

// manifestFloor is the largest manifest that every registry has to take, by the
// distribution-spec, in bytes (Q36).
const manifestFloor = 4 << 20

// sizes looks at large manifests, and blobs that no request may carry (Q8).
func (j Journey) sizes() []Finding {
	var found []Finding
	if n, example := j.manifests(func(m contract.Manifest) bool { return m.Size > manifestFloor }); n > 0 {
		found = append(found, perhaps(example, "ask who runs the target for its limit",
			"%d manifests are larger than 4 MiB, the most that a registry has to take", n))
	}
	body := j.Target.Body
	_, whole := j.lacks(contract.FeatureChunks)
	unfit := j.Target.ChunkMinimum > 0 && j.Target.ChunkMinimum >= body.Refused
	if body.Refused == 0 || !whole && !unfit {
		return found
	}
	var largest contract.Blob
	n := 0
	for _, b := range j.Contents.Blobs {
		if b.Size >= body.Refused {
			n++
		}
		if b.Size > largest.Size {
			largest = b
		}
	}
	if n > 0 {
		found = append(found, perhaps(string(largest.Digest), "raise the limit for request bodies at the target or the proxy in front of it",
			"%d blobs have %d bytes and more, up to %d, which are too many for one request (%s), and in chunks the target does not take them",
			n, body.Refused, largest.Size, said(body.Evidence)))
	}
	return found
}

// moves looks at tags that get another image with each update (Q24).
func (j Journey) moves() []Finding {
	why, no := j.lacks(contract.FeatureOverwrite)
	var moving []string
	for _, im := range j.Contents.Images {
		if im.Phase >= contract.PhaseChannel {
			moving = append(moving, j.Place(im.Path).WithTag(im.Tag).String())
		}
	}
	if !no || len(moving) == 0 {
		return nil
	}
	return []Finding{perhaps(moving[0], "take these tags out of the rule that makes tags immutable",
		"tags at the target keep their first image (%s), and %d channels here are to move with updates", why, len(moving))}
}
