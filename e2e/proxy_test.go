package e2e

import (
	"maps"
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// A registry that lists no tags is mirrored like any other, when what is wanted
// is named: the same versions come to the target (S4, S11.2.6, S9 row 75).
func TestPullFromProxy(t *testing.T) {
	t.Parallel()
	opts := edition.Tiny()
	opts.Minors, opts.Packages = 2, 1
	src, _ := source(t, opts)
	images := src.Tags()
	names := []string{"--include-platform", ">=1.0", "--include-module", "mod-00@>=1.0", "--include-package", "pkg-00@>=1.0"}
	pull := func(t *testing.T, flags ...string) map[string]oci.Digest {
		t.Helper()
		return mirrored(t, src.Host+"/deckhouse/ee", append(flags, names...)...)
	}
	want := pull(t)
	// The catalogue of packages is what a proxy lacks; of the versions of the
	// one package it knows those that are named (S4.1.6).
	for name := range want {
		if strings.HasPrefix(name, "packages/pkg-00/version:v") {
			if _, carried := want["packages/pkg-00:"+name[len("packages/pkg-00/version:"):]]; !carried {
				delete(want, name)
			}
		}
	}
	if n := len(want); n < 20 {
		t.Fatalf("only %d tags to compare", n)
	}
	for name, fault := range map[string]registrytest.Fault{
		"404":   {Status: 404},
		"405":   {Status: 405},
		"empty": {Status: 200, Body: `{"name":"x","tags":[]}`, ContentType: "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			fault.Kind, fault.Times = registrytest.KindTags, registrytest.Always
			src.Inject(fault)
			defer src.Heal()
			// What lists would have led to is named: d8, and its plugins (S4.1.5).
			assertTarget(t, pull(t, "--proxy-registry", "--deckhouse-cli-tag", "v0.10.0", "--include-plugin", "mgr@=v1.0.0",
				"--include-plugin", "mgr@=v0.9.0", "--include-plugin", "db@=v0.9.1", "--include-plugin", "system@=v1.0.0"), "", want, nil)
		})
	}
	if !maps.Equal(images, src.Tags()) {
		t.Error("the source was changed")
	}
}

// S4.1, S2.4.7, S9 row 75: what cannot be asked of a proxy is refused before any
// request.
func TestProxyRefusals(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	for _, flags := range [][]string{
		nil,
		{"--deckhouse-tag", "v1"},
		{"--since-version", "v1"},
		{"--include-platform", ">=1.0"},
		{"--include-platform", ">=1.0", "-i", "mod-00", "--no-packages"},
		{"--include-platform", ">=1.0", "-i", "mod-00@^1"},
		{"--no-platform", "--no-modules", "--no-packages"},
	} {
		args := append([]string{t.TempDir(), "--source", src.Host + "/deckhouse/ee", "--insecure", "--proxy-registry"}, flags...)
		if r := try(t, "", "ferry-pull", args...); r.code != 64 || !strings.Contains(r.stderr, "hint:") || len(src.Requests()) > 0 {
			t.Errorf("%v: exit status %d after %d requests\n%s", flags, r.code, len(src.Requests()), r.stderr)
		}
	}
}

// The stages alone: what was asked for stands in the Catalog, and another policy
// cannot be decided over it. Gaps and ranges are flags.
func TestProxyStages(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	src.Inject(registrytest.Fault{Kind: registrytest.KindTags, Status: 404, Times: registrytest.Always})
	policy := []string{"--proxy-registry", "--proxy_gap_patches=1", "--proxy-gap-minors", "0", "--include-platform", ">=1.0", "--no-modules", "--no-packages"}
	catalog := run(t, "", "ferry-discover", append(discoverArgs(src.Host), policy...)...)
	if n := src.Count(registrytest.KindTags, ""); n > 0 {
		t.Errorf("%d tag lists were asked for", n)
	}
	var probed []contract.Probe
	for _, r := range decode[contract.CatalogSpec](t, catalog).Spec.Repositories {
		probed = append(probed, r.Probed...)
	}
	if len(probed) != 1 || probed[0].Constraint != ">=1.0" || probed[0].GapPatches != 1 || probed[0].GapMinors != 0 || probed[0].Requests == 0 {
		t.Errorf("probed: %+v", probed)
	}
	run(t, catalog, "ferry-select", policy...)
	policy[5] = ">=1.1"
	if r := try(t, catalog, "ferry-select", policy...); r.code != 65 || !strings.Contains(r.stderr, "narrower policy") {
		t.Errorf("another range: exit status %d\n%s", r.code, r.stderr)
	}
}
