package contract

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"ferry/pkg/oci"
)

// SelectionSpec is what is wanted, still by tag but for what was read already.
type SelectionSpec struct {
	// Vendor and Source as in the Catalog.
	Vendor string `json:"vendor"`
	Source string `json:"source"`
	// Archives are the archive files that a pack makes, sorted by name.
	Archives []Archive `json:"archives"`
	// Images are the images wanted, sorted by where they land.
	Images []SelectedImage `json:"images"`
	// Attached are links that are followed from every image that is carried,
	// whether it stands in Images or was found by a link, and from each image of
	// an index: signatures, SBOMs and whatever else refers to it. What they lead
	// to has no links but their own, and what is not there was not promised by
	// anybody: it is not listed as skipped.
	Attached []Link `json:"attached"`
	// Discovery are the tags that let the product find what is there.
	Discovery []DiscoveryTag `json:"discovery"`
	// Overview is what a person counts.
	Overview Overview `json:"overview"`
}

// Archive is one archive file. It is made when at least one image lands in it.
type Archive struct {
	// Name is the file name without ".tar".
	Name string `json:"name"`
	// Layouts are repository paths, relative to the target root ("" is the
	// root itself), that stand in the archive as image layouts even when they
	// are empty (S6.2.2). Others appear as images land in them.
	Layouts []string `json:"layouts"`
	// Shared says that all images of the archive lie in one image layout at its
	// root, with each blob once. Otherwise each repository path has a layout of its
	// own, with all that it needs, as d8 wants it (S6.4).
	Shared bool `json:"shared,omitempty"`
}

// Phases of tags at the target. A tag is written after every tag of a lower
// phase, so a reader that sees it finds what it points to.
const (
	PhaseContent   = 0  // images found by digest or by other images
	PhaseVersion   = 10 // versions of the product
	PhaseChannel   = 20 // channels, which name versions
	PhaseDiscovery = 30 // names, which lead to channels
)

// SelectedImage is one wanted image.
type SelectedImage struct {
	// Source is the reference to read: HOST/PATH:TAG or HOST/PATH@DIGEST.
	Source string `json:"source"`
	// Digest is what stood behind the tag of Source when somebody read it and
	// decided by what it says. Then this manifest is wanted, wherever the tag
	// has moved since (S3.6.7).
	Digest oci.Digest `json:"digest,omitempty"`
	// Archive is the archive that carries it.
	Archive string `json:"archive"`
	// Path is the repository it lands in, relative to the target root.
	Path string `json:"path"`
	// Tag is its tag there.
	Tag string `json:"tag"`
	// Phase is its tag's turn at the target.
	Phase int `json:"phase"`
	// Optional images are skipped, and listed as skipped, when the source
	// answers a definite "not found". Nothing else excuses an absence.
	Optional bool `json:"optional,omitempty"`
	// Needs is the "PATH:TAG" of another image of this Selection. When that
	// one is skipped, so is this: a channel must not announce a version that
	// is not there.
	Needs string `json:"needs,omitempty"`
	// LinksOnly images are not carried; only what their links lead to is
	// (S3.4.8, --only-extra-images). Path and Tag still say what they are.
	LinksOnly bool `json:"linksOnly,omitempty"`
	// Reason says why it was chosen, for people: "channel stable".
	Reason string `json:"reason"`
	// Links lead to images that only this image's content names.
	Links []Link `json:"links,omitempty"`
}

// LinkKind says how a link is followed.
type LinkKind string

