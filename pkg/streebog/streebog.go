// Package streebog computes the hash of GOST R 34.11-2012 (RFC 6986), which
// "d8 mirror" writes beside archives (S6.7).
//
// The hash is a chain over blocks of 64 bytes. All of its work is one
// transformation of 512 bits, LPS: substitute each byte (S), transpose the bytes
// as an 8 by 8 matrix (P), multiply each word with a matrix of bits (L). Here a
// state is eight words, the first byte of the message lowest in the first word.
// After the transposition, word i of the result has byte i of every word; so it
// is the sum (XOR) of eight table lookups, one for each word.
//
// A block takes 25 LPS, that is 1600 lookups: 12 for the state, 13 for its keys.
// What else there is to do for a lookup decides the speed; see [pair.round].
//
// There are two forms of this, with the same sums. The one with tables is for every
// processor. An amd64 with AVX-512, its BW and VBMI, and GFNI has instructions that take 512
// bits at once, substitute bytes and multiply bytes with matrices of bits; with these
// an LPS is 25 instructions without a lookup in memory (wide_amd64.s), and a sum takes
// less than half the time.
//
// It is for sums that another tool demands, not for secrets: lookups in tables take
// a time that depends on the data.
package streebog

import (
	"encoding/binary"
	"hash"
	"math/bits"
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
	size  int    // of the sum
	wide  bool   // the form
	h     words  // the chain
	sigma words  // the sum of all blocks, as numbers
	n     uint64 // how many bits were hashed; they last for 2 EiB
	rest  [BlockSize]byte
	held  int // bytes of rest
}

// New256 returns a hash with sums of 32 bytes.
func New256() hash.Hash { return newDigest(Size256, haveWide) }

// New512 returns a hash with sums of 64 bytes.
func New512() hash.Hash { return newDigest(Size512, haveWide) }

// newDigest returns a hash of the form that is asked for; wide takes haveWide.
func newDigest(size int, wide bool) *digest {
	d := &digest{size: size, wide: wide}
	d.Reset()
	return d
}

// Reset implements hash.Hash.
func (d *digest) Reset() {
	*d = digest{size: d.size, wide: d.wide}
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
			d.take(d.rest[:])
			d.held = 0
		}
	}
	whole := len(p) &^ (BlockSize - 1)
	d.take(p[:whole])
	if whole < len(p) {
		d.held = copy(d.rest[:], p[whole:])
	}
	return written, nil
}

// take takes whole blocks of the message.
func (d *digest) take(p []byte) {
	if d.wide {
		takeWide(&d.h, &d.sigma, d.n, p)
	} else {
		takeTables(&d.h, &d.sigma, d.n, p)
	}
	d.n += 8 * uint64(len(p))
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
	length := (&words{d.n + 8*uint64(d.held)}).bytes()
	d.take(d.rest[:])
	total := d.sigma.bytes()
	d.n = 0
	d.take(length[:])
	d.n = 0
	d.take(total[:])
	sum := d.h.bytes()
	return append(in, sum[Size512-d.size:]...) // a short sum is the upper half
}

func load(p *[BlockSize]byte) words {
	var w words
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(p[8*i:])
	}
	return w
}

// bytes is the opposite of load.
func (a *words) bytes() [BlockSize]byte {
	var p [BlockSize]byte
	for i, w := range a {
		binary.LittleEndian.PutUint64(p[8*i:], w)
	}
	return p
}

// add adds a block, as a number below 2^512. It is written word by word so that the
// carry stays where the processor has it.
func (a *words) add(b *words) {
	var carry uint64
	a[0], carry = bits.Add64(a[0], b[0], 0)
	a[1], carry = bits.Add64(a[1], b[1], carry)
	a[2], carry = bits.Add64(a[2], b[2], carry)
	a[3], carry = bits.Add64(a[3], b[3], carry)
	a[4], carry = bits.Add64(a[4], b[4], carry)
	a[5], carry = bits.Add64(a[5], b[5], carry)
	a[6], carry = bits.Add64(a[6], b[6], carry)
	a[7], _ = bits.Add64(a[7], b[7], carry)
}

