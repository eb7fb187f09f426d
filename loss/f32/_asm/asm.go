// Command asm writes the bodies of the kernels of package f32 in assembly, those
// for amd64 and for arm64. The lanewise ones are the loops of f32_generic.go:
// eight lanes, products rounded before they are added.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	if err := neon("../f32_arm64.s"); err != nil {
		panic(err)
	}
	ConstraintExpr("!purego")

	reduce("sqEuclideanAVX", "adds (a−b)² to the eight sums.", square)
	reduce("dotAVX", "adds a·b to the eight sums.", product)
	reduceFour("sqEuclideans4AVX", "adds (x−r)² to the eight sums of each of four rows.", square)
	reduceFour("dots4AVX", "adds x·r to the eight sums of each of four rows.", product)
	axpy()
	scale()
	tile("productAVX512", "is productGeneric: 12 rows with 32 columns of each panel.", func() reg.VecVirtual { return ZMM() }, 64, 12)
	tile("productAVX2", "multiplies 6 of 12 rows with 16 of the 32 columns of each panel.", func() reg.VecVirtual { return YMM() }, 32, 6)
	pack()
	selectAVX512()
	selectAVX2()
	siftAVX512()
	siftAVX2()
	panelKernels()
	peak("peakAVX512", func() reg.VecVirtual { return ZMM() }, 24)
	peak("peakAVX2", func() reg.VecVirtual { return YMM() }, 12)
	Generate()
}

// term leaves in t the eight summands of x and the eight values at m.
type term func(m Mem, x, t reg.VecVirtual)

func square(m Mem, x, t reg.VecVirtual) {
	VSUBPS(m, x, t)
	VMULPS(t, t, t)
}

func product(m Mem, x, t reg.VecVirtual) { VMULPS(m, x, t) }

func reduce(name, doc string, f term) {
	TEXT(name, NOSPLIT, "func(acc *[8]float32, a, b []float32)")
	Doc(name + " " + doc)
	acc := Mem{Base: Load(Param("acc"), GP64())}
	a := Mem{Base: Load(Param("a").Base(), GP64())}
	n := Load(Param("a").Len(), GP64())
	b := Mem{Base: Load(Param("b").Base(), GP64())}

	sum, x, t := YMM(), YMM(), YMM()
	VMOVUPS(acc, sum)
	loop(n, []Mem{a, b}, func() {
		VMOVUPS(a, x)
		f(b, x, t)
		VADDPS(t, sum, sum)
	})
	VMOVUPS(sum, acc)
	VZEROUPPER()
	RET()
}

func reduceFour(name, doc string, f term) {
	TEXT(name, NOSPLIT, "func(acc *[4][8]float32, x, r0, r1, r2, r3 []float32)")
	Doc(name + " " + doc)
	acc := Mem{Base: Load(Param("acc"), GP64())}
	x := Mem{Base: Load(Param("x").Base(), GP64())}
	n := Load(Param("x").Len(), GP64())
	ptrs := []Mem{x}
	sums := make([]reg.VecVirtual, 4)
	for i := range sums {
		ptrs = append(ptrs, Mem{Base: Load(Param(fmt.Sprintf("r%d", i)).Base(), GP64())})
		sums[i] = YMM()
		VMOVUPS(acc.Offset(32*i), sums[i])
	}

	v, t := YMM(), YMM()
	loop(n, ptrs, func() {
		VMOVUPS(x, v)
		for i, sum := range sums {
			f(ptrs[1+i], v, t)
			VADDPS(t, sum, sum)
		}
	})
	for i, sum := range sums {
		VMOVUPS(sum, acc.Offset(32*i))
	}
	VZEROUPPER()
	RET()
}

func axpy() {
	TEXT("axpyAVX", NOSPLIT, "func(dst []float32, alpha float32, x []float32)")
	Doc("axpyAVX adds alpha·x to dst.")
	dst := Mem{Base: Load(Param("dst").Base(), GP64())}
	n := Load(Param("dst").Len(), GP64())
	alpha, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	x := Mem{Base: Load(Param("x").Base(), GP64())}

	scale, t := YMM(), YMM()
	VBROADCASTSS(alpha.Addr, scale)
	loop(n, []Mem{dst, x}, func() {
		VMULPS(x, scale, t)
		VADDPS(dst, t, t)
		VMOVUPS(t, dst)
	})
	VZEROUPPER()
	RET()
}

func scale() {
	TEXT("scaleAVX", NOSPLIT, "func(dst []float32, alpha float32)")
	Doc("scaleAVX multiplies dst by alpha.")
	dst := Mem{Base: Load(Param("dst").Base(), GP64())}
	n := Load(Param("dst").Len(), GP64())
	alpha, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}

	scale, t := YMM(), YMM()
	VBROADCASTSS(alpha.Addr, scale)
	loop(n, []Mem{dst}, func() {
		VMULPS(dst, scale, t)
		VMOVUPS(t, dst)
	})
	VZEROUPPER()
	RET()
}

// loop runs body for every eight of n values and moves the pointers on. Names
// of labels are local to a function.
func loop(n reg.Register, ptrs []Mem, body func()) {
	Label("loop")
	CMPQ(n, Imm(8))
	JL(LabelRef("done"))
	body()
	for _, p := range ptrs {
		ADDQ(Imm(32), p.Base)
	}
	SUBQ(Imm(8), n)
	JMP(LabelRef("loop"))
	Label("done")
}
