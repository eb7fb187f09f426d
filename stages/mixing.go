package stages

import (
	"math"

	"github.com/tercet-ml/tercet/pipeline"
)

// A Mixing says how well batches are shuffled, as means over some batches: the
// entropy, in bits, of where the images of a batch come from. With P classes of
// K images each, that of the classes is log₂ P; those of files and row groups
// should be the same in all parts of an epoch.
type Mixing struct {
	Class float64 `json:"class"`
	File  float64 `json:"file"`
	Group float64 `json:"row_group"`
}

// mixingBatches is how many batches of a tenth are looked at.
const mixingBatches = 500

// Mixings measures the tenths of an epoch, from 0, of a plan over the data set
// of a layout: up to 500 batches of each, spread over it. An epoch of fewer than
// ten batches has some tenths without a batch, which are zero.
func Mixings(p *Plan, layout pipeline.Layout, epoch int64) (tenths [10]Mixing) {
	var ids []int64
	steps := p.Steps()
	for t := range tenths {
		from, to := steps*int64(t)/10, steps*int64(t+1)/10
		n := min(to-from, mixingBatches)
		m := &tenths[t]
		for i := range n {
			ids = p.Batch(epoch*steps+from+i*(to-from)/n, ids[:0])
			m.Class += entropy(ids, func(id int64) int { return int(p.cfg.Labels[id]) })
			m.File += entropy(ids, func(id int64) int { return layout[groupOf(layout, id)].File })
			m.Group += entropy(ids, func(id int64) int { return groupOf(layout, id) })
		}
		if n > 0 {
			*m = Mixing{m.Class / float64(n), m.File / float64(n), m.Group / float64(n)}
		}
	}
	return tenths
}

// entropy is that of the values that of has over ids, in bits. The sum is of
// equal terms for equal counts, in an order of counts, so that it does not depend
// on the order of a map.
func entropy(ids []int64, of func(int64) int) (bits float64) {
	counts := make(map[int]int, len(ids))
	for _, id := range ids {
		counts[of(id)]++
	}
	times := make([]int, len(ids)+1) // how often there is each count
	for _, n := range counts {
		times[n]++
	}
	for n, k := range times {
		if k > 0 {
			share := float64(n) / float64(len(ids))
			bits -= float64(k) * share * math.Log2(share)
		}
	}
	return bits
}
