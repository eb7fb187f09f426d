package stages

import (
	"math"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

func TestLossIsTheLastStage(t *testing.T) {
	margin := loss.TripletMargin{Margin: 1, Distance: loss.Euclidean}
	miner, err := NewMiner(MinerConfig{Mine: MineConfig{Loss: margin, Rule: TFA}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		of   loss.Loss
		want float64
		grad []float64
	}{
		{loss.Triplets{Loss: margin}, 0.75, []float64{0.25, 0.5, -1, 0.25}},
		{loss.BatchHard{Loss: margin}, 1.375, []float64{-0.25, 1.25, -1.25, 0.25}},
		{loss.BatchAll{Loss: margin, Reduction: loss.MeanNonZero}, 1.5, []float64{0, 1, -1.4, 0.4}},
	} {
		flow := pipeline.From(pipeline.Slice([]*pipeline.Batch{f1()})).Then(miner, &Loss{Of: tt.of})
		for b, err := range flow.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(b.Loss.Loss-tt.want) > 1e-12 {
				t.Errorf("%T is %v, want %v", tt.of, b.Loss.Loss, tt.want)
			}
			for i, g := range b.Gradients.Data {
				if math.Abs(float64(g)-tt.grad[i]) > 1e-6 {
					t.Errorf("%T: gradients are %v, want %v", tt.of, b.Gradients.Data, tt.grad)
				}
			}
		}
	}
}

// TestLossOfExtraImages: a mined negative takes part in a loss over the list,
// and in no other.
func TestLossOfExtraImages(t *testing.T) {
	margin := loss.TripletMargin{Margin: 1, Distance: loss.SqEuclidean}
	batch := func() *pipeline.Batch {
		b := line("AAB", 0, 1, 1.2)
		b.Extra = 1
		b.Triplets = []pipeline.Triplet{{Anchor: 0, Positive: 1, Negative: 2}}
		return b
	}
	for _, tt := range []struct {
		of    loss.Loss
		grad  []float64
		empty pipeline.Empty
	}{
		{loss.Triplets{Loss: margin}, []float64{0.4, 2, -2.4}, pipeline.NotEmpty},
		{loss.BatchAll{Loss: margin}, []float64{0, 0, 0}, pipeline.NoNegative},
	} {
		for b, err := range pipeline.From(pipeline.Slice([]*pipeline.Batch{batch()})).Then(&Loss{Of: tt.of}).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if b.Loss.Empty != tt.empty || b.Gradients.Len() != 3 {
				t.Errorf("%T: %+v with %d gradients, want %q and 3", tt.of, b.Loss, b.Gradients.Len(), tt.empty)
			}
			for i, g := range b.Gradients.Data {
				if math.Abs(float64(g)-tt.grad[i]) > 1e-6 {
					t.Errorf("%T: gradients are %v, want %v", tt.of, b.Gradients.Data, tt.grad)
				}
			}
		}
	}
}

func TestLossErrors(t *testing.T) {
	bad := f1()
	bad.Number = 12
	bad.Triplets = []pipeline.Triplet{{Anchor: 9}}
	for _, tt := range []struct {
		stage *Loss
		want  string
	}{
		{&Loss{}, "stages: Loss.Of is nil, want a loss"},
		{&Loss{Of: loss.Triplets{Loss: loss.TripletMargin{Margin: 1}}}, "compute loss of batch 12: "},
	} {
		for b, err := range pipeline.From(pipeline.Slice([]*pipeline.Batch{bad})).Then(tt.stage).All(t.Context()) {
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || b != nil {
				t.Errorf("batch %v, error %v, want %s…", b, err, tt.want)
			}
		}
	}
}
