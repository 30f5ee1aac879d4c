package selection

import (
	"slices"
	"strings"
	"testing"

	"ferry/pkg/fault"

	"github.com/google/go-cmp/cmp"
)

// pick is what an entry with these constraints selects out of a tag list: the
// exact tags, which need no list, and the picked ones.
func pick(t *testing.T, constraints []string, tags string) []string {
	t.Helper()
	var entries []string
	for _, c := range constraints {
		entries = append(entries, "m@"+c)
	}
	choices, err := ParseChoices(entries)
	if err != nil {
		t.Fatal(err)
	}
	if len(choices) != 1 {
		t.Fatalf("%d choices for one name", len(choices))
	}
	got := append(choices[0].ExactTags(), Tags(choices[0].Pick(strings.Fields(tags)))...)
	slices.Sort(got)
	return slices.Compact(got)
}

// The worked table S3.2. Where it shows tags spelled anew, the wanted rule is
// that they stay as published (S3.3.5, S9 row 65).
//
// S3.1.4, S3.1.5, S3.1.6, S3.1.7, S3.1.8: bare versions, ranges, anchors, pre-
// releases. S3.3.2, S3.3.3, S9 rows 5, 13 and 14.
func TestPick(t *testing.T) {
	const unprefixed = "1.0.0 1.1.0 1.2.0 1.3.0 1.3.1 1.3.2 1.3.3 1.4.0 1.4.1"
	for _, tc := range []struct {
		row, constraint, tags, want string
	}{
		{"S3.2 row 1", "^1.3.0", unprefixed, "1.3.3 1.4.1"},
		{"S3.2 row 2", "~1.3.0", unprefixed, "1.3.3"},
		{"S3.2 row 3", "1.3.0", unprefixed, "1.3.3 1.4.1"},
		{"S3.2 row 4", ">=1.3.0", unprefixed, "1.3.0 1.3.3 1.4.1"},
		{"S3.2 row 5", ">=1.3.0 <=1.4.0", unprefixed, "1.3.0 1.3.3 1.4.0"},
		{"S3.2 row 6", ">=1.1.0 <1.3.0", "v1.0.0 v1.1.0 v1.1.2 v1.2.0 v1.2.4 v1.3.0", "v1.1.0 v1.1.2 v1.2.4"},
		{"S3.2 row 7", ">=1.6.0 <1.8.0", "v1.6.0 v1.6.1 v1.6.2 v1.6.3 v1.6.4 v1.6.5 v1.7.0 v1.7.1 v1.8.0", "v1.6.0 v1.6.5 v1.7.1"},
		{"S3.2 row 8", ">=1.40.0 <=1.42.5", "v1.40.0 v1.40.1 v1.41.0 v1.42.0 v1.42.5 v1.42.7", "v1.40.0 v1.40.1 v1.41.0 v1.42.5"},
		{"S3.2 row 9", ">1.40.0 <1.42.0", "v1.40.0 v1.40.1 v1.41.0 v1.41.3", "v1.40.1 v1.41.3"},
		{"S3.2 row 10", ">=1.40.0", "v1.40.1 v1.40.2 v1.41.0", "v1.40.2 v1.41.0"},
		{"S3.2 row 11", "0.4.0", "v0.4.2 v0.4.4 v0.5.1 v0.5.3 v0.6.1 v0.7.2", "v0.4.4 v0.5.3 v0.6.1 v0.7.2"},
		{"S3.2 row 12", "^0.4.0", "v0.4.0 v0.4.4 v0.5.0", "v0.4.4"},
		{"S3.2 row 13", "1.52.0", "v1.52.0 v1.53.1 v1.53.2 v1.54.1 v1.55.1 v2.0.0", "v1.52.0 v1.53.2 v1.54.1 v1.55.1"},
		{"S3.2 row 14", "<=1.42", "v1.40.0 v1.42.0 v1.42.5 v1.43.0", "v1.40.0 v1.42.0 v1.42.5"},
		{"S3.2 row 15", ">1.40", "v1.40.1 v1.41.0", "v1.41.0"},
		{"S3.2 row 16, with blanks", ">=1.0 || >=1.5", "v1.0.0 v1.0.1 v1.5.0 v1.5.1", "v1.0.0 v1.0.1 v1.5.0 v1.5.1"},
		{"S3.2 row 17", ">=1.2.0 || <0.5.0", "v0.4.0 v0.4.1 v0.9.0 v1.2.0 v1.2.3", "v0.4.1 v1.2.0 v1.2.3"},
		{"S3.2 row 18", "^1.2.0", "v1.2.0 v1.2.1-rc.1 v1.3.0-rc.1", "v1.2.0"},
		{"S3.2 row 19", ">=1.2.0-0", "v1.2.0 v1.2.1-rc.1 v1.3.0-rc.1 v1.4.0 v1.4.1-beta", "v1.2.1-rc.1 v1.3.0-rc.1 v1.4.1-beta"},
		{"S3.2 row 20", ">=1.2.0-rc.1 <1.4.0", "v1.2.0-rc.1 v1.2.0 v1.3.0-rc.1 v1.4.0-rc.1", "v1.2.0 v1.2.0-rc.1 v1.3.0-rc.1 v1.4.0-rc.1"},
		{"S3.2 row 21", "1.2.0-rc.1", "v1.2.0-rc.1 v1.2.0 v1.2.0-rc.2 v1.3.0-rc.1 v1.3.0", "v1.2.0 v1.3.0"},
		{"S3.2 row 22, as published", "1", "1.0.0 v1.5.2 1.5.3 2.0.0", "1.0.0 1.5.3"},
		{"S3.2 row 23, as published", "v1", "1.0 v1.5 v1.5.2", "1.0 v1.5.2"},
		{"S3.2 row 24", ">=1.2.0 !=1.3.0", "v1.2.0 v1.3.0 v1.3.1 v1.4.0", "v1.2.0 v1.3.1 v1.4.0"},
		{"S3.2 row 25", ">=2.0.0 <1.0.0", "v1.0.0 v2.0.0", ""},
		{"S3.2 row 26", "~1.2.x", "v1.1.0 v1.2.0 v1.2.9 v1.3.0", "v1.2.9"},
		{"S3.2 row 26", "^1.x", "v0.9.0 v1.1.0 v1.2.9 v2.0.0", "v1.1.0 v1.2.9"},
		{"S3.2 row 26", "~1", "v0.9.0 v1.1.0 v1.2.9 v2.0.0", "v1.1.0 v1.2.9"},
		{"S3.2 row 28", "=v1.2.0+lts", "", "v1.2.0"},
		{"S3.2 row 29", "=v1+stable+x", "", "v1"},
		{"S3.1.5, comma is AND", ">=1.3.0,<=1.4.0", unprefixed, "1.3.0 1.3.3 1.4.0"},
		{"S3.1.6, blank behind the operator", ">= 1.3.0", unprefixed, "1.3.0 1.3.3 1.4.1"},
		{"S3.3.1, other tags", "^1.2.0", "stable v1.2.0 v1.2.0.att sha256-12.att 1.2.0x", "v1.2.0"},
		{"issue of the shortened tag", "^1.5.0", "1.5 v1.5.0 1.5.0", "v1.5.0"},
		{"several spellings of an anchor", ">=1.5.0", "1.5 v1.5.0 1.5.0 v1.5.1", "v1.5.0 v1.5.1"},
	} {
		want := strings.Fields(tc.want)
		got := pick(t, []string{tc.constraint}, tc.tags)
		if diff := cmp.Diff(want, got, equateEmpty); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", tc.row, tc.constraint, diff)
		}
	}
}

