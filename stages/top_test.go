package stages

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestTop(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		all := make([]found, rng.IntN(30))
		for i := range all {
			all[i] = found{tier: uint8(rng.IntN(2)), key: uint64(rng.IntN(4)), id: int64(rng.IntN(6)), row: int32(i)}
		}
		limit := rng.IntN(8)
		var tops [3]top
		for i := range tops {
			tops[i].reset(limit)
		}
		for _, i := range rng.Perm(len(all)) {
			tops[rng.IntN(3)].add(all[i])
		}
		tops[2].merge(&tops[0])
		tops[2].merge(&tops[1])
		tops[2].settle()
		slices.SortFunc(all, found.compare)
		if limit > 0 {
			all = all[:min(limit, len(all))]
		}
		if !slices.Equal(tops[2].list, all) {
			t.Fatalf("the first %d are %v, want %v", limit, tops[2].list, all)
		}
	}
}

func TestDistanceKeyKeepsOrder(t *testing.T) {
	ds := []float64{-2, -1e-9, -5e-324, 0, 5e-324, 1e-300, 1, math.Nextafter(1, 2), 4, math.MaxFloat64}
	for i := range len(ds) - 1 {
		if distanceKey(ds[i]) >= distanceKey(ds[i+1]) {
			t.Errorf("the key of %v is not below that of %v", ds[i], ds[i+1])
		}
	}
}
