#include "textflag.h"

// Two SHA-256 states take in a message each: X1 and X2 hold the first, X3 and X4 the
// second, each as the SHA instructions want it, words A B E F and C D G H. X5 to X8
// hold 16 words of the first message, X9 to X12 of the second, from which the next 16
// come. While one state waits for its rounds, the other one is worked on.

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

// WORDS reads four words of a message.
#define WORDS(at, w) \
	MOVOU  at, w; \
	PSHUFB X15, w

// ROUNDS are four rounds of one state, x and y, with the words w.
#define ROUNDS(k, w, x, y) \
	MOVOU  k(AX), X0; \
	PADDL  w, X0; \
	SHA256RNDS2 X0, x, y; \
	PSHUFD $0x0e, X0, X0; \
	SHA256RNDS2 X0, y, x

// EXPAND prepares later words behind the rounds with w: those before w begin to become
// the words of three steps on, and next, which began so, are complete.
#define EXPAND(w, before, next) \
	MOVO    w, X13; \
	PALIGNR $4, before, X13; \
	PADDL   X13, next; \
	SHA256MSG2 w, next; \
	SHA256MSG1 w, before

// STEP is four rounds of both states; MIDDLE is one that also prepares words.
#define STEP(k, v, w) \
	ROUNDS(k, v, X1, X2); \
	ROUNDS(k, w, X3, X4)

#define MIDDLE(k, v, vBefore, vNext, w, wBefore, wNext) \
	STEP(k, v, w); \
	EXPAND(v, vBefore, vNext); \
	EXPAND(w, wBefore, wNext)

// func blocks(a, b *[8]uint32, p, q *byte, n int, k *[64]uint32)
TEXT ·blocks(SB), NOSPLIT, $64-48
	MOVQ  a+0(FP), R8
	MOVQ  b+8(FP), R9
	MOVQ  p+16(FP), SI
	MOVQ  q+24(FP), DI
	MOVQ  n+32(FP), CX
	MOVQ  k+40(FP), AX
	MOVOU bigEndian<>(SB), X15
	LOAD(R8, X1, X2)
	LOAD(R9, X3, X4)

block:
	MOVOU X1, before-64(SP)
	MOVOU X2, before-48(SP)
	MOVOU X3, before-32(SP)
	MOVOU X4, before-16(SP)
	WORDS((SI), X5)
	WORDS((DI), X9)
	WORDS(16(SI), X6)
	WORDS(16(DI), X10)
	WORDS(32(SI), X7)
	WORDS(32(DI), X11)
	WORDS(48(SI), X8)
	WORDS(48(DI), X12)
	STEP(0, X5, X9)
	STEP(16, X6, X10)
	SHA256MSG1 X6, X5
	SHA256MSG1 X10, X9
	STEP(32, X7, X11)
	SHA256MSG1 X7, X6
	SHA256MSG1 X11, X10
	MIDDLE(48, X8, X7, X5, X12, X11, X9)
	MIDDLE(64, X5, X8, X6, X9, X12, X10)
	MIDDLE(80, X6, X5, X7, X10, X9, X11)
	MIDDLE(96, X7, X6, X8, X11, X10, X12)
	MIDDLE(112, X8, X7, X5, X12, X11, X9)
	MIDDLE(128, X5, X8, X6, X9, X12, X10)
	MIDDLE(144, X6, X5, X7, X10, X9, X11)
	MIDDLE(160, X7, X6, X8, X11, X10, X12)
	MIDDLE(176, X8, X7, X5, X12, X11, X9)
	MIDDLE(192, X5, X8, X6, X9, X12, X10)
	MIDDLE(208, X6, X5, X7, X10, X9, X11)
	MIDDLE(224, X7, X6, X8, X11, X10, X12)
	STEP(240, X8, X12)
	MOVOU before-64(SP), X5
	MOVOU before-48(SP), X6
	MOVOU before-32(SP), X7
	MOVOU before-16(SP), X8
	PADDL X5, X1
	PADDL X6, X2
	PADDL X7, X3
	PADDL X8, X4
	ADDQ $64, SI
	ADDQ $64, DI
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
