//go:build !purego

package f32

import "golang.org/x/sys/cpu"

//go:generate go run -C _asm . -pkg f32 -out ../f32_amd64.s

// hasAVX chooses between the bodies; tests set it.
var hasAVX = cpu.X86.HasAVX

func sqEuclidean(acc *[8]float32, a, b []float32) {
	if hasAVX {
		sqEuclideanAVX(acc, a, b)
	} else {
		sqEuclideanGeneric(acc, a, b)
	}
}

func dot(acc *[8]float32, a, b []float32) {
	if hasAVX {
		dotAVX(acc, a, b)
	} else {
		dotGeneric(acc, a, b)
	}
}

func sqEuclideans4(acc *[4][8]float32, x, r0, r1, r2, r3 []float32) {
	if hasAVX {
		sqEuclideans4AVX(acc, x, r0, r1, r2, r3)
	} else {
		sqEuclideans4Generic(acc, x, r0, r1, r2, r3)
	}
}

func dots4(acc *[4][8]float32, x, r0, r1, r2, r3 []float32) {
	if hasAVX {
		dots4AVX(acc, x, r0, r1, r2, r3)
	} else {
		dots4Generic(acc, x, r0, r1, r2, r3)
	}
}

func axpy(dst []float32, alpha float32, x []float32) {
	if hasAVX {
		axpyAVX(dst, alpha, x)
	} else {
		axpyGeneric(dst, alpha, x)
	}
}

func scale(dst []float32, alpha float32) {
	if hasAVX {
		scaleAVX(dst, alpha)
	} else {
		scaleGeneric(dst, alpha)
	}
}

// In f32_amd64.s. They read as many values as the first slice has.

//go:noescape
func sqEuclideanAVX(acc *[8]float32, a, b []float32)

//go:noescape
func dotAVX(acc *[8]float32, a, b []float32)

//go:noescape
func sqEuclideans4AVX(acc *[4][8]float32, x, r0, r1, r2, r3 []float32)

//go:noescape
func dots4AVX(acc *[4][8]float32, x, r0, r1, r2, r3 []float32)

//go:noescape
func axpyAVX(dst []float32, alpha float32, x []float32)

//go:noescape
func scaleAVX(dst []float32, alpha float32)
