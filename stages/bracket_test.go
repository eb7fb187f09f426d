package stages

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// screened is the screen of an anchor and the value of a candidate in it.
func screened(t *testing.T, dist loss.Distance, anchor, candidate []float32) (screen, float32) {
	t.Helper()
	dim := len(anchor)
	pools := [2]*pool{}
	for i, row := range [][]float32{anchor, candidate} {
		pools[i] = &pool{emb: pipeline.Embeddings{Dim: dim, Data: row}, labels: []int32{0}}
		var c census
		if err := c.check(pools[i], dist, &MineReport{}); err != nil {
			t.Fatal(err)
		}
	}
	fit(pools[0], pools[1], dist)
	var st slab
	st.load(pools[1], &Guards{}, 0, 1)
	tile, values := make([]float32, f32.TileRows*dim), make([]float32, f32.TileRows*f32.PanelColumns)
	f32.PackRows(tile, -2, scaleRows(nil, anchor, pools[1].scale), dim)
	f32.Product(values, st.init, tile, st.columns, dim)
	s := newScreen(dist, dim)
	s.aim(pools[0].squares[0], pools[1].scale)
	return s, values[0]
}

// TestScreenNeverLies puts edges on, next to and around distances that occur.
func TestScreenNeverLies(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	undecided, decided := 0, 0
	for range 20000 {
		dist := distances[rng.IntN(3)]
		dim := 1 + rng.IntN(70)
		x, y := make([]float32, dim), make([]float32, dim)
		scale := math.Pow(10, float64(rng.IntN(75)-37))
		apart := math.Pow(10, -float64(rng.IntN(8)))
		if rng.IntN(4) == 0 {
			apart = math.Pow(10, float64(rng.IntN(5))) // one much longer than the other
		}
		for k := range x {
			x[k] = float32((rng.Float64() - 0.5) * scale)
			y[k] = x[k] + float32((rng.Float64()-0.5)*scale*apart)
		}
		if rng.IntN(2) == 0 {
			x, y = y, x
		}
		if dist == loss.Cosine {
			if finish(x, true) != nil || finish(y, true) != nil {
				continue
			}
		}
		d := dist.Mining(x, y)
		if math.IsInf(d, 0) {
			continue
		}
		s, v := screened(t, dist, x, y)
		if v != v || math.IsInf(float64(v), 0) {
			t.Fatalf("%v in %d dimensions, distance %v: value %v", dist, dim, d, v)
		}
		for _, edge := range []float64{d, math.Nextafter(d, math.Inf(1)), math.Nextafter(d, math.Inf(-1)), d * (1 + 1e-7), d * (1 - 1e-7), d * 1.001, d * 0.999, 0, -1, math.Inf(1), math.Inf(-1)} {
			low, high := s.around(edge)
			switch {
			case v < low && !(d < edge), v <= low && !(d <= edge), v > high && !(d > edge), v >= high && v <= math.MaxFloat32 && !(d >= edge):
				t.Fatalf("%v in %d dimensions: value %v, between %v and %v for edge %v, but distance %v", dist, dim, v, low, high, edge, d)
			}
			if length := s.square; edge == d*1.001 && s.unit(d) > 0.1*length && s.unit(d) < 10*length {
				if v >= low && v <= high {
					undecided++
				} else {
					decided++
				}
			}
		}
		if least, most := s.least(v), s.most(v); least > s.unit(d) || most < s.unit(d) {
			t.Fatalf("%v in %d dimensions: value %v says %v to %v, but the distance %v is %v", dist, dim, v, least, most, d, s.unit(d))
		}
	}
	if undecided > 0 || decided < 1000 {
		t.Errorf("of ordinary distances a thousandth from an edge %d are undecided, %d decided: the bound is too wide", undecided, decided)
	}
}

// TestScreenOfFarCandidates: the bound of an edge holds for candidates of any
// length beyond it.
func TestScreenOfFarCandidates(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		dim := 1 + rng.IntN(40)
		x, y := make([]float32, dim), make([]float32, dim)
		far := math.Pow(10, float64(rng.IntN(9)-2))
		for k := range x {
			x[k] = float32(rng.NormFloat64())
			y[k] = float32(rng.NormFloat64() * far)
		}
		s, v := screened(t, loss.SqEuclidean, x, y)
		d := loss.SqEuclidean.Mining(x, y)
		for range 20 {
			edge := d * math.Pow(10, 4*rng.Float64()-2)
			low, high := s.around(edge)
			if v <= low && d > edge || v >= high && d < edge {
				t.Fatalf("%d dimensions, %g times as far: value %v, between %v and %v for edge %v, but distance %v", dim, far, v, low, high, edge, d)
			}
		}
	}
}

func TestScreenIsBlindBeyondItsBound(t *testing.T) {
	s := newScreen(loss.SqEuclidean, 1<<21)
	if low, high := s.around(1); !math.IsInf(float64(low), -1) || !math.IsInf(float64(high), 1) {
		t.Errorf("2²¹ dimensions are screened: %v to %v", low, high)
	}
	if !math.IsInf(s.least(1), -1) || !math.IsInf(s.most(1), 1) {
		t.Error("2²¹ dimensions are bounded")
	}
}