var equateEmpty = cmp.Transformer("empty", func(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
})

// S3.1.9, S9 row 9: the constraints of one name are alternatives.
func TestParseChoicesMerges(t *testing.T) {
	got := pick(t, []string{"=v0.0.2", "=v0.0.3", "=v0.0.8", "=v0.0.3"}, "v0.0.1 v0.0.2 v0.0.3 v0.0.4 v0.0.8")
	if diff := cmp.Diff([]string{"v0.0.2", "v0.0.3", "v0.0.8"}, got); diff != "" {
		t.Errorf("S3.2 row 34 (-want +got):\n%s", diff)
	}
	got = pick(t, []string{"~1.1.0", ">=1.3.0 <1.4.0", "=v9"}, "v1.1.0 v1.1.1 v1.2.0 v1.3.0 v1.3.1 v1.4.0")
	if diff := cmp.Diff([]string{"v1.1.1", "v1.3.0", "v1.3.1", "v9"}, got); diff != "" {
		t.Errorf("S3.1.9, alternatives (-want +got):\n%s", diff)
	}
	choices, err := ParseChoices([]string{" b ", "a@~1.2.0", "a", "b", "c@=v1", "c@^2.0.0", "d@=v1", "d@=v2+stable"})
	if err != nil {
		t.Fatal(err)
	}
	type view struct {
		Name, Text    string
		Exact, Ranged bool
	}
	var views []view
	for _, c := range choices {
		views = append(views, view{c.Name, c.String(), c.Exact(), c.Ranged()})
	}
	if diff := cmp.Diff([]view{
		{"b", "", false, false},
		{"a", "~1.2.0", false, true},
		{"c", "=v1 or ^2.0.0", false, true},
		{"d", "=v1 or =v2+stable", true, false},
	}, views); diff != "" {
		t.Errorf("S3.1.9 (-want +got):\n%s", diff)
	}
}

