package stages

import (
	"cmp"
	"context"
	"slices"

	"github.com/tercet-ml/tercet/loss/f32"
)

// A block is anchors that share a pass over the candidates: a slab of these is
// packed once and multiplied with all the anchors, a tile of them at a time, and
// the products are looked at while they are in the core's nearest cache.
type block struct {
	cfg      MineConfig
	dim      int
	searches []*search
	used     int
	found    [f32.TileRows][]uint16 // of the anchors of a tile, in the slab
	bare     bool                   // collect the pairs that were given no negative as well
	order    []int32                // scratch of collect

	slab   slab
	active []*search // those with pairs, a tile side by side
	tiles  []float32 // their points, packed, times −2
	points []float32 // scratch: the points of one tile
	values []float32 // of one tile and one slab

	quantum   quantum // not 0: products of bytes
	byteTiles []uint8 // in the place of tiles
	quantised []int8
}

func newBlock(cfg MineConfig, dim int) *block { return &block{cfg: cfg, dim: dim} }

func (b *block) reset() { b.used = 0 }

// next is a search for one more anchor, to begin with.
func (b *block) next() *search {
	if b.used == len(b.searches) {
		s := newSearch(b.cfg, b.dim)
		s.screen.coarse = b.quantum.coarse(b.dim)
		b.searches = append(b.searches, s)
	}
	b.used++
	return b.searches[b.used-1]
}

// pass shows the candidates in rows from … to−1 to every anchor.
func (b *block) pass(ctx context.Context, p *pool, from, to int) error {
	b.pack(p.scale)
	if len(b.active) == 0 {
		return nil
	}
	for rows := slabRows(b.dim); from < to; from += rows {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s := &b.slab
		s.load(p, &b.cfg.Guards, from, min(from+rows, to), b.quantum)
		b.each(func(a *search, values []float32, i int) { b.found[i] = a.look(values, s.hits[i]) },
			func(a *search, values []float32, i int) { a.take(s, values, b.found[i]) })
	}
	return nil
}

// each multiplies the slab with the anchors, tile by tile, and calls each of f
// for all the anchors of a tile: with their values, and their place in the tile.
func (b *block) each(f ...func(a *search, values []float32, i int)) {
	s, n := &b.slab, len(b.slab.init)
	b.values = resize(b.values, f32.TileRows*n)
	tile := f32.TileRows * b.dim
	for first := 0; first < len(b.active); first += f32.TileRows {
		if b.quantum > 0 {
			bytes := f32.TileRows * 4 * f32.Quads(b.dim)
			scale := float32(-2 * float64(b.quantum) * float64(b.quantum))
			f32.ProductInt8(b.values, s.init, s.correction, b.byteTiles[first/f32.TileRows*bytes:][:bytes], s.byteColumns, b.dim, scale)
		} else {
			f32.Product(b.values, s.init, b.tiles[first*b.dim:][:tile], s.columns, b.dim)
		}
		anchors := b.active[first:min(first+f32.TileRows, len(b.active))]
		for _, f := range f {
			for i, a := range anchors {
				f(a, b.values[i*n:][:n], i)
			}
		}
	}
}

// pack packs the anchors that have something to look for.
func (b *block) pack(scale float64) {
	b.active = b.active[:0]
	for _, s := range b.searches[:b.used] {
		if len(s.pairs) > 0 {
			b.active = append(b.active, s)
		}
	}
	tiles := (len(b.active) + f32.TileRows - 1) / f32.TileRows
	tile, bytes := f32.TileRows*b.dim, f32.TileRows*4*f32.Quads(b.dim)
	if b.quantum > 0 {
		b.byteTiles = resize(b.byteTiles, tiles*bytes)
	} else {
		b.tiles = resize(b.tiles, tiles*tile)
	}
	for t := range tiles {
		b.points = b.points[:0]
		for _, s := range b.active[t*f32.TileRows : min((t+1)*f32.TileRows, len(b.active))] {
			b.points = append(b.points, s.point...)
		}
		if b.quantum > 0 {
			b.quantised = resize(b.quantised, len(b.points))
			f32.Quantise(b.quantised, b.points, b.quantum.inverse())
			f32.PackRowsInt8(b.byteTiles[t*bytes:][:bytes], b.quantised, b.dim)
			continue
		}
		points := b.points
		if scale != 1 {
			points = scaleRows(points, points, scale)
		}
		f32.PackRows(b.tiles[t*tile:][:tile], -2, points, b.dim)
	}
}

// merge adds what o, a block with the same anchors, has found among others.
func (b *block) merge(o *block) {
	for i, s := range b.searches[:b.used] {
		s.merge(o.searches[i])
	}
}

// collect counts the pairs and calls each with what they were given: by
// anchor as begun, row of the positive and rank. known is the census of the
// candidates. A bare pair comes with noNegative.
func (b *block) collect(r *MineReport, known *census, each func(a *search, p *pair, f found)) {
	for _, s := range b.searches[:b.used] {
		b.order = b.order[:0]
		for i := range s.pairs {
			b.order = append(b.order, int32(i))
		}
		slices.SortFunc(b.order, func(i, j int32) int { return cmp.Compare(s.pairs[i].row, s.pairs[j].row) })
		negatives := known.others(s.label)
		s.settleHashes()
		s.settleAll()
		for _, i := range b.order {
			p := &s.pairs[i]
			chosen := s.chosen(p)
			r.pair(p, len(chosen), negatives)
			for _, f := range chosen {
				each(s, p, f)
			}
			if len(chosen) == 0 && b.bare {
				each(s, p, noNegative)
			}
		}
	}
}

// noNegative stands for the negative of a pair that was given none.
var noNegative = found{id: -1, row: -1}
