// Package streebog computes the hash of GOST R 34.11-2012 (RFC 6986), which
// "d8 mirror" writes beside archives (S6.7).
//
// The hash is a chain over blocks of 64 bytes. All of its work is one
// transformation of 512 bits, LPS: substitute each byte (S), transpose the bytes
// as an 8 by 8 matrix (P), multiply each word with a matrix of bits (L). Here a
// state is eight words, the first byte of the message lowest in the first word.
// After the transposition, word i of the result has byte i of every word; so it
// is the sum (XOR) of eight table lookups, one for each word. See [lps].
//
// It is for sums that another tool demands, not for secrets: lookups take a time
// that depends on the data.
package streebog

import (
	"encoding/binary"
	"hash"
)

const (
	// Size256 and Size512 are the sizes of the sums, in bytes.
	Size256 = 32
	Size512 = 64
	// BlockSize is the size of a block, in bytes.
	BlockSize = 64
)

// words are 512 bits.
type words [8]uint64

// digest is a hash under way.
type digest struct {
	size  int   // of the sum
	h     words // the chain
	sigma words // the sum of all blocks, as numbers
	n     words // how many bits were hashed
	rest  [BlockSize]byte
	held  int // bytes of rest
}

// New256 returns a hash with sums of 32 bytes.
func New256() hash.Hash { return newDigest(Size256) }

// New512 returns a hash with sums of 64 bytes.
func New512() hash.Hash { return newDigest(Size512) }

func newDigest(size int) *digest {
	d := &digest{size: size}
	d.Reset()
	return d
}

// Reset implements hash.Hash.
func (d *digest) Reset() {
	*d = digest{size: d.size}
	if d.size == Size256 { // the initial value is all that tells the two apart
		for i := range d.h {
			d.h[i] = 0x0101010101010101
		}
	}
}

// Size implements hash.Hash.
func (d *digest) Size() int { return d.size }

// BlockSize implements hash.Hash.
func (d *digest) BlockSize() int { return BlockSize }

// Write implements hash.Hash. It never fails.
func (d *digest) Write(p []byte) (int, error) {
	written := len(p)
	if d.held > 0 {
		n := copy(d.rest[d.held:], p)
		d.held += n
		p = p[n:]
		if d.held == BlockSize {
			d.block(d.rest[:])
			d.held = 0
		}
	}
	for len(p) >= BlockSize {
		d.block(p[:BlockSize])
		p = p[BlockSize:]
	}
	if len(p) > 0 {
		d.held = copy(d.rest[:], p)
	}
	return written, nil
}

// block takes a whole block of the message.
func (d *digest) block(p []byte) {
	m := load(p)
	compress(&d.h, &d.n, &m)
	d.n.add(&words{8 * BlockSize})
	d.sigma.add(&m)
}

// Sum implements hash.Hash.
func (d *digest) Sum(in []byte) []byte {
	end := *d // more may be written to d
	return end.finish(in)
}

// finish hashes the padded last block, the length and the sum of the blocks.
func (d *digest) finish(in []byte) []byte {
	clear(d.rest[d.held:])
	d.rest[d.held] = 1
	m := load(d.rest[:])
	compress(&d.h, &d.n, &m)
	d.n.add(&words{8 * uint64(d.held)})
	d.sigma.add(&m)
	compress(&d.h, &words{}, &d.n)
	compress(&d.h, &words{}, &d.sigma)
	var sum [Size512]byte
	for i, w := range d.h {
		binary.LittleEndian.PutUint64(sum[8*i:], w)
	}
	return append(in, sum[Size512-d.size:]...) // a short sum is the upper half
}

func load(p []byte) words {
	var w words
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(p[8*i:])
	}
	return w
}

// add adds b, as a number below 2^512.
func (a *words) add(b *words) {
	carry := uint64(0)
	for i := range a {
		sum := a[i] + b[i]
		overflow := sum < a[i]
		a[i] = sum + carry
		if overflow || a[i] < sum {
			carry = 1
		} else {
			carry = 0
		}
	}
}

// compress adds the block m to the chain h; n is how many bits came before.
func compress(h, n, m *words) {
	t := tables
	var key, state words
	lps(t, &key, h, n)
	state = *m
	for i := range roundConstants {
		lps(t, &state, &state, &key)
		lps(t, &key, &key, &roundConstants[i])
	}
	for i := range h {
		h[i] ^= state[i] ^ key[i] ^ m[i]
	}
}

// lps sets out to LPS of the sum of a and b. All of the time goes here: it is
// three instructions for each of 64 lookups, and little else. The words stay in
// registers and are shifted there; with the shifts written out the compiler
// computes them ahead and runs out of registers, and with the ends inside the
// loop it checks pointers each time. Both cost a quarter of the speed.
func lps(t *table, out, a, b *words) {
	w0, w1, w2, w3 := a[0]^b[0], a[1]^b[1], a[2]^b[2], a[3]^b[3]
	w4, w5, w6, w7 := a[4]^b[4], a[5]^b[5], a[6]^b[6], a[7]^b[7]
	out[0] = t[0][byte(w0)] ^ t[1][byte(w1)] ^ t[2][byte(w2)] ^ t[3][byte(w3)] ^
		t[4][byte(w4)] ^ t[5][byte(w5)] ^ t[6][byte(w6)] ^ t[7][byte(w7)]
	for i := 1; i < 7; i++ {
		w0, w1, w2, w3 = w0>>8, w1>>8, w2>>8, w3>>8
		w4, w5, w6, w7 = w4>>8, w5>>8, w6>>8, w7>>8
		out[i] = t[0][byte(w0)] ^ t[1][byte(w1)] ^ t[2][byte(w2)] ^ t[3][byte(w3)] ^
			t[4][byte(w4)] ^ t[5][byte(w5)] ^ t[6][byte(w6)] ^ t[7][byte(w7)]
	}
	out[7] = t[0][byte(w0>>8)] ^ t[1][byte(w1>>8)] ^ t[2][byte(w2>>8)] ^ t[3][byte(w3>>8)] ^
		t[4][byte(w4>>8)] ^ t[5][byte(w5>>8)] ^ t[6][byte(w6>>8)] ^ t[7][byte(w7>>8)]
}

// table[j][b] is what byte b of word j adds to a word of the result: S and L of
// it, at its place behind the transposition.
type table [8][256]uint64

var tables = makeTables()

func makeTables() *table {
	var t table
	for j := range t {
		for b := range t[j] {
			t[j][b] = multiply(uint64(substitution[b]) << (8 * j))
		}
	}
	return &t
}

// multiply is L of one word: a row of the matrix for each bit, the highest first.
func multiply(w uint64) uint64 {
	var sum uint64
	for i, row := range matrix {
		if w>>(63-i)&1 == 1 {
			sum ^= row
		}
	}
	return sum
}
