// Package transfer moves images between registries and content: it closes a
// Selection into a Plan ([Closer]), downloads what a Plan lists ([Downloader]),
// and publishes Contents to a target ([Publisher]).
//
// It knows no vendor. What leads from one image to another is data (links.go),
// and so are the order of tags (contract phases) and where they land.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"ferry/pkg/fault"
)

// Retry says how often and how long an operation is repeated whose failure
// heals by itself (fault.Transient, fault.RateLimited). Nothing else is
// repeated: a refusal does not become a permission.
type Retry struct {
	// Attempts is the number of tries that may fail in a row without any
	// progress before the operation is given up; at least 1.
	Attempts int
	// Delay is the pause before the second try; it doubles up to MaxDelay,
	// and half of it is random, so that workers do not come back together.
	Delay, MaxDelay time.Duration
}

// DefaultRetry repeats what the registry client, which repeats single requests,
// has given up: together they ride out a registry's restart of half a minute.
var DefaultRetry = Retry{Attempts: 3, Delay: 2 * time.Second, MaxDelay: 15 * time.Second}

// do calls op until it succeeds, fails for good, or the attempts are used up.
// op reports whether it got further than the call before; then the count
// begins anew, so a large blob on a bad line arrives as long as it moves.
func (r Retry) do(ctx context.Context, log *slog.Logger, what string, op func() (progressed bool, err error)) error {
	delay := r.Delay
	for failed := 0; ; {
		progressed, err := op()
		if err == nil {
			return nil
		}
		if progressed {
			failed, delay = 0, r.Delay
		}
		failed++
		if !fault.Heals(err) || ctx.Err() != nil {
			return err
		}
		if failed >= r.Attempts {
			if failed == 1 {
				return err // nothing was repeated
			}
			return fmt.Errorf("given up after %d rounds of tries: %w", failed, err)
		}
		pause := delay/2 + rand.N(delay/2+1)
		log.Warn("trying again", "what", what, "in", pause.Round(time.Millisecond), "cause", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		delay = min(delay*2, r.MaxDelay)
	}
}

// maxFailures is how many items may fail before the rest is not tried any
// more: enough to show the pattern, few enough not to knock on a closed door
// ten thousand times.
const maxFailures = 20

// maxTransient is how many of them may be failures that no repeating healed:
// then the other side is down, and each further item would take as long to fail.
const maxTransient = 4

// crew runs work items, at most limit at a time, and keeps going when single
// items fail, so that one run shows every cause. Denied, Local and Cancelled
// end it at once: the others would fail in the same way.
//
// Items may start others. They wait in line until one of a fixed number of
// workers is free, for a goroutine an item would be the memory of a hundred
// thousand stacks. So no item may wait for one that it, or anybody, has started;
// for what another one computes at the moment it may.
type crew struct {
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan struct{}
	items  sync.WaitGroup

	mu        sync.Mutex
	line      line
	workers   int // at work
	most      int // how many there may be
	failures  []error
	transient int
}

// workersPerSlot is how many items may be under way for each that may occupy a
// slot: the others wait for their slot, or for what another item is computing.
const workersPerSlot = 4

func newCrew(ctx context.Context, limit int) *crew {
	ctx, cancel := context.WithCancel(ctx)
	limit = max(limit, 1)
	return &crew{ctx: ctx, cancel: cancel, slots: make(chan struct{}, limit), most: limit * workersPerSlot}
}

// slot runs f as soon as fewer than limit others run. Items that only wait for
// others must not hold a slot.
func (c *crew) slot(f func() error) error {
	select {
	case c.slots <- struct{}{}:
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
	defer func() { <-c.slots }()
	return f()
}

// work is an item with what to do for it.
type work struct {
	item string
	do   func(ctx context.Context) error
}

// line is what waits for a worker.
type line struct {
	first  []work // the last one comes next
	behind []work // in turn, when first is empty
	taken  int    // of behind
}

func (l *line) next() (work, bool) {
	if n := len(l.first); n > 0 {
		w := l.first[n-1]
		l.first[n-1] = work{} // what it holds is free when it is done
		l.first = l.first[:n-1]
		return w, true
	}
	if l.taken == len(l.behind) {
		l.behind, l.taken = nil, 0
		return work{}, false
	}
	w := l.behind[l.taken]
	l.behind[l.taken] = work{}
	l.taken++
	return w, true
}

// goUnlimited starts an item that takes slots itself.
func (c *crew) goUnlimited(item string, f func(ctx context.Context) error) {
	c.add(work{item, f}, false)
}

// goNext is goUnlimited for what an item leads to: it comes before all that waits,
// so that what is begun comes to its end and the line does not grow.
func (c *crew) goNext(item string, f func(ctx context.Context) error) {
	c.add(work{item, f}, true)
}

// run starts an item that occupies a slot.
func (c *crew) run(item string, f func(ctx context.Context) error) {
	c.goUnlimited(item, func(ctx context.Context) error {
		return c.slot(func() error { return f(ctx) })
	})
}

func (c *crew) add(w work, next bool) {
	c.items.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if next {
		c.line.first = append(c.line.first, w)
	} else {
		c.line.behind = append(c.line.behind, w)
	}
	if c.workers < c.most {
		c.workers++
		go c.work()
	}
}

// work does what is in line until nothing is.
func (c *crew) work() {
	for {
		c.mu.Lock()
		w, ok := c.line.next()
		if !ok {
			c.workers--
		}
		c.mu.Unlock()
		if !ok {
			return
		}
		if c.ctx.Err() == nil {
			c.record(w.item, w.do(c.ctx))
		}
		c.items.Done()
	}
}

func (c *crew) record(item string, err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// What fails because the crew was stopped is no cause of its own.
	if c.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return
	}
	c.failures = append(c.failures, fault.About(item, err))
	if fault.Heals(err) {
		c.transient++
	}
	kind := fault.KindOf(err)
	if kind == fault.Denied || kind == fault.Local || kind == fault.Cancelled || errors.Is(err, fault.ErrNotSoon) ||
		c.transient >= maxTransient || len(c.failures) >= maxFailures {
		c.cancel()
	}
}

// pause returns when all items have ended; others may be started then.
func (c *crew) pause() { c.items.Wait() }

// wait returns when all items have ended, with all failures joined, or the
// cause why parent was cancelled.
func (c *crew) wait(parent context.Context) error {
	c.items.Wait()
	c.cancel()
	if err := parent.Err(); err != nil {
		return context.Cause(parent)
	}
	return errors.Join(c.failures...)
}
