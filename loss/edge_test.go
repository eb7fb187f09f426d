package loss

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// TestTiesAndDuplicates holds the batch losses to the definition on batches of
// small whole numbers, where distances tie and edges are hit exactly.
func TestTiesAndDuplicates(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var hit, repeated int
	for range max(problems(), 1000) {
		b, dim := r.IntN(12), 1+r.IntN(2)
		in := Input{Embeddings: pipeline.MakeEmbeddings(b, dim), Labels: make([]int32, b), IDs: make([]int64, b)}
		for i := range b {
			in.Labels[i] = r.Int32N(4) - 1
			in.IDs[i] = int64(100*(1+in.Labels[i])) + r.Int64N(20)
			for k := range dim {
				in.Embeddings.Row(i)[k] = float32(r.IntN(4))
			}
			for j := range i {
				if in.IDs[j] == in.IDs[i] { // one image: one embedding
					copy(in.Embeddings.Row(i), in.Embeddings.Row(j))
					repeated++
				}
			}
		}
		rows := rowsOf(in.Embeddings)
		for _, d := range []Distance{SqEuclidean, Euclidean} {
			m := TripletMargin{Margin: float64(1 + r.IntN(2)), Distance: d}
			for _, l := range []Loss{
				BatchAll{Loss: m}, BatchAll{Loss: m, Reduction: MeanNonZero}, BatchAll{Loss: TripletSoftMargin{Distance: d}},
				BatchHard{Loss: m, Reduction: Sum}, Contrastive{Margin: m.Margin, Distance: d},
			} {
				items := reference(l, rows, in)
				for _, it := range items {
					if it.an == m.Edge(it.ap) {
						hit++
					}
				}
				for ws := range bothPaths {
					stats, err := l.Compute(ws, pipeline.Embeddings{}, in)
					if err != nil {
						t.Fatal(err)
					}
					want := refStats(l, items)
					tolerance := ws.tolerance()
					if math.Abs(stats.Loss-want.Loss) > tolerance*(1+want.Loss) || math.Abs(stats.MeanAP-want.MeanAP) > 1e-12*(1+want.MeanAP) ||
						math.Abs(stats.MeanAN-want.MeanAN) > tolerance*(1+want.MeanAN) {
						t.Fatalf("%T %s of %v labels %v ids %v: %+v, want %+v", l, ws.path(), rows, in.Labels, in.IDs, stats, want)
					}
					want.Loss, want.MeanAP, want.MeanAN, want.Empty = stats.Loss, stats.MeanAP, stats.MeanAN, stats.Empty
					if stats != want || (stats.Count == 0) != (stats.Empty != pipeline.NotEmpty) {
						t.Fatalf("%T %s of %v labels %v ids %v: %+v, want %+v", l, ws.path(), rows, in.Labels, in.IDs, stats, want)
					}
				}
			}

			listed := pipeline.MakeEmbeddings(b, dim)
			if _, err := (BatchAll{Loss: m, Reduction: None}).Compute(new(Workspace), listed, in); err != nil {
				t.Fatal(err)
			}
			for ws := range bothPaths {
				bands := pipeline.MakeEmbeddings(b, dim)
				if _, err := (BatchAll{Loss: m, Reduction: Sum}).Compute(ws, bands, in); err != nil {
					t.Fatal(err)
				}
				for k, got := range bands.Data {
					// A pair of the 12 rows adds at most 2·11 edges times a difference of 3.
					if want := listed.Data[k]; got != want && (ws.least == 0 || math.Abs(float64(got-want)) > 2e-6*11*66) {
						t.Fatalf("gradient by bands %s is %v, triplet by triplet %v", ws.path(), bands.Data, listed.Data)
					}
				}
			}
		}
	}
	if hit < 100 || repeated < 100 {
		t.Fatalf("only %d triplets on an edge and %d repeated images: nothing was tested", hit, repeated)
	}
}

