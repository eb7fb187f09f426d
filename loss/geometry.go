package loss

import "math"

// All three distances are functions of ‖u−v‖², under Cosine of rows of length
// 1, where 1 − u·v = ½‖u−v‖². So equal rows are at distance exactly 0, and the
// gradient with respect to u is a multiple of u−v and that to v its opposite:
// gradients over a batch sum to 0 but for rounding.

// of is the distance by the sum of squares.
func (d Distance) of(sq float64) float64 {
	switch d {
	case Euclidean:
		return math.Sqrt(sq)
	case Cosine:
		return sq / 2
	default:
		return sq
	}
}

// distance is that of rows i and j.
func (ws *Workspace) distance(d Distance, i, j int) float64 {
	var sum float64
	y := ws.row(j)
	for k, v := range ws.row(i) {
		t := v - y[k]
		sum += float64(t * t)
	}
	return d.of(sum)
}

// distances fills ws.dist with the distances of row i from every row.
func (ws *Workspace) distances(d Distance, i int) {
	j := 0
	for ; j+4 <= len(ws.dist); j += 4 {
		four := ws.fourDistances(d, i, j, j+1, j+2, j+3)
		copy(ws.dist[j:], four[:])
	}
	for ; j < len(ws.dist); j++ {
		ws.dist[j] = ws.distance(d, i, j)
	}
}

// fourDistances are those of row i from four rows. The sums run side by side
// for speed, each in the order of distance.
func (ws *Workspace) fourDistances(d Distance, i, j0, j1, j2, j3 int) [4]float64 {
	x := ws.row(i)
	y0, y1, y2, y3 := ws.row(j0)[:len(x)], ws.row(j1)[:len(x)], ws.row(j2)[:len(x)], ws.row(j3)[:len(x)]
	var s0, s1, s2, s3 float64
	for k, v := range x {
		t0, t1, t2, t3 := v-y0[k], v-y1[k], v-y2[k], v-y3[k]
		s0 += float64(t0 * t0)
		s1 += float64(t1 * t1)
		s2 += float64(t2 * t2)
		s3 += float64(t3 * t3)
	}
	return [4]float64{d.of(s0), d.of(s1), d.of(s2), d.of(s3)}
}

// weight is what a slope ∂loss/∂dist makes of the difference of two rows at
// distance dist. Under Euclidean nothing comes from distance 0, nor from one
// that the rounding of unit rows alone explains.
func (ws *Workspace) weight(d Distance, dist, slope float64) float64 {
	switch {
	case d == SqEuclidean:
		return 2 * slope
	case d == Cosine:
		return slope
	case dist <= ws.tiny:
		return 0
	default:
		return slope / dist
	}
}

// pull adds to the gradient what a loss with slope ∂loss/∂dist gets from rows i
// and j at distance dist.
func (ws *Workspace) pull(d Distance, i, j int, dist, slope float64) {
	if slope == 0 || len(ws.grad) == 0 {
		return
	}
	w := ws.weight(d, dist, slope)
	if w == 0 {
		return
	}
	x := ws.row(i)
	y, gx, gy := ws.row(j)[:len(x)], ws.gradRow(i)[:len(x)], ws.gradRow(j)[:len(x)]
	for k, v := range x {
		t := float64(w * (v - y[k]))
		gx[k] += t
		gy[k] -= t
	}
}

// draw is pull for the gradient of row i alone.
func (ws *Workspace) draw(d Distance, i, j int, dist, slope float64) {
	if slope == 0 || len(ws.grad) == 0 {
		return
	}
	w := ws.weight(d, dist, slope)
	x := ws.row(i)
	y, g := ws.row(j)[:len(x)], ws.gradRow(i)[:len(x)]
	for k, v := range x {
		g[k] += float64(w * (v - y[k]))
	}
}
