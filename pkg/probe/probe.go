// Package probe finds out what a registry can do before data moves, by requests
// of a few bytes that leave nothing behind where the registry lets them be taken
// back.
//
// It asks, and judges answers; what they mean for an image is for pkg/outlook.
// A refusal that may have other reasons than the question (no login, no right, too
// many requests, a failure of the registry) is no answer: it is unknown.
package probe

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry"
)

// The repositories below the root that content is tried in, and that it is mounted
// to.
const (
	Home      = "ferry-probe"
	MountHome = "ferry-probe-mount"
)

// Prober asks one registry.
type Prober struct {
	Registry registry.Prober
	// Root is what is asked about; everything is tried in repositories below it
	// whose names have "ferry-probe" in them, and at the Repositories.
	Root oci.Repository
	// Repositories are asked whether they may be written to, beside Root.
	Repositories []oci.Repository
	// ReadOnly writes no content: only uploads are begun and cancelled.
	ReadOnly bool
	// Body is the most bytes that one request is tried with.
	Body int64
	// Parallel is how many Repositories are asked about at a time, at least 1.
	Parallel int
	Log      *slog.Logger
}

// levels is how many segments are tried below the root where no repository
// needs more.
const levels = 8

// run is one probe.
type run struct {
	*Prober
	spec contract.TargetSpec
	home oci.Repository // where content is tried
	// writable: an upload begins there.
	writable bool
	// kept are places where an upload stays open, for want of cancelling.
	kept map[string]bool
}

// Run asks everything. The error is of a registry that cannot be reached, or of
// a cancelled context; what is merely refused is in the answer.
// Kinds: Transient, Protocol, Cancelled.
func (p *Prober) Run(ctx context.Context) (contract.TargetSpec, error) {
	r := &run{
		Prober: p, home: p.Root.Join(Home), kept: map[string]bool{},
		spec: contract.TargetSpec{Target: p.Root.String(), ReadOnly: p.ReadOnly},
	}
	if err := r.write(ctx); err != nil {
		return contract.TargetSpec{}, err
	}
	steps := []func(context.Context) error{r.repositories}
	if r.writable {
		steps = append(steps, r.depth, r.names, r.length)
	}
	switch {
	case p.ReadOnly:
		steps = append(steps, r.read)
	case r.writable:
		steps = append(steps, r.body, r.content)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return contract.TargetSpec{}, err
		}
	}
	r.complete()
	return r.spec, nil
}

// allFeatures are in the answer, each once, whatever could be asked.
var allFeatures = []contract.Feature{
	contract.FeatureWrite, contract.FeatureCancel, contract.FeatureChunks, contract.FeatureMount,
	contract.FeatureHead, contract.FeatureTags, contract.FeatureReferrers, contract.FeatureTagParameter,
	contract.FeatureOverwrite, contract.FeatureDeleteTag, contract.FeatureDeleteManifest, contract.FeatureDeleteBlob,
	contract.FeatureDeleteTagAlone, contract.FeatureOCIImage, contract.FeatureDockerImage, contract.FeatureOCIIndex,
	contract.FeatureDockerIndex, contract.FeatureSparseIndex, contract.FeatureArtifact, contract.FeatureBareConfig,
	contract.FeatureSubject, contract.FeatureDockerSubject,
}

// complete fills in what was not asked for.
func (r *run) complete() {
	why := "not asked for: what it needs did not come about"
	switch {
	case r.ReadOnly:
		why = "not asked for: nothing was to be written"
	case !r.writable:
		why = fmt.Sprintf("not asked for: %s cannot be written to", r.home)
	}
	r.rest(why)
	for _, b := range []*contract.Bound{&r.spec.Depth, &r.spec.Length, &r.spec.Body} {
		if b.Verdict == "" {
			*b = contract.Bound{Verdict: contract.VerdictUnknown, Evidence: contract.Evidence{Text: why}}
		}
	}
	for place := range r.kept {
		r.left("an upload at %s stays open until the registry drops it", place)
	}
}

// rest notes why all features are unknown of which nothing is known yet.
func (r *run) rest(why string) {
	known := map[contract.Feature]bool{}
	for _, f := range r.spec.Features {
		known[f.Feature] = true
	}
	for _, f := range allFeatures {
		if !known[f] {
			r.note(f, contract.VerdictUnknown, contract.Evidence{Text: why})
		}
	}
}

