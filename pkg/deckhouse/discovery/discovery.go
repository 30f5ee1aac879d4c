// Package discovery looks at a source of Deckhouse and writes down what it
// offers. It stands apart from package deckhouse so that deciding, over the
// Catalog made here, cannot reach a network.
//
// Only fault.NotFound ever means that something is absent; every other failure
// ends the discovery. A refused or broken request taken for an absence makes a
// bundle that is incomplete without a word (S5.2, S9 rows 67 and 68).
package discovery

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry"

	"golang.org/x/sync/errgroup"
)

// Options are the settings of Discover.
type Options struct {
	// Parallel is how many modules and packages are looked at at a time; 0
	// is 8.
	Parallel int
	// Log receives a line for each repository looked at; nil is silence.
	Log *slog.Logger
}

// Discover writes down what the source offers, as far as the policy needs to
// know. The Catalog of a policy that only names a source serves any select.
//
// Kinds: fault.Usage for a policy that cannot be carried out, fault.Protocol
// for a channel that does not tell its version, and those of registry.Source
// except fault.NotFound.
func Discover(ctx context.Context, src registry.Source, policy deckhouse.Policy, opts Options) (contract.CatalogSpec, error) {
	scope, err := policy.Scope()
	if err != nil {
		return contract.CatalogSpec{}, err
	}
	e := &explorer{
		src: src, scope: scope, layout: scope.Layout(),
		log:      cmp.Or(opts.Log, slog.New(slog.DiscardHandler)),
		parallel: cmp.Or(opts.Parallel, 8),
		rows:     map[string]contract.CatalogRepository{},
		turns:    make(chan struct{}, cmp.Or(opts.Parallel, 8)),
	}
	names := map[deckhouse.Family][]string{}
	for _, f := range deckhouse.Families() {
		if scope.Family(f) {
			if names[f], err = e.names(ctx, f); err != nil {
				return contract.CatalogSpec{}, err
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(e.parallel)
	if scope.Platform() {
		group.Go(func() error { return e.platform(ctx) })
	}
	group.Go(func() error { return e.cli(ctx) })
	group.Go(func() error { return e.plugins(ctx, names[deckhouse.Modules]) })
	for _, f := range deckhouse.Families() {
		for _, name := range names[f] {
			group.Go(func() error { return e.addOn(ctx, f, name) })
		}
	}
	if err := group.Wait(); err != nil {
		return contract.CatalogSpec{}, err
	}
	return e.catalog(), nil
}

// explorer collects a Catalog. Its methods are safe for concurrent use.
type explorer struct {
	src      registry.Source
	scope    deckhouse.Scope
	layout   deckhouse.Layout
	log      *slog.Logger
	parallel int
	turns    chan struct{} // a place for each request that asks for one tag (S4)

	mu        sync.Mutex
	rows      map[string]contract.CatalogRepository // by repository
	channels  []contract.CatalogChannel
	contracts []contract.CatalogContract
	files     []contract.CatalogFile
}

// each calls work for 0 to n-1, some at a time, until one fails.
func (e *explorer) each(ctx context.Context, n int, work func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(e.parallel)
	for i := range n {
		group.Go(func() error { return work(ctx, i) })
	}
	return group.Wait()
}

// images are those of a repository that say what a release is.
func (e *explorer) images(repo oci.Repository, further ...string) *releaseImages {
	return &releaseImages{explorer: e, repo: repo, further: further}
}

func (e *explorer) catalog() contract.CatalogSpec {
	spec := contract.CatalogSpec{
		Vendor: deckhouse.Vendor, Source: e.layout.Edition.String(), Edition: e.layout.Name,
		Channels: e.channels, Contracts: e.contracts, Files: e.files,
	}
	for _, row := range e.rows {
		spec.Repositories = append(spec.Repositories, row)
	}
	spec.Normalize()
	return spec
}

// platform looks at the release channels, at what the selected releases say of
// themselves, and for what is pinned.
func (e *explorer) platform(ctx context.Context) error {
	releases := e.layout.ReleaseChannel()
	images := e.images(releases, deckhouse.ReleaseFiles()...)
	channels, err := images.channels(ctx, deckhouse.ComponentPlatform)
	if err != nil {
		return err
	}
	var row contract.CatalogRepository
	if e.scope.Releases() {
		if row, err = e.versions(ctx, releases, e.scope.PlatformRanges(), channels); err != nil {
			return err
		}
		// Without channels there is no such repository, and the empty list is all.
		row.Listed = row.Listed || len(channels) == 0 && len(row.Probed) == 0
	}
	row.Component, row.Role = deckhouse.ComponentPlatform, deckhouse.RoleReleaseChannel
	for _, c := range channels {
		if !deckhouse.IsVersion(c.Version) {
			return fault.Newf(fault.Protocol, releases.WithTag(c.Name).String(), "the channel points at %q, which is not a version", c.Version)
		}
	}
	e.add(releases, row, channels)
	if err := e.releases(ctx, images, row, channels); err != nil {
		return err
	}
	return e.pinned(ctx)
}

// pinned looks for the pinned version or custom tag in the edition's root
// (S3.7.6), under each spelling it may have (S9 row 66).
func (e *explorer) pinned(ctx context.Context) error {
	candidates := e.scope.PinnedTags()
	if len(candidates) == 0 {
		return nil
	}
	row := contract.CatalogRepository{Component: deckhouse.ComponentPlatform, Role: deckhouse.RoleMain}
	var err error
	if row.Tags, err = e.find(ctx, e.layout.Edition, candidates); err != nil {
		return err
	}
	e.add(e.layout.Edition, row, nil)
	return nil
}

// find returns the first of the candidates that is a tag of repo, alone, or none.
func (e *explorer) find(ctx context.Context, repo oci.Repository, candidates []string) ([]string, error) {
	for _, tag := range candidates {
		_, err := e.src.Resolve(ctx, repo.WithTag(tag))
		if err == nil {
			return []string{tag}, nil
		}
		if !errors.Is(err, fault.NotFound) {
			return nil, err
		}
	}
	return nil, nil
}

// catalogue returns the add-ons of a family.
func (e *explorer) catalogue(ctx context.Context, f deckhouse.Family) ([]string, error) {
	repo := e.layout.Catalogue(f)
	tags, listed, err := e.tags(ctx, repo)
	if err == nil && !listed {
		listed, err = e.listsTags(ctx)
	}
	if kind := fault.KindOf(err); kind == fault.Denied || kind == fault.Unsupported {
		err = e.refused(f, err)
	}
	if err != nil {
		return nil, err
	}
	role := deckhouse.RoleCatalogue
	if e.scope.ModuleSource() {
		role = deckhouse.RoleModuleSource
	}
	e.add(repo, contract.CatalogRepository{
		Component: f.Component(), Role: role, Tags: tags, Listed: listed,
	}, nil)
	return deckhouse.Names(tags), nil
}

// refused excuses a catalogue that the login may not see where nobody asked for
// what it names: the versions of packages are looked at even then (S5.8), and a
// licence without packages, or a registry that lists no tags, must not keep the
// platform from being pulled.
func (e *explorer) refused(f deckhouse.Family, err error) error {
	switch wanted := e.scope.Wanted(f); {
	case wanted && fault.KindOf(err) == fault.Unsupported:
		return err
	case e.scope.ModuleSource():
		return fault.New(fault.Denied, "", err).Hint("check the login in the ModuleSource's dockerCfg; the host it is for must be that of repo, the port included")
	case wanted:
		return fault.New(fault.Denied, "", err).Hint("check the login, or leave them out with %s", f.OptOut())
	}
	e.log.Warn("the source refuses the catalogue, so nothing below it is carried", "catalogue", e.layout.Catalogue(f), "cause", err)
	return nil
}

// listsTags tells whether the lack of one list means an absent repository, as of
// an edition without modules or packages (S5.6.1, S5.7), or a registry that has
// no lists at all: that one serves release channels and does not list them either.
func (e *explorer) listsTags(ctx context.Context) (bool, error) {
	if e.scope.ModuleSource() {
		return true, nil // it has nothing to compare with, and a login for nothing else (S8.3)
	}
	releases := e.layout.ReleaseChannel()
	if _, listed, err := e.tags(ctx, releases); listed || err != nil {
		return listed, err
	}
	for _, channel := range deckhouse.Channels() {
		_, err := e.src.Resolve(ctx, releases.WithTag(channel))
		if !errors.Is(err, fault.NotFound) {
			return false, err
		}
	}
	return true, nil
}

func (e *explorer) addOn(ctx context.Context, f deckhouse.Family, name string) error {
	look := e.scope.Look(f, name)
	channels, err := e.addOnReleases(ctx, f, name, look)
	if err != nil {
		return e.addOnHint(f, name, err)
	}
	if !look.Versions {
		return nil
	}
	repo := e.layout.Main(f, name)
	row, err := e.versions(ctx, repo, e.scope.Ranges(f, name), channels)
	if err != nil {
		return err
	}
	row.Component, row.Role = f.Member(name), deckhouse.RoleMain
	row.Listed = row.Listed || len(channels) == 0 && len(row.Probed) == 0
	e.add(repo, row, nil)
	return nil
}

// addOnReleases looks into the release repository of an add-on. Where its list is
// wanted and not found, the channels tell whether there is such a repository.
func (e *explorer) addOnReleases(ctx context.Context, f deckhouse.Family, name string, look deckhouse.Look) ([]contract.CatalogChannel, error) {
	if !look.Channels && !look.Releases {
		return nil, nil
	}
	repo := e.layout.Release(f, name)
	row := contract.CatalogRepository{Component: f.Member(name), Role: deckhouse.RoleReleaseChannel}
	var err error
	if look.Releases {
		if row.Tags, row.Listed, err = e.tags(ctx, repo); err != nil {
			return nil, err
		}
	}
	var channels []contract.CatalogChannel
	if look.Channels || !row.Listed {
		if channels, err = e.images(repo).channels(ctx, row.Component); err != nil {
			return nil, err
		}
		row.Listed = row.Listed || look.Releases && len(channels) == 0
	}
	e.add(repo, row, channels)
	return channels, nil
}

// addOnHint tells how to go on without an add-on whose channels are broken:
// leaving it out must be the operator's word, not ours.
func (e *explorer) addOnHint(f deckhouse.Family, name string, err error) error {
	if fault.KindOf(err) != fault.Protocol {
		return err
	}
	without := "leave it out with --exclude-" + f.One() + " " + name
	if e.scope.ModuleSource() {
		without = "name versions of this module, and the other modules, with --modules-filter"
	}
	return fault.New(fault.Protocol, "", err).Hint("tell the %s's publisher, or %s", f.One(), without)
}

// tags lists a repository. A 404 or an empty list says that there is no such
// repository, or, of a proxy, that it has no list; the caller knows which by what
// else it found there.
//
// With --proxy-registry no list is asked for: a refused one must stop nothing.
func (e *explorer) tags(ctx context.Context, repo oci.Repository) (tags []string, listed bool, err error) {
	if _, proxy := e.scope.Proxy(); proxy {
		return nil, false, nil
	}
	tags, err = e.src.Tags(ctx, repo)
	switch {
	case errors.Is(err, fault.NotFound):
		e.log.DebugContext(ctx, "no tag list", "repository", repo.String())
		return nil, false, nil
	case errors.Is(err, fault.Unsupported):
		return nil, false, fault.New(fault.Unsupported, "", err).Hint("%s", proxyHint)
	}
	e.log.DebugContext(ctx, "tags listed", "repository", repo.String(), "tags", len(tags))
	return tags, err == nil && len(tags) > 0, err
}

// proxyHint is for a registry without tag lists.
const proxyHint = "a registry that lists no tags is asked for versions one by one with --proxy-registry"

// add notes a repository and the channels found in it, which are tags of it.
// One that was listed keeps its row when something else asks about it: modules
// can stand in the edition's root itself (S1.2.1).
func (e *explorer) add(repo oci.Repository, row contract.CatalogRepository, channels []contract.CatalogChannel) {
	row.Repository = repo.String()
	for _, c := range channels {
		row.Tags = append(row.Tags, c.Name)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if old, ok := e.rows[row.Repository]; ok {
		if old.Listed {
			row, old = old, row
		}
		row.Tags = append(row.Tags, old.Tags...)
	}
	slices.Sort(row.Tags)
	row.Tags = slices.Compact(row.Tags)
	e.rows[row.Repository] = row
	e.channels = append(e.channels, channels...)
}

func (e *explorer) addContract(c contract.CatalogContract) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.contracts = append(e.contracts, c)
}
