package stages

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A quantile is within 0.8 % of the value of its rank, over any values that
// have buckets.
func TestSketchQuantiles(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		values := make([]float64, 1+rng.IntN(3000))
		spread := rng.Float64() * 10
		for i := range values {
			values[i] = math.Exp(spread * rng.NormFloat64() / 3)
		}
		var s Sketch
		for _, v := range values {
			s.Add(v)
		}
		slices.Sort(values)
		for _, q := range []float64{0, 0.01, 0.1, 0.5, 0.9, 0.99, 1} {
			want := values[max(0, int(math.Ceil(q*float64(len(values))))-1)]
			if got := s.Quantile(q); math.Abs(got-want) > 0.008*want {
				t.Fatalf("seed %d, %d values: quantile %v is %v, want %v", seed, len(values), q, got, want)
			}
		}
		if s.Min != values[0] || s.Max != values[len(values)-1] || s.Count != int64(len(values)) {
			t.Fatalf("seed %d: %d values from %v to %v", seed, s.Count, s.Min, s.Max)
		}
	}
}

// Sketches over parts, merged in any order, are the sketch over the whole.
func TestSketchesMerge(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	odd := []float64{0, -1e-9, math.NaN(), math.Inf(1), 1e-300, 1e300, math.Inf(-1), 1}
	for range 200 {
		var whole Sketch
		parts := make([]Sketch, 1+rng.IntN(6))
		for range rng.IntN(200) {
			v := math.Exp(4 * rng.NormFloat64())
			if rng.IntN(4) == 0 {
				v = odd[rng.IntN(len(odd))]
			}
			whole.Add(v)
			parts[rng.IntN(len(parts))].Add(v)
		}
		rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		var merged Sketch
		for i := range parts {
			merged.Merge(&parts[i])
		}
		if merged.Count != whole.Count || merged.NaN != whole.NaN || merged.Min != whole.Min || merged.Max != whole.Max {
			t.Fatalf("merged %+v, want %+v", merged, whole)
		}
		for q := 0.0; q <= 1; q += 0.01 {
			if merged.Quantile(q) != whole.Quantile(q) {
				t.Fatalf("quantile %v is %v, want %v", q, merged.Quantile(q), whole.Quantile(q))
			}
		}
	}
}

func TestSketchOfNothingAndOfOddValues(t *testing.T) {
	var s Sketch
	if s.Quantile(0.5) != 0 || s.Mean() != 0 {
		t.Errorf("an empty sketch has median %v and mean %v", s.Quantile(0.5), s.Mean())
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), -0.5, 0, 1e-300} {
		s.Add(v)
	}
	if s.NaN != 2 || s.Count != 3 || s.Min != -0.5 || s.Quantile(0.5) != -0.5 || s.Quantile(1) != 1e-300 {
		t.Errorf("sketch is %+v, median %v", s, s.Quantile(0.5))
	}
	text, err := json.Marshal(&s)
	if err != nil || !strings.HasPrefix(string(text), `{"count":3,"nan":2,"mean":-0.16666666666666666,"min":-0.5,"p1":-0.5,`) {
		t.Errorf("JSON is %s, error %v", text, err)
	}
	if buckets := len(s.buckets); buckets != 0 {
		t.Errorf("%d buckets", buckets)
	}
	for range 10 {
		s.Add(1e300)
		s.Add(2e-12)
	}
	if len(s.buckets) > sketchLast-sketchFirst+1 {
		t.Errorf("%d buckets", len(s.buckets))
	}
}
