package f32

import "fmt"

// Select writes to dst the indices i, ascending, with lo ≤ x[i] ≤ hi and
// returns how many they are. dst is at least as long as x; what it holds behind
// them afterwards is of no meaning. A NaN is never selected.
func Select(dst []int32, x []float32, lo, hi float32) int {
	if len(dst) < len(x) {
		panic(fmt.Sprintf("f32: Select of %d values to %d indices", len(x), len(dst)))
	}
	whole := len(x) &^ 15
	n := 0
	if whole > 0 {
		n = selectWhole(dst, x[:whole], lo, hi)
	}
	return n + selectGeneric(dst[n:], x[whole:], whole, lo, hi)
}

// Sift writes to dst the indices i, ascending, with lo ≤ v[i] ≤ hi and
// mix(key + w[i]) ≤ cut, and returns how many they are; mix is the output
// function of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
// number generators", OOPSLA 2014). v and w have the same length and dst at
// least that, rounded up to a multiple of 8; what it holds behind the indices
// afterwards is of no meaning.
func Sift(dst []int32, v []float32, w []uint64, lo, hi float32, key, cut uint64) int {
	sameLen("Sift", len(v), len(w))
	if len(dst) < (len(v)+7)&^7 {
		panic(fmt.Sprintf("f32: Sift of %d values to %d indices", len(v), len(dst)))
	}
	if len(v) == 0 {
		return 0
	}
	return sift(dst, v, w, lo, hi, key, cut)
}

func selectGeneric(dst []int32, x []float32, first int, lo, hi float32) (n int) {
	for i, v := range x {
		if lo <= v && v <= hi {
			dst[n] = int32(first + i)
			n++
		}
	}
	return n
}

func siftGeneric(dst []int32, v []float32, w []uint64, lo, hi float32, key, cut uint64) (n int) {
	w = w[:len(v)]
	for i, x := range v {
		if !(lo <= x && x <= hi) {
			continue
		}
		h := key + w[i]
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		if h^h>>31 <= cut {
			dst[n] = int32(i)
			n++
		}
	}
	return n
}
