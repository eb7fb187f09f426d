package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// mapper is Map as a stage.
func mapper(cfg MapConfig[int], f func(context.Context, int) (int, error)) Stage[int, int] {
	return stageFunc[int, int](func(ctx context.Context, in <-chan int, out chan<- int) error {
		return Map(ctx, cfg, in, out, f)
	})
}

func TestMapKeepsOrder(t *testing.T) {
	for _, workers := range []int{0, 1, 2, 7, 64} {
		for _, window := range []int{0, 1, 3, 100} {
			t.Run(fmt.Sprintf("workers=%d/window=%d", workers, window), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					rng := rand.New(rand.NewPCG(1, uint64(workers*1000+window)))
					delay := make([]time.Duration, 200)
					for i := range delay {
						delay[i] = time.Duration(rng.Int64N(int64(time.Second)))
					}
					cfg := MapConfig[int]{Workers: workers, Window: window, Bytes: 10, Weight: func(i int) int64 { return int64(i % 5) }}
					got, err := collect(t, From(Slice(upTo(200))).Then(mapper(cfg, func(_ context.Context, i int) (int, error) {
						time.Sleep(delay[i])
						return i, nil
					})).All(t.Context()))
					if err != nil || !slices.Equal(got, upTo(200)) {
						t.Errorf("got %v, %v", got, err)
					}
				})
			})
		}
	}
}

// inFlight keeps count of what Map has started and the reader has not had.
type inFlight struct {
	mu               sync.Mutex
	n, peak          int
	weight, heaviest int64
	working, busiest int
}

func (f *inFlight) start(w int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	f.weight += w
	f.working++
	f.peak, f.heaviest, f.busiest = max(f.peak, f.n), max(f.heaviest, f.weight), max(f.busiest, f.working)
}

func (f *inFlight) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.working--
}

func (f *inFlight) receive(w int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
	f.weight -= w
}

// runMap sends n values through Map to a reader that is slower than the workers.
func runMap(t *testing.T, cfg MapConfig[int], n int) *inFlight {
	t.Helper()
	var f inFlight
	weight := func(i int) int64 {
		if cfg.Weight == nil {
			return 0
		}
		return cfg.Weight(i)
	}
	stage := mapper(cfg, func(_ context.Context, i int) (int, error) {
		time.Sleep(time.Millisecond) // until the reader, who is woken with Map, has counted what made room
		f.start(weight(i))
		defer f.stop()
		time.Sleep(time.Millisecond)
		return i, nil
	})
	next := 0
	for v, err := range From(Slice(upTo(n))).Then(stage).All(t.Context()) {
		if err != nil || v != next {
			t.Fatalf("value %d, %v, want %d", v, err, next)
		}
		next++
		f.receive(weight(v))
		time.Sleep(10 * time.Millisecond)
	}
	if next != n {
		t.Fatalf("%d values, want %d", next, n)
	}
	return &f
}

func TestMapWindow(t *testing.T) {
	for _, tt := range []struct{ workers, window, want int }{
		{4, 1, 1}, {4, 2, 2}, {4, 9, 9}, {3, 0, 12}, {1, 5, 5},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := runMap(t, MapConfig[int]{Workers: tt.workers, Window: tt.window}, 60)
			if f.peak != tt.want {
				t.Errorf("%d workers, window %d: at most %d values were on their way, want %d", tt.workers, tt.window, f.peak, tt.want)
			}
			if want := min(tt.workers, tt.want); f.busiest != want {
				t.Errorf("%d workers, window %d: at most %d were worked on at a time, want %d", tt.workers, tt.window, f.busiest, want)
			}
		})
	}
}

// With a budget of bytes the window is wide enough for one slow value to hold
// up none of the others.
func TestMapWindowOfABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := MapConfig[int]{Workers: 2, Bytes: 1 << 20, Weight: func(int) int64 { return 1 }}
		stage := mapper(cfg, func(_ context.Context, i int) (int, error) {
			if i == 0 {
				time.Sleep(100 * time.Second)
			} else {
				time.Sleep(time.Second)
			}
			return i, nil
		})
		start := time.Now()
		got, err := collect(t, From(Slice(upTo(101))).Then(stage).All(t.Context()))
		if took := time.Since(start); err != nil || !slices.Equal(got, upTo(101)) || took > 101*time.Second {
			t.Errorf("%d values, %v in %v: one worker waited for the other", len(got), err, took)
		}
	})
}

func TestMapBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := runMap(t, MapConfig[int]{Workers: 8, Window: 50, Bytes: 100, Weight: func(i int) int64 { return int64(10 + i%3) }}, 100)
		if f.heaviest > 100 || f.heaviest < 80 {
			t.Errorf("at most %d bytes were on their way, want up to 100 and nearly that", f.heaviest)
		}
	})
}

func TestMapHeavierThanTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const heavy = 5
		var working, beside atomic.Int32
		weight := func(i int) int64 {
			if i == heavy {
				return 1 << 40
			}
			return 30
		}
		stage := mapper(MapConfig[int]{Workers: 4, Bytes: 100, Weight: weight}, func(_ context.Context, i int) (int, error) {
			n := working.Add(1)
			defer working.Add(-1)
			if i == heavy && n > 1 {
				beside.Store(n - 1)
			}
			if i != heavy && n > 3 {
				t.Errorf("%d values of 30 bytes at a time in a budget of 100", n)
			}
			time.Sleep(time.Second)
			if i == heavy && working.Load() > 1 {
				beside.Store(working.Load() - 1)
			}
			return i, nil
		})
		got, err := collect(t, From(Slice(upTo(20))).Then(stage).All(t.Context()))
		if err != nil || !slices.Equal(got, upTo(20)) {
			t.Errorf("got %v, %v", got, err)
		}
		if n := beside.Load(); n != 0 {
			t.Errorf("%d others were worked on beside a value heavier than the budget, want it alone", n)
		}
	})
}

func TestMapNegativeWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runMap(t, MapConfig[int]{Workers: 2, Bytes: 1, Weight: func(int) int64 { return -7 }}, 10)
	})
}

func TestMapFirstErrorInOrder(t *testing.T) {
	for _, workers := range []int{1, 2, 7} {
		synctest.Test(t, func(t *testing.T) {
			stage := mapper(MapConfig[int]{Workers: workers}, func(_ context.Context, i int) (int, error) {
				time.Sleep(time.Duration(100-i) * time.Second) // the later, the sooner
				if i >= 3 {
					return 0, codeError{i}
				}
				return i, nil
			})
			got, err := collect(t, From[int](count).Then(stage).All(t.Context()))
			if want := (codeError{3}); err != want {
				t.Errorf("%d workers: error is %v, want %v", workers, err, want)
			}
			if !slices.Equal(got, upTo(3)) {
				t.Errorf("%d workers: %v came before the error, want 0, 1, 2", workers, got)
			}
		})
	}
}

func TestMapErrorStopsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("bad picture")
		stage := mapper(MapConfig[int]{Workers: 4}, func(ctx context.Context, i int) (int, error) {
			if i == 0 {
				return 0, cause
			}
			<-ctx.Done() // would wait for ever
			return 0, context.Cause(ctx)
		})
		if _, err := collect(t, From[int](count).Then(stage).All(t.Context())); err != cause {
			t.Errorf("error is %v, want %v", err, cause)
		}
	})
}

func TestMapUpstreamFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("truncated file")
		stage := mapper(MapConfig[int]{Workers: 2}, func(_ context.Context, i int) (int, error) { return i, nil })
		if _, err := collect(t, From(first(9, cause)).Then(stage).All(t.Context())); err != cause {
			t.Errorf("error is %v, want %v", err, cause)
		}
	})
}

func TestMapPanics(t *testing.T) {
	work := func(_ context.Context, i int) (int, error) {
		if i == 5 {
			panic("five")
		}
		return i, nil
	}
	heavy := func(i int) int64 {
		if i == 5 {
			panic("five")
		}
		return 1
	}
	for name, stage := range map[string]Stage[int, int]{
		"function": mapper(MapConfig[int]{Workers: 3}, work),
		"weight":   mapper(MapConfig[int]{Workers: 3, Weight: heavy}, func(_ context.Context, i int) (int, error) { return i, nil }),
	} {
		synctest.Test(t, func(t *testing.T) {
			_, err := collect(t, From[int](count).Then(stage).All(t.Context()))
			var p *PanicError
			if !errors.As(err, &p) || p.In != "map" || p.Value != "five" || !strings.Contains(string(p.Stack), "TestMapPanics.func") {
				t.Errorf("%s: error is %#v, want a PanicError in map with the stack", name, err)
			}
		})
	}
}

func TestMapGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stage := mapper(MapConfig[int]{Workers: 2}, func(context.Context, int) (int, error) { runtime.Goexit(); return 0, nil })
		if _, err := collect(t, From[int](count).Then(stage).All(t.Context())); !errors.Is(err, errExited) {
			t.Errorf("error is %v, want %v", err, errExited)
		}
	})
}

func TestMapCancelledAndLeft(t *testing.T) {
	cause := errors.New("enough")
	for name, f := range map[string]func(context.Context, int) (int, error){
		"waits for its context": func(ctx context.Context, i int) (int, error) {
			if i < 4 {
				return i, nil
			}
			<-ctx.Done()
			return 0, context.Cause(ctx)
		},
		"works on": func(_ context.Context, i int) (int, error) { time.Sleep(time.Second); return i, nil },
	} {
		t.Run(name, func(t *testing.T) {
			flow := From[int](count).Then(mapper(MapConfig[int]{Workers: 3, Bytes: 7, Weight: func(int) int64 { return 2 }}, f), same)
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(10*time.Second, func() { cancel(cause) })
				if _, err := collect(t, flow.All(ctx)); err != cause {
					t.Errorf("cancelled: error is %v, want %v", err, cause)
				}
			})
			synctest.Test(t, func(t *testing.T) {
				for _, err := range flow.All(t.Context()) {
					if err != nil {
						t.Error(err)
					}
					break
				}
			})
		})
	}
}

