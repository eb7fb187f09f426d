package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// productVNNI is the tile product over bytes: four products and their sum at a
// time, in 32-bit integers, made float32 at the end.
func productVNNI() {
	TEXT("productVNNI", NOSPLIT, "func(dst, init *float32, correction *int32, a *uint8, b *int8, quads, panels int, scale float32)")
	Doc("productVNNI is productInt8Generic: 12 rows with 32 columns of each panel.")
	load := func(name string) reg.GPVirtual { return Load(Param(name), GP64()).(reg.GPVirtual) }
	dst, init, correction, tile, b := load("dst"), load("init"), load("correction"), load("a"), load("b")
	quads, panels := load("quads"), load("panels")
	stride, a, k, row := GP64(), GP64(), GP64(), GP64()
	MOVQ(panels, stride)
	SHLQ(Imm(7), stride)

	Label("panel")
	var acc [12][2]reg.VecVirtual
	for r := range acc {
		for c := range acc[r] {
			acc[r][c] = ZMM()
			if r == 0 {
				VMOVDQU32(Mem{Base: correction, Disp: 64 * c}, acc[r][c])
			} else {
				VMOVDQA32(acc[0][c], acc[r][c])
			}
		}
	}
	MOVQ(tile, a)
	MOVQ(quads, k)

	Label("step")
	b0, b1 := ZMM(), ZMM()
	VMOVDQU32(Mem{Base: b}, b0)
	VMOVDQU32(Mem{Base: b, Disp: 64}, b1)
	for r := range acc {
		x := ZMM()
		VPBROADCASTD(Mem{Base: a, Disp: 4 * r}, x)
		dotBytes(b0, x, acc[r][0])
		dotBytes(b1, x, acc[r][1])
	}
	ADDQ(Imm(48), a)
	SUBQ(I8(-128), b)
	DECQ(k)
	JNZ(LabelRef("step"))

	scale, from := ZMM(), [2]reg.VecVirtual{ZMM(), ZMM()}
	VBROADCASTSS(address("scale"), scale)
	MOVQ(dst, row)
	for c := range from {
		VMOVUPS(Mem{Base: init, Disp: 64 * c}, from[c])
	}
	for r := range acc {
		for c, v := range acc[r] {
			VCVTDQ2PS(v, v)
			VFMADD213PS(from[c], scale, v) // v·scale + init
			VMOVUPS(v, Mem{Base: row, Disp: 64 * c})
		}
		if r < 11 {
			ADDQ(stride, row)
		}
	}
	SUBQ(I8(-128), dst)
	SUBQ(I8(-128), init)
	SUBQ(I8(-128), correction)
	DECQ(panels)
	JNZ(LabelRef("panel"))
	VZEROUPPER()
	RET()
}

// dotBytes is VPDPBUSD, which avo does not know: to each 32-bit sum it adds the
// products of four unsigned bytes of x with signed ones of b.
func dotBytes(b, x, sum reg.Register) {
	Instruction(&ir.Instruction{
		Opcode: "VPDPBUSD", Operands: []Op{b, x, sum},
		Inputs: []Op{b, x, sum}, Outputs: []Op{sum}, ISA: []string{"AVX512_VNNI"},
	})
}

// quantise writes 16 values at a time as bytes, rounded to the nearest, ties to even.
func quantise() {
	TEXT("quantiseAVX512", NOSPLIT, "func(dst *int8, x *float32, n int, inverse float32)")
	Doc("quantiseAVX512 is quantiseGeneric for n ≥ 1 values, a multiple of 16.")
	dst, x, n := Load(Param("dst"), GP64()), Load(Param("x"), GP64()), Load(Param("n"), GP64())
	inverse := broadcast("inverse", ZMM())
	Label("loop")
	v := ZMM()
	VMULPS(Mem{Base: x}, inverse, v)
	VCVTPS2DQ(v, v)
	VPMOVSDB(v, Mem{Base: dst})
	ADDQ(Imm(64), x)
	ADDQ(Imm(16), dst)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
