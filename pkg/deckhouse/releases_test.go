package deckhouse

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/oci"

	"github.com/google/go-cmp/cmp"
)

const sortedTags = "v1.68.0 v1.69.0 v1.70.0 v1.71.0 v1.72.10"

// file adds a file of a release image of the platform.
func (c *catalog) file(tag, name, text string) *catalog {
	c.Files = append(c.Files, contract.CatalogFile{
		Repository: testSource + "/release-channel", Tag: tag, Digest: oci.DigestOf([]byte(tag)), Name: name, Text: text,
	})
	return c
}

// described adds both files of each release.
func (c *catalog) described(tags ...string) *catalog {
	for _, tag := range tags {
		c.file(tag, "version.json", `{"version":"`+tag+`"}`).file(tag, "changelog.yaml", "core: {fixes: [a]}\n")
	}
	return c
}

// names are the releases that a text describes, in its order.
func names(text []byte) string {
	var out []string
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "  name: "); ok {
			out = append(out, strings.TrimSpace(name))
		}
	}
	return strings.Join(out, " ")
}

func describe(t *testing.T, c *catalog, p Policy) (string, []Note) {
	t.Helper()
	c.Normalize()
	if err := c.Validate(); err != nil {
		t.Fatalf("the catalog of the test: %v", err)
	}
	text, notes, err := Releases(c.CatalogSpec, p)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), notes
}

// The format of S6.8, to the byte: sorted keys, the log as a map, numbers as they
// are, what is empty left out.
func TestReleaseManifest(t *testing.T) {
	cat := platformCatalog("lts=v1.70.3", "v1.70.3").
		file("v1.70.3", "version.json", `{"version":"v1.70.3","disruptions":{"1.70":["ingress","k8s"],"1.69":["old"]},"requirements":{"k8s":"1.27.0","autoK8sVersion":"1.31"},"canary":{}}`).
		file("v1.70.3", "changelog.yaml", "zeta:\n  fixes:\n  - {summary: 'Fix: it', pull_request: 12345678901}\nalpha: {1: yes}\nday: 2024-01-02\n")
	const want = `---
apiVersion: deckhouse.io/v1alpha1
approved: false
kind: DeckhouseRelease
metadata:
  name: v1.70.3
spec:
  changelog:
    alpha:
      "1": true
    day: "2024-01-02"
    zeta:
      fixes:
      - pull_request: 12345678901
        summary: 'Fix: it'
  changelogLink: https://github.com/deckhouse/deckhouse/releases/tag/v1.70.3
  disruptions:
  - ingress
  - k8s
  requirements:
    autoK8sVersion: "1.31"
    k8s: 1.27.0
  version: v1.70.3
status:
  approved: false
  message: ""
  transitionTime: "0001-01-01T00:00:00Z"
`
	text, notes := describe(t, cat, Policy{})
	if diff := cmp.Diff(want, text); diff != "" || len(notes) > 0 {
		t.Errorf("notes %v, text (-want +got):\n%s", notes, diff)
	}
	if !strings.HasPrefix(text, ReleasesHead) {
		t.Errorf("the text does not begin with %q", ReleasesHead)
	}
	// S6.8.3: of another minor, of none; an empty log.
	for _, version := range []string{`{"disruptions":{"1.7":["x"]}}`, `{"disruptions":{"1.70":[]},"requirements":{}}`, `{}`} {
		cat.Files[0].Text = "{}"
		cat.Files[1].Text = version
		for _, f := range []string{"disruptions", "requirements", "changelog:"} {
			if text, _ := describe(t, cat, Policy{}); strings.Contains(text, f) || names([]byte(text)) != "v1.70.3" {
				t.Errorf("%s: %s is not left out:\n%s", version, f, text)
			}
		}
	}
}

