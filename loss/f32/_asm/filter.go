package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var lessOrEqual = Imm(2) // predicate LE of the comparisons: false for NaN

// selectAVX512 keeps 16 indices at a time, by compression and without a branch:
// whether a value is inside is not foreseeable.
func selectAVX512() {
	TEXT("selectAVX512", NOSPLIT, "func(dst *int32, x *float32, n int, lo, hi float32) int")
	Doc("selectAVX512 is selectGeneric for n values, a multiple of 16.")
	dst := Load(Param("dst"), GP64())
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	lo, hi := broadcast("lo", ZMM()), broadcast("hi", ZMM())
	index, step := ZMM(), ZMM()
	VPMOVZXBD(bytes("sixteen", 16, func(i int) byte { return byte(i) }), index)
	VPBROADCASTD(words("step16", 16), step)
	count, wide := GP64(), GP64()
	mask := wide.As32()
	XORQ(count, count)
	inside := K()

	Label("loop")
	v, kept := ZMM(), ZMM()
	VMOVUPS(Mem{Base: x}, v)
	VCMPPS(lessOrEqual, v, lo, inside)
	VCMPPS(lessOrEqual, hi, v, inside, inside)
	VPCOMPRESSD_Z(index, inside, kept)
	VMOVDQU32(kept, Mem{Base: dst, Index: count, Scale: 4})
	KMOVW(inside, mask)
	POPCNTL(mask, mask)
	ADDQ(wide, count)
	VPADDD(step, index, index)
	ADDQ(Imm(64), x)
	SUBQ(Imm(16), n)
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
	TEXT("selectAVX2", NOSPLIT, "func(dst *int32, x *float32, n int, lo, hi float32) int")
	Doc("selectAVX2 is selectGeneric for n values, a multiple of 16.")
	dst := Load(Param("dst"), GP64())
	x := Load(Param("x"), GP64())
	n := Load(Param("n"), GP64())
	lo, hi := broadcast("lo", YMM()), broadcast("hi", YMM())
	base, step := YMM(), YMM()
	VPXOR(base, base, base)
	VPBROADCASTD(words("step8", 8), step)
	table, count, wide := GP64(), GP64(), GP64()
	mask := wide.As32()
	LEAQ(places, table)
	XORQ(count, count)

	Label("loop")
	v, above, below, at := YMM(), YMM(), YMM(), YMM()
	VMOVUPS(Mem{Base: x}, v)
	VCMPPS(lessOrEqual, v, lo, above)
	VCMPPS(lessOrEqual, hi, v, below)
	VANDPS(above, below, above)
	VMOVMSKPS(above, mask)
	VPMOVZXBD(Mem{Base: table, Index: wide, Scale: 8}, at)
	VPADDD(base, at, at)
	VMOVDQU(at, Mem{Base: dst, Index: count, Scale: 4})
	POPCNTQ(wide, wide)
	ADDQ(wide, count)
	VPADDD(step, base, base)
	ADDQ(Imm(32), x)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	Store(count, ReturnIndex(0))
	RET()
}

// siftAVX512 looks at eight hashes at a time. That one is kept is rare.
func siftAVX512() {
	TEXT("siftAVX512", NOSPLIT, "func(dst *int32, v *float32, w *uint64, n int, lo, hi float32, key, cut uint64) int")
	Doc("siftAVX512 is siftGeneric for n ≥ 1 values.")
	dst := Load(Param("dst"), GP64())
	v := Load(Param("v"), GP64())
	w := Load(Param("w"), GP64())
	n := Load(Param("n"), GP64())
	lo, hi := broadcast("lo", YMM()), broadcast("hi", YMM())
	key, cut := broadcast64("key"), broadcast64("cut")
	m1, m2 := ZMM(), ZMM()
	VPBROADCASTQ(quad("mix1", 0xbf58476d1ce4e5b9), m1)
	VPBROADCASTQ(quad("mix2", 0x94d049bb133111eb), m2)
	index, step := YMM(), YMM()
	VPMOVZXBD(bytes("eight", 8, func(i int) byte { return byte(i) }), index)
	VPBROADCASTD(words("step8b", 8), step)
	count, mask, few, wide := GP64(), GP32(), GP64(), GP64()
	XORQ(count, count)
	in := K()
	MOVL(U32(0xff), mask)
	KMOVW(mask, in)

	Label("loop")
	CMPQ(n, Imm(8))
	JGE(LabelRef("eight"))
	MOVQ(n, few)
	BZHIL(few.As32(), mask, mask) // mask is 0xff
	KMOVW(mask, in)
	Label("eight")
	x, h, t := YMM(), ZMM(), ZMM()
	hit := K()
	VMOVUPS_Z(Mem{Base: v}, in, x)
	VCMPPS(lessOrEqual, x, lo, in, hit)
	VCMPPS(lessOrEqual, hi, x, hit, hit)
	KORTESTB(hit, hit)
	JZ(LabelRef("next"))
	VMOVDQU64_Z(Mem{Base: w}, in, h)
	VPADDQ(key, h, h)
	VPSRLQ(Imm(30), h, t)
	VPXORQ(t, h, h)
	VPMULLQ(m1, h, h)
	VPSRLQ(Imm(27), h, t)
	VPXORQ(t, h, h)
	VPMULLQ(m2, h, h)
	VPSRLQ(Imm(31), h, t)
	VPXORQ(t, h, h)
	VPCMPUQ(lessOrEqual, cut, h, hit, hit)
	KORTESTB(hit, hit)
	JZ(LabelRef("next"))
	kept := YMM()
	VPCOMPRESSD_Z(index, hit, kept)
	VMOVDQU32(kept, Mem{Base: dst, Index: count, Scale: 4})
	bits := wide.As32()
	KMOVB(hit, bits)
	POPCNTL(bits, bits)
	ADDQ(wide, count)
	Label("next")
	VPADDD(step, index, index)
	ADDQ(Imm(32), v)
	ADDQ(Imm(64), w)
	SUBQ(Imm(8), n)
	JG(LabelRef("loop"))
	VZEROUPPER()
	Store(count, ReturnIndex(0))
	RET()
}

// broadcast fills a vector with a float32 parameter.
func broadcast(param string, v reg.VecVirtual) reg.VecVirtual {
	VBROADCASTSS(address(param), v)
	return v
}

// broadcast64 fills a vector with a uint64 parameter.
func broadcast64(param string) reg.VecVirtual {
	v := ZMM()
	VPBROADCASTQ(address(param), v)
	return v
}

func address(param string) Mem {
	p, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	return p.Addr
}

func bytes(name string, n int, f func(int) byte) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i := range n {
		DATA(i, U8(f(i)))
	}
	return m
}

func words(name string, x uint32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	DATA(0, U32(x))
	return m
}

func quad(name string, x uint64) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	DATA(0, U64(x))
	return m
}
