package stages_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// repeated is the glyphs many times over, under new ids, in memory.
type repeated []pipeline.Record

func newRepeated(t testing.TB, times int) repeated {
	t.Helper()
	set, err := storage.Open(t.Context(), storage.Config{Paths: []string{"../testdata/glyphs"}})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	ids := make([]int64, set.Len())
	for i := range ids {
		ids[i] = int64(i)
	}
	once := make([]pipeline.Record, len(ids))
	if err := set.Read(t.Context(), ids, once); err != nil {
		t.Fatal(err)
	}
	all := make(repeated, 0, times*len(once))
	for range times {
		for _, rec := range once {
			rec.ID = int64(len(all))
			all = append(all, rec)
		}
	}
	return all
}

func (r repeated) Read(_ context.Context, ids []int64, dst []pipeline.Record) error {
	for i, id := range ids {
		dst[i] = r[id]
	}
	return nil
}

func (r repeated) labels() []int32 {
	labels := make([]int32, len(r))
	for i, rec := range r {
		labels[i] = rec.Label
	}
	return labels
}

// late is a model whose frozen copies take their time, at random.
type late struct {
	*linear
	rng *rand.Rand
}

func (d late) Freeze() (stages.Embedder, error) {
	frozen, err := d.linear.Freeze()
	return late{frozen.(*linear), d.rng}, err
}

func (d late) Embed(ctx context.Context, dst pipeline.Embeddings, pixels []float32) error {
	time.Sleep(time.Duration(d.rng.IntN(3000)) * time.Microsecond)
	return d.linear.Embed(ctx, dst, pixels)
}