func (r *run) note(f contract.Feature, has contract.Verdict, evidence contract.Evidence) {
	r.spec.Features = append(r.spec.Features, contract.TargetFeature{Feature: f, Has: has, Evidence: evidence})
}

func (r *run) left(format string, args ...any) {
	r.spec.Leftovers = append(r.spec.Leftovers, fmt.Sprintf(format, args...))
}

// judge is what an answer says.
func judge(a registry.Answer) contract.Verdict {
	switch {
	case a.Success():
		return contract.VerdictYes
	case a.Status == 0, a.Kind == nil, a.Kind == fault.Denied, fault.Heals(a.Kind):
		return contract.VerdictUnknown
	}
	return contract.VerdictNo
}

func evidence(a registry.Answer) contract.Evidence {
	return contract.Evidence{Status: a.Status, Code: a.Code, Text: a.Text}
}

// answered turns the error of a question into an answer that tells nothing,
// unless nobody waits for answers any more: one question that a registry, or a
// proxy before it, takes amiss does not end the others.
func answered(ctx context.Context, a registry.Answer, err error) (registry.Answer, error) {
	switch {
	case err == nil:
		return a, nil
	case ctx.Err() != nil:
		return a, err
	}
	return registry.Answer{Kind: fault.KindOf(err), Text: err.Error()}, nil
}

func (r *run) ask(ctx context.Context, q registry.Question) (registry.Answer, error) {
	a, err := r.Registry.Ask(ctx, q)
	return answered(ctx, a, err)
}

// begin asks whether an upload begins in repo, and cancels it.
func (r *run) begin(ctx context.Context, repo oci.Repository) (registry.Answer, error) {
	a, err := r.Registry.AskUpload(ctx, repo, registry.Trial{})
	r.cancelled(repo, a)
	return answered(ctx, a.Begin, err)
}

// cancelled notes an upload that stays open. Where none is known any more, the
// registry has dropped it itself.
func (r *run) cancelled(repo oci.Repository, a registry.UploadAnswer) {
	if a.Begin.Success() && !a.Cancel.Success() && a.Cancel.Status != http.StatusNotFound {
		r.kept[repo.String()] = true
	}
}

// write asks whether anything can be written below the root at all. A registry
// that does not answer to this ends the probe.
func (r *run) write(ctx context.Context) error {
	a, err := r.Registry.AskUpload(ctx, r.home, registry.Trial{})
	if err != nil {
		return err
	}
	r.cancelled(r.home, a)
	has := writable(a.Begin)
	r.note(contract.FeatureWrite, has, evidence(a.Begin))
	if r.writable = has == contract.VerdictYes; r.writable {
		cancel := judge(a.Cancel)
		if a.Cancel.Status == http.StatusNotFound {
			cancel = contract.VerdictNo
		}
		r.note(contract.FeatureCancel, cancel, evidence(a.Cancel))
	}
	return nil
}

// writable is judge for the question whether one may write: there a refusal for
// want of rights is the answer.
func writable(a registry.Answer) contract.Verdict {
	if a.Kind == fault.Denied {
		return contract.VerdictNo
	}
	return judge(a)
}

// repositories asks all at once, and not only up to the first that is refused: an
// administrator who has to make them wants to hear of all (Q4).
func (r *run) repositories(ctx context.Context) error {
	repos := []oci.Repository{r.Root}
	for _, repo := range r.Repositories {
		if !slices.Contains(repos, repo) {
			repos = append(repos, repo)
		}
	}
	answers := make([]registry.UploadAnswer, len(repos))
	errs := make([]error, len(repos))
	turns := make(chan struct{}, max(1, r.Parallel))
	var asked sync.WaitGroup
	for i, repo := range repos {
		turns <- struct{}{}
		asked.Go(func() {
			answers[i], errs[i] = r.Registry.AskUpload(ctx, repo, registry.Trial{})
			<-turns
		})
	}
	asked.Wait()
	for i, repo := range repos {
		begin, err := answered(ctx, answers[i].Begin, errs[i])
		if err != nil {
			return err
		}
		r.cancelled(repo, answers[i])
		r.spec.Repositories = append(r.spec.Repositories, contract.RepositoryAccess{
			Repository: repo.String(), Writable: writable(begin), Evidence: evidence(begin),
		})
	}
	return nil
}

