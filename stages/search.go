package stages

import (
	"cmp"
	"math"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// A pool is samples with their embeddings: those of a batch, or a data set.
type pool struct {
	emb          pipeline.Embeddings // a row for each sample
	ids          []int64             // by row; nil where the row is the sample id
	labels       []int32             // by row
	same, groups []int32             // by sample id; nil where not known
}

func (p *pool) id(row int) int64 {
	if p.ids == nil {
		return int64(row)
	}
	return p.ids[row]
}

// number is numbers[id], and −1 where that says nothing.
func number(numbers []int32, id int64) int32 {
	if numbers == nil {
		return -1
	}
	return numbers[id]
}

// equal reports whether two numbers of [number] are known and equal.
func equal(a, b int32) bool { return a >= 0 && a == b }

// A search looks for the negatives of one anchor's pairs: begin says of which
// anchor, scan is called with every candidate once, in any order, and chosen
// is what was found. Its memory is O(pairs × negatives of a pair), whatever
// the number of candidates, and is used again by the next begin.
type search struct {
	cfg    MineConfig // resolved
	screen screen
	key    uint64 // mineKey of this generation

	anchors, candidates *pool
	row                 int // of the anchor, in anchors
	id                  int64
	label               int32
	point               []float32
	same, group         int32
	nearest             float64 // distance to the nearest positive
	reach               float32 // values above it are surely beyond the distance guards

	// The pairs by d_ap. So both ends of their bands grow with the index, and
	// the pairs whose band may hold a value are neighbours: from the first whose
	// outHi it does not exceed to the last whose outLo it reaches.
	pairs        []pair
	outLo, outHi []float32 // of the bands, widened by what the screen may be wrong

	positives top // scratch of begin
	cached    int // the candidate whose mining distance is distance; −1 for none
	distance  float64
	picked    []found // scratch of chosen
}

// A pair is an anchor and a positive, and what was found for them so far.
type pair struct {
	row         int // of the positive, in anchors
	id          int64
	ap          float64
	key         uint64
	same, group int32

	band
	inLo, inHi   float32 // inside these a value is surely in the band
	cutLo, cutHi float32 // outside these it is surely later than all of a full best

	best    top // in the order of the pick; SkipRanks more than are asked for
	near    top // the first SkipRanks by distance, where best is in another order
	guarded GuardCounts
}

// newSearch returns a search in rows of dim values.
func newSearch(cfg MineConfig, dim int) *search {
	return &search{cfg: cfg, screen: newScreen(cfg.Loss.Distance, dim)}
}

// begin starts on the anchor at a row of anchors. members are the rows of its
// class, ascending; those with the anchor's sample id are passed over.
func (s *search) begin(key uint64, anchors *pool, row int, members []int32, candidates *pool) {
	s.key, s.anchors, s.candidates = key, anchors, candidates
	s.row, s.id, s.label, s.point = row, anchors.id(row), anchors.labels[row], anchors.emb.Row(row)
	s.same, s.group = number(anchors.same, s.id), number(anchors.groups, s.id)
	s.cached = -1
	s.pair(members)
	s.outLo, s.outHi = s.outLo[:0], s.outHi[:0]
	for i := range s.pairs {
		p := &s.pairs[i]
		low, high := s.screen.around(p.lo)
		s.outLo, p.inLo = append(s.outLo, low), high
		low, high = s.screen.around(p.hi)
		s.outHi, p.inHi = append(s.outHi, high), low
		p.cutLo, p.cutHi = float32(math.Inf(-1)), float32(math.Inf(1))
	}
	_, s.reach = s.screen.around(max(s.cfg.Guards.Floor, s.relativeEdge()))
}

// pair chooses the positives and makes s.pairs of them.
func (s *search) pair(members []int32) {
	limit := max(s.cfg.Positives, 0)
	s.positives.reset(limit)
	everyDistance := limit == 0 || s.cfg.PositivesBy != RandomPositives || s.cfg.Guards.Relative > 0
	s.nearest = math.Inf(1)
	for _, m := range members {
		row := int(m)
		id := s.anchors.id(row)
		if id == s.id {
			continue
		}
		f := found{id: id, row: m}
		if everyDistance {
			f.d = s.cfg.Loss.Distance.Mining(s.point, s.anchors.emb.Row(row))
			s.nearest = min(s.nearest, f.d)
		}
		switch s.cfg.PositivesBy {
		case RandomPositives:
			f.key = pairKey(s.key, s.id, id)
		case HardestPositives:
			f.key = ^distanceKey(f.d)
		case EasiestPositives:
			f.key = distanceKey(f.d)
		}
		s.positives.add(f)
	}
	chosen := s.positives.list
	for i := range chosen {
		if !everyDistance {
			chosen[i].d = s.cfg.Loss.Distance.Mining(s.point, s.anchors.emb.Row(int(chosen[i].row)))
		}
	}
	slices.SortFunc(chosen, func(x, y found) int { return cmp.Or(cmp.Compare(x.d, y.d), cmp.Compare(x.row, y.row)) })
	if n := len(chosen); n <= cap(s.pairs) {
		s.pairs = s.pairs[:n] // their lists keep their memory
	} else {
		s.pairs = append(s.pairs[:cap(s.pairs)], make([]pair, n-cap(s.pairs))...)
	}
	for i, f := range chosen {
		p := &s.pairs[i]
		*p = pair{
			row: int(f.row), id: f.id, ap: f.d,
			key:  pairKey(s.key, s.id, f.id),
			same: number(s.anchors.same, f.id), group: number(s.anchors.groups, f.id),
			band: bandOf(s.cfg.Rule, s.cfg.Loss, f.d),
			best: p.best, near: p.near,
		}
		p.best.reset(s.keep())
		p.near.reset(s.cfg.Guards.SkipRanks)
	}
}

// keep is how many candidates a pair has to remember; 0 for all of them.
func (s *search) keep() int {
	switch {
	case s.cfg.Pick.By == ByRank:
		return s.cfg.Pick.Last + 1 + s.cfg.Guards.SkipRanks
	case s.cfg.PerPair == 0:
		return 0
	default:
		return s.cfg.PerPair + s.cfg.Guards.SkipRanks
	}
}

func (s *search) relativeEdge() float64 {
	if s.cfg.Guards.Relative == 0 {
		return math.Inf(-1)
	}
	return (1 + s.cfg.Guards.Relative) * s.nearest
}
