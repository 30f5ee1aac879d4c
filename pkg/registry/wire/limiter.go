package wire

import (
	"context"
	"slices"
	"sync"
	"time"
)

// MaxConcurrency is the most operations of a kind, with large blobs or without,
// that a Client has under way at one registry where Options.Concurrency leaves it
// the choice.
const MaxConcurrency = 64

const (
	// firstConcurrency is what an own choice begins with: enough to keep two
	// processors busy with a registry next door. Uploads of large blobs take longer
	// beside more small ones.
	firstConcurrency = 8
	// farConcurrency is what it goes on with where the first farAnswers each took
	// far or longer, for most of an operation is waiting there; and what reading
	// begins with.
	farConcurrency = 32
	farAnswers     = 3
	far            = 20 * time.Millisecond
	// bulky is from how many bytes on a blob takes its time because of them. Such
	// ones are counted apart: more of them at a time would bring no more through a
	// line that is full, but each would take longer, and be lost whole by a drop.
	bulky = 4 << 20
	// shortWindow and longWindow bound the time that is looked at in one: long
	// enough for as many answers as there are operations, if they come at all.
	shortWindow, longWindow = 100 * time.Millisecond, time.Second
	// worth is how many bytes a finished operation counts for, so that many
	// small blobs and a few large ones are measured alike.
	worth = 64 << 10
	// gain is how much more must get through for twice the operations to stay.
	// Where latency is the limit, twice as much does.
	gain = 1.25
	// longPatience bounds the windows between two trials, which double from
	// firstPatience with each that failed.
	firstPatience, longPatience = 8, 128
	// waryPatience is how many windows pass before one operation more is tried
	// at a registry that has complained of too many.
	waryPatience = 4
)

// limits are the limiters of one registry: of operations that take their time
// because of their bytes, and of all others. A fixed limit is one for both.
type limits struct {
	brief, bulky *limiter
}

// newLimits returns one fixed limit, or, where that is 0, limits that find their own,
// beginning with first.
func newLimits(fixed, first int) limits {
	if fixed > 0 {
		one := fixedLimiter(fixed)
		return limits{brief: one, bulky: one}
	}
	return limits{brief: newLimiter(first), bulky: newLimiter(firstConcurrency)}
}

// of returns the limiter of an operation that moves so many bytes.
func (l limits) of(size int64) *limiter {
	if size >= bulky {
		return l.bulky
	}
	return l.brief
}

// tooMany notes that the registry complained of too many requests, by its answer to
// one that was sent then.
func (l limits) tooMany(sent time.Time) {
	l.brief.tooMany(sent)
	l.bulky.tooMany(sent)
}

// limiter says how many operations may be under way at a time. With a fixed
// limit that is all. Without one it tries twice as many while operations
// wait for their turn, and stays with them when that brings more through: behind
// latency it does, up to MaxConcurrency, next door it does not. Half as many are
// left when the registry answers that they are too many, and then one more at
// a time.
//
// It measures when something happens, and needs no goroutine of its own.
type limiter struct {
	fixed bool

	mu      sync.Mutex
	limit   int
	running int
	waiting []chan struct{}

	now      window
	trial    *trial    // of the present limit
	rest     int       // windows before the next trial
	patience int       // what rest is set to after a trial that failed
	wary     bool      // the registry complained
	halved   time.Time // complaints about what was sent before are one with the last

	answers int           // noted, up to farAnswers
	nearest time.Duration // the shortest time that one of them took
}

// window is what was seen since it began.
type window struct {
	began    time.Time
	bytes    int64
	finished int64
	wanted   bool // an operation had to wait for its turn
}

// trial is a limit that must prove itself.
type trial struct {
	before  float64 // what got through a second with the limit from
	from    int
	settled bool // a window has passed, in which connections were made
}

// newLimiter returns a limiter that finds its own limit, beginning with first.
func newLimiter(first int) *limiter { return &limiter{limit: first, patience: firstPatience} }

// fixedLimiter returns a limiter that keeps the limit.
func fixedLimiter(limit int) *limiter { return &limiter{fixed: true, limit: limit} }

