package f32

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

// bodies runs f with every body that this machine has; see product_amd64_test.go.
func bodies(t *testing.T, f func(t *testing.T)) {
	for name, use := range bodiesHere() {
		t.Run(name, func(t *testing.T) {
			defer use()()
			if Body() != name {
				t.Fatalf("body is %q", Body())
			}
			f(t)
		})
	}
}

// wide is the fused multiply-add as it is defined, in 2,000 bits.
func wide(x, y, z float32) float32 {
	nan := func(v float32) bool { return v != v || math.IsInf(float64(v), 0) }
	if nan(x) || nan(y) || nan(z) {
		return float32(float64(x)*float64(y) + float64(z)) // nothing to round
	}
	p := new(big.Float).SetPrec(2000).Mul(big.NewFloat(float64(x)), big.NewFloat(float64(y)))
	p.Add(p, big.NewFloat(float64(z)))
	if p.Sign() == 0 {
		return float32(float64(x)*float64(y) + float64(z)) // for the sign of zero
	}
	f, _ := p.Float32()
	return f
}

// fma is what [Product] does at a step, as its Go body does it.
func fma(x, y, z float32) float32 {
	if s := float64(x)*float64(y) + float64(z); safe(s) {
		return float32(s)
	}
	return fmaOdd(x, y, z)
}

