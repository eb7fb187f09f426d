package stages

import (
	"math"

	"github.com/tercet-ml/tercet/loss"
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
