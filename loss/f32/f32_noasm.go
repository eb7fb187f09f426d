//go:build !amd64 || purego

package f32

func sqEuclidean(acc *[8]float32, a, b []float32) { sqEuclideanGeneric(acc, a, b) }

func dot(acc *[8]float32, a, b []float32) { dotGeneric(acc, a, b) }

func sqEuclideans4(acc *[4][8]float32, x, r0, r1, r2, r3 []float32) {
	sqEuclideans4Generic(acc, x, r0, r1, r2, r3)
}

func dots4(acc *[4][8]float32, x, r0, r1, r2, r3 []float32) {
	dots4Generic(acc, x, r0, r1, r2, r3)
}

func axpy(dst []float32, alpha float32, x []float32) { axpyGeneric(dst, alpha, x) }

func scale(dst []float32, alpha float32) { scaleGeneric(dst, alpha) }

func packPanel(panel, rows []float32, dim, count int) { packColumns(panel, rows, dim, 0, count, 0) }

func selectWhole(dst []uint16, x []float32, lo, hi float32) int {
	return selectGeneric(dst, x, 0, lo, hi)
}

func sift(dst []uint32, hits []uint16, x []float32, first uint32, numbers []uint32, sieves []Sieve) int {
	return siftGeneric(dst, hits, x, first, numbers, sieves)
}

func hinge(panel []float32, skip []uint32, rows, lanes []float32, counts []int32, sums []float64, q int, root bool) {
	hingeGeneric(panel, skip, rows, lanes, counts, sums, q, root)
}

func nearest(best, panel []float32, skip []uint32, rows, slack []float32) {
	nearestGeneric(best, panel, skip, rows, slack)
}

func repel(panel []float32, skip []uint32, rows, slack []float32, counts []int32, sums []float64, edge, margin float32, root bool) {
	repelGeneric(panel, skip, rows, slack, counts, sums, edge, margin, root)
}
