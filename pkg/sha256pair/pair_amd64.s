#include "textflag.h"

// Two SHA-256 states take in the same message: X1 and X2 hold the first, X3 and X4
// the second, each as the SHA instructions want it, words A B E F and C D G H.
// X5 to X8 hold 16 words of the message, from which the next 16 come. What a word
// of the message costs is paid once for both, and while one state waits for its
// rounds the other one is worked on.

// LOAD reads a state from (at) into x and y.
#define LOAD(at, x, y) \
	MOVOU  (at), x; \
	MOVOU  16(at), y; \
	PSHUFD $0xb1, x, x; \
	PSHUFD $0x1b, y, y; \
	MOVO   x, X0; \
	PALIGNR $8, y, x; \
	PBLENDW $0xf0, X0, y

// STORE writes it back.
#define STORE(at, x, y) \
	PSHUFD $0x1b, x, x; \
	PSHUFD $0xb1, y, y; \
	MOVO   x, X0; \
	PBLENDW $0xf0, y, x; \
	PALIGNR $8, X0, y; \
	MOVOU  x, (at); \
	MOVOU  y, 16(at)

// WORDS reads four words of the message.
#define WORDS(offset, w) \
	MOVOU  offset(SI), w; \
	PSHUFB X15, w

// ROUNDS are four rounds with the words w.
#define ROUNDS(k, w) \
	MOVOU k(AX), X0; \
	PADDL w, X0; \
	SHA256RNDS2 X0, X1, X2; \
	SHA256RNDS2 X0, X3, X4; \
	PSHUFD $0x0e, X0, X0; \
	SHA256RNDS2 X0, X2, X1; \
	SHA256RNDS2 X0, X4, X3

// EXPAND are ROUNDS that also prepare later words: those before w begin to become
// the words of three steps on, and next, which began so, are complete.
#define EXPAND(k, w, before, next) \
	MOVOU k(AX), X0; \
	PADDL w, X0; \
	SHA256RNDS2 X0, X1, X2; \
	SHA256RNDS2 X0, X3, X4; \
	MOVO  w, X13; \
	PALIGNR $4, before, X13; \
	PADDL X13, next; \
	SHA256MSG2 w, next; \
	PSHUFD $0x0e, X0, X0; \
	SHA256RNDS2 X0, X2, X1; \
	SHA256RNDS2 X0, X4, X3; \
	SHA256MSG1 w, before

// func blocks(a, b *[8]uint32, p *byte, n int, k *[64]uint32)
TEXT ·blocks(SB), NOSPLIT, $0-40
	MOVQ  a+0(FP), R8
	MOVQ  b+8(FP), R9
	MOVQ  p+16(FP), SI
	MOVQ  n+24(FP), CX
	MOVQ  k+32(FP), AX
	MOVOU bigEndian<>(SB), X15
	LOAD(R8, X1, X2)
	LOAD(R9, X3, X4)

block:
	MOVO X1, X9
	MOVO X2, X10
	MOVO X3, X11
	MOVO X4, X12
	WORDS(0, X5)
	WORDS(16, X6)
	WORDS(32, X7)
	WORDS(48, X8)
	ROUNDS(0, X5)
	ROUNDS(16, X6)
	SHA256MSG1 X6, X5
	ROUNDS(32, X7)
	SHA256MSG1 X7, X6
	EXPAND(48, X8, X7, X5)
	EXPAND(64, X5, X8, X6)
	EXPAND(80, X6, X5, X7)
	EXPAND(96, X7, X6, X8)
	EXPAND(112, X8, X7, X5)
	EXPAND(128, X5, X8, X6)
	EXPAND(144, X6, X5, X7)
	EXPAND(160, X7, X6, X8)
	EXPAND(176, X8, X7, X5)
	EXPAND(192, X5, X8, X6)
	EXPAND(208, X6, X5, X7)
	EXPAND(224, X7, X6, X8)
	ROUNDS(240, X8)
	PADDL X9, X1
	PADDL X10, X2
	PADDL X11, X3
	PADDL X12, X4
	ADDQ $64, SI
	DECQ CX
	JNZ  block
	STORE(R8, X1, X2)
	STORE(R9, X3, X4)
	RET

// func features() uint32
TEXT ·features(SB), NOSPLIT, $0-4
	XORL AX, AX
	CPUID
	CMPL AX, $7
	JCS  none
	MOVL $7, AX
	XORL CX, CX
	CPUID
	MOVL BX, ret+0(FP)
	RET

none:
	MOVL $0, ret+0(FP)
	RET

// bigEndian turns the bytes of each word around.
DATA bigEndian<>+0(SB)/8, $0x0405060700010203
DATA bigEndian<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL bigEndian<>(SB), RODATA|NOPTR, $16
