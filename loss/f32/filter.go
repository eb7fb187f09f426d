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

// A Sieve keeps the value of a column where it is in [Lo, Hi] and the column's
// [Hash] under Key is at most Cut.
type Sieve struct {
	Lo, Hi float32
	Key    uint64
	Cut    uint32
}

// Hash is a permutation of 32 bits, chosen by a key of 64: numbers that differ
// have hashes that differ, under any one key. It is the 32-bit hash of lowest
// known bias with two multiplications (Wellons, "Hash Prospector"), over a
// counter that begins at half of the key, with the other half mixed in half way.
func Hash(key uint64, number uint32) uint32 {
	h := number*0x9e3779b9 + uint32(key)
	h = (h ^ h>>16) * 0x21f0aaad
	h = (h ^ h>>15 ^ uint32(key>>32)) * 0xd35a2d97
	return h ^ h>>15
}

// Sift writes to dst s<<16 | i for every sieve s and every i of hits where
//
//	Lo ≤ x[i] ≤ Hi and Hash(Key, numbers[i]) ≤ Cut
//
// in any order, and returns how many they are. Without numbers, those of the x
// are first, first+1, …; otherwise they are as many as x. dst has room for all and for 16
// more, and what it holds behind them afterwards is of no meaning. hits are
// indices of x.
func Sift(dst []uint32, hits []uint16, x []float32, first uint32, numbers []uint32, sieves []Sieve) int {
	if len(sieves) > 1<<16 || numbers != nil && len(numbers) != len(x) || len(dst) < len(hits)*len(sieves)+16 {
		panic(fmt.Sprintf("f32: Sift of %d values by %d sieves to %d", len(hits), len(sieves), len(dst)))
	}
	if len(hits) == 0 || len(sieves) == 0 {
		return 0
	}
	return sift(dst, hits, x, first, numbers, sieves)
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

func siftGeneric(dst []uint32, hits []uint16, x []float32, first uint32, numbers []uint32, sieves []Sieve) (n int) {
	for _, i := range hits {
		v, number := x[i], first+uint32(i)
		if numbers != nil {
			number = numbers[i]
		}
		for s := range sieves {
			b := &sieves[s]
			if b.Lo <= v && v <= b.Hi && Hash(b.Key, number) <= b.Cut {
				dst[n] = uint32(s)<<16 | uint32(i)
				n++
			}
		}
	}
	return n
}
