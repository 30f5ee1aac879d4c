package deckhouse

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	goyaml "go.yaml.in/yaml/v2"
	"sigs.k8s.io/yaml"

	"ferry/pkg/contract"
	"ferry/pkg/selection"
)

const (
	// VersionFile is what a channel's image says, and a release's (S1.4.1).
	VersionFile   = "version.json"
	changelogFile = "changelog.yaml"
)

// ReleaseFiles are the files besides VersionFile that tell of a release (S6.8).
func ReleaseFiles() []string { return []string{changelogFile} }

// ReleasesHead begins every text of Releases, and d8's.
const ReleasesHead = "---\napiVersion: " + releaseAPIVersion + "\napproved: false\nkind: " + releaseKind + "\n"

const (
	releaseAPIVersion = "deckhouse.io/v1alpha1"
	releaseKind       = "DeckhouseRelease"
)

// ReleaseTags are the platform releases whose files select needs: those that the
// policy selects out of a catalog of the release channels, or would if none were
// suspended. There are none where it decides nothing by them.
func (s Scope) ReleaseTags(cat contract.CatalogSpec) []string {
	in := *s.in
	in.IgnoreSuspend = true // what is refused is select's to say, which may get other flags
	versions, err := newSelector(cat, &in).releases()
	if err != nil {
		return nil // select will say it too
	}
	var tags []string
	for _, v := range versions {
		tags = append(tags, v.tag)
	}
	return tags
}

// Releases returns the manifests of the platform releases that Select takes from
// the catalog, deckhousereleases.yaml, sorted by version (S6.8). It is nil where
// no release can be described, or none is chosen by channels, as with a pinned
// tag. A note names each release that is left out. Kinds as Select.
func Releases(cat contract.CatalogSpec, p Policy) ([]byte, []Note, error) {
	s, err := newSelection(cat, p)
	if err != nil {
		return nil, nil, err
	}
	chosen, err := s.releases()
	if err != nil {
		return nil, nil, err
	}
	files := map[string]map[string]string{} // name and text by tag
	for _, f := range cat.Files {
		if f.Repository != s.layout.ReleaseChannel().String() {
			continue
		}
		if files[f.Tag] == nil {
			files[f.Tag] = map[string]string{}
		}
		files[f.Tag][f.Name] = f.Text
	}
	var text []byte
	for _, v := range sortedVersions(chosen) {
		manifest, err := releaseManifest(v, files[v.Tag()])
		if err != nil {
			s.note("release "+v.Tag(), fmt.Sprintf("left out of the list of releases: %.300s", err))
			continue
		}
		text = append(append(text, "---\n"...), manifest...)
	}
	return text, s.notes, nil
}

// releases are the versions that are chosen by channels and the list of releases
// (S3.6).
func (s *selector) releases() (choices, error) {
	if s.NoPlatform || s.pin != "" {
		return nil, nil
	}
	choice, err := s.discovered()
	return choice.versions, err
}

func sortedVersions(list choices) []selection.Version {
	var versions []selection.Version
	for _, c := range list {
		if v, ok := selection.ParseVersion(c.tag); ok {
			versions = append(versions, v)
		}
	}
	slices.SortFunc(versions, func(a, b selection.Version) int { return cmp.Or(a.Compare(b), cmp.Compare(a.Tag(), b.Tag())) })
	return versions
}

// deckhouseRelease is a manifest as the cluster takes it.
type deckhouseRelease struct {
	APIVersion string          `json:"apiVersion"`
	Approved   bool            `json:"approved"`
	Kind       string          `json:"kind"`
	Metadata   releaseMetadata `json:"metadata"`
	Spec       releaseSpec     `json:"spec"`
	Status     releaseStatus   `json:"status"`
}

type releaseMetadata struct {
	Name string `json:"name"`
}

type releaseSpec struct {
	Changelog     map[string]any    `json:"changelog,omitempty"`
	ChangelogLink string            `json:"changelogLink"`
	Disruptions   []string          `json:"disruptions,omitempty"`
	Requirements  map[string]string `json:"requirements,omitempty"`
	Version       string            `json:"version"`
}

type releaseStatus struct {
	Approved       bool   `json:"approved"`
	Message        string `json:"message"`
	TransitionTime string `json:"transitionTime"`
}

