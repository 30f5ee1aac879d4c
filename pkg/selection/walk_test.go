package selection

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ferry/pkg/fault"

	"github.com/google/go-cmp/cmp"
)

// walked is what a walk for a constraint asks a registry that has these tags,
// round by round, and what it finds.
func walked(t *testing.T, constraint string, gaps Gaps, known, have string) (rounds [][]string, found []string) {
	t.Helper()
	c, err := ParseConstraint(constraint)
	if err != nil {
		t.Fatal(err)
	}
	rounds, found, err = walk(c, gaps, ParseVersions(strings.Fields(known)), func(tag string) bool {
		return slices.Contains(strings.Fields(have), strings.TrimPrefix(tag, "v"))
	})
	if err != nil {
		t.Fatal(err)
	}
	return rounds, found
}

func walk(c Constraint, gaps Gaps, known []Version, has func(tag string) bool) (rounds [][]string, found []string, err error) {
	w := c.Walk(gaps, known)
	for {
		tags, err := w.Next()
		if err != nil || len(tags) == 0 {
			slices.SortFunc(found, byVersion)
			return rounds, found, err
		}
		rounds = append(rounds, tags)
		for _, tag := range tags {
			exists := has(tag)
			w.Answer(tag, exists)
			if exists {
				found = append(found, tag)
			}
		}
	}
}

func byVersion(a, b string) int {
	v, _ := ParseVersion(a)
	w, _ := ParseVersion(b)
	return v.Compare(w)
}

// short lists tags without their "v".
func short(tags []string) string {
	tags = slices.Clone(tags)
	slices.SortFunc(tags, byVersion)
	for i := range tags {
		tags[i] = strings.TrimPrefix(tags[i], "v")
	}
	return strings.Join(tags, " ")
}

// The traces of S4.4: with gaps of 0 exactly d8's requests, and nothing else.
//
// S4.2.1, S4.2.2, S4.2.3, S4.2.4.
func TestWalkLikeD8(t *testing.T) {
	for _, tc := range []struct{ row, constraint, have, asked, found string }{
		{"S4.4 row 1", "^1.64.0", "1.64.0 1.64.1 1.64.2", "1.64.0 1.64.1 1.64.2 1.64.3 1.65.0", "1.64.0 1.64.1 1.64.2"},
		{"S4.4 row 2", ">=1.64.0 <2.0.0", "1.65.0 1.65.1", "1.64.0 1.65.0 1.65.1 1.65.2 1.66.0", "1.65.0 1.65.1"},
		{"S4.4 row 3", ">=1.64.0 <=1.65.0", "1.64.0 1.64.1 1.65.0 1.65.1", "1.64.0 1.64.1 1.64.2 1.65.0", "1.64.0 1.64.1 1.65.0"},
		{"S4.4 row 4", ">=1.0.0 <3.0.0", "1.0.0 2.0.0 2.0.1", "1.0.0 1.0.1 1.1.0 2.0.0 2.0.1 2.0.2 2.1.0", "1.0.0 2.0.0 2.0.1"},
		{"S4.4 row 5", "^1.99.0", "", "1.99.0 1.100.0", ""},
		{"S4.4 row 6", ">=1.64 <=1.68", "1.64.0 1.65.0 1.66.0 1.67.0 1.68.0 1.68.1 1.69.0",
			"1.64.0 1.64.1 1.65.0 1.65.1 1.66.0 1.66.1 1.67.0 1.67.1 1.68.0 1.68.1 1.68.2", "1.64.0 1.65.0 1.66.0 1.67.0 1.68.0 1.68.1"},
		{"a bare version", "1.2", "1.2.0 1.3.0 2.0.0", "1.2.0 1.2.1 1.3.0 1.3.1 1.4.0", "1.2.0 1.3.0"},
		{"known versions are not used", "^1.0.0", "1.5.0", "1.0.0 1.1.0", ""},
		// Where d8 stops, or begins at the wrong place.
		{"S9 row 76", ">1.2.3", "1.2.3 1.2.4 1.2.5 1.3.0", "1.2.4 1.2.5 1.2.6 1.3.0 1.3.1 1.4.0 2.0.0", "1.2.4 1.2.5 1.3.0"},
		{"S9 row 77", ">=1.2.0 <1.3.0 || >=3.4.0 <3.5.0", "1.2.0 3.4.0", "1.2.0 1.2.1 3.4.0 3.4.1", "1.2.0 3.4.0"},
		{"alternatives that overlap ask once", ">=1.2.0 <1.4.0 || ~1.3.0", "1.2.0 1.3.0", "1.2.0 1.2.1 1.3.0 1.3.1", "1.2.0 1.3.0"},
		{"what does not match is no gap", ">=1.2.0 <2.0.0 !=1.2.1 !=1.3.x", "1.2.0 1.2.2 1.4.0", "1.2.0 1.2.2 1.2.3 1.4.0 1.4.1 1.5.0", "1.2.0 1.2.2 1.4.0"},
		{"a lone upper bound begins at 0", "<0.2.0", "0.0.0 0.1.0 0.1.1", "0.0.0 0.0.1 0.1.0 0.1.1 0.1.2", "0.0.0 0.1.0 0.1.1"},
		{"nothing can match", ">=2.0.0 <1.0.0", "1.0.0 2.0.0", "", ""},
	} {
		rounds, found := walked(t, tc.constraint, Gaps{}, "v1.5.0", tc.have)
		if diff := cmp.Diff([]string{tc.asked, tc.found}, []string{short(slices.Concat(rounds...)), short(found)}); diff != "" {
			t.Errorf("%s: %s: asked, found (-want +got):\n%s", tc.row, tc.constraint, diff)
		}
	}
}

