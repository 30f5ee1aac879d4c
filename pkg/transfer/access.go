package transfer

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// checkAccess asks, before anything is sent, whether all roots below which tags
// are missing may be written to (S7.3.2): a refusal after hours of uploads is
// one too late. A root is asked about at a repository that will be written to
// indeed, for a registry with projects lets nobody write to the bare project.
func (p *publishing) checkAccess(ctx context.Context, missing []tagTask) error {
	chosen := map[oci.Repository]oci.Repository{} // by root
	for _, t := range missing {
		// A root sorts before all that is below it.
		if at, ok := chosen[t.root]; !ok || t.ref.Path < at.Path {
			chosen[t.root] = t.ref.Repository
		}
	}
	repos := make([]oci.Repository, 0, len(chosen))
	for _, repo := range chosen {
		repos = append(repos, repo)
	}
	slices.SortFunc(repos, func(a, b oci.Repository) int { return cmp.Compare(a.Path, b.Path) })
	for _, repo := range repos {
		if err := p.writable(ctx, repo); err != nil {
			return err
		}
	}
	return nil
}

// writable asks about the root of repo once in a run, at repo. Every write
// begins here: where all tags are right already, what is missing below them is
// only found on the way.
func (p *publishing) writable(ctx context.Context, repo oci.Repository) error {
	_, err := p.access.get(p.places[repo].root, func() (struct{}, error) {
		err := p.try(ctx, repo.String(), func() error { return p.Target.CheckWrite(ctx, repo) })
		switch {
		case err == nil, fault.KindOf(err) == fault.Cancelled:
			return struct{}{}, err
		case p.BypassAccessCheck:
			p.Log.Warn("the access check failed, and is bypassed", "repository", repo, "cause", err)
			return struct{}{}, nil
		}
		return struct{}{}, fmt.Errorf("the access check before the first write: %w", err)
	})
	return err
}
