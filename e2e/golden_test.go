package e2e

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/servers"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

var goldenCases = []string{"d8-default", "d8-exclude", "d8-module-caret", "d8-pinned-stable"}

// recorded is what stood at d8's target after its push, without what ferry does
// on purpose in another way: the access probe, and placeholders, whose digests
// d8 draws at random (they are returned by name).
func recorded(t *testing.T, name string) (tags map[string]oci.Digest, discovery []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "golden", name, "target.txt"))
	if err != nil {
		t.Fatal(err)
	}
	tags = map[string]oci.Digest{}
	for line := range strings.Lines(string(text)) {
		tag, digest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			t.Fatalf("line %q", line)
		}
		switch path, _, _ := strings.Cut(tag, ":"); {
		case tag == ":d8WriteCheck":
		case path == "modules", path == "packages", path == "deckhouse-cli/plugins":
			discovery = append(discovery, tag)
		default:
			tags[tag] = oci.Digest(digest)
		}
	}
	return tags, discovery
}

// A bundle made by d8 is published to exactly what d8's own push made of it.
//
// S7.6.2, S7.7, S7.8.
func TestGoldenPush(t *testing.T) {
	t.Parallel()
	for _, name := range goldenCases {
		t.Run(name, func(t *testing.T) {
			want, discovery := recorded(t, name)
			target := registrytest.Start(t, registrytest.New())
			run(t, "", "ferry-push", filepath.Join("testdata", "golden", name), target.Host+"/mirror/dkp", "--insecure")
			assertTarget(t, target.Tags(), "mirror/dkp", want, discovery)
		})
	}
}

// goldenSource serves the registry that d8 pulled from.
func goldenSource(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xzf", filepath.Join("testdata", "golden", "source-registry.tar.gz"), "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return servers.Olareg(t, dir)
}

// The same source and the same flags give the same tags as d8's pull and push,
// but for what ferry does on purpose in another way: attestations are looked for
// beside every image, under both names that it can have (S1.7.1, S1.7.4), install
// has channels (S3.9.3), which that d8 did not make, and the index of a plugin is
// the source's, which d8 writes anew (S5.11).
func TestGoldenPull(t *testing.T) {
	t.Parallel()
	for _, name := range goldenCases {
		t.Run(name, func(t *testing.T) {
			flags, err := os.ReadFile(filepath.Join("testdata", "golden", name, "flags.txt"))
			if err != nil {
				t.Fatal(err)
			}
			disk := t.TempDir()
			source := goldenSource(t)
			run(t, "", "ferry-pull", append([]string{disk, "--source", source + "/deckhouse/ee", "--insecure"}, strings.Fields(string(flags))...)...)
			assertReleases(t, filepath.Join("testdata", "golden", name), disk)
			target := registrytest.Start(t, registrytest.New())
			run(t, "", "ferry-push", disk, target.Host+"/mirror/dkp", "--insecure")

			want, discovery := recorded(t, name)
			for tag := range want {
				if strings.HasPrefix(tag, "deckhouse-cli/plugins/") {
					want[tag] = digestAt(t, source+"/deckhouse/"+tag)
				}
			}
			for _, tag := range discovery {
				want[tag] = oci.NewPlaceholder().Descriptor.Digest
			}
			for tag, digest := range installChannels(t, want, strings.Contains(string(flags), "--deckhouse-tag")) {
				want[tag] = digest
			}
			have := map[string]oci.Digest{}
			for tag, digest := range target.Tags() {
				tag = strings.TrimPrefix(strings.TrimPrefix(tag, "mirror/dkp"), "/")
				if want[tag] == "" && attestsAnImageOf(tag, target.Tags()) {
					continue
				}
				have[tag] = digest
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("tags (-d8 +ferry):\n%s", diff)
			}
		})
	}
}

// digestAt is what a registry answers for a tag.
func digestAt(t *testing.T, reference string) oci.Digest {
	t.Helper()
	ref, err := oci.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := client(t).Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return desc.Digest
}

// assertReleases checks that two bundles describe the same releases to the byte,
// or neither does (S6.8). d8 writes them in an order that chance gives.
func assertReleases(t *testing.T, d8, ferry string) {
	t.Helper()
	releases := func(dir string) []string {
		text, err := os.ReadFile(filepath.Join(dir, "deckhousereleases.yaml"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Split(string(text), "---\n")
	}
	want, have := releases(d8), releases(ferry)
	slices.Sort(want)
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("deckhousereleases.yaml (-d8 +ferry):\n%s", diff)
	}
}

// installChannels are the channels of install that belong to tags (S3.9.3):
// each names the install image of the version whose release image it has in
// release-channel. With a pinned tag lts is none of them.
func installChannels(t *testing.T, tags map[string]oci.Digest, pinned bool) map[string]oci.Digest {
	t.Helper()
	out := map[string]oci.Digest{}
	for _, ch := range []string{"alpha", "beta", "early-access", "stable", "rock-solid", "lts"} {
		release, ok := tags["release-channel:"+ch]
		if !ok || pinned && ch == "lts" {
			continue
		}
		for tag, digest := range tags {
			if version, ok := strings.CutPrefix(tag, "release-channel:v"); ok && digest == release {
				out["install:"+ch] = tags["install:v"+version]
			}
		}
		if out["install:"+ch] == "" {
			t.Fatalf("no version with an install image has the release image of %s", ch)
		}
	}
	return out
}

// attestsAnImageOf reports whether tag is the attestation of an image that has
// another tag in the same repository.
func attestsAnImageOf(tag string, tags map[string]oci.Digest) bool {
	path, name, _ := strings.Cut(tag, ":")
	hex, ok := strings.CutPrefix(strings.TrimSuffix(name, ".att"), "sha256-")
	if !ok || !strings.HasSuffix(name, ".att") {
		return false
	}
	for other, digest := range tags {
		if digest.Hex() == hex && strings.HasPrefix(other, strings.TrimSuffix("mirror/dkp/"+path, "/")+":") {
			return true
		}
	}
	return false
}
