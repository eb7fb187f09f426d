package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// A mining is how triplets are mined from a data set: in stretches that are kept
// in parts, and then settled into those of the file.
type mining struct {
	stretches func(next int64) (pipeline.Flow[stages.Stretch], error) // from one's Next on
	settle    func(kept pipeline.Flow[pipeline.MinedTriplet], sum stages.MineReport) pipeline.Flow[pipeline.MinedTriplet]
	report    func() stages.MineReport // when the flow that settle made has ended
	end       func()                   // of the progress
}

// mined describes the mining; nothing runs yet.
func (j *mineJob) mined(set *storage.Dataset, emb *embedded) (*mining, error) {
	if j.mine.Scope == stages.ScopeBatch {
		return j.minedInBatches(set, emb)
	}
	scan, err := stages.NewScan(stages.ScanConfig{
		Screen: j.screen,
		Mine:   j.mine, Embeddings: emb.Embeddings, Labels: j.bad.Labels(set.Labels()), Same: emb.same, Groups: set.Groups(),
		BarePairs: j.flags.emit == "pairs", Workers: j.flags.workers, Meter: j.meter,
	})
	if err != nil {
		return nil, err
	}
	done := new(place)
	p := startProgress(j.stderr, "mine", int64(set.Len()), done.Load)
	return &mining{
		stretches: func(next int64) (pipeline.Flow[stages.Stretch], error) {
			done.Store(next)
			return pipeline.From(scan.Stretches(int(next))).Then(done), nil
		},
		settle: func(kept pipeline.Flow[pipeline.MinedTriplet], sum stages.MineReport) pipeline.Flow[pipeline.MinedTriplet] {
			return pipeline.Via(kept, scan.Settle(sum))
		},
		report: scan.Report, end: p.end,
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
	var report stages.MineReport
	done := new(place)
	p := startProgress(j.stderr, "mine", j.plan.Steps(), done.Load)
	return &mining{
		stretches: func(next int64) (pipeline.Flow[stages.Stretch], error) {
			if j.plan.Steps()-next < int64(j.flags.world) { // the last part is all that is missing
				return pipeline.From(pipeline.Slice([]stages.Stretch(nil))), nil
			}
			state := j.plan.State()
			state.Next = next
			plan, err := j.plan.At(state)
			if err != nil {
				return pipeline.Flow[stages.Stretch]{}, err
			}
			done.Store(next)
			return pipeline.Via(pipeline.From(plan).Then(stages.Mend{Plan: plan, Bad: j.bad, On: j.flags.policy}, &stages.Embed{Cache: cache}), miner.Stretches()).Then(done), nil
		},
		settle: func(kept pipeline.Flow[pipeline.MinedTriplet], sum stages.MineReport) pipeline.Flow[pipeline.MinedTriplet] {
			report = sum // the batches have settled theirs
			return kept
		},
		report: func() stages.MineReport { return report }, end: p.end,
	}, nil
}

// place is a stage that remembers how far the stretches that went by have come.
type place struct{ atomic.Int64 }

// Run implements [pipeline.Stage].
func (p *place) Run(ctx context.Context, in <-chan stages.Stretch, out chan<- stages.Stretch) error {
	for s, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		if err := pipeline.Send(ctx, out, s); err != nil {
			return err
		}
		p.Store(s.Next)
	}
	return nil
}

// newPlan is the plan of batch scope.
func (j *mineJob) newPlan(ctx context.Context, set *storage.Dataset) (*stages.Plan, error) {
	cfg, err := j.flags.planFlags.config(ctx, set, &j.flags.dataFlags)
	if err != nil {
		return nil, err
	}
	cfg.Seed, cfg.Steps, cfg.Config = j.flags.seed, j.flags.batches, pipeline.Digest("mine", j.mine)
	cfg.Rank, cfg.World = j.flags.rank, j.flags.world
	return stages.NewPlan(cfg)
}

// write mines, writes the file and says what it holds.
func (j *mineJob) write(ctx context.Context, set *storage.Dataset, emb *embedded, job *storage.Job, watched *health) (*summary, error) {
	m, err := j.mined(set, emb)
	if err != nil {
		return nil, err
	}
	defer m.end()
	cfg := storage.TripletConfig{Path: j.flags.out, Overwrite: j.flags.overwrite, Meta: j.meta(set, emb)}
	if done, rows, counts, err := j.there(cfg.Meta); done || err != nil {
		return j.foundThere(cfg.Meta, rows, counts), err
	}
	if err := watched.watch(m, emb, cfg.Meta); err != nil {
		return nil, err
	}
	mark, err := m.mineParts(ctx, job, j.minedFrom(emb))
	if err != nil {
		return nil, err
	}
	triplets := m.settle(pipeline.From(storage.Minings{Job: job}).Prefetch(atOnce), mark.Report)
	var rows int64
	if j.flags.emit == "pairs" {
		rows, err = j.writePairs(ctx, cfg, m, triplets)
	} else {
		rows, err = j.writeTriplets(ctx, cfg, m, triplets, set)
	}
	if err != nil {
		return nil, err
	}
	watched.settled(j.mine.Scope, m.report())
	return j.summarise(set, emb, m.report(), cfg.Meta, rows), nil
}

