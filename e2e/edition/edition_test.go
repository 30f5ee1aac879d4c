package edition

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/oci"
	"ferry/pkg/registry"
)

var root = oci.Repository{Host: "source.example:5000", Path: "deckhouse/ee"}

func TestSameOptionsSameEdition(t *testing.T) {
	for name, opts := range map[string]Options{"default": Default(), "tiny": Tiny()} {
		t.Run(name, func(t *testing.T) {
			first, second := newMemory(), newMemory()
			one := write(t, first, opts)
			if diff := cmp.Diff(one, write(t, second, opts)); diff != "" {
				t.Errorf("two runs differ (-first +second):\n%s", diff)
			}
			if diff := cmp.Diff(first.manifests, second.manifests); diff != "" {
				t.Errorf("two runs put different manifests:\n%s", diff)
			}
			before := maps.Clone(first.manifests)
			write(t, first, opts)
			if diff := cmp.Diff(before, first.manifests); diff != "" {
				t.Errorf("writing again changes the registry:\n%s", diff)
			}
			opts.Seed++
			if other := write(t, newMemory(), opts); other.Expected["installer:latest"] == one.Expected["installer:latest"] {
				t.Error("another seed makes the same installer")
			}
		})
	}
}

// What a default pull must carry stands at the source under the digest that is
// expected, and every discovery tag leads to something expected.
func TestExpectedIsThere(t *testing.T) {
	target := newMemory()
	ed := write(t, target, Default())
	for key, digest := range ed.Expected {
		path, tag, _ := strings.Cut(key, ":")
		repo := root.Join(path)
		if path == "installer" || strings.HasPrefix(path, "deckhouse-cli") {
			repo = oci.Repository{Host: root.Host, Path: "deckhouse/" + path}
		}
		at := repo.WithTag(tag)
		if tag == digest.Hex() {
			at = repo.WithDigest(digest)
		}
		if got := target.tags[at.String()]; got != digest {
			t.Errorf("%s is %q at the source, expected is %s", at, got, digest)
		}
	}
	for _, tag := range ed.Discovery {
		under := strings.Replace(tag, ":", "/", 1)
		if !slices.ContainsFunc(slices.Collect(maps.Keys(ed.Expected)), func(key string) bool {
			return strings.HasPrefix(key, under+"/") || strings.HasPrefix(key, under+":")
		}) {
			t.Errorf("discovery tag %s leads to nothing", tag)
		}
	}
}

// The window of S3.6 for four minor releases, written out by hand.
func TestReleases(t *testing.T) {
	var got []string
	for _, r := range releases(4) {
		if r.wanted {
			got = append(got, fmt.Sprint(r.tag(), r.channels))
		}
	}
	want := []string{"v1.69.1[stable rock-solid]", "v1.69.2[]", "v1.70.2[beta early-access]", "v1.71.1[alpha]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("releases wanted (-want +got):\n%s", diff)
	}
	for minors := 1; minors < 7; minors++ {
		pointed := 0
		for _, r := range releases(minors) {
			pointed += len(r.channels)
		}
		if pointed != len(channels) {
			t.Errorf("%d minors: %d channels point at a release, want %d", minors, pointed, len(channels))
		}
	}
}

func TestLayerBytes(t *testing.T) {
	for _, l := range []layer{
		{name: "a", bulk: 1 << 20, files: []file{{"x", "y"}}},
		{name: "b", compression: zstandard, bulk: 300_001},
		{name: "c", compression: plain, files: []file{{"./x", "y"}}},
	} {
		desc, _, err := l.measure(7)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := io.ReadAll(l.open(7, desc.Size))
		if err != nil || oci.DigestOf(whole) != desc.Digest || int64(len(whole)) != desc.Size {
			t.Fatalf("layer %s: %d bytes, digest %s, error %v, but measured %+v", l.name, len(whole), oci.DigestOf(whole), err, desc)
		}
		r := l.open(7, desc.Size)
		for _, at := range []int64{desc.Size, desc.Size / 2, desc.Size - 1, 0, 1} {
			if _, err := r.Seek(at-desc.Size, io.SeekEnd); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(rest, whole[at:]) {
				t.Errorf("layer %s from %d: %d bytes that are not the rest, error %v", l.name, at, len(rest), err)
			}
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, repo := range []oci.Repository{{Host: "h", Path: "ee"}, {Host: "h", Path: "deckhouse/fork"}} {
		if _, err := Write(t.Context(), newMemory(), repo, Tiny()); err == nil {
			t.Errorf("%s is accepted as the root of an edition", repo)
		}
	}
	if _, err := Write(t.Context(), newMemory(), root, Options{}); err == nil {
		t.Error("an edition without releases is accepted")
	}
}

func write(t *testing.T, target *memory, opts Options) *Edition {
	t.Helper()
	ed, err := Write(t.Context(), target, root, opts)
	if err != nil {
		t.Fatal(err)
	}
	return ed
}

// memory is a registry that accepts nothing incomplete: content must match its
// descriptor, and a manifest's references must be in the same repository.
type memory struct {
	registry.Target
	blobs     map[string]bool
	manifests map[string]string
	tags      map[string]oci.Digest
}

func newMemory() *memory {
	return &memory{blobs: map[string]bool{}, manifests: map[string]string{}, tags: map[string]oci.Digest{}}
}

func (m *memory) PutBlob(_ context.Context, repo oci.Repository, desc oci.Descriptor, body io.ReadSeeker) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if oci.DigestOf(data) != desc.Digest || int64(len(data)) != desc.Size {
		return fmt.Errorf("%d bytes with digest %s, announced as %+v", len(data), oci.DigestOf(data), desc)
	}
	m.blobs[repo.WithDigest(desc.Digest).String()] = true
	return nil
}

func (m *memory) PutManifest(_ context.Context, ref oci.Reference, mediaType string, body []byte) error {
	parsed, err := oci.ParseManifest(mediaType, body)
	if err != nil {
		return err
	}
	if _, err := oci.ParseReference(ref.String()); err != nil {
		return err
	}
	for _, d := range parsed.Manifests {
		if m.manifests[ref.WithDigest(d.Digest).String()] == "" {
			return fmt.Errorf("child %s is not there", d.Digest)
		}
	}
	for _, d := range parsed.Blobs {
		if !m.blobs[ref.WithDigest(d.Digest).String()] {
			return fmt.Errorf("blob %s is not there", d.Digest)
		}
	}
	digest := oci.DigestOf(body)
	m.manifests[ref.WithDigest(digest).String()] = string(body)
	m.tags[ref.WithDigest(digest).String()] = digest
	if ref.Tag != "" {
		m.tags[ref.Repository.WithTag(ref.Tag).String()] = digest
	}
	return nil
}