// search looks for the least of steps, in rising order, that is refused. The last
// is asked for first: mostly nothing is refused, and then that is all. accepted is
// what is known to be accepted.
func search(steps []int64, accepted int64, ask func(int64) (contract.Verdict, contract.Evidence, error)) (contract.Bound, error) {
	bound := contract.Bound{Accepted: accepted, Verdict: contract.VerdictYes}
	low, high := 0, len(steps) // steps below low are accepted, those from high on refused
	for at := len(steps) - 1; low < high; at = (low + high) / 2 {
		verdict, evidence, err := ask(steps[at])
		switch {
		case err != nil:
			return bound, err
		case verdict == contract.VerdictYes:
			low, bound.Accepted = at+1, steps[at]
			if bound.Refused == 0 {
				bound.Evidence = evidence
			}
		default:
			high, bound.Refused = at, steps[at]
			bound.Verdict, bound.Evidence = verdict, evidence
		}
	}
	return bound, nil
}

// upTo are the whole numbers from first to last.
func upTo(first, last int64) []int64 {
	var steps []int64
	for n := first; n <= last; n++ {
		steps = append(steps, n)
	}
	return steps
}

func segments(repo oci.Repository) int64 { return int64(strings.Count(repo.Path, "/") + 1) }

// depth asks how many segments a path may have (Q1).
func (r *run) depth(ctx context.Context) error {
	known := segments(r.home)
	deepest := segments(r.Root) + levels
	for _, repo := range r.Repositories {
		deepest = max(deepest, segments(repo))
	}
	for deepest > known && !oci.ValidPath(r.deep(deepest).Path) {
		deepest--
	}
	var err error
	r.spec.Depth, err = search(upTo(known+1, deepest), known, r.beginning(ctx, r.deep))
	return err
}

// deep is a repository whose path has so many segments.
func (r *run) deep(n int64) oci.Repository {
	return r.home.Join(strings.TrimSuffix(strings.Repeat("level/", int(n-segments(r.home))), "/"))
}

// beginning asks whether an upload begins in a repository of some measure.
func (r *run) beginning(ctx context.Context, of func(int64) oci.Repository) func(int64) (contract.Verdict, contract.Evidence, error) {
	return func(n int64) (contract.Verdict, contract.Evidence, error) {
		a, err := r.begin(ctx, of(n))
		return judge(a), evidence(a), err
	}
}

// longest is how many bytes a path has at most, by the rule for names that ferry
// keeps itself.
const longest = 255

// length asks how many bytes a path may have, in one segment.
func (r *run) length(ctx context.Context) error {
	known := int64(len(r.home.Path))
	var err error
	r.spec.Length, err = search(upTo(known+1, longest), known, r.beginning(ctx, func(n int64) oci.Repository {
		return oci.Repository{Host: r.home.Host, Path: r.home.Path + strings.Repeat("e", int(n-known))}
	}))
	return err
}

// nameForms are the names that are asked for (Q41), relative to the root.
var nameForms = []struct {
	form contract.NameForm
	name string
}{
	{contract.NameDot, "ferry-probe.a"},
	{contract.NameUnderscore, "ferry-probe_a"},
	{contract.NameDoubleUnderscore, "ferry-probe__a"},
	{contract.NameDashes, "ferry-probe--a"},
	{contract.NameLeadingDigit, "0ferry-probe"},
	{contract.NameDigits, "ferry-probe/00"},
	{contract.NameOneLetter, "ferry-probe/a"},
}

// names asks for forms of names. One that is a segment deeper can only be tried
// where that is not too deep.
func (r *run) names(ctx context.Context) error {
	for _, n := range nameForms {
		repo := r.Root.Join(n.name)
		rule := contract.NameRule{Form: n.form, Example: repo.String(), Accepted: contract.VerdictUnknown}
		if segments(repo) > r.spec.Depth.Accepted {
			rule.Evidence.Text = "not asked for: names so deep are refused"
		} else {
			a, err := r.begin(ctx, repo)
			if err != nil {
				return err
			}
			rule.Accepted, rule.Evidence = judge(a), evidence(a)
		}
		r.spec.Names = append(r.spec.Names, rule)
	}
	return nil
}
