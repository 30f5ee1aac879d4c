package sha256pair

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"sync"
	"testing"
)

// However many goroutines write, in whatever pieces, each sum is that of its own bytes.
func TestGroup(t *testing.T) {
	for _, writers := range []int{1, 2, 3, 16} {
		t.Run(fmt.Sprint(writers), func(t *testing.T) {
			var group Group
			var writing sync.WaitGroup
			for i := range writers {
				writing.Go(func() {
					random := rand.New(rand.NewPCG(6, uint64(i)))
					for range 20 {
						sum, p := group.New(), content(random.IntN(300_000))
						for rest := p; len(rest) > 0; {
							n := min(len(rest), 1+random.IntN(70_000))
							if written, err := sum.Write(rest[:n]); written != n || err != nil {
								t.Errorf("%d bytes were written: %d, %v", n, written, err)
							}
							rest = rest[n:]
						}
						if got := sum.Sum(nil); !bytes.Equal(got, want(0, p)) {
							t.Errorf("the sum of %d bytes is %x", len(p), got)
						}
					}
				})
			}
			writing.Wait()
		})
	}
}

// A sum is used again.
func TestGroupReset(t *testing.T) {
	sum := new(Group).New()
	sum.Write(content(10_000))
	sum.Reset()
	sum.Write(content(20_000))
	if got := sum.Sum(nil); !bytes.Equal(got, want(0, content(20_000))) {
		t.Errorf("the sum is %x", got)
	}
}

// Two that are there at the same time are hashed by one of them.
func TestGroupMeets(t *testing.T) {
	if !Fast() {
		t.Skip("this processor adds to one sum at a time")
	}
	var group Group
	first, second := group.New().(*member), group.New()
	p, q := content(10_000), content(12_345)
	first.rest = p
	if other := group.meet(first); other != nil {
		t.Fatal("somebody waits in a new group")
	}
	second.Write(q)
	select {
	case <-first.hashed:
	default:
		t.Fatal("the second one has not hashed for the first")
	}
	first.Hash.Write(first.rest)
	if len(first.rest) == len(p) || !bytes.Equal(first.Sum(nil), want(0, p)) || !bytes.Equal(second.Sum(nil), want(0, q)) {
		t.Errorf("%d bytes are left; the sums are %x and %x", len(first.rest), first.Sum(nil), second.Sum(nil))
	}
}

// Eight goroutines a core hash, in a group and each for itself.
func BenchmarkGroup(b *testing.B) {
	p := content(64 << 10)
	var group Group
	for name, sum := range map[string]func() hash.Hash{"group": group.New, "single": sha256.New} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				mine := sum()
				for pb.Next() {
					mine.Write(p)
				}
			})
		})
	}
}