// S9 rows 29 and 94, S6.8.1: the releases that are selected, whoever is the policy,
// sorted as versions.
func TestReleasesFollowTheSelection(t *testing.T) {
	const nine = "alpha=v1.10.0 beta=v1.9.2 early-access=v1.9.2 stable=v1.9.2 rock-solid=v1.8.0"
	for _, tc := range []struct {
		name   string
		cat    *catalog
		policy Policy
		want   string
	}{
		{"default", platformCatalog(fiveChannels, fiveTags), Policy{}, sortedTags},
		{"as versions, not as text", platformCatalog(nine, "v1.8.0 v1.8.5 v1.9.2 v1.10.0"), Policy{}, "v1.8.0 v1.8.5 v1.9.2 v1.10.0"},
		{"since", platformCatalog(fiveChannels, fiveTags), Policy{SinceVersion: "1.71"}, "v1.71.0 v1.72.10"},
		{"range", platformCatalog(fiveChannels, fiveTags), Policy{IncludePlatform: "~1.69.0"}, "v1.69.0"},
		{"one spelled without v", platformCatalog("lts=1.69.0", "1.69.0"), Policy{}, "v1.69.0"},
		{"pinned (S3.7.6)", platformCatalog(fiveChannels, fiveTags), Policy{DeckhouseTag: "v1.69.0"}, ""},
		{"pinned channel (S3.7.6)", platformCatalog(fiveChannels, fiveTags), Policy{DeckhouseTag: "stable"}, ""},
		{"exact include (S3.7.6)", platformCatalog(fiveChannels, fiveTags), Policy{IncludePlatform: "=v1.69.0"}, ""},
		{"no platform", platformCatalog(fiveChannels, fiveTags), Policy{NoPlatform: true}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// What a policy needs is what discover reads: both find it alike.
			tc.policy.Source = testSource
			scope, err := tc.policy.Scope()
			if err != nil {
				t.Fatal(err)
			}
			read := scope.ReleaseTags(tc.cat.CatalogSpec)
			text, notes := describe(t, tc.cat.described(read...), tc.policy)
			if diff := cmp.Diff(tc.want, names([]byte(text))); diff != "" || len(notes) > 0 {
				t.Errorf("notes %v, releases (-want +got):\n%s", notes, diff)
			}
			if tc.want == "" && len(read) > 0 {
				t.Errorf("nobody needs the files of %v", read)
			}
		})
	}
}

// A Catalog made without a policy serves a select that overrides suspensions.
func TestReleaseTagsOfSuspendedChannels(t *testing.T) {
	cat := platformCatalog(strings.Replace(fiveChannels, "1.72.10", "1.72.10!", 1), fiveTags)
	scope, err := Policy{Source: testSource}.Scope()
	if err != nil {
		t.Fatal(err)
	}
	got := scope.ReleaseTags(cat.CatalogSpec)
	slices.Sort(got)
	if diff := cmp.Diff(strings.Fields(sortedTags), got); diff != "" {
		t.Errorf("releases to read (-want +got):\n%s", diff)
	}
	for name, cat := range map[string]*catalog{"no channels": platformCatalog("", ""), "no list": platformCatalog(fiveChannels, fiveTags).unlisted()} {
		if got := scope.ReleaseTags(cat.CatalogSpec); len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// S9 rows 30 and 94, S6.8.4: one broken release is left out with a word about it,
// and only that one.
func TestBrokenReleases(t *testing.T) {
	anchors := "a: &a " + strings.Repeat("x", 1<<17) + "\nb: [" + strings.Repeat("*a,", 1000) + "]\n"
	laughs := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		laughs += fmt.Sprintf("%[1]c: &%[1]c [*%[2]c,*%[2]c,*%[2]c,*%[2]c,*%[2]c,*%[2]c,*%[2]c,*%[2]c,*%[2]c,*%[2]c]\n", 'b'+i, 'a'+i)
	}
	for _, tc := range []struct{ name, version, changelog, want string }{
		{"files not read", "-", "-", "the catalog does not have the files of its image"},
		{"no change log", "{}", "-", "no readable changelog.yaml"},
		{"no version.json", "-", "{}", "no readable version.json"},
		{"version.json is no JSON", "<html>", "{}", "version.json: "},
		{"requirements of another type", `{"requirements":{"k8s":1.27}}`, "{}", "version.json: "},
		{"disruptions of another type", `{"disruptions":["x"]}`, "{}", "version.json: "},
		{"change log is no YAML", "{}", "a: [", "changelog.yaml: "},
		{"change log is no map", "{}", "[a]", "not a map"},
		{"change log is text", "{}", "text", "not a map"},
		{"a key twice", "{}", "a: 1\na: 2", "already set"},
		{"a key twice in JSON", "{}", "1: a\n'1': b", "stands twice"},
		{"a key that is none", "{}", "? [a]\n: b", "changelog.yaml: "},
		{"null as a key", "{}", "null: a", "cannot be a key"},
		{"not a number", "{}", "a: .nan", "NaN"},
		{"binary", "{}", "a: !!binary /w==", "binary"},
		{"large aliases", "{}", anchors, "more than 4194304 bytes"},
		{"billion laughs", "{}", laughs, "changelog.yaml: "},
		{"an alias of itself", "{}", "a: &a [*a]", "changelog.yaml: "},
		{"deep", "{}", "a: " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "nested more than 32 deep"},
		{"deeper", "{}", "a: " + strings.Repeat("{a: ", 20000) + strings.Repeat("}", 20000), "changelog.yaml: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cat := platformCatalog(fiveChannels, fiveTags).described("v1.68.0", "v1.69.0", "v1.71.0", "v1.72.10")
			for name, text := range map[string]string{"version.json": tc.version, "changelog.yaml": tc.changelog} {
				if text != "-" {
					cat.file("v1.70.0", name, text)
				}
			}
			text, notes := describe(t, cat, Policy{})
			if got := names([]byte(text)); got != "v1.68.0 v1.69.0 v1.71.0 v1.72.10" {
				t.Errorf("releases %s", got)
			}
			if len(notes) != 1 || notes[0].Subject != "release v1.70.0" || !strings.Contains(notes[0].Text, tc.want) {
				t.Errorf("notes %.300v, want one with %q", notes, tc.want)
			}
		})
	}
	if text, notes := describe(t, platformCatalog("lts=v1.70.0", "v1.70.0"), Policy{}); text != "" || len(notes) != 1 {
		t.Errorf("nothing can be described: %q, notes %v", text, notes)
	}
	// What select refuses has no list either.
	suspended := platformCatalog("lts=v1.70.0!", "v1.70.0").described("v1.70.0")
	if text, _, err := Releases(suspended.CatalogSpec, Policy{}); err == nil || text != nil {
		t.Errorf("a suspended channel: %q, %v", text, err)
	}
}