// takeTables adds whole blocks to the chain h and to the sum sigma; n is how many bits
// came before.
func takeTables(h, sigma *words, n uint64, p []byte) {
	for ; len(p) >= BlockSize; p = p[BlockSize:] {
		m := load((*[BlockSize]byte)(p))
		compressTables(h, n, &m)
		sigma.add(&m)
		n += 8 * BlockSize
	}
}

// compressTables adds the block m to the chain h; n is how many bits came before.
func compressTables(h *words, n uint64, m *words) {
	t := tables
	var a, b pair // from one to the other and back, round by round
	for i, w := range h {
		binary.LittleEndian.PutUint64(b.key[8*i:], w)
	}
	binary.LittleEndian.PutUint64(b.key[:], h[0]^n)
	for i := range h {
		key := t[0][b.key[i]] ^ t[1][b.key[8+i]] ^ t[2][b.key[16+i]] ^ t[3][b.key[24+i]] ^
			t[4][b.key[32+i]] ^ t[5][b.key[40+i]] ^ t[6][b.key[48+i]] ^ t[7][b.key[56+i]]
		binary.LittleEndian.PutUint64(a.state[8*i:], m[i]^key)
		binary.LittleEndian.PutUint64(a.key[8*i:], key^roundConstants[0][i])
	}
	for i := 1; i < len(roundConstants); i += 2 {
		a.round(t, &b, &roundConstants[i])
		b.round(t, &a, &roundConstants[i+1])
	}
	for i := range h {
		h[i] ^= m[i] ^ binary.LittleEndian.Uint64(a.state[8*i:])
	}
}

// pair is what goes from round to round, both as LPS takes it: the state has its
// key added, the key its constant. Bytes lie as in a message.
type pair struct{ state, key [BlockSize]byte }

