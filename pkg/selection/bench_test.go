package selection

import (
	"fmt"
	"testing"
)

// BenchmarkPick chooses among the tags of a repository that has seen years of
// releases, as it stands in a Catalog: with pre-releases, channels and digests
// between them.
func BenchmarkPick(b *testing.B) {
	var tags []string
	for minor := range 100 {
		for patch := range 50 {
			tags = append(tags, fmt.Sprintf("v1.%d.%d", minor, patch), fmt.Sprintf("v1.%d.%d-rc.1", minor, patch))
		}
		tags = append(tags, fmt.Sprintf("%064x", minor), fmt.Sprintf("nightly-%d", minor))
	}
	c, err := ParseConstraint(">=1.20.0 <1.80.0")
	if err != nil {
		b.Fatal(err)
	}
	choice := Choice{Name: "r", Constraints: []Constraint{c}}
	for b.Loop() {
		if picked := Tags(choice.Pick(tags)); len(picked) < 60 || len(picked) > 62 {
			b.Fatalf("%d tags are chosen, want the latest patch of each of 60 minors, and bounds", len(picked))
		}
	}
}
