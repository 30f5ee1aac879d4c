package contract

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"ferry/pkg/oci"
)

// Contents is a closed, digest-locked set of images: everything that an image
// refers to is in it. Plan, Inventory and Bundle hold the same Contents.
type Contents struct {
	Vendor string `json:"vendor"`
	Source string `json:"source"`
	// Archives as in the Selection, those that hold at least one image.
	Archives []Archive `json:"archives"`
	// Images are the tags wanted at the target, sorted by where they land.
	Images []Image `json:"images"`
	// Manifests are all image manifests and indexes, sorted by digest.
	Manifests []Manifest `json:"manifests"`
	// Blobs are all configs and layers, each once, sorted by digest.
	Blobs []Blob `json:"blobs"`
	// Discovery are the tags to write when all images are there.
	Discovery []DiscoveryTag `json:"discovery"`
	// Skipped are optional images that the source definitely does not have.
	Skipped []Skipped `json:"skipped"`
	// Assumed are the tags that an update leaves out: they must stand at the
	// target before anything of it is published (S6.11).
	Assumed []Assumed `json:"assumed,omitempty"`
	// Overview is what a person counts, of what is there.
	Overview Overview `json:"overview"`
}

// Image is a tag at the target.
type Image struct {
	Archive string `json:"archive"`
	Path    string `json:"path"`
	Tag     string `json:"tag"`
	Phase   int    `json:"phase"`
	// Digest names a manifest of Contents.Manifests.
	Digest oci.Digest `json:"digest"`
	// Source is the reference it was read from, also the annotation
	// org.opencontainers.image.ref.name in archives (S6.5.2).
	Source string `json:"source"`
	Reason string `json:"reason"`
}

// Manifest is an image manifest or index.
type Manifest struct {
	Digest    oci.Digest `json:"digest"`
	MediaType string     `json:"mediaType"`
	Size      int64      `json:"size"`
	// Repository is where it can be read, HOST/PATH; "" when the contents
	// came from archives alone.
	Repository string `json:"repository,omitempty"`
	// References are the manifests and blobs that must be at a repository
	// before it: children, then config and layers.
	References []oci.Digest `json:"references"`
	// Subject is the manifest that this one is attached to: a signature or an
	// SBOM has one. Registries list it under its subject's referrers.
	Subject oci.Digest `json:"subject,omitempty"`
}

// DescribeManifest is the entry for a manifest that was parsed, without the
// repository.
func DescribeManifest(desc oci.Descriptor, m *oci.Manifest) Manifest {
	out := Manifest{Digest: desc.Digest, MediaType: m.MediaType, Size: desc.Size, References: []oci.Digest{}}
	for _, d := range m.References() {
		out.References = append(out.References, d.Digest)
	}
	if m.Subject != nil && m.Subject.Digest.Valid() {
		out.Subject = m.Subject.Digest
	}
	return out
}

// Blob is a config or layer.
type Blob struct {
	Digest oci.Digest `json:"digest"`
	Size   int64      `json:"size"`
	// Repository as in Manifest.
	Repository string `json:"repository,omitempty"`
}

// Skipped is an optional image that was not found.
type Skipped struct {
	Source string `json:"source"`
	Path   string `json:"path"`
	Tag    string `json:"tag"`
	Reason string `json:"reason"`
}

// Assumed is a tag that stands at the target already.
type Assumed struct {
	Path   string     `json:"path"`
	Tag    string     `json:"tag"`
	Digest oci.Digest `json:"digest"`
}

