package sha256pair

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"testing"
)

func content(n int) []byte {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(random.Uint32())
	}
	return p
}

// begun is a sum of n bytes.
func begun(n int) hash.Hash {
	h := sha256.New()
	h.Write(content(n))
	return h
}

// want is the sum of n bytes and p behind them.
func want(n int, p []byte) []byte {
	sum := sha256.Sum256(append(content(n), p...))
	return sum[:]
}

// Both sums are those of crypto/sha256, wherever they stand and however much comes.
func TestWrite(t *testing.T) {
	for _, before := range [][2]int{{0, 0}, {0, 64}, {512, 0}, {1, 1}, {63, 127}, {100, 36}, {0, 1}, {5, 70}} {
		for _, n := range []int{0, 1, 63, 64, 65, least - 1, least, least + 1, least + 63, least + 64, 1 << 20, 1<<20 + 17} {
			t.Run(fmt.Sprint(before, n), func(t *testing.T) {
				p := content(n)
				a, b := begun(before[0]), begun(before[1])
				Write(a, b, p)
				if got := a.Sum(nil); !bytes.Equal(got, want(before[0], p)) {
					t.Errorf("the first sum is %x", got)
				}
				if got := b.Sum(nil); !bytes.Equal(got, want(before[1], p)) {
					t.Errorf("the second sum is %x", got)
				}
			})
		}
	}
}

// Different bytes, of different lengths, get into two sums that stand at different
// places of a block.
func TestBoth(t *testing.T) {
	if !Fast() {
		t.Skip("this processor adds to one sum at a time")
	}
	random := rand.New(rand.NewPCG(4, 5))
	for range 500 {
		before, other := random.IntN(200), random.IntN(200)
		p, q := content(random.IntN(1000)), content(random.IntN(1000))
		a, b := begun(before), begun(other)
		if !both(a, p, b, q) {
			t.Fatal("the states are not read")
		}
		if !bytes.Equal(a.Sum(nil), want(before, p)) || !bytes.Equal(b.Sum(nil), want(other, q)) {
			t.Fatalf("%d bytes behind %d, %d behind %d: the sums are %x and %x", len(p), before, len(q), other, a.Sum(nil), b.Sum(nil))
		}
	}
}

// Other sums, or what crypto/sha256 may become, are written to as they are.
func TestWriteOtherSums(t *testing.T) {
	p := content(10_000)
	a, b := opaque{sha256.New()}, sha256.New()
	Write(a, b, p)
	if !bytes.Equal(a.Sum(nil), want(0, p)) || !bytes.Equal(b.Sum(nil), want(0, p)) {
		t.Errorf("the sums are %x and %x", a.Sum(nil), b.Sum(nil))
	}
	c, d := sha256.New224(), sha256.New()
	Write(c, d, p)
	if sum := sha256.Sum224(p); !bytes.Equal(c.Sum(nil), sum[:]) || !bytes.Equal(d.Sum(nil), want(0, p)) {
		t.Errorf("the sums are %x and %x", c.Sum(nil), d.Sum(nil))
	}
}

// opaque keeps its state for itself.
type opaque struct{ hash.Hash }

// Where the processor could, it does: else the fast form would be lost unnoticed
// with a new crypto/sha256.
func TestFast(t *testing.T) {
	if Fast() != possible() {
		t.Errorf("Fast is %v, and the processor could: %v", Fast(), possible())
	}
}

// A stream may come in any pieces.
func TestWritePieces(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 3))
	for range 50 {
		p := content(random.IntN(200_000))
		before, other := random.IntN(300), random.IntN(300)
		a, b := begun(before), begun(other)
		for rest := p; len(rest) > 0; {
			n := min(len(rest), random.IntN(30_000))
			Write(a, b, rest[:n])
			rest = rest[n:]
		}
		if !bytes.Equal(a.Sum(nil), want(before, p)) || !bytes.Equal(b.Sum(nil), want(other, p)) {
			t.Fatalf("%d bytes behind %d and %d: the sums are %x and %x", len(p), before, other, a.Sum(nil), b.Sum(nil))
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	p := content(1 << 20)
	for name, write := range map[string]func(a, b hash.Hash, p []byte){
		"pair": Write,
		"two":  func(a, b hash.Hash, p []byte) { a.Write(p); b.Write(p) },
	} {
		b.Run(name, func(b *testing.B) {
			x, y := sha256.New(), sha256.New()
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				write(x, y, p)
			}
		})
	}
}
