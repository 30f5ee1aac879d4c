package contract

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"ferry/pkg/oci"
)

// Overview says in the product's own words what a person counts: components,
// and what each has. Only the vendor's select (or, for archives without a
// document, its import) can tell; every later stage passes it on, and brings it
// up to date with what was really found ([Contents.UpdateOverview]). The summary
// that a stage prints is made from it (S2.7).
type Overview struct {
	// Edition is the vendor's edition of the source, if it has any.
	Edition string `json:"edition,omitempty"`
	// Components are the parts of the product, in the vendor's order.
	Components []Component `json:"components"`
	// Members are what the components have, sorted by component and name.
	Members []Member `json:"members"`
	// Notes are what a person should know of a selection that succeeded, in
	// the order in which it was decided.
	Notes []Note `json:"notes"`
}

// ComponentState says why a component has members, or none.
type ComponentState string

const (
	// ComponentWanted has at least one member.
	ComponentWanted ComponentState = "wanted"
	// ComponentLeftOut was left out by a flag.
	ComponentLeftOut ComponentState = "leftOut"
	// ComponentAbsent is wanted, but the source has nothing of it.
	ComponentAbsent ComponentState = "absent"
	// ComponentStanding is wanted, and all of it stands at the target already,
	// so that an update has nothing of it (S6.11).
	ComponentStanding ComponentState = "standing"
)

// Component is a part of the product, such as all modules.
type Component struct {
	// Name is the title of its line: "Modules".
	Name  string         `json:"name"`
	State ComponentState `json:"state"`
	// Flag is the flag that left it out, for ComponentLeftOut.
	Flag string `json:"flag,omitempty"`
	// Unit is what one member is called where members are counted:
	// "module". A component without it has one member, whose versions tell.
	Unit string `json:"unit,omitempty"`
	// Total is how many members there can be, where that is fixed: 4 security
	// databases. Else 0.
	Total int `json:"total,omitempty"`
	// Remark limits what is carried, in a few words: "extra images only".
	Remark string `json:"remark,omitempty"`
	// Caution is what a person must know where at least one member is
	// carried, in a sentence without a full stop.
	Caution string `json:"caution,omitempty"`
	// Images is the number of tags; Attestations are those of them that
	// attest others; Bytes is the size of all distinct manifests and blobs
	// that they need. They are 0 in a Selection, which cannot know them.
	Images       int64 `json:"images,omitempty"`
	Attestations int64 `json:"attestations,omitempty"`
	Bytes        int64 `json:"bytes,omitempty"`
}

// Member is one of what a component has: a module, a security database.
type Member struct {
	// Component is the component's name.
	Component string `json:"component"`
	Name      string `json:"name"`
	// Group is what brought it in, where that is counted apart: "for modules".
	Group string `json:"group,omitempty"`
	// Archive and Path are where it lands. An image of the archive is of the
	// member whose path is the longest that is the image's or leads to it.
	Archive string `json:"archive"`
	Path    string `json:"path"`
	// Versions are tags of Path, the newest first.
	Versions []string `json:"versions"`
	// Channels are tags of ChannelPath, in the product's order.
	Channels    []string `json:"channels,omitempty"`
	ChannelPath string   `json:"channelPath,omitempty"`
}

// Note is something that a person should know of a selection that succeeded.
type Note struct {
	// Subject is what it is about: "module console".
	Subject string `json:"subject"`
	// Text is one sentence without a full stop.
	Text string `json:"text"`
}

// Of returns the members of a component, by name.
func (o *Overview) Of(component string) []Member {
	var members []Member
	for _, m := range o.Members {
		if m.Component == component {
			members = append(members, m)
		}
	}
	return members
}

func (o *Overview) normalize() {
	if o.Components == nil {
		o.Components = []Component{}
	}
	if o.Notes == nil {
		o.Notes = []Note{}
	}
	o.Members = sortedBy(o.Members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Component, b.Component), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Archive, b.Archive), cmp.Compare(a.Path, b.Path))
	})
	for i := range o.Members {
		if o.Members[i].Versions == nil {
			o.Members[i].Versions = []string{}
		}
	}
}

// validate checks that components, members and archives agree; nil archives are
// not known.
func (o *Overview) validate(archives map[string]bool) error {
	states := map[string]ComponentState{}
	for i, c := range o.Components {
		where := fmt.Sprintf("overview.components[%d]", i)
		if _, twice := states[c.Name]; twice || c.Name == "" {
			return fmt.Errorf("%s: component %q has no name, or stands twice", where, c.Name)
		}
		switch c.State {
		case ComponentWanted, ComponentLeftOut, ComponentAbsent, ComponentStanding:
		default:
			return fmt.Errorf("%s: unknown state %q", where, c.State)
		}
		if c.Total < 0 || c.Images < 0 || c.Attestations < 0 || c.Bytes < 0 {
			return fmt.Errorf("%s: a figure of %s is negative", where, c.Name)
		}
		states[c.Name] = c.State
	}
	type place struct{ archive, path string }
	owner := map[place]string{}
	for i, m := range o.Members {
		where := fmt.Sprintf("overview.members[%d]", i)
		if states[m.Component] != ComponentWanted {
			return fmt.Errorf("%s: %s is of %q, which is no component that has members", where, m.Name, m.Component)
		}
		if err := m.validate(archives); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		at := place{m.Archive, m.Path}
		if other, taken := owner[at]; taken {
			return fmt.Errorf("%s: %q in %s is both %s and %s", where, m.Path, m.Archive, other, m.Name)
		}
		owner[at] = m.Name
	}
	return nil
}

