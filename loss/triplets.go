package loss

import (
	"errors"
	"fmt"

	"github.com/tercet-ml/tercet/pipeline"
)

// Triplets is a loss over the triplets of Input.Triplets, such as a miner has
// chosen. Each is an item.
type Triplets struct {
	Loss      TripletLoss // required
	Reduction Reduction   // default Mean
	Normalise bool        // scale rows to length 1 first, and take the gradient back through that; Cosine always does
}

// Compute implements [Loss].
func (l Triplets) Compute(ws *Workspace, grad pipeline.Embeddings, in Input) (pipeline.LossStats, error) {
	return ws.compute(grad, in, l.eval)
}

func (l Triplets) eval(ws *Workspace, in Input) (pipeline.LossStats, error) {
	if err := ws.prepare(l.Loss, l.Reduction, l.Normalise, in); err != nil {
		return pipeline.LossStats{}, err
	}
	var t tally
	d, rows := l.Loss.metric(), in.Embeddings.Len()
	for i, tr := range in.Triplets {
		a, p, n := int(tr.Anchor), int(tr.Positive), int(tr.Negative)
		if min(a, p, n) < 0 || max(a, p, n) >= rows {
			return pipeline.LossStats{}, fmt.Errorf("loss: triplet %d is (%d, %d, %d) in a batch of %d rows", i, a, p, n, rows)
		}
		ap, an := ws.distance(d, a, p), ws.distance(d, a, n)
		slope := t.triplet(ws, l.Loss, l.Reduction, ap, an)
		ws.pull(d, a, p, ap, slope)
		ws.pull(d, a, n, an, -slope)
	}
	return t.finish(ws, l.Reduction, in, t.stats.Count, t.stats.Count), nil
}

// prepare checks the settings of a loss over triplets and normalises the rows
// where they or the distance ask for it.
func (ws *Workspace) prepare(l TripletLoss, r Reduction, normalise bool, in Input) error {
	if l == nil {
		return errors.New("loss: no TripletLoss given, want TripletMargin or TripletSoftMargin")
	}
	if err := l.check(); err != nil {
		return err
	}
	if r > None {
		return fmt.Errorf("loss: unknown reduction %v", r)
	}
	if normalise || l.metric() == Cosine {
		return ws.normalise(in)
	}
	return nil
}
