package discovery

import (
	"archive/tar"
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"

	"github.com/google/go-cmp/cmp"
)

const (
	releasePath = "/release-channel"
	newest      = `{"version":"v1.72.0"}`
)

// filesOf are the files of a Catalog by the tag of their release.
func filesOf(spec contract.CatalogSpec) map[string]string {
	out := map[string][]string{}
	for _, f := range spec.Files {
		out[f.Tag] = append(out[f.Tag], f.Name)
	}
	joined := map[string]string{}
	for tag, names := range out {
		joined[tag] = strings.Join(names, " ")
	}
	return joined
}

// releases is a source with three releases, whose middle one no channel names.
func releases(t *testing.T) *source {
	s := newSource(t)
	for _, name := range []string{"alpha", "v1.72.0"} {
		s.PutImage(root+releasePath, name, layer(t, "version.json", newest), layer(t, "changelog.yaml", "x: newest"))
	}
	for _, name := range []string{"beta", "early-access", "stable", "rock-solid", "v1.70.0"} {
		s.channel(t, releasePath, name, `{"version":"v1.70.0"}`)
	}
	s.channel(t, releasePath, "v1.71.0", `{"version":"v1.71.0"}`)
	s.channel(t, releasePath, "v1.69.0", `{"version":"v1.69.0"}`) // below rock-solid
	return s
}

const both = "changelog.yaml version.json"

// S6.8.2, S9 row 29: what the selected releases say of themselves is read in
// their release images, and noted with what was read.
func TestDiscoverReleases(t *testing.T) {
	s := releases(t)
	all := map[string]string{"v1.70.0": both, "v1.71.0": both, "v1.72.0": both}
	for _, tc := range []struct {
		name   string
		policy deckhouse.Policy
		want   map[string]string
	}{
		{"default window", deckhouse.Policy{}, all},
		{"range", deckhouse.Policy{IncludePlatform: "<1.71.0"}, map[string]string{"v1.69.0": both, "v1.70.0": both}},
		{"pinned (S3.7.6)", deckhouse.Policy{DeckhouseTag: "v1.71.0"}, map[string]string{}},
		{"no platform", deckhouse.Policy{NoPlatform: true}, map[string]string{}},
	} {
		spec, err := s.discover(t, tc.policy)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, filesOf(spec)); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", tc.name, diff)
		}
		for _, f := range spec.Files {
			if want := s.Tags()[root+releasePath+":"+f.Tag]; f.Digest != want {
				t.Errorf("%s of %s is noted as of %s, want %s", f.Name, f.Tag, f.Digest, want)
			}
			if f.Tag == "v1.72.0" && f.Text != newest && f.Text != "x: newest" {
				t.Errorf("%s says %q", f.Name, f.Text)
			}
		}
		for _, c := range spec.Channels { // S3.6.7
			if want := s.Tags()[root+releasePath+":"+c.Name]; c.Digest != want {
				t.Errorf("channel %s is noted as %s, want %s", c.Name, c.Digest, want)
			}
		}
	}
}