// S3.6.7, N21: what discover has read is wanted by digest, under whatever name at
// the target; what it has not read, by tag.
func TestSelectLocksWhatWasRead(t *testing.T) {
	read := func(c *catalog) *catalog {
		for i := range c.Channels {
			ch := &c.Channels[i]
			ch.Digest = oci.DigestOf([]byte(ch.Component + ":" + ch.Name))
		}
		return c
	}
	full := func() *catalog {
		c := newCatalog().row("release-channel", fiveTags).channels(ComponentPlatform, fiveChannels+" lts=v1.68.0").described("v1.70.0")
		return read(c.addOn(Modules, "m", "stable=v2.0.0", "v2.0.0").addOn(Packages, "p", "alpha=v3.0.0", "v3.0.0"))
	}
	for _, tc := range []struct {
		name   string
		policy Policy
		want   []string // path:tag<reference read
	}{
		{"default", Policy{}, []string{
			"modules/m/release:stable<module/m:stable",
			"packages/p/version:alpha<package/p:alpha",
			"release-channel:alpha<platform:alpha", "release-channel:beta<platform:beta", "release-channel:early-access<platform:early-access",
			"release-channel:lts<platform:lts", "release-channel:rock-solid<platform:rock-solid", "release-channel:stable<platform:stable",
			"release-channel:v1.70.0<v1.70.0",
		}},
		{"no packages: their channels are listed", onlyPlatform(Policy{IncludePlatform: "~1.72.0"}), []string{
			"packages/p/version:alpha<package/p:alpha", "release-channel:alpha<platform:alpha",
		}},
		{"a pinned channel has five names", onlyPlatform(Policy{DeckhouseTag: "stable"}), []string{
			"packages/p/version:alpha<package/p:alpha",
			"release-channel:alpha<platform:stable", "release-channel:beta<platform:stable", "release-channel:early-access<platform:stable",
			"release-channel:rock-solid<platform:stable", "release-channel:stable<platform:stable",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cat := full()
			by := map[oci.Digest]string{}
			for _, c := range cat.Channels {
				by[c.Digest] = c.Component + ":" + c.Name
			}
			for _, f := range cat.Files {
				by[f.Digest] = f.Tag
			}
			spec, _ := selectAll(t, cat, withoutCLI(tc.policy))
			var got []string
			for _, im := range spec.Images {
				if im.Digest != "" {
					got = append(got, im.Path+":"+im.Tag+"<"+by[im.Digest])
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("locked images (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzChangelog(f *testing.F) {
	f.Add("core: {fixes: [a]}")
	f.Add("a: &a [x]\nb: {<<: *a}")
	f.Add("? - a\n: b")
	f.Fuzz(func(t *testing.T, text string) {
		changelog, err := parseChangelog(text)
		if err != nil && changelog != nil {
			t.Error("a log came with an error")
		}
	})
}
