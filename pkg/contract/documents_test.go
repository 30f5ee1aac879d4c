package contract

import (
	"strings"
	"testing"

	"ferry/pkg/oci"
)

// One archive of no bytes, for documents that name one.
func emptyArchive(name string) ArchiveFiles {
	d := oci.DigestOf(nil)
	return ArchiveFiles{Name: name, Digest: d, Files: []File{{Name: name + ".tar", Digest: d}}}
}

func withGost(sum string) []ArchiveFiles {
	a := emptyArchive("a")
	a.Files[0].Gost = sum
	return []ArchiveFiles{a}
}

func TestBundleAndInventoryForms(t *testing.T) {
	contents := Contents{Vendor: "v", Archives: []Archive{{Name: "a"}}}
	archives := []ArchiveFiles{emptyArchive("a")}
	for _, tc := range []struct {
		name string
		spec Spec
		want string // part of the error, "" for none
	}{
		{"archives", &BundleSpec{Archives: archives, Contents: contents}, ""},
		{"layouts", &BundleSpec{Layouts: true, Contents: contents}, ""},
		{"neither", &BundleSpec{Contents: contents}, "archive a has no files"},
		{"both", &BundleSpec{Layouts: true, Archives: archives, Contents: contents}, "beside layouts"},
		{"a store", &InventorySpec{Store: StoreLocation{Type: StoreDir, Path: "/s"}, Contents: contents}, ""},
		{"layouts in place", &InventorySpec{Store: StoreLocation{Type: StoreLayouts, Path: "/s"}, Contents: contents}, ""},
		{"layouts with archives", &InventorySpec{Store: StoreLocation{Type: StoreLayouts, Path: "/s", Archives: archives}, Contents: contents}, "has no archives"},
		{"archives in place", &InventorySpec{Store: StoreLocation{Type: StoreArchives, Path: "/s", Archives: archives}, Contents: contents}, ""},
		{"nowhere", &InventorySpec{Store: StoreLocation{Type: StoreLayouts}, Contents: contents}, "path is empty"},
		{"something else", &InventorySpec{Store: StoreLocation{Type: "tape", Path: "/s"}, Contents: contents}, "unknown type"},
		{"a GOST sum", &BundleSpec{Archives: withGost(strings.Repeat("a", 64)), Contents: contents}, ""},
		{"what is no GOST sum", &BundleSpec{Archives: withGost(strings.Repeat("A", 64)), Contents: contents}, "GOST sum"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.spec.Normalize()
			err := tc.spec.Validate()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
