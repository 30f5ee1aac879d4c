package generic

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry"
	"ferry/pkg/selection"

	"golang.org/x/sync/errgroup"
)

// Roles of a Catalog. A digest is the third: the one image that is wanted.
const (
	roleImage    = "image"
	roleVersions = "versions"
)

// Discover turns the list into a Catalog. Only where the list chooses versions
// does it ask the source, for tags, up to parallel lists at a time (0 is 8);
// whether the images named outright exist is fetch's business.
//
// Kinds: fault.Policy for a constraint that no tag satisfies, fault.Usage for
// two lines that land at one place, and those of registry.Source.Tags.
func Discover(ctx context.Context, src registry.Source, list List, parallel int) (contract.CatalogSpec, error) {
	tags, err := listTags(ctx, src, list, parallel)
	if err != nil {
		return contract.CatalogSpec{}, err
	}
	spec := contract.CatalogSpec{Vendor: Vendor}
	owners := targets{}
	for _, item := range list {
		row, err := item.row(tags[item.Reference.Repository])
		if err == nil {
			err = owners.takeAll(item, row.Tags)
		}
		if err != nil {
			return contract.CatalogSpec{}, err
		}
		spec.Repositories = merged(spec.Repositories, row)
	}
	spec.Normalize()
	return spec, nil
}

// listTags lists each repository that versions are chosen of, once.
func listTags(ctx context.Context, src registry.Source, list List, parallel int) (map[oci.Repository][]string, error) {
	lists := map[oci.Repository]*[]string{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(parallel, 8))
	for _, item := range list {
		repo := item.Reference.Repository
		if !item.Versions.Ranged() || lists[repo] != nil {
			continue
		}
		tags := new([]string)
		lists[repo] = tags
		group.Go(func() (err error) {
			*tags, err = src.Tags(ctx, repo)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	out := map[oci.Repository][]string{}
	for repo, tags := range lists {
		out[repo] = *tags
	}
	return out, nil
}

// row is what the catalog says of the item; tags are those of its repository,
// where versions are chosen.
func (item Item) row(tags []string) (contract.CatalogRepository, error) {
	ref := item.Reference
	row := contract.CatalogRepository{Repository: ref.Repository.String(), Component: item.Text, Role: roleImage, Target: item.target()}
	switch {
	case len(item.Versions.Constraints) > 0:
		row.Role = roleVersions
		row.Tags = append(item.Versions.ExactTags(), selection.Tags(item.Versions.Pick(tags))...)
		if len(row.Tags) == 0 {
			return row, fault.Newf(fault.Policy, item.Text, "line %d: no tag of %s matches", item.Line, ref.Repository).
				Hint("it has %d tags, of which %d read as versions", len(tags), len(selection.ParseVersions(tags)))
		}
		return row, nil
	case ref.Digest != "":
		row.Role = string(ref.Digest)
	}
	if ref.Tag != "" {
		row.Tags = []string{ref.Tag}
	}
	return row, nil
}

// takeAll claims the places of the versions that an item chose. Those of single
// images are claimed when the list is parsed; here they meet the versions.
func (t targets) takeAll(item Item, tags []string) error {
	if item.Tag != "" {
		tags = []string{item.Tag}
	}
	for _, tag := range tags {
		if err := t.take(item.Path, tag, item.Line); err != nil {
			return fault.New(fault.Usage, "list of images", err)
		}
	}
	return nil
}

// merged adds row to rows; versions of one repository that land in one place
// share a row, however many lines choose them.
func merged(rows []contract.CatalogRepository, row contract.CatalogRepository) []contract.CatalogRepository {
	i := slices.IndexFunc(rows, func(r contract.CatalogRepository) bool {
		return r.Repository == row.Repository && r.Target == row.Target
	})
	if i < 0 {
		return append(rows, row)
	}
	rows[i].Component += " " + row.Component
	rows[i].Tags = append(rows[i].Tags, row.Tags...)
	return rows
}

const archive = "images"

// Select wants all that the catalog of a list names, in one archive.
// Attestations and signatures come along only where the list names them.
//
// Kind: fault.Damaged for a catalog that Discover did not make.
func Select(cat contract.CatalogSpec) (contract.SelectionSpec, error) {
	if cat.Vendor != Vendor {
		return contract.SelectionSpec{}, fault.Newf(fault.Damaged, "Catalog", "it is one of %q, this selects from %q", cat.Vendor, Vendor)
	}
	spec := contract.SelectionSpec{Vendor: Vendor, Source: cat.Source, Archives: []contract.Archive{{Name: archive}}}
	for _, row := range cat.Repositories {
		images, err := imagesOf(row)
		if err != nil {
			return contract.SelectionSpec{}, fault.New(fault.Damaged, "Catalog", fmt.Errorf("%s: %w", row.Component, err))
		}
		spec.Images = append(spec.Images, images...)
	}
	spec.Normalize()
	return spec, nil
}

func imagesOf(row contract.CatalogRepository) ([]contract.SelectedImage, error) {
	repo, err := oci.ParseRepository(row.Repository)
	if err != nil {
		return nil, err
	}
	path, tag, _ := strings.Cut(row.Target, ":")
	image := func(ref oci.Reference, tag string) contract.SelectedImage {
		return contract.SelectedImage{
			Source: ref.String(), Archive: archive, Path: path, Tag: tag,
			Phase: contract.PhaseVersion, Reason: "listed as " + row.Component,
		}
	}
	if row.Role == roleVersions {
		var out []contract.SelectedImage
		for _, tag := range row.Tags {
			out = append(out, image(repo.WithTag(tag), tag))
		}
		return out, nil
	}
	ref := oci.Reference{Repository: repo}
	if len(row.Tags) > 0 {
		ref.Tag = row.Tags[0]
	}
	if row.Role != roleImage {
		if ref.Digest, err = oci.ParseDigest(row.Role); err != nil {
			return nil, err
		}
	}
	return []contract.SelectedImage{image(ref, tag)}, nil
}