func TestParseChoiceRefuses(t *testing.T) {
	for _, tc := range []struct{ row, entry, hint string }{
		{"S3.2 row 16", "m@>=1.0||>=1.5", "blanks around ||"},
		{"S3.2 row 27", "m@>=1.2.x", "range"},
		{"S9 row 79 (S3.2 row 30)", "m@=>1.2.0", "begins with its own operator"},
		{"S3.2 row 31, never a tag", "m@= v1.2.0", "exact tag"},
		{"S3.2 row 31, never a tag", "m@==v1", "exact tag"},
		{"S3.2 row 32", "m@=", ""},
		{"S3.2 row 32", "m@", "quote"},
		{"S3.2 row 32", "m@  ", "quote"},
		{"S3.1.1", "@1.0", "NAME"},
		{"S3.1.1", "  ", "NAME"},
		{"S3.2 row 33", "m@!=1.3.0", ""},
		{"S3.2 row 33", "m@1.70.x", ""},
		{"S3.2 row 33", "m@1.70 - 1.72", ""},
		{"S3.2 row 33", "m@*", ""},
		{"S3.2 row 33", "m@bob", ""},
		{"S3.2 row 33", "m@~bob", ""},
		{"S3.2 row 33", "m@^", ""},
		{"S3.2 row 33", "m@>", ""},
		{"S3.2 row 33", "m@^1.2.3.4", ""},
		{"S3.1.2", "m@>=1.0 ||", ""},
		{"S2.4.4", "m@/var/bundle", "path"},
		{"S3.1.1, only the first @ splits", "m@=v1@v2", ""},
	} {
		choice, err := ParseChoice(tc.entry)
		if fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %q gives %v, %v; want a usage fault", tc.row, tc.entry, choice, err)
			continue
		}
		want := map[string]*fault.Cause{"quote": fault.EmptyConstraint, "path": fault.PathConstraint}[tc.hint] // S2.6
		if got := fault.CauseOf(err); got != want {
			t.Errorf("%s: %q has the cause %v, want %v", tc.row, tc.entry, got, want)
		}
		if !strings.Contains(fault.HintOf(err), tc.hint) {
			t.Errorf("%s: %q has the hint %q, want %q in it", tc.row, tc.entry, fault.HintOf(err), tc.hint)
		}
	}
}

