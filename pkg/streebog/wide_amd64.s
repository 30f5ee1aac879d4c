#include "go_asm.h"
#include "textflag.h"

// Here 512 bits lie in a register. Its lane i is word i, and the lowest byte of a
// lane is the first in memory, so a block comes as it lies in the message.
//
//	Z0       the state
//	Z1       the key
//	Z2-Z9    what LPS works with
//	Z16-Z23  t.matrices, one for each rotation
//	Z24-Z27  t.substitution, 64 bytes in each
//	Z28      t.transposition
//	Z29      t.highest, in each lane

// S substitutes each byte of X. Its lower seven bits find an entry of each half of
// the table (VPERMI2B looks at no more), and the highest bit takes one of the two.
#define S(X) \
	VGF2P8AFFINEQB $0, Z29, X, Z9;   /* the highest bit, eight times */ \
	VMOVDQA64      X, Z8;            \
	VPERMI2B       Z25, Z24, Z8;     /* of the lower half */ \
	VPERMI2B       Z27, Z26, X;      /* of the upper half */ \
	VPTERNLOGQ     $0xe2, Z8, Z9, X  /* Z9 ? X : Z8, bit by bit */

// PL is P and L of X. Byte i of word b of the result is a sum over j: part(i, j) times
// byte b of word j, which P brings to place j of word b. One instruction multiplies
// all bytes of a lane with the matrix of that lane. So the bytes stay where they are
// until the end: rotated by r, X has in lane i word j = i+r, to meet part(i, j).
#define PL(X) \
	VALIGNQ        $1, X, X, Z2;      /* lane i has word i+1 */ \
	VALIGNQ        $2, X, X, Z3;      /* and so on */ \
	VALIGNQ        $3, X, X, Z4;      \
	VALIGNQ        $4, X, X, Z5;      \
	VALIGNQ        $5, X, X, Z6;      \
	VALIGNQ        $6, X, X, Z7;      \
	VALIGNQ        $7, X, X, Z8;      \
	VGF2P8AFFINEQB $0, Z16, X, X;     /* what word i+r adds to byte i */ \
	VGF2P8AFFINEQB $0, Z17, Z2, Z2;   \
	VGF2P8AFFINEQB $0, Z18, Z3, Z3;   \
	VGF2P8AFFINEQB $0, Z19, Z4, Z4;   \
	VGF2P8AFFINEQB $0, Z20, Z5, Z5;   \
	VGF2P8AFFINEQB $0, Z21, Z6, Z6;   \
	VGF2P8AFFINEQB $0, Z22, Z7, Z7;   \
	VGF2P8AFFINEQB $0, Z23, Z8, Z8;   \
	VPTERNLOGQ     $0x96, Z2, Z3, X;  /* the sum of all eight, by three */ \
	VPTERNLOGQ     $0x96, Z4, Z5, Z6; \
	VPXORQ         Z7, Z8, Z7;        \
	VPTERNLOGQ     $0x96, Z6, Z7, X;  /* lane i has byte i of each word */ \
	VPERMB         X, Z28, X          /* lane i has word i */

// func compressRegisters(h *words, n uint64, p *[BlockSize]byte, t *wideTable)
TEXT ·compressRegisters(SB), NOSPLIT, $0-32
	MOVQ         h+0(FP), DI
	MOVQ         p+16(FP), SI
	MOVQ         t+24(FP), DX
	VMOVDQU64    (wideTable_matrices+0*64)(DX), Z16
	VMOVDQU64    (wideTable_matrices+1*64)(DX), Z17
	VMOVDQU64    (wideTable_matrices+2*64)(DX), Z18
	VMOVDQU64    (wideTable_matrices+3*64)(DX), Z19
	VMOVDQU64    (wideTable_matrices+4*64)(DX), Z20
	VMOVDQU64    (wideTable_matrices+5*64)(DX), Z21
	VMOVDQU64    (wideTable_matrices+6*64)(DX), Z22
	VMOVDQU64    (wideTable_matrices+7*64)(DX), Z23
	VMOVDQU64    (wideTable_substitution+0*64)(DX), Z24
	VMOVDQU64    (wideTable_substitution+1*64)(DX), Z25
	VMOVDQU64    (wideTable_substitution+2*64)(DX), Z26
	VMOVDQU64    (wideTable_substitution+3*64)(DX), Z27
	VMOVDQU64    wideTable_transposition(DX), Z28
	VPBROADCASTQ wideTable_highest(DX), Z29

	VMOVQ  n+8(FP), X1
	VPXORQ (DI), Z1, Z1
	S(Z1)               // the first key is LPS of h + n
	PL(Z1)
	VPXORQ (SI), Z1, Z0 // the first state is the block + the key
	LEAQ   ·roundConstants(SB), DX
	MOVQ   $12, CX

round:
	VPXORQ (DX), Z1, Z1 // the next key is LPS of the key + the constant
	S(Z1)
	PL(Z1)
	S(Z0)               // while the state, which need not wait for it, advances
	PL(Z0)
	VPXORQ Z1, Z0, Z0   // and takes it
	ADDQ   $64, DX
	DECQ   CX
	JNZ    round

	VPXORQ    (SI), Z0, Z0 // h + the block + the state
	VPXORQ    (DI), Z0, Z0
	VMOVDQU64 Z0, (DI)
	VZEROUPPER
	RET
