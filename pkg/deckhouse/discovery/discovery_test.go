package discovery

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"

	"github.com/google/go-cmp/cmp"
)

const root = "deckhouse/ee"

// source is a registry with an edition at root.
type source struct {
	*registrytest.Server
	client *wire.Client
}

func newSource(t *testing.T, opts ...registrytest.Option) *source {
	t.Helper()
	server := registrytest.Start(t, registrytest.New(opts...))
	client, err := wire.New(wire.Options{PlainHTTP: true, Anonymous: true, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &source{server, client}
}

func (s *source) discover(t *testing.T, p deckhouse.Policy) (contract.CatalogSpec, error) {
	t.Helper()
	p.Source = s.Host + "/" + root
	spec, err := Discover(t.Context(), s.client, p, Options{})
	if err == nil {
		if err := spec.Validate(); err != nil {
			t.Errorf("the catalog is not valid: %v", err)
		}
	}
	return spec, err
}

// tag puts an image whose content does not matter.
func (s *source) tag(path string, tags ...string) {
	for _, tag := range tags {
		s.PutImage(root+path, tag, []byte("layer of "+path+":"+tag))
	}
}

// channel puts a channel image with this version.json, below a layer that says
// nothing.
func (s *source) channel(t *testing.T, path, name, versionJSON string) {
	t.Helper()
	s.PutImage(root+path, name, layer(t, "./version.json", versionJSON), layer(t, "changelog.yaml", "x: "+name))
}

func layer(t *testing.T, name, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// A layer that is not what its manifest names says nothing, though it is whole
// and of the right size: no store is there to hash it.
func TestLayerIsProven(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	good := layer(t, "version.json", `{"version":"v1.70.0"}`)
	s.PutImage(root+"/release-channel", "stable", good)
	for patch := 1; ; patch++ {
		other := layer(t, "version.json", fmt.Sprintf(`{"version":"v1.70.%d"}`, patch))
		if len(other) != len(good) {
			continue
		}
		s.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Digest: oci.DigestOf(good), Body: string(other), Times: registrytest.Always})
		break
	}
	_, err := s.discover(t, deckhouse.Policy{NoModules: true})
	if fault.KindOf(err) != fault.Protocol || !strings.Contains(err.Error(), string(oci.DigestOf(good))) {
		t.Errorf("a substituted layer: %v", err)
	}
}

// edition is a small complete source.
func edition(t *testing.T) *source {
	s := newSource(t, registrytest.Q25Pages(2, registrytest.PagesByPath))
	s.channel(t, "/release-channel", "alpha", `{"version":"v1.72.10","suspend":true,"canary":{}}`)
	for _, name := range []string{"beta", "early-access", "stable", "rock-solid"} {
		s.channel(t, "/release-channel", name, `{"version":"v1.70.0"}`)
	}
	s.tag("/release-channel", "v1.70.0", "v1.72.10")
	s.channel(t, "/release-channel", "v1.71.0", `{"version":"v1.71.0"}`)
	s.tag("", "v1.70.0", "pr12345")
	s.tag("/modules", "console", "announced-only")
	s.channel(t, "/modules/console/release", "stable", `{"version":"1.43.5","suspend":true}`)
	s.channel(t, "/modules/console/release", "lts", `{"version":"v1.40.0"}`)
	s.tag("/modules/console", "v1.40.0", "v1.43.5", "v1.43.5.att")
	s.tag("/packages", "redis", "silent")
	s.channel(t, "/packages/redis/version", "stable", `{"version":"v7.0.0"}`)
	s.tag("/packages/redis/version", "v6.0.0", "v7.0.0")
	s.tag("/packages/redis", "v7.0.0")
	s.plugins(t)
	return s
}

// view is what a catalog says of the edition in few lines, without host and root.
func view(spec contract.CatalogSpec) []string {
	var out []string
	for _, r := range spec.Repositories {
		if !strings.Contains(r.Repository, root) {
			continue // beside the edition: see viewCLI
		}
		listed := ""
		if r.Listed {
			listed = " (listed)"
		}
		_, path, _ := strings.Cut(r.Repository, root)
		out = append(out, fmt.Sprintf("%q %s %s: %s%s", path, r.Component, r.Role, strings.Join(r.Tags, " "), listed))
	}
	for _, c := range spec.Channels {
		suspended := ""
		if c.Suspended {
			suspended = " suspended"
		}
		out = append(out, fmt.Sprintf("%s %s: %s%s", c.Component, c.Name, c.Version, suspended))
	}
	return out
}

// S1.1.5, S1.3.1, S1.10.4, S3.5.1, S3.5.3, S3.7.6, S5.4.1: what is looked at,
// and what is written down of it.
func TestDiscover(t *testing.T) {
	catalogue := `"/modules" modules catalogue: announced-only console (listed)`
	platform := []string{
		"platform alpha: v1.72.10 suspended",
		"platform beta: v1.70.0",
		"platform early-access: v1.70.0",
		"platform rock-solid: v1.70.0",
		"platform stable: v1.70.0",
	}
	module := []string{
		"module/console lts: v1.40.0",
		"module/console stable: 1.43.5 suspended",
	}
	// Whatever the filters, the versions of all packages are listed (S5.8).
	packages := []string{
		`"/packages" packages catalogue: redis silent (listed)`,
		`"/packages/redis/version" package/redis release-channel: stable v6.0.0 v7.0.0 (listed)`,
		`"/packages/silent/version" package/silent release-channel:  (listed)`,
	}
	const channelTags = "alpha beta early-access rock-solid stable"
	for _, tc := range []struct {
		name   string
		policy deckhouse.Policy
		want   []string
	}{
		{"without a policy all is listed", deckhouse.Policy{}, slices.Concat([]string{
			catalogue,
			`"/modules/announced-only" module/announced-only main:  (listed)`,
			`"/modules/announced-only/release" module/announced-only release-channel: `,
			`"/modules/console" module/console main: v1.40.0 v1.43.5 v1.43.5.att (listed)`,
			`"/modules/console/release" module/console release-channel: lts stable`,
			`"/packages" packages catalogue: redis silent (listed)`,
			`"/packages/redis" package/redis main: v7.0.0 (listed)`,
			`"/packages/redis/version" package/redis release-channel: stable v6.0.0 v7.0.0 (listed)`,
			`"/packages/silent" package/silent main:  (listed)`,
			`"/packages/silent/version" package/silent release-channel:  (listed)`,
			`"/release-channel" platform release-channel: alpha beta early-access rock-solid stable v1.70.0 v1.71.0 v1.72.10 (listed)`,
		}, module, []string{"package/redis stable: v7.0.0"}, platform)},
		{"a pin, the other spelling (S9 row 66)", deckhouse.Policy{NoModules: true, NoPackages: true, DeckhouseTag: "1.70.0"}, slices.Concat([]string{
			`"" platform main: v1.70.0`,
		}, packages, []string{
			`"/release-channel" platform release-channel: ` + channelTags,
		}, platform)},
		{"a pinned custom tag", deckhouse.Policy{NoModules: true, NoPackages: true, DeckhouseTag: "pr12345"}, slices.Concat([]string{
			`"" platform main: pr12345`,
		}, packages, []string{
			`"/release-channel" platform release-channel: ` + channelTags,
		}, platform)},
		{"a pin that is not there", deckhouse.Policy{NoModules: true, NoPackages: true, DeckhouseTag: "pr9"}, slices.Concat([]string{
			`"" platform main: `,
		}, packages, []string{
			`"/release-channel" platform release-channel: ` + channelTags,
		}, platform)},
		{"one module, bare", deckhouse.Policy{NoPlatform: true, NoPackages: true, IncludeModules: []string{"console"}}, slices.Concat([]string{
			catalogue,
			`"/modules/console/release" module/console release-channel: lts stable`,
		}, packages, module)},
		{"one module, exact", deckhouse.Policy{NoPlatform: true, NoPackages: true, IncludeModules: []string{"console@=v1.40.0"}}, slices.Concat([]string{catalogue}, packages)},
		{"one package, exact", deckhouse.Policy{NoPlatform: true, NoModules: true, IncludePackages: []string{"redis@=v7.0.0"}}, packages},
		{"one package, bare", deckhouse.Policy{NoPlatform: true, NoModules: true, IncludePackages: []string{"redis"}}, slices.Concat(
			packages, []string{"package/redis stable: v7.0.0"})},
		{"a package left out", deckhouse.Policy{NoPlatform: true, NoModules: true, ExcludePackages: []string{"redis"}}, slices.Concat(
			packages[:2], []string{`"/packages/silent" package/silent main:  (listed)`}, packages[2:])},
		{"nothing but the versions of packages", deckhouse.Policy{NoPlatform: true, NoModules: true, NoPackages: true}, packages},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec, err := edition(t).discover(t, tc.policy)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, view(spec)); diff != "" {
				t.Errorf("catalog (-want +got):\n%s", diff)
			}
			if spec.Vendor != deckhouse.Vendor || spec.Edition != "ee" {
				t.Errorf("vendor %q, edition %q", spec.Vendor, spec.Edition)
			}
		})
	}
}

