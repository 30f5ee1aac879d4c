package discovery

import (
	"context"
	"errors"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// releases notes what the selected releases of the platform say of themselves
// (S6.8): row and channels are what was found in their repository.
func (e *explorer) releases(ctx context.Context, images *releaseImages, row contract.CatalogRepository, channels []contract.CatalogChannel) error {
	row.Repository = images.repo.String()
	found := contract.CatalogSpec{
		Vendor: deckhouse.Vendor, Source: e.layout.Edition.String(),
		Repositories: []contract.CatalogRepository{row}, Channels: channels,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(e.parallel)
	for _, tag := range e.scope.ReleaseTags(found) {
		group.Go(func() error { return e.release(ctx, images, images.repo.WithTag(tag)) })
	}
	return group.Wait()
}

// release notes the files of one release. One that is missing or broken is left
// to select, which tells of it; that it could not be asked for is a failure, for
// what is unknown is not absent (S5.2).
func (e *explorer) release(ctx context.Context, images *releaseImages, ref oci.Reference) error {
	digest, files, err := images.read(ctx, ref)
	if isContent(err) {
		e.log.WarnContext(ctx, "a release cannot be read", "release", ref.String(), "cause", err)
		return nil
	}
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for name, content := range files {
		if len(content) > contract.FileLimit || !utf8.Valid(content) {
			e.log.WarnContext(ctx, "a file of a release is too large, or no text", "release", ref.String(), "file", name, "bytes", len(content))
			continue
		}
		e.mu.Lock()
		e.files = append(e.files, contract.CatalogFile{
			Repository: ref.Repository.String(), Tag: ref.Tag, Digest: digest, Name: name, Text: string(content),
		})
		e.mu.Unlock()
	}
	return nil
}
