package loss

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

func TestBadRows(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for _, tt := range []struct {
		name string
		data []float32 // three rows of two values
		loss Loss
		want string
	}{
		{"NaN", []float32{1, 2, 3, nan, 5, 6}, BatchHard{Loss: hinge(Euclidean)}, "embedding of row 1 (sample 71): value 1 is NaN"},
		{"Inf", []float32{1, 2, 3, 4, inf, 6}, Contrastive{Margin: 1}, "embedding of row 2 (sample 72): value 0 is -Inf"},
		{"zero, cosine", []float32{0, 0, 3, 4, 5, 6}, BatchAll{Loss: hinge(Cosine)}, "embedding of row 0 (sample 70): zero vector"},
		{"zero, normalised", []float32{1, 2, 0, 0, 5, 6}, Triplets{Loss: hinge(Euclidean), Normalise: true}, "embedding of row 1 (sample 71): zero vector"},
		{"zero, contrastive", []float32{1, 2, 0, 0, 5, 6}, Contrastive{Margin: 1, Distance: Cosine}, "embedding of row 1 (sample 71): zero vector"},
		{"overflow", []float32{3e38, 2, -3e38, 4, 5, 6}, BatchAll{Loss: hinge(SqEuclidean), Reduction: Sum}, "embedding of row 0 (sample 70): gradient"},
	} {
		in := Input{Labels: []int32{0, 0, 1}, IDs: []int64{70, 71, 72}, Embeddings: pipeline.Embeddings{Dim: 2, Data: tt.data}}
		stats, err := tt.loss.Compute(new(Workspace), pipeline.MakeEmbeddings(3, 2), in)
		var row *RowError
		if !errors.As(err, &row) || !strings.HasPrefix(err.Error(), tt.want) || stats != (pipeline.LossStats{}) {
			t.Errorf("%s: %+v, %v, want %q", tt.name, stats, err, tt.want)
		}
		in.IDs = nil
		if _, err = tt.loss.Compute(new(Workspace), pipeline.MakeEmbeddings(3, 2), in); err == nil || strings.Contains(err.Error(), "sample") {
			t.Errorf("%s, without ids: %v", tt.name, err)
		}
	}
}

func TestMisuse(t *testing.T) {
	good := BatchHard{Loss: hinge(Euclidean)}
	for _, tt := range []struct {
		loss Loss
		in   Input
		grad pipeline.Embeddings
		want string
	}{
		{BatchHard{}, f1, pipeline.Embeddings{}, "no TripletLoss"},
		{BatchAll{Loss: TripletMargin{}}, f1, pipeline.Embeddings{}, "TripletMargin.Margin is 0, want > 0"},
		{Triplets{Loss: TripletMargin{Margin: math.NaN()}}, f1, pipeline.Embeddings{}, "TripletMargin.Margin is NaN"},
		{Triplets{Loss: TripletMargin{Margin: math.Inf(1)}}, f1, pipeline.Embeddings{}, "TripletMargin.Margin is +Inf"},
		{Triplets{Loss: TripletSoftMargin{Distance: 9}}, f1, pipeline.Embeddings{}, "Distance(9)"},
		{Triplets{Loss: hinge(9)}, f1, pipeline.Embeddings{}, "Distance(9)"},
		{Contrastive{Margin: -1}, f1, pipeline.Embeddings{}, "Contrastive.Margin is -1, want > 0"},
		{Contrastive{Margin: 1, Labels: 7}, f1, pipeline.Embeddings{}, "Contrastive.Labels is 7"},
		{Contrastive{Margin: 1, Reduction: 9}, f1, pipeline.Embeddings{}, "Reduction(9)"},
		{BatchHard{Loss: hinge(Euclidean), Reduction: 9}, f1, pipeline.Embeddings{}, "Reduction(9)"},
		{good, line([]float32{1, 2}), pipeline.Embeddings{}, "needs its labels"},
		{BatchAll{Loss: hinge(Euclidean)}, line([]float32{1, 2}), pipeline.Embeddings{}, "needs its labels"},
		{Contrastive{Margin: 1}, line([]float32{1, 2}), pipeline.Embeddings{}, "needs its labels"},
		{good, line([]float32{1, 2}, 0), pipeline.Embeddings{}, "1 labels for 2 embeddings"},
		{good, Input{Embeddings: f1.Embeddings, Labels: f1.Labels, IDs: []int64{1}}, pipeline.Embeddings{}, "1 sample ids for 4 embeddings"},
		{good, Input{Embeddings: pipeline.Embeddings{Dim: 3, Data: make([]float32, 4)}}, pipeline.Embeddings{}, "4 embedding values are no rows of 3"},
		{good, f1, pipeline.MakeEmbeddings(3, 1), "gradient of 3×1 values for embeddings of 4×1"},
		{Triplets{Loss: hinge(Euclidean)}, f1.with([3]int32{0, 1, 4}), pipeline.Embeddings{}, "triplet 0 is (0, 1, 4) in a batch of 4 rows"},
		{Triplets{Loss: hinge(Euclidean)}, f1.with([3]int32{-1, 1, 2}), pipeline.Embeddings{}, "triplet 0 is (-1, 1, 2) in a batch of 4 rows"},
		{Contrastive{Margin: 1}, Input{Embeddings: f1.Embeddings, Pairs: []Pair{{0, 4, 0}}}, pipeline.Embeddings{}, "pair 0 is (0, 4) in a batch of 4 rows"},
		{Contrastive{Margin: 1}, Input{Embeddings: f1.Embeddings, Pairs: []Pair{{0, 1, 2}}}, pipeline.Embeddings{}, "pair 0 has label 2, want 0 or 1"},
	} {
		if _, err := tt.loss.Compute(new(Workspace), tt.grad, tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%T %+v: %v, want %q", tt.loss, tt.loss, err, tt.want)
		}
	}
}
