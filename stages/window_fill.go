package stages

import "slices"

// A fill is the batches of one window.
type fill struct {
	epoch  int64
	window int
	ids    []uint32 // P·K of each batch, a class side by side
}

// fill makes the batches of window v.
//
// The rows of a class are taken by a drawn order that is turned from one epoch
// to the next (see pace). Hands are made of those by chance. A class's
// hands are spread over the window: hand i of x is due within the i-th of x
// equal parts of it. A batch takes the P classes that are due first, but before
// them those that have a hand for each batch that is left.
func (w *windows) fill(d *deal, v int) *fill {
	m := d.starts[v+1] - d.starts[v]
	lots, dice := w.placed(d, v)
	f := &fill{epoch: d.epoch, window: v, ids: make([]uint32, 0, m*w.p*w.k)}

	type due struct {
		rows []uint32 // in the order they are shown
		next int64    // hand
		time uint64   // when it is due
		last int64    // batch that held the class
	}
	dues := make([]due, len(lots))
	for i, l := range lots {
		w.slot[l.class] = uint32(i)
	}
	for _, g := range d.groups[v] {
		for _, s := range w.shares[w.starts[g]:w.starts[g+1]] {
			c := &dues[w.slot[s.class]]
			for at := s.at; at < s.at+s.n; at++ {
				c.rows = append(c.rows, at)
			}
		}
	}
	when := func(i int) {
		c := &dues[i]
		c.time = (uint64(c.next)<<32 + dice.next()>>32) / uint64(lots[i].places)
	}
	// The batch up to which hands of the class may wait, and no longer.
	deadline := func(i int) uint64 { return uint64(m - lots[i].places + dues[i].next) }
	var waiting, urgent queue
	for i, l := range lots {
		if l.places == 0 {
			continue
		}
		c := &dues[i]
		c.last = -1
		if n := l.places * w.k; n < l.rows {
			w.turned(c.rows, l.class, d.epoch)
			c.rows = c.rows[:n]
		}
		for a := len(c.rows) - 1; a > 0; a-- {
			b := dice.below(uint64(a) + 1)
			c.rows[a], c.rows[b] = c.rows[b], c.rows[a]
		}
		when(i)
		waiting.put(queued{c.time, 0, uint32(i)})
		urgent.put(queued{deadline(i), 0, uint32(i)})
	}
	for b := range m {
		left := w.p
		take := func(i int) {
			c := &dues[i]
			for k := range w.k {
				at := (c.next*w.k + k) % int64(len(c.rows)) // of a short class, round and round
				f.ids = append(f.ids, w.classes.members[c.rows[at]])
			}
			c.next++
			c.last = b
			left--
			if c.next < lots[i].places {
				when(i)
			}
		}
		for len(urgent) > 0 && urgent[0].key <= uint64(b) {
			i := int(urgent.take().who)
			if deadline(i) == uint64(b) {
				take(i)
			}
			if dues[i].next < lots[i].places {
				urgent.put(queued{deadline(i), 0, uint32(i)})
			}
		}
		var again []queued
		for left > 0 {
			t := waiting.take()
			i := int(t.who)
			c := &dues[i]
			switch {
			case c.next == lots[i].places: // the last one was urgent
				continue
			case c.last == b || c.time != t.key:
			default:
				take(i)
			}
			if c.next == lots[i].places {
				continue
			}
			t.key = c.time
			if c.last == b {
				again = append(again, t)
			} else {
				waiting.put(t)
			}
		}
		for _, t := range again {
			waiting.put(t)
		}
	}
	return f
}

// placed are the lots of window v with their places, and the dice that go on.
func (w *windows) placed(d *deal, v int) ([]lot, dice) {
	dice := newDice(newPlanKey("window batches", w.seed, uint64(d.epoch), uint64(v)))
	lots := w.lots(d.groups[v])
	w.place(lots, d.starts[v+1]-d.starts[v], &dice)
	return lots, dice
}

// turned sorts rows of a class, which are places in members, by their rank as
// it is turned in an epoch.
func (w *windows) turned(rows []uint32, class uint32, epoch int64) {
	n := uint32(len(w.classes.membersOf(class)))
	start := uint32(uint64(epoch) % uint64(n) * uint64(w.steps[class]) % uint64(n))
	keys := w.keys[:0]
	for _, at := range rows {
		turned := w.ranks[at] - start
		if w.ranks[at] < start {
			turned += n
		}
		keys = append(keys, uint64(turned)<<32|uint64(at))
	}
	slices.Sort(keys)
	for i, k := range keys {
		rows[i] = uint32(k)
	}
	w.keys = keys
}

// following appends to dst the rows, in its window, of the class at place i of
// batch b: first those that are in no batch, then those behind that place, and
// round to those before it.
func (w *windows) following(b int64, i int, dst []int64) []int64 {
	d, f, at := w.find(b)
	at += int64(i) * w.k
	label := w.labels[f.ids[at]]
	shown := make(map[uint32]bool)
	for _, id := range f.ids[at : at+w.k] {
		shown[id] = true
	}
	var rest []int64
	for _, ids := range [][]uint32{f.ids[at+w.k:], f.ids[:at]} {
		for _, id := range ids {
			if w.labels[id] == label && !shown[id] {
				shown[id] = true
				rest = append(rest, int64(id))
			}
		}
	}
	for _, g := range d.groups[f.window] {
		for _, s := range w.shares[w.starts[g]:w.starts[g+1]] {
			for _, id := range w.classes.members[s.at : s.at+s.n] {
				if w.labels[id] == label && !shown[id] {
					dst = append(dst, int64(id))
				}
			}
		}
	}
	return append(dst, rest...)
}
