package stages

import (
	"math"
	"math/bits"
	"slices"
	"sort"
)

// A dealKey names a deal. Those of epoch −1 are tried when the plan is made.
type dealKey struct{ epoch, try int64 }

// A deal is the row groups that hold planned rows, dealt into windows.
type deal struct {
	dealKey
	groups [][]int // of each window, in the order they were dealt
	starts []int64 // number, within the epoch, of each window's first batch; and of all batches
	bytes  int64   // of the largest window
	short  bool    // a window has not P classes with K images
}

// deal makes windows of row groups, so that each has an even share of every
// class and of the bytes. Classes come in a drawn order. The row groups in which
// a class is the most frequent one go, the largest first, one each to the
// windows that hold the fewest bytes: to as many windows as there are row groups
// of the class, wherever these lie in the files. Two neighbours go together when
// fewer than K rows of a class lie in one of them and more of it in the other,
// as where one class ends and the next begins: but for each second one, which
// has its turn in the next epoch.
func (w *windows) deal(count int, d dealKey) *deal {
	dice := newDice(newPlanKey("window", w.seed, uint64(d.epoch), uint64(d.try)))
	order := make([]uint32, len(w.classes.numbers)) // place of each class
	dice.shuffle(order)
	type unit struct {
		class, tie uint32
		bytes      int64
		first, n   int
	}
	var units []unit
	for g := 0; g < len(w.layout); g++ {
		if w.starts[g] == w.starts[g+1] {
			continue
		}
		u := unit{order[w.main[g]], uint32(dice.next()), w.layout[g].Bytes, g, 1}
		if w.pairs && w.tied[g] && int64(g)&1 == (d.epoch+d.try)&1 {
			u.n, u.bytes = 2, u.bytes+w.layout[g+1].Bytes
			g++
		}
		units = append(units, u)
	}
	slices.SortFunc(units, func(a, b unit) int {
		switch {
		case a.class != b.class:
			return int(a.class) - int(b.class)
		case a.bytes != b.bytes:
			return int(min(max(b.bytes-a.bytes, -1), 1))
		}
		return int(a.tie) - int(b.tie)
	})
	groups := make([][]int, count)
	loads := make(queue, 0, count)
	for i := range count {
		loads.put(queued{0, dice.next(), uint32(i)})
	}
	taken := make([]queued, 0, count)
	most := uint64(0)
	for i, u := range units {
		if len(loads) == 0 || i > 0 && u.class != units[i-1].class {
			for _, t := range taken {
				loads.put(t)
			}
			taken = taken[:0]
		}
		t := loads.take()
		for g := range u.n {
			groups[t.who] = append(groups[t.who], u.first+g)
		}
		t.key += uint64(u.bytes)
		t.tie = dice.next()
		most = max(most, t.key)
		taken = append(taken, t)
	}
	for i := len(groups) - 1; i > 0; i-- {
		j := dice.below(uint64(i) + 1)
		groups[i], groups[j] = groups[j], groups[i]
	}
	dealt := &deal{dealKey: d, groups: groups, bytes: int64(most), starts: make([]int64, 1, count+1)}
	for _, g := range groups {
		n := w.capacity(w.lots(g))
		dealt.short = dealt.short || n == 0
		dealt.starts = append(dealt.starts, dealt.batches()+n)
	}
	return dealt
}

// batches is how many batches the windows hold.
func (d *deal) batches() int64 { return d.starts[len(d.starts)-1] }

// cut leaves length batches to the windows, in proportion to what they hold.
func (d *deal) cut(length int64) {
	all := d.batches()
	for i, n := range d.starts {
		high, low := bits.Mul64(uint64(n), uint64(length))
		q, _ := bits.Div64(high, low, uint64(all))
		d.starts[i] = int64(q)
	}
}

// window is the window of batch i of the epoch.
func (d *deal) window(i int64) int {
	return sort.Search(len(d.groups), func(v int) bool { return d.starts[v+1] > i })
}

// A lot is the rows of one class in one window.
type lot struct {
	class  uint32
	rows   int64
	hands  int64 // of K images that they make
	places int64 // of those, how many are in batches
}

// lots are the classes of some row groups, in ascending order. The slice is
// used again by the next call.
func (w *windows) lots(groups []int) []lot {
	w.lotted = w.lotted[:0]
	for _, g := range groups {
		for _, s := range w.shares[w.starts[g]:w.starts[g+1]] {
			if w.counts[s.class] == 0 {
				w.lotted = append(w.lotted, lot{class: s.class})
			}
			w.counts[s.class] += s.n
		}
	}
	slices.SortFunc(w.lotted, func(a, b lot) int { return int(a.class) - int(b.class) })
	for i := range w.lotted {
		l := &w.lotted[i]
		l.rows = int64(w.counts[l.class])
		l.hands = w.hands(l.class, l.rows)
		w.counts[l.class] = 0
	}
	return w.lotted
}

// hands is how many hands of K different images n rows of a class make; one
// for a class that has fewer than K in all, of which two rows or more are there.
func (w *windows) hands(class uint32, n int64) int64 {
	if size := int64(len(w.classes.membersOf(class))); size < w.k && n >= 2 {
		return 1
	}
	return n / w.k
}

// capacity is how many batches of P different classes the hands make: the most
// m for which the hands, of each class m at most, are P·m. (So many can be
// dealt: a class with all m of its hands is in every batch, and others change.)
func (w *windows) capacity(lots []lot) int64 {
	var all int64
	for _, l := range lots {
		all += l.hands
	}
	low, high := int64(0), all/w.p // low holds, high+1 does not
	for low < high {
		m := high - (high-low)/2
		if atMost(lots, m) >= w.p*m {
			low = m
		} else {
			high = m - 1
		}
	}
	return low
}

// atMost is the number of hands when a class has m at most.
func atMost(lots []lot, m int64) (sum int64) {
	for _, l := range lots {
		sum += min(l.hands, m)
	}
	return sum
}

// place gives P·m places to the hands, for m up to their capacity: a class has
// m at most, and what is too much then goes by ones from the class that has the
// most, by chance where several have.
func (w *windows) place(lots []lot, m int64, dice *dice) {
	var most queue
	surplus := atMost(lots, m) - w.p*m
	for i := range lots {
		l := &lots[i]
		l.places = min(l.hands, m)
		if surplus > 0 && l.places > 0 {
			most.put(queued{math.MaxUint64 - uint64(l.places), dice.next(), uint32(i)})
		}
	}
	for ; surplus > 0; surplus-- {
		t := most.take()
		lots[t.who].places--
		if lots[t.who].places > 0 {
			most.put(queued{t.key + 1, dice.next(), t.who})
		}
	}
}
