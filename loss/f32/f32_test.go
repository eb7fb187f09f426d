package f32

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"testing"
)

// kinds of values a kernel must treat as IEEE 754 says.
var kinds = map[string]func(*rand.Rand) float32{
	"normal":   func(r *rand.Rand) float32 { return 2*r.Float32() - 1 },
	"huge":     func(r *rand.Rand) float32 { return (2*r.Float32() - 1) * math.MaxFloat32 },
	"denormal": func(r *rand.Rand) float32 { return (2*r.Float32() - 1) * 0x1p-128 },
	"tiny":     func(r *rand.Rand) float32 { return (2*r.Float32() - 1) * 0x1p-72 },
	"mixed":    func(r *rand.Rand) float32 { return float32(math.Ldexp(2*r.Float64()-1, r.IntN(60)-30)) },
	"special": func(r *rand.Rand) float32 {
		return []float32{0, float32(math.Copysign(0, -1)), 1, -1, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())}[r.IntN(7)]
	},
}

// guard surrounds every slice of the tests: no kernel may read or write it.
const guard = float32(1234.5)

// guarded is n values of a kind at an offset in a larger array of guards.
func guarded(r *rand.Rand, n, offset int, value func(*rand.Rand) float32) (s, all []float32) {
	all = make([]float32, offset+n+17)
	for i := range all {
		all[i] = guard
	}
	s = all[offset:][:n]
	for i := range s {
		s[i] = value(r)
	}
	return s, all
}

func checkGuards(t *testing.T, name string, all []float32, offset, n int) {
	t.Helper()
	for i, v := range all {
		if (i < offset || i >= offset+n) && v != guard {
			t.Fatalf("%s: wrote %v at %d, outside [%d, %d)", name, v, i, offset, offset+n)
		}
	}
}

func sameBits(x, y float32) bool {
	return math.Float32bits(x) == math.Float32bits(y) || x != x && y != y
}

// lanewise is the definition: value k in sum k mod 8, and halves added to each other.
func lanewise(n int, term func(k int) float32) float32 {
	var acc [8]float32
	for k := range n {
		acc[k%8] += term(k)
	}
	for half := 4; half > 0; half /= 2 {
		for l := range half {
			acc[l] += acc[l+half]
		}
	}
	return acc[0]
}

func defSqEuclidean(a, b []float32) float32 {
	return lanewise(len(a), func(k int) float32 { d := a[k] - b[k]; return float32(d * d) })
}

func defDot(a, b []float32) float32 {
	return lanewise(len(a), func(k int) float32 { return float32(a[k] * b[k]) })
}

// each calls f for every kind, length and a few offsets.
func each(f func(name string, r *rand.Rand, n, offset int, value func(*rand.Rand) float32)) {
	for kind, value := range kinds {
		for n := range 71 {
			for _, offset := range []int{0, 1, 3, 4, 7, 8} {
				r := rand.New(rand.NewPCG(uint64(n), uint64(offset)))
				f(fmt.Sprintf("%s n=%d offset=%d", kind, n, offset), r, n, offset, value)
			}
		}
	}
}

func TestPairKernels(t *testing.T) {
	each(func(name string, r *rand.Rand, n, offset int, value func(*rand.Rand) float32) {
		a, _ := guarded(r, n, offset, value)
		b, _ := guarded(r, n, (offset*5)%9, value)
		if got, want := SqEuclidean(a, b), defSqEuclidean(a, b); !sameBits(got, want) {
			t.Fatalf("%s: SqEuclidean = %v (%#x), want %v (%#x)", name, got, math.Float32bits(got), want, math.Float32bits(want))
		}
		if got, want := Dot(a, b), defDot(a, b); !sameBits(got, want) {
			t.Fatalf("%s: Dot = %v (%#x), want %v (%#x)", name, got, math.Float32bits(got), want, math.Float32bits(want))
		}
	})
}

