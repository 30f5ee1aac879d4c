// Package selection chooses versions out of tag lists: constraints, the latest
// patch of each minor, anchors. It is pure, knows no vendor, and is the one
// importer of a semver library.
//
// A version is always the tag it was read from. Tags are never spelled anew: a
// tag published as "1.5" stays "1.5", for "v1.5.0" does not exist (S9 row 65).
package selection

import (
	"cmp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Version is a tag that reads as a semantic version.
type Version struct {
	tag    string
	parsed *semver.Version
}

// ParseVersion reads tag leniently: a leading "v" may stand or not, minor and
// patch may be left out. The zero Version and false mean that tag is none.
func ParseVersion(tag string) (Version, bool) {
	parsed, err := semver.NewVersion(tag)
	if err != nil {
		return Version{}, false
	}
	return Version{tag: tag, parsed: parsed}, true
}

// ParseVersions returns the versions among tags, in their order. Channels,
// attestations and digests are tags too, and are passed over (S3.3.1).
func ParseVersions(tags []string) []Version {
	var out []Version
	for _, tag := range tags {
		if v, ok := ParseVersion(tag); ok {
			out = append(out, v)
		}
	}
	return out
}

// Tag is the version as published.
func (v Version) Tag() string { return v.tag }

// Canonical is the usual spelling of the version: "v1.5.0".
func (v Version) Canonical() string { return "v" + v.parsed.String() }

// Minor names the release line: "1.5".
func (v Version) Minor() string {
	major, minor, _ := strings.Cut(v.parsed.String(), ".")
	minor, _, _ = strings.Cut(minor, ".")
	return major + "." + minor
}

// release is the version without pre-release and build.
func (v Version) release() release {
	return release{v.parsed.Major(), v.parsed.Minor(), v.parsed.Patch()}
}

// Prerelease reports whether the version is one, as "1.5.0-rc.1" is.
func (v Version) Prerelease() bool { return v.parsed.Prerelease() != "" }

// genuinePrereleases are how pre-releases begin that are meant as such. Others,
// such as "-main" or "-dev", mark the build of a finished version (S3.10).
var genuinePrereleases = [...]string{"alpha", "beta", "rc", "pre", "preview", "snapshot"}

// Stable reports whether the version is no pre-release, the marks of builds not
// counting as one: "1.5.0-main" is stable, "1.5.0-rc.1" is not (S3.10).
func (v Version) Stable() bool {
	pre := strings.ToLower(v.parsed.Prerelease())
	return !slices.ContainsFunc(genuinePrereleases[:], func(word string) bool { return strings.HasPrefix(pre, word) })
}

// Unmarked is the version without build metadata, and without a pre-release that
// only marks a build (S5.10.5). Its tag is that of v.
func (v Version) Unmarked() Version {
	core, err := v.parsed.SetMetadata("")
	if err == nil && v.Stable() {
		core, err = core.SetPrerelease("")
	}
	if err != nil {
		return v // nothing is set that could be malformed
	}
	return Version{tag: v.tag, parsed: &core}
}

// Newest returns versions from the newest to the oldest, each once, in the
// spelling that is the usual one where there are several.
func Newest(versions []Version) []Version {
	sorted := slices.SortedFunc(slices.Values(versions), func(v, w Version) int { return compareSpelled(w, v) })
	return slices.CompactFunc(sorted, func(v, w Version) bool { return v.Compare(w) == 0 })
}

// Compare orders versions by precedence; tags that mean the same version are
// equal.
func (v Version) Compare(w Version) int { return v.parsed.Compare(w.parsed) }

// compareSpelled orders versions, and tags that mean the same version with the
// canonical spelling last, so that it is the one that stays.
func compareSpelled(v, w Version) int {
	return cmp.Or(v.Compare(w), cmp.Compare(v.spelling(), w.spelling()), cmp.Compare(w.tag, v.tag))
}

func (v Version) spelling() int {
	switch v.tag {
	case v.Canonical():
		return 2
	case v.parsed.String():
		return 1
	}
	return 0
}

// LatestPatches keeps the highest version of each minor, pre-releases by their
// precedence (S3.3.3, S3.3.4), sorted.
func LatestPatches(versions []Version) []Version {
	sorted := slices.SortedFunc(slices.Values(versions), compareSpelled)
	var out []Version
	for _, v := range sorted {
		if n := len(out); n > 0 && out[n-1].Minor() == v.Minor() {
			out[n-1] = v
			continue
		}
		out = append(out, v)
	}
	return out
}

// Tags are the tags of versions, in order.
func Tags(versions []Version) []string {
	var out []string
	for _, v := range versions {
		out = append(out, v.tag)
	}
	return out
}

// Instead is which of picked was taken in the place of v: another spelling of it,
// or else the latest version of its minor.
func (v Version) Instead(picked []Version) (Version, bool) {
	var best Version
	for _, w := range picked {
		if w.Compare(v) == 0 {
			return w, true
		}
		if w.Minor() == v.Minor() && (best.parsed == nil || w.Compare(best) > 0) {
			best = w
		}
	}
	return best, best.parsed != nil
}

// NewestFirst sorts tags for people: versions, the newest first, then tags that
// are none, by name.
func NewestFirst(tags []string) []string {
	tags = slices.Clone(tags)
	slices.SortFunc(tags, func(a, b string) int {
		v, isVersion := ParseVersion(a)
		w, other := ParseVersion(b)
		switch {
		case isVersion && other:
			return cmp.Or(w.Compare(v), cmp.Compare(a, b))
		case isVersion:
			return -1
		case other:
			return 1
		}
		return cmp.Compare(a, b)
	})
	return tags
}