// round sets out, another pair, to LPS of the state and of the key, with the new
// key added to the state and c to the key. All of the time goes here, so it is
// written for the instructions that come of it:
//
//   - State and key advance side by side. Neither needs the other before the end,
//     so the processor has one to work on while results of the other are due.
//   - Two bytes come with one load, for two words of the result. But for words 2
//     and 5 each byte has its own: so the load units and the arithmetic units are
//     equally busy. (Words in registers, shifted on, take a fifth longer.)
//   - All places are constants. A loop over the words takes a tenth longer, and
//     so do small functions for what repeats: an inlined call leaves a no-op.
func (in *pair) round(t *table, out *pair, c *words) {
	s, k := &in.state, &in.key
	{ // words 0 and 1
		k0 := uint32(k[0]) | uint32(k[1])<<8
		k1 := uint32(k[8]) | uint32(k[9])<<8
		k3 := uint32(k[24]) | uint32(k[25])<<8
		k4 := uint32(k[32]) | uint32(k[33])<<8
		k6 := uint32(k[48]) | uint32(k[49])<<8
		k7 := uint32(k[56]) | uint32(k[57])<<8
		p := t[0][byte(k0)] ^ t[1][byte(k1)] ^ t[2][k[16]] ^ t[3][byte(k3)] ^
			t[4][byte(k4)] ^ t[5][k[40]] ^ t[6][byte(k6)] ^ t[7][byte(k7)]
		q := t[0][k0>>8] ^ t[1][k1>>8] ^ t[2][k[17]] ^ t[3][k3>>8] ^
			t[4][k4>>8] ^ t[5][k[41]] ^ t[6][k6>>8] ^ t[7][k7>>8]
		s0 := uint32(s[0]) | uint32(s[1])<<8
		s1 := uint32(s[8]) | uint32(s[9])<<8
		s3 := uint32(s[24]) | uint32(s[25])<<8
		s4 := uint32(s[32]) | uint32(s[33])<<8
		s6 := uint32(s[48]) | uint32(s[49])<<8
		s7 := uint32(s[56]) | uint32(s[57])<<8
		u := t[0][byte(s0)] ^ t[1][byte(s1)] ^ t[2][s[16]] ^ t[3][byte(s3)] ^
			t[4][byte(s4)] ^ t[5][s[40]] ^ t[6][byte(s6)] ^ t[7][byte(s7)]
		v := t[0][s0>>8] ^ t[1][s1>>8] ^ t[2][s[17]] ^ t[3][s3>>8] ^
			t[4][s4>>8] ^ t[5][s[41]] ^ t[6][s6>>8] ^ t[7][s7>>8]
		binary.LittleEndian.PutUint64(out.state[0:], u^p)
		binary.LittleEndian.PutUint64(out.state[8:], v^q)
		binary.LittleEndian.PutUint64(out.key[0:], p^c[0])
		binary.LittleEndian.PutUint64(out.key[8:], q^c[1])
	}
	{ // words 2 and 3
		k0 := uint32(k[2]) | uint32(k[3])<<8
		k1 := uint32(k[10]) | uint32(k[11])<<8
		k3 := uint32(k[26]) | uint32(k[27])<<8
		k4 := uint32(k[34]) | uint32(k[35])<<8
		k6 := uint32(k[50]) | uint32(k[51])<<8
		k7 := uint32(k[58]) | uint32(k[59])<<8
		p := t[0][byte(k0)] ^ t[1][byte(k1)] ^ t[2][k[18]] ^ t[3][byte(k3)] ^
			t[4][byte(k4)] ^ t[5][k[42]] ^ t[6][byte(k6)] ^ t[7][byte(k7)]
		q := t[0][k0>>8] ^ t[1][k1>>8] ^ t[2][k[19]] ^ t[3][k3>>8] ^
			t[4][k4>>8] ^ t[5][k[43]] ^ t[6][k6>>8] ^ t[7][k7>>8]
		s0 := uint32(s[2]) | uint32(s[3])<<8
		s1 := uint32(s[10]) | uint32(s[11])<<8
		s3 := uint32(s[26]) | uint32(s[27])<<8
		s4 := uint32(s[34]) | uint32(s[35])<<8
		s6 := uint32(s[50]) | uint32(s[51])<<8
		s7 := uint32(s[58]) | uint32(s[59])<<8
		u := t[0][byte(s0)] ^ t[1][byte(s1)] ^ t[2][s[18]] ^ t[3][byte(s3)] ^
			t[4][byte(s4)] ^ t[5][s[42]] ^ t[6][byte(s6)] ^ t[7][byte(s7)]
		v := t[0][s0>>8] ^ t[1][s1>>8] ^ t[2][s[19]] ^ t[3][s3>>8] ^
			t[4][s4>>8] ^ t[5][s[43]] ^ t[6][s6>>8] ^ t[7][s7>>8]
		binary.LittleEndian.PutUint64(out.state[16:], u^p)
		binary.LittleEndian.PutUint64(out.state[24:], v^q)
		binary.LittleEndian.PutUint64(out.key[16:], p^c[2])
		binary.LittleEndian.PutUint64(out.key[24:], q^c[3])
	}
	{ // words 4 and 5
		k0 := uint32(k[4]) | uint32(k[5])<<8
		k1 := uint32(k[12]) | uint32(k[13])<<8
		k3 := uint32(k[28]) | uint32(k[29])<<8
		k4 := uint32(k[36]) | uint32(k[37])<<8
		k6 := uint32(k[52]) | uint32(k[53])<<8
		k7 := uint32(k[60]) | uint32(k[61])<<8
		p := t[0][byte(k0)] ^ t[1][byte(k1)] ^ t[2][k[20]] ^ t[3][byte(k3)] ^
			t[4][byte(k4)] ^ t[5][k[44]] ^ t[6][byte(k6)] ^ t[7][byte(k7)]
		q := t[0][k0>>8] ^ t[1][k1>>8] ^ t[2][k[21]] ^ t[3][k3>>8] ^
			t[4][k4>>8] ^ t[5][k[45]] ^ t[6][k6>>8] ^ t[7][k7>>8]
		s0 := uint32(s[4]) | uint32(s[5])<<8
		s1 := uint32(s[12]) | uint32(s[13])<<8
		s3 := uint32(s[28]) | uint32(s[29])<<8
		s4 := uint32(s[36]) | uint32(s[37])<<8
		s6 := uint32(s[52]) | uint32(s[53])<<8
		s7 := uint32(s[60]) | uint32(s[61])<<8
		u := t[0][byte(s0)] ^ t[1][byte(s1)] ^ t[2][s[20]] ^ t[3][byte(s3)] ^
			t[4][byte(s4)] ^ t[5][s[44]] ^ t[6][byte(s6)] ^ t[7][byte(s7)]
		v := t[0][s0>>8] ^ t[1][s1>>8] ^ t[2][s[21]] ^ t[3][s3>>8] ^
			t[4][s4>>8] ^ t[5][s[45]] ^ t[6][s6>>8] ^ t[7][s7>>8]
		binary.LittleEndian.PutUint64(out.state[32:], u^p)
		binary.LittleEndian.PutUint64(out.state[40:], v^q)
		binary.LittleEndian.PutUint64(out.key[32:], p^c[4])
		binary.LittleEndian.PutUint64(out.key[40:], q^c[5])
	}
	{ // words 6 and 7
		k0 := uint32(k[6]) | uint32(k[7])<<8
		k1 := uint32(k[14]) | uint32(k[15])<<8
		k3 := uint32(k[30]) | uint32(k[31])<<8
		k4 := uint32(k[38]) | uint32(k[39])<<8
		k6 := uint32(k[54]) | uint32(k[55])<<8
		k7 := uint32(k[62]) | uint32(k[63])<<8
		p := t[0][byte(k0)] ^ t[1][byte(k1)] ^ t[2][k[22]] ^ t[3][byte(k3)] ^
			t[4][byte(k4)] ^ t[5][k[46]] ^ t[6][byte(k6)] ^ t[7][byte(k7)]
		q := t[0][k0>>8] ^ t[1][k1>>8] ^ t[2][k[23]] ^ t[3][k3>>8] ^
			t[4][k4>>8] ^ t[5][k[47]] ^ t[6][k6>>8] ^ t[7][k7>>8]
		s0 := uint32(s[6]) | uint32(s[7])<<8
		s1 := uint32(s[14]) | uint32(s[15])<<8
		s3 := uint32(s[30]) | uint32(s[31])<<8
		s4 := uint32(s[38]) | uint32(s[39])<<8
		s6 := uint32(s[54]) | uint32(s[55])<<8
		s7 := uint32(s[62]) | uint32(s[63])<<8
		u := t[0][byte(s0)] ^ t[1][byte(s1)] ^ t[2][s[22]] ^ t[3][byte(s3)] ^
			t[4][byte(s4)] ^ t[5][s[46]] ^ t[6][byte(s6)] ^ t[7][byte(s7)]
		v := t[0][s0>>8] ^ t[1][s1>>8] ^ t[2][s[23]] ^ t[3][s3>>8] ^
			t[4][s4>>8] ^ t[5][s[47]] ^ t[6][s6>>8] ^ t[7][s7>>8]
		binary.LittleEndian.PutUint64(out.state[48:], u^p)
		binary.LittleEndian.PutUint64(out.state[56:], v^q)
		binary.LittleEndian.PutUint64(out.key[48:], p^c[6])
		binary.LittleEndian.PutUint64(out.key[56:], q^c[7])
	}
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