// The shapes of S11.2 that have no modules, no channels or only lts.
//
// S3.8.1, S9 rows 15, 21 and 45.
func TestDiscoverOddSources(t *testing.T) {
	dev := newSource(t)
	dev.tag("", "pr123")
	spec, err := dev.discover(t, deckhouse.Policy{DeckhouseTag: "pr123"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		`"" platform main: pr123`,
		`"/modules" modules catalogue:  (listed)`,
		`"/packages" packages catalogue:  (listed)`,
		`"/release-channel" platform release-channel: `,
	}, view(spec)); diff != "" {
		t.Errorf("dev registry (-want +got):\n%s", diff)
	}

	cse := newSource(t)
	cse.channel(t, "/release-channel", "lts", `{"version":"v1.67.3"}`)
	if spec, err = cse.discover(t, deckhouse.Policy{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := deckhouse.Select(spec, deckhouse.Policy{}); err != nil { // nor plugins, nor d8
		t.Errorf("a source with lts alone is not selectable: %v", err)
	}
}

// Modules may stand in the edition's root itself, whose tags are then versions
// as well as names (S1.2.1).
func TestDiscoverModulesInTheRoot(t *testing.T) {
	s := edition(t)
	s.tag("", "storage")
	s.channel(t, "/storage/release", "stable", `{"version":"v2.0.0"}`)
	policy := deckhouse.Policy{ModulesPathSuffix: "/", DeckhouseTag: "pr12345"}
	spec, err := s.discover(t, policy)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := view(spec)[0], `"" modules catalogue: pr12345 storage v1.70.0 (listed)`; got != want {
		t.Errorf("the root is %s, want %s", got, want)
	}
	selected, _, err := deckhouse.Select(spec, policy)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(selected.Images, func(im contract.SelectedImage) bool { return im.Path == "modules/storage" }) {
		t.Error("the module in the root is not selected")
	}
}

// Whatever fails in whichever request, it is never taken for an absence
// (S5.2, S9 rows 67 and 68).
func TestDiscoverFailures(t *testing.T) {
	for _, policy := range []deckhouse.Policy{{DeckhouseTag: "1.70.0"}, {NoModules: true}} {
		clean := edition(t)
		if _, err := clean.discover(t, policy); err != nil {
			t.Fatal(err)
		}
		var requests []registrytest.Request
		seen := map[string]bool{}
		for _, r := range clean.Requests() {
			key := fmt.Sprint(r.Method, r.Kind, r.Repository, r.Reference)
			// What the client asks for its own sake (Q13) decides nothing.
			own := r.Method == http.MethodHead && strings.HasPrefix(r.Reference, "sha256:")
			if r.Kind != registrytest.KindPing && !own && !seen[key] {
				seen[key] = true
				requests = append(requests, r)
			}
		}
		if len(requests) < 20 {
			t.Fatalf("only %d requests to spoil", len(requests))
		}
		for _, r := range requests {
			for kind, f := range map[*fault.Kind]registrytest.Fault{
				fault.Denied:      {Status: http.StatusForbidden},
				fault.RateLimited: {Status: http.StatusTooManyRequests},
				fault.Transient:   {Status: http.StatusBadGateway},
			} {
				s := edition(t)
				// Whatever the verb: a refused HEAD is asked again by GET.
				f.Kind, f.Repository, f.Reference, f.Times = r.Kind, r.Repository, r.Reference, registrytest.Always
				s.Inject(f)
				if kind == fault.Denied && r.Kind == registrytest.KindTags && strings.HasPrefix(r.Repository, "deckhouse/deckhouse-cli") {
					kind = nil // a licence without plugins is none of the edition's business (S5.10.2)
				}
				if _, err := s.discover(t, policy); fault.KindOf(err) != kind {
					t.Errorf("%s %s answered %d: got %v (%v), want %v", r.Method, r.Path, f.Status, err, fault.KindOf(err), kind)
				}
			}
		}
	}
}

// S1.4.1, S1.4.3, S1.4.4, S1.10.2, S5.6.4.
func TestDiscoverDamagedChannels(t *testing.T) {
	index := func(children ...oci.Descriptor) []byte {
		body, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeIndex, "manifests": children})
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	for _, tc := range []struct {
		name string
		put  func(s *source, path string)
		want string // "" is success
	}{
		{"no version.json", func(s *source, path string) { s.PutImage(root+path, "stable", layer(t, "x", "")) }, "no version.json"},
		{"not JSON", func(s *source, path string) { s.channel(t, path, "stable", "<html>") }, "version.json"},
		{"no version", func(s *source, path string) { s.channel(t, path, "stable", `{"suspend":false}`) }, "cannot be a tag"},
		{"version of another type", func(s *source, path string) { s.channel(t, path, "stable", `{"version":1.7}`) }, "version.json"},
		{"layer cut short", func(s *source, path string) {
			whole := layer(t, "version.json", `{"version":"v1.0.0"}`)
			s.PutImage(root+path, "stable", whole[:len(whole)/2])
		}, "cannot be read"},
		{"layer gone", func(s *source, path string) {
			data := layer(t, "version.json", `{"version":"v1.0.0"}`)
			s.PutImage(root+path, "stable", data)
			s.Delete(root+path, string(oci.DigestOf(data)))
		}, "not all of it"},
		{"no manifest", func(s *source, path string) {
			s.PutManifest(root+path, "stable", oci.MediaTypeManifest, []byte(`{"schemaVersion":2}`))
		}, "config"},
		{"empty index", func(s *source, path string) {
			s.PutManifest(root+path, "stable", oci.MediaTypeIndex, index([]oci.Descriptor{}...))
		}, "no image"},
		{"index without its image", func(s *source, path string) {
			child := s.PutImage(root+path, "", layer(t, "version.json", `{"version":"v1.0.0"}`))
			s.PutManifest(root+path, "stable", oci.MediaTypeIndex, index(child))
			s.Delete(root+path, string(child.Digest))
		}, "not all of it"},
		{"index", func(s *source, path string) {
			child := s.PutImage(root+path, "", layer(t, "version.json", `{"version":"v1.0.0"}`))
			s.PutManifest(root+path, "stable", oci.MediaTypeIndex, index(child))
		}, ""},
	} {
		for path, policy := range map[string]deckhouse.Policy{
			"/release-channel":          {NoModules: true},
			"/modules/console/release":  {NoPlatform: true},
			"/packages/console/version": {NoPlatform: true, NoModules: true},
		} {
			s := newSource(t)
			s.tag("/modules", "console")
			s.tag("/packages", "console")
			tc.put(s, path)
			_, err := s.discover(t, policy)
			if tc.want == "" {
				if err != nil {
					t.Errorf("%s in %s: %v", tc.name, path, err)
				}
				continue
			}
			if fault.KindOf(err) != fault.Protocol || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s in %s: got %v (%v), want a protocol fault with %q", tc.name, path, err, fault.KindOf(err), tc.want)
			}
			hint := ""
			switch {
			case policy.NoModules && policy.NoPlatform:
				hint = "--exclude-package console"
			case policy.NoPlatform:
				hint = "--exclude-module console"
			}
			if !strings.Contains(fault.HintOf(err), hint) {
				t.Errorf("%s in %s: the hint %q does not tell how to go on", tc.name, path, fault.HintOf(err))
			}
		}
	}
	s := newSource(t)
	s.channel(t, "/release-channel", "stable", `{"version":"bob"}`)
	if _, err := s.discover(t, deckhouse.Policy{}); fault.KindOf(err) != fault.Protocol {
		t.Errorf("a platform channel at no version: got %v", err)
	}
}

