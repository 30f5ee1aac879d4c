package contract

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/oci"
)

// product has two modules, whose images share a layer, and a module that the
// source turned out not to have.
func product() Contents {
	digest := func(s string) oci.Digest { return oci.DigestOf([]byte(s)) }
	manifest := func(name string, size int64, references ...oci.Digest) Manifest {
		return Manifest{Digest: digest(name), MediaType: oci.MediaTypeManifest, Size: size, References: references}
	}
	image := func(archive, path, tag, of string, phase int) Image {
		return Image{Archive: archive, Path: path, Tag: tag, Phase: phase, Digest: digest(of), Source: "h/x:" + tag, Reason: "test"}
	}
	member := func(name string, versions, channels []string) Member {
		return Member{
			Component: "Modules", Name: name, Archive: "module-" + name, Path: "modules/" + name,
			Versions: versions, Channels: channels, ChannelPath: "modules/" + name + "/release",
		}
	}
	c := Contents{
		Vendor:   "test",
		Archives: []Archive{{Name: "module-a"}, {Name: "module-b"}, {Name: "module-c"}},
		Images: []Image{
			image("module-a", "modules/a", "v2", "a2", PhaseVersion),
			image("module-a", "modules/a", "sha256-"+digest("a2").Hex()+".att", "att", PhaseContent),
			image("module-a", "modules/a/release", "stable", "channel", PhaseChannel),
			image("module-a", "modules/a/extra/x", "5", "extra", PhaseContent),
			image("module-b", "modules/b/extra/x", "5", "extra", PhaseContent),
		},
		Manifests: []Manifest{
			manifest("a2", 10, digest("layer"), digest("own")), manifest("att", 20, digest("layer")),
			manifest("channel", 30, digest("layer")), manifest("extra", 40, digest("layer")),
		},
		Blobs: []Blob{{Digest: digest("layer"), Size: 1000}, {Digest: digest("own"), Size: 500}},
		Skipped: []Skipped{
			{Source: "h/a:v1", Path: "modules/a", Tag: "v1"},
			{Source: "h/a/release:alpha", Path: "modules/a/release", Tag: "alpha"},
			{Source: "h/c:v1", Path: "modules/c", Tag: "v1"},
			// Found under another name after all.
			{Source: "other/a:v2", Path: "modules/a", Tag: "v2"},
		},
		Overview: Overview{
			Components: []Component{
				{Name: "Modules", State: ComponentWanted, Unit: "module"},
				{Name: "Installer", State: ComponentWanted},
				{Name: "Packages", State: ComponentLeftOut, Flag: "--no-packages", Unit: "package"},
			},
			Members: []Member{
				member("c", []string{"v1"}, nil),
				member("a", []string{"v2", "v1"}, []string{"alpha", "stable"}),
				member("b", []string{"v3"}, nil), // read for its extra images alone
				{Component: "Installer", Name: "Installer", Archive: "installer", Path: "installer", Versions: []string{"latest"}},
			},
		},
	}
	c.PruneEmpty()
	return c
}

// S2.7.2, S2.7.3: a component is what was really found; what was left out by a flag stays
// that; and bytes are counted once, however many images share them.
func TestUpdateOverview(t *testing.T) {
	c := product()
	c.UpdateOverview()
	c.Normalize()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := Overview{
		Components: []Component{
			{Name: "Modules", State: ComponentWanted, Unit: "module", Images: 5, Attestations: 1, Bytes: 10 + 20 + 30 + 40 + 1000 + 500},
			{Name: "Installer", State: ComponentAbsent},
			{Name: "Packages", State: ComponentLeftOut, Flag: "--no-packages", Unit: "package"},
		},
		Members: []Member{
			{Component: "Modules", Name: "a", Archive: "module-a", Path: "modules/a", Versions: []string{"v2"}, Channels: []string{"stable"}, ChannelPath: "modules/a/release"},
			{Component: "Modules", Name: "b", Archive: "module-b", Path: "modules/b", Versions: []string{"v3"}, ChannelPath: "modules/b/release"},
		},
		Notes: []Note{},
	}
	if diff := cmp.Diff(want, c.Overview); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	again := c
	again.UpdateOverview()
	if diff := cmp.Diff(c.Overview, again.Overview); diff != "" {
		t.Errorf("a second update changes it (-first +second):\n%s", diff)
	}
}

