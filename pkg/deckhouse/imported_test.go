package deckhouse

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

var _ bundle.Rules = Imported{}

const golden = "../../e2e/testdata/golden"

var goldenCases = []string{"d8-default", "d8-exclude", "d8-module-caret", "d8-pinned-stable"}

func importGolden(t *testing.T, name string) (string, []contract.ArchiveFiles, *contract.Contents) {
	t.Helper()
	found, err := bundle.Find([]string{filepath.Join(golden, name)})
	if err != nil {
		t.Fatal(err)
	}
	dirs, contents, err := bundle.Import(t.Context(), found, Imported{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return dirs[0].Path, dirs[0].Archives, contents
}

// d8 itself pushed each of these bundles; target.txt is what it made of them.
// Its access probe is its own, and the images behind its discovery tags are
// random (S7.3.2, S7.7).
//
// S7.4.3.
func TestImportYieldsWhatD8Pushes(t *testing.T) {
	for _, name := range goldenCases {
		t.Run(name, func(t *testing.T) {
			_, _, contents := importGolden(t, name)
			got := map[string]string{}
			for _, im := range contents.Images {
				got[im.Path+":"+im.Tag] = string(im.Digest)
			}
			for _, d := range contents.Discovery {
				got[d.Path+":"+d.Tag] = "discovery"
			}
			if diff := cmp.Diff(pushed(t, name), got); diff != "" {
				t.Errorf("(-d8 pushed +imported):\n%s", diff)
			}
		})
	}
}

// pushed is target.txt by tag.
func pushed(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(golden, name, "target.txt"))
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{}
	for line := range strings.Lines(string(text)) {
		tag, digest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			t.Fatalf("target.txt: %q", line)
		}
		path, _, _ := strings.Cut(tag, ":")
		switch {
		case tag == ":d8WriteCheck":
			continue
		case slices.Contains(catalogues[:], path):
			digest = "discovery"
		}
		tags[tag] = digest
	}
	return tags
}

// unneeded are the entries of d8's archives that no tag leads to, by the
// beginning of their names: upstream channel images behind a pinned alias
// (S3.9.2), and versions that the package's own archive has too.
var unneeded = map[string]string{
	"d8-pinned-stable/platform":   "release-channel/blobs/",
	"d8-exclude/package-versions": "packages/pkg-01/version/",
}

// What was imported and packed again is the same archive, header by header;
// only index.json is written better (S6.4.2, S6.5.5).
//
// S6.3, S6.4.1.
func TestPackedAgainIsWhatD8Wrote(t *testing.T) {
	for _, name := range goldenCases {
		t.Run(name, func(t *testing.T) {
			dir, archives, contents := importGolden(t, name)
			content, err := bundle.Open([]contract.ArchiveDirectory{{Path: dir, Archives: archives}})
			if err != nil {
				t.Fatal(err)
			}
			defer content.Close()
			again := t.TempDir()
			packed, err := bundle.Write(t.Context(), again, contents, content, bundle.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(packed) == 0 {
				t.Fatal("nothing was packed")
			}
			for _, a := range packed {
				got := rawEntries(t, filepath.Join(again, a.Name+".tar"))
				want := rawEntries(t, filepath.Join(dir, a.Name+".tar"))
				if prefix, ok := unneeded[name+"/"+a.Name]; ok {
					want = slices.DeleteFunc(want, func(e string) bool {
						return strings.HasPrefix(e, prefix) && !slices.Contains(got, e)
					})
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s.tar (-d8 +ferry):\n%s", a.Name, diff)
				}
			}
		})
	}
}

// rawEntries lists a tar in its order: each name with the digest of the raw
// bytes, headers and padding included, but for index.json the name alone.
func rawEntries(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	source := bytes.NewReader(data)
	position := func() int64 { return source.Size() - int64(source.Len()) }
	r := tar.NewReader(source)
	var entries []string
	for start := int64(0); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return append(entries, "end "+string(oci.DigestOf(data[start:])))
		}
		if err != nil {
			t.Fatal(err)
		}
		end := position() + (h.Size+511)/512*512
		if filepath.Base(h.Name) == "index.json" {
			entries = append(entries, h.Name)
		} else {
			entries = append(entries, h.Name+" "+string(oci.DigestOf(data[start:end])))
		}
		start = end
	}
}

