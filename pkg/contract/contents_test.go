package contract

import (
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
