package wire

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// path is a simulated way to a registry: every operation waits for latency, then
// for one of few servers, where there are any, which takes service for it.
type path struct {
	latency, service time.Duration
	servers, bytes   int
}

// run lets inFlight callers do operations on p under l for so long, and returns
// how many were done, and the largest limit and the last one.
func (p path) run(t *testing.T, l *limiter, inFlight int, long time.Duration) (done, peak, last int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	free := make(chan struct{}, p.servers)
	var mu sync.Mutex
	var callers sync.WaitGroup
	for range inFlight {
		callers.Go(func() {
			for l.acquire(ctx) == nil {
				time.Sleep(p.latency)
				if p.servers > 0 {
					free <- struct{}{}
					time.Sleep(p.service)
					<-free
				}
				l.moved(p.bytes)
				l.release()
				l.mu.Lock()
				limit := l.limit
				l.mu.Unlock()
				mu.Lock()
				done, peak = done+1, max(peak, limit)
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	return done, peak, l.limit
}

// TestLimiterFindsWhatPays: behind latency operations get more until there are
// no more to have; where the registry is what limits, or nobody asks for more,
// they stay few.
func TestLimiterFindsWhatPays(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		first    int
		path     path
		inFlight int
		// peak bounds the limit, atLeast is what it must end with, share how much
		// of what as many operations as can be would do must have been done.
		peak, atLeast int
		share         float64
	}{
		{"far away", firstConcurrency, path{latency: 50 * time.Millisecond, bytes: 4 << 10}, 64, 64, 64, 0.9},
		{"very far away", firstConcurrency, path{latency: 300 * time.Millisecond, bytes: 4 << 10}, 64, 64, 64, 0.7},
		{"far away, large", firstConcurrency, path{latency: 2 * time.Second, bytes: 40 << 20}, 64, 64, 32, 0.3},
		{"next door", firstConcurrency, path{latency: 100 * time.Microsecond, service: time.Millisecond, servers: 2}, 64, 16, 8, 0.95},
		{"far away and slow", firstConcurrency, path{latency: 50 * time.Millisecond, service: 10 * time.Millisecond, servers: 4, bytes: 1 << 20}, 64, 64, 16, 0.9},
		{"far away, begun with many", farConcurrency, path{latency: 50 * time.Millisecond, bytes: 4 << 10}, 64, 64, 64, 0.95},
		{"next door, begun with many", farConcurrency, path{latency: 100 * time.Microsecond, service: time.Millisecond, servers: 2}, 64, 64, 32, 0.95},
		{"few callers", firstConcurrency, path{latency: 50 * time.Millisecond}, 6, 8, 8, 0.95},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				most, _, _ := tt.path.run(t, fixedLimiter(MaxConcurrency), tt.inFlight, 20*time.Second)
				done, peak, last := tt.path.run(t, newLimiter(tt.first), tt.inFlight, 20*time.Second)
				t.Logf("%d done, %.2f of the most; at most %d, at last %d", done, float64(done)/float64(most), peak, last)
				if peak > tt.peak || last < tt.atLeast {
					t.Errorf("the limit was %d at most and %d at last, want %d and at least %d", peak, last, tt.peak, tt.atLeast)
				}
				if float64(done) < tt.share*float64(most) {
					t.Errorf("%d operations, want %.2f of %d", done, tt.share, most)
				}
			})
		})
	}
}

// TestLimiterHeedsComplaints: what complains together halves the limit once, and
// it comes back one by one; it never falls to nothing.
func TestLimiterHeedsComplaints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		far := path{latency: 50 * time.Millisecond}
		l := newLimiter(firstConcurrency)
		if _, _, last := far.run(t, l, 64, 10*time.Second); last != 64 {
			t.Fatalf("the limit is %d", last)
		}
		for range 64 {
			l.tooMany(time.Now())
		}
		if l.limit != 32 {
			t.Errorf("after complaints: %d, want 32", l.limit)
		}
		if _, peak, last := far.run(t, l, 64, 5*time.Second); peak > 45 || last <= 32 {
			t.Errorf("5 s later the limit is %d, and was %d", last, peak)
		}
		for range 10 {
			time.Sleep(time.Millisecond)
			l.tooMany(time.Now())
		}
		if l.limit != 1 {
			t.Errorf("after many complaints: %d, want 1", l.limit)
		}
		if done, _, last := far.run(t, l, 64, 30*time.Second); done == 0 || last <= 1 {
			t.Errorf("after many complaints: %d operations, the limit is %d", done, last)
		}
	})
}

// TestLimiterFixed: a number that was asked for is neither passed nor changed.
func TestLimiterFixed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := fixedLimiter(3)
		done, peak, last := path{latency: 50 * time.Millisecond}.run(t, l, 64, time.Second)
		l.tooMany(time.Now())
		if done > 3*21 || done < 3*19 || peak != 3 || last != 3 || l.limit != 3 {
			t.Errorf("%d operations, the limit was %d and is %d", done, peak, l.limit)
		}
	})
}

// TestLimiterTurns: turns come in order, and one that is given up is not lost.
func TestLimiterTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := fixedLimiter(1)
		if err := l.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		var order []int
		var callers sync.WaitGroup
		for i := range 4 {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			callers.Go(func() {
				if err := l.acquire(ctx); err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					return
				}
				order = append(order, i) // alone: the limit is 1
				l.release()
			})
			synctest.Wait()
			if i == 1 {
				cancel()
			}
		}
		l.release()
		callers.Wait()
		if len(order) != 3 || order[0] != 0 || order[1] != 2 || order[2] != 3 {
			t.Errorf("turns came as %v", order)
		}
		// The turn comes, and the caller gives up, at once.
		if err := l.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		callers.Go(func() {
			if l.acquire(ctx) == nil {
				l.release()
			}
		})
		synctest.Wait()
		cancel()
		l.release()
		callers.Wait()
		if l.running != 0 || len(l.waiting) != 0 {
			t.Errorf("%d run and %d wait, when all is done", l.running, len(l.waiting))
		}
	})
}

