package contract

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/oci"
)

// S7.1.4: an Inventory may lie in several directories, each with its archives.
func TestStoreLocation(t *testing.T) {
	archive := func(name string) ArchiveFiles {
		digest := oci.DigestOf([]byte(name))
		return ArchiveFiles{Name: name, Size: 1, Digest: digest, Files: []File{{Name: name + ".tar", Size: 1, Digest: digest}}}
	}
	dirs := []ArchiveDirectory{
		{Path: "/a", Archives: []ArchiveFiles{archive("x")}},
		{Path: "/b", Archives: []ArchiveFiles{archive("x"), archive("y")}},
		{Path: "/c", Archives: []ArchiveFiles{archive("z")}},
	}
	spec := InventorySpec{Store: InArchives(dirs)}
	if diff := cmp.Diff(dirs, spec.Store.Directories()); diff != "" {
		t.Errorf("directories (-want +got):\n%s", diff)
	}
	shuffled := InventorySpec{Store: InArchives([]ArchiveDirectory{dirs[0], dirs[2], {Path: "/b", Archives: []ArchiveFiles{archive("y"), archive("x")}}})}
	shuffled.Normalize()
	spec.Normalize()
	if diff := cmp.Diff(spec, shuffled); diff != "" {
		t.Errorf("normalized (-want +got):\n%s", diff)
	}
	text, err := Encode[InventorySpec](New("ferry-unpack 0", nil, spec))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode[InventorySpec](text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spec.Store, again.Spec.Store); diff != "" {
		t.Errorf("read again (-want +got):\n%s", diff)
	}
	one, err := Encode[InventorySpec](New("ferry-unpack 0", nil, InventorySpec{Store: InArchives(dirs[:1])}))
	if err != nil || strings.Contains(string(one), `"more"`) {
		t.Errorf("one directory is written as %s, %v", one, err)
	}
	for name, store := range map[string]StoreLocation{
		"a directory twice":          InArchives([]ArchiveDirectory{dirs[0], dirs[0]}),
		"a directory without a name": InArchives([]ArchiveDirectory{dirs[0], {Archives: dirs[1].Archives}}),
		"an archive twice in one":    InArchives([]ArchiveDirectory{dirs[0], {Path: "/b", Archives: []ArchiveFiles{archive("x"), archive("x")}}}),
		"a store with archives":      {Type: StoreDir, Path: "/s", More: dirs[1:]},
	} {
		s := InventorySpec{Store: store}
		s.Normalize()
		if err := s.Validate(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