// The link kinds. To add one: a constant here, its rules in Link.validate, its
// resolver in pkg/transfer/links.go.
const (
	// LinkDigests: every sha256 digest in File is an image of Repository; it
	// lands in Path under its 64 hex digits.
	LinkDigests LinkKind = "digestsInFile"
	// LinkTags: File is JSON, objects in objects whose strings are tags of
	// Repository; each lands in Path under its tag.
	LinkTags LinkKind = "tagsInFile"
	// LinkNamedTags: File is a JSON object of name to tag (string or
	// number); it is image Repository/name:tag and lands in Path/name.
	LinkNamedTags LinkKind = "namedTagsInFile"
	// LinkAttached: tags that are derived from the image itself by
	// Templates, where {tag} is the image's tag at the source and {digest}
	// its digest as sha256-HEX; a template whose value the image lacks is
	// passed over. Each found one lands in Path under the same tag.
	LinkAttached LinkKind = "attachedTags"
	// LinkReferrers: every manifest of Repository that has the image as its
	// subject, as the registry's referrers API or the tag sha256-HEX lists
	// them. Each lands in Path under its 64 hex digits, and that tag, where
	// there is one, under its name. What is listed must be there.
	LinkReferrers LinkKind = "referrers"
)

// Link leads from an image to images that only its content or its digest names.
type Link struct {
	Kind LinkKind `json:"kind"`
	// File is the path inside the image's file system (layers applied,
	// whiteouts honoured).
	File string `json:"file,omitempty"`
	// Unless voids the link when this file is there and not empty: the
	// better of two descriptions of the same thing.
	Unless string `json:"unless,omitempty"`
	// Required makes an image without File (and without Unless) an error.
	Required bool `json:"required,omitempty"`
	// Templates are the tags to look for (LinkAttached).
	Templates []string `json:"templates,omitempty"`
	// Repository is where the found images are read, HOST/PATH. For what is
	// attached to an image it may be empty, and Path with it: the repository
	// that the image is read from, and the path where it lands.
	Repository string `json:"repository"`
	// Path is where they land, relative to the target root.
	Path string `json:"path"`
	// Phase is their tags' turn at the target.
	Phase int `json:"phase"`
	// Optional as in SelectedImage, for each found image.
	Optional bool `json:"optional,omitempty"`
	// Links are followed from each found image in turn.
	Links []Link `json:"links,omitempty"`
}

// Attachments are the links to what others attach to images, for
// SelectionSpec.Attached: tags made of templates, and referrers. levels is how
// deep: with 2, what is attached to an attachment comes too, as the signature of an
// attestation does.
func Attachments(levels int, templates ...string) []Link {
	if levels == 0 {
		return nil
	}
	below := Attachments(levels-1, templates...)
	return []Link{
		{Kind: LinkAttached, Templates: templates, Phase: PhaseContent, Optional: true, Links: below},
		{Kind: LinkReferrers, Phase: PhaseContent, Links: below},
	}
}

// DiscoveryTag is a tag whose name is its meaning: Path:Tag says that Needs is
// there. All carry one constant placeholder image (S7.7).
type DiscoveryTag struct {
	Path  string `json:"path"`
	Tag   string `json:"tag"`
	Phase int    `json:"phase"`
	// Needs is the path under which at least one image must land, else the
	// tag is not written (S9 row 54).
	Needs string `json:"needs"`
}

// Kind is KindSelection.
func (*SelectionSpec) Kind() Kind { return KindSelection }

// Normalize sorts all lists but links, whose order is their precedence.
func (s *SelectionSpec) Normalize() {
	s.Archives = sortedArchives(s.Archives)
	s.Images = sortedBy(s.Images, func(a, b SelectedImage) int {
		return cmp.Or(cmp.Compare(a.Archive, b.Archive), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Source, b.Source))
	})
	if s.Attached == nil {
		s.Attached = []Link{}
	}
	s.Discovery = sortedDiscovery(s.Discovery)
	s.Overview.normalize()
}

