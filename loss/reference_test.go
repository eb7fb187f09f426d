package loss

import (
	"math"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// The definitions, written for reading alone: float64 rows, every triplet listed.

// An item is one triplet, or one pair with an the distance of a pair of two classes.
type item struct {
	loss, ap, an float64
	same         bool
}

func refDistance(d Distance, x, y []float64) float64 {
	var sq, xy, xx, yy float64
	for k := range x {
		sq += (x[k] - y[k]) * (x[k] - y[k])
		xy += x[k] * y[k]
		xx += x[k] * x[k]
		yy += y[k] * y[k]
	}
	switch d {
	case SqEuclidean:
		return sq
	case Euclidean:
		return math.Sqrt(sq)
	default:
		return 1 - xy/math.Sqrt(xx*yy)
	}
}

func refNormalise(rows [][]float64) [][]float64 {
	var unit [][]float64
	for _, x := range rows {
		norm := refDistance(Euclidean, x, make([]float64, len(x)))
		z := slices.Clone(x)
		for k := range z {
			z[k] /= norm
		}
		unit = append(unit, z)
	}
	return unit
}

// valid are the valid triplets of a batch, in order of anchor, positive, negative.
func valid(in Input) []pipeline.Triplet {
	var triplets []pipeline.Triplet
	known := func(i int) bool { return in.Labels[i] != pipeline.Unknown }
	for a := range in.Labels {
		for p := range in.Labels {
			for n := range in.Labels {
				sameImage := a == p || in.IDs != nil && in.IDs[a] == in.IDs[p]
				if known(a) && known(n) && !sameImage && in.Labels[a] == in.Labels[p] && in.Labels[a] != in.Labels[n] {
					triplets = append(triplets, pipeline.Triplet{Anchor: int32(a), Positive: int32(p), Negative: int32(n)})
				}
			}
		}
	}
	return triplets
}

func refTriplet(l TripletLoss, rows [][]float64, t pipeline.Triplet) item {
	d := l.metric()
	ap := refDistance(d, rows[t.Anchor], rows[t.Positive])
	an := refDistance(d, rows[t.Anchor], rows[t.Negative])
	switch l := l.(type) {
	case TripletMargin:
		return item{loss: max(0, l.Margin+ap-an), ap: ap, an: an}
	case TripletSoftMargin:
		return item{loss: math.Log(1 + math.Exp(ap-an)), ap: ap, an: an}
	}
	panic("unknown loss")
}

// reference lists the items of a loss.
func reference(l Loss, rows [][]float64, in Input) (items []item) {
	switch l := l.(type) {
	case Triplets:
		if l.Normalise {
			rows = refNormalise(rows)
		}
		for _, t := range in.Triplets {
			items = append(items, refTriplet(l.Loss, rows, t))
		}
	case BatchAll:
		if l.Normalise {
			rows = refNormalise(rows)
		}
		for _, t := range valid(in) {
			items = append(items, refTriplet(l.Loss, rows, t))
		}
	case BatchHard:
		if l.Normalise {
			rows = refNormalise(rows)
		}
		hardest := map[int32]item{}
		for _, t := range valid(in) {
			it := refTriplet(l.Loss, rows, t)
			if h, ok := hardest[t.Anchor]; ok {
				it.ap, it.an = max(it.ap, h.ap), min(it.an, h.an)
			}
			hardest[t.Anchor] = it
		}
		for a := range int32(len(rows)) {
			if it, ok := hardest[a]; ok {
				it.loss = l.Loss.Of(it.ap, it.an)
				items = append(items, it)
			}
		}
	case Contrastive:
		if l.Normalise {
			rows = refNormalise(rows)
		}
		pairs := in.Pairs
		if pairs == nil {
			pairs = allPairs(in, l.Labels)
		}
		for _, p := range pairs {
			d := refDistance(l.Distance, rows[p.Left], rows[p.Right])
			y := float64(p.Label) // 0 same, 1 different
			if l.Labels == OneSame {
				y = 1 - y
			}
			loss := y*math.Pow(max(0, l.Margin-d), 2) + (1-y)*d*d
			if !l.NoHalf {
				loss /= 2
			}
			items = append(items, item{loss: loss, ap: (1 - y) * d, an: y * d, same: y == 0})
		}
	}
	return items
}

func allPairs(in Input, labels PairLabels) (pairs []Pair) {
	for i, x := range in.Labels {
		for j, y := range in.Labels[:i] {
			if x == pipeline.Unknown || y == pipeline.Unknown || in.IDs != nil && in.IDs[i] == in.IDs[j] {
				continue
			}
			pairs = append(pairs, Pair{Left: int32(j), Right: int32(i), Label: btoi((x == y) == (labels == OneSame))})
		}
	}
	slices.SortFunc(pairs, func(p, q Pair) int { return int(p.Left-q.Left)*1000 + int(p.Right-q.Right) })
	return pairs
}

func btoi(b bool) int8 {
	if b {
		return 1
	}
	return 0
}

// reduce is the reduced loss of items.
func reduce(r Reduction, items []item) float64 {
	var sum float64
	var active int
	for _, it := range items {
		sum += it.loss
		if it.loss > 0 {
			active++
		}
	}
	switch {
	case r == Mean && len(items) > 0:
		return sum / float64(len(items))
	case r == MeanNonZero && active > 0:
		return sum / float64(active)
	}
	return sum
}

// refStats are the statistics of items but for Empty.
func refStats(l Loss, items []item) pipeline.LossStats {
	s := pipeline.LossStats{Loss: reduce(reductionOf(l), items), Count: len(items)}
	positives, negatives := 0, 0
	_, pairs := l.(Contrastive)
	for _, it := range items {
		s.MeanAP += it.ap
		s.MeanAN += it.an
		if it.loss > 0 {
			s.Active++
		}
		if !pairs || it.same {
			positives++
		}
		if !pairs || !it.same {
			negatives++
		}
		if pairs {
			continue
		}
		margin, _ := tripletLossOf(l).(TripletMargin)
		switch {
		case it.an <= it.ap:
			s.Hard++
		case it.an < it.ap+margin.Margin:
			s.SemiHard++
		default:
			s.Easy++
		}
	}
	s.MeanAP /= float64(max(1, positives))
	s.MeanAN /= float64(max(1, negatives))
	return s
}

func tripletLossOf(l Loss) TripletLoss {
	switch l := l.(type) {
	case Triplets:
		return l.Loss
	case BatchAll:
		return l.Loss
	case BatchHard:
		return l.Loss
	}
	return nil
}

func reductionOf(l Loss) Reduction {
	switch l := l.(type) {
	case Triplets:
		return l.Reduction
	case BatchAll:
		return l.Reduction
	case BatchHard:
		return l.Reduction
	case Contrastive:
		return l.Reduction
	}
	panic("unknown loss")
}
