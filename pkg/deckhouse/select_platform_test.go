package deckhouse

import (
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"

	"github.com/google/go-cmp/cmp"
)

const (
	fiveChannels = "alpha=v1.72.10 beta=v1.71.0 early-access=v1.70.0 stable=v1.69.0 rock-solid=v1.68.0"
	fiveTags     = "v1.72.10 v1.71.0 v1.70.0 v1.69.0 v1.68.0"
	allFive      = "alpha beta early-access rock-solid stable"
)

func platformCatalog(channels, tags string) *catalog {
	return newCatalog().withoutPackages().row("release-channel", tags).channels(ComponentPlatform, channels)
}

// releaseTags are the version tags and channels in release-channel.
func releaseTags(spec contract.SelectionSpec) (versions, channels string) {
	return versionsAndChannels(spec, "release-channel")
}

// installChannels says, as at does, that each of the channels kept is read from
// its version, as versions spells it.
func installChannels(channels, kept, versions string) string {
	version := map[string]string{}
	for pair := range strings.FieldsSeq(channels) {
		name, v, _ := strings.Cut(strings.TrimSuffix(pair, "!"), "=")
		for tag := range strings.FieldsSeq(versions) {
			if strings.TrimPrefix(tag, "v") == strings.TrimPrefix(v, "v") {
				version[name] = tag
			}
		}
	}
	var out []string
	for name := range strings.FieldsSeq(kept) {
		out = append(out, name+"<"+version[name])
	}
	return strings.Join(out, " ")
}

// versionsAndChannels are the tags that land at path.
func versionsAndChannels(spec contract.SelectionSpec, path string) (versions, channels string) {
	var v, c []string
	for tag := range strings.FieldsSeq(at(spec, path)) {
		name, _, _ := strings.Cut(strings.TrimSuffix(tag, "?"), "<")
		if IsChannel(name) {
			c = append(c, tag)
		} else {
			v = append(v, tag)
		}
	}
	return strings.Join(v, " "), strings.Join(c, " ")
}