// Goal E3: while a model learns and its cache is refreshed every 20 batches in
// the background, random delays of the refreshes change no triplet: 20 runs.
func TestRefreshDelaysChangeNoTriplet(t *testing.T) {
	const side, dim, every, steps = 8, 8, 20, 50
	set := newRepeated(t, 1)
	decode, err := stages.NewDecode(stages.DecodeConfig{Height: side, Width: side, Channels: 1, Mean: []float32{0.5}, Std: []float32{0.5}})
	if err != nil {
		t.Fatal(err)
	}
	triplet := loss.TripletMargin{Margin: 0.2, Distance: loss.SqEuclidean}
	for lag, runs := range []int{5, 20} {
		lag := int64(lag)
		if testing.Short() || raceEnabled {
			runs = 3
		}
		var want []pipeline.MinedTriplet
		for run := range runs {
			model := late{newLinear(side*side, dim, 1), rand.New(rand.NewPCG(uint64(run), uint64(lag)))}
			build := &stages.Builder{
				Images:  pipeline.Via(pipeline.From(pipeline.Slice(set)), decode.Records()),
				Samples: len(set), Preprocessing: decode.Fingerprint(),
			}
			first, _, err := build.Build(t.Context(), model)
			if err != nil {
				t.Fatal(err)
			}
			cache, err := stages.NewCache(stages.CacheConfig{
				First: first, Every: every, Lag: lag, Builder: build, Embedder: model, Share: 0.5, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			miner, err := stages.NewMiner(stages.MinerConfig{
				Mine:   stages.MineConfig{Loss: triplet, Rule: stages.SemiHard, Seed: 1, Scope: stages.ScopeDataSet},
				Labels: set.labels(), Snapshots: cache,
			})
			if err != nil {
				t.Fatal(err)
			}
			plan, err := stages.NewPlan(stages.PlanConfig{Labels: set.labels(), P: 3, K: 3, Seed: 1, Steps: steps})
			if err != nil {
				t.Fatal(err)
			}
			var got []pipeline.MinedTriplet
			flow := pipeline.From(plan).Prefetch(run%5).Then(&stages.Embed{Cache: cache}, miner, &stages.Fetch{Reader: set}, decode,
				&stages.Loss{Of: loss.Triplets{Loss: triplet, Reduction: loss.MeanNonZero}})
			for b, err := range flow.All(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				for _, tr := range b.Triplets {
					got = append(got, pipeline.MinedTriplet{
						Anchor: b.IDs[tr.Anchor], Positive: b.IDs[tr.Positive], Negative: b.IDs[tr.Negative],
						AP: tr.AP, AN: tr.AN, Loss: tr.Loss, Kind: tr.Kind, Generation: b.Generation, Batch: b.Number,
					})
				}
				model.step(0.05, b.Gradients, b.Pixels)
			}
			if run == 0 {
				want = got
			}
			if !slices.Equal(got, want) || len(got) < steps {
				t.Fatalf("lag %d, run %d: %d triplets, which are not the %d of run 0", lag, run, len(got), len(want))
			}
			if g := got[len(got)-1].Generation; int64(g) != (steps-1)/every-lag {
				t.Fatalf("lag %d: the last triplets are of generation %d", lag, g)
			}
		}
	}
}

// BenchmarkBatchDuringRefresh is the time of a batch, from asking for it to the
// end of a step of the trainer, while a refresh goes on beside it and while none
// does, in one run: p99 in ms, and how many times the latter.
func BenchmarkBatchDuringRefresh(b *testing.B) {
	for _, share := range []float64{0.5, 1} {
		b.Run(fmt.Sprintf("share=%v", share), func(b *testing.B) {
			const side, dim = 32, 64
			set := newRepeated(b, 30)
			newDecode := func() *stages.Decode {
				decode, err := stages.NewDecode(stages.DecodeConfig{Height: side, Width: side, Channels: 1})
				if err != nil {
					b.Fatal(err)
				}
				return decode
			}
			decode := newDecode()
			model := newLinear(side*side, dim, 1)
			build := &stages.Builder{
				Images:  pipeline.Via(pipeline.From(pipeline.Slice(set)), newDecode().Records()),
				Samples: len(set), Preprocessing: decode.Fingerprint(),
			}
			first, _, err := build.Build(b.Context(), model)
			if err != nil {
				b.Fatal(err)
			}
			cache, err := stages.NewCache(stages.CacheConfig{
				First: first, Every: 500, Lag: 1, Builder: build, Embedder: model, Share: share, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				b.Fatal(err)
			}
			triplet := loss.TripletMargin{Margin: 0.2, Distance: loss.SqEuclidean}
			miner, err := stages.NewMiner(stages.MinerConfig{Mine: stages.MineConfig{Loss: triplet, Rule: stages.SemiHard, Seed: 1}})
			if err != nil {
				b.Fatal(err)
			}
			plan, err := stages.NewPlan(stages.PlanConfig{Labels: set.labels(), P: 16, K: 4, Seed: 1, Steps: 1 << 40})
			if err != nil {
				b.Fatal(err)
			}
			next, stop := iter.Pull2(pipeline.From(plan).Prefetch(2).Then(
				&stages.Embed{Cache: cache}, miner, &stages.Fetch{Reader: set}, decode,
				&stages.Loss{Of: loss.Triplets{Loss: triplet, Reduction: loss.MeanNonZero}}).All(b.Context()))
			defer stop()
			emb := pipeline.MakeEmbeddings(64, dim)
			var quiet, busy []float64
			for b.Loop() {
				building := cache.Stats().Building > 0
				start := time.Now()
				batch, err, ok := next()
				if err != nil || !ok {
					b.Fatal(err)
				}
				if err := model.Embed(b.Context(), emb, batch.Pixels[:64*side*side]); err != nil {
					b.Fatal(err)
				}
				model.step(1e-3, batch.Gradients.Slice(0, 64), batch.Pixels)
				took := time.Since(start).Seconds() * 1e3
				if building {
					busy = append(busy, took)
				} else {
					quiet = append(quiet, took)
				}
			}
			if len(busy) < 100 || len(quiet) < 100 {
				return
			}
			p99 := func(x []float64) float64 { slices.Sort(x); return x[len(x)*99/100] }
			b.ReportMetric(p99(quiet), "p99-ms-without")
			b.ReportMetric(p99(busy), "p99-ms-with")
			b.ReportMetric(p99(busy)/p99(quiet), "times")
			b.ReportMetric(100*float64(len(busy))/float64(len(busy)+len(quiet)), "%-refreshing")
			b.ReportMetric(cache.Stats().Took, "s/refresh")
		})
	}
}
