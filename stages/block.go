package stages

import (
	"cmp"
	"context"
	"slices"
)

// A block is anchors that share a pass over the candidates: a tile of these is
// read from memory once and measured against all the anchors.
type block struct {
	cfg      MineConfig
	dim      int
	searches []*search
	used     int
	values   []float32 // of one anchor and one tile
	bare     bool      // collect the pairs that were given no negative as well
	order    []int32   // scratch of collect
}

func newBlock(cfg MineConfig, dim int) *block {
	const bytes = 64 << 10 // of a tile: well inside a core's own cache
	return &block{cfg: cfg, dim: dim, values: make([]float32, max(16, bytes/(4*max(dim, 1))))}
}

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
	for start := from; start < to; start += len(b.values) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		values := b.values[:min(len(b.values), to-start)]
		rows := p.emb.Slice(start, start+len(values)).Data
		for _, s := range b.searches[:b.used] {
			if len(s.pairs) > 0 {
				s.screen.measure(values, s.point, rows)
				s.scan(start, values)
			}
		}
	}
	return nil
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
