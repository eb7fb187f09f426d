package stages_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// A stream is a whole flow, from the disk to the loss, of which everything that
// must not matter can be chosen.
type stream struct {
	set   *storage.Dataset
	first *stages.Snapshot
	same  []int32
	steps int64
	scope stages.Scope

	rank, world int
	window      float64 // budget of a windowed plan, as a part of the images; 0 for none

	reader  stages.Reader                                    // default: set
	between pipeline.Stage[*pipeline.Batch, *pipeline.Batch] // comes after every stage; may be nil
}

func newStream(t *testing.T, steps int64, scope stages.Scope) *stream {
	t.Helper()
	s := openStream(t, storage.Config{Paths: []string{"../testdata/glyphs"}})
	s.steps, s.scope = steps, scope
	return s
}

func openStream(t *testing.T, cfg storage.Config) *stream {
	t.Helper()
	ctx := t.Context()
	set, err := storage.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	s := &stream{set: set}
	if done, there := embedded[cfg.Paths[0]]; there {
		s.first, s.same = done.first, done.same
		return s
	}
	decode := s.decoder(t, 0)
	pca, err := stages.FitPCA(ctx, stages.PCAConfig{Dim: 16, Seed: 1}, set, decode, int64(set.Len()))
	if err != nil {
		t.Fatal(err)
	}
	build := &stages.Builder{
		Images:  pipeline.Via(pipeline.From[pipeline.Record](set), decode.Records()),
		Samples: set.Len(), Preprocessing: decode.Fingerprint(),
	}
	first, digests, err := build.Build(ctx, pca)
	if err != nil {
		t.Fatal(err)
	}
	s.first, s.same = first, stages.Duplicates(digests)
	embedded[cfg.Paths[0]] = *s
	return s
}

// embedded are the streams whose embeddings have been made, by path: for the
// next test.
var embedded = map[string]stream{}

func (s *stream) decoder(t *testing.T, workers int) *stages.Decode {
	t.Helper()
	decode, err := stages.NewDecode(stages.DecodeConfig{Height: 12, Width: 12, Channels: 1, Workers: workers})
	if err != nil {
		t.Fatal(err)
	}
	return decode
}

// flow goes on at a state.
func (s *stream) flow(t *testing.T, at pipeline.State, workers, ahead int) pipeline.Flow[*pipeline.Batch] {
	t.Helper()
	cache, err := stages.NewCache(stages.CacheConfig{First: s.first})
	if err != nil {
		t.Fatal(err)
	}
	return s.over(t, cache, at, workers, ahead)
}

func (s *stream) mining() stages.MineConfig {
	triplet := loss.TripletMargin{Margin: 0.2, Distance: loss.SqEuclidean}
	return stages.MineConfig{Loss: triplet, Rule: stages.SemiHard, Scope: s.scope, Seed: 1}
}

// plan goes on at a state.
func (s *stream) plan(t *testing.T, at pipeline.State) *stages.Plan {
	t.Helper()
	layout, err := s.set.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	plan, err := stages.NewPlan(stages.PlanConfig{
		Labels: s.set.Labels(), Data: s.set.Digest(), P: 4, K: 2, Seed: 1, Steps: s.steps, Config: pipeline.Digest("mine", s.mining()),
		Rank: s.rank, World: s.world, Layout: layout, Window: int64(s.window * float64(layout.Bytes())),
	})
	if err != nil {
		t.Fatal(err)
	}
	if plan, err = plan.At(at); err != nil {
		t.Fatal(err)
	}
	return plan
}

// over is flow with a cache of the caller's.
func (s *stream) over(t *testing.T, cache *stages.Cache, at pipeline.State, workers, ahead int) pipeline.Flow[*pipeline.Batch] {
	t.Helper()
	mine := s.mining()
	if err := cache.Check(at); err != nil {
		t.Fatal(err)
	}
	miner, err := stages.NewMiner(stages.MinerConfig{Mine: mine, Same: s.same, Labels: s.set.Labels(), Snapshots: cache, Workers: workers})
	if err != nil {
		t.Fatal(err)
	}
	reader := s.reader
	if reader == nil {
		reader = s.set
	}
	plan := s.plan(t, at)
	flow := pipeline.From(plan).Prefetch(ahead)
	for _, stage := range []pipeline.Stage[*pipeline.Batch, *pipeline.Batch]{
		&stages.Embed{Cache: cache}, miner, &stages.Fetch{Reader: reader, Plan: plan}, s.decoder(t, workers),
		&stages.Loss{Of: loss.Triplets{Loss: mine.Loss, Reduction: loss.MeanNonZero}},
	} {
		if flow = flow.Then(stage); s.between != nil {
			flow = flow.Then(s.between)
		}
	}
	return flow
}

// digest is of everything a batch holds.
func digest(b *pipeline.Batch) [32]byte {
	h := sha256.New()
	fmt.Fprintln(h, b.Number, b.P, b.K, b.IDs, b.Labels, b.Shape, b.Triplets, b.Extra, b.Generation, b.Loss, b.State())
	for _, s := range [][]float32{b.Pixels, b.Embeddings.Data, b.Gradients.Data} {
		binary.Write(h, binary.LittleEndian, s)
	}
	return [32]byte(h.Sum(nil))
}

// run collects the digests and the states of the batches from a state on.
func (s *stream) run(t *testing.T, at pipeline.State, workers, ahead int) (digests [][32]byte, states []pipeline.State) {
	t.Helper()
	for b, err := range s.flow(t, at, workers, ahead).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest(b))
		states = append(states, b.State())
	}
	return digests, states
}

// The stream is the same for any number of workers and processors, and however
// far it runs ahead.
func TestStreamIsTheSameForAnyWorkers(t *testing.T) {
	for _, scope := range []stages.Scope{stages.ScopeBatch, stages.ScopeDataSet} {
		s := newStream(t, 30, scope)
		want, _ := s.run(t, pipeline.State{}, 1, 0)
		if len(want) != 30 {
			t.Fatalf("%v: %d batches, want 30", scope, len(want))
		}
		for _, processors := range []int{1, 2} {
			before := runtime.GOMAXPROCS(processors)
			for _, workers := range []int{1, 2, 7} {
				for _, ahead := range []int{0, 8} {
					got, _ := s.run(t, pipeline.State{}, workers, ahead)
					if fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("%v: another stream with GOMAXPROCS %d, %d workers, %d ahead", scope, processors, workers, ahead)
					}
				}
			}
			runtime.GOMAXPROCS(before)
		}
	}
}
