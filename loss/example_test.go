package loss_test

import (
	"fmt"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// Four images of two classes on a line, and what moving them would gain.
func Example() {
	in := loss.Input{
		Embeddings: pipeline.Embeddings{Dim: 1, Data: []float32{0, 1, 1.5, 4}},
		Labels:     []int32{0, 0, 1, 1},
	}
	l := loss.BatchHard{Loss: loss.TripletMargin{Margin: 1, Distance: loss.Euclidean}}

	var ws loss.Workspace // used again for the next batch
	grad := pipeline.MakeEmbeddings(4, 1)
	stats, err := l.Compute(&ws, grad, in)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("loss %v over %d anchors, %d hard\n", stats.Loss, stats.Count, stats.Hard)
	fmt.Println("gradient", grad.Data)
	// Output:
	// loss 1.375 over 4 anchors, 2 hard
	// gradient [-0.25 1.25 -1.25 0.25]
}

// The loss of each triplet that a miner has chosen.
func ExampleTriplets() {
	in := loss.Input{
		Embeddings: pipeline.Embeddings{Dim: 2, Data: []float32{1, 0, 0.8, 0.6, 0, 1, -1, 0}},
		Triplets:   []pipeline.Triplet{{Anchor: 0, Positive: 1, Negative: 2}, {Anchor: 0, Positive: 1, Negative: 3}},
	}
	l := loss.Triplets{Loss: loss.TripletMargin{Margin: 2, Distance: loss.SqEuclidean}, Reduction: loss.None}

	var ws loss.Workspace
	if _, err := l.Compute(&ws, pipeline.Embeddings{}, in); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.3f\n", ws.Losses)
	// Output: [0.400 0.000]
}

// Pairs labelled as most libraries do, 1 for one class.
func ExampleContrastive() {
	in := loss.Input{
		Embeddings: pipeline.Embeddings{Dim: 1, Data: []float32{0, 0.3, 0.7}},
		Pairs:      []loss.Pair{{Left: 0, Right: 1, Label: 1}, {Left: 1, Right: 2, Label: 0}},
	}
	l := loss.Contrastive{Margin: 1, Distance: loss.Euclidean, Labels: loss.OneSame}

	stats, err := l.Compute(new(loss.Workspace), pipeline.Embeddings{}, in)
	fmt.Printf("%.4f %v\n", stats.Loss, err)
	// Output: 0.1125 <nil>
}
