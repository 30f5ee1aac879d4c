package deckhouse

import (
	"slices"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"

	"github.com/google/go-cmp/cmp"
)

// modules is the Catalog of a ModuleSource with two modules. Repositories are
// those of an edition's root, as the catalogue is.
func modules() *catalog {
	c := newCatalog()
	c.Edition = ""
	c.row("", "console virtualization v1.0.0 stable sha256-x.att")
	c.Repositories[0].Role = RoleModuleSource
	c.row("console", "v1.0.0 v1.1.0 v1.2.0")
	c.row("console/release", "v1.0.0 v1.1.0 v1.2.0 alpha stable lts").channels("module/console", "alpha=v1.2.0 stable=v1.1.0 lts=v1.0.0")
	c.row("virtualization", "0.9.10")
	return c.row("virtualization/release", "0.9.10 stable").channels("module/virtualization", "stable=0.9.10!")
}

// S8.3: which tags a filter selects, and where they land: the modules stand at
// the root (S8.5), without "modules" before them.
func TestModuleSourceSelection(t *testing.T) {
	for _, tc := range []struct {
		name, filter              string
		console, release          string
		virtualization, discovery string
	}{
		{"S8.3 no filter: all channels and their versions", "", "v1.0.0? v1.1.0? v1.2.0?", "alpha lts stable v1.0.0? v1.1.0? v1.2.0?", "0.9.10?", ":console :virtualization"},
		{"S8.3 a version, and no newer one", "console:v1.0.0", "v1.0.0", "v1.0.0?", "", ":console"},
		{"S8.3 a channel, its version and no other channel", "console:stable", "v1.1.0", "stable v1.1.0?", "", ":console"},
		{"S8.3 lts", "console:lts", "v1.0.0", "lts v1.0.0?", "", ":console"},
		{"S8.3 several entries, blanks, an empty one", " console:v1.0.0; console : alpha ;virtualization:stable;", "v1.0.0 v1.2.0", "alpha v1.0.0? v1.2.0?", "0.9.10", ":console :virtualization"},
		{"S8.3 one entry twice", "console:stable;console:v1.1.0;console:stable", "v1.1.0", "stable v1.1.0?", "", ":console"},
		{"S9 row 66 other spellings", "console:1.0.0;virtualization:v0.9.10", "v1.0.0", "v1.0.0?", "0.9.10", ":console :virtualization"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec, _ := selectAll(t, modules(), Policy{ModulesFilter: tc.filter})
			var discovery []string
			for _, d := range spec.Discovery {
				if d.Needs != d.Tag {
					t.Errorf("%s needs %q", d.Tag, d.Needs)
				}
				discovery = append(discovery, d.Path+":"+d.Tag)
			}
			for _, im := range spec.Images { // S5.2: no channel without its version
				if (im.Phase == contract.PhaseChannel) != (im.Needs != "") {
					t.Errorf("%s:%s needs %q", im.Path, im.Tag, im.Needs)
				}
			}
			want := []string{tc.console, tc.release, tc.virtualization, tc.discovery}
			got := []string{at(spec, "console"), at(spec, "console/release"), at(spec, "virtualization"), strings.Join(discovery, " ")}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("console, its release, virtualization, discovery (-want +got):\n%s", diff)
			}
		})
	}
}

