package stages

import (
	"math"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

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
