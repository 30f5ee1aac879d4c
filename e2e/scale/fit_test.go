package scale

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whatever a program costs before it sees an image, the exponent is that of what
// it costs an image.
func TestFit(t *testing.T) {
	sizes := []int{1_000, 3_000, 10_000, 30_000, 100_000}
	for _, tc := range []struct {
		name      string
		cost      func(images float64) float64
		want, off float64
		points    []int
	}{
		{"a line", func(n float64) float64 { return n / 1e3 }, 1, 1e-9, sizes},
		{"a line from a high start", func(n float64) float64 { return 20 + n/1e3 }, 1, 1e-9, sizes[2:]},
		{"from a start that hides all", func(n float64) float64 { return 1e6 + n/1e3 }, 1, 1e-6, sizes[2:]},
		{"a square", func(n float64) float64 { return n * n / 1e6 }, 2, 0.05, sizes},
		{"a square from a high start", func(n float64) float64 { return 20 + n*n/1e6 }, 2, 0.05, sizes[2:]},
		{"n log n", func(n float64) float64 { return n * math.Log(n) }, 1.1, 0.02, sizes},
		{"a square that only the largest show", func(n float64) float64 { return 1 + n/1e3 + n*n/1e8 }, 1.25, 0.1, sizes[1:]},
		{"a root", func(n float64) float64 { return 5 + math.Sqrt(n) }, 0.5, 0.1, sizes},
	} {
		var samples []sample
		for _, n := range sizes {
			samples = append(samples, sample{n, tc.cost(float64(n))})
		}
		got := fit(sample{100, tc.cost(100)}, samples)
		if math.Abs(got.Exponent-tc.want) > tc.off {
			t.Errorf("%s: exponent %.3f, want %.3f", tc.name, got.Exponent, tc.want)
		}
		if diff := cmp.Diff(tc.points, got.Points); diff != "" {
			t.Errorf("%s: points (-want +got):\n%s", tc.name, diff)
		}
	}
}

// Nothing is made of figures that do not grow, or of one alone.
func TestFitRefuses(t *testing.T) {
	base := sample{100, 5}
	for name, samples := range map[string][]sample{
		"one size":         {{1_000, 10}},
		"the same twice":   {{1_000, 10}, {1_000, 11}},
		"less than before": {{1_000, 4}, {2_000, 10}, {3_000, 20}},
		"no larger":        {{100, 6}, {200, 7}},
	} {
		if diff := cmp.Diff(Fit{}, fit(base, samples)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