// S9 row 76, S4.2.1, S4.2.2, S4.2.6, S4.5: gaps are bridged, up to their size and
// no further, and known places are walked from.
func TestWalkBridgesGaps(t *testing.T) {
	for _, tc := range []struct {
		name, constraint string
		gaps             Gaps
		known            string
		have, found      string
	}{
		{"no x.y.0", "~1.64.0", Gaps{3, 2}, "", "1.64.2 1.64.3", "1.64.2 1.64.3"},
		{"three patches missing", "~1.64.0", Gaps{3, 2}, "", "1.64.0 1.64.4", "1.64.0 1.64.4"},
		{"four patches missing", "~1.64.0", Gaps{3, 2}, "", "1.64.0 1.64.5", "1.64.0"},
		{"four bridged", "~1.64.0", Gaps{4, 0}, "", "1.64.0 1.64.5", "1.64.0 1.64.5"},
		{"two minors missing", "^1.64.0", Gaps{3, 2}, "", "1.64.0 1.67.2", "1.64.0 1.67.2"},
		{"three minors missing", "^1.64.0", Gaps{3, 2}, "", "1.64.0 1.68.0", "1.64.0"},
		{"three bridged", "^1.64.0", Gaps{0, 3}, "", "1.64.0 1.68.0", "1.64.0 1.68.0"},
		{"the next major begins late", ">=1.64.0", Gaps{3, 2}, "", "1.64.0 2.2.3", "1.64.0 2.2.3"},
		{"no major is bridged", ">=1.64.0", Gaps{3, 2}, "", "1.64.0 3.0.0", "1.64.0"},
		{"a lone upper bound", "<1.42", Gaps{3, 2}, "", "1.38.0 1.41.0 1.41.1 1.42.0", "1.38.0 1.41.0 1.41.1"},
		{"a lone upper bound within a line", "<1.42.2", Gaps{3, 2}, "", "1.41.0 1.42.1 1.42.2", "1.41.0 1.42.1"},
		{"an upper bound far from the lower", ">=1.0.0 <1.42", Gaps{3, 2}, "", "1.40.0 1.41.0", "1.40.0 1.41.0"},
		{"anchors, S3.1.6", "<=1.42.9", Gaps{3, 2}, "", "1.42.9", "1.42.9"},
		{"an anchor that does not match", ">=2.0.0 <1.0.0", Gaps{3, 2}, "", "1.0.0 2.0.0", ""},
		{"known versions", ">=1.0.0", Gaps{3, 2}, "v1.70.9 v2.9.9 stable v1.80.0-rc.1", "1.66.0 1.69.0 1.70.9 1.71.1 1.72.0 1.80.0", "1.66.0 1.69.0 1.70.9 1.71.1 1.72.0"},
		{"known versions that do not match", "~1.64.0", Gaps{3, 2}, "v1.70.9", "1.70.9", ""},
		{"pre-releases are never sought, S4.5", ">=1.64.0-0 <1.65.0", Gaps{3, 2}, "", "1.64.0-rc.1 1.64.1", "1.64.1"},
	} {
		_, found := walked(t, tc.constraint, tc.gaps, tc.known, tc.have)
		if got := short(found); got != tc.found {
			t.Errorf("%s: %s finds %q, want %q", tc.name, tc.constraint, got, tc.found)
		}
	}
}

