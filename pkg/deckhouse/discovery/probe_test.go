package discovery

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry"
	"ferry/pkg/registry/registrytest"

	"github.com/google/go-cmp/cmp"
)

// proxied is a source that lists no tags.
func proxied(t *testing.T, opts ...registrytest.Option) *source {
	s := newSource(t, append(opts, registrytest.Q27NoTagList(405))...)
	for _, name := range []string{"alpha", "beta", "early-access", "stable", "rock-solid"} {
		s.channel(t, "/release-channel", name, `{"version":"v1.70.0"}`)
	}
	s.tag("/release-channel", "v1.68.1", "v1.70.0", "v1.70.4", "v1.73.0-rc.1")
	s.channel(t, "/modules/console/release", "stable", `{"version":"1.43.5"}`)
	s.tag("/modules/console", "v1.40.0", "v1.40.2", "v1.43.5", "v2.0.0")
	s.channel(t, "/packages/redis/version", "stable", `{"version":"v7.0.0"}`)
	s.tag("/packages/redis", "v7.0.0")
	return s
}

func proxyPolicy() deckhouse.Policy {
	return deckhouse.Policy{
		ProxyRegistry: true, IncludePlatform: ">=1.68.0 <1.74",
		IncludeModules: []string{"console@~1.40.0", "console@>=1.40.0 <2", "pinned@=v1"}, IncludePackages: []string{"redis@=v7.0.0"},
	}
}

// asked are the tags that were asked for in a repository, channels left out.
func (s *source) asked(path string) []string {
	var out []string
	for _, r := range s.Requests() {
		if r.Kind == registrytest.KindManifest && r.Method == http.MethodHead && r.Repository == root+path && oci.ValidTag(r.Reference) && !deckhouse.IsChannel(r.Reference) {
			out = append(out, r.Reference)
		}
	}
	return out
}

// S4.2, S4.3.3, S4.5, S9 rows 75 and 76: versions are asked for one by one, each
// once, always with "v"; no list is asked for; and the Catalog says so.
func TestDiscoverProxy(t *testing.T) {
	s := proxied(t)
	spec, err := s.discover(t, proxyPolicy())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		`"/modules/console" module/console main: v1.40.0 v1.40.2 v1.43.5`,
		`"/modules/console/release" module/console release-channel: stable`,
		`"/packages/redis/version" package/redis release-channel: stable`,
		`"/release-channel" platform release-channel: alpha beta early-access rock-solid stable v1.68.1 v1.70.0 v1.70.4`,
		"module/console stable: 1.43.5",
		"package/redis stable: v7.0.0",
		"platform alpha: v1.70.0",
		"platform beta: v1.70.0",
		"platform early-access: v1.70.0",
		"platform rock-solid: v1.70.0",
		"platform stable: v1.70.0",
	}, view(spec)); diff != "" {
		t.Errorf("catalog (-want +got):\n%s", diff)
	}
	if n := s.Count(registrytest.KindTags, ""); n > 0 {
		t.Errorf("%d tag lists were asked for", n)
	}
	for _, r := range spec.Repositories {
		path := strings.TrimPrefix(r.Repository, s.Host+"/"+root)
		if len(r.Probed) == 0 {
			continue
		}
		requests := 0
		var constraints []string
		for _, p := range r.Probed {
			if p.GapPatches != 3 || p.GapMinors != 2 {
				t.Errorf("%s: gaps %d and %d, want the defaults", path, p.GapPatches, p.GapMinors)
			}
			requests += p.Requests
			constraints = append(constraints, p.Constraint)
		}
		asked := s.asked(path)
		if len(asked) != requests || len(slices.Compact(slices.Sorted(slices.Values(asked)))) != requests {
			t.Errorf("%s: the Catalog says %d requests, the registry saw %v", path, requests, asked)
		}
		want := map[string][]string{"/release-channel": {">=1.68.0 <1.74"}, "/modules/console": {">=1.40.0 <2", "~1.40.0"}}[path]
		if diff := cmp.Diff(want, constraints); diff != "" {
			t.Errorf("%s: constraints (-want +got):\n%s", path, diff)
		}
		for _, tag := range asked {
			if !strings.HasPrefix(tag, "v") || strings.Contains(tag, "-") || tag == "v2.0.0" {
				t.Errorf("%s: %s was asked for", path, tag)
			}
		}
	}
	if _, _, err := deckhouse.Select(spec, proxyPolicy()); err != nil {
		t.Errorf("the catalog cannot be selected from: %v", err)
	}
}

