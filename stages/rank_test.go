package stages

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// rankOf is resumeConfig's plan for one rank, at a state.
func rankOf(t *testing.T, steps int64, rank, world int, at pipeline.State) *Plan {
	t.Helper()
	cfg := resumeConfig
	cfg.Steps, cfg.Rank, cfg.World = steps, rank, world
	p, err := newTestPlan(t, cfg).At(at)
	if err != nil {
		t.Fatalf("rank %d of %d: %v", rank, world, err)
	}
	return p
}

// stepTogether runs every rank for up to most steps and checks that they have
// equally many batches, each its own, and the same states. It returns the union
// by number.
func stepTogether(t *testing.T, steps int64, world int, at pipeline.State, most int) (union []string, after pipeline.State) {
	t.Helper()
	streams, states := make([][]string, world), make([]pipeline.State, world)
	for r := range world {
		p := rankOf(t, steps, r, world, at)
		for b, err := range pipeline.From(p).Prefetch(r % 3).Then(planRelay{}).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if from, to := b.Step(); b.Number%int64(world) != int64(r) || to-from != int64(world) || b.Number < from || b.Number >= to || len(b.IDs) != b.P*b.K {
				t.Fatalf("rank %d of %d has batch %d of step %d to %d, with %d images", r, world, b.Number, from, to-1, len(b.IDs))
			}
			streams[r] = append(streams[r], fmt.Sprint(b.Number, b.IDs, b.Labels))
			states[r] = b.State()
			if len(streams[r]) == most {
				break
			}
		}
		if len(streams[r]) != len(streams[0]) || states[r] != states[0] {
			t.Fatalf("world %d: rank %d has %d batches and state %+v, rank 0 %d and %+v", world, r, len(streams[r]), states[r], len(streams[0]), states[0])
		}
	}
	for _, s := range streams {
		union = append(union, s...)
	}
	slices.SortFunc(union, func(a, b string) int {
		var i, j int
		fmt.Sscan(a, &i)
		fmt.Sscan(b, &j)
		return i - j
	})
	return union, states[0]
}

func TestRanksShareTheStream(t *testing.T) {
	const steps = 203 // no multiple of 2, 4 or 8
	all, _ := stepTogether(t, steps, 1, pipeline.State{}, -1)
	for _, world := range []int{1, 2, 3, 4, 8, steps} {
		got, after := stepTogether(t, steps, world, pipeline.State{}, -1)
		if want := all[:steps-steps%world]; !slices.Equal(got, want) {
			t.Errorf("world %d: the union has %d batches and is not the stream of one rank, of %d", world, len(got), len(want))
		}
		// What was left out comes first in a smaller world; the same world begins the next epoch.
		rest, _ := stepTogether(t, steps, 1, after, -1)
		if left := all[len(got):]; len(left) > 0 && !slices.Equal(rest, left) {
			t.Errorf("world %d: %d batches were left out, and one rank goes on with %d", world, len(left), len(rest))
		}
		if next := rankOf(t, steps, 0, world, after).State().Next; next != steps {
			t.Errorf("world %d: after the epoch it goes on at %d", world, next)
		}
	}
}

// 4 ranks, then 2, then 8, then 3, after any numbers of steps: nothing twice,
// nothing missing, also where a world begins at no multiple of itself.
func TestRanksGoOnInAnotherWorld(t *testing.T) {
	const steps = 120
	all, _ := stepTogether(t, steps, 1, pipeline.State{}, -1)
	for _, worlds := range [][]int{{4, 2, 8}, {1, 8, 2, 4}, {3, 8, 5, 2, 1}, {8, 1, 8, 1, 8}} {
		d := newDice(newPlanKey("worlds"))
		for range 20 {
			var got []string
			at := pipeline.State{}
			for _, world := range worlds {
				part, after := stepTogether(t, steps, world, at, 1+int(d.below(4)))
				got, at = append(got, part...), after
			}
			if !slices.Equal(got, all[:len(got)]) {
				t.Fatalf("worlds %v: the union of %d batches is not the stream of one rank", worlds, len(got))
			}
		}
	}
}

func TestRanksLeaveNoStepHalf(t *testing.T) {
	// 5 batches are left of the epoch: 8 ranks begin the next one.
	at := rankOf(t, 100, 0, 1, pipeline.State{}).stateAt(95)
	if got, _ := stepTogether(t, 100, 8, at, 1); len(got) != 8 || got[0] == "" {
		t.Fatalf("%d batches", len(got))
	}
	if next := rankOf(t, 100, 3, 8, at).State().Next; next != 100 {
		t.Errorf("8 ranks go on at batch %d, want 100", next)
	}
	if next := rankOf(t, 100, 3, 5, at).State().Next; next != 95 {
		t.Errorf("5 ranks go on at batch %d, want 95", next)
	}
}

func TestRanksRefused(t *testing.T) {
	for _, tt := range []struct {
		rank, world int
		steps       int64
		field       string
	}{
		{-1, 2, 10, "PlanConfig.Rank"},
		{2, 2, 10, "PlanConfig.Rank"},
		{1, 0, 10, "PlanConfig.Rank"},
		{0, -1, 10, "PlanConfig.World"},
		{0, 11, 10, "PlanConfig.World"},
		{10, 11, 11, ""},
	} {
		cfg := resumeConfig
		cfg.Rank, cfg.World, cfg.Steps = tt.rank, tt.world, tt.steps
		_, err := NewPlan(cfg)
		var refused *UsageError
		if tt.field == "" && err != nil || tt.field != "" && (!errors.As(err, &refused) || refused.Field != tt.field) {
			t.Errorf("rank %d of %d, %d steps: error %v, want one that names %q", tt.rank, tt.world, tt.steps, err, tt.field)
		}
	}
}
