package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var less = Imm(1) // predicate LT

const laneBytes = 4 * 32 // a value of every lane

// eight is 32 bytes of constants.
func eight(name string, value func(i int) uint32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(value(i)))
	}
	return m
}

func constant(name string, x float32) Mem {
	return eight(name, func(int) uint32 { return math.Float32bits(x) })
}

// lanes are the constants that the panel kernels share. They make four passes
// over the rows, for eight lanes each.
type lanes struct {
	abs, bits, inf Mem
}

// start begins a pass for the lanes of a group, which is 0, 4, 8 or 12.
func (l lanes) start(group reg.GPVirtual) (panel, skip, row, n reg.Register) {
	panel = Load(Param("panel"), GP64())
	skip = Load(Param("skip"), GP64())
	row = Load(Param("rows"), GP64())
	n = Load(Param("n"), GP64())
	LEAQ(Mem{Base: panel, Index: group, Scale: 8}, panel)
	SHRQ(Imm(2), group) // a byte of skip
	ADDQ(group, skip)
	SHLQ(Imm(2), group)
	return panel, skip, row, n
}

// expand leaves in mask the lanes that a byte of skip names.
func (l lanes) expand(skip Mem, mask reg.VecVirtual) {
	b := GP32()
	MOVBLZX(skip, b)
	VMOVD(b, mask.AsX())
	VPBROADCASTD(mask.AsX(), mask)
	VPAND(l.bits, mask, mask)
	VPCMPEQD(l.bits, mask, mask)
}

// each runs body n times.
func each(label string, n Op, body func()) {
	i := GP64()
	MOVQ(n, i)
	Label(label)
	body()
	DECQ(i)
	JNZ(LabelRef(label))
}