func TestRowKernels(t *testing.T) {
	each(func(name string, r *rand.Rand, d, offset int, value func(*rand.Rand) float32) {
		x, _ := guarded(r, d, offset, value)
		for n := range 10 {
			rows, _ := guarded(r, n*d, 1, value)
			for _, kernel := range []struct {
				name string
				rows func(dst, x, rows []float32)
				def  func(a, b []float32) float32
			}{{"SqEuclideans", SqEuclideans, defSqEuclidean}, {"Dots", Dots, defDot}} {
				dst, all := guarded(r, n, offset, value)
				kernel.rows(dst, x, rows)
				checkGuards(t, name+" "+kernel.name, all, offset, n)
				for i, got := range dst {
					if want := kernel.def(x, rows[i*d:][:d]); !sameBits(got, want) {
						t.Fatalf("%s: %s of row %d of %d = %v, want %v", name, kernel.name, i, n, got, want)
					}
				}
			}
		}
	})
}

func TestAxpyScale(t *testing.T) {
	each(func(name string, r *rand.Rand, n, offset int, value func(*rand.Rand) float32) {
		alpha := value(r)
		x, _ := guarded(r, n, (offset*5)%9, value)
		dst, all := guarded(r, n, offset, value)
		want := make([]float32, n)
		for k := range want {
			want[k] = dst[k] + float32(alpha*x[k])
		}
		Axpy(dst, alpha, x)
		checkGuards(t, name+" Axpy", all, offset, n)
		for k := range want {
			if !sameBits(dst[k], want[k]) {
				t.Fatalf("%s: Axpy gives %v at %d, want %v", name, dst[k], k, want[k])
			}
			want[k] = dst[k] * alpha
		}
		Scale(dst, alpha)
		checkGuards(t, name+" Scale", all, offset, n)
		for k := range want {
			if !sameBits(dst[k], want[k]) {
				t.Fatalf("%s: Scale gives %v at %d, want %v", name, dst[k], k, want[k])
			}
		}
	})
}

func TestAxpyOntoItself(t *testing.T) {
	x := []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	Axpy(x, 2, x)
	for k, v := range x {
		if want := float32(3 * (k + 1)); v != want {
			t.Errorf("value %d is %v, want %v", k, v, want)
		}
	}
}

// TestGoldenBits pins the bits for all machines and builds.
func TestGoldenBits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	h := fnv.New64a()
	for d := range 200 {
		a, _ := guarded(r, d, 0, kinds["mixed"])
		b, _ := guarded(r, d, 0, kinds["mixed"])
		fmt.Fprintf(h, "%x %x\n", math.Float32bits(SqEuclidean(a, b)), math.Float32bits(Dot(a, b)))
	}
	if got, want := h.Sum64(), uint64(goldenBits); got != want {
		t.Errorf("bits hash to %#x, want %#x: this machine rounds differently", got, want)
	}
}

const goldenBits = 0x6d359864e1287fb4

func TestLengthsPanic(t *testing.T) {
	two, three := make([]float32, 2), make([]float32, 3)
	for name, f := range map[string]func(){
		"SqEuclidean":  func() { SqEuclidean(two, three) },
		"Dot":          func() { Dot(three, two) },
		"Axpy":         func() { Axpy(two, 1, three) },
		"SqEuclideans": func() { SqEuclideans(two, two, three) },
		"Dots":         func() { Dots(three, two, three) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s took slices of unequal lengths", name)
				}
			}()
			f()
		}()
	}
}

func BenchmarkKernels(b *testing.B) {
	for _, dim := range []int{16, 64, 128, 512} {
		r := rand.New(rand.NewPCG(1, uint64(dim)))
		const n = 256
		x, _ := guarded(r, dim, 0, kinds["normal"])
		y, _ := guarded(r, dim, 0, kinds["normal"])
		rows, _ := guarded(r, n*dim, 0, kinds["normal"])
		dst := make([]float32, n)
		for _, bm := range []struct {
			name   string
			values int // read
			f      func()
		}{
			{"SqEuclidean", 2 * dim, func() { SqEuclidean(x, y) }},
			{"Dot", 2 * dim, func() { Dot(x, y) }},
			{"SqEuclideans", n * dim, func() { SqEuclideans(dst, x, rows) }},
			{"Dots", n * dim, func() { Dots(dst, x, rows) }},
			{"Axpy", 2 * dim, func() { Axpy(y, 1e-9, x) }},
			{"Scale", dim, func() { Scale(y, 1) }},
		} {
			b.Run(fmt.Sprintf("%s/dim=%d", bm.name, dim), func(b *testing.B) {
				b.SetBytes(int64(4 * bm.values))
				for b.Loop() {
					bm.f()
				}
			})
		}
	}
}
