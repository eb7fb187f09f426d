package stages

import "math/bits"

// maxTable is the size up to which a permutation is a table, and so exactly
// uniform. A larger one would cost more to build than the few places that are
// read of it are worth.
const maxTable = 1 << 16

// shuffle makes dst the permutation of 0 … len(dst)−1 that key stands for, by
// Fisher and Yates' method in Durstenfeld's order.
func shuffle(dst []uint32, key planKey) {
	d := newDice(key)
	d.shuffle(dst)
}

// shuffle makes dst a permutation of 0 … len(dst)−1.
func (d *dice) shuffle(dst []uint32) {
	for i := range dst {
		dst[i] = uint32(i)
	}
	for i := len(dst) - 1; i > 0; i-- {
		j := d.below(uint64(i) + 1)
		dst[i], dst[j] = dst[j], dst[i]
	}
}

// feistelRounds is 8: with 4, neighbours still stay neighbours too often.
const feistelRounds = 8

// A feistel is a permutation of 0 … n−1, 2 ≤ n ≤ 2³², of which any place can be
// had without the others: a Feistel network over the fewest bits that hold n−1,
// in halves that differ by one bit where they must, walked until it lands below
// n (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).
// Fewer than two steps are expected.
type feistel struct {
	n           uint64
	rightBits   uint
	left, right uint64 // masks of the halves
	keys        [feistelRounds]uint64
}

func newFeistel(n uint64, key planKey) *feistel {
	width := uint(bits.Len64(n - 1))
	f := &feistel{n: n, rightBits: width - width/2}
	f.left = 1<<(width/2) - 1
	f.right = 1<<f.rightBits - 1
	d := newDice(key)
	for r := range f.keys {
		f.keys[r] = d.next()
	}
	return f
}

// at is place i, for i < n. It ends: a permutation of the larger set leads from
// i < n along a cycle that comes back to i.
func (f *feistel) at(i uint64) uint32 {
	for {
		l, r := i>>f.rightBits, i&f.right
		for k := 0; k < feistelRounds; k += 2 {
			l ^= scramble(f.keys[k]+r) & f.left
			r ^= scramble(f.keys[k+1]+l) & f.right
		}
		if i = l<<f.rightBits | r; i < f.n {
			return uint32(i)
		}
	}
}
