package contract

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/oci"
)

func TestClosureOrdersChildrenFirst(t *testing.T) {
	c := contents()
	manifests, blobs := c.Graph().Closure(digestA, digestA)
	var order []oci.Digest
	for _, m := range manifests {
		order = append(order, m.Digest)
	}
	if diff := cmp.Diff([]oci.Digest{digestB, digestA}, order); diff != "" {
		t.Errorf("manifests (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]oci.Digest{digestC}, blobs); diff != "" {
		t.Errorf("blobs (-want +got):\n%s", diff)
	}
}

// A manifest stands above the highest of those that it refers to; blobs count nothing.
func TestHeights(t *testing.T) {
	refers := func(digest oci.Digest, to ...oci.Digest) *Manifest { return &Manifest{Digest: digest, References: to} }
	got := Heights([]*Manifest{refers("image", "layer"), refers("inner", "image"), refers("outer", "image", "inner")})
	if diff := cmp.Diff(map[oci.Digest]int{"image": 0, "inner": 1, "outer": 2}, got); diff != "" {
		t.Errorf("heights (-want +got):\n%s", diff)
	}
}

func TestLayoutsIncludeEmptyOnes(t *testing.T) {
	c := contents()
	c.Archives[0].Layouts = []string{"", "install"}
	var got []string
	for _, l := range c.Layouts() {
		got = append(got, l.Archive+"/"+l.Path)
		if want := map[string]int{"a": 2}[l.Path]; len(l.Images) != want {
			t.Errorf("layout %q has %d images, want %d", l.Path, len(l.Images), want)
		}
	}
	if diff := cmp.Diff([]string{"images/", "images/a", "images/install"}, got); diff != "" {
		t.Errorf("layouts (-want +got):\n%s", diff)
	}
}

// All images of a shared archive lie in the layout at its root, and are of their
// repositories all the same.
func TestImageLayouts(t *testing.T) {
	c := contents()
	other := c.Images[0]
	other.Path = "other"
	c.Images = append(c.Images, other)
	describe := func(layouts []Layout) (list []string) {
		for _, l := range layouts {
			list = append(list, fmt.Sprintf("%s/%s: %d images, %d manifests, %d blobs", l.Archive, l.Path, len(l.Images), len(l.Manifests), len(l.Blobs)))
		}
		return list
	}
	apart := []string{"images/a: 2 images, 2 manifests, 1 blobs", "images/other: 1 images, 2 manifests, 1 blobs"}
	if diff := cmp.Diff(apart, describe(c.ImageLayouts())); diff != "" {
		t.Errorf("each on its own (-want +got):\n%s", diff)
	}
	c.Archives[0].Shared = true
	if diff := cmp.Diff([]string{"images/: 3 images, 2 manifests, 1 blobs"}, describe(c.ImageLayouts())); diff != "" {
		t.Errorf("shared (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(apart, describe(c.Layouts())); diff != "" {
		t.Errorf("repositories of a shared archive (-want +got):\n%s", diff)
	}
	if err := c.Validate(); err != nil {
		t.Errorf("a shared archive: %v", err)
	}
	c.Archives[0].Layouts = []string{"empty"}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "archive images is shared") {
		t.Errorf("a shared archive with a layout of its own: got %v", err)
	}
}

// S9 rows 11 and 54: nothing announces what is not there.
func TestPruneEmpty(t *testing.T) {
	c := contents()
	c.Archives = append(c.Archives, Archive{Name: "module-x", Layouts: []string{"modules/x"}})
	c.Discovery = []DiscoveryTag{
		{Path: "modules", Tag: "x", Phase: PhaseDiscovery, Needs: "modules/x"},
		{Path: "names", Tag: "a", Phase: PhaseDiscovery, Needs: "a"},
	}
	c.PruneEmpty()
	if diff := cmp.Diff([]Archive{{Name: "images", Layouts: []string{}}}, c.Archives); diff != "" {
		t.Errorf("archives (-want +got):\n%s", diff)
	}
	if len(c.Discovery) != 1 || c.Discovery[0].Tag != "a" {
		t.Errorf("discovery is %v, want the tag of a alone", c.Discovery)
	}
}

// S6.11: an update holds what is new or moved, whole, and names the rest.
func TestLeaveOut(t *testing.T) {
	digest := func(s string) oci.Digest { return oci.DigestOf([]byte(s)) }
	manifest := func(name string, blobs ...string) Manifest {
		m := Manifest{Digest: digest(name), MediaType: oci.MediaTypeManifest, Size: 1}
		for _, b := range blobs {
			m.References = append(m.References, digest(b))
		}
		return m
	}
	c := Contents{
		Vendor:   "v",
		Archives: []Archive{{Name: "a"}, {Name: "b"}},
		Images: []Image{
			{Archive: "a", Path: "p", Tag: "v1", Digest: digest("one")},
			{Archive: "a", Path: "p", Tag: "v2", Digest: digest("two")},
			{Archive: "a", Path: "p", Tag: "stable", Digest: digest("two")},
			{Archive: "b", Path: "q", Tag: "v1", Digest: digest("one")},
		},
		Manifests: []Manifest{manifest("one", "shared", "old"), manifest("two", "shared", "new")},
		Blobs:     []Blob{{Digest: digest("shared"), Size: 1}, {Digest: digest("old"), Size: 1}, {Digest: digest("new"), Size: 1}},
		Discovery: []DiscoveryTag{{Path: "d", Tag: "p", Needs: "p"}, {Path: "d", Tag: "q", Needs: "q"}},
	}
	earlier := BundleSpec{Contents: Contents{
		Images:  []Image{{Path: "p", Tag: "v1", Digest: digest("one")}, {Path: "p", Tag: "stable", Digest: digest("one")}},
		Assumed: []Assumed{{Path: "q", Tag: "v1", Digest: digest("one")}},
	}}
	c.LeaveOut(earlier.Standing())
	want := Contents{
		Vendor:   "v",
		Archives: []Archive{{Name: "a", Layouts: []string{}}},
		Images: []Image{
			{Archive: "a", Path: "p", Tag: "stable", Digest: digest("two")},
			{Archive: "a", Path: "p", Tag: "v2", Digest: digest("two")},
		},
		Manifests: []Manifest{manifest("two", "shared", "new")},
		Blobs:     []Blob{{Digest: digest("shared"), Size: 1}, {Digest: digest("new"), Size: 1}},
		Discovery: []DiscoveryTag{{Path: "d", Tag: "p", Needs: "p"}},
		Assumed:   []Assumed{{"p", "v1", digest("one")}, {"q", "v1", digest("one")}},
	}
	want.Normalize()
	if diff := cmp.Diff(want.Assumed, c.Assumed); diff != "" {
		t.Errorf("assumed (-want +got):\n%s", diff)
	}
	want.Skipped, c.Skipped = nil, nil
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// What a Receipt says of repositories outside of its target fits no path.
func TestReceiptStanding(t *testing.T) {
	d := oci.DigestOf(nil)
	r := ReceiptSpec{Target: "h/mirror/ee", Tags: []ReceiptTag{
		{Repository: "h/mirror/ee", Tag: "v1", Digest: d},
		{Repository: "h/mirror/ee/install", Tag: "v1", Digest: d},
		{Repository: "h/mirror/eexx", Tag: "v1", Digest: d},
		{Repository: "h/mirror/installer", Tag: "latest", Digest: d},
	}}
	if diff := cmp.Diff(map[string]oci.Digest{":v1": d, "install:v1": d}, r.Standing()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
