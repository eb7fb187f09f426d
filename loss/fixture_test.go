package loss

import (
	"math"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// F1 and F2 are the hand-computed batches of one-dimensional embeddings.
var (
	f1 = line([]float32{0, 1, 1.5, 4}, 0, 0, 1, 1)
	f2 = line([]float32{0, 1, -1, 2}, 0, 0, 1, 1)
)

func line(x []float32, labels ...int32) Input {
	return Input{Embeddings: pipeline.Embeddings{Dim: 1, Data: x}, Labels: labels}
}

// with is in with a list of triplets.
func (in Input) with(triplets ...[3]int32) Input {
	for _, t := range triplets {
		in.Triplets = append(in.Triplets, pipeline.Triplet{Anchor: t[0], Positive: t[1], Negative: t[2]})
	}
	return in
}

func near(x, y float64) bool { return math.Abs(x-y) < 1e-6 }

func hinge(d Distance) TripletMargin { return TripletMargin{Margin: 1, Distance: d} }

func TestF1Triplets(t *testing.T) {
	in := f1.with([][3]int32{{0, 1, 2}, {0, 1, 3}, {1, 0, 2}, {1, 0, 3}, {2, 3, 0}, {2, 3, 1}, {3, 2, 0}, {3, 2, 1}}...)
	const hard, semi, easy = pipeline.Hard, pipeline.SemiHard, pipeline.Easy
	for _, tt := range []struct {
		distance Distance
		losses   []float64
		kinds    []pipeline.Kind
	}{
		{Euclidean, []float64{0.5, 0, 1.5, 0, 2, 3, 0, 0.5}, []pipeline.Kind{semi, easy, hard, easy, hard, hard, easy, semi}},
		{SqEuclidean, []float64{0, 0, 1.75, 0, 5, 7, 0, 0}, []pipeline.Kind{easy, easy, hard, easy, hard, hard, easy, easy}},
	} {
		for _, l := range []Loss{
			Triplets{Loss: hinge(tt.distance), Reduction: None},
			BatchAll{Loss: hinge(tt.distance), Reduction: None},
		} {
			var ws Workspace
			stats, err := l.Compute(&ws, pipeline.Embeddings{}, in)
			if err != nil {
				t.Fatal(err)
			}
			var sum float64
			kinds := map[pipeline.Kind]int{}
			for i, tr := range in.Triplets {
				if ws.Losses[i] != tt.losses[i] {
					t.Errorf("%T %v: loss of %v is %v, want %v", l, tt.distance, tr, ws.Losses[i], tt.losses[i])
				}
				x := f1.Embeddings
				ap := tt.distance.Mining(x.Row(int(tr.Anchor)), x.Row(int(tr.Positive)))
				an := tt.distance.Mining(x.Row(int(tr.Anchor)), x.Row(int(tr.Negative)))
				if got := hinge(tt.distance).Kind(ap, an); got != tt.kinds[i] {
					t.Errorf("%v: %v is %v, want %v", tt.distance, tr, got, tt.kinds[i])
				}
				kinds[tt.kinds[i]]++
				sum += tt.losses[i]
			}
			if stats.Loss != sum || stats.Hard != kinds[hard] || stats.SemiHard != kinds[semi] || stats.Easy != kinds[easy] {
				t.Errorf("%T %v: %+v, want the sum %v and the kinds %v", l, tt.distance, stats, sum, kinds)
			}
		}
	}
}

func TestFixtures(t *testing.T) {
	tfa := f1.with([][3]int32{{0, 1, 2}, {1, 0, 3}, {2, 3, 0}, {3, 2, 1}}...)
	f2tfa := f2.with([][3]int32{{0, 1, 3}, {1, 0, 2}, {2, 3, 1}, {3, 2, 0}}...)
	for _, tt := range []struct {
		name          string
		loss          Loss
		in            Input
		want          float64
		count, active int
		grad          []float64 // nil: not given
	}{
		{"F1 batch-all, non-zero mean", BatchAll{Loss: hinge(Euclidean), Reduction: MeanNonZero}, f1, 1.5, 8, 5, []float64{0, 1, -1.4, 0.4}},
		{"F1 batch-all, non-zero mean", BatchAll{Loss: hinge(SqEuclidean), Reduction: MeanNonZero}, f1, 13.75 / 3, 8, 3, []float64{1. / 3, 4. / 3, -5, 10. / 3}},
		{"F1 batch-all, mean", BatchAll{Loss: hinge(Euclidean)}, f1, 0.9375, 8, 5, nil},
		{"F1 batch-all, mean", BatchAll{Loss: hinge(SqEuclidean)}, f1, 1.71875, 8, 3, nil},
		{"F1 batch-hard, mean", BatchHard{Loss: hinge(Euclidean)}, f1, 1.375, 4, 4, []float64{-0.25, 1.25, -1.25, 0.25}},
		{"F1 batch-hard, mean", BatchHard{Loss: hinge(SqEuclidean)}, f1, 2.1875, 4, 2, []float64{-0.5, 1, -1.75, 1.25}},
		{"F1 batch-hard, soft margin", BatchHard{Loss: TripletSoftMargin{Distance: Euclidean}}, f1, 1.012290, 4, 4, nil},
		{"F1 tfa", Triplets{Loss: hinge(Euclidean)}, tfa, 0.75, 4, 3, []float64{0.25, 0.5, -1, 0.25}},
		{"F1 tfa", Triplets{Loss: hinge(SqEuclidean)}, tfa, 1.25, 4, 1, []float64{0.75, 0, -2, 1.25}},
		{"F2 pml", Triplets{Loss: hinge(Euclidean)}, f2.with([][3]int32{{0, 1, 3}, {1, 0, 2}}...), 0, 2, 0, []float64{0, 0, 0, 0}},
		{"F2 hard", Triplets{Loss: hinge(Euclidean), Reduction: Sum}, f2.with([][3]int32{{0, 1, 2}, {1, 0, 3}, {2, 3, 0}, {2, 3, 1}, {3, 2, 0}, {3, 2, 1}}...), 12, 6, 6, nil},
		{"F2 tfa", Triplets{Loss: hinge(Euclidean)}, f2tfa, 1, 4, 2, nil},
		{"F2 batch-all, non-zero mean", BatchAll{Loss: hinge(Euclidean), Reduction: MeanNonZero}, f2, 2, 8, 6, nil},
		{"the squared example", Triplets{Loss: hinge(SqEuclidean)}, line([]float32{0, 1, 1.2}).with([3]int32{0, 1, 2}), 0.56, 1, 1, []float64{0.4, 2, -2.4}},
		{
			"contrastive", Contrastive{Margin: 1, Distance: Euclidean},
			contrastivePairs, 0.075, 3, 2, []float64{-0.1, 0.1, 0.2, -0.2, 0, 0},
		},
		{"contrastive without the half", Contrastive{Margin: 1, Distance: Euclidean, NoHalf: true}, contrastivePairs, 0.15, 3, 2, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for ws := range bothPaths {
				grad := pipeline.MakeEmbeddings(tt.in.Embeddings.Len(), 1)
				stats, err := tt.loss.Compute(ws, grad, tt.in)
				if err != nil {
					t.Fatal(err)
				}
				if !near(stats.Loss, tt.want) || stats.Count != tt.count || stats.Active != tt.active || stats.Empty != pipeline.NotEmpty {
					t.Errorf("%s: %+v, want loss %v, count %d, active %d", ws.path(), stats, tt.want, tt.count, tt.active)
				}
				for k, want := range tt.grad {
					if !near(float64(grad.Data[k]), want) {
						t.Errorf("%s: gradient is %v, want %v", ws.path(), grad.Data, tt.grad)
						break
					}
				}
				var sum float64
				for _, g := range grad.Data {
					sum += float64(g)
				}
				if !near(sum, 0) {
					t.Errorf("%s: gradient sums to %v, want 0", ws.path(), sum)
				}
				alone, err := tt.loss.Compute(ws, pipeline.Embeddings{}, tt.in)
				if err != nil || alone != stats {
					t.Errorf("%s, without a gradient: %+v, %v, want %+v", ws.path(), alone, err, stats)
				}
			}
		})
	}
}