// S2.7.3, S6.11: an update counts what it brings; a component of which it brings
// nothing stands at the target, and is not taken for one that the source lacks.
func TestOverviewOfAnUpdate(t *testing.T) {
	c := product()
	c.UpdateOverview()
	c.Normalize()
	standing := map[string]oci.Digest{}
	for _, im := range c.Images {
		if im.Archive == "module-b" || im.Tag == "v2" {
			standing[im.Path+":"+im.Tag] = im.Digest
		}
	}
	c.LeaveOut(standing)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := []Member{{
		Component: "Modules", Name: "a", Archive: "module-a", Path: "modules/a", Versions: []string{},
		Channels: []string{"stable"}, ChannelPath: "modules/a/release",
	}}
	if diff := cmp.Diff(want, c.Overview.Members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	for _, im := range c.Images {
		standing[im.Path+":"+im.Tag] = im.Digest
	}
	c.LeaveOut(standing)
	var states []ComponentState
	for _, component := range c.Overview.Components {
		states = append(states, component.State)
	}
	if diff := cmp.Diff([]ComponentState{ComponentStanding, ComponentAbsent, ComponentLeftOut}, states); diff != "" {
		t.Errorf("states when nothing is new (-want +got):\n%s", diff)
	}
}

// An image is of the member whose path leads furthest to it, in its own archive.
func TestUpdateOverviewFindsTheNearestMember(t *testing.T) {
	c := contents()
	c.Archives = append(c.Archives, Archive{Name: "other"})
	c.Images = append(c.Images, Image{Archive: "other", Path: "a/b", Tag: "v1", Digest: digestB, Source: "h/a:v1"})
	c.Overview = Overview{
		Components: []Component{{Name: "Root", State: ComponentWanted}, {Name: "A", State: ComponentWanted}, {Name: "B", State: ComponentWanted}},
		Members: []Member{
			{Component: "Root", Name: "root", Archive: "images", Path: ""},
			{Component: "A", Name: "a", Archive: "images", Path: "a"},
			{Component: "B", Name: "b", Archive: "other", Path: "a"},
		},
	}
	c.UpdateOverview()
	var got []int64
	for _, component := range c.Overview.Components {
		got = append(got, component.Images)
	}
	if diff := cmp.Diff([]int64{0, 2, 1}, got); diff != "" {
		t.Errorf("images of root, a and b (-want +got):\n%s", diff)
	}
	if c.Overview.Components[0].State != ComponentAbsent {
		t.Error("a component without images is still there")
	}
}

func TestOverviewIsValidated(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Overview)
		want   string
	}{
		"no state":          {func(o *Overview) { o.Components[0].State = "" }, "unknown state"},
		"component twice":   {func(o *Overview) { o.Components = append(o.Components, o.Components[0]) }, "stands twice"},
		"negative figure":   {func(o *Overview) { o.Components[0].Bytes = -1 }, "negative"},
		"foreign component": {func(o *Overview) { o.Members[0].Component = "X" }, `is of "X"`},
		"of one left out":   {func(o *Overview) { o.Members[0].Component = "Packages" }, `is of "Packages"`},
		"foreign archive":   {func(o *Overview) { o.Members[0].Archive = "x" }, "not there"},
		"path":              {func(o *Overview) { o.Members[0].Path = "../x" }, "not a repository path"},
		"channel":           {func(o *Overview) { o.Members[0].Channels[0] = "a b" }, "not a tag"},
		"place twice":       {func(o *Overview) { o.Members[1].Archive, o.Members[1].Path = o.Members[0].Archive, o.Members[0].Path }, "is both"},
	} {
		c := product()
		c.UpdateOverview()
		c.Normalize()
		tc.change(&c.Overview)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// A Plan says how large every archive of its contents will be, and no other.
func TestPlanArchives(t *testing.T) {
	for name, archives := range map[string][]ArchiveSize{
		"none":    nil,
		"another": {{Name: "x", Size: 1}},
		"no size": {{Name: "images"}},
	} {
		c := contents()
		c.Normalize()
		spec := PlanSpec{Archives: archives, Contents: c}
		if err := spec.Validate(); err == nil {
			t.Errorf("%s: it is valid", name)
		}
	}
}
