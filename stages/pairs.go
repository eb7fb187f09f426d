package stages

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// Mined turns batches into their triplets by sample id, for a triplet file: a
// batch after the other, each by anchor, positive and rank. Where an image is
// in a batch twice, the triplets that say the same thing are one.
type Mined struct{}

// Run implements [pipeline.Stage].
func (Mined) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- pipeline.MinedTriplet) error {
	var list []pipeline.MinedTriplet
	for b, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		list = appendMined(list[:0], b)
		for _, t := range list {
			if err := pipeline.Send(ctx, out, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// appendMined appends the triplets of b in file order.
func appendMined(list []pipeline.MinedTriplet, b *pipeline.Batch) []pipeline.MinedTriplet {
	for i, t := range b.Triplets {
		negative, label := int64(-1), pipeline.Unknown
		if t.Negative >= 0 {
			negative, label = b.IDs[t.Negative], b.Labels[t.Negative]
		}
		list = append(list, pipeline.MinedTriplet{
			Anchor: b.IDs[t.Anchor], Positive: b.IDs[t.Positive], Negative: negative,
			AnchorLabel: b.Labels[t.Anchor], PositiveLabel: b.Labels[t.Positive], NegativeLabel: label,
			AP: t.AP, AN: t.AN, Loss: t.Loss, Kind: t.Kind, Generation: b.Generation, Batch: b.Number,
			Rank: int32(i), // its place, for now: what a pair has is in order
		})
	}
	type triplet = pipeline.MinedTriplet
	slices.SortFunc(list, func(x, y triplet) int {
		return cmp.Or(cmp.Compare(x.Anchor, y.Anchor), cmp.Compare(x.Positive, y.Positive), cmp.Compare(x.Negative, y.Negative), cmp.Compare(x.Rank, y.Rank))
	})
	list = slices.CompactFunc(list, func(x, y triplet) bool {
		return x.Anchor == y.Anchor && x.Positive == y.Positive && x.Negative == y.Negative
	})
	slices.SortFunc(list, func(x, y triplet) int {
		return cmp.Or(cmp.Compare(x.Anchor, y.Anchor), cmp.Compare(x.Positive, y.Positive), cmp.Compare(x.Rank, y.Rank))
	})
	var ranks ranker
	for i := range list {
		list[i].Rank = ranks.next(list[i].Anchor, list[i].Positive)
	}
	return list
}

// A ranker numbers the triplets of each pair from 0, given them in file order.
type ranker struct {
	anchor, positive int64
	after            int32
}

func (r *ranker) next(anchor, positive int64) int32 {
	if anchor != r.anchor || positive != r.positive {
		*r = ranker{anchor: anchor, positive: positive}
	}
	r.after++
	return r.after - 1
}

// Pairs turns triplets in file order into pairs for the contrastive loss: of
// each anchor first its positives, then its negatives, each once and by
// ascending id. A pair of an anchor and a positive that were given no negative
// is among them when the triplets were mined with BarePairs.
type Pairs struct {
	Loss     loss.Contrastive // for the loss of each pair: Margin, Distance and NoHalf
	Distance loss.Distance    // of the triplets; a pair's distance is in its unit
}

// Run implements [pipeline.Stage].
func (p Pairs) Run(ctx context.Context, in <-chan pipeline.MinedTriplet, out chan<- pipeline.MinedPair) error {
	var group []pipeline.MinedPair // of one anchor
	flush := func() error {
		slices.SortFunc(group, func(x, y pipeline.MinedPair) int {
			return cmp.Or(cmp.Compare(x.Label, y.Label), cmp.Compare(x.Right, y.Right))
		})
		group = slices.CompactFunc(group, func(x, y pipeline.MinedPair) bool { return x.Label == y.Label && x.Right == y.Right })
		for _, pair := range group {
			if err := pipeline.Send(ctx, out, pair); err != nil {
				return err
			}
		}
		group = group[:0]
		return nil
	}
	for t, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		if len(group) > 0 && (group[0].Left != t.Anchor || group[0].Batch != t.Batch) {
			if err := flush(); err != nil {
				return err
			}
		}
		group = append(group, p.pair(t, t.Positive, 0, t.AP))
		if t.Negative >= 0 {
			group = append(group, p.pair(t, t.Negative, 1, t.AN))
		}
	}
	return flush()
}

func (p Pairs) pair(t pipeline.MinedTriplet, right int64, label int8, d float32) pipeline.MinedPair {
	return pipeline.MinedPair{
		Left: t.Anchor, Right: right, Label: label, Distance: d,
		Loss: float32(p.Loss.Of(convert(float64(d), p.Distance, p.Loss.Distance), label == 0)), Batch: t.Batch,
	}
}

// convert is a distance between rows of length 1 in the unit of another.
func convert(d float64, from, to loss.Distance) float64 {
	if from == to {
		return d
	}
	switch from { // to ‖x−y‖²
	case loss.Euclidean:
		d *= d
	case loss.Cosine:
		d *= 2
	}
	switch to {
	case loss.Euclidean:
		return math.Sqrt(max(d, 0))
	case loss.Cosine:
		return d / 2
	}
	return d
}
