package stages

import (
	"math"
	"slices"
	"testing"
)

func TestEntropy(t *testing.T) {
	for _, tt := range []struct {
		ids  []int64
		want float64
	}{
		{[]int64{1, 1, 1}, 0}, {[]int64{1, 2}, 1}, {[]int64{1, 2, 3, 4}, 2}, {[]int64{1, 1, 2, 3}, 1.5}, {nil, 0},
	} {
		if got := entropy(tt.ids, func(id int64) int { return int(id) }); got != tt.want {
			t.Errorf("entropy of %v is %v, want %v", tt.ids, got, tt.want)
		}
	}
}

// TestMixings: an epoch is shuffled as well at its end as at its beginning.
func TestMixings(t *testing.T) {
	labels := sortedLabels(50, 600, 600, 1)
	cfg := PlanConfig{Labels: labels, Layout: layoutOf(len(labels), 60, 10), P: 8, K: 4, Seed: 3}
	for name, budget := range map[string]int64{"over all rows": 0, "over windows": cfg.Layout.Bytes() / 10} {
		cfg.Window = budget
		p := newTestPlan(t, cfg)
		tenths := Mixings(p, cfg.Layout, 1)
		groups := make([]float64, 0, 10)
		for _, m := range tenths {
			if math.Abs(m.Class-3) > 1e-9 || m.Group < 3 || m.File != m.Group { // a file for each row group
				t.Errorf("%s: %+v", name, tenths)
			}
			groups = append(groups, m.Group)
		}
		if low, high := slices.Min(groups), slices.Max(groups); high > 1.01*low {
			t.Errorf("%s: tenths of an epoch have entropies from %v to %v", name, low, high)
		}
	}
	cfg.Window, cfg.Steps = 0, 3
	if m := Mixings(newTestPlan(t, cfg), cfg.Layout, 0); m[0] != (Mixing{}) || m[9].Class != 3 {
		t.Errorf("tenths of three batches: %+v", m)
	}
}
