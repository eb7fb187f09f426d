package loss

import (
	"math"
	"slices"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// BatchHard is the loss of every image of a batch as an anchor with its
// farthest positive and its nearest negative (Hermans, Beyer and Leibe 2017,
// arXiv:1703.07737, equation 5). An anchor that has both is an item. Equal
// distances go to the lower sample id. It takes O(B²·D) time and O(B·D) memory.
type BatchHard struct {
	Loss      TripletLoss // required
	Reduction Reduction   // default Mean
	Normalise bool        // as in [Triplets]
}

// Compute implements [Loss].
func (l BatchHard) Compute(ws *Workspace, grad pipeline.Embeddings, in Input) (pipeline.LossStats, error) {
	return ws.compute(grad, in, l.eval)
}

func (l BatchHard) eval(ws *Workspace, in Input) (pipeline.LossStats, error) {
	if err := needLabels(in); err != nil {
		return pipeline.LossStats{}, err
	}
	if err := ws.prepare(l.Loss, l.Reduction, l.Normalise, in); err != nil {
		return pipeline.LossStats{}, err
	}
	var t tally
	d := l.Loss.metric()
	panels := ws.large(in)
	if panels {
		ws.extremes.load(ws, d, in)
	}
	for a := range in.Labels {
		var p, n found
		if panels {
			p, n = ws.extremes.farthest[a], ws.extremes.nearest[a]
		} else {
			ws.distances(d, a)
			p, n = ws.hardest(a, in)
		}
		if p.at < 0 || n.at < 0 {
			continue
		}
		slope := t.triplet(ws, l.Loss, l.Reduction, p.dist, n.dist)
		ws.pull(d, a, p.at, p.dist, slope)
		ws.pull(d, a, n.at, n.dist, -slope)
	}
	return t.finish(ws, l.Reduction, in, t.stats.Count, t.stats.Count), nil
}

// found is a row and its distance; its place is −1 where there is none.
type found struct {
	at   int
	dist float64
}

var none = found{at: -1}

// farther takes over row j at distance x if that is farther, or as far with a lower id.
func (f *found) farther(in Input, j int, x float64) {
	if f.at < 0 || x > f.dist || x == f.dist && in.before(j, f.at) {
		*f = found{j, x}
	}
}

// nearer takes over row j at distance x if that is nearer, or as near with a lower id.
func (f *found) nearer(in Input, j int, x float64) {
	if f.at < 0 || x < f.dist || x == f.dist && in.before(j, f.at) {
		*f = found{j, x}
	}
}

// hardest is the farthest positive and the nearest negative of a by ws.dist.
func (ws *Workspace) hardest(a int, in Input) (p, n found) {
	p, n = none, none
	for j, x := range ws.dist {
		switch {
		case in.positive(a, j):
			p.farther(in, j, x)
		case in.negative(a, j):
			n.nearer(in, j, x)
		}
	}
	return p, n
}

// extremes are what hardest gives for every row, by panels: those find what may
// be the nearest negative, and float64 decides among that. Both ways give the
// same bits.
type extremes struct {
	farthest, nearest []found // by position
	rows              []float32
	maybe             []candidate
	best              [laneCount]float32
}

// A candidate is a row that may be the nearest of a lane, and what its squared
// distance is at least.
type candidate struct {
	lane, row int32
	least     float32
}

func (e *extremes) load(ws *Workspace, d Distance, in Input) {
	p := &ws.panels
	p.load(ws, in, false)
	b, n := len(in.Labels), len(p.order)
	e.farthest, e.nearest, e.rows = resize(e.farthest, b), resize(e.nearest, b), resize(e.rows, 2*n)
	for i := range b {
		e.farthest[i], e.nearest[i] = none, none
	}
	p.positives(in, func(i, j int) {
		a, b := int(p.order[i]), int(p.order[j])
		x := ws.distance(d, a, b)
		e.farthest[a].farther(in, b, x)
		e.farthest[b].farther(in, a, x)
	})
	for i := range n {
		e.rows[2*i], e.rows[2*i+1] = p.norm[i], p.slack[i]
	}
	e.maybe = slices.Grow(e.maybe[:0], n*laneCount)
	for lane := 0; lane < n; lane += laneCount {
		e.maybe = e.maybe[:0]
		for i := range e.best {
			e.best[i] = float32(math.Inf(1))
		}
		for from := 0; from < n; from += stretch {
			to := min(from+stretch, n)
			values, skip := p.fill(ws, lane, from, to)
			f32.Nearest(e.best[:], values, skip, e.rows[2*from:2*to], p.slack[lane:][:laneCount])
			each(skip, func(i, j int) {
				e.maybe = append(e.maybe, candidate{int32(i), int32(from + j), values[j*laneCount+i]})
			})
		}
		for _, c := range e.maybe {
			if c.least <= e.best[c.lane] {
				a, n := int(p.order[lane+int(c.lane)]), int(p.order[c.row])
				e.nearest[a].nearer(in, n, ws.distance(d, a, n))
			}
		}
	}
}
