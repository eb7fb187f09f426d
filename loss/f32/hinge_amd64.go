//go:build !purego

package f32

func hinge(panel []float32, skip []uint32, rows, lanes []float32, counts []int32, sums []float64, q int, root bool) {
	var of int
	if root {
		of = 1
	}
	switch {
	case hasAVX512:
		hingeAVX512(&panel[0], &skip[0], &rows[0], &lanes[0], &counts[0], &sums[0], len(skip), q, of)
	case hasFMA:
		hingeAVX2(&panel[0], &skip[0], &rows[0], &lanes[0], &counts[0], &sums[0], len(skip), q, of)
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

// In f32_amd64.s, which does not check lengths.

//go:noescape
func hingeAVX512(panel *float32, skip *uint32, rows, lanes *float32, counts *int32, sums *float64, n, q, root int)

//go:noescape
func hingeAVX2(panel *float32, skip *uint32, rows, lanes *float32, counts *int32, sums *float64, n, q, root int)

//go:noescape
func nearestAVX2(best, panel *float32, skip *uint32, rows, slack *float32, n int)
