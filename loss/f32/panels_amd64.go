//go:build !purego

package f32

func hinge(panel []float32, skip []uint32, rows, lanes []float32, counts []int32, sums []float64, q int, root bool) {
	switch {
	case hasAVX512:
		hingeAVX512(&panel[0], &skip[0], &rows[0], &lanes[0], &counts[0], &sums[0], len(skip), q, bit(root))
	case hasFMA:
		hingeAVX2(&panel[0], &skip[0], &rows[0], &lanes[0], &counts[0], &sums[0], len(skip), q, bit(root))
	default:
		hingeGeneric(panel, skip, rows, lanes, counts, sums, q, root)
	}
}

func nearest(best, panel []float32, skip []uint32, rows, slack []float32) {
	if hasFMA {
		nearestAVX2(&best[0], &panel[0], &skip[0], &rows[0], &slack[0], len(skip))
	} else {
		nearestGeneric(best, panel, skip, rows, slack)
	}
}

func repel(panel []float32, skip []uint32, rows, slack []float32, counts []int32, sums []float64, edge, margin float32, root bool) {
	if !hasFMA {
		repelGeneric(panel, skip, rows, slack, counts, sums, edge, margin, root)
		return
	}
	repelAVX2(&panel[0], &skip[0], &rows[0], &slack[0], &counts[0], &sums[0], edge, margin, len(skip), bit(root))
}

// bit is 1 for true.
func bit(x bool) int {
	if x {
		return 1
	}
	return 0
}

// In f32_amd64.s, which does not check lengths.

//go:noescape
func hingeAVX512(panel *float32, skip *uint32, rows, lanes *float32, counts *int32, sums *float64, n, q, root int)

//go:noescape
func hingeAVX2(panel *float32, skip *uint32, rows, lanes *float32, counts *int32, sums *float64, n, q, root int)

//go:noescape
func nearestAVX2(best, panel *float32, skip *uint32, rows, slack *float32, n int)

//go:noescape
func repelAVX2(panel *float32, skip *uint32, rows, slack *float32, counts *int32, sums *float64, edge, margin float32, n, root int)