// S3.5.2, S3.6.2, S3.6.5, S3.6.6, S9 rows 21 and 60.
func TestPlatformDiscovery(t *testing.T) {
	for _, tc := range []struct {
		name, channels, tags string
		policy               Policy
		versions, kept       string
	}{
		// The worked table of S3.6.
		{"none", fiveChannels, fiveTags, Policy{}, "v1.68.0 v1.69.0 v1.70.0 v1.71.0 v1.72.10", allFive},
		{"since 1.67.0", fiveChannels, fiveTags, Policy{SinceVersion: "1.67.0"}, "v1.68.0 v1.69.0 v1.70.0 v1.71.0 v1.72.10", allFive},
		{"since 1.69.0 (S9 row 59)", fiveChannels, fiveTags, Policy{SinceVersion: "1.69.0"}, "v1.69.0 v1.70.0 v1.71.0 v1.72.10", "alpha beta early-access stable"},
		{"since 1.70.0", fiveChannels, fiveTags, Policy{SinceVersion: "v1.70"}, "v1.70.0 v1.71.0 v1.72.10", "alpha beta early-access"},
		{"since 1.72.10", fiveChannels, fiveTags, Policy{SinceVersion: "1.72.10"}, "v1.72.10", "alpha"},
		{">=1.69 <=1.71", fiveChannels, fiveTags, Policy{IncludePlatform: ">=1.69 <=1.71"}, "v1.69.0 v1.70.0 v1.71.0", "beta early-access stable"},
		{"~1.69.0", fiveChannels, fiveTags, Policy{IncludePlatform: "~1.69.0"}, "v1.69.0", "stable"},
		{">=1.69.0", fiveChannels, fiveTags, Policy{IncludePlatform: ">=1.69.0"}, "v1.69.0 v1.70.0 v1.71.0 v1.72.10", "alpha beta early-access stable"},
		{"patches", fiveChannels, fiveTags + " v1.70.1 v1.70.2", Policy{}, "v1.68.0 v1.69.0 v1.70.0 v1.70.2 v1.71.0 v1.72.10", allFive},

		{"outside the window", fiveChannels, fiveTags + " v1.67.9 v1.72.11 v1.73.0 alpha v1.70.0.att", Policy{}, "v1.68.0 v1.69.0 v1.70.0 v1.71.0 v1.72.10", allFive},
		{"a constraint knows no window (S3.6.3)", fiveChannels, fiveTags + " v1.67.0 v1.67.9", Policy{IncludePlatform: ">=1.67.0 <1.69.0"}, "v1.67.0 v1.67.9 v1.68.0", "rock-solid"},
		{"pre-releases stay out", fiveChannels, fiveTags + " v1.70.1-rc.1 v1.71.1-rc.2", Policy{}, "v1.68.0 v1.69.0 v1.70.0 v1.71.0 v1.72.10", allFive},
		{"a channel at a pre-release (S3.3.4)", strings.Replace(fiveChannels, "1.72.10", "1.73.0-rc.1", 1), fiveTags + " v1.73.0-rc.1",
			Policy{}, "v1.68.0 v1.69.0 v1.70.0 v1.71.0 v1.72.10 v1.73.0-rc.1", allFive},
		{"CSE: lts alone (S11.2.2)", "lts=v1.67.3", "lts v1.67.3 v1.67.2", Policy{}, "v1.67.3", "lts"},
		{"lts ahead of rock-solid", fiveChannels + " lts=v1.69.5", fiveTags + " v1.69.5", Policy{}, "v1.68.0 v1.69.0 v1.69.5 v1.70.0 v1.71.0 v1.72.10", "alpha beta early-access lts rock-solid stable"},
		{"lts behind rock-solid (S3.6.4)", fiveChannels + " lts=v1.60.5", fiveTags + " v1.60.5", Policy{}, "v1.68.0 v1.69.0 v1.70.0 v1.71.0 v1.72.10", allFive},
		{"lts behind rock-solid, constrained (S3.6.4)", fiveChannels + " lts=v1.60.5", fiveTags + " v1.60.5", Policy{IncludePlatform: "~1.60.0"}, "v1.60.5", ""},
		{"alpha without rock-solid has no floor (S9 row 64)", "lts=v1.60.1 alpha=v1.62.0", "v1.59.0 v1.60.1 v1.61.0 v1.62.0", Policy{}, "v1.59.0 v1.60.1 v1.61.0 v1.62.0", "alpha lts"},
		{"re-pull of a pinned mirror (S11.2.3)", "alpha=v1.69.0 beta=v1.69.0 early-access=v1.69.0 stable=v1.69.0 rock-solid=v1.69.0", "v1.69.0 " + allFive, Policy{}, "v1.69.0", allFive},
		{"tags without v (S9 row 65)", strings.ReplaceAll(fiveChannels, "=v", "="), strings.ReplaceAll(fiveTags, "v", ""), Policy{SinceVersion: "1.71.0"}, "1.71.0 1.72.10", "alpha beta"},
		{"channels without v", strings.ReplaceAll(fiveChannels, "=v", "="), fiveTags, Policy{SinceVersion: "1.71.0"}, "v1.71.0 v1.72.10", "alpha beta"},
		{"suspended, overridden", strings.Replace(fiveChannels, "1.72.10", "1.72.10!", 1), fiveTags, Policy{IgnoreSuspend: true, SinceVersion: "1.72.10"}, "v1.72.10", "alpha"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec, _ := selectAll(t, platformCatalog(tc.channels, tc.tags), onlyPlatform(tc.policy))
			versions, channels := releaseTags(spec)
			if diff := cmp.Diff([]string{tc.versions, tc.kept}, []string{versions, channels}); diff != "" {
				t.Errorf("release-channel (-want +got):\n%s", diff)
			}
			for path, optional := range map[string]string{"": "", "install": "", "install-standalone": "?"} {
				want := strings.Join(strings.Fields(tc.versions), optional+" ") + optional
				got, installers := versionsAndChannels(spec, path)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%q (-want +got):\n%s", path, diff)
				}
				// S3.9.3 and S3.9.4: the channels of release-channel, in install alone.
				named := ""
				if path == "install" {
					named = installChannels(tc.channels, tc.kept, tc.versions)
				}
				if diff := cmp.Diff(named, installers); diff != "" {
					t.Errorf("channels of %q (-want +got):\n%s", path, diff)
				}
			}
		})
	}
}

