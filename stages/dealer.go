package stages

// passOverhead is what a pass takes beside its places, roughly, in bytes.
const passOverhead = 160

// A dealer deals from many decks. It remembers one pass of each deck, and
// forgets some that were not used lately when all of them take more than limit
// bytes. What it remembers is a matter of time, never of what is dealt. One
// goroutine at a time may use it.
type dealer struct {
	passes []*pass // by deck
	bytes  int64
	limit  int64
	sweep  int      // the deck at which forgetting goes on
	tail   []uint32 // scratch of deck.turn
}

func newDealer(decks int, limit int64) *dealer {
	return &dealer{passes: make([]*pass, decks), limit: limit}
}

// deal appends hand v of deck number i, which is k, to dst.
func (d *dealer) deal(i int, k *deck, v int64, dst []uint32) []uint32 {
	p := d.passes[i]
	if p == nil {
		p = &pass{number: -1}
		d.passes[i] = p
		d.bytes += passOverhead
	}
	p.used = true
	before := cap(p.known)
	for place, end := v*k.w, (v+1)*k.w; place < end; {
		q, at := place/k.n, place%k.n
		d.tail = k.turn(p, q, d.tail)
		n := min(k.n-at, end-place)
		for j := at; j < at+n; j++ {
			dst = append(dst, p.at(j))
		}
		place += n
	}
	d.bytes += 4 * int64(cap(p.known)-before)
	for d.bytes > d.limit && d.bytes > passOverhead+4*int64(cap(p.known)) {
		d.forget(i)
	}
	return dst
}

// forget goes round the decks (Corbató's clock) as far as the next one whose
// pass was not used since it came by last, and lets go of that. It spares deck
// keep, and ends when another deck has a pass.
func (d *dealer) forget(keep int) {
	for ; ; d.sweep++ {
		if d.sweep >= len(d.passes) {
			d.sweep = 0
		}
		p := d.passes[d.sweep]
		switch {
		case p == nil || d.sweep == keep:
		case p.used:
			p.used = false
		default:
			d.passes[d.sweep] = nil
			d.bytes -= passOverhead + 4*int64(cap(p.known))
			return
		}
	}
}