// S3.1.3.
func TestExactSuffix(t *testing.T) {
	for text, want := range map[string][2]string{
		"=v1.2.0":       {"v1.2.0", ""},
		"=v1.2.0+lts":   {"v1.2.0", "lts"},
		"=v1.2.0+bogus": {"v1.2.0", "bogus"}, // the vendor knows its channels
		"=v1+stable+x":  {"v1", "stable+x"},
		"=pr12345":      {"pr12345", ""},
	} {
		c, err := ParseConstraint(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if tag, suffix, ok := c.Exact(); !ok || tag != want[0] || suffix != want[1] {
			t.Errorf("%s is %q, %q, %v; want %q", text, tag, suffix, ok, want)
		}
	}
}

func TestVersion(t *testing.T) {
	v, ok := ParseVersion("1.64")
	if !ok || v.Tag() != "1.64" || v.Canonical() != "v1.64.0" || v.Minor() != "1.64" || v.Prerelease() {
		t.Errorf("1.64 reads as %q, %q, %q", v.Tag(), v.Canonical(), v.Minor())
	}
	if _, ok := ParseVersion("pr12345"); ok {
		t.Error("pr12345 reads as a version")
	}
}

// S3.10: what marks a build is no pre-release. S5.10.5: without the marks, a
// version is compared by what it was built from.
func TestStable(t *testing.T) {
	for tag, want := range map[string]struct {
		stable   bool
		unmarked string
	}{
		"v1.2.3":                   {true, "v1.2.3"},
		"1.0":                      {true, "v1.0.0"},
		"v1.2.3-main":              {true, "v1.2.3"},
		"v1.2.3-dev":               {true, "v1.2.3"},
		"1.2.3-dev+meta":           {true, "v1.2.3"},
		"v1.2.3+meta":              {true, "v1.2.3"},
		"v1.2.3-alpha":             {false, "v1.2.3-alpha"},
		"v1.2.3-beta.2":            {false, "v1.2.3-beta.2"},
		"v1.2.3-RC1":               {false, "v1.2.3-RC1"},
		"v1.2.3-rc.1+m":            {false, "v1.2.3-rc.1"},
		"v1.2.3-pre":               {false, "v1.2.3-pre"},
		"v1.2.3-preview":           {false, "v1.2.3-preview"},
		"v1.2.3-snapshot.20261001": {false, "v1.2.3-snapshot.20261001"},
	} {
		v, ok := ParseVersion(tag)
		if !ok {
			t.Fatalf("%s is no version", tag)
		}
		if got := v.Stable(); got != want.stable {
			t.Errorf("%s is stable: %v, want %v", tag, got, want.stable)
		}
		if u := v.Unmarked(); u.Canonical() != want.unmarked || u.Tag() != tag {
			t.Errorf("%s unmarked is %s under the tag %s, want %s", tag, u.Canonical(), u.Tag(), want.unmarked)
		}
	}
}

func TestNewest(t *testing.T) {
	got := Tags(Newest(ParseVersions([]string{"v1.2.0", "stable", "1.10.0", "v1.9.0", "1.2.0", "v1.10.0-rc.1", "1.2"})))
	if diff := cmp.Diff([]string{"1.10.0", "v1.10.0-rc.1", "v1.9.0", "v1.2.0"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// S5.10.5: ranges of contracts, over versions without the marks of their build.
func TestRange(t *testing.T) {
	for _, tc := range []struct{ text, in, out string }{
		{"", "v0.0.1 v9.9.9 v1.0.0-rc.1", ""},
		{">=1.0.0 <1.5.0", "v1.0.0 v1.4.9 v1.2.3-dev 1.2", "v0.9.0 v1.5.0 v1.2.3-rc.1"},
		{">= 1.70", "v1.70.0 v1.71.3", "v1.69.9"},
		{"1.2.3", "v1.2.3 v1.2.3-main", "v1.2.4 v1.3.0"}, // no bare version as in S3.1.4
		{">=1.2.0-rc.1", "v1.2.0-rc.2 v1.2.0", "v1.2.0-beta.1"},
	} {
		r, err := ParseRange(tc.text)
		if err != nil {
			t.Errorf("%q: %v", tc.text, err)
			continue
		}
		for _, v := range ParseVersions(strings.Fields(tc.in)) {
			if !r.Match(v) {
				t.Errorf("%q does not match %s", tc.text, v.Tag())
			}
		}
		for _, v := range ParseVersions(strings.Fields(tc.out)) {
			if r.Match(v) {
				t.Errorf("%q matches %s", tc.text, v.Tag())
			}
		}
	}
	if _, err := ParseRange("bob"); fault.KindOf(err) != fault.Usage {
		t.Errorf("bob is read as a range: %v", err)
	}
}

func FuzzParseChoice(f *testing.F) {
	for _, seed := range []string{"m", "m@=v1.2.0+lts", "m@>=1.2.0 <1.4.0 || ~2.x", "m@1.2.0-rc.1", "m@=>1", "@", "m@^18446744073709551615", "m@18446744073709551615"} {
		f.Add(seed)
	}
	tags := []string{"v1.2.0", "v1.2.1", "1.3.0", "v2.0.0-rc.1", "stable", "v18446744073709551615.0.0"}
	f.Fuzz(func(t *testing.T, entry string) {
		c, err := ParseChoice(entry)
		if err != nil {
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("%q fails with %v, which is no usage fault", entry, err)
			}
			return
		}
		if c.Name == "" || strings.Contains(c.Name, "@") {
			t.Errorf("%q gives the name %q", entry, c.Name)
		}
		for _, v := range c.Pick(tags) {
			if !slices.Contains(tags, v.Tag()) || !c.Match(v) {
				t.Errorf("%q picks %q, which it must not", entry, v.Tag())
			}
		}
	})
}

// S2.7.2: versions for people, the newest first, and what is no version behind.
func TestNewestFirst(t *testing.T) {
	got := NewestFirst([]string{"pr1", "v1.9.0", "v1.10.0-rc.1", "latest", "1.10", "v1.10.0"})
	want := []string{"1.10", "v1.10.0", "v1.10.0-rc.1", "v1.9.0", "latest", "pr1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