// atOnce is how many rows are handed to a writer at a time.
const atOnce = 1024

func (j *mineJob) writeTriplets(ctx context.Context, cfg storage.TripletConfig, m *mining, triplets pipeline.Flow[pipeline.MinedTriplet], set *storage.Dataset) (int64, error) {
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
	return finish(ctx, triplets, w, m)
}

func (j *mineJob) writePairs(ctx context.Context, cfg storage.TripletConfig, m *mining, triplets pipeline.Flow[pipeline.MinedTriplet]) (int64, error) {
	w, err := storage.NewPairWriter(cfg)
	if err != nil {
		return 0, err
	}
	defer w.Abort()
	pairs := pipeline.Via(triplets, stages.Pairs{
		Loss: loss.Contrastive{Margin: j.flags.pairMargin, Distance: loss.Euclidean}, Distance: j.mine.Loss.Distance,
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
func (j *mineJob) meta(set *storage.Dataset, emb *embedded) pipeline.TripletMeta {
	meta := j.planned(set)
	meta.Normalised, meta.Embedder, meta.Fingerprint, meta.Dim = emb.Normalised, emb.name, emb.Fingerprint, emb.Embeddings.Dim
	meta.ImageSize = sizeText(emb.size)
	if j.bad != nil {
		meta.BadRows = int64(j.bad.Len())
	}
	return meta
}

// planned is what of that is known before anything is embedded.
func (j *mineJob) planned(set *storage.Dataset) pipeline.TripletMeta {
	meta := j.described()
	meta.DataDigest, meta.Rows, meta.Classes = set.Digest(), int64(set.Len()), len(classesOf(set))
	if j.bad != nil {
		meta.OnBadRow = j.flags.policy.String()
	}
	if j.plan != nil {
		meta.P, meta.K, meta.Batches, meta.Short = j.flags.p, j.flags.k, j.plan.PerRank(), j.short.String()
		if w, ok := j.plan.Windows(0); ok {
			meta.Window = w.Budget
		}
		if j.flags.world > 1 {
			meta.Rank, meta.World = j.flags.rank, j.flags.world
		}
	}
	return meta
}

// described is what of that the flags say.
func (j *mineJob) described() pipeline.TripletMeta {
	s := j.mine
	meta := pipeline.TripletMeta{
		FormatVersion: storage.TripletFormat, Content: j.flags.emit, Scope: s.Scope.String(), Rule: s.Rule.String(), Pick: s.Pick.String(),
		PerPair: s.PerPair, Candidates: s.Candidates, Positives: s.Positives, PositivesBy: s.PositivesBy.String(),
		Loss: "triplet", Margin: s.Loss.Margin, Distance: s.Loss.Distance.String(), Seed: s.Seed,
		Guards: s.Guards.Names(),
	}
	if j.flags.emit == "pairs" {
		meta.Loss, meta.PairMargin, meta.PairLabels = "contrastive", j.flags.pairMargin, storage.PairLabels
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
	if j.goesOnBehind() {
		return nil
	}
	if err := j.tryOutput(); err != nil {
		return err
	}
	if _, err := os.Lstat(j.flags.badRows); j.bad != nil && !(err == nil && j.flags.resume) {
		draft, err := storage.NewDraft(storage.OS, j.flags.badRows, j.flags.overwrite)
		if err != nil {
			return fmt.Errorf("--bad-rows: %w", err)
		}
		draft.Abort()
	}
	if _, err := os.Lstat(j.flags.saveEmbeddings); j.flags.saveEmbeddings == "" || err == nil && j.flags.resume {
		return nil // save looks whether it is ours
	}
	draft, err := storage.NewDraft(storage.OS, j.flags.saveEmbeddings, j.flags.overwrite)
	if err != nil {
		return fmt.Errorf("--save-embeddings: %w", err)
	}
	draft.Abort()
	return nil
}

// tryOutput is tryOutputs for the file alone.
func (j *mineJob) tryOutput() error {
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
