package stages

import (
	"cmp"
	"math"
	"slices"
)

// A ranked is a candidate with its place in an order by distance, as far as a
// value of the screen tells: the lower tier goes first, and within it about the
// lower u. d is the mining distance, NaN as long as nobody has asked.
type ranked struct {
	tier uint8
	u    float32 // the value, or its opposite where the farthest goes first
	row  int32
	d    float64
}

// A shortlist keeps the candidates that may be among the first limit of an
// order by distance; all of them where limit is 0. Which they are is decided at
// the end, for the few that are left: see prune and settle.
type shortlist struct {
	limit int
	list  []ranked
}

func (l *shortlist) reset(limit int) { l.limit, l.list = limit, l.list[:0] }

// room is how long the list may get before it is worth pruning.
func (l *shortlist) room() int { return 2*l.limit + 14 }

// add offers a candidate, and reports whether the list wants pruning.
func (l *shortlist) add(r ranked) bool {
	l.list = append(l.list, r)
	return l.limit > 0 && len(l.list) >= l.room()
}

// sort brings the first limit to the front, in order. What is behind is in any.
func (l *shortlist) sort() {
	before := func(x, y *ranked) bool { return x.tier < y.tier || x.tier == y.tier && x.u < y.u }
	if l.limit > 4 {
		slices.SortFunc(l.list, func(x, y ranked) int {
			if before(&x, &y) {
				return -1
			} else if before(&y, &x) {
				return 1
			}
			return 0
		})
		return
	}
	for i := range l.limit {
		least := i
		for j := i + 1; j < len(l.list); j++ {
			if before(&l.list[j], &l.list[least]) {
				least = j
			}
		}
		l.list[i], l.list[least] = l.list[least], l.list[i]
	}
}

// An end is where an order is cut off: a candidate of a later tier, or with a
// greater u in the same one, comes after the first limit.
type end struct {
	tier uint8
	u    float32
}

// prune drops what surely comes after the first limit, and is their end. The
// list has more than limit. farthest tells that the farthest goes first in tier
// 0, as it always does in tier 1.
func (s *search) prune(l *shortlist, farthest bool) end {
	l.sort()
	e := s.endOf(l.list[l.limit-1], farthest)
	for _, r := range l.list[:l.limit-1] { // where some were measured, another than the last by u may be the last
		if r.tier == e.tier {
			e.u = max(e.u, s.endOf(r, farthest).u)
		}
	}
	n := l.limit
	for _, r := range l.list[n:] {
		if r.tier < e.tier || r.tier == e.tier && r.u <= e.u {
			l.list[n] = r
			n++
		}
	}
	l.list = l.list[:n]
	if n <= l.limit+l.room()/2 {
		return e
	}
	// Many are about as far: settle their order once and for all.
	s.answer()
	s.decideAll(l.list)
	slices.SortFunc(l.list, s.exactly(farthest))
	l.list = l.list[:l.limit]
	return s.endOf(l.list[l.limit-1], farthest)
}

// endOf is the end after r.
func (s *search) endOf(r ranked, farthest bool) end {
	if farthest || r.tier == 1 {
		t := s.screen.least(-r.u)
		if r.d == r.d {
			t = s.screen.unit(r.d)
		}
		low, _ := s.screen.bracket(t)
		return end{r.tier, -low}
	}
	t := s.screen.most(r.u)
	if r.d == r.d {
		t = s.screen.unit(r.d)
	}
	_, high := s.screen.bracket(t)
	return end{r.tier, high}
}

// exactly compares by mining distance, ties by the lower sample id and row.
func (s *search) exactly(farthest bool) func(x, y ranked) int {
	return func(x, y ranked) int {
		switch { // one after the other: most differ in their distances
		case x.tier != y.tier:
			return cmp.Compare(x.tier, y.tier)
		case x.d != y.d && (farthest || x.tier == 1):
			return cmp.Compare(y.d, x.d)
		case x.d != y.d:
			return cmp.Compare(x.d, y.d)
		}
		return cmp.Or(cmp.Compare(s.candidates.id(int(x.row)), s.candidates.id(int(y.row))), cmp.Compare(x.row, y.row))
	}
}

// settleAll decides for all pairs what a pick by distance has to know: the
// distances of what may be among the first.
func (s *search) settleAll() {
	farthest := s.cfg.Pick.By == Farthest
	for i := range s.pairs {
		p := &s.pairs[i]
		s.askAll(&p.order, farthest)
		s.askAll(&p.near, false)
	}
	s.answer()
}

// askAll asks for the distances of what is left of l.
func (s *search) askAll(l *shortlist, farthest bool) {
	if l.limit > 0 && len(l.list) > l.limit {
		s.prune(l, farthest)
	}
	for i := range l.list {
		s.ask(l.list[i].row, &l.list[i].d)
	}
}

// settle appends the first limit of l to dst, in order, after settleAll.
func (s *search) settle(dst []found, l *shortlist, farthest bool) []found {
	slices.SortFunc(l.list, s.exactly(farthest))
	if l.limit > 0 && len(l.list) > l.limit {
		l.list = l.list[:l.limit]
	}
	for _, r := range l.list {
		dst = append(dst, found{tier: r.tier, id: s.candidates.id(int(r.row)), row: r.row, d: r.d})
	}
	return dst
}

// decideAll measures what has not been measured.
func (s *search) decideAll(list []ranked) {
	for i := range list {
		s.ask(list[i].row, &list[i].d)
	}
	s.answer()
}

// questions are candidates to be measured, four at a time.
type questions struct {
	n   int
	row [4]int32
	d   [4]*float64
}

// ask has the distance of a candidate written to d, now or by answer.
func (s *search) ask(row int32, d *float64) {
	if *d == *d {
		return
	}
	q := &s.asked
	q.row[q.n], q.d[q.n] = row, d
	if q.n++; q.n == len(q.row) {
		e := s.candidates.emb
		for i, x := range s.cfg.Loss.Distance.Mining4(s.point, e.Row(int(q.row[0])), e.Row(int(q.row[1])), e.Row(int(q.row[2])), e.Row(int(q.row[3]))) {
			*q.d[i] = x
		}
		q.n = 0
	}
}

// answer measures what ask has left.
func (s *search) answer() {
	q := &s.asked
	for i := range q.n {
		*q.d[i] = s.decide(int(q.row[i]))
	}
	q.n = 0
}

// undecided is the distance of a candidate that was not measured.
var undecided = math.NaN()