func TestFMA(t *testing.T) {
	check := func(x, y, z float32) {
		t.Helper()
		want := wide(x, y, z)
		for name, got := range map[string]float32{"fma": fma(x, y, z), "fmaOdd": fmaOdd(x, y, z)} {
			if !sameBits(got, want) {
				t.Fatalf("%s(%g, %g, %g) = %g (%08x), want %g (%08x)", name, x, y, z, got, math.Float32bits(got), want, math.Float32bits(want))
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, value := range kinds {
		for range 20000 {
			x, y, z := value(r), value(r), value(r)
			check(x, y, z)
			check(x, y, -float32(x*y)) // cancels to what the product was rounded by
			// Half way between two float32, and a hair beside it.
			z = float32(1 + float64(r.IntN(1<<23))*0x1p-23)
			check(0x1p-12, 0x1p-12, z)
			check(0x1p-12+0x1p-35, 0x1p-12, z)
			check(0x1p-12-0x1p-36, 0x1p-12, -z)
		}
	}
	for range 100000 {
		check(math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32()))
	}
}

// problem is m ≤ 12 rows and n columns of a kind, packed, every slice between guards.
type problem struct {
	dim, m, n           int
	rows, columns, init []float32
	tile, panels        []float32
	tileAll, panelsAll  []float32
}

func newProblem(r *rand.Rand, dim, m, n, offset int, value func(*rand.Rand) float32) problem {
	p := problem{dim: dim, m: m, n: n}
	p.rows, _ = guarded(r, m*dim, offset, value)
	p.columns, _ = guarded(r, n*dim, offset, value)
	zero := func(*rand.Rand) float32 { return 99 }
	p.tile, p.tileAll = guarded(r, TileRows*dim, offset, zero)
	p.panels, p.panelsAll = guarded(r, (n+31)/32*32*dim, offset, zero)
	p.init, _ = guarded(r, (n+31)/32*32, offset, value)
	return p
}

func TestProductIsTheDefinition(t *testing.T) {
	bodies(t, func(t *testing.T) {
		for kind, value := range kinds {
			for _, dim := range []int{1, 2, 3, 7, 8, 9, 15, 16, 17, 40, 129} {
				for i, n := range []int{1, 31, 32, 33, 64, 95} {
					r := rand.New(rand.NewPCG(uint64(dim), uint64(n)))
					offset := (dim + i) % 9
					p := newProblem(r, dim, 1+r.IntN(TileRows), n, offset, value)
					PackRows(p.tile, -2, p.rows, dim)
					PackColumns(p.panels, p.columns, dim)
					checkGuards(t, "PackRows", p.tileAll, offset, len(p.tile))
					checkGuards(t, "PackColumns", p.panelsAll, offset, len(p.panels))
					dst, all := guarded(r, TileRows*len(p.init), offset, value)
					Product(dst, p.init, p.tile, p.panels, dim)
					checkGuards(t, "Product", all, offset, len(dst))
					for row := range TileRows {
						for c, start := range p.init {
							want := start
							for k := range dim {
								var x, y float32
								if row < p.m {
									x = -2 * p.rows[row*dim+k]
								}
								if c < n {
									y = p.columns[c*dim+k]
								}
								want = fma(x, y, want)
							}
							if got := dst[row*len(p.init)+c]; !sameBits(got, want) {
								t.Fatalf("%s dim=%d n=%d: row %d column %d is %g, want %g", kind, dim, n, row, c, got, want)
							}
						}
					}
				}
			}
		}
	})
}

// TestProductError holds products of values of every size to the bound.
func TestProductError(t *testing.T) {
	bodies(t, func(t *testing.T) {
		for _, kind := range []string{"normal", "mixed", "denormal", "tiny", "clustered", "zero"} {
			value := kinds[kind]
			switch kind {
			case "clustered":
				value = func(r *rand.Rand) float32 { return 1 + r.Float32()/1024 }
			case "zero":
				value = func(r *rand.Rand) float32 { return 0 }
			}
			var used float64
			for _, dim := range []int{1, 5, 32, 100, 128} {
				r := rand.New(rand.NewPCG(uint64(dim), 7))
				p := newProblem(r, dim, TileRows, 32, 0, value)
				PackRows(p.tile, -2, p.rows, dim)
				PackColumns(p.panels, p.columns, dim)
				dst := make([]float32, TileRows*32)
				Product(dst, p.init, p.tile, p.panels, dim)
				rel, abs := ProductError(dim)
				for row := range TileRows {
					for c := range 32 {
						x, y := p.rows[row*dim:][:dim], p.columns[c*dim:][:dim]
						want := exact(dim, func(k int) (float32, float32) { return -2 * x[k], y[k] })
						want.Add(want, big.NewFloat(float64(p.init[c])))
						xx, _ := exact(dim, func(k int) (float32, float32) { return 2 * x[k], 2 * x[k] }).Float64()
						yy, _ := exact(dim, func(k int) (float32, float32) { return y[k], y[k] }).Float64()
						bound := rel*(math.Abs(float64(p.init[c]))+math.Sqrt(xx)*math.Sqrt(yy)) + abs
						err := off(float64(dst[row*32+c]), want)
						if err > bound {
							t.Fatalf("%s dim=%d: off by %g, more than %g", kind, dim, err, bound)
						}
						if bound > 0 {
							used = max(used, err/bound)
						}
					}
				}
			}
			if used < 0.01 && (kind == "normal" || kind == "mixed" || kind == "clustered") {
				t.Errorf("%s: errors reach %.4f of the bound at most: it says nothing", kind, used)
			}
		}
	})
}

// TestProductErrorOften holds a million products to the bound, the sum in
// float64 taking the place of the exact one.
func TestProductErrorOften(t *testing.T) {
	bodies(t, func(t *testing.T) {
		if Body() == "go" && testing.Short() {
			t.Skip("the Go body is slow")
		}
		const dim, n, total = 24, 512, 1_000_000
		rel, abs := ProductError(dim)
		for kind, value := range kinds {
			if kind == "special" || kind == "huge" {
				continue // not finite
			}
			r := rand.New(rand.NewPCG(8, 8))
			for done := 0; done < total/4; done += TileRows * n {
				p := newProblem(r, dim, TileRows, n, 0, value)
				PackRows(p.tile, 1, p.rows, dim)
				PackColumns(p.panels, p.columns, dim)
				dst := make([]float32, TileRows*n)
				Product(dst, p.init, p.tile, p.panels, dim)
				for i, got := range dst {
					x, y := p.rows[i/n*dim:][:dim], p.columns[i%n*dim:][:dim]
					sum, xx, yy := float64(p.init[i%n]), 0.0, 0.0
					for k := range x {
						sum += float64(x[k]) * float64(y[k])
						xx += float64(x[k]) * float64(x[k])
						yy += float64(y[k]) * float64(y[k])
					}
					bound := rel*(math.Abs(float64(p.init[i%n]))+math.Sqrt(xx*yy)) + abs
					if err := math.Abs(float64(got) - sum); !(err <= bound) {
						t.Fatalf("%s: product %g, sum %g: off by %g, more than %g", kind, got, sum, err, bound)
					}
				}
			}
		}
	})
}

func TestSelect(t *testing.T) {
	bodies(t, func(t *testing.T) {
		each(func(name string, r *rand.Rand, n, offset int, value func(*rand.Rand) float32) {
			x, _ := guarded(r, n, offset, value)
			lo, hi := value(r), value(r)
			if n > 0 && r.IntN(2) == 0 { // edges that are hit
				lo, hi = x[r.IntN(n)], x[r.IntN(n)]
			}
			if r.IntN(8) == 0 {
				lo = float32(math.Inf(-1))
			}
			const guard = 54321
			all := slices.Repeat([]uint16{guard}, n+40)
			got := all[2:][:Select(all[2:][:n], x, lo, hi)]
			var want []uint16
			for i, v := range x {
				if v >= lo && v <= hi {
					want = append(want, uint16(i))
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s: [%g, %g] of %v selects %v, want %v", name, lo, hi, x, got, want)
			}
			for i, v := range all {
				if (i < 2 || i >= n+2) && v != guard {
					t.Fatalf("%s: wrote index %d of %d", name, i-2, n)
				}
			}
		})
	})
}

func TestSift(t *testing.T) {
	bodies(t, func(t *testing.T) {
		each(func(name string, r *rand.Rand, n, offset int, value func(*rand.Rand) float32) {
			v, _ := guarded(r, n, offset, value)
			var hits []uint16
			for i := range v {
				if r.IntN(3) > 0 {
					hits = append(hits, uint16(i))
				}
			}
			hits, behind := append(hits, 60000, 60000, 60000)[:len(hits)], 16 // indices behind are of no meaning
			first, numbers := r.Uint32(), []uint32(nil)
			if r.IntN(2) == 0 {
				numbers = make([]uint32, len(v))
				for i := range numbers {
					numbers[i] = r.Uint32()
				}
			}
			sieves := make([]Sieve, r.IntN(6))
			for i := range sieves {
				lo, hi := value(r), value(r)
				sieves[i] = Sieve{min(lo, hi), max(lo, hi), r.Uint64(), r.Uint32() >> r.IntN(4)}
			}
			const guard = 7777777
			size := len(hits)*len(sieves) + behind
			all := slices.Repeat([]uint32{guard}, size+20)
			got := all[2:][:Sift(all[2:][:size], hits, v, first, numbers, sieves)]
			var want []uint32
			for s, b := range sieves {
				for _, i := range hits {
					z := first + uint32(i)
					if numbers != nil {
						z = numbers[i]
					}
					z = z*0x9e3779b9 + uint32(b.Key)
					z ^= z >> 16
					z *= 0x21f0aaad
					z ^= z >> 15
					z ^= uint32(b.Key >> 32)
					z *= 0xd35a2d97
					z ^= z >> 15
					if x := v[i]; b.Lo <= x && x <= b.Hi && z <= b.Cut {
						want = append(want, uint32(s)<<16|uint32(i))
					}
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("%s: sifts %v, want %v", name, got, want)
			}
			for i, x := range all {
				if (i < 2 || i >= size+2) && x != guard {
					t.Fatalf("%s: wrote index %d of %d", name, i-2, size)
				}
			}
		})
	})
}

func TestTileLengths(t *testing.T) {
	f := func(n int) []float32 { return make([]float32, n) }
	for name, call := range map[string]func(){
		"PackRows":            func() { PackRows(f(12*3), 1, f(13*3), 3) },
		"PackRows, ragged":    func() { PackRows(f(12*3), 1, f(4), 3) },
		"PackColumns":         func() { PackColumns(f(33*3), f(33*3), 3) },
		"PackColumns, no dim": func() { PackColumns(nil, nil, 0) },
		"Product, rows":       func() { Product(f(12*32), f(32), f(11*3), f(32*3), 3) },
		"Product, columns":    func() { Product(f(12*32), f(32), f(12*3), f(31*3), 3) },
		"Product, init":       func() { Product(f(12*31), f(31), f(12*3), f(31*3), 3) },
		"Product, dst":        func() { Product(f(12*31), f(32), f(12*3), f(32*3), 3) },
		"Select":              func() { Select(make([]uint16, 3), f(4), 0, 1) },
		"Select, too many":    func() { Select(make([]uint16, 1<<17), f(1<<16+1), 0, 1) },
		"Sift, numbers":       func() { Sift(make([]uint32, 32), make([]uint16, 4), f(4), 0, make([]uint32, 3), make([]Sieve, 1)) },
		"Sift":                func() { Sift(make([]uint32, 19), make([]uint16, 4), f(4), 0, nil, make([]Sieve, 1)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: lengths that do not fit are accepted", name)
				}
			}()
			call()
		}()
	}
	Product(nil, nil, f(36), nil, 3)
}

func TestPeak(t *testing.T) {
	bodies(t, func(t *testing.T) {
		if got := Peak(1000); got < 2000 || got > 4000 {
			t.Errorf("Peak(1000) made %d operations", got)
		}
	})
}
