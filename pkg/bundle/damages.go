package bundle

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"ferry/pkg/fault"
)

// nameAll does n things in their order, atATime of them at once, and returns all
// damage that they find, so that a person makes one more trip to the medium and
// not many. Any other error ends it.
func nameAll(ctx context.Context, n, atATime int, do func(ctx context.Context, i int) error) error {
	problems := make([]error, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atATime)
	for i := range n {
		group.Go(func() error {
			err := do(ctx, i)
			if errors.Is(err, fault.Damaged) {
				problems[i] = err
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return errors.Join(problems...)
}
