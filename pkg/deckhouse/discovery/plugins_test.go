package discovery

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"

	"github.com/google/go-cmp/cmp"
)

const cliRoot = "deckhouse/deckhouse-cli"

// manifest puts a manifest with annotations at a plugin's tag, or by digest only;
// children make it an index.
func (s *source) manifest(t *testing.T, name, tag, contract string, children ...oci.Descriptor) oci.Descriptor {
	t.Helper()
	body := map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeIndex, "manifests": children}
	if children == nil {
		config := s.PutBlob(cliRoot+"/plugins/"+name, []byte("{}"))
		body = map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "config": config, "layers": []any{}}
	}
	if contract != "" {
		body["annotations"] = map[string]string{"contract": base64.StdEncoding.EncodeToString([]byte(contract))}
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return s.PutManifest(cliRoot+"/plugins/"+name, tag, fmt.Sprint(body["mediaType"]), text)
}

func (s *source) names(names ...string) {
	for _, name := range names {
		s.PutImage(cliRoot+"/plugins", name, []byte("names"))
	}
}

const (
	needsConsole = `{"requirements":{"modules":{"mandatory":[{"name":"console","constraint":">=1.0.0"}]},"plugins":{"mandatory":[{"name":"db"}]}}}`
	needsCeph    = `{"requirements":{"modules":{"mandatory":[{"name":"ceph"}]}}}`
	firstForm    = `{"requirements":{"modules":[]}}`
)

// plugins puts plugins of every shape (S1.8.2), and d8 itself. db is not in the
// catalogue: only a contract leads to it.
func (s *source) plugins(t *testing.T) {
	t.Helper()
	s.names("mgr", "announced-only", "Not-A-Plugin")
	single := s.manifest(t, "mgr", "", needsCeph)
	plain := s.manifest(t, "mgr", "", "")
	s.manifest(t, "mgr", "v1.2.0", needsConsole, single)           // the index says it
	s.manifest(t, "mgr", "v1.1.0", "", single, plain)              // its first child does
	s.manifest(t, "mgr", "v1.0.0", "", plain, single)              // nobody does
	s.manifest(t, "mgr", "v0.9.0", needsCeph)                      // a single image
	s.manifest(t, "mgr", "v0.8.0", firstForm)                      // cannot be read
	s.manifest(t, "mgr", "v0.7.0-rc.1", "", []oci.Descriptor{}...) // an image without a word
	s.manifest(t, "mgr", "latest", needsCeph)                      // no version
	s.manifest(t, "db", "v2.0.0", "")
	s.PutImage(cliRoot, "v0.10.0", []byte("d8"))
	s.PutImage(cliRoot, "v0.11.0", []byte("d8"))
}

// viewCLI is what a catalog says of d8 and its plugins.
func viewCLI(spec contract.CatalogSpec) []string {
	var out []string
	for _, r := range spec.Repositories {
		_, path, ok := strings.Cut(r.Repository, cliRoot)
		if !ok {
			continue
		}
		listed := ""
		if r.Listed {
			listed = " (listed)"
		}
		out = append(out, fmt.Sprintf("%q %s %s: %s%s", path, r.Component, r.Role, strings.Join(r.Tags, " "), listed))
	}
	for _, c := range spec.Contracts {
		text := c.Component + " " + c.Tag + ":"
		for _, q := range c.Requirements {
			text += fmt.Sprintf(" %s %s %s%s", q.Mode, q.Kind, q.Name, q.Constraint)
		}
		if c.Problem != "" {
			text += " !"
		}
		out = append(out, text)
	}
	return out
}

