package stages_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// A training loop whose cache stays fresh: the rows that a step computes anyway
// go into the next generation, and when the trainer says so the whole data set
// is embedded anew beside the stream. Generations are kept on disk, so that a
// run that was killed goes on without embedding anything again.
func Example_freshCache() {
	if err := freshCache(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// batch 24 asks for a refresh: generation 3, from batch 40 on
	// 50 batches, 5 generations with new rows, 0 failed
	// reopened behind batch 49: generations 4 and 5
}

func freshCache(ctx context.Context) error {
	set, err := storage.Open(ctx, storage.Config{Paths: []string{"../testdata/glyphs"}})
	if err != nil {
		return err
	}
	defer set.Close()
	dir, err := os.MkdirTemp("", "generations")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	decode, err := stages.NewDecode(stages.DecodeConfig{Height: 16, Width: 16, Channels: 1})
	if err != nil {
		return err
	}
	model := newLinear(16*16, 32, 1)
	build := &stages.Builder{
		Images:        pipeline.Via(pipeline.From[pipeline.Record](set), decode.Records()),
		Samples:       set.Len(),
		Preprocessing: decode.Fingerprint(),
	}
	first, _, err := build.Build(ctx, model)
	if err != nil {
		return err
	}

	triplet := loss.TripletMargin{Margin: 0.2, Distance: loss.SqEuclidean}
	cfg := stages.CacheConfig{
		First: first, Every: 10, Lag: 1, // batch b uses generation b/10 − 1, which is built meanwhile
		Builder: build, Share: 0.5, // on half of the cores, as long as no batch waits for it
		Store: &storage.Generations{Dir: dir, Data: set.Digest()},
		Drift: stages.DriftConfig{Labels: set.Labels(), Loss: triplet},
		Log:   slog.New(slog.DiscardHandler),
	}
	cache, err := stages.NewCache(cfg)
	if err != nil {
		return err
	}
	monitor, err := stages.NewMonitor(stages.MonitorConfig{Loss: triplet, Every: 25, Cache: cache})
	if err != nil {
		return err
	}
	miner, err := stages.NewMiner(stages.MinerConfig{
		Mine: stages.MineConfig{Loss: triplet, Rule: stages.SemiHard, Seed: 1}, Observe: monitor.Observe,
	})
	if err != nil {
		return err
	}
	plan, err := stages.NewPlan(stages.PlanConfig{Labels: set.Labels(), Data: set.Digest(), P: 8, K: 4, Seed: 1, Steps: 50, Config: cache.Fingerprint()})
	if err != nil {
		return err
	}

	var state pipeline.State
	var ws loss.Workspace
	flow := pipeline.From(plan).Prefetch(2).Then(&stages.Embed{Cache: cache}, miner, &stages.Fetch{Reader: set}, decode)
	for b, err := range flow.All(ctx) {
		if err != nil {
			return err
		}
		emb := pipeline.MakeEmbeddings(len(b.IDs), model.Dim())
		if err := model.Embed(ctx, emb, b.Pixels); err != nil {
			return err
		}
		grad := pipeline.MakeEmbeddings(len(b.IDs), model.Dim())
		of := loss.Triplets{Loss: triplet, Reduction: loss.MeanNonZero, Normalise: true}
		got, err := of.Compute(&ws, grad, loss.Input{Embeddings: emb, Labels: b.Labels, IDs: b.IDs, Triplets: b.Triplets})
		if err != nil {
			return err
		}
		model.step(0.1, grad, b.Pixels)
		monitor.Trained(got.Loss)

		// What this step has computed is part of the next generation.
		if err := cache.Update(b.IDs, emb); err != nil {
			return err
		}
		if b.Number == 24 {
			frozen, err := model.Freeze() // weights that change under a refresh cannot be reproduced
			if err != nil {
				return err
			}
			if err := cache.Refresh(frozen); err != nil {
				return err
			}
			g, from := cache.Next()
			fmt.Printf("batch %d asks for a refresh: generation %d, from batch %d on\n", b.Number, g, from)
		}
		state = b.State() // with the weights, a checkpoint
	}
	if _, err := cache.Settled(ctx); err != nil {
		return err
	}
	s, h := cache.Stats(), monitor.Health()
	fmt.Printf("%d batches, %d generations with new rows, %d failed\n", h.Batches, s.Refreshed, s.Failed)

	// Another process: the state, the weights and the store are all it takes.
	reopened, err := stages.ReopenCache(ctx, cfg, state)
	if err != nil {
		return err
	}
	held := reopened.Held()
	fmt.Printf("reopened behind batch %d: generations %d and %d\n", state.Next-1, held[0].Generation, held[1].Generation)
	return nil
}
