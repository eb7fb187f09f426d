package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// busiest runs work under a share of a part of the cores and returns how many
// calls of tick there were, and how many at a time at most.
func busiest(t *testing.T, cores int, part float64, work func(ctx context.Context, tick func()) error) (most int32, took time.Duration) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
	synctest.Test(t, func(t *testing.T) {
		var now, peak atomic.Int32
		tick := func() {
			n := now.Add(1)
			for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
			}
			time.Sleep(10 * time.Millisecond) // of the bubble's clock
			now.Add(-1)
		}
		ctx, _ := WithShare(t.Context(), part)
		start := time.Now()
		if err := work(ctx, tick); err != nil {
			t.Error(err)
		}
		most, took = peak.Load(), time.Since(start)
	})
	return most, took
}

func mapTicks(ctx context.Context, n int, tick func()) error {
	stage := stageFunc[int, int](func(ctx context.Context, in <-chan int, out chan<- int) error {
		return Map(ctx, MapConfig[int]{Workers: 5}, in, out, func(_ context.Context, v int) (int, error) { tick(); return v, nil })
	})
	for _, err := range Via(From(first(n, nil)), stage).All(ctx) {
		if err != nil {
			return err
		}
	}
	return nil
}

func eachTicks(ctx context.Context, n int, tick func()) error {
	return ForEach(ctx, 5, n, func(context.Context, int) error { tick(); return nil })
}

// Whatever runs under a share, alone, side by side or one inside the other,
// keeps to it together, and none of it waits for ever.
func TestShareIsKept(t *testing.T) {
	works := map[string]func(ctx context.Context, tick func()) error{
		"map":      func(ctx context.Context, tick func()) error { return mapTicks(ctx, 40, tick) },
		"for each": func(ctx context.Context, tick func()) error { return eachTicks(ctx, 40, tick) },
		"both, and a call of its own": func(ctx context.Context, tick func()) error {
			other := Background(ctx, func(ctx context.Context) error { return mapTicks(ctx, 20, tick) })
			err := eachTicks(ctx, 19, tick)
			return errors.Join(err, InShare(ctx, func(context.Context) error { tick(); return nil }), other.Wait())
		},
		"one inside the other": func(ctx context.Context, tick func()) error {
			return ForEach(ctx, 3, 4, func(ctx context.Context, i int) error {
				return InShare(ctx, func(ctx context.Context) error {
					return errors.Join(eachTicks(ctx, 5, tick), mapTicks(ctx, 4, tick), InShare(ctx, func(context.Context) error { tick(); return nil }))
				})
			})
		},
		"two inside one call": func(ctx context.Context, tick func()) error {
			return InShare(ctx, func(ctx context.Context) error {
				other := Background(ctx, func(ctx context.Context) error { return eachTicks(ctx, 20, tick) })
				return errors.Join(mapTicks(ctx, 20, tick), other.Wait())
			})
		},
	}
	for name, work := range works {
		for _, tt := range []struct {
			cores int
			part  float64
			most  int32
			took  time.Duration // for 40 ticks of 10 ms
		}{
			{1, 0.5, 1, 800 * time.Millisecond},
			{2, 0.5, 1, 400 * time.Millisecond},
			{2, 0.25, 1, 800 * time.Millisecond},
			{4, 0.5, 2, 200 * time.Millisecond},
			{8, 0.5, 4, 100 * time.Millisecond},
		} {
			t.Run(fmt.Sprintf("%s/cores=%d/part=%v", name, tt.cores, tt.part), func(t *testing.T) {
				most, took := busiest(t, tt.cores, tt.part, work)
				if most > tt.most {
					t.Errorf("%d calls at a time, want at most %d", most, tt.most)
				}
				if took < tt.took {
					t.Errorf("took %v, want %v or more", took, tt.took)
				}
				if name == "map" || name == "for each" {
					if most < tt.most || took > tt.took*3/2 {
						t.Errorf("%d calls at a time and %v, want %d and about %v", most, took, tt.most, tt.took)
					}
				}
			})
		}
	}
}

func TestWholeShareIsNoLimit(t *testing.T) {
	if most, _ := busiest(t, 2, 1, func(ctx context.Context, tick func()) error { return eachTicks(ctx, 20, tick) }); most != 5 {
		t.Errorf("%d calls at a time, want the 5 workers", most)
	}
}

// A limit that is lifted holds nobody up, not even those who wait already.
func TestLiftedShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, lift := WithShare(t.Context(), 0.01)
		time.AfterFunc(time.Second, lift)
		start := time.Now()
		if err := eachTicks(ctx, 1000, func() { time.Sleep(100 * time.Millisecond) }); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 20*time.Second || took > 22*time.Second {
			t.Errorf("took %v, want a second, and 20 for 1,000 calls five at a time", took)
		}
		lift() // again
	})
}

func TestShareWaitsNoLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, _ := WithShare(t.Context(), 0.01)
		gone := errors.New("gone")
		inner, cancel := context.WithCancelCause(ctx)
		time.AfterFunc(time.Second, func() { cancel(gone) })
		holder := Background(ctx, func(ctx context.Context) error {
			return InShare(ctx, func(context.Context) error { time.Sleep(time.Minute); return nil })
		})
		synctest.Wait()
		if err := InShare(inner, func(context.Context) error { t.Error("it ran"); return nil }); !errors.Is(err, gone) {
			t.Errorf("error is %v, want %v", err, gone)
		}
		holder.Stop()
	})
}

// A call that panics leaves its place to others.
func TestPanicInShare(t *testing.T) {
	ctx, _ := WithShare(t.Context(), 0.01)
	err := ForEach(ctx, 1, 1, func(context.Context, int) error { panic("no") })
	var p *PanicError
	if !errors.As(err, &p) {
		t.Fatalf("error is %v, want a PanicError", err)
	}
	ran := false
	if err := InShare(ctx, func(context.Context) error { ran = true; return nil }); err != nil || !ran {
		t.Errorf("the next call ran: %v, error %v", ran, err)
	}
}
