package stages

import (
	"cmp"
	"math"
	"slices"
)

// A found is a negative that a pair may be given.
type found struct {
	tier uint8   // tier 0 goes before tier 1: see order
	key  uint64  // the smaller goes first within a tier
	id   int64   // sample id: of equal keys the lower goes first
	row  int32   // in its pool; decides where a sample is there twice
	d    float64 // mining distance from the anchor
}

func (f found) compare(o found) int {
	switch { // one after the other: most differ in their keys
	case f.tier != o.tier:
		return cmp.Compare(f.tier, o.tier)
	case f.key != o.key:
		return cmp.Compare(f.key, o.key)
	case f.id != o.id:
		return cmp.Compare(f.id, o.id)
	default:
		return cmp.Compare(f.row, o.row)
	}
}

// A top keeps the first limit of what it is given, in order; all where limit
// is 0, which are in order after settle. What it holds does not depend on the
// order it was given things in, so two tops over different things merge into
// the top over both.
type top struct {
	limit int
	list  []found
}

func (t *top) reset(limit int) { t.limit, t.list = limit, t.list[:0] }

// full reports whether only what is before the last one can come in.
func (t *top) full() bool { return t.limit > 0 && len(t.list) == t.limit }

// last is the one that would have to go. t is full.
func (t *top) last() *found { return &t.list[len(t.list)-1] }

// add offers f, and reports whether t changed.
func (t *top) add(f found) bool {
	if t.limit == 0 {
		t.list = append(t.list, f)
		return true
	}
	if t.full() {
		if f.compare(*t.last()) >= 0 {
			return false
		}
		t.list = t.list[:len(t.list)-1]
	}
	i, _ := slices.BinarySearchFunc(t.list, f, found.compare)
	t.list = slices.Insert(t.list, i, f)
	return true
}

func (t *top) merge(o *top) {
	for _, f := range o.list {
		if !t.add(f) {
			return // o's are in order, so the rest is later still
		}
	}
}

// settle puts a list without limit in order.
func (t *top) settle() {
	if t.limit == 0 {
		slices.SortFunc(t.list, found.compare)
	}
}

// distanceKey has the order of the distances, which are not NaN.
func distanceKey(d float64) uint64 {
	bits := math.Float64bits(d)
	if bits>>63 == 1 {
		return ^bits
	}
	return bits | 1<<63
}
