package stages

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestQueue(t *testing.T) {
	dice := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var q queue
		var want []queued
		for range 300 {
			if len(want) > 0 && dice.IntN(3) == 0 {
				got := q.take()
				at := 0
				for i := range want {
					if want[i].before(want[at]) {
						at = i
					}
				}
				if got != want[at] {
					t.Fatalf("took %v, want %v of %v", got, want[at], want)
				}
				want = slices.Delete(want, at, at+1)
				continue
			}
			v := queued{uint64(dice.IntN(5)), uint64(dice.IntN(5)), uint32(dice.IntN(5))}
			q.put(v)
			want = append(want, v)
		}
		if len(q) != len(want) {
			t.Fatalf("%d are left, want %d", len(q), len(want))
		}
	}
}