// S3.1.7: where a walk begins.
func TestWalkBegins(t *testing.T) {
	for constraint, want := range map[string]string{
		"^1.64.0":                "1.64.0",
		">=1.64 <=1.68":          "1.64.0",
		"<2.0.0 >1.2.3":          "1.2.4",
		">1.2":                   "1.3.0",
		">1":                     "2.0.0",
		"1":                      "1.0.0",
		"~1.2.x":                 "1.2.0",
		">=1.2.0-rc.1 <1.10":     "1.2.0",
		">=1.2.0 !=1.2.0":        "1.2.1",
		">=1.2.0 !=1.2.x":        "1.3.0",
		"<1.42":                  "0.0.0",
		">=18446744073709551615": "18446744073709551615.0.0",
		"=v1.2.0":                "",
	} {
		rounds, _ := walked(t, constraint, Gaps{}, "", "")
		got := ""
		if len(rounds) > 0 {
			got = strings.TrimPrefix(rounds[0][0], "v")
		}
		if got != want {
			t.Errorf("the walk of %s begins at %q, want %q", constraint, got, want)
		}
	}
}

// S4.2.5: what is needed whatever the answers are is asked for at once: lines, and the
// patches of a line.
func TestWalkAsksInParallel(t *testing.T) {
	rounds, _ := walked(t, ">=1.64.0 <1.66.0", Gaps{1, 0}, "", "1.64.0 1.65.1")
	if diff := cmp.Diff([][]string{
		{"v1.64.0", "v1.64.1", "v1.65.0", "v1.65.1"},
		{"v1.64.2", "v1.65.2", "v1.65.3"},
	}, rounds); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// S4.2.8: a registry that has every tag must not be walked for ever.
func TestWalkEnds(t *testing.T) {
	for _, constraint := range []string{">=0", "^1", "~1.2.0", "<99999999", ">=1 || >=2 || >=3"} {
		c, err := ParseConstraint(constraint)
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		_, _, err = walk(c, Gaps{3, 2}, nil, func(string) bool { asked++; return true })
		if fault.KindOf(err) != fault.Policy || !strings.Contains(fault.HintOf(err), "bound") {
			t.Errorf("%s: got %v (%s), want a refusal with advice", constraint, err, fault.HintOf(err))
		}
		if asked > walkLimit {
			t.Errorf("%s: %d tags were asked for", constraint, asked)
		}
	}
}

// d8 is the walk of S4.2 to the letter.
func d8(c Constraint, major, minor, patch uint64, has func(string) bool) []string {
	var asked []string
	step := func() bool {
		v := release{major, minor, patch}
		version, _ := ParseVersion(v.tag())
		if !c.Match(version) {
			return false
		}
		asked = append(asked, v.tag())
		return has(v.tag())
	}
	for {
		for step() {
			patch++
		}
		minor, patch = minor+1, 0
		if step() {
			patch++
			continue
		}
		major, minor = major+1, 0
		if !step() {
			return asked
		}
		patch++
	}
}

// With gaps of 0 the requests are d8's for every range without holes that begins
// with its lower bound, whatever the registry has; with larger ones they are
// more, and what is found is more.
func TestWalkAgainstD8(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		from := release{uint64(random.IntN(3)), uint64(random.IntN(4)), uint64(random.IntN(4))}
		constraint := fmt.Sprintf(">=%s", strings.TrimPrefix(from.tag(), "v"))
		switch random.IntN(4) {
		case 0:
			constraint = fmt.Sprintf("~%s", strings.TrimPrefix(from.tag(), "v"))
		case 1:
			constraint = strings.TrimPrefix(from.tag(), "v")
		case 2:
			constraint += fmt.Sprintf(" <%d.%d.%d", random.IntN(4), random.IntN(4), random.IntN(4))
		}
		density := random.IntN(10)
		registry := map[string]bool{}
		has := func(tag string) bool {
			v, _ := ParseVersion(tag)
			if _, known := registry[tag]; !known {
				r := v.release()
				registry[tag] = r[0] < 4 && r[1] < 5 && r[2] < 5 && random.IntN(10) < density
			}
			return registry[tag]
		}
		c, err := ParseConstraint(constraint)
		if err != nil {
			t.Fatal(err)
		}
		want := d8(c, from[0], from[1], from[2], has)
		rounds, few, err := walk(c, Gaps{}, nil, has)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(short(want), short(slices.Concat(rounds...))); diff != "" {
			t.Fatalf("%s: requests (-d8 +walk):\n%s", constraint, diff)
		}
		_, more, err := walk(c, Gaps{1, 1}, nil, has)
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range few {
			if !slices.Contains(more, tag) {
				t.Fatalf("%s: a wider walk lost %s", constraint, tag)
			}
		}
	}
}

