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

// scan looks at the candidates in rows start, start+1, …, whose values of the
// screen are given.
func (s *search) scan(start int, values []float32) {
	if len(s.pairs) == 0 {
		return
	}
	lo, hi := s.outLo[0], s.outHi[len(s.outHi)-1]
	labels := s.candidates.labels[start:][:len(values)]
	for j, v := range values {
		if v < lo || v > hi {
			continue
		}
		if l := labels[j]; l != s.label && l != pipeline.Unknown {
			s.offer(start+j, v)
		}
	}
}

// offer gives the candidate at a row to every pair whose band may hold it.
func (s *search) offer(row int, v float32) {
	id := s.candidates.id(row)
	i := 0
	if len(s.pairs) > 8 {
		i, _ = slices.BinarySearch(s.outHi, v)
	}
	for ; i < len(s.pairs) && s.outLo[i] <= v; i++ {
		if v <= s.outHi[i] {
			s.consider(&s.pairs[i], row, id, v)
		}
	}
}

// consider adds a candidate to what is known of p, if it is in its band, no
// guard keeps it out, and it is before what is already there.
func (s *search) consider(p *pair, row int, id int64, v float32) {
	if s.guarded(p, row, id, v) {
		return
	}
	f := found{id: id, row: int32(row)}
	byDistance := true
	if s.cfg.Pick.By == Random {
		byDistance = false
		if s.keep() > 0 {
			f.key = chain(p.key, uint64(id))
		}
		if p.best.full() && f.key > p.best.last().key && !s.mayBeNear(p, v) {
			return
		}
	}
	if byDistance && (v < p.cutLo || v > p.cutHi) && !s.mayBeNear(p, v) {
		return
	}
	if !s.inside(p, row, v) {
		return
	}
	f.d = s.decide(row)
	switch s.cfg.Pick.By {
	case Nearest, ByRank:
		f.key = distanceKey(f.d)
		if s.cfg.Rule == TFA && f.d <= p.ap {
			f.tier, f.key = 1, ^f.key
		}
	case Farthest:
		f.key = ^distanceKey(f.d)
	}
	if p.best.add(f) && byDistance && p.best.full() {
		s.cut(p)
	}
	if s.skipsApart() {
		p.near.add(found{key: distanceKey(f.d), id: id, row: f.row, d: f.d})
	}
}

// guarded reports whether a guard keeps the candidate from p, and counts it if
// it is in the band.
func (s *search) guarded(p *pair, row int, id int64, v float32) bool {
	g := &s.cfg.Guards
	var count *int64
	if !g.AllowDuplicates && s.candidates.same != nil {
		if n := s.candidates.same[id]; equal(n, s.same) || equal(n, p.same) {
			count = &p.guarded.SameImage
		}
	}
	if count == nil && g.SameGroup && s.candidates.groups != nil {
		if n := s.candidates.groups[id]; equal(n, s.group) || equal(n, p.group) {
			count = &p.guarded.SameGroup
		}
	}
	if count == nil && (g.Floor > 0 || g.Relative > 0) && v <= s.reach {
		if d := s.decide(row); g.Floor > 0 && d < g.Floor {
			count = &p.guarded.Floor
		} else if d <= s.relativeEdge() {
			count = &p.guarded.Relative
		}
	}
	if count == nil {
		return false
	}
	if s.inside(p, row, v) {
		*count++
	}
	return true
}

// inside reports whether the candidate is in p's band: at once where the
// screen is sure, by the mining distance where it is not.
func (s *search) inside(p *pair, row int, v float32) bool {
	if p.inLo <= v && v <= p.inHi {
		return true
	}
	return p.holds(s.decide(row))
}

// decide is the mining distance of the candidate.
func (s *search) decide(row int) float64 {
	if s.cached != row {
		s.cached, s.distance = row, s.cfg.Loss.Distance.Mining(s.point, s.candidates.emb.Row(row))
	}
	return s.distance
}

// cut sets beyond which values a candidate comes after all of a full p.best.
func (s *search) cut(p *pair) {
	last := p.best.last()
	low, high := s.screen.around(last.d)
	if s.cfg.Pick.By == Farthest || last.tier == 1 {
		p.cutLo = low
	} else {
		p.cutLo, p.cutHi = float32(math.Inf(-1)), high
		if s.cfg.Rule == TFA {
			p.cutLo, _ = s.screen.around(p.ap) // those come after all above d_ap
		}
	}
}

// skipsApart reports whether the nearest ranks have to be remembered beside
// best, which is in another order.
func (s *search) skipsApart() bool {
	return s.cfg.Guards.SkipRanks > 0 && (s.cfg.Pick.By == Random || s.cfg.Pick.By == Farthest)
}

// mayBeNear reports whether a value may be among the first ranks by distance.
func (s *search) mayBeNear(p *pair, v float32) bool {
	if !s.skipsApart() {
		return false
	}
	if !p.near.full() {
		return true
	}
	_, high := s.screen.around(p.near.last().d)
	return v <= high
}

// merge adds what o has found among other candidates. Both began on the same
// anchor.
func (s *search) merge(o *search) {
	for i := range s.pairs {
		p, q := &s.pairs[i], &o.pairs[i]
		p.best.merge(&q.best)
		if s.skipsApart() {
			p.near.merge(&q.near)
		}
		p.guarded.add(q.guarded)
		if p.best.full() && s.cfg.Pick.By != Random {
			s.cut(p)
		}
	}
}

// chosen is the negatives of p in the order of their ranks. It uses s's memory.
func (s *search) chosen(p *pair) []found {
	skip := s.cfg.Guards.SkipRanks
	p.best.settle()
	list := p.best.list
	switch {
	case skip == 0:
	case s.skipsApart():
		p.guarded.SkipRanks = int64(len(p.near.list))
		s.picked = s.picked[:0]
		for _, f := range list {
			if !slices.ContainsFunc(p.near.list, func(n found) bool { return n.row == f.row }) {
				s.picked = append(s.picked, f)
			}
		}
		list = s.picked
	default:
		p.guarded.SkipRanks = int64(min(skip, len(list)))
		list = list[min(skip, len(list)):]
	}
	if s.cfg.Pick.By == ByRank {
		list = list[min(s.cfg.Pick.First, len(list)):min(s.cfg.Pick.Last+1, len(list))]
	}
	if s.cfg.Rule == TFA && len(list) > 0 {
		if list[0].tier == 1 {
			return list[:1] // none above d_ap: the farthest of all
		}
		above := slices.IndexFunc(list, func(f found) bool { return f.tier == 1 })
		if above >= 0 {
			list = list[:above]
		}
	}
	if s.cfg.PerPair > 0 {
		list = list[:min(s.cfg.PerPair, len(list))]
	}
	return list
}
