package plugin

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/selection"

	"github.com/google/go-cmp/cmp"
)

// source builds what is published, a line each:
//
//	NAME TAG: needs
//
// with needs separated by ";": "pg >=1.0.0" is a mandatory module, "if pg ..." a
// conditional one, "any GROUP pg ..." a member of a group, "plugin db ..." and
// "if plugin db ..." plugins, "deckhouse >=1.80" and "none GROUP pg" as they say,
// and "broken" a contract that cannot be read.
func source(t *testing.T, text string) map[string]Published {
	t.Helper()
	out := map[string]Published{}
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		head, needs, _ := strings.Cut(line, ":")
		name, tag, ok := strings.Cut(strings.TrimSpace(head), " ")
		v, isVersion := selection.ParseVersion(tag)
		if !ok || !isVersion {
			t.Fatalf("line %q", line)
		}
		rel := Release{Version: v}
		for need := range strings.SplitSeq(needs, ";") {
			if need = strings.TrimSpace(need); need == "broken" {
				rel.Problem = "it is broken"
			} else if need != "" {
				rel.Requirements = append(rel.Requirements, requirement(need))
			}
		}
		p := out[name]
		p.Listed = true
		p.Releases = append(p.Releases, rel)
		out[name] = p
	}
	return out
}

func requirement(need string) contract.Requirement {
	q := contract.Requirement{Kind: NeedsModule, Mode: contract.Mandatory}
	words := strings.Fields(need)
	if words[0] == "if" {
		q.Mode, words = contract.Conditional, words[1:]
	}
	switch words[0] {
	case "any":
		q.Mode, q.Group, words = contract.AnyOf, words[1], words[2:]
	case "none":
		q.Mode, q.Group, words = contract.NoneOf, words[1], words[2:]
	case "plugin":
		q.Kind, words = NeedsPlugin, words[1:]
	case "deckhouse", "kubernetes":
		q.Kind, q.Constraint = words[0], strings.Join(words[1:], " ")
		return q
	}
	q.Name, q.Constraint = words[0], strings.Join(words[1:], " ")
	return q
}

// bundle reads "pg 1.0.0 1.5.0, ceph 2.0.0".
func bundle(text string) map[string][]selection.Version {
	out := map[string][]selection.Version{}
	for part := range strings.SplitSeq(text, ",") {
		if words := strings.Fields(part); len(words) > 0 {
			out[words[0]] = selection.ParseVersions(words[1:])
		}
	}
	return out
}

// problem is what one case rests on.
type problem struct {
	plugins  string
	modules  string
	platform string
	always   []string
	includes []string
	pinsOnly bool
}

func (p problem) input(t *testing.T) Input {
	t.Helper()
	includes, err := selection.ParseChoices(p.includes)
	if err != nil {
		t.Fatal(err)
	}
	published := source(t, p.plugins)
	in := Input{
		Modules: bundle(p.modules), Platform: selection.ParseVersions(strings.Fields(p.platform)),
		Always: p.always, Includes: includes, Published: published, PinsOnly: p.pinsOnly,
	}
	for name := range published {
		in.Catalogue = append(in.Catalogue, name)
	}
	return in
}

// view lists what was chosen, "name tag tag", and the names of what was passed
// over.
func view(r Result) (chosen []string, skipped []string) {
	for _, s := range r.Selected {
		if n := len(chosen); n > 0 && strings.HasPrefix(chosen[n-1], s.Name+" ") {
			chosen[n-1] += " " + s.Tag
			continue
		}
		chosen = append(chosen, s.Name+" "+s.Tag)
	}
	for _, n := range r.Notes {
		if n.Skipped {
			skipped = append(skipped, n.Name)
		}
	}
	return chosen, skipped
}

