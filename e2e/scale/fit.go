package scale

import (
	"fmt"
	"math"
)

// Fit is how a cost grows: as images to the power of Exponent.
type Fit struct {
	Exponent float64
	// Points are the numbers of images that it was fitted over.
	Points []int
}

// sample is what so many images cost.
type sample struct {
	images int
	cost   float64
}

// fit returns the exponent of the growth above base, by least squares over the
// logarithms.
//
// A program that starts costs something before it has seen an image. That would
// flatten the curve at its lower end, and hide a square at the upper: so both the
// images and the cost of base, the smallest source, are taken off, which leaves a
// line a line. What is left of the smaller sources is mostly noise; where it is
// less than the base itself they do not count, as long as three others do.
func fit(base sample, samples []sample) (Fit, error) {
	const needed = 3
	kept := samples
	for len(kept) > needed && kept[0].cost-base.cost < base.cost {
		kept = kept[1:]
	}
	var out Fit
	var n, sumX, sumY, sumXX, sumXY float64
	for _, s := range kept {
		images, cost := s.images-base.images, s.cost-base.cost
		if images <= 0 || cost <= 0 {
			return Fit{}, fmt.Errorf("%d images cost %g, which is not more than the %g of %d: nothing grows", s.images, s.cost, base.cost, base.images)
		}
		x, y := math.Log(float64(images)), math.Log(cost)
		n, sumX, sumY, sumXX, sumXY = n+1, sumX+x, sumY+y, sumXX+x*x, sumXY+x*y
		out.Points = append(out.Points, s.images)
	}
	spread := n*sumXX - sumX*sumX
	if n < 2 || spread <= 0 {
		return Fit{}, fmt.Errorf("a growth needs two sizes, not %d", len(kept))
	}
	out.Exponent = (n*sumXY - sumX*sumY) / spread
	return out, nil
}
