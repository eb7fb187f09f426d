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
	bare     bool    // collect the pairs that were given no negative as well
	order    []int32 // scratch of collect

	slab   slab
	active []*search // those with pairs, a tile side by side
	tiles  []float32 // their points, packed, times −2
	points []float32 // scratch: the points of one tile
	values []float32 // of one tile and one slab
}

func newBlock(cfg MineConfig, dim int) *block { return &block{cfg: cfg, dim: dim} }

func (b *block) reset() { b.used = 0 }

// next is a search for one more anchor, to begin with.
func (b *block) next() *search {
	if b.used == len(b.searches) {
		b.searches = append(b.searches, newSearch(b.cfg, b.dim))
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
	tile := f32.TileRows * b.dim
	for rows := slabRows(b.dim); from < to; from += rows {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s := &b.slab
		s.load(p, &b.cfg.Guards, from, min(from+rows, to))
		n := len(s.init)
		b.values = resize(b.values, f32.TileRows*n)
		for first := 0; first < len(b.active); first += f32.TileRows {
			f32.Product(b.values, s.init, b.tiles[first*b.dim:][:tile], s.columns, b.dim)
			anchors := b.active[first:min(first+f32.TileRows, len(b.active))]
			var hits [f32.TileRows][]uint16
			for i, a := range anchors {
				hits[i] = a.look(b.values[i*n:][:n], s.hits[i])
			}
			for i, a := range anchors {
				a.take(s, b.values[i*n:][:n], hits[i])
			}
		}
	}
	return nil
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
	tile := f32.TileRows * b.dim
	b.tiles = resize(b.tiles, tiles*tile)
	for t := range tiles {
		b.points = b.points[:0]
		for _, s := range b.active[t*f32.TileRows : min((t+1)*f32.TileRows, len(b.active))] {
			b.points = append(b.points, s.point...)
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
