package stages

// passOverhead is what a pass takes beside its places, roughly, in bytes.
const passOverhead = 160

// A dealer deals from many decks. It remembers one pass of each deck, and
// forgets those that were used longest ago when all take more than limit bytes:
// a matter of time, never of what is dealt. One goroutine at a time may use it.
type dealer struct {
	passes []*pass // by deck
	uses   pass    // the ring of passes: newer is the one used longest ago, older the last
	bytes  int64
	limit  int64
	tail   []uint32 // scratch of deck.turn
}

func newDealer(decks int, limit int64) *dealer {
	d := &dealer{passes: make([]*pass, decks), limit: limit}
	d.uses.newer, d.uses.older = &d.uses, &d.uses
	return d
}

// deal appends hand v of deck number i, which is k, to dst.
func (d *dealer) deal(i int, k *deck, v int64, dst []uint32) []uint32 {
	p := d.passes[i]
	if p == nil {
		p = &pass{number: -1, deck: i}
		d.passes[i] = p
		d.bytes += passOverhead
	} else {
		p.newer.older, p.older.newer = p.older, p.newer
	}
	p.older, p.newer = d.uses.older, &d.uses
	p.older.newer, p.newer.older = p, p

	before := cap(p.known)
	for place, end := v*k.w, (v+1)*k.w; place < end; {
		q, at := place/k.n, place%k.n
		d.tail = k.turn(p, q, d.tail)
		n := min(k.n-at, end-place)
		if at+n <= int64(len(p.known)) {
			dst = append(dst, p.known[at:at+n]...)
		} else {
			for j := at; j < at+n; j++ {
				dst = append(dst, p.at(j))
			}
		}
		place += n
	}
	d.bytes += 4 * int64(cap(p.known)-before)
	for d.bytes > d.limit && d.uses.newer != p {
		d.forget(d.uses.newer)
	}
	return dst
}

// forget lets go of p.
func (d *dealer) forget(p *pass) {
	p.newer.older, p.older.newer = p.older, p.newer
	d.passes[p.deck] = nil
	d.bytes -= passOverhead + 4*int64(cap(p.known))
}
