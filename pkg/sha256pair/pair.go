// Package sha256pair adds to two SHA-256 sums at once, for less than the price of two:
// the same bytes to that of an archive and that of a blob in it, or different bytes to
// sums that two goroutines write to.
package sha256pair

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
	"sync"
)

// least is how many bytes are worth the way into two states and out again.
const least = 4 << 10

// Write adds p to two sums of crypto/sha256, as a.Write(p) and b.Write(p) would. It
// is faster where [Fast] says so.
func Write(a, b hash.Hash, p []byte) {
	if len(p) < least || !Fast() || !both(a, p, b, p) {
		a.Write(p)
		b.Write(p)
	}
}

// Fast tells whether this processor adds to two sums for less than the price of two.
func Fast() bool { return fast() }

// fast is also false when crypto/sha256 is not what this package knows: it keeps
// its state in a form of its own then, which state would misread.
var fast = sync.OnceValue(func() bool {
	if !possible() {
		return false
	}
	p, q := bytes.Repeat([]byte("0123456789"), 20), bytes.Repeat([]byte("abc"), 100)
	a, b := sha256.New(), sha256.New()
	b.Write(q[:7])
	if !both(a, p, b, q[7:]) {
		return false
	}
	wantA, wantB := sha256.Sum256(p), sha256.Sum256(q)
	return bytes.Equal(a.Sum(nil), wantA[:]) && bytes.Equal(b.Sum(nil), wantB[:])
})

// both adds p to a and q to b, or does nothing and returns false where a sum does not
// give its state away in the known form.
func both(a hash.Hash, p []byte, b hash.Hash, q []byte) bool {
	var x, y state
	if !x.read(a) || !y.read(b) {
		return false
	}
	p, q = x.endBlock(a, p), y.endBlock(b, q)
	if n := min(len(p), len(q)) / sha256.BlockSize; n > 0 {
		whole := n * sha256.BlockSize
		blocks(&x.words, &y.words, &p[0], &q[0], n, &constants)
		x.write(a, whole)
		y.write(b, whole)
		p, q = p[whole:], q[whole:]
	}
	a.Write(p)
	b.Write(q)
	return true
}

// The form in which crypto/sha256 gives its state away: a name, eight words, the
// block that is not full yet, and the number of bytes so far.
const (
	stateName = "sha\x03"
	wordsAt   = len(stateName)
	lengthAt  = wordsAt + sha256.Size + sha256.BlockSize
	stateSize = lengthAt + 8
)

// state is that of a sum.
type state struct {
	words [8]uint32
	text  [stateSize]byte
}

// read reports whether the sum has a state of the known form.
func (s *state) read(h hash.Hash) bool {
	from, ok := h.(encoding.BinaryAppender)
	if !ok {
		return false
	}
	text, err := from.AppendBinary(s.text[:0])
	if err != nil || len(text) != stateSize || string(text[:wordsAt]) != stateName {
		return false
	}
	for i := range s.words {
		s.words[i] = binary.BigEndian.Uint32(text[wordsAt+4*i:])
	}
	_, ok = h.(encoding.BinaryUnmarshaler)
	return ok
}

// endBlock gives the sum of this state as many bytes of p as its block lacks, and
// returns those behind them.
func (s *state) endBlock(h hash.Hash, p []byte) []byte {
	open := int(binary.BigEndian.Uint64(s.text[lengthAt:]) % sha256.BlockSize)
	if open == 0 {
		return p
	}
	head := min(sha256.BlockSize-open, len(p))
	h.Write(p[:head])
	s.read(h)
	return p[head:]
}

// write makes the words those of the sum, which is more bytes further on.
func (s *state) write(h hash.Hash, more int) {
	for i, w := range s.words {
		binary.BigEndian.PutUint32(s.text[wordsAt+4*i:], w)
	}
	length := s.text[lengthAt:]
	binary.BigEndian.PutUint64(length, binary.BigEndian.Uint64(length)+uint64(more))
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.text[:]); err != nil {
		panic("sha256pair: " + err.Error()) // of a state that it has just given away
	}
}

// constants are those of the rounds: the first 32 bits behind the point of the cube
// roots of the first 64 primes (FIPS 180-4, 4.2.2).
var constants = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}