// Normalize sorts all lists.
func (c *Contents) Normalize() {
	c.Archives = sortedArchives(c.Archives)
	c.Images = sortedBy(c.Images, func(a, b Image) int {
		return cmp.Or(cmp.Compare(a.Archive, b.Archive), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Tag, b.Tag))
	})
	c.Manifests = sortedBy(c.Manifests, func(a, b Manifest) int { return cmp.Compare(a.Digest, b.Digest) })
	for i := range c.Manifests {
		if c.Manifests[i].References == nil {
			c.Manifests[i].References = []oci.Digest{}
		}
	}
	c.Blobs = sortedBy(c.Blobs, func(a, b Blob) int { return cmp.Compare(a.Digest, b.Digest) })
	c.Discovery = sortedDiscovery(c.Discovery)
	c.Skipped = sortedBy(c.Skipped, func(a, b Skipped) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Source, b.Source))
	})
	c.Overview.normalize()
	if c.Assumed != nil {
		c.Assumed = sortedBy(c.Assumed, func(a, b Assumed) int {
			return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Tag, b.Tag))
		})
	}
}

// Validate checks names, and that the set is closed: every digest that an image
// or manifest refers to is described, once, and nothing else is.
func (c *Contents) Validate() error {
	archives, err := validArchives(c.Archives)
	if err != nil {
		return err
	}
	parts, err := c.validParts()
	if err != nil {
		return err
	}
	for i := range c.Manifests {
		m := &c.Manifests[i]
		if m.Subject != "" && !m.Subject.Valid() {
			return fmt.Errorf("contents.manifests[%d]: subject %.80q is not a sha256 digest", i, m.Subject)
		}
		for _, d := range m.References {
			if !parts.use(d) {
				return fmt.Errorf("contents.manifests[%d]: %s refers to %s, which is not in the contents", i, m.Digest, d)
			}
		}
	}
	taken := make(targets, len(c.Images))
	for i := range c.Images {
		if err := c.Images[i].validate(archives, parts, taken); err != nil {
			return fmt.Errorf("contents.images[%d]: %w", i, err)
		}
	}
	if d, ok := parts.unused(); ok {
		return fmt.Errorf("contents: %s is described, but no image needs it", d)
	}
	if err := c.validAssumed(taken); err != nil {
		return err
	}
	if err := validDiscovery(c.Discovery, taken); err != nil {
		return err
	}
	return c.Overview.validate(archives)
}

func (im *Image) validate(archives map[string]bool, parts parts, taken targets) error {
	if err := validTarget(im.Path, im.Tag); err != nil {
		return err
	}
	if !archives[im.Archive] {
		return fmt.Errorf("archive %q is not in contents.archives", im.Archive)
	}
	if !parts[im.Digest].manifest {
		return fmt.Errorf("manifest %s is not in the contents", im.Digest)
	}
	if _, ok := taken.take(im.Path, im.Tag, im.Source); !ok {
		return fmt.Errorf("tag %s:%s stands twice", im.Path, im.Tag)
	}
	parts.use(im.Digest)
	return nil
}

func (c *Contents) validAssumed(taken targets) error {
	for i, a := range c.Assumed {
		where := fmt.Sprintf("contents.assumed[%d]", i)
		if err := validTarget(a.Path, a.Tag); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if !a.Digest.Valid() {
			return fmt.Errorf("%s: %q is not a sha256 digest", where, a.Digest)
		}
		if _, ok := taken.take(a.Path, a.Tag, "assumed"); !ok {
			return fmt.Errorf("%s: tag %s:%s stands twice", where, a.Path, a.Tag)
		}
	}
	return nil
}

// Part is a manifest or blob of Contents.
type Part struct {
	oci.Descriptor        // a blob's media type is not known
	Repository     string // as in Manifest
	Manifest       bool
}

// Parts lists all content: manifests, then blobs.
func (c *Contents) Parts() []Part {
	parts := make([]Part, 0, len(c.Manifests)+len(c.Blobs))
	for _, m := range c.Manifests {
		parts = append(parts, Part{oci.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}, m.Repository, true})
	}
	for _, b := range c.Blobs {
		parts = append(parts, Part{oci.Descriptor{Digest: b.Digest, Size: b.Size}, b.Repository, false})
	}
	return parts
}

// maxSize bounds all content together, in bytes, so that no sum of sizes, nor of
// archives that repeat blobs, can overflow: 1 PiB.
const maxSize = 1 << 50

// parts are the manifests and blobs of Contents.
type parts map[oci.Digest]part

