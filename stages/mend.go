package stages

import (
	"context"
	"errors"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// Mend is the stage behind a plan that keeps bad rows out of its batches. Every
// other row stays in its batch and slot. Which rows are bad has to be known: a
// [Builder] finds them when it embeds the data set, and [Screen] looks for them.
//
// What a batch becomes depends on the list, so its [BadRows.Digest] belongs into
// [PlanConfig.Config].
type Mend struct {
	Plan *Plan    // the source of the batches
	Bad  *BadRows // complete: rows added while the flow runs may change later batches
	On   OnBad    // FailOnBad makes a bad row in a batch an error
}

// Run implements [pipeline.Stage].
func (m Mend) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- *pipeline.Batch) error {
	if m.Plan == nil {
		return errors.New("stages: Mend.Plan is nil, want the plan that the batches come from")
	}
	bad := make(map[int64]pipeline.BadRow)
	for _, r := range m.Bad.Rows() {
		bad[r.ID] = r
	}
	var next []int64
	for b, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		for i, id := range b.IDs[:b.P*b.K] {
			row, ok := bad[id]
			switch {
			case !ok:
				continue
			case m.On == FailOnBad:
				return &pipeline.RowError{Location: row.Location, Err: errors.New(row.Reason)}
			case m.On == SubstituteBad:
				next = m.Plan.following(b.Number, i/b.K, next[:0])
				own := b.IDs[i/b.K*b.K : (i/b.K+1)*b.K]
				if next, ok := substitute(next, own, bad); ok {
					b.IDs[i] = next
					continue
				}
			}
			b.Labels[i] = pipeline.Unknown
		}
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}

// substitute is the first of next that is neither bad nor one of own, the
// batch's images of the class. Where the class has no such image it is the first
// good one: a class too small for its slots repeats images anyhow.
func substitute(next, own []int64, bad map[int64]pipeline.BadRow) (id int64, ok bool) {
	for _, candidate := range next {
		if _, b := bad[candidate]; b {
			continue
		}
		if !slices.Contains(own, candidate) {
			return candidate, true
		}
		if !ok {
			id, ok = candidate, true
		}
	}
	return id, ok
}

// substitutes is how many hands of a class are looked through for a substitute.
const substitutes = 4

// following appends to dst the images of the class at place i of batch b (0 to
// P−1) that the plan deals after those of the batch: the class's next four hands.
// Over windows it is all others of the class in the window, first those that the
// epoch leaves out.
func (p *Plan) following(b int64, i int, dst []int64) []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.windows != nil {
		return p.windows.following(b, i, dst)
	}
	classes := int64(p.report.Planned)
	place := b*int64(p.cfg.P) + int64(i)
	deck := deck{n: classes, w: int64(p.cfg.P), stage: "class", seed: p.cfg.Seed}
	p.hand = p.dealer.deal(0, &deck, b, p.hand[:0])
	j := p.hand[i]
	members := p.membersOf(j)
	deck.n, deck.w, deck.stage, deck.class = int64(len(members)), int64(p.cfg.K), "image", p.numbers[j]
	for k := range int64(substitutes) {
		p.images = p.dealer.deal(1+int(j), &deck, place/classes+1+k, p.images[:0])
		for _, m := range p.images {
			dst = append(dst, int64(members[m]))
		}
	}
	return dst
}
