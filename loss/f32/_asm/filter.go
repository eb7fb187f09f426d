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

// sift is a body of Sift: vectors of values, and of their hashes, against every
// sieve. That a hash is low enough is rare.
type sift struct {
	lanes  int
	vector func() reg.VecVirtual
}

// begin loads what all bodies need. A sieve is 24 bytes: Lo, Hi, the halves of
// Key, and Cut.
func (b sift) begin() (hits, n, x, numbers, sieves, last, kept reg.GPVirtual, golden, first, m1, m2 reg.VecVirtual) {
	load := func(name string) reg.GPVirtual { return Load(Param(name), GP64()).(reg.GPVirtual) }
	hits, n, x, numbers, sieves, last = load("hits"), load("n"), load("x"), load("numbers"), load("sieves"), load("count")
	LEAQ(Mem{Base: last, Index: last, Scale: 2}, last)
	LEAQ(Mem{Base: sieves, Index: last, Scale: 8}, last)
	golden, first, m1, m2 = b.vector(), b.vector(), b.vector(), b.vector()
	VPBROADCASTD(word("golden", 0x9e3779b9), golden)
	VPBROADCASTD(word("mix1", 0x21f0aaad), m1)
	VPBROADCASTD(word("mix2", 0xd35a2d97), m2)
	p, err := Param("first").Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(p.Addr, first)
	kept = GP64()
	XORQ(kept, kept)
	return
}

func siftAVX512() {
	TEXT("siftAVX512", NOSPLIT, "func(dst *uint32, hits *uint16, n int, x *float32, first uint32, numbers *uint32, sieves *byte, count int) int")
	Doc("siftAVX512 is siftGeneric for n ≥ 1 hits and count ≥ 1 sieves.")
	dst := Load(Param("dst"), GP64())
	hits, n, x, numbers, sieves, last, kept, golden, first, m1, m2 := sift{16, func() reg.VecVirtual { return ZMM() }}.begin()
	wide, sieve, some, number := GP64(), GP64(), GP64(), GP64()
	in, todo := K(), K()
	MOVL(U32(0xffff), some.As32())
	KMOVW(some.As32(), in)

	Label("loop")
	CMPQ(n, Imm(16))
	JGE(LabelRef("values"))
	BZHIL(n.As32(), some.As32(), some.As32()) // some is 0xffff
	KMOVW(some.As32(), in)
	Label("values")
	index, v := ZMM(), ZMM()
	VPMOVZXWD_Z(Mem{Base: hits}, in, index)
	VPXORD(v, v, v)
	KMOVW(in, todo)
	VGATHERDPS(Mem{Base: x, Index: index, Scale: 4}, todo, v)
	words := ZMM()
	VPADDD(first, index, words)
	TESTQ(numbers, numbers)
	JZ(LabelRef("counted"))
	KMOVW(in, todo)
	VPGATHERDD(Mem{Base: numbers, Index: index, Scale: 4}, todo, words)
	Label("counted")
	VPMULLD(golden, words, words)
	MOVQ(sieves, sieve)
	XORQ(number, number)

	Label("sieve")
	h, t, hit := ZMM(), ZMM(), K()
	VCMPPS_BCST(greaterOrEqual, Mem{Base: sieve}, v, in, hit)
	VCMPPS_BCST(lessOrEqual, Mem{Base: sieve, Disp: 4}, v, hit, hit)
	VPADDD_BCST(Mem{Base: sieve, Disp: 8}, words, h)
	VPSRLD(Imm(16), h, t)
	VPXORD(t, h, h)
	VPMULLD(m1, h, h)
	VPSRLD(Imm(15), h, t)
	VPTERNLOGD_BCST(Imm(0x96), Mem{Base: sieve, Disp: 12}, t, h) // all three, xor
	VPMULLD(m2, h, h)
	VPSRLD(Imm(15), h, t)
	VPXORD(t, h, h)
	VPCMPUD_BCST(Imm(2), Mem{Base: sieve, Disp: 16}, h, hit, hit)
	KORTESTW(hit, hit)
	JNZ(LabelRef("keep"))
	Label("next")
	ADDQ(Imm(24), sieve)
	ADDQ(U32(1<<16), number)
	CMPQ(sieve, last)
	JNE(LabelRef("sieve"))
	ADDQ(Imm(32), hits)
	SUBQ(Imm(16), n)
	JG(LabelRef("loop"))
	VZEROUPPER()
	Store(kept, ReturnIndex(0))
	RET()

	Label("keep")
	out := ZMM()
	VPBROADCASTD(number.As32(), out)
	VPORD(index, out, out)
	VPCOMPRESSD_Z(out, hit, out)
	VMOVDQU32(out, Mem{Base: dst, Index: kept, Scale: 4})
	KMOVW(hit, wide.As32())
	POPCNTL(wide.As32(), wide.As32())
	ADDQ(wide, kept)
	JMP(LabelRef("next"))
}