// TestLimiterBeginsByDistance: where the first answers all take long, more
// operations are begun with; one that is quick tells that the registry is near.
func TestLimiterBeginsByDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		limiter *limiter
		before  func(*limiter)
		answers []time.Duration
		want    int
	}{
		{"far", newLimiter(firstConcurrency), nil, []time.Duration{200 * time.Millisecond, far, 60 * time.Millisecond}, farConcurrency},
		{"near, and slow to begin", newLimiter(firstConcurrency), nil, []time.Duration{time.Second, time.Millisecond, time.Second}, firstConcurrency},
		{"too early to tell", newLimiter(firstConcurrency), nil, []time.Duration{time.Second, time.Second}, firstConcurrency},
		{"busy later", newLimiter(firstConcurrency), nil, []time.Duration{time.Millisecond, time.Second, time.Second, time.Second, time.Second}, firstConcurrency},
		{"far, and not to be bothered", newLimiter(firstConcurrency), func(l *limiter) { l.tooMany(time.Now()) }, []time.Duration{time.Second, time.Second, time.Second}, firstConcurrency / 2},
		{"far, and a number is given", fixedLimiter(5), nil, []time.Duration{time.Second, time.Second, time.Second}, 5},
	} {
		if tt.before != nil {
			tt.before(tt.limiter)
		}
		for _, d := range tt.answers {
			tt.limiter.answered(d)
		}
		if tt.limiter.limit != tt.want {
			t.Errorf("%s: the limit is %d, want %d", tt.name, tt.limiter.limit, tt.want)
		}
	}
}

// TestLimiterStopsSome: what is under way when fewer may be goes on by turns, before
// what has not begun; what is given up keeps the count right.
func TestLimiterStopsSome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(4)
		for range 4 {
			if err := l.acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var order []string
		var callers sync.WaitGroup
		note := func(name string, wait func(context.Context) error, ctx context.Context) {
			callers.Go(func() {
				if wait(ctx) == nil {
					order = append(order, name)
				}
			})
			synctest.Wait()
		}
		ctx, giveUp := context.WithCancel(t.Context())
		note("new", l.acquire, t.Context())
		l.tooMany(time.Now()) // 2 are left
		note("stopped", l.goOn, t.Context())
		note("given up", l.goOn, ctx)
		note("goes on", l.goOn, t.Context())
		giveUp()
		synctest.Wait()
		if want := []string{"goes on"}; !slices.Equal(order, want) {
			t.Errorf("went on: %q, want %q", order, want)
		}
		for range 4 { // of the five the last one is new
			l.release()
			synctest.Wait()
		}
		callers.Wait()
		if want := []string{"goes on", "stopped", "new"}; !slices.Equal(order, want) || l.running != 1 {
			t.Errorf("went on: %q, want %q; %d are under way, want 1", order, want, l.running)
		}
	})
}

// TestLimitsCountBulkApart: large blobs do not take the turns of small ones, nor the
// other way round; a number that was asked for is one for both, and complaints
// are about both.
func TestLimitsCountBulkApart(t *testing.T) {
	t.Parallel()
	own, given := newLimits(0, farConcurrency), newLimits(6, farConcurrency)
	if own.of(bulky-1) == own.of(bulky) {
		t.Error("large and small ones share their turns")
	}
	own.tooMany(time.Now())
	if own.brief.limit != farConcurrency/2 || own.bulky.limit != firstConcurrency/2 {
		t.Errorf("after a complaint %d and %d are left", own.brief.limit, own.bulky.limit)
	}
	if given.of(0) != given.of(bulky) || given.brief.limit != 6 {
		t.Errorf("a given number is not one for all: %+v", given)
	}
}

// TestReadsBeginWithMany: who only reads begins with many small operations wherever
// the registry is, and with as few large ones as anybody.
func TestReadsBeginWithMany(t *testing.T) {
	t.Parallel()
	for _, reads := range []bool{false, true} {
		c, err := New(Options{Reads: reads})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		l := c.host("registry.test").limits
		want := map[bool]int{false: firstConcurrency, true: farConcurrency}[reads]
		if l.brief.limit != want || l.bulky.limit != firstConcurrency {
			t.Errorf("reads: %v: %d and %d large ones, want %d and %d", reads, l.brief.limit, l.bulky.limit, want, firstConcurrency)
		}
	}
}

// TestFarRegistryIsAskedMore: the distance is seen at the requests themselves, not
// at the bodies of blobs.
func TestFarRegistryIsAskedMore(t *testing.T) {
	t.Parallel()
	reg := registrytest.New()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(far + 5*time.Millisecond)
		reg.ServeHTTP(w, r)
	}))
	defer srv.Close()
	c, err := New(Options{PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	reg.PutImage("a", "v1", []byte("layer"))
	at := oci.Reference{Repository: oci.Repository{Host: host, Path: "a"}, Tag: "v1"}
	limit := func() int {
		l := c.host(host).limits.brief
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.limit
	}
	for i := range farAnswers {
		if limit() != firstConcurrency {
			t.Fatalf("after %d answers the limit is %d", i, limit())
		}
		if _, err := c.Resolve(t.Context(), at); err != nil {
			t.Fatal(err)
		}
	}
	if limit() != farConcurrency {
		t.Errorf("the limit is %d, want %d", limit(), farConcurrency)
	}
}