type part struct{ manifest, used bool }

// use notes that something needs d, and reports whether it is there.
func (p parts) use(d oci.Digest) bool {
	part, ok := p[d]
	if ok && !part.used {
		part.used = true
		p[d] = part
	}
	return ok
}

// unused returns one that nothing needs.
func (p parts) unused() (oci.Digest, bool) {
	for d, part := range p {
		if !part.used {
			return d, true
		}
	}
	return "", false
}

// validParts checks every manifest and blob.
func (c *Contents) validParts() (parts, error) {
	check := partCheck{known: make(parts, len(c.Manifests)+len(c.Blobs))}
	for i := range c.Manifests {
		m := &c.Manifests[i]
		if err := check.add(oci.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}, m.Repository, true); err != nil {
			return nil, err
		}
	}
	for i := range c.Blobs {
		b := &c.Blobs[i]
		if err := check.add(oci.Descriptor{Digest: b.Digest, Size: b.Size}, b.Repository, false); err != nil {
			return nil, err
		}
	}
	return check.known, nil
}

// partCheck checks parts one after another.
type partCheck struct {
	known parts
	total int64
	valid string // the last repository: neighbours often have it in common
}

func (p *partCheck) add(desc oci.Descriptor, repository string, manifest bool) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("contents: %.80q"+format, append([]any{desc.Digest}, args...)...)
	}
	switch {
	case !desc.Digest.Valid():
		return fail(" is not a sha256 digest")
	case desc.Size < 0, desc.Size > maxSize-p.total:
		return fail(" has size %d", desc.Size)
	case manifest && !oci.IsManifest(desc.MediaType):
		return fail(": %q is not a manifest's media type", desc.MediaType)
	}
	if repository != "" && repository != p.valid {
		if _, err := oci.ParseRepository(repository); err != nil {
			return fail(": %w", err)
		}
		p.valid = repository
	}
	if _, ok := p.known[desc.Digest]; ok {
		return fail(" stands twice")
	}
	p.known[desc.Digest] = part{manifest: manifest}
	p.total += desc.Size
	return nil
}

// Graph answers what a manifest needs, from Contents that do not change.
type Graph map[oci.Digest]*Manifest

// Graph indexes the manifests by digest.
func (c *Contents) Graph() Graph {
	graph := make(Graph, len(c.Manifests))
	for i := range c.Manifests {
		graph[c.Manifests[i].Digest] = &c.Manifests[i]
	}
	return graph
}

// Closure returns the manifests that roots need, children before parents and
// roots included, and the blobs of all of them; each once. A digest that is no
// manifest of the graph counts as a blob.
func (g Graph) Closure(roots ...oci.Digest) (manifests []*Manifest, blobs []oci.Digest) {
	seen := map[oci.Digest]bool{}
	var visit func(d oci.Digest)
	visit = func(d oci.Digest) {
		if seen[d] {
			return
		}
		seen[d] = true
		m, ok := g[d]
		if !ok {
			blobs = append(blobs, d)
			return
		}
		for _, r := range m.References {
			visit(r)
		}
		manifests = append(manifests, m)
	}
	for _, d := range roots {
		visit(d)
	}
	return manifests, blobs
}

// Heights tells of each of manifests, which are sorted, children before parents, how
// many of them lie below it, one below the other.
func Heights(manifests []*Manifest) map[oci.Digest]int {
	heights := make(map[oci.Digest]int, len(manifests))
	for _, m := range manifests {
		height := 0
		for _, d := range m.References {
			if h, isManifest := heights[d]; isManifest {
				height = max(height, h+1)
			}
		}
		heights[m.Digest] = height
	}
	return heights
}

// Layout is everything that one repository path of an archive holds, or all of a
// shared archive.
type Layout struct {
	Archive   string
	Path      string
	Images    []Image
	Manifests []*Manifest // children before parents
	Blobs     []oci.Digest
}

