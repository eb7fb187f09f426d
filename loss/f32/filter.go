package f32

import "fmt"

// Select writes to dst the indices i, ascending, with lo ≤ x[i] ≤ hi and
// returns how many they are. x has at most 2¹⁶ values and dst at least as many;
// what it holds behind the indices afterwards is of no meaning. A NaN is never
// selected.
func Select(dst []uint16, x []float32, lo, hi float32) int {
	if len(dst) < len(x) || len(x) > 1<<16 {
		panic(fmt.Sprintf("f32: Select of %d values to %d indices", len(x), len(dst)))
	}
	whole := len(x) &^ 31
	n := 0
	if whole > 0 {
		n = selectWhole(dst, x[:whole], lo, hi)
	}
	return n + selectGeneric(dst[n:], x[whole:], whole, lo, hi)
}

// A Sieve keeps a value v in [Lo, Hi] with a word w where mix(Key + w) ≤ Cut;
// mix is the output function of SplitMix64 (Steele, Lea and Flood, "Fast
// splittable pseudorandom number generators", OOPSLA 2014).
type Sieve struct {
	Lo, Hi   float32
	Key, Cut uint64
}

// Sift writes to dst s<<16 | i for every sieve s that keeps v[i] with w[i], in
// any order, and returns how many they are. v and w have the same length, at
// most 2¹⁶, as have sieves; dst has room for all and for 8 more, and what it
// holds behind them afterwards is of no meaning.
func Sift(dst []uint32, v []float32, w []uint64, sieves []Sieve) int {
	sameLen("Sift", len(v), len(w))
	if len(v) > 1<<16 || len(sieves) > 1<<16 || len(dst) < len(v)*len(sieves)+8 {
		panic(fmt.Sprintf("f32: Sift of %d values by %d sieves to %d", len(v), len(sieves), len(dst)))
	}
	if len(v) == 0 || len(sieves) == 0 {
		return 0
	}
	return sift(dst, v, w, sieves)
}

func selectGeneric(dst []uint16, x []float32, first int, lo, hi float32) (n int) {
	for i, v := range x {
		if lo <= v && v <= hi {
			dst[n] = uint16(first + i)
			n++
		}
	}
	return n
}

func siftGeneric(dst []uint32, v []float32, w []uint64, sieves []Sieve) (n int) {
	w = w[:len(v)]
	for s := range sieves {
		b := sieves[s]
		for i, x := range v {
			if !(b.Lo <= x && x <= b.Hi) {
				continue
			}
			h := b.Key + w[i]
			h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
			h = (h ^ h>>27) * 0x94d049bb133111eb
			if h^h>>31 <= b.Cut {
				dst[n] = uint32(s)<<16 | uint32(i)
				n++
			}
		}
	}
	return n
}