// S3.7.3.
func TestPlatformRefuses(t *testing.T) {
	suspend := func(names ...string) string {
		channels := fiveChannels + " lts=v1.65.0"
		for _, n := range names {
			_, rest, _ := strings.Cut(channels, n+"=")
			version, _, _ := strings.Cut(rest, " ")
			channels = strings.Replace(channels, n+"="+version, n+"="+version+"!", 1)
		}
		return channels
	}
	for _, tc := range []struct {
		name, channels, tags string
		policy               Policy
		text, hint           string
	}{
		{"no channels (S3.8.3)", "", "v1.70.0", Policy{}, "no release channels", "--deckhouse-tag"},
		{"a default channel is missing (S3.5.2)", "alpha=v1.72.0 stable=v1.70.0", fiveTags, Policy{}, `"beta", "early-access", "rock-solid"`, "--deckhouse-tag"},
		{"one is suspended", suspend("alpha"), fiveTags, Policy{}, `channel "alpha"`, "--ignore-suspend"},
		{"several are suspended", suspend("stable", "alpha"), fiveTags, Policy{}, `channels "alpha", "stable"`, "--ignore-suspend"},
		{"a suspended one outside the constraint (S3.6.1)", suspend("alpha"), fiveTags, Policy{IncludePlatform: "~1.69.0"}, `"alpha"`, "--ignore-suspend"},
		{"a suspended lts exists (S3.5.2)", suspend("lts"), fiveTags, Policy{}, `"lts"`, "--ignore-suspend"},
		{"nothing in the constraint", fiveChannels, fiveTags, Policy{IncludePlatform: "^2.0.0"}, `"^2.0.0"`, "alpha v1.72.10"},
		{"nothing since", fiveChannels, fiveTags, Policy{SinceVersion: "1.99.0"}, "1.99.0", "alpha v1.72.10"},

		{"pinned to a suspended channel", suspend("stable"), fiveTags, Policy{DeckhouseTag: "stable"}, `channel "stable"`, "--ignore-suspend"},
		{"pinned to the version of a suspended channel", suspend("stable"), fiveTags, Policy{DeckhouseTag: "v1.69.0"}, `channel "stable"`, "--ignore-suspend"},
		{"pinned to a missing channel (S3.8.2, S9 row 24)", fiveChannels, fiveTags, Policy{DeckhouseTag: "lts"}, `"lts"`, "stable v1.69.0"},
		{"pinned to a channel where there are none", "", "", Policy{DeckhouseTag: "stable"}, `"stable"`, "custom tag"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := Select(platformCatalog(tc.channels, tc.tags).CatalogSpec, onlyPlatform(tc.policy))
			if fault.KindOf(err) != fault.Policy || !strings.Contains(err.Error(), tc.text) || !strings.Contains(fault.HintOf(err), tc.hint) {
				t.Errorf("got %v (%s), want a policy fault with %q and the hint %q", err, fault.HintOf(err), tc.text, tc.hint)
			}
		})
	}
	cat := platformCatalog(fiveChannels, fiveTags).row("", "").unlisted()
	if _, _, err := Select(cat.CatalogSpec, onlyPlatform(Policy{DeckhouseTag: "v1.50.0"})); fault.KindOf(err) != fault.Policy {
		t.Errorf("pinned to what discover did not find: %v", err)
	}
}