func hinge(l lanes, rho Mem) {
	TEXT("hingeAVX2", NOSPLIT, "func(panel *float32, skip *uint32, rows, lanes *float32, counts *int32, sums *float64, n, q, root int)")
	Doc("hingeAVX2 is hingeGeneric.")
	lane := Load(Param("lanes"), GP64())
	counts := Load(Param("counts"), GP64())
	sums := Load(Param("sums"), GP64())
	q := Load(Param("q"), GP64())
	root := Load(Param("root"), GP64())
	floors := GP64() // bytes from an edge to its floor
	MOVQ(q, floors)
	SHLQ(Imm(7), floors)
	group := GP64()
	MOVQ(U32(0), group)

	Label("lanes")
	panel, skip, row, n := l.start(group)
	var d, w [2]reg.VecVirtual
	for i := range 2 {
		d[i], w[i] = YMM(), YMM()
		VMOVUPS(Mem{Base: sums, Disp: 32 * i}, d[i])
		VMOVUPS(Mem{Base: sums, Disp: 8*32 + 32*i}, w[i])
	}
	hard := YMM()
	VMOVDQU(Mem{Base: counts}, hard)

	Label("row")
	x, slack, least, t := YMM(), YMM(), YMM(), YMM()
	VBROADCASTSS(Mem{Base: row}, t)
	VADDPS(Mem{Base: panel}, t, x)
	VBROADCASTSS(Mem{Base: row, Disp: 4}, t)
	VADDPS(Mem{Base: lane}, t, slack)
	VMULPS(rho, x, least)
	at := GP64()
	nearest := func() {
		VANDPS(l.abs, t, t)
		VMINPS(t, least, least)
	}
	MOVQ(lane, at)
	each("near", q, func() {
		ADDQ(U32(laneBytes), at)
		VSUBPS(Mem{Base: at}, x, t)
		nearest()
		VSUBPS(Mem{Base: at, Index: floors, Scale: 1}, x, t)
		nearest()
	})
	edge := GP64()
	MOVQ(row, edge)
	each("nearRow", q, func() {
		VBROADCASTSS(Mem{Base: edge, Disp: 8}, t)
		ADDQ(Imm(4), edge)
		VSUBPS(t, x, t)
		nearest()
	})

	blank := YMM()
	VCMPPS(lessOrEqual, slack, least, t)
	l.expand(Mem{Base: skip}, blank)
	VANDNPS(t, blank, least)
	b := GP32()
	VMOVMSKPS(least, b)
	MOVB(b.As8(), Mem{Base: skip})
	VORPS(t, blank, blank)
	VBLENDVPS(blank, l.inf, x, x)

	c, below := YMM(), YMM()
	VPXOR(c, c, c)
	MOVQ(lane, at)
	count := GP64()
	MOVQ(counts, count)
	each("count", q, func() {
		ADDQ(U32(laneBytes), at)
		ADDQ(U32(laneBytes), count)
		VCMPPS(less, Mem{Base: at}, x, t)
		VPSUBD(t, c, c)
		VMOVDQU(Mem{Base: count}, below)
		VPSUBD(t, below, below)
		VMOVDQU(below, Mem{Base: count})
		VCMPPS(less, Mem{Base: at, Index: floors, Scale: 1}, x, t)
		VPSUBD(t, hard, hard)
	})
	all := YMM()
	VMOVDQA(c, all)
	MOVQ(row, edge)
	each("countRow", q, func() {
		VBROADCASTSS(Mem{Base: edge, Disp: 8}, t)
		ADDQ(Imm(4), edge)
		VCMPPS(less, t, x, t)
		VPSUBD(t, all, all)
	})
	VCVTDQ2PS(c, c)
	VCVTDQ2PS(all, all)
	TESTQ(root, root)
	JZ(LabelRef("add"))
	VSQRTPS(x, x)
	VDIVPS(x, all, all)
	Label("add")
	VMOVUPS(all, Mem{Base: panel})
	VANDNPS(x, blank, x)
	VMULPS(x, c, c)
	for i := range 2 {
		for _, add := range []struct{ from, to reg.VecVirtual }{{x, d[i]}, {c, w[i]}} {
			if i == 0 {
				VCVTPS2PD(add.from.AsX(), t)
			} else {
				VEXTRACTF128(Imm(1), add.from, t.AsX())
				VCVTPS2PD(t.AsX(), t)
			}
			VADDPD(t, add.to, add.to)
		}
	}

	ADDQ(U32(laneBytes), panel)
	ADDQ(Imm(4), skip)
	LEAQ(Mem{Base: edge, Disp: 8}, row)
	DECQ(n)
	JNZ(LabelRef("row"))

	for i := range 2 {
		VMOVUPS(d[i], Mem{Base: sums, Disp: 32 * i})
		VMOVUPS(w[i], Mem{Base: sums, Disp: 8*32 + 32*i})
	}
	VMOVDQU(hard, Mem{Base: counts})
	ADDQ(Imm(32), lane)
	ADDQ(Imm(32), counts)
	ADDQ(Imm(64), sums)
	ADDQ(Imm(4), group)
	CMPQ(group, Imm(16))
	JLT(LabelRef("lanes"))
	VZEROUPPER()
	RET()
}

func nearest(l lanes) {
	TEXT("nearestAVX2", NOSPLIT, "func(best, panel *float32, skip *uint32, rows, slack *float32, n int)")
	Doc("nearestAVX2 is nearestGeneric.")
	best := Load(Param("best"), GP64())
	slack := Load(Param("slack"), GP64())
	group := GP64()
	MOVQ(U32(0), group)

	Label("lanes")
	panel, skip, row, n := l.start(group)
	low, mine := YMM(), YMM()
	VMOVUPS(Mem{Base: best}, low)
	VMOVUPS(Mem{Base: slack}, mine)

	Label("row")
	x, s, t, blank := YMM(), YMM(), YMM(), YMM()
	VBROADCASTSS(Mem{Base: row}, x)
	VADDPS(Mem{Base: panel}, x, x)
	VBROADCASTSS(Mem{Base: row, Disp: 4}, s)
	VADDPS(mine, s, s)
	l.expand(Mem{Base: skip}, blank)
	VSUBPS(s, x, t)
	VMOVUPS(t, Mem{Base: panel})
	VCMPPS(lessOrEqual, low, t, t)
	VANDNPS(t, blank, t)
	b := GP32()
	VMOVMSKPS(t, b)
	MOVB(b.As8(), Mem{Base: skip})
	VADDPS(s, x, x)
	VBLENDVPS(blank, l.inf, x, x)
	VMINPS(x, low, low)
	ADDQ(U32(laneBytes), panel)
	ADDQ(Imm(4), skip)
	ADDQ(Imm(8), row)
	DECQ(n)
	JNZ(LabelRef("row"))

	VMOVUPS(low, Mem{Base: best})
	ADDQ(Imm(32), best)
	ADDQ(Imm(32), slack)
	ADDQ(Imm(4), group)
	CMPQ(group, Imm(16))
	JLT(LabelRef("lanes"))
	VZEROUPPER()
	RET()
}

