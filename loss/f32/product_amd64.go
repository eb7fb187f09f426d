//go:build !purego

package f32

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// hasFMA, hasAVX512 and hasVBMI2 choose between the bodies; tests set them.
var (
	hasFMA    = cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasPOPCNT
	hasAVX512 = hasFMA && cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasBMI2
	hasVBMI2  = cpu.X86.HasAVX512VBMI2
)

func product(dst, init, rows, columns []float32, dim int) {
	panels := len(init) / PanelColumns
	switch {
	case hasAVX512:
		productAVX512(&dst[0], &init[0], &rows[0], &columns[0], dim, panels)
	case hasFMA:
		for row := 0; row < TileRows; row += 6 {
			for column := 0; column < PanelColumns; column += 16 {
				productAVX2(&dst[row*len(init)+column], &init[column], &rows[row], &columns[column], dim, panels)
			}
		}
	default:
		productGeneric(dst, init, rows, columns, dim)
	}
}

func packPanel(panel, rows []float32, dim, count int) {
	column, k := 0, dim&^7
	if hasAVX && k > 0 {
		for ; column+8 <= count; column += 8 {
			packAVX(&panel[column], &rows[column*dim], dim, k/8)
		}
		packColumns(panel, rows, dim, 0, column, k)
	}
	packColumns(panel, rows, dim, column, count, 0)
}

func selectWhole(dst []uint16, x []float32, lo, hi float32) int {
	switch {
	case hasAVX512 && hasVBMI2:
		return selectAVX512(&dst[0], &x[0], len(x), lo, hi)
	case hasFMA:
		return selectAVX2(&dst[0], &x[0], len(x), lo, hi)
	default:
		return selectGeneric(dst, x, 0, lo, hi)
	}
}

func sift(dst []uint32, hits []uint16, x []float32, first uint32, numbers []uint32, sieves []Sieve) int {
	switch eights := len(hits) &^ 7; {
	case hasAVX512:
		return siftAVX512(&dst[0], &hits[0], len(hits), &x[0], first, unsafe.SliceData(numbers), &sieves[0], len(sieves))
	case hasFMA && eights > 0:
		n := siftAVX2(&dst[0], &hits[0], eights, &x[0], first, unsafe.SliceData(numbers), &sieves[0], len(sieves))
		return n + siftGeneric(dst[n:], hits[eights:], x, first, numbers, sieves)
	default:
		return siftGeneric(dst, hits, x, first, numbers, sieves)
	}
}

// In f32_amd64.s, which does not check lengths.

//go:noescape
func productAVX512(dst, init, a, b *float32, dim, panels int)

//go:noescape
func productAVX2(dst, init, a, b *float32, dim, panels int)

//go:noescape
func packAVX(dst, rows *float32, dim, eights int)

//go:noescape
func selectAVX512(dst *uint16, x *float32, n int, lo, hi float32) int

//go:noescape
func selectAVX2(dst *uint16, x *float32, n int, lo, hi float32) int

//go:noescape
func siftAVX512(dst *uint32, hits *uint16, n int, x *float32, first uint32, numbers *uint32, sieves *Sieve, count int) int

//go:noescape
func siftAVX2(dst *uint32, hits *uint16, n int, x *float32, first uint32, numbers *uint32, sieves *Sieve, count int) int

func peakAVX512(n int)

func peakAVX2(n int)

func body() string {
	switch {
	case hasAVX512:
		return "avx512"
	case hasFMA:
		return "avx2"
	default:
		return "go"
	}
}

func peak(n int) int {
	switch {
	case hasAVX512:
		rounds := (n + 24*16 - 1) / (24 * 16)
		peakAVX512(rounds)
		return 2 * 24 * 16 * rounds
	case hasFMA:
		rounds := (n + 12*8 - 1) / (12 * 8)
		peakAVX2(rounds)
		return 2 * 12 * 8 * rounds
	default:
		return peakGeneric(n)
	}
}
