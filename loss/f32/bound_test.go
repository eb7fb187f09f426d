package f32

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// exact is Σ term in 2,000 bits, enough for any sum of products of float32.
func exact(n int, term func(k int) (x, y float32)) *big.Float {
	sum := new(big.Float).SetPrec(2000)
	for k := range n {
		x, y := term(k)
		p := new(big.Float).SetPrec(2000).Mul(big.NewFloat(float64(x)), big.NewFloat(float64(y)))
		sum.Add(sum, p)
	}
	return sum
}

func exactSqEuclidean(a, b []float32) *big.Float {
	sum := new(big.Float).SetPrec(2000)
	for k := range a {
		d := new(big.Float).SetPrec(2000).Sub(big.NewFloat(float64(a[k])), big.NewFloat(float64(b[k])))
		sum.Add(sum, d.Mul(d, d))
	}
	return sum
}

// off is |x − want|.
func off(x float64, want *big.Float) float64 {
	d, _ := new(big.Float).SetPrec(2000).Sub(big.NewFloat(x), want).Float64()
	return math.Abs(d)
}

func TestErrorBounds(t *testing.T) {
	for _, kind := range []string{"normal", "mixed", "denormal", "tiny"} {
		var used float64 // largest share of a bound
		for d := range 140 {
			r := rand.New(rand.NewPCG(uint64(d), 9))
			for range 20 {
				a, _ := guarded(r, d, 0, kinds[kind])
				b, _ := guarded(r, d, 0, kinds[kind])
				if r.IntN(2) == 0 { // near each other, as embeddings of one class
					for k := range b {
						b[k] = a[k] * (1 + (2*r.Float32()-1)/1024)
					}
				}

				got := float64(SqEuclidean(a, b))
				rel, abs := SqEuclideanError(d)
				bound, err := rel*got+abs, off(got, exactSqEuclidean(a, b))
				if err > bound {
					t.Errorf("%s d=%d: SqEuclidean is off by %g, more than %g", kind, d, err, bound)
				}
				if bound > 0 {
					used = max(used, err/bound)
				}
				var sum float64
				for k := range a {
					sum += (float64(a[k]) - float64(b[k])) * (float64(a[k]) - float64(b[k]))
				}
				if math.Abs(got-sum) > bound {
					t.Errorf("%s d=%d: SqEuclidean is %g from the float64 sum, more than %g", kind, d, math.Abs(got-sum), bound)
				}

				got = float64(Dot(a, b))
				rel, abs = DotError(d)
				aa, _ := exact(d, func(k int) (x, y float32) { return a[k], a[k] }).Float64()
				bb, _ := exact(d, func(k int) (x, y float32) { return b[k], b[k] }).Float64()
				ab := exact(d, func(k int) (x, y float32) { return a[k], b[k] })
				bound = rel*math.Sqrt(aa)*math.Sqrt(bb) + abs
				if err := off(got, ab); err > bound {
					t.Errorf("%s d=%d: Dot is off by %g, more than %g", kind, d, err, bound)
				}
			}
		}
		if used < 0.05 && kind != "denormal" { // whose squares are all 0
			t.Errorf("%s: errors reach %.3f of the bound at most: it says nothing", kind, used)
		}
	}
}

// TestErrorBoundValue holds the bounds to what the derivation gives for D = 128.
func TestErrorBoundValue(t *testing.T) {
	rel, abs := SqEuclideanError(128)
	if want := 21 * 0x1p-24; rel < want || rel > 1.001*want {
		t.Errorf("SqEuclideanError(128) is %g·result, want just above %g", rel, want)
	}
	if abs != 0x1p-142 {
		t.Errorf("SqEuclideanError(128) adds %g, want 2⁻¹⁴²", abs)
	}
	if rel, _ := DotError(128); rel < 19*0x1p-24 || rel > 1.001*19*0x1p-24 {
		t.Errorf("DotError(128) is %g, want just above %g", rel, 19*0x1p-24)
	}
	if got := float64(SqEuclidean([]float32{math.MaxFloat32}, []float32{0})); !math.IsInf(rel*got, 1) {
		t.Errorf("the bound of an overflow is %g, want +Inf", rel*got)
	}
}
