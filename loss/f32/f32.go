// Package f32 holds kernels over float32 rows that give the same bits on every
// machine. Sums are kept in eight partial sums, value k in sum k mod 8; every
// product is rounded before it is added; and the eight are added in one fixed
// order. So the assembly, the Go code and a machine without either agree, and
// equal rows give equal results wherever they lie in memory. Only the sign and
// payload of a NaN may differ.
//
// All kernels panic when lengths do not fit: that is the caller's mistake.
// None allocates or keeps a slice.
package f32

import "fmt"

// SqEuclidean is ‖a−b‖². a and b have the same length. See [SqEuclideanError].
func SqEuclidean(a, b []float32) float32 {
	sameLen("SqEuclidean", len(a), len(b))
	n := len(a) &^ 7
	var acc [8]float32
	sqEuclidean(&acc, a[:n], b[:n])
	return sqEuclideanTail(&acc, a[n:], b[n:])
}

// Dot is a·b. a and b have the same length. See [DotError].
func Dot(a, b []float32) float32 {
	sameLen("Dot", len(a), len(b))
	n := len(a) &^ 7
	var acc [8]float32
	dot(&acc, a[:n], b[:n])
	return dotTail(&acc, a[n:], b[n:])
}

// SqEuclideans writes to dst[i] what [SqEuclidean] gives for x and row i of
// rows, which holds len(dst) rows of len(x) values side by side.
func SqEuclideans(dst, x, rows []float32) {
	sameRows("SqEuclideans", len(dst), len(x), len(rows))
	d, n := len(x), len(x)&^7
	for ; len(dst) >= 4; dst, rows = dst[4:], rows[4*d:] {
		var acc [4][8]float32
		sqEuclideans4(&acc, x[:n], rows[:n], rows[d:][:n], rows[2*d:][:n], rows[3*d:][:n])
		for r := range acc {
			dst[r] = sqEuclideanTail(&acc[r], x[n:], rows[r*d+n:][:d-n])
		}
	}
	for r := range dst {
		dst[r] = SqEuclidean(x, rows[r*d:][:d])
	}
}

// Dots writes to dst[i] what [Dot] gives for x and row i of rows, which holds
// len(dst) rows of len(x) values side by side.
func Dots(dst, x, rows []float32) {
	sameRows("Dots", len(dst), len(x), len(rows))
	d, n := len(x), len(x)&^7
	for ; len(dst) >= 4; dst, rows = dst[4:], rows[4*d:] {
		var acc [4][8]float32
		dots4(&acc, x[:n], rows[:n], rows[d:][:n], rows[2*d:][:n], rows[3*d:][:n])
		for r := range acc {
			dst[r] = dotTail(&acc[r], x[n:], rows[r*d+n:][:d-n])
		}
	}
	for r := range dst {
		dst[r] = Dot(x, rows[r*d:][:d])
	}
}

// Axpy adds alpha·x to dst. dst and x have the same length and are the same
// slice or do not overlap.
func Axpy(dst []float32, alpha float32, x []float32) {
	sameLen("Axpy", len(dst), len(x))
	n := len(dst) &^ 7
	axpy(dst[:n], alpha, x[:n])
	axpyGeneric(dst[n:], alpha, x[n:])
}

// Scale multiplies dst by alpha.
func Scale(dst []float32, alpha float32) {
	n := len(dst) &^ 7
	scale(dst[:n], alpha)
	scaleGeneric(dst[n:], alpha)
}

// sqEuclideanTail adds the last len(a) < 8 values and is the sum of acc.
func sqEuclideanTail(acc *[8]float32, a, b []float32) float32 {
	for k, v := range a {
		d := v - b[k]
		acc[k] += float32(d * d)
	}
	return total(acc)
}

// dotTail adds the last len(a) < 8 values and is the sum of acc.
func dotTail(acc *[8]float32, a, b []float32) float32 {
	for k, v := range a {
		acc[k] += float32(v * b[k])
	}
	return total(acc)
}

// total adds the halves of acc to each other until one value is left.
func total(acc *[8]float32) float32 {
	s0, s1, s2, s3 := acc[0]+acc[4], acc[1]+acc[5], acc[2]+acc[6], acc[3]+acc[7]
	return (s0 + s2) + (s1 + s3)
}

func sameLen(kernel string, a, b int) {
	if a != b {
		panic(fmt.Sprintf("f32: %s of slices of %d and %d values", kernel, a, b))
	}
}

func sameRows(kernel string, n, d, values int) {
	if values != n*d {
		panic(fmt.Sprintf("f32: %s of %d rows of %d values out of %d values", kernel, n, d, values))
	}
}
