package stages

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// Ranks that step together and keep equal weights hold equal generations and
// stamp equal states, wherever a generation begins within a step.
func TestRanksRefreshTogether(t *testing.T) {
	for _, tt := range []struct {
		world      int
		every, lag int64
	}{{2, 5, 0}, {2, 5, 1}, {3, 7, 0}, {3, 7, 1}, {4, 2, 0}, {4, 2, 1}, {4, 8, 1}} {
		t.Run(fmt.Sprintf("world=%d/every=%d/lag=%d", tt.world, tt.every, tt.lag), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(tt.world), uint64(tt.every)))
				const epochs, steps = 3, 31
				models, caches := make([]*model, tt.world), make([]*Cache, tt.world)
				for r := range models {
					models[r] = &model{weight: new(atomic.Int64), delay: func() time.Duration { return time.Duration(r*7+1) * time.Millisecond }}
					caches[r] = newCache(t, tt.every, tt.lag, learning{models[r]})
				}
				rows := map[int32]string{} // of each generation, on whichever rank had it first
				for e := range epochs {
					next := make([]func() (*pipeline.Batch, error, bool), tt.world)
					for r := range next {
						plan, err := NewPlan(PlanConfig{Labels: []int32{0, 0, 0}, P: 1, K: 2, Steps: steps, Rank: r, World: tt.world})
						if err != nil {
							t.Fatal(err)
						}
						var stop func()
						next[r], stop = iter.Pull2(pipeline.From(plan.Epoch(int64(e))).Prefetch(rng.IntN(4)).Then(&Embed{Cache: caches[r]}).All(t.Context()))
						defer stop()
					}
					for s := range steps / tt.world {
						var state pipeline.State
						for r := range next {
							b, err, ok := next[r]()
							if err != nil || !ok {
								t.Fatalf("epoch %d, step %d, rank %d: %v, %v", e, s, r, err, ok)
							}
							if r == 0 {
								state = b.State()
							} else if b.State() != state {
								t.Fatalf("epoch %d, step %d: rank %d stamps %+v, rank 0 %+v", e, s, r, b.State(), state)
							}
							if want := caches[r].Generation(b.Number); b.Generation != want {
								t.Errorf("batch %d uses generation %d, want %d", b.Number, b.Generation, want)
							}
							if err := caches[r].Check(b.State()); err != nil {
								t.Errorf("batch %d: %v", b.Number, err)
							}
							for _, held := range caches[r].Held() {
								if other, seen := rows[held.Generation]; seen && other != held.Digest {
									t.Fatalf("batch %d: generation %d of rank %d has other rows", b.Number, held.Generation, r)
								}
								rows[held.Generation] = held.Digest
							}
							models[r].weight.Add(1)
						}
						time.Sleep(time.Duration(rng.IntN(9)) * time.Millisecond)
					}
					for r := range next {
						if _, err, ok := next[r](); ok {
							t.Fatalf("rank %d has more batches in epoch %d, or %v", r, e, err)
						}
					}
				}
				if len(rows) < int(epochs*steps/tt.every)-2 {
					t.Errorf("%d generations were seen", len(rows))
				}
			})
		})
	}
}
