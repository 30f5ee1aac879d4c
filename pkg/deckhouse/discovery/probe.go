package discovery

import (
	"context"
	"errors"
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/selection"

	"golang.org/x/sync/errgroup"
)

// versions learns which versions a repository has: by its tag list, or, of a
// proxy, by asking for those that the ranges may mean.
func (e *explorer) versions(ctx context.Context, repo oci.Repository, ranges []selection.Constraint, channels []contract.CatalogChannel) (contract.CatalogRepository, error) {
	var row contract.CatalogRepository
	var err error
	if gaps, proxy := e.scope.Proxy(); proxy {
		row.Tags, row.Probed, err = e.probe(ctx, repo, ranges, gaps, channels)
		return row, err
	}
	row.Tags, row.Listed, err = e.tags(ctx, repo)
	return row, err
}

// probe asks for tags one by one (S4.2): the walk of each range says which. The
// versions of channels are places to look around. Each tag is asked for once,
// however many ranges mean it.
func (e *explorer) probe(
	ctx context.Context, repo oci.Repository, ranges []selection.Constraint, gaps selection.Gaps, channels []contract.CatalogChannel,
) (found []string, probed []contract.Probe, err error) {
	var known []string
	for _, c := range channels {
		known = append(known, c.Version)
	}
	answers := map[string]bool{}
	for _, r := range ranges {
		before := len(answers)
		if err := e.walk(ctx, repo, r.Walk(gaps, selection.ParseVersions(known)), answers); err != nil {
			return nil, nil, err
		}
		probed = append(probed, contract.Probe{
			Constraint: r.String(), GapPatches: gaps.Patches, GapMinors: gaps.Minors, Requests: len(answers) - before,
		})
	}
	for tag, exists := range answers {
		if exists {
			found = append(found, tag)
		}
	}
	e.log.DebugContext(ctx, "tags asked for one by one", "repository", repo.String(), "asked", len(answers), "found", len(found))
	return found, probed, nil
}

// walk asks what the walk wants to know and answers lack, in rounds.
func (e *explorer) walk(ctx context.Context, repo oci.Repository, walk *selection.Walk, answers map[string]bool) error {
	for {
		tags, err := walk.Next()
		if err != nil {
			return fault.New(fault.Policy, repo.String(), err)
		}
		if len(tags) == 0 {
			return nil
		}
		ask := slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { _, known := answers[tag]; return known })
		exists, err := e.exist(ctx, repo, ask)
		if err != nil {
			return err
		}
		for i, tag := range ask {
			answers[tag] = exists[i]
		}
		for _, tag := range tags {
			walk.Answer(tag, answers[tag])
		}
	}
}

// exist asks for tags in parallel.
func (e *explorer) exist(ctx context.Context, repo oci.Repository, tags []string) ([]bool, error) {
	exists := make([]bool, len(tags))
	group, ctx := errgroup.WithContext(ctx)
	for i, tag := range tags {
		group.Go(func() error {
			var err error
			exists[i], err = e.exists(ctx, repo.WithTag(tag))
			return err
		})
	}
	return exists, group.Wait()
}

// exists asks for one tag when its turn comes: walks of many repositories share
// the turns. Only a definite "not found" says no (S4.3).
func (e *explorer) exists(ctx context.Context, ref oci.Reference) (bool, error) {
	select {
	case e.turns <- struct{}{}:
		defer func() { <-e.turns }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	_, err := e.src.Resolve(ctx, ref)
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// names are the add-ons of a family to look at: the catalogue's, or, of a proxy,
// those that the policy names.
func (e *explorer) names(ctx context.Context, f deckhouse.Family) ([]string, error) {
	if _, proxy := e.scope.Proxy(); proxy {
		return e.scope.Included(f), nil
	}
	return e.catalogue(ctx, f)
}
