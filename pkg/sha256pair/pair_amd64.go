package sha256pair

import "golang.org/x/sys/cpu"

// possible tells whether the processor has the instructions of blocks. x/sys/cpu does
// not know those for SHA-256 on amd64.
func possible() bool {
	const sha = 1 << 29 // Intel SDM, CPUID, leaf 7
	return cpu.X86.HasSSSE3 && cpu.X86.HasSSE41 && features()&sha != 0
}

// features is register EBX of CPUID's leaf 7, 0 where there is none.
func features() uint32

// blocks takes n blocks, at least one, at p into a, and as many at q into b. k are the
// constants of the rounds.
//
//go:noescape
func blocks(a, b *[8]uint32, p, q *byte, n int, k *[64]uint32)
