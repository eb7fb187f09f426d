package stages

import "iter"

// ranks deals the batches of a plan to the trainers that step together: rank r
// of world takes the batches whose number is r modulo world. A step is world
// batches side by side, one for each rank, from wherever the plan starts; the
// batches at the end of an epoch that do not fill a step are left out of it. So
// the ranks' batches are disjoint, equally many, and together those of one rank
// alone. What batch b holds has nothing to do with ranks: a run may go on in
// another world after any step.
type ranks struct{ rank, world int64 }

// newRanks checks a rank, from 0, and a world; a world of 0 is one rank.
func newRanks(rank, world int) (ranks, error) {
	if world == 0 {
		world = 1
	}
	switch {
	case world < 1:
		return ranks{}, usage("PlanConfig.World", "is %d, want 1 rank or more", world)
	case rank < 0 || rank >= world:
		return ranks{}, usage("PlanConfig.Rank", "is %d, want 0 to %d in a world of %d", rank, world-1, world)
	}
	return ranks{int64(rank), int64(world)}, nil
}

// steps yields the number of the first batch of each step from start on, up to
// end, the end of the epoch.
func (r ranks) steps(start, end int64) iter.Seq[int64] {
	return func(yield func(first int64) bool) {
		for first := start; end-first >= r.world; first += r.world {
			if !yield(first) {
				return
			}
		}
	}
}

// of is this rank's batch of the step whose first batch is number first ≥ 0.
func (r ranks) of(first int64) int64 {
	return first + (r.rank-first%r.world+r.world)%r.world
}
