package stages

import (
	"math"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/loss/f32"
)

// A screen says what a value of the tile product tells of a candidate's mining
// distance from one anchor. It never decides: a value means that the distance is
// surely below or above an edge, or nothing at all.
//
// With anchor a and candidate n, both multiplied by a power of 2 that makes them
// of ordinary size, the value is v = ‖n‖² − 2a·n = ‖a−n‖² − ‖a‖² in float32; for
// rows of length 1 under Cosine it is v = −2a·n = 2(d−1). The unit of t below is
// ‖a−n‖² or, under Cosine, d.
//
// The product is wrong by at most ρ(‖n‖² + 2‖a‖‖n‖), see [f32.ProductError], and
// at distance d no candidate is longer than ‖a‖ + d. So a value at t = d² is
// wrong by at most ρ(3‖a‖² + 4‖a‖d + d²), whatever the lengths of the others.
// t − ‖a‖² less that error grows with d from d = 2ρ‖a‖/(1−ρ) on, and before is
// nowhere more than 4ρ²‖a‖²/(1−ρ) below what it was at 0: what holds at an edge
// with that added holds for all candidates beyond it.
//
// Where rows were made bytes, both are off by a vector of at most length E, and
// the product by 2E(‖a‖ + ‖n‖ + E) more, at distance d at most 2E(2‖a‖ + d + E);
// t less that falls only up to d = E, by E².
type screen struct {
	dist           loss.Distance
	rel, abs       float64
	scale          float64 // of squares: that of rows, squared
	square, length float64 // of the anchor, scaled
	blind          bool    // too many dimensions for the bound
	coarse         float64 // rows are off by at most this length: see quantum
}

// maxUnit is how far the squared length of a row may be from 1 under Cosine.
const maxUnit = 1e-3

// roundoff is that of float32.
const roundoff = 0x1p-24

func newScreen(dist loss.Distance, dim int) screen {
	s := screen{dist: dist, scale: 1, blind: dim > 1<<20}
	if !s.blind {
		s.rel, s.abs = f32.ProductError(dim)
	}
	return s
}

// aim turns the screen to an anchor of that squared length. Rows are multiplied
// by scale.
func (s *screen) aim(square, scale float64) {
	s.scale = scale * scale
	s.square = square * s.scale
	s.length = math.Sqrt(s.square)
}

// unit is t at a distance.
func (s *screen) unit(d float64) float64 {
	switch {
	case s.dist == loss.Cosine:
		return d
	case s.dist != loss.Euclidean:
		return d * s.scale
	case d < 0:
		return math.Inf(-1)
	default:
		return d * d * s.scale
	}
}

// value is v at t, without its error, which wrong bounds.
func (s *screen) value(t float64) float64 {
	if s.dist == loss.Cosine {
		return 2 * (t - 1)
	}
	return t - s.square
}

// wrong bounds the error of v at t, with what float64 is wrong by on the way
// there and in the mining distance itself.
func (s *screen) wrong(t float64) float64 {
	const slack = 0x1p-46
	e := s.coarse
	if s.dist == loss.Cosine {
		return s.rel*2*(1+maxUnit) + s.abs + slack + 4*e*(1+maxUnit) + 2*e*e
	}
	t = max(t, 0)
	d := math.Sqrt(t)
	rho := s.rel + 2*roundoff // ‖n‖² is rounded as well
	return rho*(3*s.square+4*s.length*d+t) + 8*rho*rho*s.square + 8*s.abs*(1+s.length+d) + slack*(s.square+t) + 2*e*(2*s.length+d) + 3*e*e
}

// around brackets a distance: a value below low means that the mining distance
// is < edge, at most low that it is ≤ edge; above high that it is > edge, at
// least high, unless that is +Inf, that it is ≥ edge. high grows with the edge, and
// so does low, but next to 0.
func (s *screen) around(edge float64) (low, high float32) { return s.bracket(s.unit(edge)) }

// bracket is around for an edge in units of t.
func (s *screen) bracket(t float64) (low, high float32) {
	switch {
	case s.blind:
		return float32(math.Inf(-1)), float32(math.Inf(1))
	case t > math.MaxFloat64:
		return math.MaxFloat32, float32(math.Inf(1))
	case t < -math.MaxFloat64:
		return float32(math.Inf(-1)), float32(math.Inf(-1))
	}
	v, e := s.value(t), s.wrong(t)
	return min(down32(v-e), math.MaxFloat32), up32(v + e)
}

// most is a t that a candidate with this value does not exceed.
func (s *screen) most(v float32) float64 {
	if s.blind {
		return math.Inf(1)
	}
	t := s.near(v)
	for e := 2 * s.wrong(t); e <= math.MaxFloat64; e *= 2 {
		if u := t + e; s.value(u)-s.wrong(u) >= float64(v) {
			return u
		}
	}
	return math.Inf(1)
}

// least is a t that a candidate with this value does not fall below.
func (s *screen) least(v float32) float64 {
	if s.blind {
		return math.Inf(-1)
	}
	t := s.near(v)
	for e := 2 * s.wrong(t); e <= math.MaxFloat64; e *= 2 {
		u := t - e
		if s.dist != loss.Cosine && u < 0 {
			break // no distance is below 0
		}
		if s.value(u)+s.wrong(u) <= float64(v) {
			return u
		}
	}
	return math.Inf(-1)
}

// near is the t whose value v would be without error.
func (s *screen) near(v float32) float64 {
	if s.dist == loss.Cosine {
		return float64(v)/2 + 1
	}
	return float64(v) + s.square
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