// acquire waits for the turn of an operation. Who came first is served first.
func (l *limiter) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	if l.running < l.limit && len(l.waiting) == 0 {
		l.running++
		l.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	l.waiting = append(l.waiting, turn)
	l.now.wanted = true
	l.mu.Unlock()
	return l.await(ctx, turn)
}

// await waits for a turn that was put in line.
func (l *limiter) await(ctx context.Context, turn chan struct{}) error {
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, turn); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	} else { // its turn has come meanwhile
		l.running--
		l.admit()
	}
	return ctx.Err()
}

// goOn is for an operation that has its turn and wants to make a request: where more
// are under way than may be now, it waits until it is one of those that may, before
// all that have not begun. Its turn remains to be released, also after an error.
func (l *limiter) goOn(ctx context.Context) error {
	l.mu.Lock()
	if l.running <= l.limit {
		l.mu.Unlock()
		return nil
	}
	l.running--
	turn := make(chan struct{})
	l.waiting = slices.Insert(l.waiting, 0, turn)
	l.mu.Unlock()
	err := l.await(ctx, turn)
	if err != nil {
		l.mu.Lock()
		l.running++
		l.mu.Unlock()
	}
	return err
}

// release ends the turn of an operation.
func (l *limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	l.now.finished++
	l.look()
	l.admit()
}

// moved notes bytes of a blob that came or went.
func (l *limiter) moved(n int) {
	if l.fixed {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now.bytes += int64(n)
	l.look()
	l.admit()
}

// answered notes how long the answer to a request that says little took. The
// first few tell how far away the registry is.
func (l *limiter) answered(after time.Duration) {
	if l.fixed {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answers == farAnswers {
		return
	}
	if l.answers++; l.answers == 1 || after < l.nearest {
		l.nearest = after
	}
	if l.answers == farAnswers && l.nearest >= far && !l.wary && l.limit < farConcurrency {
		l.limit, l.trial = farConcurrency, nil
		l.now = window{began: time.Now()}
		l.admit()
	}
}

// tooMany notes that the registry complained of too many requests, by its answer to
// one that was sent then. Those that were under way together complain together,
// which counts once.
func (l *limiter) tooMany(sent time.Time) {
	if l.fixed {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !sent.After(l.halved) {
		return
	}
	l.halved = time.Now()
	l.limit = max(1, l.limit/2)
	l.wary, l.trial, l.rest = true, nil, waryPatience
	l.now = window{began: l.halved}
}

// admit gives turns to those who wait. l.mu is held.
func (l *limiter) admit() {
	for len(l.waiting) > 0 && l.running < l.limit {
		close(l.waiting[0])
		l.waiting = slices.Delete(l.waiting, 0, 1)
		l.running++
	}
	l.now.wanted = l.now.wanted || len(l.waiting) > 0
}

// look ends the window when it has seen enough. l.mu is held.
func (l *limiter) look() {
	if l.fixed {
		return
	}
	now := time.Now()
	if l.now.began.IsZero() {
		l.now.began = now
	}
	age := now.Sub(l.now.began)
	if age < shortWindow || age < longWindow && l.now.finished < int64(l.limit) {
		return
	}
	seen := l.now
	l.now = window{began: now}
	// Where nobody waited, another limit would have changed nothing.
	if seen.wanted {
		l.choose(float64(seen.bytes+seen.finished*worth) / age.Seconds())
	}
}

// choose sets the limit after a window in which so much got through a second.
// l.mu is held.
func (l *limiter) choose(through float64) {
	switch {
	case l.trial != nil && !l.trial.settled:
		l.trial.settled = true
		return
	case l.trial != nil && through < gain*l.trial.before:
		l.limit = l.trial.from
		l.trial, l.rest = nil, l.patience
		l.patience = min(2*l.patience, longPatience)
		return
	case l.trial != nil:
		l.trial, l.patience = nil, firstPatience
	case l.rest > 0:
		l.rest--
		return
	}
	switch {
	case l.limit >= MaxConcurrency:
	case l.wary:
		l.limit++
		l.rest = waryPatience
	default:
		l.trial = &trial{before: through, from: l.limit}
		l.limit = min(2*l.limit, MaxConcurrency)
	}
}
