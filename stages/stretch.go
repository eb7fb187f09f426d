package stages

import (
	"context"

	"github.com/tercet-ml/tercet/pipeline"
)

// A Stretch is what some anchors of a [Scan], or one batch of a [Miner], have
// been given: a piece of mining that can be kept, and gone on behind. The
// stretches of a job one after another are all of it, wherever they are cut.
type Stretch struct {
	Next     int64                   // the anchor, or State.Next, that the next stretch begins at
	Triplets []pipeline.MinedTriplet // in file order; of a Scan not yet settled: see [Scan.Settle]
	Report   MineReport              // of these anchors or this batch; of a Scan without what Settle counts
}

// Stretches are the stretches of the anchors from … on.
func (s *Scan) Stretches(from int) pipeline.Source[Stretch] { return stretches{s, from} }

type stretches struct {
	*Scan
	from int
}

// Run implements [pipeline.Source].
func (s stretches) Run(ctx context.Context, out chan<- Stretch) error {
	var starts []int
	for start := s.from; start < len(s.cfg.Labels); start += s.cfg.Block {
		starts = append(starts, start)
	}
	for st, err := range pipeline.Via(pipeline.From(pipeline.Slice(starts)), scanStage{s.Scan}).All(ctx) {
		if err != nil {
			return err
		}
		if err := pipeline.Send(ctx, out, st); err != nil {
			return err
		}
	}
	return nil
}

// Settle is the stage that makes of the triplets of all stretches, one after
// another from the first anchor on, those of the file: it numbers them and
// applies the caps. stretches is the sum of their reports; behind the last
// triplet, [Scan.Report] is that of the whole.
func (s *Scan) Settle(stretches MineReport) pipeline.Stage[pipeline.MinedTriplet, pipeline.MinedTriplet] {
	return settleStage{s, stretches}
}

type settleStage struct {
	*Scan
	stretches MineReport
}

// Run implements [pipeline.Stage].
func (s settleStage) Run(ctx context.Context, in <-chan pipeline.MinedTriplet, out chan<- pipeline.MinedTriplet) error {
	done, err := s.settler(ctx)
	if err != nil {
		return err
	}
	defer done.end()
	done.report.Add(&s.stretches)
	for t, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		if done.settle(&t) {
			if err := pipeline.Send(ctx, out, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// A settler goes over the triplets of a whole scan, in order.
type settler struct {
	scan   *Scan
	report MineReport
	ranks  ranker
	caps   *caps
}

func (s *Scan) settler(ctx context.Context) (*settler, error) {
	d := &settler{scan: s, report: s.counts, caps: newCaps(s.cfg.Mine.Guards)}
	var err error
	d.report.BandWhole, d.report.BandSeen, err = s.see(ctx)
	return d, err
}

// settle numbers and counts t, or reports that a cap keeps it out.
func (s *settler) settle(t *pipeline.MinedTriplet) bool {
	if t.Negative < 0 {
		return true // a bare pair
	}
	if !s.caps.admits(t.Anchor, t.Negative, t.NegativeLabel, &s.report.Guarded) {
		return false
	}
	t.Rank = s.ranks.next(t.Anchor, t.Positive)
	s.report.triplet(t.AP, t.AN, t.Kind)
	return true
}

// end makes the report the scan's.
func (s *settler) end() {
	s.scan.mu.Lock()
	defer s.scan.mu.Unlock()
	s.scan.report = s.report
}

// Stretches is the miner as a stage that hands on what each batch was given, by
// sample id as [Mined] does, in place of the batch.
func (m *Miner) Stretches() pipeline.Stage[*pipeline.Batch, Stretch] { return minerStretches{m} }

type minerStretches struct{ *Miner }

// Run implements [pipeline.Stage].
func (m minerStretches) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- Stretch) error {
	return m.run(ctx, in, func(b *pipeline.Batch, r *MineReport) error {
		return pipeline.Send(ctx, out, Stretch{Next: b.State().Next, Triplets: appendMined(nil, b), Report: *r})
	})
}