// Validate checks names and that every tag at the target has one owner.
func (s *SelectionSpec) Validate() error {
	if s.Vendor == "" {
		return fmt.Errorf("spec.vendor is empty")
	}
	archives, err := validArchives(s.Archives)
	if err != nil {
		return err
	}
	taken := make(targets, len(s.Images))
	locked := map[string]oci.Digest{} // by source
	for i := range s.Images {
		im := &s.Images[i]
		if err := im.validate(archives, taken, locked); err != nil {
			return fmt.Errorf("spec.images[%d]: %w", i, err)
		}
		if err := validLinks(im.Links); err != nil {
			return fmt.Errorf("spec.images[%d].%w", i, err)
		}
	}
	for i := range s.Images {
		if needs := s.Images[i].Needs; needs != "" && !taken.has(needs) {
			return fmt.Errorf("spec.images[%d]: it needs %s, which nobody wants", i, needs)
		}
	}
	if err := validAttached("spec.attached", s.Attached); err != nil {
		return err
	}
	if err := validDiscovery(s.Discovery, taken); err != nil {
		return err
	}
	return s.Overview.validate(archives)
}

// validate checks an image against those before it: the targets that they have
// taken, and what their sources are locked to.
func (im *SelectedImage) validate(archives map[string]bool, taken targets, locked map[string]oci.Digest) error {
	ref, err := oci.ParseReference(im.Source)
	if err != nil {
		return err
	}
	if im.Digest != "" {
		if !im.Digest.Valid() || ref.Digest != "" {
			return fmt.Errorf("%q is not a sha256 digest, or one beside that of the source", im.Digest)
		}
		if other, ok := locked[im.Source]; ok && other != im.Digest {
			return fmt.Errorf("%s is wanted as %s and as %s", im.Source, other, im.Digest)
		}
		locked[im.Source] = im.Digest
	}
	if err := validTarget(im.Path, im.Tag); err != nil {
		return err
	}
	if !archives[im.Archive] {
		return fmt.Errorf("archive %q is not in spec.archives", im.Archive)
	}
	if im.LinksOnly {
		return nil // owns no tag at the target
	}
	if other, ok := taken.take(im.Path, im.Tag, im.Source); !ok {
		return fmt.Errorf("target %s:%s is wanted from %s and from %s", im.Path, im.Tag, other, im.Source)
	}
	return nil
}

// validAttached checks links that need nothing but the image itself, at all levels:
// they are followed from images of any kind.
func validAttached(where string, links []Link) error {
	for i, l := range links {
		if !l.Kind.attaches() {
			return fmt.Errorf("%s[%d]: a link of kind %s does not lead to what is attached", where, i, l.Kind)
		}
		if err := validAttached(fmt.Sprintf("%s[%d].links", where, i), l.Links); err != nil {
			return err
		}
	}
	if err := validLinks(links); err != nil {
		return fmt.Errorf("%s.%w", where, err)
	}
	return nil
}

// attaches reports whether links of the kind lead to what is attached to an image.
func (k LinkKind) attaches() bool { return k == LinkAttached || k == LinkReferrers }

func validLinks(links []Link) error {
	for i := range links {
		if err := links[i].validate(); err != nil {
			return fmt.Errorf("links[%d]: %w", i, err)
		}
		if err := validLinks(links[i].Links); err != nil {
			return fmt.Errorf("links[%d].%w", i, err)
		}
	}
	return nil
}

func (l Link) validate() error {
	switch l.Kind {
	case LinkDigests, LinkTags, LinkNamedTags:
		if l.File == "" || len(l.Templates) > 0 {
			return fmt.Errorf("a link of kind %s has a file and no templates", l.Kind)
		}
	case LinkAttached:
		if len(l.Templates) == 0 || l.File != "" || l.Unless != "" || l.Required {
			return fmt.Errorf("a link of kind %s has templates and no file", l.Kind)
		}
	case LinkReferrers:
		if len(l.Templates) > 0 || l.File != "" || l.Unless != "" || l.Required || l.Optional {
			return fmt.Errorf("a link of kind %s has neither templates nor file, and is not optional", l.Kind)
		}
	default:
		return fmt.Errorf("unknown link kind %q", l.Kind)
	}
	if err := l.validNames(); err != nil {
		return err
	}
	if l.Kind.attaches() && l.Repository == "" && l.Path == "" {
		return nil
	}
	if _, err := oci.ParseRepository(l.Repository); err != nil {
		return err
	}
	return validPath(l.Path)
}

