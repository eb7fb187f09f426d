package stages

import "slices"

// A deck deals hands of w out of n items, for ever. It is shuffled pass after
// pass: places q·n to q·n+n−1 are pass q, and hand v is places v·w to v·w+w−1.
// Two things hold of every deck, whatever n and w:
//
//   - a pass holds every item once;
//   - so does every run of n places that begins at the start of a hand or a
//     multiple of n places after it, and lies in that hand; a shorter rest
//     repeats nothing in itself.
//
// So the w items of a hand are different when w ≤ n. When w > n, all n come
// first, then all again, and the rest come from one more round of them. The
// classes of a batch are a hand of P out of C, the images of a visit to a class
// a hand of K out of n_j.
type deck struct {
	n, w  int64
	stage string // of the key: "class" or "image"
	seed  uint64
	class int32 // of the key: the class whose images these are; 0 in a deck of classes
}

// A pass is one shuffle of a deck, repaired where it begins inside a hand.
type pass struct {
	number int64
	known  []uint32 // the first places; all of them up to maxTable
	rest   *feistel // the places after known
	used   bool     // lately; the dealer's
}

// at is the item at place i of the pass.
func (p *pass) at(i int64) uint32 {
	if i < int64(len(p.known)) {
		return p.known[i]
	}
	return p.rest.at(uint64(i))
}

// shuffle makes p pass q of d as it comes from the key, using p's memory again.
func (d *deck) shuffle(p *pass, q int64) {
	key := newPlanKey(d.stage, d.seed, uint64(d.class), uint64(q))
	p.number = q
	if d.n <= maxTable {
		p.known = slices.Grow(p.known[:0], int(d.n))[:d.n]
		shuffle(p.known, key)
		return
	}
	p.known = p.known[:0]
	p.rest = newFeistel(uint64(d.n), key)
}

// turn makes p pass q of d, from whatever pass of d it is; number −1 is none.
// tail is scratch memory and is returned.
//
// A repair looks at the end of the pass before, as repaired. It moves the first
// w places at most, and looks at fewer than w: so for n ≥ 2w the end of an
// unrepaired pass will do. Otherwise repairs build on one another, from the last
// pass that begins where a hand begins: at most w/gcd(w,n) passes back.
func (d *deck) turn(p *pass, q int64, tail []uint32) []uint32 {
	if p.number == q {
		return tail
	}
	first := q // the latest pass whose end is known without a repair
	if q*d.n%d.w != 0 {
		if d.n >= 2*d.w {
			first = q - 1
		} else {
			first = q - q%(d.w/gcd(d.w, d.n))
		}
	}
	if p.number < first || p.number > q {
		d.shuffle(p, first)
	}
	for p.number < q {
		next := p.number + 1
		t, h := d.overlap(next)
		tail = tail[:0]
		for i := d.n - t; i < d.n; i++ {
			tail = append(tail, p.at(i))
		}
		d.shuffle(p, next)
		repair(p, tail, h)
	}
	return tail
}

// overlap says how pass q begins: its first h places complete a round of which
// the last t places of the pass before were the beginning, and so must differ
// from them. h is less than what is missing when the hand ends first.
func (d *deck) overlap(q int64) (t, h int64) {
	dealt := q * d.n % d.w // of the hand in which pass q begins
	t = dealt % d.n
	return t, min(d.w-dealt, d.n-t)
}

// repair swaps items of tail out of the first h places of p, in order, with the
// first places behind them that hold none. The t items of tail fill at most t
// of the first h+t places, so at least h of these are free of them, and no place
// from h+t on is touched.
func repair(p *pass, tail []uint32, h int64) {
	if len(tail) == 0 {
		return
	}
	for i := int64(len(p.known)); i < h+int64(len(tail)); i++ {
		p.known = append(p.known, p.rest.at(uint64(i)))
	}
	slices.Sort(tail)
	spare := h
	for i := range h {
		if _, taken := slices.BinarySearch(tail, p.known[i]); !taken {
			continue
		}
		for {
			_, taken := slices.BinarySearch(tail, p.known[spare])
			if !taken {
				break
			}
			spare++
		}
		p.known[i], p.known[spare] = p.known[spare], p.known[i]
		spare++
	}
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