func TestBatchHardTiesGoToTheLowerID(t *testing.T) {
	in := line([]float32{0, 1, -1, 2, -2}, 0, 0, 0, 1, 1) // anchor 0 has two positives at 1 and two negatives at 2
	var ws Workspace
	for _, tt := range []struct {
		ids  []int64
		p, n int
	}{{nil, 1, 3}, {[]int64{9, 1, 2, 3, 4}, 1, 3}, {[]int64{9, 8, 7, 6, 5}, 2, 4}} {
		in.IDs = tt.ids
		if err := ws.load(pipeline.Embeddings{}, in); err != nil {
			t.Fatal(err)
		}
		ws.distances(Euclidean, 0)
		if p, n := ws.hardest(0, in); p.at != tt.p || n.at != tt.n {
			t.Errorf("ids %v: hardest are %d and %d, want %d and %d", tt.ids, p.at, n.at, tt.p, tt.n)
		}
	}
}

func TestEmptyBatches(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   Input
		want pipeline.Empty
	}{
		{"no rows", line(nil), pipeline.NoPositive},
		{"one image", line([]float32{1}, 0), pipeline.NoPositive},
		{"no positive pair", line([]float32{1, 2, 3}, 0, 1, 2), pipeline.NoPositive},
		{"one class", line([]float32{1, 2, 3}, 5, 5, 5), pipeline.NoNegative},
		{"one class and unknown", line([]float32{1, 2, 3}, 5, 5, pipeline.Unknown), pipeline.NoNegative},
		{"unknown only", line([]float32{1, 2, 3}, pipeline.Unknown, pipeline.Unknown, pipeline.Unknown), pipeline.NoPositive},
	} {
		in := tt.in
		in.Labels = append([]int32{}, in.Labels...)
		everyLoss(1, func(name string, l Loss) {
			if _, ok := l.(Contrastive); ok {
				return // pairs need neither
			}
			for ws := range bothPaths {
				grad := pipeline.Embeddings{Dim: 1, Data: []float32{7, 7, 7}[:len(in.Labels)]}
				stats, err := l.Compute(ws, grad, in)
				if err != nil || stats != (pipeline.LossStats{Empty: tt.want}) {
					t.Errorf("%s, %s, %s: %+v, %v, want nothing but %q", tt.name, name, ws.path(), stats, err, tt.want)
				}
				for _, g := range grad.Data {
					if g != 0 {
						t.Errorf("%s, %s, %s: gradient %v, want 0", tt.name, name, ws.path(), grad.Data)
					}
				}
			}
		})
	}
	stats, err := Triplets{Loss: hinge(Euclidean)}.Compute(new(Workspace), pipeline.Embeddings{}, f1)
	if err != nil || stats.Empty != pipeline.NoTriplet {
		t.Errorf("no triplet selected: %+v, %v, want %q", stats, err, pipeline.NoTriplet)
	}
	stats, err = Contrastive{Margin: 1}.Compute(new(Workspace), pipeline.Embeddings{}, line([]float32{1}, 0))
	if err != nil || stats != (pipeline.LossStats{Empty: pipeline.NoPositive}) {
		t.Errorf("contrastive of one image: %+v, %v", stats, err)
	}
}

// TestCollapse: all embeddings equal.
func TestCollapse(t *testing.T) {
	in := Input{Labels: []int32{0, 0, 1, 1, 1}, Embeddings: pipeline.MakeEmbeddings(5, 7)}
	for k := range in.Embeddings.Data {
		in.Embeddings.Data[k] = 0.1 * float32(1+k%7)
	}
	in.Triplets = valid(in)
	everyLoss(0.25, func(name string, l Loss) {
		for ws := range bothPaths {
			grad := pipeline.MakeEmbeddings(5, 7)
			stats, err := l.Compute(ws, grad, in)
			if err != nil {
				t.Fatalf("%s %s: %v", name, ws.path(), err)
			}
			if stats.MeanAP != 0 || stats.MeanAN != 0 || stats.Hard != stats.Count && tripletLossOf(l) != nil {
				t.Errorf("%s %s: %+v, want distances of exactly 0 and hard triplets", name, ws.path(), stats)
			}
			if _, ok := tripletLossOf(l).(TripletMargin); ok && reductionOf(l) <= MeanNonZero && math.Abs(stats.Loss-0.25) > 1e-15 {
				t.Errorf("%s %s: loss is %v, want the margin", name, ws.path(), stats.Loss)
			}
			for _, g := range grad.Data {
				if g != 0 {
					t.Fatalf("%s %s: gradient %v, want 0", name, ws.path(), grad.Data)
				}
			}
		}
	})
}

