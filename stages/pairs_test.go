package stages

import (
	"fmt"
	"math"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

func collect[A, B any](t *testing.T, in []A, s pipeline.Stage[A, B]) (list []B) {
	t.Helper()
	for v, err := range pipeline.Via(pipeline.From(pipeline.Slice(in)), s).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

func TestPairs(t *testing.T) {
	in := []pipeline.MinedTriplet{
		{Anchor: 1, Positive: 2, Negative: 9, AP: 0.09, AN: 0.16, Batch: -1},
		{Anchor: 1, Positive: 2, Negative: 7, AP: 0.09, AN: 1.44, Batch: -1},
		{Anchor: 1, Positive: 3, Negative: 9, AP: 0.25, AN: 0.16, Batch: -1},
		{Anchor: 2, Positive: 1, Negative: 9, AP: 0.09, AN: 0.16, Batch: -1},
	}
	p := Pairs{Loss: loss.Contrastive{Margin: 1, Distance: loss.Euclidean}, Distance: loss.SqEuclidean}
	want := []pipeline.MinedPair{
		{Left: 1, Right: 2, Label: 0, Distance: 0.09, Loss: 0.045, Batch: -1},
		{Left: 1, Right: 3, Label: 0, Distance: 0.25, Loss: 0.125, Batch: -1},
		{Left: 1, Right: 7, Label: 1, Distance: 1.44, Loss: 0, Batch: -1},
		{Left: 1, Right: 9, Label: 1, Distance: 0.16, Loss: 0.18, Batch: -1},
		{Left: 2, Right: 1, Label: 0, Distance: 0.09, Loss: 0.045, Batch: -1},
		{Left: 2, Right: 9, Label: 1, Distance: 0.16, Loss: 0.18, Batch: -1},
	}
	got := collect(t, in, p)
	if len(got) != len(want) {
		t.Fatalf("%d pairs %+v, want %d", len(got), got, len(want))
	}
	for i, g := range got {
		if math.Abs(float64(g.Loss-want[i].Loss)) > 1e-7 {
			t.Errorf("pair %d has loss %v, want %v", i, g.Loss, want[i].Loss)
		}
		g.Loss = want[i].Loss
		if g != want[i] {
			t.Errorf("pair %d is %+v, want %+v", i, g, want[i])
		}
	}
}

func TestPairsOfTwoBatchesStayApart(t *testing.T) {
	in := []pipeline.MinedTriplet{{Anchor: 1, Positive: 2, Negative: 3, Batch: 0}, {Anchor: 1, Positive: 2, Negative: 3, Batch: 1}}
	if got := collect(t, in, Pairs{Loss: loss.Contrastive{Margin: 1}}); len(got) != 4 || got[1].Batch != 0 || got[2].Batch != 1 {
		t.Errorf("pairs are %+v, want two of each batch", got)
	}
}

func TestConvert(t *testing.T) {
	// Rows of length 1 at 60°.
	d := map[loss.Distance]float64{loss.SqEuclidean: 1, loss.Euclidean: 1, loss.Cosine: 0.5}
	for _, from := range distances {
		for _, to := range distances {
			if got := convert(d[from], from, to); math.Abs(got-d[to]) > 1e-15 {
				t.Errorf("%v %v is %v %v, want %v", from, d[from], to, got, d[to])
			}
		}
	}
}

// TestMined: positions 0 and 2 are one image, and so are 3 and 4.
func TestMined(t *testing.T) {
	b := &pipeline.Batch{
		Number: 5, Generation: 2, IDs: []int64{30, 20, 30, 10, 10}, Labels: []int32{0, 0, 0, 1, 1},
		Triplets: []pipeline.Triplet{
			{Anchor: 0, Positive: 1, Negative: 3}, {Anchor: 0, Positive: 1, Negative: 4},
			{Anchor: 1, Positive: 0, Negative: 3}, {Anchor: 1, Positive: 2, Negative: 4},
			{Anchor: 2, Positive: 1, Negative: 3, AP: 0.5},
		},
	}
	got := collect(t, []*pipeline.Batch{b}, Mined{})
	want := [][3]int64{{20, 30, 10}, {30, 20, 10}}
	if len(got) != len(want) {
		t.Fatalf("triplets are %+v, want %v", got, want)
	}
	for i, g := range got {
		if [3]int64{g.Anchor, g.Positive, g.Negative} != want[i] || g.Rank != 0 || g.Batch != 5 || g.Generation != 2 || g.NegativeLabel != 1 {
			t.Errorf("triplet %d is %+v, want %v of batch 5, generation 2, rank 0", i, g, want[i])
		}
	}
}

// The pairs of F1 (SEMANTICS: x = 0, 1, 1.5, 4; classes A A B B; margin 1,
// euclidean): semi-hard finds (0,1,2) and (3,2,1), and each chosen pair is
// written whether it was given a negative or not, in either scope.
func TestBarePairs(t *testing.T) {
	emb := pipeline.Embeddings{Dim: 1, Data: []float32{0, 1, 1.5, 4}}
	labels, ids := []int32{0, 0, 1, 1}, []int64{0, 1, 2, 3}
	mine := MineConfig{Loss: loss.TripletMargin{Margin: 1, Distance: loss.Euclidean}}
	scan, err := NewScan(ScanConfig{Mine: mine, Embeddings: emb, Labels: labels, BarePairs: true})
	if err != nil {
		t.Fatal(err)
	}
	miner, err := NewMiner(MinerConfig{Mine: mine, BarePairs: true})
	if err != nil {
		t.Fatal(err)
	}
	b := &pipeline.Batch{P: 2, K: 2, IDs: ids, Labels: labels, Embeddings: emb}
	if err := miner.Mine(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	pairs := Pairs{Loss: loss.Contrastive{Margin: 1, Distance: loss.Euclidean}, Distance: loss.Euclidean}
	want := "0-1:0 0-2:1 1-0:0 2-3:0 3-2:0 3-1:1 "
	for _, mined := range [][]pipeline.MinedTriplet{
		collect(t, []int{0}, scanStage{scan})[0].Triplets,
		collect(t, []*pipeline.Batch{b}, Mined{}),
	} {
		got := ""
		for _, p := range collect(t, mined, pairs) {
			got += fmt.Sprintf("%d-%d:%d ", p.Left, p.Right, p.Label)
		}
		if got != want {
			t.Errorf("pairs %s, want %s", got, want)
		}
	}
	var sent int
	for m, err := range pipeline.From(scan).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Negative >= 0 {
			sent++
		}
	}
	for _, r := range []MineReport{scan.Report(), miner.Report()} {
		if r.Triplets != 2 || r.Pairs != 4 || r.NoCandidate != 2 || sent != 2 {
			t.Errorf("report %+v, %d triplets sent; want 2 triplets and 2 pairs without a candidate of 4", r, sent)
		}
	}
}