func repel(l lanes, rho Mem) {
	TEXT("repelAVX2", NOSPLIT, "func(panel *float32, skip *uint32, rows, slack *float32, counts *int32, sums *float64, edge, margin float32, n, root int)")
	Doc("repelAVX2 is repelGeneric.")
	slack := Load(Param("slack"), GP64())
	counts := Load(Param("counts"), GP64())
	sums := Load(Param("sums"), GP64())
	root := Load(Param("root"), GP64())
	edge, margin := broadcast("edge", YMM()), broadcast("margin", YMM())
	group := GP64()
	MOVQ(U32(0), group)

	Label("lanes")
	panel, skip, row, n := l.start(group)
	count := YMM()
	VMOVDQU(Mem{Base: counts}, count)
	at := func(of, half int) Mem { return Mem{Base: sums, Disp: 8*32*of + 32*half} }

	Label("row")
	x, s, t, blank, far := YMM(), YMM(), YMM(), YMM(), YMM()
	VBROADCASTSS(Mem{Base: row}, x)
	VADDPS(Mem{Base: panel}, x, x)
	VBROADCASTSS(Mem{Base: row, Disp: 4}, s)
	VADDPS(Mem{Base: slack}, s, s)
	VSUBPS(edge, x, t)
	VANDPS(l.abs, t, t)
	VMULPS(rho, x, far)
	VMINPS(far, t, t)
	VCMPPS(lessOrEqual, s, t, t)
	l.expand(Mem{Base: skip}, blank)
	VANDNPS(t, blank, s)
	b := GP32()
	VMOVMSKPS(s, b)
	MOVB(b.As8(), Mem{Base: skip})
	VORPS(t, blank, blank)
	VBLENDVPS(blank, l.inf, x, x)
	VCMPPS(less, edge, x, t) // below the edge, and not blank
	VPSUBD(t, count, count)
	TESTQ(root, root)
	JZ(LabelRef("square"))
	VSQRTPS(x, x)
	Label("square")
	gap := YMM()
	VSUBPS(x, margin, gap)
	VANDPS(t, gap, gap)
	VMOVAPS(gap, s)
	TESTQ(root, root)
	JZ(LabelRef("store"))
	VDIVPS(x, gap, s)
	Label("store")
	VMOVUPS(s, Mem{Base: panel})
	VANDNPS(x, blank, x)
	for half := range 2 {
		for of, from := range []reg.VecVirtual{x, gap} {
			if half == 0 {
				VCVTPS2PD(from.AsX(), t)
			} else {
				VEXTRACTF128(Imm(1), from, t.AsX())
				VCVTPS2PD(t.AsX(), t)
			}
			if of == 1 {
				VMULPD(t, t, t)
			}
			VADDPD(at(of, half), t, t)
			VMOVUPD(t, at(of, half))
		}
	}
	ADDQ(U32(laneBytes), panel)
	ADDQ(Imm(4), skip)
	ADDQ(Imm(8), row)
	DECQ(n)
	JNZ(LabelRef("row"))

	VMOVDQU(count, Mem{Base: counts})
	ADDQ(Imm(32), slack)
	ADDQ(Imm(32), counts)
	ADDQ(Imm(64), sums)
	ADDQ(Imm(4), group)
	CMPQ(group, Imm(16))
	JLT(LabelRef("lanes"))
	VZEROUPPER()
	RET()
}

func panelKernels() {
	l := lanes{
		abs:  eight("absMask", func(int) uint32 { return 1<<31 - 1 }),
		bits: eight("laneBits", func(i int) uint32 { return 1 << i }),
		inf:  constant("infinities", float32(math.Inf(1))),
	}
	rho := constant("resolution", 0x1p-10)
	hinge(l, rho)
	hinge512(l, rho)
	nearest(l)
	repel(l, rho)
}
