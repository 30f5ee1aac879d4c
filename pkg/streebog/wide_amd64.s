#include "go_asm.h"
#include "textflag.h"

// Here 512 bits lie in a register. States and keys lie transposed: lane i has byte i of
// every word, where a block has word i. So LPS begins behind its own transposition, and
// ends with the one of the next LPS.
//
//	Z0        the state
//	Z1        the key
//	Z2-Z8     what LPS works with
//	Z9        the chain, as a block lies
//	Z12-Z15   t.substitution, 64 bytes in each
//	Z16-Z23   t.matrices, one for each rotation
//	Z24-Z31   t.rotations; the first of them transposes
//	K1        what S works with

// LPS of X, in three steps.
//
// S substitutes each byte. Its lower seven bits find an entry of each half of the table
// (VPERMI2B looks at no more), and the highest bit takes one of the two.
//
// P and L come together. Byte i of word b of the result is a sum over j: part(i, j) times
// byte b of word j, which P brings to place j of word b. One instruction multiplies all
// bytes of a lane with the matrix of that lane. So all words are brought to all lanes:
// rotated by r, lane i has word j = i+r, to meet part(i, j).
//
// In the sum lane i has byte i of each word: it is transposed.
#define LPS(X) \
	VPMOVB2M       X, K1;             /* the highest bit of each byte */ \
	VMOVDQA64      X, Z2;             \
	VPERMI2B       Z13, Z12, Z2;      /* of the lower half */ \
	VPERMI2B       Z15, Z14, X;       /* of the upper half */ \
	VPBLENDMB      X, Z2, K1, X;      /* K1 ? X : Z2 */ \
	VPERMB         X, Z25, Z2;        /* lane i has word i+1 */ \
	VPERMB         X, Z26, Z3;        /* and so on */ \
	VPERMB         X, Z27, Z4;        \
	VPERMB         X, Z28, Z5;        \
	VPERMB         X, Z29, Z6;        \
	VPERMB         X, Z30, Z7;        \
	VPERMB         X, Z31, Z8;        \
	VPERMB         X, Z24, X;         /* lane i has word i */ \
	VGF2P8AFFINEQB $0, Z17, Z2, Z2;   /* what word i+r adds to byte i */ \
	VGF2P8AFFINEQB $0, Z18, Z3, Z3;   \
	VGF2P8AFFINEQB $0, Z19, Z4, Z4;   \
	VGF2P8AFFINEQB $0, Z20, Z5, Z5;   \
	VGF2P8AFFINEQB $0, Z21, Z6, Z6;   \
	VGF2P8AFFINEQB $0, Z22, Z7, Z7;   \
	VGF2P8AFFINEQB $0, Z23, Z8, Z8;   \
	VGF2P8AFFINEQB $0, Z16, X, X;     \
	VPTERNLOGQ     $0x96, Z2, Z3, Z4; /* the sum of all eight, by three */ \
	VPTERNLOGQ     $0x96, Z5, Z6, Z7; \
	VPTERNLOGQ     $0x96, Z4, Z8, X;  \
	VPXORQ         Z7, X, X

// func takeRegisters(h, sigma *words, n uint64, p *byte, blocks int, t *wideTable)
TEXT ·takeRegisters(SB), NOSPLIT, $0-48
	MOVQ      h+0(FP), DI
	MOVQ      sigma+8(FP), BX
	MOVQ      n+16(FP), AX
	MOVQ      p+24(FP), SI
	MOVQ      t+40(FP), DX
	VMOVDQU64 (wideTable_substitution+0*64)(DX), Z12
	VMOVDQU64 (wideTable_substitution+1*64)(DX), Z13
	VMOVDQU64 (wideTable_substitution+2*64)(DX), Z14
	VMOVDQU64 (wideTable_substitution+3*64)(DX), Z15
	VMOVDQU64 (wideTable_matrices+0*64)(DX), Z16
	VMOVDQU64 (wideTable_matrices+1*64)(DX), Z17
	VMOVDQU64 (wideTable_matrices+2*64)(DX), Z18
	VMOVDQU64 (wideTable_matrices+3*64)(DX), Z19
	VMOVDQU64 (wideTable_matrices+4*64)(DX), Z20
	VMOVDQU64 (wideTable_matrices+5*64)(DX), Z21
	VMOVDQU64 (wideTable_matrices+6*64)(DX), Z22
	VMOVDQU64 (wideTable_matrices+7*64)(DX), Z23
	VMOVDQU64 (wideTable_rotations+0*64)(DX), Z24
	VMOVDQU64 (wideTable_rotations+1*64)(DX), Z25
	VMOVDQU64 (wideTable_rotations+2*64)(DX), Z26
	VMOVDQU64 (wideTable_rotations+3*64)(DX), Z27
	VMOVDQU64 (wideTable_rotations+4*64)(DX), Z28
	VMOVDQU64 (wideTable_rotations+5*64)(DX), Z29
	VMOVDQU64 (wideTable_rotations+6*64)(DX), Z30
	VMOVDQU64 (wideTable_rotations+7*64)(DX), Z31
	VMOVDQU64 (DI), Z9

block:
	VMOVQ  AX, X1
	VPXORQ Z9, Z1, Z1
	VPERMB Z1, Z24, Z1
	LPS(Z1)             // the first key is LPS of h + n
	VPERMB (SI), Z24, Z0
	VPXORQ Z1, Z0, Z0   // the first state is the block + the key
	LEAQ   wideTable_constants(DX), R8
	MOVQ   $12, CX

round:
	VPXORQ (R8), Z1, Z1 // the next key is LPS of the key + the constant
	LPS(Z1)
	LPS(Z0)             // while the state, which need not wait for it, advances
	VPXORQ Z1, Z0, Z0   // and takes it
	ADDQ   $64, R8
	DECQ   CX
	JNZ    round

	VPERMB     Z0, Z24, Z0
	VPTERNLOGQ $0x96, (SI), Z0, Z9 // h + the block + the state

	MOVQ (0*8)(SI), R8 // sigma + the block
	ADDQ R8, (0*8)(BX)
	MOVQ (1*8)(SI), R8
	ADCQ R8, (1*8)(BX)
	MOVQ (2*8)(SI), R8
	ADCQ R8, (2*8)(BX)
	MOVQ (3*8)(SI), R8
	ADCQ R8, (3*8)(BX)
	MOVQ (4*8)(SI), R8
	ADCQ R8, (4*8)(BX)
	MOVQ (5*8)(SI), R8
	ADCQ R8, (5*8)(BX)
	MOVQ (6*8)(SI), R8
	ADCQ R8, (6*8)(BX)
	MOVQ (7*8)(SI), R8
	ADCQ R8, (7*8)(BX)

	ADDQ $512, AX
	ADDQ $64, SI
	DECQ blocks+32(FP)
	JNZ  block

	VMOVDQU64 Z9, (DI)
	VZEROUPPER
	RET
