package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// A mining is what is mined from a data set: triplets in file order, and what
// is known of them when they have all been read.
type mining struct {
	triplets pipeline.Flow[pipeline.MinedTriplet]
	settings stages.MineConfig
	report   func() stages.MineReport
	end      func()
}

// mined describes the mining; nothing runs yet.
func (j *mineJob) mined(set *storage.Dataset, emb *embedded) (*mining, error) {
	if j.mine.Scope == stages.ScopeBatch {
		return j.minedInBatches(set, emb)
	}
	done := new(counter[int])
	scan, err := stages.NewScan(stages.ScanConfig{
		Mine: j.mine, Embeddings: emb.Embeddings, Labels: j.bad.Labels(set.Labels()), Same: emb.same, Groups: set.Groups(),
		BarePairs: j.flags.emit == "pairs", Workers: j.flags.workers, Meter: j.meter,
		Progress: func(n, _ int) { done.Store(int64(n)) },
	})
	if err != nil {
		return nil, err
	}
	p := startProgress(j.stderr, "mine", int64(set.Len()), done.Load)
	return &mining{
		triplets: pipeline.From(scan).Prefetch(1024), settings: scan.Settings(), report: scan.Report, end: p.end,
	}, nil
}

func (j *mineJob) minedInBatches(set *storage.Dataset, emb *embedded) (*mining, error) {
	cache, err := stages.NewCache(stages.CacheConfig{First: emb.Snapshot})
	if err != nil {
		return nil, err
	}
	miner, err := stages.NewMiner(stages.MinerConfig{Mine: j.mine, Same: emb.same, Groups: set.Groups(), BarePairs: j.flags.emit == "pairs", Meter: j.meter})
	if err != nil {
		return nil, err
	}
	batches := pipeline.From(j.plan).Then(stages.Mend{Plan: j.plan, Bad: j.bad, On: j.flags.policy}, &stages.Embed{Cache: cache}, miner)
	batches, end := watch(j.stderr, "mine", batches, int(j.plan.PerRank()))
	return &mining{
		triplets: pipeline.Via(batches, stages.Mined{}), settings: miner.Settings(), report: miner.Report, end: end,
	}, nil
}

// newPlan is the plan of batch scope.
func (j *mineJob) newPlan(set *storage.Dataset) (*stages.Plan, error) {
	return stages.NewPlan(stages.PlanConfig{
		Labels: set.Labels(), Data: set.Digest(), P: j.flags.p, K: j.flags.k, Short: j.short,
		Seed: j.flags.seed, Steps: j.flags.batches, Config: pipeline.Digest("mine", j.mine),
		Rank: j.flags.rank, World: j.flags.world,
	})
}

// write mines, writes the file and says what it holds.
func (j *mineJob) write(ctx context.Context, set *storage.Dataset, emb *embedded) (*summary, error) {
	m, err := j.mined(set, emb)
	if err != nil {
		return nil, err
	}
	defer m.end()
	cfg := storage.TripletConfig{Path: j.flags.out, Overwrite: j.flags.overwrite, Meta: j.meta(set, emb, m)}
	var rows int64
	if j.flags.emit == "pairs" {
		rows, err = j.writePairs(ctx, cfg, m)
	} else {
		rows, err = j.writeTriplets(ctx, cfg, m, set)
	}
	if err != nil {
		return nil, err
	}
	return j.summarise(set, emb, m.report(), cfg.Meta, rows), nil
}

// atOnce is how many rows are handed to a writer at a time.
const atOnce = 1024

func (j *mineJob) writeTriplets(ctx context.Context, cfg storage.TripletConfig, m *mining, set *storage.Dataset) (int64, error) {
	paths, err := set.Paths(ctx)
	if err != nil {
		return 0, err
	}
	if paths != nil {
		cfg.SamplePath = func(id int64) string { return paths[id] }
	}
	w, err := storage.NewTripletWriter(cfg)
	if err != nil {
		return 0, err
	}
	defer w.Abort()
	return finish(ctx, m.triplets, w, m)
}

func (j *mineJob) writePairs(ctx context.Context, cfg storage.TripletConfig, m *mining) (int64, error) {
	w, err := storage.NewPairWriter(cfg)
	if err != nil {
		return 0, err
	}
	defer w.Abort()
	l := m.settings.Loss
	pairs := pipeline.Via(m.triplets, stages.Pairs{
		Loss: loss.Contrastive{Margin: j.flags.pairMargin, Distance: loss.Euclidean}, Distance: l.Distance,
	})
	return finish(ctx, pairs, w, m)
}

