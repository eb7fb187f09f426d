package stages

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func pixelsOf(pictures ...byte) [][16]byte {
	all := make([][16]byte, len(pictures))
	for i, p := range pictures {
		all[i][3] = p
	}
	return all
}

func TestSelect(t *testing.T) {
	// Rows 0 and 2 are duplicates; 1 and 3 conflict, and 5 repeats 3; 4 is of
	// unknown class with the pixels of 0; class 2 has no row.
	base := SelectConfig{
		Labels: []int32{0, 0, 0, 1, -1, 1, 1}, Pixels: pixelsOf(7, 8, 7, 8, 7, 8, 9), Classes: 3, InOrder: true,
	}
	conflict := []Conflict{{Rows: [2]int64{1, 3}, Labels: [2]int32{0, 1}}}
	for _, tt := range []struct {
		name string
		set  func(*SelectConfig)
		want Selection
	}{
		{"all", func(*SelectConfig) {}, Selection{Order: []int64{0, 1, 2, 3, 4, 5, 6}, Classes: []int32{0, 1, 2}}},
		{"duplicates", func(c *SelectConfig) { c.DropDuplicates = true }, Selection{Order: []int64{0, 1, 3, 4, 6}, Classes: []int32{0, 1, 2}}},
		{"conflicts", func(c *SelectConfig) { c.DropConflicts = true }, Selection{Order: []int64{0, 2, 4, 6}, Classes: []int32{0, 1, 2}}},
		{"small classes", func(c *SelectConfig) { c.DropDuplicates, c.MinRows = true, 2 },
			Selection{Order: []int64{0, 1, 3, 4, 6}, Classes: []int32{0, 1, -1}, LeftOut: 1}},
		{"small after the others", func(c *SelectConfig) { c.DropConflicts, c.MinRows = true, 2 },
			Selection{Order: []int64{0, 2, 4}, Classes: []int32{0, -1, -1}, LeftOut: 2, SmallClass: 1}},
	} {
		cfg := base
		tt.set(&cfg)
		got, err := Select(cfg)
		if err != nil {
			t.Fatal(err)
		}
		tt.want.Duplicates, tt.want.Conflicting, tt.want.Conflicts = 2, 3, conflict
		if !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, *got, tt.want)
		}
	}
	if _, err := Select(SelectConfig{Labels: []int32{0}, Classes: 1}); err == nil {
		t.Error("labels without digests")
	}
}

// The order is a permutation that the seed alone decides. It is part of what a
// prepared data set is, so it is pinned.
func TestSelectOrder(t *testing.T) {
	order := func(n int, seed uint64) []int64 {
		cfg := SelectConfig{Labels: make([]int32, n), Pixels: make([][16]byte, n), Classes: 1, Seed: seed}
		s, err := Select(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s.Order
	}
	if got, want := order(10, 1), []int64{7, 6, 3, 8, 5, 1, 0, 4, 2, 9}; !slices.Equal(got, want) {
		t.Errorf("order of 10 by seed 1 is %v, want %v", got, want)
	}
	if slices.Equal(order(100, 1), order(100, 2)) {
		t.Error("two seeds give one order")
	}
	sorted := slices.Sorted(slices.Values(order(1000, 3)))
	for i, v := range sorted {
		if int64(i) != v {
			t.Fatalf("not a permutation: %d in place %d", v, i)
		}
	}
}

// Against the definition, row by row.
func TestSelectRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n := rng.IntN(30)
		cfg := SelectConfig{Classes: 3, InOrder: true, DropDuplicates: rng.IntN(2) > 0, DropConflicts: rng.IntN(2) > 0, MinRows: rng.IntN(4)}
		pictures := make([]byte, n)
		for i := range n {
			pictures[i] = byte(rng.IntN(12))
			cfg.Labels = append(cfg.Labels, int32(rng.IntN(4))-1)
		}
		cfg.Pixels = pixelsOf(pictures...)
		keep := make([]bool, n)
		rows := map[int32]int{}
		var duplicates, conflicting int64
		for i := range n {
			again, other := false, false
			for k := range n {
				if pictures[i] != pictures[k] {
					continue
				}
				again = again || k < i && cfg.Labels[k] == cfg.Labels[i]
				other = other || cfg.Labels[i] >= 0 && cfg.Labels[k] >= 0 && cfg.Labels[k] != cfg.Labels[i]
			}
			if again {
				duplicates++
			}
			if other {
				conflicting++
			}
			keep[i] = !(again && cfg.DropDuplicates) && !(other && cfg.DropConflicts)
			if keep[i] {
				rows[cfg.Labels[i]]++
			}
		}
		var want []int64
		for i := range n {
			if l := cfg.Labels[i]; keep[i] && (l < 0 || rows[l] >= cfg.MinRows) {
				want = append(want, int64(i))
			}
		}
		got, err := Select(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Order, want) || got.Duplicates != duplicates || got.Conflicting != conflicting {
			t.Fatalf("%+v of %+v, want %v, %d duplicates, %d conflicting", got, cfg, want, duplicates, conflicting)
		}
	}
}
