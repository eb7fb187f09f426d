package stages

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// bijection fails t unless at takes each value of 0 … n−1 once.
func bijection(t *testing.T, what string, n uint64, at func(uint64) uint32) {
	t.Helper()
	seen := make([]uint64, (n+63)/64)
	for i := range n {
		v := uint64(at(i))
		if v >= n || seen[v/64]>>(v%64)&1 == 1 {
			t.Fatalf("%s, n = %d: place %d holds %d, which is out of range or there before", what, n, i, v)
		}
		seen[v/64] |= 1 << (v % 64)
	}
}

func TestPermutationIsBijection(t *testing.T) {
	small, large := uint64(2_000), 20
	if planLong {
		small, large = 100_000, 26
	}
	var sizes []uint64
	for n := range small {
		sizes = append(sizes, n+1)
	}
	for k := 11; k <= large; k++ {
		sizes = append(sizes, 1<<k-1, 1<<k, 1<<k+1)
	}
	for seed := range uint64(3) {
		key := newPlanKey("test", seed)
		for _, n := range sizes {
			if n <= maxTable {
				table := make([]uint32, n)
				shuffle(table, key)
				bijection(t, "table", n, func(i uint64) uint32 { return table[i] })
			}
			if n > 1 {
				bijection(t, "feistel", n, newFeistel(n, key).at)
			}
		}
	}
}

// The largest set a feistel is for: values stay in range, differ, and do not
// depend on the order they are asked in.
func TestFeistelOf32Bits(t *testing.T) {
	f := newFeistel(1<<32, newPlanKey("test"))
	seen := make(map[uint32]uint64)
	for i := uint64(0); i < 1<<32; i += 1<<17 - 1 {
		v := f.at(i)
		if j, ok := seen[v]; ok {
			t.Fatalf("places %d and %d hold %d", i, j, v)
		}
		seen[v] = i
	}
	for v, i := range seen {
		if f.at(i) != v {
			t.Fatalf("place %d holds %d and later %d", i, v, f.at(i))
		}
	}
}

// Every one of the n! orders is as likely as the others.
func TestShuffleIsUniform(t *testing.T) {
	most, seeds := 5, 24_000
	if planLong {
		most, seeds = 6, 240_000
	}
	for n := 2; n <= most; n++ {
		rank := make(map[string]int)
		var counts []int
		table := make([]uint32, n)
		for seed := range seeds {
			shuffle(table, newPlanKey("image", uint64(seed), 0, 0))
			order := fmt.Sprint(table)
			if _, ok := rank[order]; !ok {
				rank[order] = len(counts)
				counts = append(counts, 0)
			}
			counts[rank[order]]++
		}
		if orders := int(math.Gamma(float64(n) + 1)); len(counts) != orders {
			t.Errorf("n = %d: %d orders of %d seen", n, len(counts), orders)
		}
		evenly(t, fmt.Sprintf("n = %d", n), counts)
	}
}

// Items that were side by side stay so, in either order, at 2(n−1)/n pairs of
// a permutation: nearly Poisson, with variance 2.
func TestNeighbourRate(t *testing.T) {
	for _, tt := range []struct {
		n       uint64
		feistel bool
		keys    int
	}{{1000, false, 3000}, {1000, true, 3000}, {maxTable + 1, true, 60}, {100_000, true, 40}} {
		pairs := 0
		table := make([]uint32, tt.n)
		for k := range tt.keys {
			key := newPlanKey("test", uint64(k))
			if tt.feistel {
				f := newFeistel(tt.n, key)
				for i := range table {
					table[i] = f.at(uint64(i))
				}
			} else {
				shuffle(table, key)
			}
			for i := 1; i < len(table); i++ {
				if d := int64(table[i]) - int64(table[i-1]); d == 1 || d == -1 {
					pairs++
				}
			}
		}
		mean := float64(pairs) / float64(tt.keys)
		want := 2 * float64(tt.n-1) / float64(tt.n)
		if sigma := math.Sqrt(2 / float64(tt.keys)); math.Abs(mean-want) > 3*sigma {
			t.Errorf("n = %d, feistel %v: %.3f neighbours, want %.3f ± %.3f", tt.n, tt.feistel, mean, want, 3*sigma)
		}
	}
}

// These numbers belong to version 1 of the format: see [keyPrefix].
func TestPermutationGolden(t *testing.T) {
	table := make([]uint32, 10)
	shuffle(table, newPlanKey("image", 1, 2, 3))
	if want := []uint32{5, 7, 3, 4, 6, 8, 9, 2, 0, 1}; !slices.Equal(table, want) {
		t.Errorf("table %v, want %v", table, want)
	}
	for _, tt := range []struct {
		n    uint64
		want []uint32
	}{
		{maxTable + 1, []uint32{32123, 56072, 17653, 18924, 34350, 9125}},
		{1_000_000, []uint32{385138, 610285, 54383, 37459, 335887, 833324}},
		{1 << 32, []uint32{3118913782, 893582673, 117314857, 3816551702, 1672869989, 796096593}},
	} {
		f := newFeistel(tt.n, newPlanKey("image", 1, 2, 3))
		var got []uint32
		for i := range uint64(5) {
			got = append(got, f.at(i))
		}
		got = append(got, f.at(tt.n-1))
		if !slices.Equal(got, tt.want) {
			t.Errorf("feistel of %d: %v, want %v", tt.n, got, tt.want)
		}
	}
}
