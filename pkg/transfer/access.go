package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// checkAccess asks, before anything is sent, whether all roots below which tags
// are missing may be written to (S7.3.2): a refusal after hours of uploads is
// one too late. A root is asked about at a repository that will be written to
// indeed, for a registry with projects lets nobody write to the bare project; and
// at the deepest one too, for some registries limit that (Q1). All that is refused
// is said at once: whoever has to make projects wants to hear of all (Q4).
func (p *publishing) checkAccess(ctx context.Context, missing []tagTask) error {
	top, deepest := map[oci.Repository]oci.Repository{}, map[oci.Repository]oci.Repository{} // by root
	for _, t := range missing {
		// A root sorts before all that is below it.
		if at, ok := top[t.root]; !ok || t.ref.Path < at.Path {
			top[t.root] = t.ref.Repository
		}
		at, ok := deepest[t.root]
		if !ok || cmp.Or(cmp.Compare(depth(t.ref.Repository), depth(at)), cmp.Compare(at.Path, t.ref.Path)) > 0 {
			deepest[t.root] = t.ref.Repository
		}
	}
	var errs []error
	for _, root := range slices.SortedFunc(maps.Keys(top), func(a, b oci.Repository) int { return cmp.Compare(a.Path, b.Path) }) {
		err := p.writable(ctx, top[root])
		if at := deepest[root]; err == nil && depth(at) > depth(top[root]) {
			err = p.checkWrite(ctx, at)
		}
		if fault.KindOf(err) == fault.Cancelled {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func depth(r oci.Repository) int { return strings.Count(r.Path, "/") + 1 }

// writable asks about the root of repo once in a run, at repo. Every write
// begins here: where all tags are right already, what is missing below them is
// only found on the way.
func (p *publishing) writable(ctx context.Context, repo oci.Repository) error {
	_, err := p.access.Get(p.places[repo].root, func() (struct{}, error) {
		return struct{}{}, p.checkWrite(ctx, repo)
	})
	return err
}

func (p *publishing) checkWrite(ctx context.Context, repo oci.Repository) error {
	err := p.try(ctx, repo.String(), func() error { return p.Target.CheckWrite(ctx, repo) })
	switch kind := fault.KindOf(err); {
	case err == nil, kind == fault.Cancelled:
		return err
	case p.BypassAccessCheck:
		p.Log.Warn("the access check failed, and is bypassed", "repository", repo, "cause", err)
		return nil
	case fault.Heals(err):
	default:
		err = fault.New(kind, "", err).Hint("%s", strings.TrimPrefix(fault.HintOf(err)+"; "+whereWritable(repo), "; "))
	}
	return fmt.Errorf("the access check before the first write: %w", err)
}

// whereWritable tells what else may be wrong with a repository than the login.
func whereWritable(repo oci.Repository) string {
	if depth(repo) == 1 { // Q2
		return fmt.Sprintf("many registries keep images below projects alone, so give one, as in %s/images", repo)
	}
	project, _, _ := strings.Cut(repo.Path, "/") // Q1, Q4
	return fmt.Sprintf("check that the project %s exists, and that the registry takes paths of %d segments", project, depth(repo))
}