// S9 rows 30 and 94, S6.8.4: what is wrong with one release is no matter to the
// others, nor to a channel that leads to it.
func TestDiscoverBrokenReleases(t *testing.T) {
	link := func() []byte {
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		if err := tw.WriteHeader(&tar.Header{Name: "changelog.yaml", Typeflag: tar.TypeSymlink, Linkname: "other"}); err != nil {
			t.Fatal(err)
		}
		tw.Close()
		return buf.Bytes()
	}()
	version := layer(t, "version.json", newest)
	cut := layer(t, "changelog.yaml", "x: y")
	for _, tc := range []struct {
		name   string
		layers [][]byte
		want   string // files of v1.72.0
	}{
		{"no change log", [][]byte{version}, "version.json"},
		{"the change log is a link", [][]byte{link, version}, "version.json"},
		{"no text", [][]byte{version, layer(t, "changelog.yaml", "\xff\xfe")}, "version.json"},
		{"too large", [][]byte{version, layer(t, "changelog.yaml", strings.Repeat("x", contract.FileLimit+1))}, "version.json"},
		{"as large as may be", [][]byte{version, layer(t, "changelog.yaml", strings.Repeat("x", contract.FileLimit))}, both},
	} {
		s := releases(t)
		for _, name := range []string{"alpha", "v1.72.0"} {
			s.PutImage(root+releasePath, name, tc.layers...)
		}
		spec, err := s.discover(t, deckhouse.Policy{})
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(map[string]string{"v1.70.0": both, "v1.71.0": both, "v1.72.0": tc.want}, filesOf(spec)); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", tc.name, diff)
		}
	}
	// Not even that can be read of a release that no channel names.
	for name, spoil := range map[string]func(s *source){
		"a layer is cut": func(s *source) { s.PutImage(root+releasePath, "v1.71.0", cut[:len(cut)/2]) },
		"a layer is gone": func(s *source) {
			s.PutImage(root+releasePath, "v1.71.0", cut)
			s.Delete(root+releasePath, string(oci.DigestOf(cut)))
		},
		"no manifest": func(s *source) {
			s.PutManifest(root+releasePath, "v1.71.0", oci.MediaTypeManifest, []byte(`{"schemaVersion":2}`))
		},
		"listed and not there": func(s *source) {
			s.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Reference: "v1.71.0", Status: 404, Times: registrytest.Always})
		},
	} {
		s := releases(t)
		spoil(s)
		spec, err := s.discover(t, deckhouse.Policy{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(map[string]string{"v1.70.0": both, "v1.72.0": both}, filesOf(spec)); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", name, diff)
		}
	}
}

// B10: what the way has done to a layer says nothing of a release; a Catalog that
// lacks its change log for that would pass for complete.
func TestReleasesThatDoNotArrive(t *testing.T) {
	changes := oci.DigestOf(layer(t, "changelog.yaml", "x: newest"))
	for name, f := range map[string]registrytest.Fault{
		"other bytes": {WrongBody: true},
		"fewer bytes": {Body: "x", Status: http.StatusOK, ContentType: "application/octet-stream"},
		"a refusal":   {Status: http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			s := releases(t)
			f.Kind, f.Method, f.Digest = registrytest.KindBlob, http.MethodGet, changes // once: the next try would bring it
			s.Inject(f)
			if spec, err := s.discover(t, deckhouse.Policy{NoModules: true}); err == nil {
				t.Errorf("a Catalog with the files %v", filesOf(spec))
			}
			s.Heal()
			spec, err := s.discover(t, deckhouse.Policy{NoModules: true})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(both, filesOf(spec)["v1.72.0"]); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Images that channels and releases share are read once, without a store too.
func TestDiscoverReadsReleasesOnce(t *testing.T) {
	s := releases(t)
	if _, err := s.discover(t, deckhouse.Policy{NoModules: true}); err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for _, r := range s.Requests() {
		if r.Kind == registrytest.KindBlob && r.Method == http.MethodGet {
			times[r.Reference]++
		}
	}
	shared := oci.DigestOf(layer(t, "changelog.yaml", "x: newest"))
	if n := times[string(shared)]; n != 1 {
		t.Errorf("the log of a release that is a channel too was read %d times: %v", n, times)
	}
}

func TestReleasesCancelled(t *testing.T) {
	s := releases(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Reference: "v1.71.0", Times: registrytest.Always, Status: 404,
		Match: func(*http.Request) bool { cancel(); return true }})
	_, err := Discover(ctx, s.client, deckhouse.Policy{Source: s.Host + "/" + root, NoModules: true}, Options{Parallel: 1})
	if fault.KindOf(err) != fault.Cancelled {
		t.Errorf("got %v, want cancelled", err)
	}
}
