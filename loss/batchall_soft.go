package loss

import (
	"math"

	"github.com/tercet-ml/tercet/loss/f32"
)

// softReach is the largest distance of a batch whose soft margins go through
// panels: e to its power, and the product of that with its like, are numbers.
const softReach = 300

// softByPanels is byPanels under the soft margin. The losses of an anchor are the
// logarithm of a product over its positives p and negatives n,
//
//	Σ log(1 + exp(d_ap − d_an)) = log ∏ (1 + exp(d_ap)·exp(−d_an))
//
// so a pair of rows takes one exponential, and a division for each slope; a
// logarithm is due when the product becomes large. It is false, and has counted
// nothing, beyond bandPositives or softReach.
func (t *tally) softByPanels(ws *Workspace, l TripletSoftMargin, in Input) bool {
	p, e := &ws.panels, &ws.edges
	p.sort(in)
	if p.maxPositives() > bandPositives {
		return false
	}
	p.load(ws, in, len(ws.grad) > 0)
	if p.reach(l.Distance) > softReach {
		return false
	}
	e.load(ws, l.Distance, in, math.Exp)
	n := len(p.order)
	weight := ws.weight(l.Distance, p.unit, -1)
	for lane := 0; lane < n && e.q > 0; lane += laneCount {
		var products [laneCount]float64
		for from := 0; from < n; from += stretch {
			to := min(from+stretch, n)
			values, skip := p.fill(ws, lane, from, to)
			for j, skipped := range skip {
				for i := range min(laneCount, n-lane) {
					v := &values[j*laneCount+i]
					if skipped>>i&1 == 0 {
						*v = t.soft(ws, l.Distance, lane+i, from+j, *v+p.norm[from+j], &products[i])
					} else {
						*v = 0
					}
				}
				clear(values[j*laneCount+min(laneCount, n-lane) : (j+1)*laneCount])
			}
			if len(ws.grad) > 0 {
				p.gather(values, from, to)
			}
		}
		for _, product := range products {
			t.sum += math.Log1p(product)
		}
		if len(ws.grad) > 0 {
			p.pull(ws, lane, weight)
		}
	}
	t.addPositives(ws, l.Distance, in)
	t.stats.Active = t.stats.Count
	t.stats.Easy = t.stats.Count - t.stats.Hard
	return true
}

// reach is above every distance of the batch.
func (p *panels) reach(d Distance) float64 {
	var largest float32
	for _, norm := range p.norm {
		largest = max(largest, norm)
	}
	x := 4.01 * float64(largest)
	if d == Euclidean {
		x = math.Sqrt(x)
	}
	return p.distance(d, x)
}

// soft counts the triplets of anchor i with the negative j, whose squared
// distance in the panel is x, and is the weight of the pair there: 0 where x is
// not known well enough, and all is done in float64. product is that of the
// anchor less 1, which keeps the smallest losses.
func (t *tally) soft(ws *Workspace, d Distance, i, j int, x float32, product *float64) float32 {
	p, e := &ws.panels, &ws.edges
	slack := p.slack[i] + p.slack[j]
	known := x*f32.Resolution > slack
	floors := e.floors[i*e.q:][:e.count[i]]
	hard := 0
	for _, floor := range floors {
		if x < floor {
			hard++
		}
		if x-floor <= slack && floor-x <= slack {
			known = false
		}
	}
	units := float64(x)
	var an float64
	if known {
		if d == Euclidean {
			units = math.Sqrt(units)
		}
		an = p.distance(d, units)
	} else {
		an = ws.distance(d, int(p.order[i]), int(p.order[j]))
		hard = 0
		for _, ap := range e.ap[i*e.q:][:e.count[i]] {
			if an <= ap {
				hard++
			}
		}
	}
	t.stats.Hard += hard
	t.an += float64(float64(len(floors)) * an)

	y := math.Exp(-an)
	all, slopes := *product, 0.0
	below := e.below[i*e.q:]
	for k, f := range e.edge[i*e.q:][:e.count[i]] {
		z := float64(f * y)
		all += z + float64(all*z)
		if all > 1e100 {
			t.sum += math.Log1p(all)
			all = 0
		}
		z /= 1 + z
		below[k] += z
		slopes += z
	}
	*product = all
	for _, f := range e.edge[j*e.q:][:e.count[j]] {
		z := float64(f * y)
		slopes += z / (1 + z)
	}
	switch {
	case !known:
		ws.draw(d, int(p.order[i]), int(p.order[j]), an, -slopes)
		return 0
	case d == Euclidean:
		return float32(slopes / units)
	default:
		return float32(slopes)
	}
}
