// Package progress shows how far a run is.
//
// Work reports to a [Tracker]: bytes, images, and how many there will be. A
// [Display] is the Tracker that shows it: as a bar on a terminal, as a line now
// and then, as JSON events, or not at all. Everything else that goes to the
// same stream is written through the Display, so that nothing tears the bar.
//
// A percentage never runs backwards, also when the total grows while links are
// followed, and 100 % is not shown before the end: a figure that lies is worse
// than none.
package progress

import "io"

// Tracker is told of work. It is safe for concurrent use, and cheap enough to
// be told of every read.
type Tracker interface {
	// SetTotal says how many bytes and images there are in all, as far as is
	// known by now; 0 is "not known". It may be called again with more.
	SetTotal(bytes, images int64)
	// AddBytes reports n more bytes done.
	AddBytes(n int64)
	// AddImages reports n more images done.
	AddImages(n int64)
	// Phase names what is being done now, in a word or two: "sending blobs".
	Phase(name string)
}

// None returns a Tracker that shows nothing.
func None() Tracker { return none{} }

type none struct{}

func (none) SetTotal(int64, int64) {}
func (none) AddBytes(int64)        {}
func (none) AddImages(int64)       {}
func (none) Phase(string)          {}

// Reader returns a reader of r that reports its bytes to t as they are read.
func Reader(r io.Reader, t Tracker) io.Reader { return &reader{r, t} }

// Mark reports how far something is that may begin anew, each byte once: a
// percentage never runs backwards.
type Mark struct {
	Tracker Tracker
	most    int64
}

// At reports all up to position that was not reported yet.
func (m *Mark) At(position int64) {
	if position > m.most {
		m.Tracker.AddBytes(position - m.most)
		m.most = position
	}
}

type reader struct {
	r io.Reader
	t Tracker
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.t.AddBytes(int64(n))
	return n, err
}