func TestImportedPhases(t *testing.T) {
	hex := strings.Repeat("0a", 32)
	for _, tc := range []struct {
		path, tag string
		want      int
	}{
		{"", "v1.70.0", contract.PhaseVersion},
		{"", "pr12345", contract.PhaseVersion},
		{"", hex, contract.PhaseContent},
		{"", "sha256-" + hex + ".att", contract.PhaseContent},
		{"", "sha256-" + hex + ".sig", contract.PhaseContent}, // S1.7.4
		{"", "sha256-" + hex, contract.PhaseContent},          // S1.7.5
		{"modules/x", "v1.0.0.att", contract.PhaseContent},
		{"modules/x/extra/scanner", "v1.0.0", contract.PhaseContent},
		{"install", "v1.70.0", contract.PhaseVersion},
		{"release-channel", "v1.70.0", contract.PhaseVersion},
		{"release-channel", "lts", contract.PhaseChannel},
		{"release-channel", "rock-solid", contract.PhaseChannel},
		{"modules/x/release", "stable", contract.PhaseChannel},
		{"packages/x/version", "early-access", contract.PhaseChannel},
		{"security/trivy-db", "2", contract.PhaseVersion},
		{"installer", "latest", contract.PhaseVersion},
	} {
		if got := (Imported{}).Phase(tc.path, tc.tag); got != tc.want {
			t.Errorf("%s:%s has phase %d, want %d", tc.path, tc.tag, got, tc.want)
		}
	}
}