// The worked cases of S5.10, and one case or more for each of its rules.
func TestResolve(t *testing.T) {
	for _, tc := range []struct {
		name string
		problem
		want    string   // "mgr v2 v1, db v1"
		skipped string   // names
		notes   []string // a part of each note, in order; nil is not compared
	}{
		{"S5.10 row 1: a version for each version of a module", problem{
			plugins: "mgr 1.1.0: pg >=1.0.0 <1.5.0\nmgr 1.2.0: pg >=1.5.0", modules: "pg 1.0.0 1.5.0 1.10.0"},
			"mgr 1.2.0 1.1.0", "", []string{}},
		{"S5.10 row 2: a dependency", problem{
			plugins: "mgr 1.0.0: pg; plugin db >=0.9.0\ndb 0.8.0:\ndb 0.9.1:", modules: "pg 1.5.0"},
			"db 0.9.1, mgr 1.0.0", "", []string{}},
		{"S5.10 row 3: disjoint ranges of one dependency", problem{
			plugins: "a 1.0.0: m1; plugin shared <=1.0.0\nb 1.0.0: m1; plugin shared >=2.0.0\nshared 1.0.0:\nshared 2.1.0:", modules: "m1 1.0.0"},
			"a 1.0.0, b 1.0.0, shared 2.1.0 1.0.0", "", []string{}},
		{"S5.10 row 4: one version for overlapping ranges", problem{
			plugins: "a 1.0.0: m1; plugin shared >=1.0\nb 1.0.0: m1; plugin shared >=1.2\nshared 1.3.0:", modules: "m1 1.0.0"},
			"a 1.0.0, b 1.0.0, shared 1.3.0", "", []string{}},
		{"S5.10 row 5: a cycle", problem{
			plugins: "a 1.0.0: m1; plugin b\nb 1.0.0: plugin a", modules: "m1 1.0.0"},
			"", "a", []string{"a cycle: a > b > a"}},
		{"S5.10 row 6: relevance is what the newest contract says", problem{
			plugins: "mgr 2.0.0:\nmgr 1.2.0: pg", modules: "pg 1.0.0"},
			"", "", []string{}},
		{"S5.10 row 7: a broken contract is passed over (S1.8.6, S5.10.9)", problem{
			plugins: "mgr 1.3.0: broken\nmgr 1.2.0: pg", modules: "pg 1.0.0"},
			"mgr 1.2.0", "", []string{"1.3.0 is passed over: it is broken"}},
		{"S5.10 row 8: the platform's version", problem{
			plugins: "mgr 1.2.0: pg; deckhouse >=1.80\nmgr 1.1.0: pg", modules: "pg 1.0.0", platform: "v1.71.3"},
			"mgr 1.1.0", "", []string{}},
		{"S5.10 row 9, S9 row 47: a group beside a mandatory module counts", problem{
			plugins: "mgr 1.0.0: pg >=1.0.0; any storage pg >=2.0.0; any storage ceph", modules: "pg 1.5.0"},
			"", "mgr", []string{"needs one of module pg >=2.0.0, module ceph (anyOf storage)"}},
		{"S5.10 row 10: marks of builds are no pre-releases (S5.10.5)", problem{
			plugins: "mgr 1.0.0: pg >=1.0.0", modules: "pg 1.2.3-dev"},
			"mgr 1.0.0", "", []string{}},
		{"S5.10 row 11: what was rejected leaves nothing behind (S5.10.7)", problem{
			plugins: "mgr 2.0.0: pg; plugin dep-a; plugin ghost\nmgr 1.0.0: pg\ndep-a 1.0.0:", modules: "pg 1.0.0"},
			"mgr 1.0.0", "", []string{}},
		{"S5.10 row 12, S9 row 47: a pin hides no range (S5.10.8)", problem{
			plugins: "foo 3.0.0:\nfoo 1.5.0:", includes: []string{"foo@=3.0.0", "foo@^1.0"}},
			"foo 3.0.0 1.5.0", "", []string{}},
		{"S5.10 row 13: pins come before what depends on them (S5.10.8)", problem{
			plugins: "p v1: plugin q >=1\nq v1.5:\nq v1.9:", includes: []string{"p@=v1", "q@=v1.5"}},
			"p v1, q v1.5", "", []string{}},
		{"S5.10 row 13, other names", problem{
			plugins: "p v1.5:\np v1.9:\nq v1: plugin p >=1", includes: []string{"q@=v1", "p@=v1.5"}},
			"p v1.5, q v1", "", []string{}},
		{"S5.10 row 15: a plugin of its own", problem{
			plugins: "standalone 1.0.0:", modules: "m1 1.0.0"}, "", "", []string{}},

		{"S5.10.1: without modules nothing is chosen", problem{plugins: "mgr 1.0.0: pg"}, "", "", []string{}},
		{"S5.10.3: pre-releases are not chosen, marks of builds are", problem{
			plugins: "mgr 2.0.0-rc.1: pg\nmgr 1.9.0-main: pg\nmgr 1.8.0: pg", modules: "pg 1.0.0"}, "mgr 1.9.0-main", "", []string{}},
		{"S5.10.3: nothing but pre-releases", problem{plugins: "mgr 2.0.0-beta: pg", modules: "pg 1.0.0"}, "", "", []string{}},
		{"S5.10.4: conditional mentions do not count", problem{plugins: "mgr 1.0.0: if pg", modules: "pg 1.0.0"}, "", "", []string{}},
		{"S5.10.4: a member of a group counts", problem{plugins: "mgr 1.0.0: any g pg; any g ceph", modules: "ceph 1.0.0"}, "mgr 1.0.0", "", []string{}},
		{"S5.10.4: no readable contract", problem{plugins: "mgr 1.0.0: broken\nmgr 0.9.0: broken", modules: "pg 1.0.0"}, "", "mgr", []string{"1.0.0: it is broken"}},
		{"S5.10.4: relevance is that of the newest readable one", problem{
			plugins: "mgr 1.3.0: broken\nmgr 1.2.0:\nmgr 1.1.0: pg", modules: "pg 1.0.0"}, "", "", []string{}},
		{"S5.10.5: genuine pre-releases of modules stay what they are", problem{
			plugins: "mgr 1.0.0: pg >=1.0.0", modules: "pg 1.2.3-rc.1"}, "", "mgr", []string{"does not accept module pg 1.2.3-rc.1"}},
		{"S5.10.5: another mandatory module, at any version", problem{
			plugins: "mgr 1.0.0: pg; ceph ^2", modules: "pg 1.0.0, ceph 1.0.0 2.1.0"}, "mgr 1.0.0", "", []string{"no version fits module ceph 1.0.0"}},
		{"S5.10.5: another mandatory module is missing", problem{
			plugins: "mgr 1.0.0: pg; nfs ^2", modules: "pg 1.0.0, ceph 1.0.0"}, "", "mgr", []string{"needs module nfs ^2"}},
		{"S5.10.5: two groups", problem{
			plugins: "mgr 1.0.0: any g pg; any h ceph; any h nfs", modules: "pg 1.0.0, nfs 1.0.0"}, "mgr 1.0.0", "", []string{}},
		{"S5.10.5: without platform versions its range is not judged", problem{
			plugins: "mgr 1.0.0: pg; deckhouse >=1.80", modules: "pg 1.0.0"}, "mgr 1.0.0", "", []string{}},
		{"S5.10.5: one platform version is enough", problem{
			plugins: "mgr 1.0.0: pg; deckhouse >=1.80", modules: "pg 1.0.0", platform: "v1.71.3 v1.80.0"}, "mgr 1.0.0", "", []string{}},
		{"S5.10.5: kubernetes and noneOf are not judged", problem{
			plugins: "mgr 1.0.0: pg; kubernetes >=9; none g ceph", modules: "pg 1.0.0, ceph 1.0.0"}, "mgr 1.0.0", "", []string{}},
		{"S5.10.5: a range that cannot be read fits nothing", problem{
			plugins: "mgr 1.0.0: pg bob", modules: "pg 1.0.0"}, "", "mgr", []string{"does not accept"}},
		{"S5.10.6: some versions of the module are left alone", problem{
			plugins: "mgr 1.2.0: pg >=1.5.0", modules: "pg 1.0.0 1.5.0"}, "mgr 1.2.0", "", []string{"no version fits module pg 1.0.0"}},
		{"S5.10.6: the reason is that of the newest", problem{
			plugins: "mgr 1.2.0: pg; ceph\nmgr 1.1.0: pg; nfs", modules: "pg 1.0.0"}, "", "mgr", []string{"1.2.0: it needs module ceph"}},
		{"S5.10.7: a dependency must pass the gate", problem{
			plugins: "mgr 1.0.0: pg; plugin db\ndb 2.0.0: ceph\ndb 1.0.0:", modules: "pg 1.0.0"}, "db 1.0.0, mgr 1.0.0", "", []string{}},
		{"S5.10.7: dependencies of dependencies", problem{
			plugins: "a 1.0.0: m1; plugin b\nb 2.0.0: plugin ghost\nb 1.0.0: plugin c\nc 1.0.0:", modules: "m1 1.0.0"}, "a 1.0.0, b 1.0.0, c 1.0.0", "", []string{}},
		{"S5.10.7: the newest chosen version is taken again", problem{
			plugins: "a 1.0.0: m1; plugin s ~1.0.0\nb 1.0.0: m1; plugin s ~1.1.0\nc 1.0.0: m1; plugin s <2\ns 1.0.0:\ns 1.1.0:\ns 1.2.0:", modules: "m1 1.0.0"},
			"a 1.0.0, b 1.0.0, c 1.0.0, s 1.1.0 1.0.0", "", []string{}},
		{"S5.10.7: a dependency that is not published", problem{
			plugins: "mgr 1.0.0: pg; plugin ghost", modules: "pg 1.0.0"}, "", "mgr", []string{"plugin ghost, which is not published"}},
		{"S5.10.7: no such version of a dependency", problem{
			plugins: "mgr 1.0.0: pg; plugin db ^2\ndb 1.4.0:", modules: "pg 1.0.0"}, "", "mgr", []string{"no such version; the newest is 1.4.0"}},
		{"S5.10.7, S1.8.7: a dependency with no possible name", problem{
			plugins: "mgr 1.0.0: pg; plugin Up/Case", modules: "pg 1.0.0"}, "", "mgr", []string{"no name of a plugin"}},
		{"S5.10.7: a dependency with a range that cannot be read", problem{
			plugins: "mgr 1.0.0: pg; plugin db bob\ndb 1.0.0:", modules: "pg 1.0.0"}, "", "mgr", []string{"no range of versions"}},
		{"S5.10.7: a plugin that depends on itself", problem{
			plugins: "a 2.0.0: m1; plugin a <2\na 1.0.0: m1", modules: "m1 1.0.0"}, "a 1.0.0", "", []string{}},
		{"S5.9.3: a built-in command is the last resort", problem{
			plugins: "mgr 1.0.0: pg; plugin delivery-kit >=1", modules: "pg 1.0.0"},
			"mgr 1.0.0", "", []string{"d8 does with its own delivery-kit"}},
		{"S5.9.3: the published one is the better", problem{
			plugins: "mgr 1.0.0: pg; plugin delivery-kit >=1\ndelivery-kit 1.0.0:", modules: "pg 1.0.0"},
			"delivery-kit 1.0.0, mgr 1.0.0", "", []string{}},
		{"S5.9.3: what goes with the platform", problem{
			plugins: "system 1.1.0: deckhouse >=1.80\nsystem 1.0.0: plugin db\ndb 1.0.0:", platform: "v1.71.0", always: []string{"package", "system"}},
			"db 1.0.0, system 1.0.0", "package", []string{"d8 does with its own package"}},
		{"S5.10.8: the newest stable version of a bare name", problem{
			plugins: "foo 2.0.0-rc.1:\nfoo 1.5.0:\nfoo 1.4.0:", includes: []string{"foo"}}, "foo 1.5.0", "", []string{}},
		{"S5.10.8: bare, besides what was chosen", problem{
			plugins: "foo 1.5.0: pg ^9\nfoo 1.4.0: pg", modules: "pg 1.0.0", includes: []string{"foo"}},
			"foo 1.5.0 1.4.0", "", []string{"1.5.0: it needs module pg ^9, which the bundle does not hold; the target must have it"}},
		{"S5.10.8: each range its own version", problem{
			plugins: "foo 2.1.0:\nfoo 1.5.0:\nfoo 1.4.0:", includes: []string{"foo@^1.0", "foo@^2.0"}}, "foo 2.1.0 1.5.0", "", []string{}},
		{"S5.10.8: a pin within the range", problem{
			plugins: "foo 1.5.0:\nfoo 1.4.0:", includes: []string{"foo@^1.0", "foo@=1.4.0"}}, "foo 1.5.0 1.4.0", "", []string{}},
		{"S5.10.8: pins reach pre-releases, and either spelling", problem{
			plugins: "foo v2.0.0-rc.1:\nfoo v1.5.0:", includes: []string{"foo@=v2.0.0-rc.1", "foo@=1.5.0"}}, "foo v2.0.0-rc.1 v1.5.0", "", []string{}},
		{"S5.10.8, S3.1.8: a range that names a pre-release", problem{
			plugins: "foo 2.0.0-rc.2:\nfoo 1.5.0:", includes: []string{"foo@>=2.0.0-rc.1"}}, "foo 2.0.0-rc.2", "", []string{}},
		{"S5.10.8: the gate only warns of what was asked for", problem{
			plugins: "foo 1.0.0: ceph; plugin bar\nbar 1.0.0: deckhouse >=9", platform: "v1.70.0", includes: []string{"foo@=1.0.0"}},
			"bar 1.0.0, foo 1.0.0", "", []string{"1.0.0: it needs deckhouse >=9", "1.0.0: it needs module ceph"}},
		{"S5.10.8: dependencies of ranges", problem{
			plugins: "foo 1.1.0: plugin ghost\nfoo 1.0.0: plugin bar\nbar 1.0.0:", includes: []string{"foo"}}, "bar 1.0.0, foo 1.0.0", "", []string{}},
		{"S5.10.8: a built-in command that is not published", problem{
			plugins: "foo 1.0.0:", includes: []string{"package"}}, "", "", []string{"d8 does with its own package"}},
		{"S5.10.10: passed over, then asked for", problem{
			plugins: "mgr 1.0.0: pg; ceph", modules: "pg 1.0.0", includes: []string{"mgr"}},
			"mgr 1.0.0", "", []string{"the target must have it"}},
		{"S5.10.11: a module that is there at no tolerated version", problem{
			plugins: "mgr 1.0.0: pg; if ceph ^2", modules: "pg 1.0.0, ceph 1.0.0"}, "mgr 1.0.0", "", []string{"1.0.0 works with module ceph ^2, and the bundle holds 1.0.0"}},
		{"S5.10.11: a plugin that is chosen at no tolerated version", problem{
			plugins: "a 1.0.0: m1; if plugin b ^2\nb 1.0.0: m1", modules: "m1 1.0.0"}, "a 1.0.0, b 1.0.0", "", []string{"1.0.0 works with plugin b ^2"}},
		{"S5.10.11: conditions that are met, or about nothing", problem{
			plugins: "mgr 1.0.0: pg; if ceph ^2; if nfs ^2; if plugin ghost", modules: "pg 1.0.0, ceph 2.0.0 1.0.0"}, "mgr 1.0.0", "", []string{}},
		{"S5.10.7: the warnings of what was rejected go with it", problem{
			plugins: "foo 1.1.0: ceph; plugin ghost\nfoo 1.0.0:", includes: []string{"foo"}}, "foo 1.0.0", "", []string{}},
		{"S5.10.8: a bare name comes after the pins", problem{
			plugins: "p v1: plugin q >=1\nq v1.5:\nq v1.9:", includes: []string{"p", "q@=v1.5"}}, "p v1, q v1.5", "", []string{}},
		{"S5.10.12: each warning once, for two reasons", problem{
			plugins: "a 1.0.0: m1; if ceph ^2", modules: "m1 1.0.0 1.1.0, ceph 1.0.0"}, "a 1.0.0", "", []string{"works with module ceph ^2"}},
		{"S5.10.12: each warning once", problem{
			plugins: "a 1.0.0: m1; plugin package\na 0.9.0: m1", modules: "m1 1.0.0 1.1.0"}, "a 1.0.0", "", []string{"d8 does with its own package"}},

		{"S5.10.13: pins only", problem{
			plugins: "p v1: plugin q >=1\nq v1.5:\nmgr 1.0.0: pg", modules: "pg 1.0.0", includes: []string{"p@=v1", "q@=v1.5"}, pinsOnly: true},
			"p v1, q v1.5", "", []string{"name them, as in --include-plugin"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Resolve(tc.input(t))
			if err != nil {
				t.Fatal(err)
			}
			chosen, skipped := view(got)
			if diff := cmp.Diff(tc.want, strings.Join(chosen, ", ")); diff != "" {
				t.Errorf("chosen (-want +got):\n%s\n%v", diff, got.Notes)
			}
			if diff := cmp.Diff(tc.skipped, strings.Join(skipped, " ")); diff != "" {
				t.Errorf("passed over (-want +got):\n%s", diff)
			}
			if len(got.Notes) != len(tc.notes) {
				t.Fatalf("notes %+v, want %q", got.Notes, tc.notes)
			}
			for i, part := range tc.notes {
				if !strings.Contains(got.Notes[i].Text, part) {
					t.Errorf("note %q, want %q in it", got.Notes[i].Text, part)
				}
			}
		})
	}
}

