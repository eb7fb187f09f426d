package stages

import (
	"encoding/hex"
	"math"
	"os"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// planLong asks for the counts that take minutes.
var planLong = os.Getenv("TERCET_LONG") != ""

// evenly fails t when counts are too uneven to come from a uniform
// distribution: p below 0.001.
func evenly(t *testing.T, what string, counts []int) {
	t.Helper()
	var total int
	for _, c := range counts {
		total += c
	}
	want := float64(total) / float64(len(counts))
	var chi float64
	for _, c := range counts {
		chi += (float64(c) - want) * (float64(c) - want) / want
	}
	if p := (distuv.ChiSquared{K: float64(len(counts) - 1)}).Survival(chi); p < 0.001 {
		t.Errorf("%s: chi-square %.1f over %d cells, p = %.2g", what, chi, len(counts), p)
	}
}

// These numbers belong to version 1 of the format: see [keyPrefix].
func TestPlanKeyGolden(t *testing.T) {
	key := newPlanKey("image", 1, 2, 3)
	if got, want := hex.EncodeToString(key[:]), "f3db96157956709ada4d872523784cedbadd4ceb0de71bceffed0ca37e51a6dc"; got != want {
		t.Errorf("key %s, want %s", got, want)
	}
	d := newDice(key)
	for i, want := range []uint64{0x2e989fc67062bab7, 0x069bc037b5be07aa, 0x4cedb3610a152912, 0x3e0a76cd32277e1e} {
		if got := d.next(); got != want {
			t.Errorf("throw %d is %#x, want %#x", i, got, want)
		}
	}
	for i, want := range []uint64{40, 282, 407, 384, 788, 72} {
		if got := d.below(1000); got != want {
			t.Errorf("throw %d below 1000 is %d, want %d", i, got, want)
		}
	}
}

func TestPlanKeysDiffer(t *testing.T) {
	side := uint64(17) // seeds, classes and passes each, and two stages
	if planLong {
		side = 171 // 10⁷ tuples
	}
	seen := make(map[[12]byte]bool, 2*side*side*side)
	for _, stage := range []string{"class", "image"} {
		for seed := range side {
			for class := range side {
				for pass := range side {
					key := newPlanKey(stage, seed, class, pass)
					if k := [12]byte(key[:12]); seen[k] {
						t.Fatalf("%s, seed %d, class %d, pass %d has the key of another tuple", stage, seed, class, pass)
					} else {
						seen[k] = true
					}
				}
			}
		}
	}
	for _, pair := range [][2]planKey{
		{newPlanKey("class", 7, 8), newPlanKey("class", 8, 7)},
		{newPlanKey("ab", 1), newPlanKey("a", 'b', 1)},
		{newPlanKey("a", 1), newPlanKey("a", 1, 0)},
		{newPlanKey("a"), newPlanKey("a", 0)},
	} {
		if pair[0] == pair[1] {
			t.Error("two tuples share a key")
		}
	}
}

func TestDiceBelow(t *testing.T) {
	d := newDice(newPlanKey("test"))
	for _, n := range []uint64{1, 2, 3, 1 << 32, 1<<63 + 1, math.MaxUint64} {
		for range 1000 {
			if got := d.below(n); got >= n {
				t.Fatalf("below(%d) = %d", n, got)
			}
		}
	}
	for _, n := range []uint64{2, 3, 7, 100, 1000} {
		counts := make([]int, n)
		for range 100 * n {
			counts[d.below(n)]++
		}
		evenly(t, "below", counts)
	}
	// Without rejection a third of the interval would come up twice as often.
	const n = 3 << 62
	thirds := make([]int, 3)
	for range 30_000 {
		thirds[d.below(n)>>62]++
	}
	evenly(t, "below 3·2⁶²", thirds)
}
