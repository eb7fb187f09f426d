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
