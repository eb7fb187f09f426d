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

// A Sieve keeps the value of a column where it is in [Lo, Hi] and the first 31
// bits of the keyed hash of the column are at most Cut: see [Sift].
type Sieve struct {
	Lo, Hi   float32
	Key, Cut uint64
}

// Sift writes to dst s<<16 | i for every sieve s and every i of hits where
//
//	Lo ≤ x[i] ≤ Hi and mix(Key + (first + i)·0x9e3779b97f4a7c15)>>33 ≤ Cut
//
// in any order, and returns how many they are; mix is the output function of
// SplitMix64, and the factor the step of its counter (Steele, Lea and Flood,
// "Fast splittable pseudorandom number generators", OOPSLA 2014). dst has room
// for all and for 8 more, and what it holds behind them afterwards is of no
// meaning. hits are indices of x.
func Sift(dst []uint32, hits []uint16, x []float32, first uint64, sieves []Sieve) int {
	if len(sieves) > 1<<16 || len(dst) < len(hits)*len(sieves)+8 {
		panic(fmt.Sprintf("f32: Sift of %d values by %d sieves to %d", len(hits), len(sieves), len(dst)))
	}
	if len(hits) == 0 || len(sieves) == 0 {
		return 0
	}
	return sift(dst, hits, x, first, sieves)
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

func siftGeneric(dst []uint32, hits []uint16, x []float32, first uint64, sieves []Sieve) (n int) {
	for _, i := range hits {
		v, w := x[i], (first+uint64(i))*0x9e3779b97f4a7c15
		for s := range sieves {
			b := &sieves[s]
			if !(b.Lo <= v && v <= b.Hi) {
				continue
			}
			h := b.Key + w
			h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
			h = (h ^ h>>27) * 0x94d049bb133111eb
			if h>>33 <= b.Cut { // the last step of the mix, h ^ h>>31, changes none of these bits
				dst[n] = uint32(s)<<16 | uint32(i)
				n++
			}
		}
	}
	return n
}