// S3.7.1, S3.7.2, S3.7.4, S3.7.5, S9 rows 15 and 16.
func TestPlatformPinned(t *testing.T) {
	aliases := func(from, optional string) string {
		var out []string
		for name := range strings.FieldsSeq(allFive) {
			if name != from {
				name += "<" + from
			}
			out = append(out, name+optional)
		}
		return strings.Join(out, " ")
	}
	for _, tc := range []struct {
		name, channels, tags, root string
		policy                     Policy
		version, kept              string
		install                    string
	}{
		// The worked table of S3.7; all five channels become aliases (S3.9.1).
		{"a version", fiveChannels, "", "v1.72.10", Policy{DeckhouseTag: "v1.72.10"}, "v1.72.10", aliases("v1.72.10", "?"), "v1.72.10"},
		{"a channel", fiveChannels, "", "", Policy{DeckhouseTag: "stable"}, "v1.69.0", aliases("stable", ""), "v1.69.0"},
		{"a custom tag", fiveChannels, "", "pr12345", Policy{DeckhouseTag: "pr12345"}, "pr12345", aliases("pr12345", "?"), "pr12345?"},
		{"lts", fiveChannels + " lts=v1.65.0", "", "", Policy{DeckhouseTag: "lts"}, "v1.65.0", "alpha<lts beta<lts early-access<lts lts rock-solid<lts stable<lts", "v1.65.0"},
		{"the version of lts", fiveChannels + " lts=v1.65.0", "", "v1.65.0", Policy{DeckhouseTag: "v1.65.0"}, "v1.65.0",
			strings.Replace(aliases("v1.65.0", "?"), "rock", "lts rock", 1), "v1.65.0"},
		{"a channel that lts agrees with", fiveChannels + " lts=v1.69.0", "", "", Policy{DeckhouseTag: "stable"}, "v1.69.0",
			"alpha<stable beta<stable early-access<stable lts rock-solid<stable stable", "v1.69.0"},
		{"a channel that a suspended lts agrees with", fiveChannels + " lts=v1.69.0!", "", "", Policy{DeckhouseTag: "stable"}, "v1.69.0", aliases("stable", ""), "v1.69.0"},
		{"exact include (S3.7)", fiveChannels, "", "v1.70.0", Policy{IncludePlatform: "=v1.70.0+stable"}, "v1.70.0", aliases("v1.70.0", "?"), "v1.70.0"},
		{"the other spelling (S9 row 66)", fiveChannels, "", "v1.71.2", Policy{DeckhouseTag: "1.71.2"}, "v1.71.2", aliases("v1.71.2", "?"), "v1.71.2"},
		{"an unrelated suspension (S9 row 6)", strings.Replace(fiveChannels, "1.72.10", "1.72.10!", 1), "", "v1.70.0", Policy{DeckhouseTag: "v1.70.0"}, "v1.70.0", aliases("v1.70.0", "?"), "v1.70.0"},
		{"no channels at all (S11.2.1)", "", "", "pr123", Policy{DeckhouseTag: "pr123"}, "pr123", aliases("pr123", "?"), "pr123?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cat := platformCatalog(tc.channels, tc.tags).unlisted().row("", tc.root).unlisted()
			spec, _ := selectAll(t, cat, onlyPlatform(tc.policy))
			versions, channels := releaseTags(spec)
			install, installers := versionsAndChannels(spec, "install")
			// S3.9.3: the five, optional where the install image itself is.
			named := aliases(tc.version, strings.TrimPrefix(tc.install, tc.version))
			want := []string{tc.version + "?", tc.kept, tc.version, tc.install, named, tc.version + "?"}
			got := []string{versions, channels, at(spec, ""), install, installers, at(spec, "install-standalone")}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("release-channel, channels, root, install, its channels, install-standalone (-want +got):\n%s", diff)
			}
			for _, im := range images(spec, "install") {
				if IsChannel(im.Tag) && im.Needs != "release-channel:"+im.Tag {
					t.Errorf("install:%s needs %q, not its channel", im.Tag, im.Needs)
				}
			}
		})
	}
}

