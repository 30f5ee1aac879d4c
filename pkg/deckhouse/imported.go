package deckhouse

import (
	"regexp"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

// Imported are the rules by which an archive that "d8 mirror pull" made becomes
// part of a ferry bundle: where it lands, in which order its tags are written,
// and which discovery tags follow. It implements bundle.Rules.
type Imported struct {
	// modulesAlone says that there is nothing but modules, each in the
	// directory of its name (S8.4).
	modulesAlone bool
}

// ImportedLayouts are the rules for a directory that has OCI image layouts at
// these paths: the tree of an edition, as archives hold it (S6.2.4), or one of
// modules alone, which "mirror-modules" makes. There each directory NAME has a
// layout NAME/release beside its own.
func ImportedLayouts(paths []string) Imported {
	modules := map[string]bool{}
	for _, p := range paths {
		if name, ok := strings.CutSuffix(p, "/"+Modules.release); ok {
			modules[name] = true
		}
	}
	for _, p := range paths {
		if !modules[firstSegment(p)] {
			return Imported{}
		}
	}
	return Imported{modulesAlone: len(modules) > 0}
}

// catalogues are the repositories whose tags name the repositories below them
// (S7.7).
var catalogues = [...]string{"modules", "packages", pluginsPath}

// contentTagRE are the tags of images that only others lead to: internal images and
// referrers under their digest (S6.5.4), and what is attached by tag (S1.7).
var contentTagRE = regexp.MustCompile(`^[0-9a-f]{64}$|\.att$|^sha256-[0-9a-f]{64}(\.[a-z]+)?$`)

// Vendor implements bundle.Rules.
func (Imported) Vendor() string { return Vendor }

// Prefix implements bundle.Rules: an old archive module-NAME.tar holds the
// module's layouts without modules/NAME in front (S7.4.4).
func (Imported) Prefix(archive string, names []string) string {
	name, isModule := strings.CutPrefix(archive, "module-")
	if !isModule || name == "" {
		return ""
	}
	path := "modules/" + name
	if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, path) }) {
		return ""
	}
	return path
}

// Phase implements bundle.Rules.
func (Imported) Phase(path, tag string) int {
	switch {
	case contentTagRE.MatchString(tag), strings.Contains(path, "/extra/"):
		return contract.PhaseContent
	case IsChannel(tag):
		return contract.PhaseChannel
	}
	return contract.PhaseVersion
}

// Archive implements bundle.Rules: the names of S6.2, and for what has none
// "images". Modules alone share one archive, for module-NAME would mean that
// they lie below modules/NAME (S7.4.4).
func (r Imported) Archive(path string) string {
	if r.modulesAlone {
		return Modules.many
	}
	archive := "images"
	switch first, below, _ := strings.Cut(path, "/"); first {
	case "", "install", "install-standalone", "release-channel":
		archive = "platform"
	case "installer", "security":
		archive = first
	case "deckhouse-cli":
		archive = first
		if plugin, ok := strings.CutPrefix(below, "plugins/"); ok {
			archive = "plugin-" + firstSegment(plugin)
		}
	case Modules.many:
		archive = Modules.archive(firstSegment(below))
	case Packages.many:
		archive = Packages.archive(firstSegment(below))
	}
	if !oci.ValidTag(archive + ".tar.0000.chunk") { // too long for a file name
		return "images"
	}
	return archive
}

func firstSegment(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

// Discovery implements bundle.Rules: modules/NAME/release makes modules:NAME;
// where there are modules alone, NAME/release makes NAME a tag of the root
// (S8.5).
func (r Imported) Discovery(path string) []contract.DiscoveryTag {
	if r.modulesAlone {
		name := firstSegment(path)
		return []contract.DiscoveryTag{{Tag: name, Phase: contract.PhaseDiscovery, Needs: name}}
	}
	for _, catalogue := range catalogues {
		below, ok := strings.CutPrefix(path, catalogue+"/")
		if !ok {
			continue
		}
		name := firstSegment(below)
		return []contract.DiscoveryTag{{
			Path: catalogue, Tag: name, Phase: contract.PhaseDiscovery, Needs: catalogue + "/" + name,
		}}
	}
	return nil
}

// Yields implements bundle.Rules: package-versions.tar lists the versions of
// every package as the source has them; what package-NAME.tar says of its own
// package was chosen, and wins (S9 row 70).
func (Imported) Yields(archive string) bool { return archive == packageVersions }
