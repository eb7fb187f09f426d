package loss

import "github.com/tercet-ml/tercet/loss/f32"

// repulsion is what a contrastive loss over the pairs of a batch needs of panels.
type repulsion struct {
	rows   []float32
	counts [laneCount]int32
	sums   [2 * laneCount]float64
}

// byPanels counts every two images of known class and is how many are of one:
// those in float64, the others by panels. A panel sees each of these from both
// sides, and gives each its part of the gradient. done is false, and nothing
// counted, where the margin is out of all proportion to the batch.
func (l Contrastive) byPanels(ws *Workspace, t *tally, in Input) (same int, done bool) {
	p, r := &ws.panels, &ws.repulsion
	p.load(ws, in, len(ws.grad) > 0)
	one := p.distance(l.Distance, 1)
	margin := float32(l.Margin / one)
	if margin > 0x1p50 {
		return 0, false
	}
	p.positives(in, func(i, j int) {
		a, b := int(p.order[i]), int(p.order[j])
		l.pair(ws, t, a, b, ws.distance(l.Distance, a, b), true)
		same++
	})

	n := len(p.order)
	r.rows = resize(r.rows, 2*n)
	for i := range n {
		r.rows[2*i], r.rows[2*i+1] = p.norm[i], p.slack[i]
	}
	edge := p.threshold(l.Distance, l.Margin)
	weight := -1.0 // of margin − d in units; under Euclidean it has been divided by d
	if l.Distance != Euclidean {
		weight = ws.weight(l.Distance, one, -one)
	}
	scale := one * one / 2
	if l.NoHalf {
		weight *= 2
		scale *= 2
	}

	var twice tally // each pair from both sides
	for lane := 0; lane < n; lane += laneCount {
		clear(r.counts[:])
		clear(r.sums[:])
		for from := 0; from < n; from += stretch {
			to := min(from+stretch, n)
			values, skip := p.fill(ws, lane, from, to)
			f32.Repel(values, skip, r.rows[2*from:2*to], p.slack[lane:][:laneCount], r.counts[:], r.sums[:], edge, margin, l.Distance == Euclidean)
			each(skip, func(i, j int) {
				a, b := int(p.order[lane+i]), int(p.order[from+j])
				d := ws.distance(l.Distance, a, b)
				twice.an += d
				if loss := l.Of(d, false); loss > 0 {
					twice.stats.Active++
					twice.sum += loss
				}
				ws.draw(l.Distance, a, b, d, l.slope(d, false))
			})
			if len(ws.grad) > 0 {
				p.gather(values, from, to)
			}
		}
		for i := lane; i < min(lane+laneCount, n); i++ {
			twice.stats.Count += n - int(p.last[i]-p.first[i])
			twice.stats.Active += int(r.counts[i-lane])
			twice.an += r.sums[i-lane] * one
			twice.sum += r.sums[laneCount+i-lane] * scale
		}
		if len(ws.grad) > 0 {
			p.pull(ws, lane, weight)
		}
	}
	t.stats.Count += twice.stats.Count / 2
	t.stats.Active += twice.stats.Active / 2
	t.an += twice.an / 2
	t.sum += twice.sum / 2
	return same, true
}