const changelogLink = "https://github.com/deckhouse/deckhouse/releases/tag/"

// releaseManifest describes one release by the files of its image.
func releaseManifest(v selection.Version, files map[string]string) ([]byte, error) {
	if len(files) == 0 {
		return nil, fmt.Errorf("the catalog does not have the files of its image; " +
			"either discover could not read them, or it ran with another policy than select")
	}
	for _, name := range append(ReleaseFiles(), VersionFile) {
		if _, ok := files[name]; !ok {
			return nil, fmt.Errorf("its image has no readable %s", name)
		}
	}
	var said struct {
		Disruptions  map[string][]string `json:"disruptions"`
		Requirements map[string]string   `json:"requirements"`
	}
	if err := json.Unmarshal([]byte(files[VersionFile]), &said); err != nil {
		return nil, fmt.Errorf("%s: %w", VersionFile, err)
	}
	changelog, err := parseChangelog(files[changelogFile])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", changelogFile, err)
	}
	name := v.Canonical()
	return yaml.Marshal(deckhouseRelease{
		APIVersion: releaseAPIVersion,
		Kind:       releaseKind,
		Metadata:   releaseMetadata{Name: name},
		Spec: releaseSpec{
			Changelog: changelog, ChangelogLink: changelogLink + name,
			Disruptions: said.Disruptions[v.Minor()], Requirements: said.Requirements, Version: name,
		},
		Status: releaseStatus{TransitionTime: "0001-01-01T00:00:00Z"},
	})
}

// Limits of a change log once its aliases are followed: a kilobyte of YAML can
// name the same megabyte a thousand times, and each level of nesting is an
// indentation of every line below it.
const (
	changelogLimit = 4 << 20 // bytes
	changelogDepth = 32
)

// parseChangelog reads a YAML map, whose keys become strings as they do in JSON.
// An empty text is an empty map.
func parseChangelog(text string) (map[string]any, error) {
	var parsed any
	if err := goyaml.UnmarshalStrict([]byte(text), &parsed); err != nil {
		return nil, err
	}
	if parsed == nil {
		return nil, nil
	}
	budget := changelogLimit
	plain, err := plainValue(parsed, changelogDepth, &budget)
	if err != nil {
		return nil, err
	}
	changelog, ok := plain.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it is not a map")
	}
	return changelog, nil
}

// plainValue returns a YAML value as JSON knows it, within what budget and depth
// leave.
func plainValue(value any, depth int, budget *int) (any, error) {
	const node = 8 // bytes that a value takes at least, with its marks and blanks
	*budget -= node
	if text, ok := value.(string); ok {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("it holds binary data")
		}
		*budget -= len(text)
	}
	if *budget < 0 {
		return nil, fmt.Errorf("it has more than %d bytes once its aliases are followed", changelogLimit)
	}
	if depth == 0 {
		return nil, fmt.Errorf("it is nested more than %d deep", changelogDepth)
	}
	switch value := value.(type) {
	case []any:
		list := make([]any, len(value))
		for i, v := range value {
			var err error
			if list[i], err = plainValue(v, depth-1, budget); err != nil {
				return nil, err
			}
		}
		return list, nil
	case map[any]any:
		return plainMap(value, depth, budget)
	}
	return value, nil
}

func plainMap(value map[any]any, depth int, budget *int) (map[string]any, error) {
	out := make(map[string]any, len(value))
	for k, v := range value {
		key, err := plainKey(k)
		if err != nil {
			return nil, err
		}
		*budget -= len(key)
		// 1 and "1" are two keys in YAML. Which one stayed would be chance.
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("the key %q stands twice", key)
		}
		if out[key], err = plainValue(v, depth-1, budget); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func plainKey(key any) (string, error) {
	switch key := key.(type) {
	case string:
		if !utf8.ValidString(key) {
			return "", fmt.Errorf("it holds binary data")
		}
		return key, nil
	case int, int64, uint64, bool:
		return fmt.Sprint(key), nil
	case float64:
		return strconv.FormatFloat(key, 'g', -1, 32), nil // as sigs.k8s.io/yaml, and so d8, spells it
	}
	return "", fmt.Errorf("%v cannot be a key", key)
}