// A layer that several channels share is fetched once (S9 row 99).
func TestDiscoverReadsChannelImagesOnce(t *testing.T) {
	s := newSource(t)
	data := layer(t, "version.json", `{"version":"v1.70.0"}`)
	for _, name := range deckhouse.Channels() {
		s.PutImage(root+"/release-channel", name, data)
	}
	if _, err := s.discover(t, deckhouse.Policy{NoModules: true}); err != nil {
		t.Fatal(err)
	}
	if n := s.Count(registrytest.KindBlob, http.MethodGet); n != 1 {
		t.Errorf("%d blobs were read, want the one", n)
	}
}

// meeting answers for no tag before all of them have been asked for.
type meeting struct {
	registry.Source
	missing atomic.Int64
	met     chan struct{}
}

func (m *meeting) Manifest(ctx context.Context, ref oci.Reference) (oci.Descriptor, []byte, error) {
	if ref.Tag != "" && m.missing.Add(-1) == 0 {
		close(m.met)
	}
	select {
	case <-m.met:
		return m.Source.Manifest(ctx, ref)
	case <-ctx.Done():
		return oci.Descriptor{}, nil, fault.New(fault.Cancelled, ref.String(), ctx.Err())
	}
}

// All channels of a repository are asked for at once: one after the other they would
// take as many round trips. They are told in their order.
func TestChannelsAreReadAtOnce(t *testing.T) {
	s := newSource(t)
	for _, name := range []string{"stable", "alpha", "lts"} {
		s.channel(t, "/release-channel", name, `{"version":"v1.70.0"}`)
	}
	m := &meeting{Source: s.client, met: make(chan struct{})}
	m.missing.Store(int64(len(deckhouse.Channels())))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // only of one that would never end
	defer cancel()
	repo, err := oci.ParseRepository(s.Host + "/" + root + "/release-channel")
	if err != nil {
		t.Fatal(err)
	}
	e := &explorer{src: m, log: slog.New(slog.DiscardHandler)}
	channels, err := e.images(repo).channels(ctx, deckhouse.ComponentPlatform)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range channels {
		got = append(got, c.Name)
	}
	if diff := cmp.Diff([]string{"alpha", "stable", "lts"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestDiscoverCancelled(t *testing.T) {
	s := edition(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Discover(ctx, s.client, deckhouse.Policy{Source: s.Host + "/" + root}, Options{Parallel: 1})
	if fault.KindOf(err) != fault.Cancelled {
		t.Errorf("got %v, want cancelled", err)
	}
	if _, err := Discover(t.Context(), s.client, deckhouse.Policy{Source: "x"}, Options{}); fault.KindOf(err) != fault.Usage {
		t.Errorf("a policy without a repository: got %v, want a usage fault", err)
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte(`{"version":"v1.72.10","suspend":true,"canary":{"alpha":{"enabled":true}}}`))
	f.Add([]byte(`{"version":null}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := parseRelease(content)
		if err == nil && !oci.ValidTag(r.Version) {
			t.Errorf("%q was accepted as a version", r.Version)
		}
	})
}

// A registry that serves channels but no tag lists is a proxy: its empty answers
// must not pass for complete lists.
func TestNoTagListIsNoEmptyList(t *testing.T) {
	for _, tc := range []struct {
		name    string
		without func(path string) bool
		want    map[string]bool
	}{
		{"no list at all", func(string) bool { return true },
			map[string]bool{"/release-channel": false, "/modules": false, "/packages": false}},
		{"no list but the catalogues'", func(path string) bool { return path != "/modules" && path != "/packages" },
			map[string]bool{"/release-channel": false, "/modules/console": false, "/modules/announced-only": true, "/modules": true,
				"/packages": true, "/packages/redis": false, "/packages/redis/version": false, "/packages/silent": true, "/packages/silent/version": true}},
		{"no catalogues (S5.6.1, S5.7)", func(path string) bool { return path == "/modules" || path == "/packages" },
			map[string]bool{"/release-channel": true, "/modules": true, "/packages": true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := edition(t)
			s.Inject(registrytest.Fault{Kind: registrytest.KindTags, Match: func(r *http.Request) bool {
				_, path, _ := strings.Cut(strings.TrimSuffix(r.URL.Path, "/tags/list"), root)
				return tc.without(path)
			}, Status: 404, Times: registrytest.Always})
			spec, err := s.discover(t, deckhouse.Policy{})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]bool{}
			for _, r := range spec.Repositories {
				_, path, ok := strings.Cut(r.Repository, root)
				if ok && !strings.HasSuffix(path, "/release") { // the list of which nobody needs
					got[path] = r.Listed
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("what counts as listed (-want +got):\n%s", diff)
			}
		})
	}
}

// A package that is left out is left alone: its broken channels stop nothing.
func TestDiscoverPassesOverExcludedChannels(t *testing.T) {
	s := edition(t)
	s.channel(t, "/packages/redis/version", "alpha", "<html>")
	if _, err := s.discover(t, deckhouse.Policy{ExcludePackages: []string{"redis"}}); err != nil {
		t.Errorf("excluded: %v", err)
	}
	if _, err := s.discover(t, deckhouse.Policy{}); fault.KindOf(err) != fault.Protocol {
		t.Errorf("wanted: got %v, want a protocol fault", err)
	}
}

// A licence without packages refuses their catalogue. That must not keep anything
// else from being pulled, but is never taken for "there are none" (S5.2).
func TestRefusedPackages(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy deckhouse.Policy
		want   *fault.Kind
	}{
		{"wanted", deckhouse.Policy{}, fault.Denied},
		{"left out", deckhouse.Policy{NoPackages: true}, nil},
	} {
		s := edition(t)
		s.Inject(registrytest.Fault{Kind: registrytest.KindTags, Repository: root + "/packages", Status: 403, Times: registrytest.Always})
		spec, err := s.discover(t, tc.policy)
		if fault.KindOf(err) != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
		if tc.want != nil {
			if !strings.Contains(fault.HintOf(err), "--no-packages") {
				t.Errorf("%s: hint %q", tc.name, fault.HintOf(err))
			}
			continue
		}
		for _, r := range spec.Repositories {
			if strings.HasSuffix(r.Repository, root+"/packages") && r.Listed {
				t.Errorf("%s: the refused catalogue counts as listed", tc.name)
			}
		}
	}
}