func siftAVX2() {
	TEXT("siftAVX2", NOSPLIT, "func(dst *uint32, hits *uint16, n int, x *float32, first uint32, numbers *uint32, sieves *byte, count int) int")
	Doc("siftAVX2 is siftGeneric for n ≥ 8 hits, a multiple of 8, and count ≥ 1 sieves.")
	dst := Load(Param("dst"), GP64())
	hits, n, x, numbers, sieves, last, kept, golden, first, m1, m2 := sift{8, func() reg.VecVirtual { return YMM() }}.begin()
	mask, sieve, number, bit, out := GP32(), GP64(), GP32(), GP64(), GP32()

	Label("loop")
	index, v, todo := YMM(), YMM(), YMM()
	VPMOVZXWD(Mem{Base: hits}, index)
	VPCMPEQD(todo, todo, todo)
	VXORPS(v, v, v)
	VGATHERDPS(todo, Mem{Base: x, Index: index, Scale: 4}, v)
	words := YMM()
	VPADDD(first, index, words)
	TESTQ(numbers, numbers)
	JZ(LabelRef("counted"))
	VPCMPEQD(todo, todo, todo)
	VPGATHERDD(todo, Mem{Base: numbers, Index: index, Scale: 4}, words)
	Label("counted")
	VPMULLD(golden, words, words)
	MOVQ(sieves, sieve)
	XORL(number, number)

	Label("sieve")
	h, t, edge, hit := YMM(), YMM(), YMM(), YMM()
	VBROADCASTSS(Mem{Base: sieve}, edge)
	VCMPPS(greaterOrEqual, edge, v, hit)
	VBROADCASTSS(Mem{Base: sieve, Disp: 4}, edge)
	VCMPPS(lessOrEqual, edge, v, edge)
	VANDPS(edge, hit, hit)
	VPBROADCASTD(Mem{Base: sieve, Disp: 8}, h)
	VPADDD(words, h, h)
	VPSRLD(Imm(16), h, t)
	VPXOR(t, h, h)
	VPMULLD(m1, h, h)
	VPSRLD(Imm(15), h, t)
	VPXOR(t, h, h)
	VPBROADCASTD(Mem{Base: sieve, Disp: 12}, t)
	VPXOR(t, h, h)
	VPMULLD(m2, h, h)
	VPSRLD(Imm(15), h, t)
	VPXOR(t, h, h)
	VPBROADCASTD(Mem{Base: sieve, Disp: 16}, t)
	VPMINUD(t, h, t)
	VPCMPEQD(t, h, t) // h ≤ Cut
	VANDPS(t, hit, hit)
	VMOVMSKPS(hit, mask)
	TESTL(mask, mask)
	JNZ(LabelRef("keep"))
	Label("next")
	ADDQ(Imm(24), sieve)
	ADDL(U32(1<<16), number)
	CMPQ(sieve, last)
	JNE(LabelRef("sieve"))
	ADDQ(Imm(16), hits)
	SUBQ(Imm(8), n)
	JG(LabelRef("loop"))
	VZEROUPPER()
	Store(kept, ReturnIndex(0))
	RET()

	Label("keep")
	BSFL(mask, bit.As32())
	MOVWLZX(Mem{Base: hits, Index: bit, Scale: 2}, out)
	ORL(number, out)
	MOVL(out, Mem{Base: dst, Index: kept, Scale: 4})
	INCQ(kept)
	LEAL(Mem{Base: mask.(reg.GPVirtual).As64(), Disp: -1}, out)
	ANDL(out, mask)
	JNZ(LabelRef("keep"))
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

func word(name string, x uint32) Mem {
	m := Mem{Symbol: Symbol{Name: name, Static: true}, Base: reg.StaticBase}
	if !written[name] {
		written[name] = true
		m = GLOBL(name, RODATA|NOPTR)
		DATA(0, U32(x))
	}
	return m
}

// written are the words that more than one body uses.
var written = map[string]bool{}