// S4.4 row 1, with requests on the wire: with gaps of 0 they are d8's.
func TestDiscoverProxyLikeD8(t *testing.T) {
	s := newSource(t, registrytest.Q27NoTagList(404))
	s.tag("/modules/m", "v1.64.0", "v1.64.1", "v1.64.2", "v1.66.0")
	s.channel(t, "/modules/m/release", "stable", `{"version":"v1.66.0"}`)
	policy := deckhouse.Policy{
		ProxyRegistry: true, ProxyGapPatches: new(0), ProxyGapMinors: new(0),
		NoPlatform: true, NoPackages: true, IncludeModules: []string{"m@^1.64.0"},
	}
	spec, err := s.discover(t, policy)
	if err != nil {
		t.Fatal(err)
	}
	asked := slices.Sorted(slices.Values(s.asked("/modules/m")))
	if diff := cmp.Diff([]string{"v1.64.0", "v1.64.1", "v1.64.2", "v1.64.3", "v1.65.0"}, asked); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	want := []contract.Probe{{Constraint: "^1.64.0", Requests: 5}}
	for _, r := range spec.Repositories {
		if strings.HasSuffix(r.Repository, "/modules/m") {
			if diff := cmp.Diff(want, r.Probed); diff != "" {
				t.Errorf("probed (-want +got):\n%s", diff)
			}
		}
	}
}

// S4.3.1, S4.3.2, S5.2: HEAD that is refused is followed by GET; a definite 404 needs none;
// nothing else is ever an absence.
func TestDiscoverProxyFailures(t *testing.T) {
	for _, status := range []int{405, 500} {
		s := proxied(t, registrytest.Q13NoHead(status))
		spec, err := s.discover(t, proxyPolicy())
		if err != nil {
			t.Fatal(err)
		}
		if got := view(spec)[0]; got != `"/modules/console" module/console main: v1.40.0 v1.40.2 v1.43.5` {
			t.Errorf("without HEAD (%d): %s", status, got)
		}
	}
	s := proxied(t)
	if _, err := s.discover(t, proxyPolicy()); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Requests() {
		if r.Repository == root+"/modules/console" && r.Method != http.MethodHead {
			t.Errorf("%s %s was not needed", r.Method, r.Path)
		}
	}
	for kind, status := range map[*fault.Kind]int{
		fault.Denied: http.StatusUnauthorized, fault.RateLimited: http.StatusTooManyRequests, fault.Transient: http.StatusServiceUnavailable,
	} {
		for _, reference := range []string{"v1.40.1", "v1.68.0"} {
			s := proxied(t)
			s.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Reference: reference, Status: status, Times: registrytest.Always})
			if _, err := s.discover(t, proxyPolicy()); fault.KindOf(err) != kind {
				t.Errorf("%s answered %d: got %v, want %v", reference, status, err, kind)
			}
		}
	}
	s = proxied(t)
	s.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Reference: "v1.40.1", Drop: true, Times: registrytest.Always})
	if _, err := s.discover(t, proxyPolicy()); fault.KindOf(err) != fault.Transient {
		t.Errorf("a dropped connection: got %v", err)
	}
}

