package stages

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tercet-ml/tercet/loss"
)

func TestBands(t *testing.T) {
	l := loss.TripletMargin{Margin: 0.5, Distance: loss.Euclidean}
	inf := math.Inf(1)
	for _, ap := range []float64{0, 1, 1.25, 3e-9} {
		hi := l.Edge(ap)
		for _, an := range []float64{0, ap, math.Nextafter(ap, -inf), math.Nextafter(ap, inf), ap + 0.25, hi, math.Nextafter(hi, -inf), math.Nextafter(hi, inf), 100} {
			semi, hard, all, pml := ap < an && an < hi, an <= ap, an < hi, ap < an && an <= hi
			for rule, want := range map[Rule]bool{SemiHard: semi, Hard: hard, BatchAll: all, VGG: all, PML: pml, All: true, BatchHard: true, TFA: true} {
				if got := bandOf(rule, l, ap).holds(an); got != want {
					t.Errorf("%v: d_ap %v, d_an %v in the band: %v, want %v", rule, ap, an, got, want)
				}
			}
		}
	}
}

// TestScreenNeverLies puts edges on, next to and around distances that occur.
func TestScreenNeverLies(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	undecided := 0
	for range 20000 {
		dist := distances[rng.IntN(3)]
		dim := 1 + rng.IntN(70)
		x, y := make([]float32, dim), make([]float32, dim)
		scale := math.Pow(10, float64(rng.IntN(61)-30))
		for k := range x {
			x[k] = float32((rng.Float64() - 0.5) * scale)
			y[k] = x[k] + float32((rng.Float64()-0.5)*scale*math.Pow(10, -float64(rng.IntN(8))))
		}
		if dist == loss.Cosine {
			if finish(x, true) != nil || finish(y, true) != nil {
				continue
			}
		}
		d := dist.Mining(x, y)
		var value [1]float32
		s := newScreen(dist, dim)
		s.measure(value[:], x, y)
		v := value[0]
		for _, edge := range []float64{d, math.Nextafter(d, 9), math.Nextafter(d, -9), d * (1 + 1e-7), d * (1 - 1e-7), d * 1.001, d * 0.999, 0, -1, math.Inf(1), math.Inf(-1)} {
			low, high := s.around(edge)
			switch {
			case v < low && !(d < edge), v <= low && !(d <= edge), v > high && !(d > edge), v >= high && v <= math.MaxFloat32 && !(d >= edge):
				t.Fatalf("%v in %d dimensions: value %v, between %v and %v for edge %v, but distance %v", dist, dim, v, low, high, edge, d)
			}
			if edge == d*1.001 && v >= low && v <= high && d > 0.01 && d < 1e15 {
				undecided++
			}
		}
	}
	if undecided > 0 {
		t.Errorf("%d ordinary distances a thousandth from an edge are undecided: the bound is too wide", undecided)
	}
}
