package streebog

import "golang.org/x/sys/cpu"

// haveWide tells whether the processor has the instructions of compressWide, and
// the system keeps their registers.
var haveWide = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VBMI && cpu.X86.HasAVX512GFNI

// compressWide is compressTables for a block as it lies in the message. Without
// haveWide it ends the process.
func compressWide(h *words, n uint64, p *[BlockSize]byte) { compressRegisters(h, n, p, &wide) }

//go:noescape
func compressRegisters(h *words, n uint64, p *[BlockSize]byte, t *wideTable)

// wideTable is what compressRegisters holds in registers.
type wideTable struct {
	matrices      [8]words // in lane i of number r: part(i, (i+r)%8)
	substitution  [256]byte
	transposition [BlockSize]byte // from where each byte comes
	highest       uint64          // a matrix: each bit of the product is the highest one of the byte
}

var wide = makeWideTable()

func makeWideTable() wideTable {
	t := wideTable{substitution: substitution, highest: 0x8080808080808080}
	for r := range t.matrices {
		for i := range t.matrices[r] {
			t.matrices[r][i] = part(i, (i+r)%8)
		}
	}
	for i := range t.transposition {
		t.transposition[i] = byte(i%8*8 + i/8)
	}
	return t
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