// S8.5: nothing keeps its place below "modules", links and what images need
// included, and everything comes from the repositories of the source.
func TestModuleSourceAtTheRoot(t *testing.T) {
	c := modules()
	c.Repositories[0].Tags = append(c.Repositories[0].Tags, "modules") // a module of that name
	c.row("modules", "v3.0.0").row("modules/release", "v3.0.0 stable").channels("module/modules", "stable=v3.0.0")
	spec, _ := selectAll(t, c, Policy{})
	if diff := cmp.Diff([]contract.Archive{{Name: "modules", Layouts: []string{
		"console", "console/release", "modules", "modules/release", "virtualization", "virtualization/release",
	}}}, spec.Archives); diff != "" {
		t.Errorf("archives (-want +got):\n%s", diff)
	}
	// S2.7.3, S2.7.4: the summary counts modules, and tells of nothing else.
	var members []string
	for _, m := range spec.Overview.Members {
		members = append(members, m.Archive+" "+m.Path+" "+m.ChannelPath)
	}
	want := []string{"modules console console/release", "modules modules modules/release", "modules virtualization virtualization/release"}
	if diff := cmp.Diff(want, members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if c := spec.Overview.Components; len(c) != 1 || c[0].Name != "Modules" || c[0].State != contract.ComponentWanted || c[0].Flag+c[0].Caution != "" {
		t.Errorf("components: %+v", c)
	}
	var linked func(links []contract.Link) []string
	linked = func(links []contract.Link) []string {
		var out []string
		for _, l := range links {
			out = append(append(out, strings.TrimPrefix(l.Repository, testSource+"/")+">"+l.Path), linked(l.Links)...)
		}
		return out
	}
	for _, name := range []string{"console", "modules"} {
		for _, im := range images(spec, name) {
			// Extra images and attestations are carried too.
			want := []string{name + "/extra>" + name + "/extra", name + ">" + name, name + ">" + name, name + ">" + name, name + ">" + name}
			if diff := cmp.Diff(want, linked(im.Links)); diff != "" {
				t.Errorf("links of %s (-want +got):\n%s", im.Source, diff)
			}
		}
		for _, im := range images(spec, name+"/release") {
			if IsChannel(im.Tag) && !strings.HasPrefix(im.Needs, name+":v") {
				t.Errorf("channel %s of %s needs %q", im.Tag, name, im.Needs)
			}
		}
	}
}

// S8.3: what is named must be there; what there is instead is told.
func TestModulesFilterRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		policy Policy
		change func(*catalog)
		want   *fault.Kind
		words  string
	}{
		{"S8.3 unknown module", Policy{ModulesFilter: "consol:stable"}, nil, fault.Policy, `has no module "consol"; it has "console"`},
		{"S8.3 unknown version", Policy{ModulesFilter: "console:v1.2.9"}, nil, fault.Policy, `has no release "v1.2.9"; it has "v1.2.0"`},
		{"S8.3 unknown channel", Policy{ModulesFilter: "console:beta"}, nil, fault.Policy, `no release "beta"; it has`},
		{"nothing like it", Policy{ModulesFilter: "console:pr12345"}, nil, fault.Policy, "it has v1.0.0, v1.1.0, v1.2.0"},
		{"without a tag", Policy{ModulesFilter: "console"}, nil, fault.Usage, "console:v1.2.3"},
		{"a range", Policy{ModulesFilter: "console:^1.2"}, nil, fault.Usage, "NAME:VERSION"},
		{"d8's other separator", Policy{ModulesFilter: "console@v1.0.0"}, nil, fault.Usage, "NAME:VERSION"},
		{"empty entries", Policy{ModulesFilter: " ; "}, nil, fault.Usage, "names no module"},
		{"with an include", Policy{ModulesFilter: "console:stable", IncludeModules: []string{"console"}}, nil, fault.Usage, "ambiguous"},
		{"of an edition", Policy{ModulesFilter: "console:stable"}, func(c *catalog) { c.Repositories[0].Role = RoleCatalogue }, fault.Usage, "--include-module"},
		{"a policy for a ModuleSource, an edition", Policy{ModuleSource: true}, func(c *catalog) { c.Repositories[0].Role = RoleCatalogue }, fault.Damaged, "not of a ModuleSource"},
		{"the platform", Policy{DeckhouseTag: "v1.70.0"}, nil, fault.Usage, "nothing else"},
		{"a plugin", Policy{IncludePlugins: []string{"db"}}, nil, fault.Usage, "nothing else"},
		{"d8 itself", Policy{DeckhouseCLITag: "v1.0.0"}, nil, fault.Usage, "nothing else"},
		{"no modules", Policy{NoModules: true}, nil, fault.Usage, "nothing else"},
		{"another path", Policy{ModulesPathSuffix: "/x"}, nil, fault.Usage, "nothing else"},
		{"discover looked at other modules", Policy{ModulesFilter: "console:v1.0.0"}, func(c *catalog) {
			c.Repositories = slices.DeleteFunc(c.Repositories, func(r contract.CatalogRepository) bool { return strings.HasSuffix(r.Repository, "console/release") })
		}, fault.Damaged, "does not tell"},
		{"discover read no channels", Policy{ModulesFilter: "console:alpha"}, func(c *catalog) { c.Channels = nil }, fault.Damaged, "does not tell"},
		{"a list that is not complete", Policy{ModulesFilter: "console:v7"}, func(c *catalog) { c.Repositories[2].Listed = false }, fault.Damaged, "does not tell"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := modules()
			if tc.change != nil {
				tc.change(c)
			}
			c.Normalize()
			_, _, err := Select(c.CatalogSpec, tc.policy)
			text := ""
			if err != nil {
				text = err.Error() + "; " + fault.HintOf(err)
			}
			if fault.KindOf(err) != tc.want || !strings.Contains(text, tc.words) {
				t.Errorf("got %v (%s), want %v with %q", err, fault.HintOf(err), tc.want, tc.words)
			}
		})
	}
}

