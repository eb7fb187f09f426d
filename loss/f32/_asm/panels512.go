package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// hinge512 is hinge in two passes over the rows, sixteen lanes each.
func hinge512(l lanes, rho Mem) {
	TEXT("hingeAVX512", NOSPLIT, "func(panel *float32, skip *uint32, rows, lanes *float32, counts *int32, sums *float64, n, q, root int)")
	Doc("hingeAVX512 is hingeGeneric.")
	lane := Load(Param("lanes"), GP64())
	counts := Load(Param("counts"), GP64())
	sums := Load(Param("sums"), GP64())
	q := Load(Param("q"), GP64())
	root := Load(Param("root"), GP64())
	floors := GP64() // bytes from an edge to its floor
	MOVQ(q, floors)
	SHLQ(Imm(7), floors)
	group := GP64() // 0, 64: bytes of a row of the panel
	MOVQ(U32(0), group)
	ones, inf, share := ZMM(), ZMM(), ZMM()
	VPTERNLOGD(Imm(0xff), ones, ones, ones)
	VPABSD(ones, ones)
	VBROADCASTSS(l.inf, inf)
	VBROADCASTSS(rho, share)

	Label("lanes")
	panel := Load(Param("panel"), GP64())
	skip := Load(Param("skip"), GP64())
	row := Load(Param("rows"), GP64())
	n := Load(Param("n"), GP64())
	ADDQ(group, panel)
	SHRQ(Imm(5), group) // a byte of skip for eight lanes
	ADDQ(group, skip)
	SHLQ(Imm(5), group)
	var d, w [2]reg.VecVirtual
	for i := range 2 {
		d[i], w[i] = ZMM(), ZMM()
		VMOVUPS(Mem{Base: sums, Disp: 64 * i}, d[i])
		VMOVUPS(Mem{Base: sums, Disp: 8*32 + 64*i}, w[i])
	}
	hard, own := ZMM(), ZMM()
	VMOVDQU32(Mem{Base: counts}, hard)
	VMOVUPS(Mem{Base: lane}, own)

	Label("row")
	x, slack, least, t := ZMM(), ZMM(), ZMM(), ZMM()
	VBROADCASTSS(Mem{Base: row}, t)
	VADDPS(Mem{Base: panel}, t, x)
	VADDPS_BCST(Mem{Base: row, Disp: 4}, own, slack)
	VMULPS(share, x, least)
	nearest := func() { VRANGEPS(Imm(0b1010), t, least, least) } // the smaller magnitude
	at := GP64()
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
		VSUBPS_BCST(Mem{Base: edge, Disp: 8}, x, t)
		ADDQ(Imm(4), edge)
		nearest()
	})

	blank, undecided, inside := K(), K(), K()
	VCMPPS(lessOrEqual, slack, least, undecided)
	KMOVW(Mem{Base: skip}, blank)
	KANDNW(undecided, blank, inside)
	KMOVW(inside, Mem{Base: skip})
	KORW(undecided, blank, blank)
	VMOVAPS(inf, blank, x)

	c, below := ZMM(), ZMM()
	VPXORD(c, c, c)
	MOVQ(lane, at)
	count := GP64()
	MOVQ(counts, count)
	each("count", q, func() {
		ADDQ(U32(laneBytes), at)
		ADDQ(U32(laneBytes), count)
		VCMPPS(less, Mem{Base: at}, x, inside)
		VPADDD(ones, c, inside, c)
		VMOVDQU32(Mem{Base: count}, below)
		VPADDD(ones, below, inside, below)
		VMOVDQU32(below, Mem{Base: count})
		VCMPPS(less, Mem{Base: at, Index: floors, Scale: 1}, x, inside)
		VPADDD(ones, hard, inside, hard)
	})
	all := ZMM()
	VMOVDQA32(c, all)
	MOVQ(row, edge)
	each("countRow", q, func() {
		VCMPPS_BCST(less, Mem{Base: edge, Disp: 8}, x, inside)
		ADDQ(Imm(4), edge)
		VPADDD(ones, all, inside, all)
	})
	VCVTDQ2PS(c, c)
	VCVTDQ2PS(all, all)
	TESTQ(root, root)
	JZ(LabelRef("add"))
	VSQRTPS(x, x)
	VDIVPS(x, all, all)
	Label("add")
	VMOVUPS(all, Mem{Base: panel})
	KNOTW(blank, inside)
	VMOVAPS_Z(x, inside, x)
	VMULPS(x, c, c)
	for i := range 2 {
		for _, add := range []struct{ from, to reg.VecVirtual }{{x, d[i]}, {c, w[i]}} {
			if i == 0 {
				VCVTPS2PD(add.from.AsY(), t)
			} else {
				VEXTRACTF64X4(Imm(1), add.from, t.AsY())
				VCVTPS2PD(t.AsY(), t)
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
		VMOVUPS(d[i], Mem{Base: sums, Disp: 64 * i})
		VMOVUPS(w[i], Mem{Base: sums, Disp: 8*32 + 64*i})
	}
	VMOVDQU32(hard, Mem{Base: counts})
	ADDQ(Imm(64), lane)
	ADDQ(Imm(64), counts)
	ADDQ(Imm(64), sums)
	ADDQ(Imm(64), sums)
	ADDQ(Imm(64), group)
	CMPQ(group, U32(128))
	JLT(LabelRef("lanes"))
	VZEROUPPER()
	RET()
}
