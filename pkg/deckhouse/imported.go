package deckhouse

import (
	"regexp"
	"slices"
	"strings"

	"ferry/pkg/contract"
)

// Imported are the rules by which an archive that "d8 mirror pull" made becomes
// part of a ferry bundle: where it lands, in which order its tags are written,
// and which discovery tags follow. It implements bundle.Rules.
type Imported struct{}

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

// Discovery implements bundle.Rules: modules/NAME/release makes modules:NAME.
func (Imported) Discovery(path string) []contract.DiscoveryTag {
	for _, catalogue := range catalogues {
		below, ok := strings.CutPrefix(path, catalogue+"/")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(below, "/")
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
