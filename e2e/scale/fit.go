package scale

import "math"

// Fit is how a cost grows: as images to the power of Exponent.
type Fit struct {
	Exponent float64
	// Points are the numbers of images that it was fitted over. There are none
	// where the cost of the images is lost in what starting a program costs:
	// then Exponent is 0, and says nothing.
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
func fit(base sample, samples []sample) Fit {
	const needed = 3
	for len(samples) > needed && samples[0].cost-base.cost < base.cost {
		samples = samples[1:]
	}
	var out Fit
	var n, sumX, sumY, sumXX, sumXY float64
	for _, s := range samples {
		images, cost := s.images-base.images, s.cost-base.cost
		if images <= 0 || cost <= 0 {
			return Fit{}
		}
		x, y := math.Log(float64(images)), math.Log(cost)
		n, sumX, sumY, sumXX, sumXY = n+1, sumX+x, sumY+y, sumXX+x*x, sumXY+x*y
		out.Points = append(out.Points, s.images)
	}
	spread := n*sumXX - sumX*sumX
	if n < 2 || spread <= 0 {
		return Fit{}
	}
	out.Exponent = (n*sumXY - sumX*sumY) / spread
	return out
}
