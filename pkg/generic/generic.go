package generic

import (
	"cmp"
	"context"
	"strconv"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry"
	"ferry/pkg/selection"

	"golang.org/x/sync/errgroup"
)

// Discover writes the list down, and lists the tags of those repositories that
// it chooses versions of, up to parallel at a time, 0 being 8. Whether the
// images named outright exist is fetch's business.
//
// Kinds: those of registry.Source.Tags. A repository that is not there is an
// error: somebody named it.
func Discover(ctx context.Context, src registry.Source, items []*Item, parallel int) (contract.CatalogSpec, error) {
	spec := contract.CatalogSpec{Vendor: Vendor}
	for _, item := range items {
		spec.Wanted = append(spec.Wanted, item.Text)
	}
	repositories := chosenFrom(items)
	spec.Repositories = make([]contract.CatalogRepository, len(repositories))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(parallel, 8))
	for i, repo := range repositories {
		group.Go(func() error {
			tags, err := src.Tags(ctx, repo)
			spec.Repositories[i] = contract.CatalogRepository{
				Repository: repo.String(), Component: "list", Role: "main", Tags: tags, Listed: true,
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return contract.CatalogSpec{}, err
	}
	spec.Normalize()
	return spec, nil
}

// chosenFrom are the repositories whose tag list is needed, each once.
func chosenFrom(items []*Item) []oci.Repository {
	var out []oci.Repository
	seen := map[oci.Repository]bool{}
	for _, item := range items {
		if repo := item.Reference.Repository; item.Versions.Ranged() && !seen[repo] {
			seen[repo] = true
			out = append(out, repo)
		}
	}
	return out
}

const archive = "images"

// Options are what a list cannot say.
type Options struct {
	// SkipAttachments carries what the list names and nothing else.
	SkipAttachments bool `json:"skipAttachments,omitempty"`
}

// Select wants all that the catalog's list names, in one archive, and what is
// attached to it in the images' own repositories: signatures, SBOMs, attestations
// and referrers, and what is attached to these.
//
// Kinds: fault.Damaged for a catalog that Discover did not make, fault.Policy
// for a constraint that no tag satisfies, fault.Usage for two lines that land
// at one place.
func Select(cat contract.CatalogSpec, opts Options) (contract.SelectionSpec, error) {
	if cat.Vendor != Vendor {
		return contract.SelectionSpec{}, fault.Newf(fault.Damaged, "Catalog", "it is one of %q, this selects from %q", cat.Vendor, Vendor)
	}
	items, err := ParseList(strings.NewReader(strings.Join(cat.Wanted, "\n")))
	if err != nil {
		return contract.SelectionSpec{}, fault.New(fault.Damaged, "Catalog", err)
	}
	tags := map[string][]string{}
	for _, row := range cat.Repositories {
		tags[row.Repository] = row.Tags
	}
	spec := contract.SelectionSpec{Vendor: Vendor, Source: cat.Source, Archives: []contract.Archive{{Name: archive, Shared: true}}}
	if !opts.SkipAttachments {
		spec.Attached = contract.Attachments(2, "{digest}.sig", "{digest}.sbom", "{digest}.att")
	}
	spec.Images = make([]contract.SelectedImage, 0, len(items)) // most lines are one
	owners := targets{}
	text := func(line int) string { return strconv.Quote(items[line].Text) }
	for i, item := range items {
		images, err := item.images(tags)
		if err != nil {
			return contract.SelectionSpec{}, err
		}
		for _, im := range images {
			if err := owners.take(im.Path, im.Tag, i, text); err != nil {
				return contract.SelectionSpec{}, fault.New(fault.Usage, "list of images", err)
			}
		}
		spec.Images = append(spec.Images, images...)
	}
	spec.Overview = overview(spec.Images)
	spec.Normalize()
	return spec, nil
}

// overview counts repositories, each with its tags.
func overview(images []contract.SelectedImage) contract.Overview {
	const name = "Images"
	tags := map[string][]string{}
	for _, im := range images {
		tags[im.Path] = append(tags[im.Path], im.Tag)
	}
	o := contract.Overview{Components: []contract.Component{{Name: name, State: contract.ComponentWanted, Unit: "repository"}}}
	for path, list := range tags {
		o.Members = append(o.Members, contract.Member{
			Component: name, Name: path, Archive: archive, Path: path, Versions: selection.NewestFirst(list),
		})
	}
	return o
}

// images are what one line wants, given the tags of the repositories.
func (item Item) images(tags map[string][]string) ([]contract.SelectedImage, error) {
	image := func(ref oci.Reference, tag string) contract.SelectedImage {
		return contract.SelectedImage{
			Source: ref.String(), Archive: archive, Path: item.Path, Tag: tag,
			Phase: contract.PhaseVersion, Reason: "listed: " + item.Text,
		}
	}
	if len(item.Versions.Constraints) == 0 {
		return []contract.SelectedImage{image(item.Reference, item.Tag)}, nil
	}
	repo := item.Reference.Repository
	known, ok := tags[repo.String()]
	if !ok && item.Versions.Ranged() {
		return nil, fault.Newf(fault.Damaged, "Catalog", "it does not tell the tags of %s", repo)
	}
	chosen := append(item.Versions.ExactTags(), selection.Tags(item.Versions.Pick(known))...)
	if len(chosen) == 0 {
		return nil, fault.Newf(fault.Policy, item.Text, "no tag of %s matches", repo).
			Hint("it has %d tags, of which %d read as versions", len(known), len(selection.ParseVersions(known)))
	}
	var out []contract.SelectedImage
	for _, tag := range chosen {
		out = append(out, image(repo.WithTag(tag), tag))
	}
	return out, nil
}
