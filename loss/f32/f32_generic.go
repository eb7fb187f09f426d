package f32

import "math"

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

// productGeneric is [Product] for at least one panel.
func productGeneric(dst, init, rows, columns []float32, dim int) {
	n := len(init)
	for from := 0; from < n; from += PanelColumns {
		panel := columns[from*dim:][:PanelColumns*dim]
		for r := range TileRows {
			acc := dst[r*n+from:][:PanelColumns]
			copy(acc, init[from:])
			for k := range dim {
				x := rows[k*TileRows+r]
				for c, y := range panel[k*PanelColumns:][:PanelColumns] {
					if s := float64(x)*float64(y) + float64(acc[c]); safe(s) {
						acc[c] = float32(s)
					} else {
						acc[c] = fmaOdd(x, y, acc[c])
					}
				}
			}
		}
	}
}

// safe reports whether s, x·y + z in float64 with x, y and z in float32, may be
// rounded to float32 as if it were exact. The product is, and s has 29 bits more
// than are kept: rounding twice differs from rounding once only where s is half
// way between two float32, or below their normal range.
func safe(s float64) bool {
	b := math.Float64bits(s)
	return b<<35 != 1<<63 && b<<1 >= (1023-126)<<53
}

// fmaOdd is x·y + z rounded once, by rounding to odd: a float64 sum that is not exact is made the
// neighbour whose last bit is 1, which no second rounding takes for half way
// (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
func fmaOdd(x, y, z float32) float32 {
	p, c := float64(x)*float64(y), float64(z)
	s := p + c
	t := s - p
	rest := (p - (s - t)) + (c - t)
	if b := math.Float64bits(s); rest != 0 && rest-rest == 0 && b&1 == 0 {
		if (rest > 0) == (s > 0) {
			b++
		} else {
			b--
		}
		s = math.Float64frombits(b)
	}
	return float32(s)
}

// peakGeneric is [Peak] with separate multiplications and additions.
func peakGeneric(n int) int {
	rounds := (n + 7) / 8
	var acc [8]float32
	x := float32(n >> 62) // 0, which the compiler does not know
	for range rounds {
		for i := range acc {
			acc[i] += float32(x * x)
		}
	}
	if total(&acc) != 0 {
		return 0
	}
	return 2 * 8 * rounds
}
