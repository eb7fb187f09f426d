package loss

import (
	"cmp"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// BatchAll is the loss of every valid triplet of a batch (Hermans, Beyer and
// Leibe 2017, arXiv:1703.07737, equation 6); with MeanNonZero it is what they
// call "batch all (≠ 0)". Each triplet is an item, in order of anchor, positive
// and negative. The hinge takes O(B²·D) time: the triplets of an anchor are
// summed by bands and not listed. The soft margin and the reduction None visit
// each. Memory is O(B·(D+q)) for q positives of an anchor, and a float64 per
// triplet for None. Batches of 64 rows or more are fast where no image has more
// than 256 positives.
type BatchAll struct {
	Loss      TripletLoss // required
	Reduction Reduction   // default Mean
	Normalise bool        // as in [Triplets]
}

// Compute implements [Loss].
func (l BatchAll) Compute(ws *Workspace, grad pipeline.Embeddings, in Input) (pipeline.LossStats, error) {
	return ws.compute(grad, in, l.eval)
}

func (l BatchAll) eval(ws *Workspace, in Input) (pipeline.LossStats, error) {
	if err := needLabels(in); err != nil {
		return pipeline.LossStats{}, err
	}
	if err := ws.prepare(l.Loss, l.Reduction, l.Normalise, in); err != nil {
		return pipeline.LossStats{}, err
	}
	var t tally
	hinge, banded := l.Loss.(TripletMargin)
	banded = banded && l.Reduction != None
	if l.Reduction != None && ws.large(in) && t.panels(ws, l.Loss, in) {
		return t.finish(ws, l.Reduction, in, t.stats.Count, t.stats.Count), nil
	}
	d := l.Loss.metric()
	for a := range in.Labels {
		ws.distances(d, a)
		clear(ws.coef)
		if banded {
			t.anchorByBands(ws, hinge, a, in)
		} else {
			t.anchor(ws, l.Loss, l.Reduction, a, in)
		}
		for j, slope := range ws.coef {
			ws.pull(d, a, j, ws.dist[j], slope)
		}
	}
	return t.finish(ws, l.Reduction, in, t.stats.Count, t.stats.Count), nil
}

// panels counts every triplet by panels, or none and is false.
func (t *tally) panels(ws *Workspace, l TripletLoss, in Input) bool {
	switch l := l.(type) {
	case TripletMargin:
		return t.byPanels(ws, l, in)
	case TripletSoftMargin:
		return t.softByPanels(ws, l, in)
	default:
		return false
	}
}

// anchor counts every triplet of a.
func (t *tally) anchor(ws *Workspace, l TripletLoss, r Reduction, a int, in Input) {
	for p, ap := range ws.dist {
		if !in.positive(a, p) {
			continue
		}
		for n, an := range ws.dist {
			if in.negative(a, n) {
				slope := t.triplet(ws, l, r, ap, an)
				ws.coef[p] += slope
				ws.coef[n] -= slope
			}
		}
	}
}

// bands are the q positives of an anchor by distance, and the negatives that
// are below the upper edge of the positive at an index but not of the one before.
type bands struct {
	order  []int     // positions
	ap     []float64 // distances
	edge   []float64 // ap + margin
	within []int     // number of negatives
	gap    []float64 // Σ edge − d_an over them
}

// sort takes the positives of a and empties the bands.
func (b *bands) sort(l TripletMargin, dist []float64, a int, in Input) {
	b.order = b.order[:0]
	for j := range dist {
		if in.positive(a, j) {
			b.order = append(b.order, j)
		}
	}
	slices.SortFunc(b.order, func(i, j int) int {
		return cmp.Or(cmp.Compare(dist[i], dist[j]), cmp.Compare(i, j))
	})
	q := len(b.order)
	b.ap, b.edge = resize(b.ap, q), resize(b.edge, q)
	b.within, b.gap = resize(b.within, q), resize(b.gap, q)
	clear(b.within)
	clear(b.gap)
	for i, p := range b.order {
		b.ap[i] = dist[p]
		b.edge[i] = l.Edge(dist[p])
	}
}

// anchorByBands counts every triplet of a under the hinge loss, in
// O((q+B) log q) for q positives: two searches place a negative among their
// edges and their distances, then sums over bands grow from one positive to
// the next. No sum has a negative term, so nothing cancels.
func (t *tally) anchorByBands(ws *Workspace, l TripletMargin, a int, in Input) {
	b := &ws.band
	b.sort(l, ws.dist, a, in)
	q := len(b.order)
	if q == 0 {
		return
	}
	var negatives int
	for n, an := range ws.dist {
		if !in.negative(a, n) {
			continue
		}
		negatives++
		t.an += float64(float64(q) * an)
		hard, _ := slices.BinarySearch(b.ap, an) // first positive with an ≤ ap
		active := firstAbove(b.edge, an)         // first positive with an < edge
		if active < q {
			b.within[active]++
			b.gap[active] += b.edge[active] - an
			ws.coef[n] = float64(active - q)
		}
		semiHard := max(0, hard-active)
		t.stats.Hard += q - hard
		t.stats.SemiHard += semiHard
		t.stats.Easy += hard - semiHard
		t.stats.Active += q - active
	}
	t.stats.Count += q * negatives

	var below int    // negatives below the edge
	var loss float64 // Σ edge − d_an over them
	for i, p := range b.order {
		if i > 0 {
			loss += float64(float64(below) * (b.edge[i] - b.edge[i-1]))
		}
		loss += b.gap[i]
		below += b.within[i]
		t.sum += loss
		t.ap += float64(float64(negatives) * b.ap[i])
		ws.coef[p] = float64(below)
	}
}

// firstAbove is the index of the first value of the sorted s that is greater than x.
func firstAbove(s []float64, x float64) int {
	lo, hi := 0, len(s)
	for lo < hi {
		if mid := (lo + hi) / 2; s[mid] > x {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