// A catalog made without a policy serves a pin too.
func TestPlatformPinnedOverFullCatalog(t *testing.T) {
	spec, notes := selectAll(t, platformCatalog(fiveChannels, fiveTags), onlyPlatform(Policy{DeckhouseTag: "1.70.0"}))
	if got := at(spec, ""); got != "v1.70.0" || len(notes) > 0 {
		t.Errorf("an announced version: %s, notes %v", got, notes)
	}
	spec, notes = selectAll(t, platformCatalog(fiveChannels, fiveTags), onlyPlatform(Policy{DeckhouseTag: "pr9"}))
	if _, channels := releaseTags(spec); at(spec, "") != "pr9" || at(spec, "install") != "pr9?" || channels != "" || len(notes) != 1 {
		t.Errorf("an unannounced tag: %s, install %s, channels %q, notes %v; want no channels and a note", at(spec, ""), at(spec, "install"), channels, notes)
	}
}

// S5.4.2, S5.4.3, S5.4.4, S5.4.5, S5.4.8, S5.4.9, S1.7.2, S9 rows 17 and 95:
// which image must be there, and which leads on.
func TestPlatformImages(t *testing.T) {
	vex := []contract.Link{{
		Kind: contract.LinkAttached, Templates: []string{"{digest}.att", "{tag}.att"},
		Repository: testSource, Optional: true,
	}}
	links := func(attached []contract.Link) []contract.Link {
		return []contract.Link{
			{Kind: contract.LinkTags, File: "deckhouse/candi/images_tags.json", Repository: testSource, Links: attached},
			{Kind: contract.LinkDigests, File: "deckhouse/candi/images_digests.json", Unless: "deckhouse/candi/images_tags.json",
				Required: true, Repository: testSource, Links: attached},
		}
	}
	for _, skip := range []bool{false, true} {
		policy := onlyPlatform(Policy{SinceVersion: "1.72.10", SkipVEX: skip})
		spec, _ := selectAll(t, platformCatalog(fiveChannels, fiveTags), policy)
		attached := vex
		if skip {
			attached = nil
		}
		image := func(path, tag string, phase int, reason string) contract.SelectedImage {
			repo := testSource
			if path != "" {
				repo += "/" + path
			}
			return contract.SelectedImage{Source: repo + ":" + tag, Archive: "platform", Path: path, Tag: tag, Phase: phase, Reason: reason}
		}
		const reason = "channel alpha, latest patch of 1.72"
		want := []contract.SelectedImage{
			image("", "v1.72.10", contract.PhaseVersion, reason),
			image("install", "alpha", contract.PhaseChannel, "channel at v1.72.10"),
			image("install", "v1.72.10", contract.PhaseVersion, reason),
			image("install-standalone", "v1.72.10", contract.PhaseVersion, reason),
			image("release-channel", "alpha", contract.PhaseChannel, "channel at v1.72.10"),
			image("release-channel", "v1.72.10", contract.PhaseVersion, reason),
		}
		want[1].Source, want[1].Needs = testSource+"/install:v1.72.10", "release-channel:alpha"
		want[2].Links = links(attached) // once for all tags of the image
		want[3].Optional = true
		if diff := cmp.Diff(want, spec.Images); diff != "" {
			t.Errorf("skip VEX %v (-want +got):\n%s", skip, diff)
		}
		if diff := cmp.Diff([]contract.Archive{{Name: "platform", Layouts: []string{"", "install", "install-standalone", "release-channel"}}}, spec.Archives); diff != "" {
			t.Errorf("archives (-want +got):\n%s", diff)
		}
	}
}