func (m *Member) validate(archives map[string]bool) error {
	if m.Name == "" || archives != nil && !archives[m.Archive] {
		return fmt.Errorf("member %q has no name, or an archive %q that is not there", m.Name, m.Archive)
	}
	for _, path := range []string{m.Path, m.ChannelPath} {
		if err := validPath(path); err != nil {
			return err
		}
	}
	for _, tag := range append(slices.Clone(m.Versions), m.Channels...) {
		if !oci.ValidTag(tag) {
			return fmt.Errorf("%q is not a tag", tag)
		}
	}
	return nil
}

// UpdateOverview makes the overview say what the contents hold: versions and
// channels that were skipped, or that an update leaves out, leave it, then members
// without images, and a component without members is absent, or standing. Then
// it counts.
func (c *Contents) UpdateOverview() {
	o := &c.Overview
	standing := c.standing()
	c.dropMissing()
	owners := newOwners(o.Members)
	held := make([]bool, len(o.Members))
	byComponent := map[string][]*Image{}
	for i := range c.Images {
		im := &c.Images[i]
		if owner, ok := owners.of(im); ok {
			held[owner] = true
			component := o.Members[owner].Component
			byComponent[component] = append(byComponent[component], im)
		}
	}
	members := []Member{}
	for i, m := range o.Members {
		if held[i] {
			members = append(members, m)
		}
	}
	o.Members = members
	c.countComponents(byComponent, standing)
}

// standing are the components of which an update assumes tags. Assumed names no
// archive, so the nearest path alone decides.
func (c *Contents) standing() map[string]bool {
	byPath := map[string]string{}
	for _, m := range c.Overview.Members {
		byPath[m.Path] = m.Component
	}
	standing := map[string]bool{}
	for _, a := range c.Assumed {
		if component, ok := nearest(byPath, a.Path); ok {
			standing[component] = true
		}
	}
	return standing
}

// dropMissing takes versions and channels that are not carried out of the
// members. What is read for its links alone is no image, and not missing.
func (c *Contents) dropMissing() {
	gone := map[string]bool{}
	for _, a := range c.Assumed {
		gone[a.Path+":"+a.Tag] = true
	}
	for _, s := range c.Skipped {
		gone[s.Path+":"+s.Tag] = true
	}
	if len(gone) == 0 {
		return
	}
	for _, im := range c.Images {
		delete(gone, im.Path+":"+im.Tag)
	}
	left := func(path string, tags []string) []string {
		return slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return gone[path+":"+tag] })
	}
	c.Overview.Members = slices.Clone(c.Overview.Members)
	for i := range c.Overview.Members {
		m := &c.Overview.Members[i]
		m.Versions, m.Channels = left(m.Path, m.Versions), left(m.ChannelPath, m.Channels)
	}
}

func (c *Contents) countComponents(images map[string][]*Image, standing map[string]bool) {
	graph, sizes := c.Graph(), make(map[oci.Digest]int64, len(c.Blobs))
	for _, b := range c.Blobs {
		sizes[b.Digest] = b.Size
	}
	c.Overview.Components = slices.Clone(c.Overview.Components)
	for i := range c.Overview.Components {
		component := &c.Overview.Components[i]
		if component.State == ComponentLeftOut {
			continue
		}
		component.count(images[component.Name], graph, sizes)
		if component.Images == 0 && standing[component.Name] {
			component.State = ComponentStanding
		}
	}
}

func (c *Component) count(images []*Image, graph Graph, sizes map[oci.Digest]int64) {
	c.State, c.Images, c.Attestations, c.Bytes = ComponentWanted, int64(len(images)), 0, 0
	if len(images) == 0 {
		c.State = ComponentAbsent
	}
	roots := make([]oci.Digest, len(images))
	for i, im := range images {
		roots[i] = im.Digest
		if oci.IsAttestationTag(im.Tag) {
			c.Attestations++
		}
	}
	manifests, blobs := graph.Closure(roots...)
	for _, m := range manifests {
		c.Bytes += m.Size
	}
	for _, d := range blobs {
		c.Bytes += sizes[d]
	}
}

// owners finds the member that an image is of: indexes of members by archive and
// path.
type owners map[string]map[string]int

func newOwners(members []Member) owners {
	o := owners{}
	for i, m := range members {
		if o[m.Archive] == nil {
			o[m.Archive] = map[string]int{}
		}
		o[m.Archive][m.Path] = i
	}
	return o
}

func (o owners) of(im *Image) (int, bool) { return nearest(o[im.Archive], im.Path) }

// nearest finds what stands at path, or at the longest path that leads to it.
func nearest[T any](at map[string]T, path string) (T, bool) {
	for {
		found, ok := at[path]
		if ok || path == "" {
			return found, ok
		}
		path = path[:max(0, strings.LastIndexByte(path, '/'))]
	}
}