// finish writes all values of a flow, then what was counted on the way, and
// gives the file its name.
func finish[T any](ctx context.Context, f pipeline.Flow[T], w interface {
	Write([]T) error
	Close(counts map[string]int64) error
}, m *mining) (rows int64, err error) {
	if rows, err = drain(ctx, f, w.Write); err != nil {
		return 0, err
	}
	report := m.report()
	counts := report.Counts()
	counts["rows"] = rows // fewer than triplets where a batch repeats an image
	return rows, w.Close(counts)
}

// drain hands the values of a flow to write, some at a time.
func drain[T any](ctx context.Context, f pipeline.Flow[T], write func([]T) error) (rows int64, err error) {
	buffer := make([]T, 0, atOnce)
	for v, err := range f.All(ctx) {
		if err != nil {
			return rows, err
		}
		rows++
		if buffer = append(buffer, v); len(buffer) == atOnce {
			if err := write(buffer); err != nil {
				return rows, err
			}
			buffer = buffer[:0]
		}
	}
	return rows, write(buffer)
}

// meta is what the file says of itself.
func (j *mineJob) meta(set *storage.Dataset, emb *embedded, m *mining) pipeline.TripletMeta {
	s := m.settings
	meta := pipeline.TripletMeta{
		FormatVersion: storage.TripletFormat, Content: j.flags.emit, Scope: s.Scope.String(), Rule: s.Rule.String(), Pick: s.Pick.String(),
		PerPair: s.PerPair, Positives: s.Positives, PositivesBy: s.PositivesBy.String(),
		Loss: "triplet", Margin: s.Loss.Margin, Distance: s.Loss.Distance.String(), Normalised: emb.Normalised, Seed: s.Seed,
		Embedder: emb.name, Fingerprint: emb.Fingerprint, Dim: emb.Embeddings.Dim,
		DataDigest: set.Digest(), Rows: int64(set.Len()), Classes: len(classesOf(set)), Guards: s.Guards.Names(),
	}
	if j.flags.emit == "pairs" {
		meta.Loss, meta.PairMargin, meta.PairLabels = "contrastive", j.flags.pairMargin, storage.PairLabels
	}
	if z := emb.size; z.Len() > 0 {
		meta.ImageSize = fmt.Sprintf("%dx%dx%d", z.H, z.W, z.C)
	}
	if j.bad != nil {
		meta.OnBadRow, meta.BadRows = j.flags.policy.String(), int64(j.bad.Len())
	}
	if j.plan != nil {
		meta.P, meta.K, meta.Batches, meta.Short = j.flags.p, j.flags.k, j.plan.PerRank(), j.short.String()
		if j.flags.world > 1 {
			meta.Rank, meta.World = j.flags.rank, j.flags.world
		}
	}
	return meta
}

// tryOutputs refuses outputs that exist or cannot be made, before any work is
// done for them.
func (j *mineJob) tryOutputs(set *storage.Dataset) error {
	if err := notOf(set, "--output", j.flags.out); err != nil {
		return err
	}
	if err := notOf(set, "--save-embeddings", j.flags.saveEmbeddings); err != nil {
		return err
	}
	w, err := storage.NewTripletWriter(storage.TripletConfig{
		Path: j.flags.out, Overwrite: j.flags.overwrite, Meta: pipeline.TripletMeta{Scope: j.mine.Scope.String()},
	})
	if errors.Is(err, storage.ErrUnsupported) {
		return usagef("--output: %w", err)
	}
	if err != nil {
		return err
	}
	w.Abort()
	if j.bad != nil {
		draft, err := storage.NewDraft(storage.OS, j.flags.badRows, j.flags.overwrite)
		if err != nil {
			return fmt.Errorf("--bad-rows: %w", err)
		}
		draft.Abort()
	}
	if j.flags.saveEmbeddings == "" {
		return nil
	}
	draft, err := storage.NewDraft(storage.OS, j.flags.saveEmbeddings, j.flags.overwrite)
	if err != nil {
		return fmt.Errorf("--save-embeddings: %w", err)
	}
	draft.Abort()
	return nil
}

// notOf refuses an output that is one of the files it is made from, under
// whatever name: --overwrite is not meant for those.
func notOf(set *storage.Dataset, flag, output string) error {
	out, err := os.Stat(output)
	if err != nil {
		return nil // it is not there, or whoever writes it will say
	}
	for _, shard := range set.Info().Shards {
		if in, err := os.Stat(shard.Path); err == nil && os.SameFile(in, out) {
			return usagef("%s: %s is a file of the data set: write to another name", flag, output)
		}
	}
	return nil
}
