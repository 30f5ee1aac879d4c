package generic

import (
	"fmt"
	"testing"

	"ferry/pkg/contract"
)

// What is reported in nanoseconds an image is the same for all sizes, as long as
// nobody goes through all images for each.
func BenchmarkSelect(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("images=%d", n), func(b *testing.B) {
			cat := contract.CatalogSpec{Vendor: Vendor}
			for i := range n {
				cat.Wanted = append(cat.Wanted, fmt.Sprintf("registry.example.com/team/app-%d:v1.%d.0", i/100, i%100))
			}
			b.ReportAllocs()
			for b.Loop() {
				spec, err := Select(cat, Options{})
				if err != nil || len(spec.Images) != n {
					b.Fatalf("%d images, error %v", len(spec.Images), err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/image")
		})
	}
}
