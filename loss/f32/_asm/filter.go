package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Predicates of the comparisons, false for NaN.
var lessOrEqual, greaterOrEqual = Imm(0x12), Imm(0x1d)

// selectAVX512 keeps 32 indices at a time, by compression and without a branch:
// whether a value is inside is not foreseeable.
func selectAVX512() {
	TEXT("selectAVX512", NOSPLIT, "func(dst *uint16, x *float32, n int, lo, hi float32) int")
	Doc("selectAVX512 is selectGeneric for n ≥ 1 values, a multiple of 32.")
	dst := Load(Param("dst"), GP64())
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	lo, hi := broadcast("lo", ZMM()), broadcast("hi", ZMM())
	index, step := ZMM(), ZMM()
	VPMOVZXBW(data("index", 32), index)
	VPBROADCASTW(data("step32", 2, 32, 0), step)
	count, wide := GP64(), GP64()
	mask := wide.As32()
	XORQ(count, count)

	Label("loop")
	v, kept := [2]reg.VecVirtual{ZMM(), ZMM()}, ZMM()
	inside := [2]reg.Register{K(), K()}
	for i := range v {
		VMOVUPS(Mem{Base: x, Disp: 64 * i}, v[i])
		VCMPPS(lessOrEqual, v[i], lo, inside[i])
		VCMPPS(lessOrEqual, hi, v[i], inside[i], inside[i])
	}
	KUNPCKWD(inside[0], inside[1], inside[0])
	compressWords(index, inside[0], kept)
	VMOVDQU16(kept, Mem{Base: dst, Index: count, Scale: 2})
	KMOVD(inside[0], mask)
	POPCNTL(mask, mask)
	ADDQ(wide, count)
	VPADDW(step, index, index)
	SUBQ(I8(-128), x)
	SUBQ(Imm(32), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	Store(count, ReturnIndex(0))
	RET()
}

// selectAVX2 keeps eight at a time: a table has the places of the ones in each
// of the 256 masks.
func selectAVX2() {
	places := GLOBL("places", RODATA|NOPTR)
	for mask := range 256 {
		n := 0
		for bit := range 8 {
			if mask>>bit&1 == 1 {
				DATA(8*mask+n, U8(bit))
				n++
			}
		}
		for ; n < 8; n++ {
			DATA(8*mask+n, U8(0))
		}
	}
	TEXT("selectAVX2", NOSPLIT, "func(dst *uint16, x *float32, n int, lo, hi float32) int")
	Doc("selectAVX2 is selectGeneric for n ≥ 1 values, a multiple of 32.")
	dst := Load(Param("dst"), GP64())
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	lo, hi := broadcast("lo", YMM()), broadcast("hi", YMM())
	base, step := XMM(), XMM()
	VPXOR(base, base, base)
	VPBROADCASTW(data("step8", 2, 8, 0), step)
	table, count, wide := GP64(), GP64(), GP64()
	mask := wide.As32()
	LEAQ(places, table)
	XORQ(count, count)

	Label("loop")
	v, above, below, at := YMM(), YMM(), YMM(), XMM()
	VMOVUPS(Mem{Base: x}, v)
	VCMPPS(lessOrEqual, v, lo, above)
	VCMPPS(lessOrEqual, hi, v, below)
	VANDPS(above, below, above)
	VMOVMSKPS(above, mask)
	VPMOVZXBW(Mem{Base: table, Index: wide, Scale: 8}, at)
	VPADDW(base, at, at)
	VMOVDQU(at, Mem{Base: dst, Index: count, Scale: 2})
	POPCNTL(mask, mask)
	ADDQ(wide, count)
	VPADDW(step, base, base)
	ADDQ(Imm(32), x)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	Store(count, ReturnIndex(0))
	RET()
}

// siftAVX512 shows eight values at a time to every sieve. That a hash is low
// enough is rare.
func siftAVX512() {
	TEXT("siftAVX512", NOSPLIT, "func(dst *uint32, hits *uint16, n int, x *float32, first uint64, sieves *byte, count int) int")
	Doc("siftAVX512 is siftGeneric for n ≥ 1 hits and count ≥ 1 sieves.")
	dst := Load(Param("dst"), GP64())
	hits := Load(Param("hits"), GP64())
	n := Load(Param("n"), GP64())
	x := Load(Param("x"), GP64())
	sieves := Load(Param("sieves"), GP64())
	last := Load(Param("count"), GP64())
	LEAQ(Mem{Base: last, Index: last, Scale: 2}, last)
	LEAQ(Mem{Base: sieves, Index: last, Scale: 8}, last) // 24 bytes each
	first, golden, m1, m2 := ZMM(), ZMM(), ZMM(), ZMM()
	p, err := Param("first").Resolve()
	if err != nil {
		panic(err)
	}
	VPBROADCASTQ(p.Addr, first)
	VPBROADCASTQ(quad("golden", 0x9e3779b97f4a7c15), golden)
	VPBROADCASTQ(quad("mix1", 0xbf58476d1ce4e5b9), m1)
	VPBROADCASTQ(quad("mix2", 0x94d049bb133111eb), m2)
	VPMULLQ(golden, first, first)
	kept, wide, sieve, some, number := GP64(), GP64(), GP64(), GP64(), GP64()
	XORQ(kept, kept)
	in, todo := K(), K()
	MOVL(U32(0xff), some.As32())
	KMOVW(some.As32(), in)

	Label("loop")
	CMPQ(n, Imm(8))
	JGE(LabelRef("values"))
	BZHIL(n.(reg.GPVirtual).As32(), some.As32(), some.As32()) // some is 0xff
	KMOVW(some.As32(), in)
	Label("values")
	index, v, words := YMM(), YMM(), ZMM()
	VPMOVZXWD_Z(Mem{Base: hits}, in, index)
	VXORPS(v, v, v)
	KMOVW(in, todo)
	VGATHERDPS(Mem{Base: x, Index: index, Scale: 4}, todo, v)
	VPMOVZXDQ(index, words)
	VPMULLQ(golden, words, words)
	VPADDQ(first, words, words)
	MOVQ(sieves, sieve)
	XORQ(number, number)

	Label("sieve")
	h, t := ZMM(), ZMM()
	hit := K()
	VCMPPS_BCST(greaterOrEqual, Mem{Base: sieve}, v, in, hit)
	VCMPPS_BCST(lessOrEqual, Mem{Base: sieve, Disp: 4}, v, hit, hit)
	VPADDQ_BCST(Mem{Base: sieve, Disp: 8}, words, h)
	VPSRLQ(Imm(30), h, t)
	VPXORQ(t, h, h)
	VPMULLQ(m1, h, h)
	VPSRLQ(Imm(27), h, t)
	VPXORQ(t, h, h)
	VPMULLQ(m2, h, h)
	VPSRLQ(Imm(33), h, h) // the last step of the mix changes none of these bits
	VPCMPUQ_BCST(Imm(2), Mem{Base: sieve, Disp: 16}, h, hit, hit)
	KORTESTB(hit, hit)
	JNZ(LabelRef("keep"))
	Label("next")
	ADDQ(Imm(24), sieve)
	ADDQ(U32(1<<16), number)
	CMPQ(sieve, last)
	JNE(LabelRef("sieve"))
	ADDQ(Imm(16), hits)
	SUBQ(Imm(8), n)
	JG(LabelRef("loop"))
	VZEROUPPER()
	Store(kept, ReturnIndex(0))
	RET()

	Label("keep")
	out := YMM()
	VPBROADCASTD(number.As32(), out)
	VPORD(index, out, out)
	VPCOMPRESSD_Z(out, hit, out)
	VMOVDQU32(out, Mem{Base: dst, Index: kept, Scale: 4})
	KMOVB(hit, wide.As32())
	POPCNTL(wide.As32(), wide.As32())
	ADDQ(wide, kept)
	JMP(LabelRef("next"))
}

// broadcast fills a vector with a float32 parameter.
func broadcast(param string, v reg.VecVirtual) reg.VecVirtual {
	VBROADCASTSS(address(param), v)
	return v
}

func address(param string) Mem {
	p, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	return p.Addr
}

// compressWords is VPCOMPRESSW of the words of a vector that a mask has, which
// avo does not know.
func compressWords(from, mask, to reg.Register) {
	Instruction(&ir.Instruction{
		Opcode: "VPCOMPRESSW", Suffixes: []string{"Z"},
		Operands: []Op{from, mask, to}, Inputs: []Op{from, mask}, Outputs: []Op{to},
		ISA: []string{"AVX512VBMI2"},
	})
}

// data is n bytes: those given, or 0, 1, 2, …
func data(name string, n int, given ...byte) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i := range n {
		if given == nil {
			DATA(i, U8(i))
		} else {
			DATA(i, U8(given[i]))
		}
	}
	return m
}

func quad(name string, x uint64) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	DATA(0, U64(x))
	return m
}