// Whatever the constraint and the registry: a walk ends, asks for nothing twice,
// and for nothing that the constraint refuses. Every release that it accepts
// lies in one of its groups.
func FuzzWalk(f *testing.F) {
	for _, seed := range []string{"^1.64.0", ">=1.2.0 <1.4.0 || ~2.x", "<1.42", ">1", "0", "!=1", ">=1 !=1.2.x !=*", "~0.0.0", "^0.0", "<=*",
		">=1.2.0-rc.1 <1.4.0+7", "^18446744073709551615", ">18446744073709551614.2", "~1.18446744073709551615", ">=1.2 1.x", "<0.0.1", ">=1.2.0 - 2"} {
		f.Add(seed, uint64(7), 3, 2)
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64, patches, minors int) {
		c, err := ParseConstraint(text)
		if err != nil || patches < 0 || patches > 8 || minors < 0 || minors > 8 {
			t.Skip()
		}
		asked := map[string]bool{}
		known, _ := ParseVersion("v1.3.2")
		_, _, err = walk(c, Gaps{patches, minors}, []Version{known}, func(tag string) bool {
			v, ok := ParseVersion(tag)
			if !ok || !c.Match(v) || asked[tag] || v.Canonical() != tag || v.Prerelease() {
				t.Errorf("%q asks for %s, which it must not", text, tag)
			}
			asked[tag] = true
			return rand.New(rand.NewPCG(seed, uint64(len(asked)))).IntN(4) == 0
		})
		if err != nil && fault.KindOf(err) != fault.Policy {
			t.Errorf("%q: %v", text, err)
		}
		for major := range uint64(4) {
			for minor := range uint64(4) {
				for patch := range uint64(4) {
					r := release{major, minor, patch}
					v, _ := ParseVersion(r.tag())
					accepted := slices.ContainsFunc(groups(c.accepted), func(g group) bool { return g.accepts(r) })
					if _, _, exact := c.Exact(); !exact && accepted != c.Match(v) {
						t.Errorf("%q accepts %s: %v, its groups say %v", text, r.tag(), c.Match(v), accepted)
					}
				}
			}
		}
	})
}
