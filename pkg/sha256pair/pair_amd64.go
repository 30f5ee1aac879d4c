package sha256pair

import "github.com/klauspost/cpuid/v2"

// possible tells whether the processor has the instructions of blocks.
var possible = cpuid.CPU.Supports(cpuid.SHA, cpuid.SSSE3, cpuid.SSE4)

// blocks takes n blocks, at least one, at p into two states. k are the constants of
// the rounds.
//
//go:noescape
func blocks(a, b *[8]uint32, p *byte, n int, k *[64]uint32)
