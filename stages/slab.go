package stages

import (
	"math"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// A slab is neighbouring candidates, packed for the tile product: they are
// packed once for all the anchors of a block. Scratch for what the anchors of a
// tile find in them is here too.
type slab struct {
	first   int       // row of the first
	columns []float32 // in panels, scaled
	init    []float32 // ‖n‖², scaled; 0 under Cosine; +Inf where there is nothing to find
	labels  []int32   // class numbers; apart for those in special, and unknown
	special []uint16  // of known class, and a guard may have something against them
	numbers []uint32  // the sample ids, for hashes, as many as init; nil where the rows are
	ids     []uint32  // memory for numbers
	scaled  []float32

	hits [f32.TileRows][]uint16 // of the anchors of a tile
	kept []uint32
}

// apart stands for the label of a candidate that is looked at by itself.
const apart = -2

// slabRows is how many candidates of so many values make a slab: as long as
// pays, for the work that each slab costs an anchor, and inside a core's cache.
func slabRows(dim int) int {
	const longest, bytes = 512, 256 << 10
	return max(f32.PanelColumns, min(longest, bytes/(4*max(dim, 1))&^(f32.PanelColumns-1)))
}

// load packs the candidates in rows from … to−1.
func (s *slab) load(p *pool, g *Guards, from, to int) {
	n, dim := to-from, p.emb.Dim
	wide := (n + f32.PanelColumns - 1) &^ (f32.PanelColumns - 1)
	s.first = from
	rows := p.emb.Slice(from, to).Data
	if p.scale != 1 {
		s.scaled = scaleRows(s.scaled, rows, p.scale)
		rows = s.scaled
	}
	s.columns = resize(s.columns, wide*dim)
	f32.PackColumns(s.columns, rows, dim)
	s.init = resize(s.init, wide)
	copy(s.init, p.norms[from:to])
	for i := n; i < wide; i++ {
		s.init[i] = float32(math.Inf(1))
	}
	s.labels, s.special = resize(s.labels, n), s.special[:0]
	s.numbers = nil
	if p.ids != nil {
		s.ids = resize(s.ids, wide)
		for i, id := range p.ids[from:to] {
			s.ids[i] = uint32(id)
		}
		s.numbers = s.ids
	}
	for i := range n {
		id := p.id(from + i)
		s.labels[i] = p.labels[from+i]
		if s.labels[i] != pipeline.Unknown && (!g.AllowDuplicates && number(p.same, id) >= 0 || g.SameGroup && number(p.groups, id) >= 0) {
			s.labels[i] = apart
			s.special = append(s.special, uint16(i))
		}
	}
	for i := range s.hits {
		s.hits[i] = resize(s.hits[i], wide)
	}
}

// scaleRows is rows times scale, in dst's memory.
func scaleRows(dst, rows []float32, scale float64) []float32 {
	dst = resize(dst, len(rows))
	for k, x := range rows {
		dst[k] = float32(float64(x) * scale)
	}
	return dst
}
