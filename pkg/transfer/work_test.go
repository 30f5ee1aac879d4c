package transfer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/fault"
	"ferry/pkg/memo"
	"ferry/pkg/oci"
)

// waitFor fails the test where the crew does not come to its end.
func waitFor(t *testing.T, c *crew) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- c.wait(t.Context()) }()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the crew never ends")
		return nil
	}
}

// Ten thousand images are ten thousand items, and each may lead to others: they
// are all done, no more than limit at a time in a slot, and few of them have a
// goroutine.
func TestCrewIsBounded(t *testing.T) {
	for _, limit := range []int{0, 1, 3} {
		c := newCrew(t.Context(), limit)
		before := runtime.NumGoroutine()
		var done, inSlots, mostSlots, mostGoroutines atomic.Int64
		most := func(of *atomic.Int64, n int64) {
			for old := of.Load(); n > old && !of.CompareAndSwap(old, n); old = of.Load() {
			}
		}
		work := func(context.Context) error {
			most(&mostSlots, inSlots.Add(1))
			defer inSlots.Add(-1)
			most(&mostGoroutines, int64(runtime.NumGoroutine()-before))
			done.Add(1)
			return nil
		}
		const items = 5000
		for range items {
			c.goUnlimited("parent", func(ctx context.Context) error {
				c.goNext("child", func(ctx context.Context) error {
					return c.slot(func() error { return work(ctx) })
				})
				c.run("another", work)
				return nil
			})
		}
		if err := waitFor(t, c); err != nil {
			t.Fatal(err)
		}
		if done.Load() != 2*items {
			t.Errorf("limit %d: %d items were done, want %d", limit, done.Load(), 2*items)
		}
		if want := int64(max(limit, 1)); mostSlots.Load() > want {
			t.Errorf("limit %d: %d items were in slots at a time", limit, mostSlots.Load())
		}
		if most := int64(max(limit, 1)*workersPerSlot + 10); mostGoroutines.Load() > most {
			t.Errorf("limit %d: %d goroutines, want at most %d", limit, mostGoroutines.Load(), most)
		}
	}
}

// Items wait for what another is computing, and that one for its slot, which the
// waiting ones must not have.
func TestCrewDoesNotBlockItself(t *testing.T) {
	c := newCrew(t.Context(), 1)
	var shared memo.Once[int, int]
	var mu sync.Mutex
	sum := 0
	for i := range 1000 {
		c.goUnlimited("waits", func(context.Context) error {
			v, err := shared.Get(i/100, func() (v int, err error) {
				err = c.slot(func() error { v = 1; return nil })
				return v, err
			})
			mu.Lock()
			defer mu.Unlock()
			sum += v
			return err
		})
	}
	if err := waitFor(t, c); err != nil || sum != 1000 {
		t.Errorf("%d of 1000 items had what they waited for, error %v", sum, err)
	}
}

// What an item leads to is done before what waited already, so that the line does
// not grow; all else has its turn.
func TestCrewOrder(t *testing.T) {
	c := newCrew(t.Context(), 1)
	c.most = 1
	var order []string
	note := func(name string, then ...func()) func(context.Context) error {
		return func(context.Context) error {
			order = append(order, name)
			for _, f := range then {
				f()
			}
			return nil
		}
	}
	begun := make(chan struct{})
	c.goUnlimited("", func(context.Context) error { <-begun; return nil })
	c.goUnlimited("", note("a", func() {
		c.goNext("", note("a1", func() { c.goNext("", note("a1x")) }))
		c.goNext("", note("a2"))
	}))
	c.goUnlimited("", note("b", func() { c.goUnlimited("", note("b1")) }))
	c.goUnlimited("", note("c"))
	close(begun)
	if err := waitFor(t, c); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "a2", "a1", "a1x", "b", "c", "b1"}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// A crew whose items fail shows the pattern, and does not knock for ever; where
// nothing can succeed it ends at once.
func TestCrewGivesUp(t *testing.T) {
	for _, tc := range []struct {
		kind *fault.Kind
		most int
	}{
		{fault.NotFound, maxFailures},
		{fault.Transient, maxTransient},
		{fault.Denied, 1},
		{fault.Local, 1},
	} {
		c := newCrew(t.Context(), 1)
		c.most = 1
		tried := 0
		for i := range 1000 {
			c.run(fmt.Sprint("item ", i), func(context.Context) error {
				tried++
				return fault.Newf(tc.kind, "", "it fails")
			})
		}
		err := waitFor(t, c)
		if !errors.Is(err, tc.kind) || tried != tc.most {
			t.Errorf("%v: %d items were tried, want %d; error %v", tc.kind, tried, tc.most, err)
		}
	}
}

// A tag list is believed as its rule says, however the tags, the list and the
// questions come after one another.
func TestKnownTagsBelieve(t *testing.T) {
	repo := oci.Repository{Host: "h", Path: "p"}
	believed := 0
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 0))
		tags := newKnownTags(nil)
		asked, exist, list := map[string]bool{}, map[string]bool{}, map[string]bool{}
		var steps []string
		tag := func() string { return string(rune('a' + r.IntN(5))) }
		for range r.IntN(6) {
			list[tag()] = true
		}
		learned := false
		for range 12 {
			switch step := r.IntN(4); {
			case step == 0 && !learned:
				learned = true
				tags.learn(repo, list)
				steps = append(steps, "learn")
			case step == 1:
				name := tag()
				asked[name], exist[name] = true, true
				tags.prove(repo.WithTag(name))
				steps = append(steps, "prove "+name)
			default:
				name := tag()
				asked[name] = true
				tags.ask(repo.WithTag(name))
				steps = append(steps, "ask "+name)
			}
			want := learned && len(exist) > 0
			for name := range exist {
				want = want && list[name]
			}
			others := 0
			for name := range list {
				if !asked[name] {
					others++
				}
			}
			want = want && others > 0
			if want {
				believed++
			}
			if got := tags.believe(repo); got != want {
				t.Fatalf("list %v, then %v: believed is %v, want %v", slices.Sorted(maps.Keys(list)), steps, got, want)
			}
		}
	}
	if believed == 0 {
		t.Error("no list was ever believed: nothing is shown")
	}
}
