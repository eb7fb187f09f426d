package loss

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// Batches of panelRows rows or more go through panels. Smaller ones take about a
// millisecond in float64.
const panelRows = 64

// A panel has laneCount anchors, its lanes, and is computed for stretch rows at
// a time: so many that it stays in the cache, and that few are added up in float32.
const (
	laneCount = f32.PanelColumns
	stretch   = 43 * f32.TileRows
)

// panels are the squared distances of a batch by the tile product of package
// f32, in float32, a panel at a time; and its gradient by the same product. So
// B² values are computed at the speed of the machine and never stored.
//
// The rows of known class are taken in order of class, relative to their centre
// and to a power of two, which changes neither distances nor gradients but for
// that power: no input overflows, and what all rows have in common costs no
// digits. In these units a squared distance of the panel is within the slack of
// its two rows of the exact one, with a slack of
//
//	(2·rel + 16·2⁻²⁴)·‖e‖² + D·2⁻¹⁴⁶
//
// for the row e, where rel is that of [f32.ProductError]. That is for the chain
// itself, 2·rel, whose terms are at most ‖e‖² + 2·‖e‖·‖f‖ ≤ 2·(‖e‖² + ‖f‖²);
// for rounding the rows to float32, 4; for both norms and their sum, 5; for
// rounding a threshold near x that it is compared with, 2; and for float64, in
// which the exact one is computed, the rest. What is below 1,024 slacks is left
// to float64, and so is, by a slack that is large enough, what normalisation
// alone explains.
type panels struct {
	order       []int32 // rows of known class, by class and position
	first, last []int32 // for each of them, the range of its class in order
	unit        float64 // a power of two
	centre      []float64
	rows        []float32 // N×D, in order
	norm, slack []float32 // N, and zeros for lanes that are left
	tiles       []float32 // −2·rows, as rows of the product
	columns     []float32 // rows, as its columns

	features []float32 // rows and a 1, turned, as rows of the product of the gradient
	tileRows int       // of features: D+1 in whole tiles

	values  []float32 // stretch × laneCount
	skip    []uint32  // stretch
	product [f32.TileRows * laneCount]float32
	init    [laneCount]float32
	sums    []float64 // tileRows × laneCount
}

// load takes over the rows of ws and, for a gradient, gets ready to gather.
func (p *panels) load(ws *Workspace, in Input, gather bool) {
	p.sort(in)
	n, dim := len(p.order), ws.dim
	p.rows = resize(p.rows, n*dim)
	p.scale(ws)
	whole := (n + laneCount - 1) / laneCount * laneCount
	p.norm, p.slack = resize(p.norm, whole), resize(p.slack, whole)
	clear(p.norm[n:])
	clear(p.slack[n:])
	rel, _ := f32.ProductError(dim)
	share, tiny := 2*rel+16*0x1p-24, ws.tiny/p.unit
	least := float64(dim)*0x1p-146 + float64(f32.Resolution*tiny*tiny)
	for i, r := range p.order {
		norm := p.relative(p.rows[i*dim:][:dim], ws.row(int(r)))
		p.norm[i] = float32(norm)
		p.slack[i] = float32(float64(share*norm*(1+0x1p-20)) + least)
	}
	p.tiles = resize(p.tiles, (n+f32.TileRows-1)/f32.TileRows*f32.TileRows*dim)
	p.columns = resize(p.columns, whole*dim)
	f32.PackRows(p.tiles, -2, p.rows, dim)
	f32.PackColumns(p.columns, p.rows, dim)
	p.values, p.skip = resize(p.values, stretch*laneCount), resize(p.skip, stretch)
	if gather {
		p.turn(dim)
	}
}

// sort puts the rows of known class in order.
func (p *panels) sort(in Input) {
	p.order = p.order[:0]
	sorted := true
	for i, label := range in.Labels {
		if label == pipeline.Unknown {
			continue
		}
		if n := len(p.order); n > 0 && label < in.Labels[p.order[n-1]] {
			sorted = false
		}
		p.order = append(p.order, int32(i))
	}
	if !sorted {
		slices.SortFunc(p.order, func(i, j int32) int { return cmp.Or(cmp.Compare(in.Labels[i], in.Labels[j]), cmp.Compare(i, j)) })
	}
	n := len(p.order)
	p.first, p.last = resize(p.first, n), resize(p.last, n)
	for from, to := 0, 0; from < n; from = to {
		for to = from; to < n && in.Labels[p.order[to]] == in.Labels[p.order[from]]; to++ {
		}
		for i := from; i < to; i++ {
			p.first[i], p.last[i] = int32(from), int32(to)
		}
	}
}