// TestEqualDirections: under normalisation x and 3x are one point, but for
// rounding. Which way to push them apart is noise, and no gradient.
func TestEqualDirections(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	rounded := 0
	for i := range 100 {
		in := Input{Embeddings: pipeline.MakeEmbeddings(4, 5), Labels: []int32{0, 0, 1, 1}}
		for k := range 5 {
			v := float32(1 + r.IntN(1000)) // so that multiples are exact
			for i, times := range []float32{1, 3, 5, 11} {
				in.Embeddings.Row(i)[k] = times * v
			}
		}
		if i%2 == 0 {
			in.Pairs = []Pair{{0, 1, 1}, {0, 2, 1}}
		}
		for _, l := range []Loss{
			Contrastive{Margin: 1, Distance: Euclidean, Normalise: true},
			BatchAll{Loss: TripletMargin{Margin: 1, Distance: Euclidean}, Normalise: true},
			BatchHard{Loss: TripletMargin{Margin: 1, Distance: Euclidean}, Normalise: true},
		} {
			for ws := range bothPaths {
				grad := pipeline.MakeEmbeddings(4, 5)
				stats, err := l.Compute(ws, grad, in)
				if err != nil {
					t.Fatal(err)
				}
				if stats.MeanAN > 0 {
					rounded++
				}
				for _, g := range grad.Data {
					if g != 0 {
						t.Fatalf("%T %s, rows %v at distance %v: gradient %v, want 0", l, ws.path(), in.Embeddings.Data, stats.MeanAN, grad.Data)
					}
				}
			}
		}
	}
	if rounded == 0 {
		t.Error("no distance was rounded: nothing was tested")
	}
}

// TestMarginBelowRounding: where d_ap + margin is d_ap, a tie is hard and has no loss.
func TestMarginBelowRounding(t *testing.T) {
	in := line([]float32{0, 1 << 20, -1 << 20}, 0, 0, 1)
	for _, r := range []Reduction{Sum, None} { // by bands, and one by one
		for ws := range bothPaths {
			l := BatchAll{Loss: TripletMargin{Margin: 1e-12, Distance: Euclidean}, Reduction: r}
			stats, err := l.Compute(ws, pipeline.Embeddings{}, in)
			want := pipeline.LossStats{Count: 2, Hard: 1, Easy: 1, MeanAP: 1 << 20, MeanAN: 1.5 * (1 << 20)}
			if stats != want || err != nil {
				t.Errorf("%v %s: %+v, %v, want %+v", r, ws.path(), stats, err, want)
			}
		}
	}
}

func TestSoftMarginRange(t *testing.T) {
	var l TripletSoftMargin
	for _, tt := range []struct{ ap, an, loss, slope float64 }{
		{1e77, 0, 1e77, 1}, {0, 1e77, 0, 0}, {0, 0, math.Ln2, 0.5}, {1e5, 1e5 - 40, 40, 1}, {0, 40, math.Exp(-40), math.Exp(-40)},
	} {
		if got := l.Of(tt.ap, tt.an); !(math.Abs(got-tt.loss) <= 1e-15*tt.loss) {
			t.Errorf("loss of %v, %v is %v, want %v", tt.ap, tt.an, got, tt.loss)
		}
		if got := l.Slope(tt.ap, tt.an); !(math.Abs(got-tt.slope) <= 1e-15*tt.slope) {
			t.Errorf("slope at %v, %v is %v, want %v", tt.ap, tt.an, got, tt.slope)
		}
	}
}