// validNames checks what becomes a path inside an image, or a tag (B5).
func (l Link) validNames() error {
	for _, file := range []string{l.File, l.Unless} {
		if file != "" && (path.Clean("/"+file) == "/" || slices.Contains(strings.Split(file, "/"), "..")) {
			return fmt.Errorf("%q is not a path of a file inside an image", file)
		}
	}
	filled := strings.NewReplacer("{tag}", "v1", "{digest}", "sha256-"+strings.Repeat("0", 64))
	for _, template := range l.Templates {
		if !oci.ValidTag(filled.Replace(template)) {
			return fmt.Errorf("%q does not make a tag", template)
		}
	}
	return nil
}

func sortedArchives(list []Archive) []Archive {
	list = sortedBy(list, func(a, b Archive) int { return cmp.Compare(a.Name, b.Name) })
	for i := range list {
		list[i].Layouts = sortedBy(list[i].Layouts, cmp.Compare[string])
	}
	return list
}

func sortedDiscovery(list []DiscoveryTag) []DiscoveryTag {
	return sortedBy(list, func(a, b DiscoveryTag) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Tag, b.Tag))
	})
}

func validArchives(list []Archive) (map[string]bool, error) {
	names := map[string]bool{}
	for i, a := range list {
		// An archive's name becomes a file name: the grammar of a single
		// path segment keeps it harmless (zarf CVE-2026-40090).
		if !oci.ValidTag(a.Name) {
			return nil, fmt.Errorf("spec.archives[%d]: %q is not an archive name", i, a.Name)
		}
		if names[a.Name] {
			return nil, fmt.Errorf("spec.archives[%d]: archive %s stands twice", i, a.Name)
		}
		names[a.Name] = true
		if a.Shared && len(a.Layouts) > 0 {
			return nil, fmt.Errorf("spec.archives[%d]: archive %s is shared, and has no layouts of its own", i, a.Name)
		}
		for _, p := range a.Layouts {
			if err := validPath(p); err != nil {
				return nil, fmt.Errorf("spec.archives[%d]: %w", i, err)
			}
		}
	}
	return names, nil
}

func validDiscovery(list []DiscoveryTag, taken targets) error {
	for i, d := range list {
		where := fmt.Sprintf("spec.discovery[%d]", i)
		if err := validTarget(d.Path, d.Tag); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if err := validPath(d.Needs); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if _, ok := taken.take(d.Path, d.Tag, "discovery"); !ok {
			return fmt.Errorf("%s: tag %s:%s is an image already", where, d.Path, d.Tag)
		}
	}
	return nil
}

// targets tells who owns a tag at the target.
type targets map[target]string

type target struct{ path, tag string }

// take gives path:tag to who wants it; other is the owner where there is one.
func (t targets) take(path, tag, owner string) (other string, ok bool) {
	at := target{path, tag}
	if other, taken := t[at]; taken {
		return other, false
	}
	t[at] = owner
	return "", true
}

// has reports whether somebody owns a tag, as "PATH:TAG".
func (t targets) has(name string) bool {
	colon := strings.LastIndexByte(name, ':') // no path and no tag has one
	if colon < 0 {
		return false
	}
	_, ok := t[target{name[:colon], name[colon+1:]}]
	return ok
}

func validTarget(path, tag string) error {
	if !oci.ValidTag(tag) {
		return fmt.Errorf("%q is not a tag", tag)
	}
	return validPath(path)
}

func validPath(path string) error {
	if path != "" && !oci.ValidPath(path) {
		return fmt.Errorf("%q is not a repository path", path)
	}
	return nil
}
