package stages_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// linear is a model small enough to be trained in a test: z = W·x.
type linear struct {
	in, dim int
	w       []float32 // dim×in
}

func newLinear(in, dim int, seed uint64) *linear {
	r := rand.New(rand.NewPCG(seed, 0))
	m := &linear{in: in, dim: dim, w: make([]float32, dim*in)}
	for i := range m.w {
		m.w[i] = float32(r.NormFloat64() / math.Sqrt(float64(in)))
	}
	return m
}

func (m *linear) Dim() int { return m.dim }

func (m *linear) Fingerprint() string {
	h := sha256.New()
	binary.Write(h, binary.LittleEndian, m.w)
	return fmt.Sprintf("%x", h.Sum(nil))
}

func (m *linear) Embed(_ context.Context, dst pipeline.Embeddings, pixels []float32) error {
	for i := range dst.Len() {
		f32.Dots(dst.Row(i), pixels[i*m.in:][:m.in], m.w)
	}
	return nil
}

// Freeze implements stages.Freezer: the cache embeds with a copy.
func (m *linear) Freeze() (stages.Embedder, error) {
	return &linear{m.in, m.dim, slices.Clone(m.w)}, nil
}

// step follows the gradient with respect to the embeddings back to the weights.
func (m *linear) step(rate float32, grad pipeline.Embeddings, pixels []float32) {
	for i := range grad.Len() {
		x := pixels[i*m.in:][:m.in]
		for k, g := range grad.Row(i) {
			f32.Axpy(m.w[k*m.in:][:m.in], -rate*g, x)
		}
	}
}

// recallAt1 is the share of the samples whose nearest other one is of their class.
func recallAt1(emb pipeline.Embeddings, labels []int32, of []int) float64 {
	hits := 0
	for _, i := range of {
		best, at := math.Inf(1), -1
		for _, j := range of {
			if d := loss.SqEuclidean.Mining(emb.Row(i), emb.Row(j)); j != i && d < best {
				best, at = d, j
			}
		}
		if labels[at] == labels[i] {
			hits++
		}
	}
	return float64(hits) / float64(len(of))
}

// A linear embedding, trained by the triplet loss's own gradient on triplets
// that are mined from a cache that is refreshed as the weights change, gets
// better at classes it has never seen.
func TestTrainingRaisesRecallOnUnseenClasses(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for some seconds")
	}
	ctx := t.Context()
	set, err := storage.Open(ctx, storage.Config{Paths: []string{"../testdata/glyphs"}})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	decode, err := stages.NewDecode(stages.DecodeConfig{Height: 20, Width: 20, Channels: 1, Mean: []float32{0.5}, Std: []float32{0.5}})
	if err != nil {
		t.Fatal(err)
	}
	seen := slices.Clone(set.Labels()) // every third class is held out
	var unseen []int
	for i, l := range seen {
		if l%3 == 0 {
			seen[i] = pipeline.Unknown
			unseen = append(unseen, i)
		}
	}
	model := newLinear(20*20, 32, 1)
	build := &stages.Builder{
		Images:  pipeline.Via(pipeline.From[pipeline.Record](set), decode.Records()),
		Samples: set.Len(), Preprocessing: decode.Fingerprint(),
	}
	recall := func() (*stages.Snapshot, float64) {
		s, _, err := build.Build(ctx, model)
		if err != nil {
			t.Fatal(err)
		}
		return s, recallAt1(s.Embeddings, set.Labels(), unseen)
	}
	first, before := recall()

	const steps = 150
	plan, err := stages.NewPlan(stages.PlanConfig{Labels: seen, Data: set.Digest(), P: 8, K: 4, Seed: 1, Steps: steps})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := stages.NewCache(stages.CacheConfig{First: first, Every: 25, Lag: 1, Builder: build, Embedder: model})
	if err != nil {
		t.Fatal(err)
	}
	triplets := loss.TripletMargin{Margin: 0.2, Distance: loss.SqEuclidean}
	miner, err := stages.NewMiner(stages.MinerConfig{Mine: stages.MineConfig{Loss: triplets, Rule: stages.SemiHard, Seed: 1}})
	if err != nil {
		t.Fatal(err)
	}
	flow := pipeline.From(plan).Then(&stages.Embed{Cache: cache}, miner, &stages.Fetch{Reader: set}, decode)
	of := loss.Triplets{Loss: triplets, Reduction: loss.MeanNonZero, Normalise: true}
	var ws loss.Workspace
	var emb, grad pipeline.Embeddings
	generations := map[int32]bool{}
	for b, err := range flow.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		n := len(b.IDs)
		emb = pipeline.Embeddings{Dim: model.dim, Data: slices.Grow(emb.Data[:0], n*model.dim)[:n*model.dim]}
		grad = pipeline.Embeddings{Dim: model.dim, Data: slices.Grow(grad.Data[:0], n*model.dim)[:n*model.dim]}
		if err := model.Embed(ctx, emb, b.Pixels); err != nil {
			t.Fatal(err)
		}
		if _, err := of.Compute(&ws, grad, loss.Input{Embeddings: emb, Labels: b.Labels, IDs: b.IDs, Triplets: b.Triplets}); err != nil {
			t.Fatal(err)
		}
		model.step(0.1, grad, b.Pixels)
		generations[b.Generation] = true
	}
	_, after := recall()
	t.Logf("recall@1 on %d images of unseen classes: %.3f before, %.3f after %d steps", len(unseen), before, after, steps)
	if after < before+0.1 {
		t.Errorf("recall@1 went from %.3f to %.3f, want a rise of at least 0.1", before, after)
	}
	if len(generations) != steps/25-1 {
		t.Errorf("batches used %d generations of the cache, want %d", len(generations), steps/25-1)
	}
}
