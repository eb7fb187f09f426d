package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tile writes the body of a tile product: rows × 2 vectors of sums in
// registers, and a pass over dim for each panel. Where a body holds fewer rows
// or columns than a tile has, it is called for each part of it.
func tile(name, doc string, vector func() reg.VecVirtual, width, rows int) {
	TEXT(name, NOSPLIT, "func(dst, init, a, b *float32, dim, panels int)")
	Doc(name + " " + doc)
	dst := Load(Param("dst"), GP64())
	init := Load(Param("init"), GP64())
	tile := Load(Param("a"), GP64())
	b := Load(Param("b"), GP64())
	dim := Load(Param("dim"), GP64())
	panels := Load(Param("panels"), GP64())
	stride, a, k, row := GP64(), GP64(), GP64(), GP64()
	MOVQ(panels, stride)
	SHLQ(Imm(7), stride) // bytes of a row of dst

	Label("panel")
	acc := make([][2]reg.VecVirtual, rows)
	for r := range acc {
		acc[r] = [2]reg.VecVirtual{vector(), vector()}
		for c, v := range acc[r] {
			if r == 0 {
				VMOVUPS(Mem{Base: init, Disp: width * c}, v)
			} else {
				VMOVAPS(acc[0][c], v)
			}
		}
	}
	MOVQ(tile, a)
	MOVQ(dim, k)

	Label("step")
	b0, b1 := vector(), vector()
	VMOVUPS(Mem{Base: b}, b0)
	VMOVUPS(Mem{Base: b, Disp: width}, b1)
	for r := range acc {
		x := vector()
		VBROADCASTSS(Mem{Base: a, Disp: 4 * r}, x)
		VFMADD231PS(x, b0, acc[r][0])
		VFMADD231PS(x, b1, acc[r][1])
	}
	ADDQ(Imm(4*12), a)
	SUBQ(I8(-128), b)
	DECQ(k)
	JNZ(LabelRef("step"))

	MOVQ(dst, row)
	for r := range acc {
		for c, v := range acc[r] {
			VMOVUPS(v, Mem{Base: row, Disp: width * c})
		}
		if r < rows-1 {
			ADDQ(stride, row)
		}
	}
	SUBQ(I8(-128), dst)
	SUBQ(I8(-128), init)
	DECQ(panels)
	JNZ(LabelRef("panel"))
	VZEROUPPER()
	RET()
}

// pack writes the transposition of eight rows into eight columns of a panel.
func pack() {
	TEXT("packAVX", NOSPLIT, "func(dst, rows *float32, dim, eights int)")
	Doc("packAVX writes the first 8·eights values of eight rows of dim values to eight columns of a panel.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("rows"), GP64())
	dim := Load(Param("dim"), GP64())
	eights := Load(Param("eights"), GP64())
	stride, four := GP64(), GP64()
	MOVQ(dim, stride)
	SHLQ(Imm(2), stride)                                // bytes of a row
	LEAQ(Mem{Base: src, Index: stride, Scale: 4}, four) // row 4
	three := GP64()
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, three)

	Label("loop")
	var in, t, u [8]reg.VecVirtual
	for r := range in {
		in[r], t[r], u[r] = YMM(), YMM(), YMM()
		base := src
		if r >= 4 {
			base = four
		}
		m := Mem{Base: base}
		switch r % 4 {
		case 1:
			m.Index, m.Scale = stride, 1
		case 2:
			m.Index, m.Scale = stride, 2
		case 3:
			m.Index, m.Scale = three, 1
		}
		VMOVUPS(m, in[r])
	}
	for r := 0; r < 8; r += 2 { // pairs of rows, interleaved
		VUNPCKLPS(in[r+1], in[r], t[r])
		VUNPCKHPS(in[r+1], in[r], t[r+1])
	}
	for r := 0; r < 8; r += 4 { // four rows of one k in each half
		VSHUFPS(Imm(0x44), t[r+2], t[r], u[r])
		VSHUFPS(Imm(0xee), t[r+2], t[r], u[r+1])
		VSHUFPS(Imm(0x44), t[r+3], t[r+1], u[r+2])
		VSHUFPS(Imm(0xee), t[r+3], t[r+1], u[r+3])
	}
	for k := range 4 {
		low, high := YMM(), YMM()
		VPERM2F128(Imm(0x20), u[4+k], u[k], low)
		VPERM2F128(Imm(0x31), u[4+k], u[k], high)
		VMOVUPS(low, Mem{Base: dst, Disp: 128 * k})
		VMOVUPS(high, Mem{Base: dst, Disp: 128 * (4 + k)})
	}
	ADDQ(Imm(32), src)
	ADDQ(Imm(32), four)
	ADDQ(U32(1024), dst)
	DECQ(eights)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// peak writes a loop of nothing but fused multiply-adds.
func peak(name string, vector func() reg.VecVirtual, sums int) {
	TEXT(name, NOSPLIT, "func(n int)")
	Doc(name + " makes n rounds of fused multiply-adds that do not wait for each other.")
	n := Load(Param("n"), GP64())
	acc := make([]reg.VecVirtual, sums)
	for i := range acc {
		acc[i] = vector()
		VXORPS(acc[i], acc[i], acc[i])
	}
	x := vector()
	VXORPS(x, x, x)
	Label("loop")
	for _, v := range acc {
		VFMADD231PS(x, x, v)
	}
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