func TestForEach(t *testing.T) {
	for _, workers := range []int{0, 1, 2, 7, 500} {
		for _, n := range []int{-1, 0, 1, 100} {
			synctest.Test(t, func(t *testing.T) {
				did := make([]atomic.Int32, max(n, 0))
				if err := ForEach(t.Context(), workers, n, func(_ context.Context, i int) error {
					did[i].Add(1)
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				for i := range did {
					if got := did[i].Load(); got != 1 {
						t.Errorf("%d workers, n=%d: f was called %d times with %d", workers, n, got, i)
					}
				}
			})
		}
	}
}

func TestForEachSmallestError(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 7, 100} {
		for trial := range 20 {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(workers), uint64(trial)))
				fails, delay := make([]bool, 100), make([]time.Duration, 100)
				want := -1
				for i := range fails {
					fails[i] = rng.IntN(20) == 0
					delay[i] = time.Duration(rng.Int64N(1000))
					if want < 0 && fails[i] {
						want = i
					}
				}
				err := ForEach(t.Context(), workers, len(fails), func(_ context.Context, i int) error {
					time.Sleep(delay[i])
					if fails[i] {
						return codeError{i}
					}
					return nil
				})
				if want < 0 && err != nil || want >= 0 && err != (codeError{want}) {
					t.Errorf("%d workers, trial %d: error is %v, want that of %d", workers, trial, err, want)
				}
			})
		}
	}
}

func TestForEachWorkerNumbersAreUsedByOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scratch := make([]atomic.Bool, 3)
		if err := ForEachWorker(t.Context(), 3, 90, func(_ context.Context, w, i int) error {
			if !scratch[w].CompareAndSwap(false, true) {
				t.Errorf("worker %d is in use twice", w)
			}
			time.Sleep(time.Duration(i%7) * time.Second)
			scratch[w].Store(false)
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestForEachPanicsExitsAndCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := ForEach(t.Context(), 3, 10, func(_ context.Context, i int) error {
			if i == 4 {
				panic(errAbsent)
			}
			return nil
		})
		var p *PanicError
		if !errors.As(err, &p) || !errors.Is(err, errAbsent) || !strings.Contains(string(p.Stack), "TestForEachPanics") {
			t.Errorf("panic: error is %#v, want a PanicError with the stack", err)
		}

		err = ForEach(t.Context(), 2, 10, func(_ context.Context, i int) error {
			if i == 9 {
				runtime.Goexit()
			}
			return nil
		})
		if !errors.Is(err, errExited) {
			t.Errorf("exit: error is %v, want %v", err, errExited)
		}

		ctx, cancel := context.WithCancelCause(t.Context())
		var calls atomic.Int32
		err = ForEach(ctx, 2, 1000, func(context.Context, int) error {
			if calls.Add(1) >= 10 { // also in the call of the other worker that may follow at once
				cancel(errAbsent)
			}
			return nil
		})
		if err != errAbsent || calls.Load() > 11 {
			t.Errorf("cancelled in call 10: error %v after %d calls", err, calls.Load())
		}
	})
}

var errAbsent = errors.New("not found here either")

func TestWorkers(t *testing.T) {
	for n, want := range map[int]int{-1: runtime.GOMAXPROCS(0), 0: runtime.GOMAXPROCS(0), 1: 1, 99: 99} {
		if got := Workers(n); got != want {
			t.Errorf("Workers(%d) = %d, want %d", n, got, want)
		}
	}
}

// spin is about 10 µs of work: a small image's worth.
func spin(i int) int {
	for range 10_000 {
		i = i*1103515245 + 12345
	}
	return i
}

var sink int

func BenchmarkMap(b *testing.B) {
	b.Run("loop", func(b *testing.B) {
		n := 0
		for b.Loop() {
			sink += spin(n)
			n++
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "items/s")
	})
	for _, workers := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("ordered/workers=%d", workers), func(b *testing.B) {
			flow := From[int](count).Then(mapper(MapConfig[int]{Workers: workers}, func(_ context.Context, i int) (int, error) { return spin(i), nil }))
			n := 0
			for v, err := range flow.All(b.Context()) {
				if err != nil {
					b.Fatal(err)
				}
				sink += v
				n++
				if !b.Loop() {
					break
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "items/s")
		})
	}
}

func BenchmarkForEach(b *testing.B) {
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			const n = 1000
			did := make([]int, n)
			for b.Loop() {
				if err := ForEach(b.Context(), workers, n, func(_ context.Context, i int) error { did[i] = spin(i); return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "items/s")
		})
	}
}
