package stages

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// updating runs n batches from first on, of which each hands in a row for
// sample b mod 3 that says which batch it was: (b+1, 1), scaled.
func updating(t *testing.T, c *Cache, m *model, first, n int64, prefetch int, more func(b *pipeline.Batch) bool) []string {
	t.Helper()
	got, err := train(t.Context(), c, m, first, n, prefetch, func(b *pipeline.Batch) bool {
		rows := pipeline.Embeddings{Dim: 2, Data: []float32{-1, -1, float32(b.Number + 1), 1}}
		id := b.Number % 3
		if err := c.Update([]int64{id, id}, rows); err != nil { // the later row of a sample counts
			t.Error(err)
		}
		rows.Data[2] = 1e9 // the cache has its own copy
		return more == nil || more(b)
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// rowAfter is what sample id holds when it was last updated before batch cut.
func rowAfter(cut, id int64) []float32 {
	last := cut - 1
	for last >= 0 && last%3 != id {
		last--
	}
	x, y := float64(1), float64(id+1) // the first generation
	if last >= 0 {
		x, y = float64(last+1), 1
	}
	length := math.Sqrt(x*x + y*y)
	return []float32{float32(x / length), float32(y / length)}
}

// Rows handed in during the body of batch b are in generation g exactly when b
// is below g·R, whatever was prefetched and however long a copy takes.
func TestUpdateEntersTheGenerationItIsBelow(t *testing.T) {
	for _, lag := range []int64{0, 1} {
		for _, prefetch := range []int{0, 1, 40} {
			synctest.Test(t, func(t *testing.T) {
				m := &model{weight: new(atomic.Int64)}
				c := newCache(t, 5, lag, nil)
				pause := rand.New(rand.NewPCG(uint64(prefetch), 1))
				got := updating(t, c, m, 0, 33, prefetch, func(*pipeline.Batch) bool {
					time.Sleep(time.Duration(pause.IntN(3)) * time.Millisecond)
					return true
				})
				for b, line := range got {
					g := max(0, int64(b)/5-lag)
					rows := slices.Concat(rowAfter(5*g, 2), rowAfter(5*g, 0), rowAfter(5*g, 1), rowAfter(5*g, 2))
					if want := fmt.Sprint(rows); !strings.HasPrefix(line, fmt.Sprintf("%d %d ", b, g)) || !strings.HasSuffix(line, want) {
						t.Errorf("lag %d, prefetch %d: batch %d used %q, want generation %d: %s", lag, prefetch, b, line, g, want)
					}
				}
			})
		}
	}
}

// A run that is stopped anywhere and goes on in another process, with what was
// settled and what was pending, is the uninterrupted one.
func TestResumeWithUpdates(t *testing.T) {
	for _, lag := range []int64{0, 1} {
		m := &model{weight: new(atomic.Int64)}
		want := updating(t, newCache(t, 4, lag, nil), m, 0, 22, 0, nil)
		for stop := int64(1); stop < 22; stop++ {
			c := newCache(t, 4, lag, nil)
			var held []*Snapshot
			updating(t, c, m, 0, 22, 3, func(b *pipeline.Batch) bool {
				if b.Number+1 < stop {
					return true
				}
				var err error
				if held, err = c.Settled(t.Context()); err != nil {
					t.Error(err)
				}
				return false
			})
			ids, rows := c.Pending()
			again, err := NewCache(CacheConfig{First: held[0], Every: 4, Lag: lag})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range held[1:] {
				if err := again.Restore(s); err != nil {
					t.Fatal(err)
				}
			}
			if err := again.Update(ids, rows); err != nil {
				t.Fatal(err)
			}
			if got := updating(t, again, m, stop, 22-stop, 2, nil); !slices.Equal(got, want[stop:]) {
				t.Errorf("lag %d, stopped before %d:\n%s\nwant\n%s", lag, stop, strings.Join(got, "\n"), strings.Join(want[stop:], "\n"))
			}
			// And in this one, from that state: what had been handed in after it is handed in again.
			if got := updating(t, c, m, stop, 22-stop, 2, nil); !slices.Equal(got, want[stop:]) {
				t.Errorf("lag %d, left before %d and ranged over again:\n%s\nwant\n%s", lag, stop, strings.Join(got, "\n"), strings.Join(want[stop:], "\n"))
			}
		}
	}
}

// What a frozen model makes at g·R is newer than the rows that came before, and
// those that come after something that was handed in are newer than it.
func TestUpdateAndRefresh(t *testing.T) {
	ctx := t.Context()
	m := &model{weight: new(atomic.Int64)}
	with := updating(t, newCache(t, 4, 1, learning{m}), m, 0, 20, 0, nil)
	m.weight.Store(0)
	without, err := train(ctx, newCache(t, 4, 1, learning{m}), m, 0, 20, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(with, without) {
		t.Errorf("rows that are older than the frozen model count:\n%s\nwant\n%s", strings.Join(with, "\n"), strings.Join(without, "\n"))
	}

	// A model that could change, and has not since it was embedded with, is older.
	still := newCache(t, 4, 0, learning{&model{frozen: 0}})
	got := updating(t, still, m, 0, 9, 0, nil)
	if want := fmt.Sprint(rowAfter(8, 2), rowAfter(8, 0), rowAfter(8, 1), rowAfter(8, 2)); !strings.HasSuffix(strip(got[8]), strip(want)) {
		t.Errorf("batch 8 used %q, want updated rows %s", got[8], want)
	}

	c := newCache(t, 4, 0, nil)
	got = updating(t, c, m, 0, 12, 0, func(b *pipeline.Batch) bool {
		switch b.Number {
		case 2: // after the updates of 0, 1 and 2, before that of 3 to sample 0
			if err := c.Replace(pipeline.Embeddings{Dim: 2, Data: []float32{0, 1, 0, 1, 0, 1}}, SnapshotConfig{Fingerprint: "by hand"}); err != nil {
				t.Error(err)
			}
		case 5: // before those of 6 to sample 0 and 7 to sample 1
			if err := c.Refresh(&model{frozen: 0}); err != nil {
				t.Error(err)
			}
		}
		return true
	})
	if want := fmt.Sprint([]float32{0, 1}, rowAfter(4, 0), []float32{0, 1}, []float32{0, 1}); !strings.HasSuffix(strip(got[4]), strip(want)) {
		t.Errorf("batch 4 used %q, want replaced rows and the update after them, %s", got[4], want)
	}
	if want := fmt.Sprint(rowAfter(0, 2), rowAfter(8, 0), rowAfter(8, 1), rowAfter(0, 2)); !strings.HasSuffix(strip(got[8]), strip(want)) {
		t.Errorf("batch 8 used %q, want embedded rows and the updates after them, %s", got[8], want)
	}
	held := c.Held()
	if print := held[len(held)-1].Fingerprint; !strings.Contains(print, updated) || embedderOf(print) != c.cfg.Builder.fingerprint(&model{}) {
		t.Errorf("fingerprint is %q, want the embedder's and what was updated", print)
	}
}

func strip(s string) string { return strings.NewReplacer("[", "", "]", "").Replace(s) }

func TestUpdateIsChecked(t *testing.T) {
	c := newCache(t, 4, 0, nil)
	nan := float32(math.NaN())
	for _, tt := range []struct {
		ids  []int64
		rows pipeline.Embeddings
		want string
	}{
		{[]int64{0, 1}, pipeline.Embeddings{Dim: 2, Data: []float32{1, 2}}, "1 rows for 2 samples"},
		{[]int64{3}, pipeline.Embeddings{Dim: 2, Data: []float32{1, 2}}, "sample 3 is not one of the 3"},
		{[]int64{-1}, pipeline.Embeddings{Dim: 2, Data: []float32{1, 2}}, "sample -1 is not one"},
		{[]int64{0}, pipeline.Embeddings{Dim: 3, Data: []float32{1, 2, 3}}, "rows of 3 values, and the cache has rows of 2"},
		{[]int64{0, 2}, pipeline.Embeddings{Dim: 2, Data: []float32{1, 2, 3, nan}}, "embedding of sample 2: value 1 is NaN"},
		{[]int64{1}, pipeline.Embeddings{Dim: 2, Data: []float32{0, 0}}, "embedding of sample 1: no direction"},
	} {
		if err := c.Update(tt.ids, tt.rows); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error is %v, want one with %q", err, tt.want)
		}
	}
	if ids, _ := c.Pending(); len(ids) != 0 {
		t.Errorf("rows of samples %v were taken", ids)
	}
	if err := c.Update(nil, pipeline.Embeddings{}); err != nil {
		t.Errorf("no rows: %v", err)
	}
	if err := newCache(t, 0, 0, nil).Update([]int64{0}, pipeline.Embeddings{Dim: 2, Data: []float32{1, 2}}); err == nil || !strings.Contains(err.Error(), "Every is 0") {
		t.Errorf("update of a cache that never refreshes: %v", err)
	}
}

// Next names the batch that first uses what is handed in now.
func TestNextIsWhereItTakesEffect(t *testing.T) {
	for _, lag := range []int64{0, 1} {
		m := &model{weight: new(atomic.Int64)}
		c := newCache(t, 5, lag, nil)
		first := map[int32]int64{} // batch that first used a generation
		said := map[int32]int64{}
		if _, err := train(t.Context(), c, m, 0, 30, 3, func(b *pipeline.Batch) bool {
			if _, ok := first[b.Generation]; !ok {
				first[b.Generation] = b.Number
			}
			g, batch := c.Next()
			if batch <= b.Number || int64(g) != b.Number/5+1 {
				t.Errorf("lag %d, batch %d: what is handed in is generation %d, from batch %d on", lag, b.Number, g, batch)
			}
			said[g] = batch
			return true
		}); err != nil {
			t.Fatal(err)
		}
		for g, batch := range first {
			if g > 0 && said[g] != batch {
				t.Errorf("lag %d: generation %d was used from batch %d on, want %d", lag, g, batch, said[g])
			}
		}
	}
	if g, b := newCache(t, 0, 0, nil).Next(); g != 0 || b != 0 {
		t.Errorf("a cache that never refreshes: generation %d at batch %d", g, b)
	}
}