// S1.8.2, S1.8.6, S5.9.3, S5.10.2, S3.10: what discover looks at, and that it
// looks no further than the policy needs.
func TestDiscoverPlugins(t *testing.T) {
	cli := `"" deckhouse-cli main: v0.10.0 v0.11.0 (listed)`
	standing := []string{
		`"/plugins/package" plugin/package main: `,
		`"/plugins/system" plugin/system main: `,
	}
	catalogue := []string{
		`"/plugins" plugins catalogue: Not-A-Plugin announced-only mgr (listed)`,
		`"/plugins/announced-only" plugin/announced-only main: `,
	}
	db := `"/plugins/db" plugin/db main: v2.0.0 (listed)`
	mgr := `"/plugins/mgr" plugin/mgr main: latest v0.7.0-rc.1 v0.8.0 v0.9.0 v1.0.0 v1.1.0 v1.2.0 (listed)`
	contracts := []string{
		"plugin/db v2.0.0:",
		"plugin/mgr v0.7.0-rc.1:",
		"plugin/mgr v0.8.0: !",
		"plugin/mgr v0.9.0: mandatory module ceph",
		"plugin/mgr v1.0.0:",
		"plugin/mgr v1.1.0: mandatory module ceph",
		"plugin/mgr v1.2.0: mandatory module console>=1.0.0 mandatory plugin db",
	}
	for _, tc := range []struct {
		name   string
		policy deckhouse.Policy
		want   []string
	}{
		{"without a policy", deckhouse.Policy{}, slices.Concat([]string{cli}, catalogue, []string{db, mgr}, standing, contracts)},
		{"no modules, no catalogue (S5.10.1)", deckhouse.Policy{NoModules: true}, slices.Concat([]string{cli}, standing)},
		{"no module is left", deckhouse.Policy{ExcludeModules: []string{"console", "announced-only"}}, slices.Concat([]string{cli}, standing)},
		{"no platform", deckhouse.Policy{NoPlatform: true}, slices.Concat([]string{cli}, catalogue, []string{db, mgr}, contracts)},
		{"no plugins", deckhouse.Policy{NoPlugins: true}, []string{cli}},
		{"no plugins but one", deckhouse.Policy{NoPlugins: true, IncludePlugins: []string{"db"}}, []string{cli, db, contracts[0]}},
		{"one with what it depends on", deckhouse.Policy{NoPlatform: true, NoModules: true, IncludePlugins: []string{"mgr@^1"}},
			slices.Concat([]string{cli, db, mgr}, contracts)},
		{"one that goes with the platform anyway", deckhouse.Policy{NoModules: true, IncludePlugins: []string{"system@=v9"}}, slices.Concat([]string{cli}, standing)},
		{"no d8", deckhouse.Policy{NoPlatform: true, NoModules: true, NoDeckhouseCLI: true}, nil},
		{"d8 pinned", deckhouse.Policy{NoPlatform: true, NoModules: true, DeckhouseCLITag: "0.10.0"}, []string{`"" deckhouse-cli main: v0.10.0`}},
		{"d8 pinned to nothing", deckhouse.Policy{NoPlatform: true, NoModules: true, DeckhouseCLITag: "v9"}, []string{`"" deckhouse-cli main: `}},
		{"extra images alone (S5.1)", deckhouse.Policy{OnlyExtraImages: true}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec, err := edition(t).discover(t, tc.policy)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, viewCLI(spec)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// S1.8.6: what is wrong with an image itself is a problem of that version, and a
// request that fails is never one.
func TestBrokenContracts(t *testing.T) {
	for _, tc := range []struct {
		name  string
		put   func(t *testing.T, s *source)
		fault registrytest.Fault
		want  string // problem
		kind  *fault.Kind
	}{
		{name: "the manifest contradicts itself", put: func(t *testing.T, s *source) {
			s.PutManifest(cliRoot+"/plugins/x", "v1.0.0", oci.MediaTypeManifest, []byte(`{"schemaVersion":2}`))
		}, kind: fault.Protocol},
		{name: "not base64", put: func(t *testing.T, s *source) {
			s.PutManifest(cliRoot+"/plugins/x", "v1.0.0", oci.MediaTypeIndex,
				[]byte(`{"schemaVersion":2,"mediaType":"`+oci.MediaTypeIndex+`","manifests":[],"annotations":{"contract":"{}"}}`))
		}, want: "not base64"},
		{name: "the first child is gone", put: func(t *testing.T, s *source) {
			child := s.manifest(t, "x", "", needsCeph)
			s.manifest(t, "x", "v1.0.0", "", child)
			s.Delete(cliRoot+"/plugins/x", string(child.Digest))
		}, want: "not all of its image is there"},
		{name: "refused", put: func(t *testing.T, s *source) { s.manifest(t, "x", "v1.0.0", needsCeph) },
			fault: registrytest.Fault{Status: http.StatusForbidden}, kind: fault.Denied},
		{name: "broken off", put: func(t *testing.T, s *source) { s.manifest(t, "x", "v1.0.0", needsCeph) },
			fault: registrytest.Fault{Status: http.StatusBadGateway}, kind: fault.Transient},
		{name: "too often", put: func(t *testing.T, s *source) { s.manifest(t, "x", "v1.0.0", needsCeph) },
			fault: registrytest.Fault{Status: http.StatusTooManyRequests}, kind: fault.RateLimited},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSource(t)
			tc.put(t, s)
			if tc.fault.Status != 0 {
				tc.fault.Kind, tc.fault.Repository, tc.fault.Times = registrytest.KindManifest, cliRoot+"/plugins/x", registrytest.Always
				s.Inject(tc.fault)
			}
			spec, err := s.discover(t, deckhouse.Policy{NoPlatform: true, NoModules: true, IncludePlugins: []string{"x"}})
			if fault.KindOf(err) != tc.kind {
				t.Fatalf("got %v (%v), want %v", err, fault.KindOf(err), tc.kind)
			}
			if tc.kind == nil && (len(spec.Contracts) != 1 || !strings.Contains(spec.Contracts[0].Problem, tc.want)) {
				t.Errorf("contracts %+v, want the problem %q", spec.Contracts, tc.want)
			}
		})
	}
}

// S5.10.2, S9 row 46: a licence without plugins, or a source without them, does
// not keep the rest from being pulled. What somebody asked for by name is another
// matter, and so is every other failure.
func TestRefusedPlugins(t *testing.T) {
	everything := func(path string) bool { return strings.Contains(path, cliRoot) }
	for _, tc := range []struct {
		name    string
		include []string
		status  int
		where   func(path string) bool
		kind    *fault.Kind
		plugins []string // selected
	}{
		{"refused (403)", nil, 403, everything, nil, nil},
		{"refused (401)", nil, 401, everything, nil, nil},
		{"absent", nil, 404, everything, nil, nil},
		{"failed", nil, 502, everything, fault.Transient, nil},
		{"the catalogue failed", nil, 502, func(path string) bool { return strings.HasSuffix(path, cliRoot+"/plugins/tags/list") }, fault.Transient, nil},
		{"the catalogue alone refused, one included", []string{"mgr@=v1.2.0"}, 403,
			func(path string) bool { return strings.HasSuffix(path, cliRoot+"/plugins/tags/list") }, nil, []string{"db v2.0.0", "mgr v1.2.0"}},
		{"all refused, one included", []string{"mgr"}, 403, everything, fault.Denied, nil},
		{"all refused, one pinned", []string{"mgr@=v1.2.0"}, 403, everything, fault.Denied, nil},
		{"no lists, one pinned", []string{"mgr@=1.0.0"}, 404, func(path string) bool { return strings.HasSuffix(path, "/tags/list") && everything(path) }, nil, []string{"mgr v1.0.0"}},
		{"one plugin refused", nil, 403, func(path string) bool { return strings.Contains(path, "/plugins/db/") }, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := edition(t)
			s.channel(t, "/release-channel", "alpha", `{"version":"v1.72.10"}`) // not suspended
			s.Inject(registrytest.Fault{Match: func(r *http.Request) bool { return tc.where(r.URL.Path) }, Status: tc.status, Times: registrytest.Always})
			policy := deckhouse.Policy{IncludePlugins: tc.include}
			spec, err := s.discover(t, policy)
			if fault.KindOf(err) != tc.kind {
				t.Fatalf("got %v (%v), want %v", err, fault.KindOf(err), tc.kind)
			}
			if err != nil {
				return
			}
			selected, _, err := deckhouse.Select(spec, policy)
			if err != nil {
				t.Fatal(err)
			}
			var plugins []string
			for _, im := range selected.Images {
				if name, ok := strings.CutPrefix(im.Path, "deckhouse-cli/plugins/"); ok {
					plugins = append(plugins, name+" "+im.Tag)
				}
			}
			if diff := cmp.Diff(tc.plugins, plugins); diff != "" {
				t.Errorf("plugins selected (-want +got):\n%s", diff)
			}
		})
	}
}

// A Catalog that was made without a policy serves every wish of select.
func TestCatalogServesAnyPluginPolicy(t *testing.T) {
	s := edition(t)
	s.channel(t, "/release-channel", "alpha", `{"version":"v1.72.10"}`)
	spec, err := s.discover(t, deckhouse.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []deckhouse.Policy{
		{}, {NoModules: true}, {NoPlugins: true}, {IncludePlugins: []string{"mgr@^1"}}, {DeckhouseCLITag: "0.10.0"}, {OnlyExtraImages: true},
	} {
		if _, _, err := deckhouse.Select(spec, p); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	_, _, err = deckhouse.Select(spec, deckhouse.Policy{IncludePlugins: []string{"mgrr"}})
	if fault.KindOf(err) != fault.Policy || !strings.Contains(fault.HintOf(err), `"mgr"`) {
		t.Errorf("a plugin that is not there: %v, hint %q", err, fault.HintOf(err))
	}
}
