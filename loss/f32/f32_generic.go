package f32

// The kernels in Go. Slices of one call have the same length, a multiple of 8
// for all that take partial sums; f32.go sees to that and to the tail. The
// conversions of products forbid a fused multiply-add.

func sqEuclideanGeneric(acc *[8]float32, a, b []float32) {
	for ; len(a) >= 8 && len(b) >= 8; a, b = a[8:], b[8:] {
		for l := range acc {
			d := a[l] - b[l]
			acc[l] += float32(d * d)
		}
	}
}

func dotGeneric(acc *[8]float32, a, b []float32) {
	for ; len(a) >= 8 && len(b) >= 8; a, b = a[8:], b[8:] {
		for l := range acc {
			acc[l] += float32(a[l] * b[l])
		}
	}
}

func sqEuclideans4Generic(acc *[4][8]float32, x, r0, r1, r2, r3 []float32) {
	sqEuclideanGeneric(&acc[0], x, r0)
	sqEuclideanGeneric(&acc[1], x, r1)
	sqEuclideanGeneric(&acc[2], x, r2)
	sqEuclideanGeneric(&acc[3], x, r3)
}

func dots4Generic(acc *[4][8]float32, x, r0, r1, r2, r3 []float32) {
	dotGeneric(&acc[0], x, r0)
	dotGeneric(&acc[1], x, r1)
	dotGeneric(&acc[2], x, r2)
	dotGeneric(&acc[3], x, r3)
}

func axpyGeneric(dst []float32, alpha float32, x []float32) {
	for k, v := range x {
		dst[k] += float32(alpha * v)
	}
}

func scaleGeneric(dst []float32, alpha float32) {
	for k := range dst {
		dst[k] *= alpha
	}
}