// contrastivePairs are at 0.3 (same), 0.4 and 1.2 (different).
var contrastivePairs = Input{
	Embeddings: pipeline.Embeddings{Dim: 1, Data: []float32{0, 0.3, 1, 1.4, 3, 4.2}},
	Pairs:      []Pair{{0, 1, 0}, {2, 3, 1}, {4, 5, 1}},
}

func TestF1BatchHardPerAnchor(t *testing.T) {
	for d, want := range map[Distance][]float64{Euclidean: {0.5, 1.5, 3, 0.5}, SqEuclidean: {0, 1.75, 7, 0}} {
		for ws := range bothPaths {
			if _, err := (BatchHard{Loss: hinge(d), Reduction: None}).Compute(ws, pipeline.Embeddings{}, f1); err != nil {
				t.Fatal(err)
			}
			for a, got := range ws.Losses {
				if got != want[a] {
					t.Errorf("%v %s: losses are %v, want %v", d, ws.path(), ws.Losses, want)
					break
				}
			}
		}
	}
}

// TestF2BandEdges: every candidate is on an edge, so there is no semi-hard one.
func TestF2BandEdges(t *testing.T) {
	for _, r := range []Reduction{Sum, None} { // by bands, and one by one
		for ws := range bothPaths {
			stats, err := BatchAll{Loss: hinge(Euclidean), Reduction: r}.Compute(ws, pipeline.Embeddings{}, f2)
			if err != nil {
				t.Fatal(err)
			}
			if stats.Hard != 6 || stats.SemiHard != 0 || stats.Easy != 2 {
				t.Errorf("%v %s: %+v, want 6 hard and 2 easy", r, ws.path(), stats)
			}
		}
	}
}

func TestContrastiveLabelConvention(t *testing.T) {
	flipped := contrastivePairs
	flipped.Pairs = []Pair{{0, 1, 1}, {2, 3, 0}, {4, 5, 0}}
	stats, err := Contrastive{Margin: 1, Distance: Euclidean, Labels: OneSame}.Compute(new(Workspace), pipeline.Embeddings{}, flipped)
	if err != nil || !near(stats.Loss, 0.075) || !near(stats.MeanAP, 0.3) || !near(stats.MeanAN, 0.8) {
		t.Errorf("%+v, %v, want loss 0.075, mean distances 0.3 and 0.8", stats, err)
	}
}
