package streebog

import "golang.org/x/sys/cpu"

// haveWide tells whether the processor has the instructions of takeWide, and
// the system keeps their registers.
var haveWide = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VBMI && cpu.X86.HasAVX512GFNI

// takeWide is takeTables in the wide form. Without haveWide it ends the process.
func takeWide(h, sigma *words, n uint64, p []byte) {
	if len(p) >= BlockSize {
		takeRegisters(h, sigma, n, &p[0], len(p)/BlockSize, &wide)
	}
}

// takeRegisters takes blocks, at least one, from p on.
//
//go:noescape
func takeRegisters(h, sigma *words, n uint64, p *byte, blocks int, t *wideTable)

// wideTable is what the assembly holds in registers, and goes through.
type wideTable struct {
	substitution [256]byte
	matrices     [8]words           // in lane i of number r: part(i, (i+r)%8)
	rotations    [8][BlockSize]byte // from where each byte comes: of word i+r in lane i of number r
	constants    [len(roundConstants)]words
}

var wide = makeWideTable()

func makeWideTable() wideTable {
	t := wideTable{substitution: substitution}
	for r := range 8 {
		for i := range 8 {
			j := (i + r) % 8
			t.matrices[r][i] = part(i, j)
			for b := range 8 {
				t.rotations[r][8*i+b] = byte(8*b + j)
			}
		}
	}
	for i, c := range roundConstants {
		t.constants[i] = transposed(c)
	}
	return t
}

// transposed has in word i byte i of every word of w.
func transposed(w words) words {
	from := w.bytes()
	var to [BlockSize]byte
	for i := range to {
		to[i] = from[i%8*8+i/8]
	}
	return load(&to)
}

// part is the matrix of bits with which byte j of a word adds to byte i of its
// product in L, as VGF2P8AFFINEQB takes it: a byte for each bit of the product, that
// of the highest bit first in memory, and in it the bits of the factor that count.
func part(i, j int) uint64 {
	var m uint64
	for from := range 8 {
		product := byte(multiply(1<<(8*j+from)) >> (8 * i))
		for to := range 8 {
			m |= uint64(product>>to&1) << (8*(7-to) + from)
		}
	}
	return m
}
