package stages

import (
	"slices"

	"github.com/tercet-ml/tercet/loss/f32"
)

// look finds the candidates of a slab that are inside of what is looked for, by
// their values of the screen, and writes their indices to hits.
func (s *search) look(values []float32, hits []uint16) []uint16 {
	return hits[:f32.Select(hits, values, s.lo, s.hi)]
}

// take considers the hits of a slab, and what a guard may have to say about.
func (s *search) take(st *slab, values []float32, hits []uint16) {
	for _, i := range st.special {
		if v := values[i]; s.outLo[0] <= v && v <= s.outHi[len(s.outHi)-1] {
			if row := st.first + int(i); s.candidates.labels[row] != s.label {
				s.offer(row, v)
			}
		}
	}
	if len(hits) == 0 {
		return
	}
	labels := st.labels
	if s.plain && !s.sifts && len(s.pairs) <= 8 {
		for _, i := range hits {
			v := values[i]
			if v < s.lo || v > s.hi { // narrowed since
				continue
			}
			if l := labels[i]; l == s.label || l == apart {
				continue
			}
			row := st.first + int(i)
			for p := range s.sieves {
				switch sieve := &s.sieves[p]; {
				case v < sieve.Lo || v > sieve.Hi:
				case s.cfg.Pick.By == Random:
					s.hash(p, row, s.candidates.id(row), v)
				default:
					s.rank(p, row, v)
				}
			}
		}
		return
	}
	if !s.sifts {
		for _, i := range hits {
			if l := labels[i]; l != s.label && l != apart {
				s.offer(st.first+int(i), values[i])
			}
		}
		return
	}
	st.kept = resize(st.kept, len(hits)*len(s.sieves)+16)
	for len(hits) > 0 {
		// Before anything was found everything is kept, so a few go first.
		some := len(hits)
		if s.fresh > 0 {
			some = min(some, s.fresh)
			s.fresh *= 2
		}
		for _, k := range st.kept[:f32.Sift(st.kept, hits[:some], values, uint32(st.first), st.numbers, s.sieves)] {
			i := k & 0xffff
			if l := labels[i]; l != s.label && l != apart {
				row := st.first + int(i)
				s.hash(int(k>>16), row, s.candidates.id(row), values[i])
			}
		}
		hits = hits[some:]
	}
	if s.fresh > len(values) {
		s.fresh = 0
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
		if v <= s.outHi[i] && !s.guarded(&s.pairs[i], row, id, v) {
			s.consider(i, row, id, v)
		}
	}
}

// consider adds a candidate that no guard keeps out to what is known of a pair,
// if it is in its band and before what is already there.
func (s *search) consider(i, row int, id int64, v float32) {
	if s.counts {
		if s.inside(&s.pairs[i], row, v) {
			s.pairs[i].inBand++
		}
		return
	}
	if s.skipsApart() {
		if p := &s.pairs[i]; v <= p.nearEnd && s.inside(p, row, v) && p.near.add(ranked{u: v, row: int32(row), d: undecided}) {
			p.nearEnd = s.prune(&p.near, false).u
		}
	}
	if s.cfg.Pick.By == Random {
		s.hash(i, row, id, v)
	} else {
		s.rank(i, row, v)
	}
}

// hash is consider for a pick by hash.
func (s *search) hash(i, row int, id int64, v float32) {
	p, limited := &s.pairs[i], s.keep() > 0
	f := found{id: id, row: int32(row), d: undecided}
	if limited {
		f.key = uint64(f32.Hash(p.key, uint32(id)))
	}
	if p.best.full() && f.key > p.best.last().key || !s.inside(p, row, v) {
		return
	}
	if p.best.add(f) && p.best.full() {
		s.sieves[i].Cut = uint32(p.best.last().key)
	}
}

// rank is consider for a pick by distance.
func (s *search) rank(i, row int, v float32) {
	p, sieve := &s.pairs[i], &s.sieves[i]
	if v < sieve.Lo || v > sieve.Hi || !s.inside(p, row, v) {
		return
	}
	r, farthest := ranked{u: v, row: int32(row), d: undecided}, s.cfg.Pick.By == Farthest
	if s.cfg.Rule == TFA && v <= p.apHi && (v <= p.apLow || s.decide(row) <= p.ap) {
		r.tier = 1
	}
	if farthest || r.tier == 1 {
		r.u = -v
	}
	if p.order.add(r) {
		s.cut(i, s.prune(&p.order, farthest))
	}
}

// cut narrows what a pair looks for to what is not after e.
func (s *search) cut(i int, e end) {
	p, sieve := &s.pairs[i], &s.sieves[i]
	if s.cfg.Pick.By == Farthest || e.tier == 1 {
		sieve.Lo = max(sieve.Lo, -e.u)
	} else {
		sieve.Hi = min(sieve.Hi, e.u)
		if s.cfg.Rule == TFA {
			sieve.Lo = max(sieve.Lo, p.apLow) // the others come after all above d_ap
		}
	}
	if s.plain {
		s.narrow()
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

// skipsApart reports whether the nearest ranks have to be remembered beside
// best, which is in another order.
func (s *search) skipsApart() bool {
	return s.cfg.Guards.SkipRanks > 0 && (s.cfg.Pick.By == Random || s.cfg.Pick.By == Farthest)
}

// merge adds what o has found among other candidates. Both began on the same
// anchor.
func (s *search) merge(o *search) {
	for i := range s.pairs {
		p, q := &s.pairs[i], &o.pairs[i]
		p.best.merge(&q.best)
		p.order.list = append(p.order.list, q.order.list...)
		p.near.list = append(p.near.list, q.near.list...)
		p.guarded.add(q.guarded)
	}
}

// settleHashes measures what the picks by hash have found, for all pairs.
func (s *search) settleHashes() {
	for i := range s.pairs {
		best := &s.pairs[i].best
		best.settle()
		for j := range best.list {
			s.ask(best.list[j].row, &best.list[j].d)
		}
	}
	s.answer()
}

// chosen is the negatives of p in the order of their ranks, after
// settleHashes. It uses s's memory.
func (s *search) chosen(p *pair) []found {
	if s.cfg.Pick.By == Random {
		s.list = append(s.list[:0], p.best.list...)
	} else {
		s.list = s.settle(s.list[:0], &p.order, s.cfg.Pick.By == Farthest)
	}
	list, skip := s.list, s.cfg.Guards.SkipRanks
	switch {
	case skip == 0:
	case s.skipsApart():
		s.skip = s.settle(s.skip[:0], &p.near, false)
		p.guarded.SkipRanks = int64(len(s.skip))
		list = slices.DeleteFunc(list, func(f found) bool {
			return slices.ContainsFunc(s.skip, func(n found) bool { return n.row == f.row })
		})
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