// Reasons tell modules, dependencies and wishes apart; one version may have all
// (S5.10.5, S5.10.12).
func TestReasons(t *testing.T) {
	got, err := Resolve(problem{
		plugins:  "mgr 1.0.0: pg; plugin db\ndb 1.0.0:\nsystem 1.0.0: plugin db",
		modules:  "pg 1.0.0 1.5.0",
		always:   []string{"system"},
		includes: []string{"db", "mgr@=1.0.0"},
	}.input(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []Selected{
		{"db", "1.0.0", ForPlugins, []string{"needed by plugin mgr 1.0.0", "needed by plugin system 1.0.0", "--include-plugin db"}},
		{"mgr", "1.0.0", ForModules, []string{"for module pg 1.5.0", "for module pg 1.0.0", "--include-plugin mgr@=1.0.0"}},
		{"system", "1.0.0", ForPlatform, []string{"for the platform"}},
	}
	if diff := cmp.Diff(want, got.Selected); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// S5.10.7: of several chosen versions that fit, a dependent takes the newest.
func TestReuse(t *testing.T) {
	got, err := Resolve(problem{
		plugins: "a 1.0.0: m1; plugin s ~1.1.0\nb 1.0.0: m1; plugin s ~1.0.0\nc 1.0.0: m1; plugin s <2\ns 1.0.0:\ns 1.1.0:\ns 1.2.0:",
		modules: "m1 1.0.0",
	}.input(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []Selected{
		{"s", "1.1.0", ForPlugins, []string{"needed by plugin a 1.0.0", "needed by plugin c 1.0.0"}},
		{"s", "1.0.0", ForPlugins, []string{"needed by plugin b 1.0.0"}},
	}
	if diff := cmp.Diff(want, got.Selected[len(got.Selected)-2:]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// S5.10.8: an include that cannot be had is refused, and says what there is.
func TestResolveRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		problem
		kind       *fault.Kind
		want, hint string
	}{
		{"S5.10 row 14: not published", problem{plugins: "foo 1.0.0:", includes: []string{"ghost"}}, fault.Policy, `no plugin "ghost"`, "there are foo"},
		{"not published, pinned", problem{includes: []string{"ghost@=1.0.0"}}, fault.Policy, "no version 1.0.0", "check the name"},
		{"a built-in command, pinned", problem{includes: []string{"package@=1.0.0"}}, fault.Policy, "no version 1.0.0", ""},
		{"no such version", problem{plugins: "foo 1.0.0:\nfoo 2.0.0:", includes: []string{"foo@=3.0.0"}}, fault.Policy, "no version 3.0.0", "it has 2.0.0, 1.0.0"},
		{"nothing in the range", problem{plugins: "foo 1.0.0:", includes: []string{"foo@^2.0"}}, fault.Policy, `matches "^2.0"`, "it has 1.0.0"},
		{"one of two ranges", problem{plugins: "foo 1.0.0:", includes: []string{"foo@^1.0", "foo@^2.0"}}, fault.Policy, `matches "^2.0"`, ""},
		{"broken", problem{plugins: "foo 1.0.0: broken", includes: []string{"foo"}}, fault.Policy, "it is broken", ""},
		{"broken, pinned", problem{plugins: "foo 1.0.0: broken\nfoo 0.9.0:", includes: []string{"foo@=1.0.0"}}, fault.Policy, "it is broken", ""},
		{"dependency of a pin", problem{plugins: "foo 1.0.0: plugin ghost\nfoo 0.9.0:", includes: []string{"foo@=1.0.0"}}, fault.Policy, "plugin ghost, which is not published", ""},
		{"dependency of a range", problem{plugins: "foo 1.0.0: plugin ghost", includes: []string{"foo@^1.0"}}, fault.Policy, "plugin ghost", ""},
		{"cycle of a pin", problem{plugins: "p 1.0.0: plugin q\nq 1.0.0: plugin p", includes: []string{"p@=1.0.0"}}, fault.Policy, "p > q > p", ""},
		{"S5.10.13: the missing pin is named", problem{plugins: "p v1: plugin q >=1\nq v1.5:", includes: []string{"p@=v1"}, pinsOnly: true}, fault.Policy, "--include-plugin q@=VERSION", ""},
		{"S5.10.13: a range", problem{plugins: "p v1:", includes: []string{"p@^1"}, pinsOnly: true}, fault.Usage, "no exact version", "p@=VERSION"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Resolve(tc.input(t))
			if fault.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.want) || !strings.Contains(fault.HintOf(err), tc.hint) {
				t.Errorf("got %v (%v, hint %q), want %v with %q, hint %q", err, fault.KindOf(err), fault.HintOf(err), tc.kind, tc.want, tc.hint)
			}
		})
	}
}

// S5.10.2, S5.10.3, S5.10.7: what has no tag list is passed over without a word, and nothing can
// depend on it; a pin that was found all the same is taken.
func TestUnlisted(t *testing.T) {
	p := problem{plugins: "mgr 1.0.0: pg\na 1.0.0: pg; plugin mgr", modules: "pg 1.0.0"}
	in := p.input(t)
	mgr := in.Published["mgr"]
	mgr.Listed = false
	in.Published["mgr"] = mgr
	got, err := Resolve(in)
	if err != nil {
		t.Fatal(err)
	}
	if chosen, skipped := view(got); len(chosen) > 0 || !slices.Equal(skipped, []string{"a"}) {
		t.Errorf("chosen %v, passed over %v, want a passed over alone", chosen, skipped)
	}
	in.Includes, _ = selection.ParseChoices([]string{"mgr@=1.0.0"})
	got, err = Resolve(in)
	if err != nil {
		t.Fatal(err)
	}
	if chosen, _ := view(got); !slices.Equal(chosen, []string{"mgr 1.0.0"}) {
		t.Errorf("chosen %v, want the pin", chosen)
	}
}

// S5.10.7: sixteen dependencies in a row are fine, seventeen are not; and a
// source that has far too many ways to combine them ends the search.
func TestResolveIsBounded(t *testing.T) {
	chain := func(length int) string {
		text := "p0 1.0.0: m1; plugin p1\n"
		for i := 1; i < length; i++ {
			text += fmt.Sprintf("p%d 1.0.0: plugin p%d\n", i, i+1)
		}
		return text + fmt.Sprintf("p%d 1.0.0:", length)
	}
	for length, want := range map[int]int{16: 17, 17: 0} {
		got, err := Resolve(problem{plugins: chain(length), modules: "m1 1.0.0"}.input(t))
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Selected) != want {
			t.Errorf("a chain of %d: %d plugins chosen, want %d: %v", length, len(got.Selected), want, got.Notes)
		}
	}
	text := "p0 1.0.0: m1; plugin p1\n"
	for i := 1; i < 15; i++ {
		for v := range 10 {
			text += fmt.Sprintf("p%d 1.%d.0: plugin p%d\n", i, v, i+1)
		}
	}
	text += "p15 1.0.0: plugin ghost\nzother 1.0.0: m1; plugin dep\ndep 1.0.0:"
	got, err := Resolve(problem{plugins: text, modules: "m1 1.0.0"}.input(t))
	if err != nil {
		t.Fatal(err)
	}
	chosen, skipped := view(got)
	if !slices.Equal(chosen, []string{"dep 1.0.0", "zother 1.0.0"}) || !slices.Equal(skipped, []string{"p0"}) {
		t.Errorf("chosen %v, passed over %v", chosen, skipped)
	}
}

// The order of the input's lists means nothing (S5.10.12).
func TestResolveIsDeterministic(t *testing.T) {
	p := problem{
		plugins:  "a 1.0.0: m1; plugin s ~1.0.0; plugin u\nb 1.0.0: m1; plugin s <2\ns 1.0.0:\ns 1.1.0:\nu 1.0.0: plugin s",
		modules:  "m1 1.0.0 1.1.0",
		includes: []string{"s", "u@=1.0.0", "b@^1.0"},
	}
	first, err := Resolve(p.input(t))
	if err != nil {
		t.Fatal(err)
	}
	in := p.input(t)
	slices.Sort(in.Catalogue)
	slices.Reverse(in.Catalogue)
	slices.Reverse(in.Includes)
	for _, published := range in.Published {
		slices.Reverse(published.Releases)
	}
	slices.Reverse(in.Modules["m1"])
	second, err := Resolve(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("(-first +second):\n%s", diff)
	}
}

func TestParseContract(t *testing.T) {
	whole := `{"name":"mgr","version":"v1","description":"d","env":[{"name":"E"}],"flags":[{"name":"f"}],"requirements":{
		"kubernetes":{"constraint":">=1.27"},"deckhouse":{"constraint":">= 1.70"},
		"modules":{"mandatory":[{"name":"pg","constraint":">=1.0.0 <1.5.0"}],"conditional":[{"name":"c"}],
			"anyOf":[{"name":"g","description":"x","modules":[{"name":"a","constraint":"^1"},{"name":"b"}]},{"name":"h","modules":[{"name":"a"}]}],
			"noneOf":[{"name":"g","modules":[{"name":"n","constraint":""}]}]},
		"plugins":{"mandatory":[{"name":"db","constraint":">=0.9.0"}],"conditional":[{"name":"x"}]}}}`
	want := []contract.Requirement{
		{Kind: "deckhouse", Mode: "mandatory", Constraint: ">= 1.70"},
		{Kind: "kubernetes", Mode: "mandatory", Constraint: ">=1.27"},
		{Kind: "module", Mode: "mandatory", Name: "pg", Constraint: ">=1.0.0 <1.5.0"},
		{Kind: "module", Mode: "conditional", Name: "c"},
		{Kind: "module", Mode: "anyOf", Group: "g", Name: "a", Constraint: "^1"},
		{Kind: "module", Mode: "anyOf", Group: "g", Name: "b"},
		{Kind: "module", Mode: "anyOf", Group: "h", Name: "a"}, // the same module in two groups of a bucket (S1.8.5)
		{Kind: "module", Mode: "noneOf", Group: "g", Name: "n"},
		{Kind: "plugin", Mode: "mandatory", Name: "db", Constraint: ">=0.9.0"},
		{Kind: "plugin", Mode: "conditional", Name: "x"},
	}
	got, err := ParseContract(base64.StdEncoding.EncodeToString([]byte(whole)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("S1.8.3 (-want +got):\n%s", diff)
	}
	modules := func(text string) string { return `{"requirements":{"modules":` + text + `}}` }
	for _, tc := range []struct{ name, text, want string }{
		{"S1.8.2: no needs", `{}`, ""},
		{"S1.8.3: null lists", modules(`{"mandatory":null,"anyOf":null}`), ""},
		{"S1.8.1: YAML", "requirements:\n  modules:\n    anyOf:\n    - name: g\n      modules: [{name: a, constraint: '>=1'}]\n", ""},
		{"S1.8.1, S1.8.5: YAML that contradicts itself", "requirements:\n  modules:\n    anyOf:\n    - name: g\n", "no members"},
		{"S1.8.6: not JSON", `<html>`, "not what a contract says"},
		{"S1.8.4: the first form, modules", modules(`[{"name":"pg"}]`), "not what a contract says"},
		{"S1.8.4: the first form, plugins", `{"requirements":{"plugins":[]}}`, "not what a contract says"},
		{"S1.8.5: a group without a name", modules(`{"anyOf":[{"modules":[{"name":"a"}]}]}`), "name of their own"},
		{"S1.8.5: two groups of one name", modules(`{"noneOf":[{"name":"g","modules":[{"name":"a"}]},{"name":"g","modules":[{"name":"b"}]}]}`), "name of their own"},
		{"S1.8.5: a group without members", modules(`{"anyOf":[{"name":"g"}]}`), "no members"},
		{"S1.8.5: a member without a name", modules(`{"anyOf":[{"name":"g","modules":[{}]}]}`), "members without a name"},
		{"S1.8.5: a member twice", modules(`{"anyOf":[{"name":"g","modules":[{"name":"a"},{"name":"a"}]}]}`), "members without a name"},
		{"S1.8.5: a member's range", modules(`{"anyOf":[{"name":"g","modules":[{"name":"a","constraint":"bob"}]}]}`), "no range of versions"},
		{"S1.8.5: mandatory and conditional", modules(`{"mandatory":[{"name":"a"}],"conditional":[{"name":"a"}]}`), "in mandatory and in conditional"},
		{"S1.8.5: mandatory and a group", modules(`{"mandatory":[{"name":"a"}],"anyOf":[{"name":"g","modules":[{"name":"a"}]}]}`), "in mandatory and in anyOf"},
		{"S1.8.5: conditional and a group", modules(`{"conditional":[{"name":"a"}],"noneOf":[{"name":"g","modules":[{"name":"a"}]}]}`), "in conditional and in noneOf"},
		{"S1.8.5: groups of both buckets", modules(`{"anyOf":[{"name":"g","modules":[{"name":"a"}]}],"noneOf":[{"name":"g","modules":[{"name":"a"}]}]}`), "in anyOf and in noneOf"},
		{"a module without a name", modules(`{"mandatory":[{"constraint":"^1"}]}`), "has no name"},
		{"a range that nobody can meet is read (S5.10.5)", modules(`{"mandatory":[{"name":"a","constraint":"bob"}]}`), ""},
	} {
		_, err := ParseContract(base64.StdEncoding.EncodeToString([]byte(tc.text)))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
	if got, err := ParseContract(" \n"); err != nil || got != nil {
		t.Errorf("S1.8.2: an empty annotation: %v, %v", got, err)
	}
	if _, err := ParseContract("{}"); err == nil || !strings.Contains(err.Error(), "base64") {
		t.Errorf("S1.8.1: not base64: %v", err)
	}
}

// S1.8.7.
func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"mgr": true, "cert-manager-tool": true, "a.b_c-d0": true, "0": true,
		"": false, "Mgr": false, "a--b": false, "-a": false, "a-": false, "a/b": false, "a b": false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("%q is a name: %v, want %v", name, got, want)
		}
	}
}

func FuzzParseContract(f *testing.F) {
	f.Add("e30=")
	f.Add(base64.StdEncoding.EncodeToString([]byte(`{"requirements":{"modules":{"anyOf":[{"name":"g","modules":[{"name":"a"}]}]}}}`)))
	f.Fuzz(func(t *testing.T, annotation string) {
		requirements, err := ParseContract(annotation)
		if err != nil {
			return
		}
		spec := contract.CatalogSpec{Vendor: "v", Contracts: []contract.CatalogContract{{Component: "plugin/x", Tag: "v1", Requirements: requirements}}}
		spec.Normalize()
		if err := spec.Validate(); err != nil {
			t.Errorf("%q gives a catalog that is not valid: %v", annotation, err)
		}
	})
}