func TestImportedDiscovery(t *testing.T) {
	got := map[string]string{}
	for _, path := range []string{
		"", "install", "modules/a", "modules/a/release", "modules/a/extra/b", "packages/p/version",
		"deckhouse-cli", "deckhouse-cli/plugins/q", "modules", "modulesx/y",
	} {
		for _, d := range (Imported{}).Discovery(path) {
			got[d.Path+":"+d.Tag] = d.Needs
			if d.Phase != contract.PhaseDiscovery {
				t.Errorf("%s:%s has phase %d", d.Path, d.Tag, d.Phase)
			}
		}
	}
	want := map[string]string{"modules:a": "modules/a", "packages:p": "packages/p", "deckhouse-cli/plugins:q": "deckhouse-cli/plugins/q"}
	if !maps.Equal(want, got) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The rule of S7.4.4 compares strings: modules/foobar begins with modules/foo.
//
// S6.2.5, S9 row 35.
func TestImportedPrefix(t *testing.T) {
	for _, tc := range []struct {
		archive string
		names   []string
		want    string
	}{
		{"module-foo", []string{"index.json", "release/index.json"}, "modules/foo"},
		{"module-foo", []string{"modules/foo/index.json"}, ""},
		{"module-foo", []string{"modules/foobar/index.json"}, ""},
		{"module-foo", []string{"modules/bar/index.json"}, "modules/foo"},
		{"module-", []string{"index.json"}, ""},
		{"platform", []string{"index.json"}, ""},
	} {
		if got := (Imported{}).Prefix(tc.archive, tc.names); got != tc.want {
			t.Errorf("%s with %v: prefix %q, want %q", tc.archive, tc.names, got, tc.want)
		}
	}
}

// S6.2.4: the archives of d8, unpacked into one directory, yield what d8 pushes.
func TestImportUnpackedTreeYieldsWhatD8Pushes(t *testing.T) {
	for _, name := range goldenCases {
		t.Run(name, func(t *testing.T) {
			from, archives, contents := importGolden(t, name)
			content, err := bundle.Open([]contract.ArchiveDirectory{{Path: from, Archives: archives}})
			if err != nil {
				t.Fatal(err)
			}
			defer content.Close()
			dir := t.TempDir()
			if _, err := bundle.WriteLayouts(t.Context(), dir, contents, content, bundle.Options{}); err != nil {
				t.Fatal(err)
			}
			tree, err := bundle.FindLayouts(dir)
			if err != nil {
				t.Fatal(err)
			}
			got, err := bundle.ImportLayouts(t.Context(), tree, ImportedLayouts(tree.Paths()), nil)
			if err != nil {
				t.Fatal(err)
			}
			// Only these cannot be told from directories.
			for i := range contents.Images {
				contents.Images[i].Archive, contents.Images[i].Reason = "", ""
			}
			for i := range got.Images {
				got.Images[i].Archive, got.Images[i].Reason = "", ""
			}
			contents.Archives, got.Archives = nil, nil
			contents.Overview, got.Overview = contract.Overview{}, contract.Overview{} // by archive, too
			contents.Normalize()
			got.Normalize()
			if diff := cmp.Diff(contents, got); diff != "" {
				t.Errorf("(-archives +layouts):\n%s", diff)
			}
		})
	}
}

// S8.4: modules alone are counted as modules, where they lie.
func TestOverviewOfModulesAlone(t *testing.T) {
	images := []contract.Image{
		{Archive: "modules", Path: "console", Tag: "v1.0.0", Phase: contract.PhaseVersion},
		{Archive: "modules", Path: "console/release", Tag: "stable", Phase: contract.PhaseChannel},
	}
	o := ImportedLayouts([]string{"console", "console/release"}).Overview(images)
	want := []contract.Member{{
		Component: "Modules", Name: "console", Archive: "modules", Path: "console", ChannelPath: "console/release",
		Versions: []string{"v1.0.0"}, Channels: []string{"stable"},
	}}
	if diff := cmp.Diff(want, o.Members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}

func TestImportedLayouts(t *testing.T) {
	for _, tc := range []struct {
		name      string
		paths     []string
		discovery map[string]string // of the first path, tag by path
		archive   string            // of the first path
	}{
		{"S8.4: modules alone", []string{"console", "console/release", "x/release"}, map[string]string{"": "console"}, "modules"},
		{"S8.4: extra images of modules", []string{"console/extra/y", "console", "console/release"}, map[string]string{"": "console"}, "modules"},
		{"S6.2.4: a tree with modules", []string{"modules/console/release", "modules/console"}, map[string]string{"modules": "console"}, "module-console"},
		{"S6.2.4: a platform", []string{"install", "", "release-channel"}, nil, "platform"},
		{"modules beside other repositories", []string{"console/release", "console", "install"}, nil, "images"},
		{"modules beside the root", []string{"console/release", "console", ""}, nil, "images"},
		{"one layout", []string{""}, nil, "platform"},
		{"a repository of anybody", []string{"team/app"}, nil, "images"},
		{"S6.2: packages", []string{"packages/p/version"}, map[string]string{"packages": "p"}, "package-p"},
		{"S6.2: plugins", []string{"deckhouse-cli/plugins/p"}, map[string]string{"deckhouse-cli/plugins": "p"}, "plugin-p"},
		{"S6.2: d8 itself", []string{"deckhouse-cli"}, nil, "deckhouse-cli"},
		{"S6.2: security", []string{"security/trivy-db"}, nil, "security"},
		{"S6.2: the installer", []string{"installer"}, nil, "installer"},
		{"too long for a file name", []string{"modules/" + strings.Repeat("a", 120)}, map[string]string{"modules": strings.Repeat("a", 120)}, "images"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rules := ImportedLayouts(tc.paths)
			var discovery map[string]string
			for _, d := range rules.Discovery(tc.paths[0]) {
				discovery = map[string]string{d.Path: d.Tag}
			}
			if diff := cmp.Diff(tc.discovery, discovery); diff != "" {
				t.Errorf("discovery (-want +got):\n%s", diff)
			}
			if got := rules.Archive(tc.paths[0]); got != tc.archive {
				t.Errorf("archive %q, want %q", got, tc.archive)
			}
		})
	}
}

// S7.4.5, S9 row 70: what an archive of one package says of it was chosen, and goes
// before the list of all versions; no other archive gives way.
func TestImportedYields(t *testing.T) {
	for archive, want := range map[string]bool{
		"package-versions": true, "package-p": false, "package-versions2": false, "platform": false, "module-versions": false,
	} {
		if got := (Imported{}).Yields(archive); got != want {
			t.Errorf("%s gives way: %v, want %v", archive, got, want)
		}
	}
}
