package scale

// Result is how the stages grow over each kind of source.
type Result struct{ Sources []Source }

// Source is one kind of source: "list" is a list of images, "edition" the modules
// of an edition of Deckhouse.
type Source struct {
	Name   string
	Stages []Stage
}

// Stage is how one stage grows.
type Stage struct {
	// Name is "discover", "select" or "plan".
	Name string
	// Base is the cost of the smallest source, which stands for what the
	// program costs without any image.
	Base   Point
	Points []Point
	// Time is the growth of CPU, for the wall clock tells of the machine's
	// other work too. Memory is that of Peak.
	Time, Memory Fit
}

// Point is what a stage used for a source of so many images.
type Point struct {
	Images int
	// Wall and CPU are in seconds.
	Wall, CPU float64
	// Peak is the largest resident set, and Document the size of what the
	// stage wrote, in bytes.
	Peak, Document int64
}
