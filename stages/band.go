package stages

import (
	"math"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/loss/f32"
)

// A band is a closed interval of float64 distances d_an. An open end is the
// neighbouring number: x > e is x ≥ the next number after e.
type band struct{ lo, hi float64 }

func (b band) holds(d float64) bool { return b.lo <= d && d <= b.hi }

// bandOf is the interval of a rule for a pair at distance ap. Both its ends
// grow with ap.
func bandOf(r Rule, l loss.TripletMargin, ap float64) band {
	inf := math.Inf(1)
	above, below := math.Nextafter(ap, inf), math.Nextafter(l.Edge(ap), -inf)
	switch r {
	case SemiHard:
		return band{above, below}
	case Hard:
		return band{-inf, ap}
	case PML:
		return band{above, l.Edge(ap)}
	case BatchAll, VGG:
		return band{-inf, below}
	default: // All, BatchHard, and TFA, which orders what is in it
		return band{-inf, inf}
	}
}

// A screen measures distances in float32 and knows how wrong they may be. It
// never decides: a value tells that the mining distance is surely below or
// surely above an edge, or that it has to be computed.
//
// Its values are squared distances under Euclidean as well, and 1 − x·y under Cosine.
type screen struct {
	dist     loss.Distance
	rel, abs float64 // |value − its float64 counterpart| ≤ rel·value + abs
}

// maxUnit is how far the squared length of a row may be from 1 under Cosine.
const maxUnit = 1e-3

func newScreen(dist loss.Distance, dim int) screen {
	const slack = 0x1p-48 // for the few float64 operations in around and for the square root
	if dist == loss.Cosine {
		rel, abs := f32.DotError(dim)
		// The subtraction from 1 is rounded too, to 2⁻²³ of at most 2 + 2·maxUnit.
		return screen{dist, slack, rel*(1+maxUnit) + abs + 0x1p-21}
	}
	rel, abs := f32.SqEuclideanError(dim)
	return screen{dist, rel + slack, abs}
}

// measure writes the screen's distances of x to len(dst) rows side by side.
func (s screen) measure(dst, x, rows []float32) {
	if s.dist != loss.Cosine {
		f32.SqEuclideans(dst, x, rows)
		return
	}
	f32.Dots(dst, x, rows)
	for i, v := range dst {
		dst[i] = 1 - v
	}
}

// around brackets an edge: a value of measure below low means that the mining
// distance is < edge, at most low that it is ≤ edge; above high that it is
// > edge, at least high, unless it is +Inf, that it is ≥ edge. A value of +Inf
// has overflowed; it is never at most low. Both grow with the edge.
func (s screen) around(edge float64) (low, high float32) {
	e := edge
	if s.dist == loss.Euclidean {
		if edge < 0 {
			e = math.Inf(-1)
		} else {
			e = edge * edge
		}
	}
	// value·(1 ± rel) ± abs = e, with the error of a negative cosine on the safe side
	low64, high64 := (e-s.abs)/(1+s.rel), (e+s.abs)/(1-s.rel)
	return min(down32(low64), math.MaxFloat32), up32(high64)
}

// down32 is the greatest float32 that is at most x.
func down32(x float64) float32 {
	f := float32(x)
	if float64(f) > x {
		f = math.Nextafter32(f, float32(math.Inf(-1)))
	}
	return f
}

// up32 is the smallest float32 that is at least x.
func up32(x float64) float32 { return -down32(-x) }
