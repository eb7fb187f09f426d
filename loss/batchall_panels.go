package loss

import (
	"math"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// bandPositives is how many positives an anchor can have for its batch to go
// through panels: each distance is compared with the edges of all of them.
const bandPositives = 256

// edges are the positives of the anchors of a batch, q for each in order of
// panels.order: how far away they are and what the loss makes of that.
type edges struct {
	q        int
	count    []int32   // of the positives of each anchor, of which there are up to q
	ap, edge []float64 // distances, and those with the margin or, under the soft margin, their exponentials
	floors   []float32 // squared distances of the panels
	below    []float64 // negatives below an edge: ∂loss/∂ap
	rows     []float32 // what f32.Hinge needs of them as rows
	lanes    []float32 // and as lanes
	counts   []int32
	sums     []float64
}

// maxPositives is the most positives that a row can have: those of its class.
func (p *panels) maxPositives() int {
	q := 0
	for i := range p.order {
		q = max(q, int(p.last[i]-p.first[i])-1)
	}
	return q
}

// load computes the distances of positives, in float64, and their edges.
func (e *edges) load(ws *Workspace, d Distance, in Input, edge func(ap float64) float64) {
	p := &ws.panels
	n := len(p.order)
	e.q = p.maxPositives()
	e.count = resize(e.count, n)
	e.ap, e.edge, e.below = resize(e.ap, n*e.q), resize(e.edge, n*e.q), resize(e.below, n*e.q)
	e.floors = resize(e.floors, n*e.q)
	clear(e.below)
	e.pairs(p, in, func(i, j, ij, ji int) {
		ap := ws.distance(d, i, j)
		e.ap[ij], e.edge[ij], e.floors[ij] = ap, edge(ap), p.threshold(d, ap)
		e.ap[ji], e.edge[ji], e.floors[ji] = e.ap[ij], e.edge[ij], e.floors[ij]
	})
}

// bands gets ready for f32.Hinge.
func (e *edges) bands(p *panels, d Distance) {
	n := len(p.order)
	e.rows = resize(e.rows, n*(2+e.q))
	for i := range n {
		row := e.rows[i*(2+e.q):][:2+e.q]
		row[0], row[1] = p.norm[i], p.slack[i]
		for k := range e.q {
			row[2+k] = float32(math.Inf(-1))
			if k < int(e.count[i]) {
				row[2+k] = p.threshold(d, e.edge[i*e.q+k])
			}
		}
	}
	e.lanes = resize(e.lanes, (1+2*e.q)*laneCount)
	e.counts, e.sums = resize(e.counts, (1+e.q)*laneCount), resize(e.sums, 2*laneCount)
}

// pairs counts the positives of each anchor and yields every two, as positions,
// with the indices of the one among the positives of the other.
func (e *edges) pairs(p *panels, in Input, yield func(i, j, ij, ji int)) {
	clear(e.count)
	p.positives(in, func(i, j int) {
		yield(int(p.order[i]), int(p.order[j]), i*e.q+int(e.count[i]), j*e.q+int(e.count[j]))
		e.count[i]++
		e.count[j]++
	})
}

// threshold is the squared distance of the panels for a distance.
func (p *panels) threshold(d Distance, x float64) float32 {
	switch d {
	case Euclidean:
		x /= p.unit
		return float32(x * x)
	case Cosine:
		return float32(2 * x / p.unit / p.unit)
	default:
		return float32(x / p.unit / p.unit)
	}
}

// distance is that for what f32.Hinge sums: a squared distance of the panels, or
// its root under Euclidean.
func (p *panels) distance(d Distance, x float64) float64 {
	switch d {
	case Euclidean:
		return x * p.unit
	case Cosine:
		return x * p.unit * p.unit / 2
	default:
		return x * p.unit * p.unit
	}
}

// begin sets up the lanes from lane on.
func (e *edges) begin(p *panels, lane int) {
	for i := range e.lanes {
		e.lanes[i] = float32(math.Inf(-1))
	}
	copy(e.lanes, p.slack[lane:][:laneCount])
	for i := lane; i < min(lane+laneCount, len(p.order)); i++ {
		for k := range int(e.count[i]) {
			e.lanes[(1+k)*laneCount+i-lane] = e.rows[i*(2+e.q)+2+k]
			e.lanes[(1+e.q+k)*laneCount+i-lane] = e.floors[i*e.q+k]
		}
	}
	clear(e.counts)
	clear(e.sums)
}

// byPanels counts every triplet under the hinge loss, unless an anchor has more
// than bandPositives positives: then it counts none and is false.
//
// A distance x of the anchors a and b adds to the gradient of each what both
// make of it as anchors: the number of their edges above x. Since that needs
// nothing but the edges, the weights of a panel are complete when it has been
// gone through, and gradients are one product more. What is too near an edge, or
// too small to be known well from the product, is decided and added up in float64.
func (t *tally) byPanels(ws *Workspace, l TripletMargin, in Input) bool {
	p, e := &ws.panels, &ws.edges
	p.sort(in)
	if p.maxPositives() > bandPositives {
		return false
	}
	p.load(ws, in, len(ws.grad) > 0)
	e.load(ws, l.Distance, in, l.Edge)
	e.bands(p, l.Distance)
	n := len(p.order)
	weight := ws.weight(l.Distance, p.unit, -1) // of a count; under Euclidean it has been divided by the distance in units
	for lane := 0; lane < n && e.q > 0; lane += laneCount {
		e.begin(p, lane)
		var exact float64 // Σ edge − d_an over active triplets decided in float64
		for from := 0; from < n; from += stretch {
			to := min(from+stretch, n)
			values, skip := p.fill(ws, lane, from, to)
			f32.Hinge(values, skip, e.rows[from*(2+e.q):to*(2+e.q)], e.lanes, e.counts, e.sums, e.q, l.Distance == Euclidean)
			each(skip, func(i, j int) {
				exact += t.decide(ws, l, lane+i, from+j)
			})
			if len(ws.grad) > 0 {
				p.gather(values, from, to)
			}
		}
		t.lanes(ws, l, lane)
		t.sum += exact
		if len(ws.grad) > 0 {
			p.pull(ws, lane, weight)
		}
	}
	t.addPositives(ws, l.Distance, in)
	t.sum = max(0, t.sum)
	t.stats.Easy = t.stats.Count - t.stats.Hard - t.stats.SemiHard
	return true
}

// addPositives counts the triplets of every anchor and adds what its positives
// give to the gradient.
func (t *tally) addPositives(ws *Workspace, d Distance, in Input) {
	p, e := &ws.panels, &ws.edges
	e.pairs(p, in, func(i, j, ij, ji int) {
		ws.pull(d, i, j, e.ap[ij], e.below[ij]+e.below[ji])
	})
	n := len(p.order)
	for i := range n {
		negatives := n - int(p.last[i]-p.first[i])
		t.stats.Count += int(e.count[i]) * negatives
		for _, ap := range e.ap[i*e.q:][:e.count[i]] {
			t.ap += float64(float64(negatives) * ap)
		}
	}
}

// decide counts the triplets of anchor i with the negative j by their distance
// in float64, and is the sum of their losses.
func (t *tally) decide(ws *Workspace, l TripletMargin, i, j int) (sum float64) {
	p, e := &ws.panels, &ws.edges
	a, n := int(p.order[i]), int(p.order[j])
	an := ws.distance(l.Distance, a, n)
	var slope int
	for k := i * e.q; k < i*e.q+int(e.count[i]); k++ {
		switch l.Kind(e.ap[k], an) {
		case pipeline.Hard:
			t.stats.Hard++
		case pipeline.SemiHard:
			t.stats.SemiHard++
		}
		if an < e.edge[k] {
			e.below[k]++
			slope--
			t.stats.Active++
			sum += e.edge[k] - an
		}
	}
	for k := j * e.q; k < j*e.q+int(e.count[j]); k++ {
		if an < e.edge[k] {
			slope--
		}
	}
	t.an += float64(float64(e.count[i]) * an)
	ws.draw(l.Distance, a, n, an, float64(slope))
	return sum
}

// lanes counts what f32.Hinge has counted.
func (t *tally) lanes(ws *Workspace, l TripletMargin, lane int) {
	p, e := &ws.panels, &ws.edges
	n := len(p.order)
	for i := lane; i < min(lane+laneCount, n); i++ {
		q := int(e.count[i])
		t.an += float64(float64(q) * p.distance(l.Distance, e.sums[i-lane]))
		var sum float64 // Σ edge over active triplets
		var active int
		for k := range q {
			at := i*e.q + k
			below := int(e.counts[(1+k)*laneCount+i-lane])
			e.below[at] += float64(below)
			active += below
			sum += float64(float64(below) * e.edge[at])
		}
		hard := int(e.counts[i-lane])
		t.stats.Active += active
		t.stats.Hard += hard
		t.stats.SemiHard += active - hard
		t.sum += sum - p.distance(l.Distance, e.sums[laneCount+i-lane])
	}
}