// Paths lists the paths of all repositories that tags land in, sorted, each once.
func (c *Contents) Paths() []string {
	var paths []string
	for _, im := range c.Images {
		paths = append(paths, im.Path)
	}
	for _, d := range c.Discovery {
		paths = append(paths, d.Path)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// Layouts groups the contents by archive and path, sorted; layouts that an
// archive must have although nothing lands there are included, empty.
func (c *Contents) Layouts() []Layout {
	return c.layouts(func(im Image) string { return im.Path })
}

// ImageLayouts are the image layouts that stand in the archives, sorted: those of
// [Contents.Layouts], but for each shared archive the one at its root.
func (c *Contents) ImageLayouts() []Layout {
	shared := map[string]bool{}
	for _, a := range c.Archives {
		shared[a.Name] = a.Shared
	}
	return c.layouts(func(im Image) string {
		if shared[im.Archive] {
			return ""
		}
		return im.Path
	})
}

// layouts groups the contents by archive and by what at says of each image.
func (c *Contents) layouts(at func(Image) string) []Layout {
	type key struct{ archive, path string }
	images := map[key][]Image{}
	for _, a := range c.Archives {
		for _, p := range a.Layouts {
			images[key{a.Name, p}] = nil
		}
	}
	for _, im := range c.Images {
		k := key{im.Archive, at(im)}
		images[k] = append(images[k], im)
	}
	graph := c.Graph()
	layouts := make([]Layout, 0, len(images))
	for k, list := range images {
		roots := make([]oci.Digest, len(list))
		for i, im := range list {
			roots[i] = im.Digest
		}
		l := Layout{Archive: k.archive, Path: k.path, Images: list}
		l.Manifests, l.Blobs = graph.Closure(roots...)
		layouts = append(layouts, l)
	}
	slices.SortFunc(layouts, func(a, b Layout) int {
		return cmp.Or(cmp.Compare(a.Archive, b.Archive), cmp.Compare(a.Path, b.Path))
	})
	return layouts
}

// PruneEmpty drops archives that hold no image, and discovery tags whose Needs
// holds none (S9 rows 11 and 54).
func (c *Contents) PruneEmpty() {
	archives := map[string]bool{}
	for _, im := range c.Images {
		archives[im.Archive] = true
	}
	c.Archives = slices.DeleteFunc(c.Archives, func(a Archive) bool { return !archives[a.Name] })
	held := c.heldPaths()
	c.Discovery = slices.DeleteFunc(c.Discovery, func(d DiscoveryTag) bool { return !held[d.Needs] })
}

// heldPaths are the paths where images land, and those that lead to them, but for
// the root, which leads to all.
func (c *Contents) heldPaths() map[string]bool {
	held := map[string]bool{}
	for i := range c.Images {
		path := c.Images[i].Path
		for !held[path] {
			held[path] = true
			above := strings.LastIndexByte(path, '/')
			if above < 0 {
				break
			}
			path = path[:above]
		}
	}
	return held
}

// LeaveOut makes the contents an update: images whose tag stands at the target
// already, by standing ("PATH:TAG" to digest), are assumed instead of carried,
// with all that nothing else needs (S6.11).
func (c *Contents) LeaveOut(standing map[string]oci.Digest) {
	graph := c.Graph()
	var kept []Image
	var roots []oci.Digest
	for _, im := range c.Images {
		if standing[im.Path+":"+im.Tag] == im.Digest {
			c.Assumed = append(c.Assumed, Assumed{im.Path, im.Tag, im.Digest})
			continue
		}
		kept, roots = append(kept, im), append(roots, im.Digest)
	}
	manifests, blobs := graph.Closure(roots...)
	c.Images, c.Manifests = kept, make([]Manifest, len(manifests))
	for i, m := range manifests {
		c.Manifests[i] = *m
	}
	needed := make(map[oci.Digest]bool, len(blobs))
	for _, d := range blobs {
		needed[d] = true
	}
	c.Blobs = slices.DeleteFunc(c.Blobs, func(b Blob) bool { return !needed[b.Digest] })
	c.PruneEmpty()
	c.UpdateOverview()
	c.Normalize()
}