// A proxy that claims to have everything is not asked for ever.
func TestDiscoverProxyEnds(t *testing.T) {
	_, err := Discover(t.Context(), everySource{}, deckhouse.Policy{
		Source: "h/" + root, ProxyRegistry: true, NoPlatform: true, IncludeModules: []string{"m@>=1"}, IncludePackages: []string{"p@=v1"},
	}, Options{})
	if fault.KindOf(err) != fault.Policy {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(fmt.Sprint(err), "h/"+root+"/modules/m") || fault.HintOf(err) == "" {
		t.Errorf("%v (%s) does not say where, or what to do", err, fault.HintOf(err))
	}
}

// everySource has every version, and no channels.
type everySource struct{ registry.Source }

func (everySource) Resolve(context.Context, oci.Reference) (oci.Descriptor, error) {
	return oci.Descriptor{}, nil
}

func (everySource) Manifest(context.Context, oci.Reference) (oci.Descriptor, []byte, error) {
	return oci.Descriptor{}, nil, fault.New(fault.NotFound, "", nil)
}

// An interrupt is honoured between requests, and never taken for an answer.
func TestDiscoverProxyCancelled(t *testing.T) {
	s := proxied(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.Inject(registrytest.Fault{Kind: registrytest.KindManifest, Times: registrytest.Always, Match: func(r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/v1.40.0") {
			cancel()
		}
		return false
	}})
	policy := proxyPolicy()
	policy.Source = s.Host + "/" + root
	if _, err := Discover(ctx, s.client, policy, Options{Parallel: 1}); fault.KindOf(err) != fault.Cancelled {
		t.Errorf("got %v, want cancelled", err)
	}
}

// S4.1.6: without named packages nothing of packages is asked for.
func TestDiscoverProxyWithoutPackages(t *testing.T) {
	s := proxied(t)
	policy := proxyPolicy()
	policy.IncludePackages, policy.NoPackages = nil, true
	if _, err := s.discover(t, policy); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Requests() {
		if strings.Contains(r.Repository, "packages") {
			t.Errorf("%s was asked for", r.Path)
		}
	}
}

// S1.10.4: a registry that refuses lists says what to do; a catalogue that nobody
// needs stops nothing.
func TestRefusedLists(t *testing.T) {
	s := proxied(t)
	for _, policy := range []deckhouse.Policy{{}, {NoPlatform: true, NoPackages: true}, {NoModules: true, NoPackages: true}} {
		if _, err := s.discover(t, policy); fault.KindOf(err) != fault.Unsupported || !strings.Contains(fault.HintOf(err), "--proxy-registry") {
			t.Errorf("got %v (%s), want the hint at --proxy-registry", err, fault.HintOf(err))
		}
	}
	spec, err := s.discover(t, deckhouse.Policy{NoModules: true, NoPackages: true, DeckhouseTag: "stable"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := deckhouse.Select(spec, deckhouse.Policy{NoModules: true, NoPackages: true, DeckhouseTag: "stable"}); err != nil {
		t.Error(err)
	}
}

// S1.10.4, S11.2.6: an empty list beside channels is none.
func TestEmptyListIsNoList(t *testing.T) {
	s := edition(t)
	s.Inject(registrytest.Fault{Kind: registrytest.KindTags, Body: `{"name":"x","tags":[]}`, ContentType: "application/json", Times: registrytest.Always})
	spec, err := s.discover(t, deckhouse.Policy{NoModules: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range spec.Repositories {
		if r.Listed {
			t.Errorf("%s counts as listed", r.Repository)
		}
	}
	if _, _, err := deckhouse.Select(spec, deckhouse.Policy{NoModules: true, IgnoreSuspend: true}); fault.KindOf(err) != fault.Damaged {
		t.Errorf("it can be selected from: %v", err)
	}
}

// S4.1.5: of plugins, exactly the pins are looked for, without a list; what they
// depend on must be pinned too, and select says which pin is missing.
func TestDiscoverProxyPlugins(t *testing.T) {
	s := proxied(t)
	s.manifest(t, "mgr", "v1.0.0", `{"requirements":{"plugins":{"mandatory":[{"name":"db"}]}}}`)
	s.manifest(t, "db", "v2.0.0", "")
	policy := deckhouse.Policy{
		ProxyRegistry: true, NoPlatform: true, NoModules: true, NoPackages: true, NoDeckhouseCLI: true,
		IncludePlugins: []string{"mgr@=v1.0.0", "db@=v2.0.0"},
	}
	spec, err := s.discover(t, policy)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Count(registrytest.KindTags, ""); n > 0 {
		t.Errorf("%d tag lists were asked for", n)
	}
	selected, _, err := deckhouse.Select(spec, policy)
	if err != nil {
		t.Fatal(err)
	}
	var plugins []string
	for _, im := range selected.Images {
		if strings.HasPrefix(im.Archive, "plugin-") {
			plugins = append(plugins, im.Path+":"+im.Tag)
		}
	}
	if diff := cmp.Diff([]string{"deckhouse-cli/plugins/db:v2.0.0", "deckhouse-cli/plugins/mgr:v1.0.0"}, plugins); diff != "" {
		t.Errorf("plugins (-want +got):\n%s", diff)
	}

	policy.IncludePlugins = policy.IncludePlugins[:1]
	if spec, err = s.discover(t, policy); err != nil {
		t.Fatal(err)
	}
	_, _, err = deckhouse.Select(spec, policy)
	if fault.KindOf(err) != fault.Policy || !strings.Contains(fmt.Sprint(err), "plugin db") || !strings.Contains(fault.HintOf(err), "pinned too") {
		t.Errorf("without the pin of db: got %v (%s)", err, fault.HintOf(err))
	}
}
