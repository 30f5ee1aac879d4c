package discovery

import (
	"context"
	"errors"
	"slices"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/deckhouse/plugin"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// cli looks at the releases of d8: for a pinned one, or at the list.
func (e *explorer) cli(ctx context.Context) error {
	pinned, ok := e.scope.CLI()
	if !ok {
		return nil
	}
	repo := e.layout.CLI()
	row := contract.CatalogRepository{Component: deckhouse.ComponentCLI, Role: deckhouse.RoleMain}
	var err error
	if pinned != nil {
		row.Tags, err = e.find(ctx, repo, pinned)
	} else {
		row.Tags, row.Listed, err = e.permittedTags(ctx, repo)
	}
	if err != nil {
		return err
	}
	e.add(repo, row, nil)
	return nil
}

// permittedTags lists a repository that a licence may not open, or a registry not
// list: a refusal counts like an absence (S5.10.2), where nobody asked for what is
// in it.
func (e *explorer) permittedTags(ctx context.Context, repo oci.Repository) (tags []string, listed bool, err error) {
	tags, listed, err = e.tags(ctx, repo)
	if kind := fault.KindOf(err); kind == fault.Denied || kind == fault.Unsupported {
		e.log.InfoContext(ctx, "the source refuses the list, so nothing is chosen from it", "repository", repo.String(), "cause", err)
		return nil, false, nil
	}
	return tags, listed, err
}

// plugins looks at those plugins that the policy can need and at all that these
// depend on. modules are the names in the modules' catalogue.
func (e *explorer) plugins(ctx context.Context, modules []string) error {
	look := e.scope.Plugins(modules)
	wishes := map[string]deckhouse.PluginWish{}
	var names []string
	for _, wish := range look.Plugins {
		wishes[wish.Name] = wish
		names = append(names, wish.Name)
	}
	if look.Catalogue {
		listed, err := e.pluginCatalogue(ctx)
		if err != nil {
			return err
		}
		names = append(names, listed...)
	}
	for seen := map[string]bool{}; len(names) > 0; {
		slices.Sort(names)
		names = slices.DeleteFunc(slices.Compact(names), func(name string) bool { return seen[name] })
		for _, name := range names {
			seen[name] = true
		}
		var err error
		if names, err = e.lookAtPlugins(ctx, names, wishes); err != nil {
			return err
		}
	}
	return nil
}

// pluginCatalogue returns the names of all plugins. Where the list is absent or
// refused the Catalog says so, and no plugin is chosen for modules (S5.10.2, S9
// row 46).
func (e *explorer) pluginCatalogue(ctx context.Context) ([]string, error) {
	repo := e.layout.PluginCatalogue()
	row := contract.CatalogRepository{Component: deckhouse.ComponentPlugins, Role: deckhouse.RoleCatalogue}
	var err error
	if row.Tags, row.Listed, err = e.permittedTags(ctx, repo); err != nil {
		return nil, err
	}
	e.add(repo, row, nil)
	return deckhouse.PluginNames(row.Tags), nil
}

// lookAtPlugins lists the versions of plugins, reads their contracts, and returns
// the names of what they depend on.
func (e *explorer) lookAtPlugins(ctx context.Context, names []string, wishes map[string]deckhouse.PluginWish) ([]string, error) {
	var mu sync.Mutex
	var found []pluginTag
	err := e.each(ctx, len(names), func(ctx context.Context, i int) error {
		tags, err := e.pluginTags(ctx, names[i], wishes[names[i]])
		mu.Lock()
		defer mu.Unlock()
		for _, tag := range tags {
			if deckhouse.IsVersion(tag) {
				found = append(found, pluginTag{names[i], tag})
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var dependencies []string
	err = e.each(ctx, len(found), func(ctx context.Context, i int) error {
		c, err := e.readContract(ctx, found[i])
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		dependencies = append(dependencies, plugin.Release{Requirements: c.Requirements}.DependsOn()...)
		e.addContract(c)
		return nil
	})
	return dependencies, err
}

// pluginTags notes the repository of a plugin. One that nobody asked for by name
// may be absent or refused: it is then not published, as far as this login goes.
func (e *explorer) pluginTags(ctx context.Context, name string, wish deckhouse.PluginWish) ([]string, error) {
	repo := e.layout.Plugin(name)
	list := e.permittedTags
	if wish.Needed {
		list = e.tags
	}
	row := contract.CatalogRepository{Component: deckhouse.PluginComponent(name), Role: deckhouse.RoleMain}
	var err error
	row.Tags, row.Listed, err = list(ctx, repo)
	for i := 0; err == nil && !row.Listed && i < len(wish.Pins); i++ {
		var pinned []string
		pinned, err = e.find(ctx, repo, wish.Pins[i])
		row.Tags = append(row.Tags, pinned...)
	}
	if fault.KindOf(err) == fault.Denied {
		return nil, fault.New(fault.Denied, "", err).
			Hint("check the login and the name in %s %s; registries refuse names that do not exist, too", plugin.Flag, name)
	}
	if err != nil {
		return nil, err
	}
	e.add(repo, row, nil)
	return row.Tags, nil
}

// pluginTag is one version of a plugin.
type pluginTag struct{ name, tag string }

// readContract reads what a version says that it needs. What is wrong with the
// content is noted, and select passes that version over; a request that fails is
// never taken for such a fault (S1.8.6).
func (e *explorer) readContract(ctx context.Context, p pluginTag) (contract.CatalogContract, error) {
	c := contract.CatalogContract{Component: deckhouse.PluginComponent(p.name), Tag: p.tag}
	digest, annotation, err := e.contractAnnotation(ctx, e.layout.Plugin(p.name).WithTag(p.tag))
	c.Digest = digest
	switch {
	case errors.Is(err, fault.NotFound):
		c.Problem = "its tag is listed, but not all of its image is there"
		return c, nil
	case fault.KindOf(err) == fault.Protocol:
		return c, fault.New(fault.Protocol, "", err).Hint("tell the plugin's publisher, or choose no plugins with --no-plugins")
	case err != nil:
		return c, err
	}
	if c.Requirements, err = plugin.ParseContract(annotation); err != nil {
		c.Problem = err.Error()
	}
	e.log.DebugContext(ctx, "contract read", "plugin", p.name, "tag", p.tag, "problem", c.Problem)
	return c, nil
}

// contractAnnotation returns the contract of an index, else of its first child,
// or that of a single image (S1.8.2), and what stands behind the tag.
func (e *explorer) contractAnnotation(ctx context.Context, ref oci.Reference) (oci.Digest, string, error) {
	digest, manifest, err := e.manifest(ctx, ref)
	if err != nil {
		return "", "", err
	}
	annotation := manifest.Annotations[plugin.Annotation]
	if annotation != "" || len(manifest.Manifests) == 0 {
		return digest, annotation, nil
	}
	_, first, err := e.manifest(ctx, ref.Repository.WithDigest(manifest.Manifests[0].Digest))
	if err != nil {
		return "", "", err
	}
	return digest, first.Annotations[plugin.Annotation], nil
}

func (e *explorer) manifest(ctx context.Context, ref oci.Reference) (oci.Digest, *oci.Manifest, error) {
	desc, body, err := e.src.Manifest(ctx, ref)
	if err != nil {
		return "", nil, err
	}
	manifest, err := oci.ParseManifest(desc.MediaType, body)
	if err != nil {
		return "", nil, fault.New(fault.Protocol, ref.String(), err)
	}
	return desc.Digest, manifest, nil
}