// S8.3: a source without modules is a warning.
func TestModuleSourceWithoutModules(t *testing.T) {
	c := newCatalog().row("", "")
	c.Repositories[0].Role = RoleModuleSource
	spec, notes := selectAll(t, c, Policy{})
	if len(spec.Images)+len(spec.Discovery) > 0 || len(notes) != 1 || !strings.Contains(notes[0].Text, "spec.registry.repo") {
		t.Errorf("selected %v, notes %v", spec, notes)
	}
}

// S8.3: discover asks for no more than a filter needs.
func TestModuleSourceScope(t *testing.T) {
	for filter, want := range map[string]Look{
		"":                              {Releases: true, Channels: true, Versions: true},
		"console:v1.0.0":                {Releases: true},
		"console:v1.0.0;console:stable": {Releases: true, Channels: true, Versions: true},
		"other:stable":                  {},
	} {
		s, err := Policy{Source: testSource, ModuleSource: true, ModulesFilter: filter}.Scope()
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Look(Modules, "console"); got != want {
			t.Errorf("%q: %+v, want %+v", filter, got, want)
		}
		if s.Platform() || s.Family(Packages) || !s.Family(Modules) {
			t.Errorf("%q: something beside the modules is looked at", filter)
		}
	}
}

// S8.4, S8.5: a directory that must hold modules alone does, or is refused; one
// module without releases hides nothing.
func TestImportedModules(t *testing.T) {
	for _, tc := range []struct {
		name  string
		paths []string
		want  *fault.Kind
	}{
		{"modules", []string{"console", "console/release", "console/extra/x", "virtualization", "virtualization/release"}, nil},
		{"one without releases", []string{"console", "console/release", "old"}, nil},
		{"an edition's root", []string{"", "install", "install/release"}, fault.Usage},
		{"modules of an edition", []string{"modules/console", "modules/console/release"}, fault.Usage},
		{"a module's own directory", []string{"", "release"}, fault.Usage},
		{"a database", []string{"console", "security/trivy-db"}, fault.Usage},
	} {
		rules, err := ImportedModules(tc.paths)
		if fault.KindOf(err) != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
		if err != nil {
			continue
		}
		for _, path := range tc.paths {
			name, _, _ := strings.Cut(path, "/")
			want := []contract.DiscoveryTag{{Path: "", Tag: name, Phase: contract.PhaseDiscovery, Needs: name}}
			if diff := cmp.Diff(want, rules.Discovery(path)); diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", tc.name, path, diff)
			}
		}
	}
}

// S8.5: what is in a Bundle is announced at the root, or it is no Bundle of
// modules alone.
func TestCheckModules(t *testing.T) {
	bundle := func(paths ...string) *contract.Contents {
		c := &contract.Contents{Discovery: []contract.DiscoveryTag{{Tag: "console"}, {Path: "modules", Tag: "virtualization"}}}
		for _, p := range paths {
			c.Images = append(c.Images, contract.Image{Path: p})
		}
		return c
	}
	for _, tc := range []struct {
		paths []string
		want  *fault.Kind
	}{
		{nil, nil},
		{[]string{"console", "console/release", "console/extra/x"}, nil},
		{[]string{"console", ""}, fault.Usage},
		{[]string{"console", "install"}, fault.Usage},
		{[]string{"modules/virtualization"}, fault.Usage},
		{[]string{"virtualization"}, fault.Usage},
	} {
		if err := CheckModules(bundle(tc.paths...)); fault.KindOf(err) != tc.want {
			t.Errorf("%q: got %v, want %v", tc.paths, err, tc.want)
		}
	}
}
