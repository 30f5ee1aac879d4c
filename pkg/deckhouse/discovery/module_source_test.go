package discovery

import (
	"strings"
	"testing"

	"ferry/pkg/deckhouse"
	"ferry/pkg/fault"
	"ferry/pkg/registry/registrytest"

	"github.com/google/go-cmp/cmp"
)

// moduleSource is a repository of modules, which is all that its login may see.
func moduleSource(t *testing.T) *source {
	s := newSource(t)
	s.tag("", "console", "storage")
	s.tag("/console", "v1.0.0", "v1.1.0")
	s.tag("/console/release", "v1.0.0", "v1.1.0")
	s.channel(t, "/console/release", "stable", `{"version":"v1.1.0"}`)
	s.tag("/storage", "v2.0.0")
	s.channel(t, "/storage/release", "lts", `{"version":"v2.0.0"}`)
	for _, path := range []string{"/packages", "/release-channel", "/modules"} {
		s.Inject(registrytest.Fault{Repository: root + path, Status: 403, Times: registrytest.Always})
	}
	return s
}

// S8.3: the tags of the repository are the modules, and nothing beside them is
// looked at; with a filter nothing but the modules that it names.
func TestDiscoverModuleSource(t *testing.T) {
	const catalogue = `"" modules module-source: console storage (listed)`
	for _, tc := range []struct {
		name, filter string
		want         []string
	}{
		{"S8.3 no filter", "", []string{
			catalogue,
			`"/console" module/console main: v1.0.0 v1.1.0 (listed)`,
			`"/console/release" module/console release-channel: stable v1.0.0 v1.1.0 (listed)`,
			`"/storage" module/storage main: v2.0.0 (listed)`,
			`"/storage/release" module/storage release-channel: lts (listed)`,
			"module/console stable: v1.1.0",
			"module/storage lts: v2.0.0",
		}},
		{"S8.3 a version", "console:v1.0.0", []string{
			catalogue,
			`"/console/release" module/console release-channel: stable v1.0.0 v1.1.0 (listed)`,
		}},
		{"S8.3 a channel", "storage:lts", []string{
			catalogue,
			`"/storage" module/storage main: v2.0.0 (listed)`,
			`"/storage/release" module/storage release-channel: lts (listed)`,
			"module/storage lts: v2.0.0",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := moduleSource(t)
			spec, err := s.discover(t, deckhouse.Policy{ModuleSource: true, ModulesFilter: tc.filter})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range s.Requests() {
				if r.Status == 403 || r.Repository != "" && !strings.HasPrefix(r.Repository+"/", root+"/") {
					t.Errorf("%s %s: it has nothing to do with modules", r.Method, r.Path)
				}
			}
			if diff := cmp.Diff(tc.want, view(spec)); diff != "" {
				t.Errorf("catalog (-want +got):\n%s", diff)
			}
			if _, _, err := deckhouse.Select(spec, deckhouse.Policy{ModulesFilter: tc.filter}); err != nil {
				t.Errorf("not selectable: %v", err)
			}
		})
	}
}

// S8.3: a repository that is not there has no modules; one that refuses is never
// taken for that.
func TestDiscoverModuleSourceAbsent(t *testing.T) {
	policy := deckhouse.Policy{ModuleSource: true}
	spec, err := newSource(t).discover(t, policy)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`"" modules module-source:  (listed)`}, view(spec)); diff != "" {
		t.Errorf("catalog (-want +got):\n%s", diff)
	}
	for status, want := range map[int]*fault.Kind{401: fault.Denied, 403: fault.Denied, 405: fault.Unsupported, 503: fault.Transient} {
		s := newSource(t)
		s.Inject(registrytest.Fault{Kind: registrytest.KindTags, Status: status, Times: registrytest.Always})
		_, err := s.discover(t, policy)
		if fault.KindOf(err) != want {
			t.Errorf("%d: got %v, want %v", status, err, want)
		}
		if want == fault.Denied && !strings.Contains(fault.HintOf(err), "dockerCfg") {
			t.Errorf("%d: the hint %q does not tell where the login stands", status, fault.HintOf(err))
		}
	}
	s := moduleSource(t)
	s.PutImage(root+"/console/release", "alpha", []byte("x"))
	if _, err := s.discover(t, policy); fault.KindOf(err) != fault.Protocol || !strings.Contains(fault.HintOf(err), "--modules-filter") {
		t.Errorf("a broken channel: got %v (%s), want a protocol fault that tells of --modules-filter", err, fault.HintOf(err))
	}
	if _, err := s.discover(t, deckhouse.Policy{ModuleSource: true, ModulesFilter: "console:v1.0.0"}); err != nil {
		t.Errorf("a broken channel that nobody asked for: %v", err)
	}
}