// scale finds centre and unit: no value is farther from the centre than twice the largest.
func (p *panels) scale(ws *Workspace) {
	p.centre = resize(p.centre, ws.dim)
	clear(p.centre)
	for _, r := range p.order {
		for k, v := range ws.row(int(r)) {
			p.centre[k] += v
		}
	}
	for k := range p.centre {
		p.centre[k] /= float64(max(len(p.order), 1))
	}
	_, exp := math.Frexp(2 * ws.top)
	p.unit = math.Ldexp(1, exp)
}

// relative writes x relative to centre and unit to e and is its squared norm.
func (p *panels) relative(e []float32, x []float64) float64 {
	x, centre, inverse := x[:len(e)], p.centre[:len(e)], 1/p.unit
	var even, odd float64 // sums, side by side for speed
	k := 0
	for ; k+2 <= len(e); k += 2 {
		v, w := float64((x[k]-centre[k])*inverse), float64((x[k+1]-centre[k+1])*inverse)
		e[k], e[k+1] = float32(v), float32(w)
		even += float64(v * v)
		odd += float64(w * w)
	}
	if k < len(e) {
		v := float64((x[k] - centre[k]) * inverse)
		e[k] = float32(v)
		even += float64(v * v)
	}
	return even + odd
}

// positives yields every two rows of one class that are not one image, as places
// in order.
func (p *panels) positives(in Input, yield func(i, j int)) {
	for i, r := range p.order {
		for j := i + 1; j < int(p.last[i]); j++ {
			if in.positive(int(r), int(p.order[j])) {
				yield(i, j)
			}
		}
	}
}

// turn packs, for each stretch of rows, the values of every dimension side by
// side, and a 1 behind the last: what they are multiplied with is then added up too.
func (p *panels) turn(dim int) {
	p.tileRows = (dim + 1 + f32.TileRows - 1) / f32.TileRows * f32.TileRows
	n := len(p.order)
	p.features = resize(p.features, n*p.tileRows)
	p.sums = resize(p.sums, p.tileRows*laneCount)
	for from := 0; from < n; from += stretch {
		to := min(from+stretch, n)
		for tile := 0; tile < p.tileRows; tile += f32.TileRows {
			dst := p.features[from*p.tileRows+tile*(to-from):]
			for i := from; i < to; i++ {
				at := dst[(i-from)*f32.TileRows:][:f32.TileRows]
				filled := 0
				if tile < dim {
					filled = copy(at, p.rows[i*dim:][tile:dim])
				}
				clear(at[filled:])
				if filled < f32.TileRows && tile+filled == dim {
					at[filled] = 1
				}
			}
		}
	}
}

// fill computes the panel of the lanes from lane on for the rows from … to−1, a
// stretch, less the norm of each row, and leaves out pairs of one class.
func (p *panels) fill(ws *Workspace, lane, from, to int) (values []float32, skip []uint32) {
	dim := ws.dim
	for i := from; i < to; i += f32.TileRows {
		f32.Product(p.values[(i-from)*laneCount:][:f32.TileRows*laneCount], p.norm[lane:][:laneCount],
			p.tiles[i*dim:][:f32.TileRows*dim], p.columns[lane*dim:][:laneCount*dim], dim)
	}
	values, skip = p.values[:(to-from)*laneCount], p.skip[:to-from]
	beyond := ^uint32(0) << min(len(p.order)-lane, laneCount) // 0 for a whole panel
	for i := range skip {
		first, last := max(int(p.first[from+i])-lane, 0), min(int(p.last[from+i])-lane, laneCount)
		skip[i] = beyond
		if first < last {
			skip[i] |= ^uint32(0) << first & (^uint32(0) >> (laneCount - last))
		}
	}
	return values, skip
}

// each yields the lane and the row of every bit of skip.
func each(skip []uint32, yield func(lane, row int)) {
	for row, set := range skip {
		for ; set != 0; set &= set - 1 {
			yield(bits.TrailingZeros32(set), row)
		}
	}
}

// gather adds to sums the rows from … to−1, each times its value in every lane.
func (p *panels) gather(values []float32, from, to int) {
	n := to - from
	for tile := 0; tile < p.tileRows; tile += f32.TileRows {
		f32.Product(p.product[:], p.init[:], p.features[from*p.tileRows+tile*n:][:n*f32.TileRows], values, n)
		sums := p.sums[tile*laneCount:][:len(p.product)]
		for k, v := range p.product {
			sums[k] += float64(v)
		}
	}
}

// pull adds Σ weight·value·(row of the lane − row) to the gradient of each lane,
// over what gather has seen, and empties sums.
func (p *panels) pull(ws *Workspace, lane int, weight float64) {
	weight *= p.unit
	for i, r := range p.order[lane:min(lane+laneCount, len(p.order))] {
		g, e := ws.gradRow(int(r)), p.rows[(lane+i)*ws.dim:][:ws.dim]
		total := p.sums[ws.dim*laneCount+i]
		at := p.sums[i:]
		for k := range g {
			g[k] += float64(weight * (float64(total*float64(e[k])) - at[k*laneCount]))
		}
	}
	clear(p.sums)
}
