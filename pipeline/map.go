package pipeline

import (
	"context"
	"math"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// MapConfig says how far [Map] may run ahead. It never changes what comes out.
type MapConfig[A any] struct {
	Workers int           // values worked on at a time; default GOMAXPROCS
	Window  int           // values started and not yet sent; default 64·Workers where Bytes bounds them, 4·Workers otherwise
	Bytes   int64         // total weight of those; 0 for no limit
	Weight  func(A) int64 // of one value; one heavier than Bytes goes alone; nil weighs nothing
}

// Map sends f of each value of in to out, Workers at a time, in the order of
// in. The first error in that order is returned. It may be called by a [Stage]
// as the whole of its Run.
func Map[A, B any](ctx context.Context, cfg MapConfig[A], in <-chan A, out chan<- B, f func(context.Context, A) (B, error)) error {
	workers := Workers(cfg.Workers)
	window, limit := cfg.Window, cfg.Bytes
	if limit <= 0 || cfg.Weight == nil {
		limit = math.MaxInt64
	}
	// A value that takes 50 times as long as the others holds up none of them
	// while they fit in the window.
	if window <= 0 && limit < math.MaxInt64 {
		window = 64 * workers
	} else if window <= 0 {
		window = 4 * workers
	}
	weight := func(v A) int64 {
		if cfg.Weight == nil {
			return 0
		}
		return min(max(cfg.Weight(v), 0), limit)
	}
	budget := semaphore.NewWeighted(limit)

	// A ticket enters the order queue before any worker sees it, so the head of
	// the queue is always being worked on or done, and the window cannot jam.
	type result struct {
		v   B
		err error
	}
	type ticket struct {
		v      A
		weight int64
		done   chan result // buffered: a worker never waits for the merger
	}
	order := make(chan ticket, window-1) // and the one whose result is waited for or sent
	work := make(chan ticket, window)    // as long as order, so that one wake-up of a worker is for several values

	outer := ctx // for what the merger does: it is the stage
	ctx, takeBack := lend(ctx)
	defer takeBack()
	ctx, stop := context.WithCancelCause(apart(ctx))
	g, ctx := newGroup(ctx)
	defer g.wait()
	defer stop(errDone)

	g.run("map", func() error {
		for v, err := range Values(ctx, in) {
			if err != nil {
				return err
			}
			t := ticket{v, weight(v), make(chan result, 1)}
			if err := budget.Acquire(ctx, t.weight); err != nil {
				return context.Cause(ctx)
			}
			if err := Send(ctx, order, t); err != nil {
				return err
			}
			if err := Send(ctx, work, t); err != nil {
				return err
			}
		}
		return nil
	}, func() { close(order); close(work) })
	for range workers {
		g.run("map", func() error {
			for t, err := range Values(ctx, work) {
				if err != nil {
					return err
				}
				var r result
				r.err = guard("map", func() error {
					return InShare(ctx, func(ctx context.Context) (err error) {
						r.v, err = f(ctx, t.v)
						return err
					})
				})
				if p, ok := r.err.(*PanicError); ok && p.Batch < 0 && p.Samples == nil {
					about(p, t.v)
				}
				t.done <- r // errors wait for their turn here, so that the first in order wins
			}
			return nil
		}, func() {})
	}
	merging := context.WithValue(ctx, nodeKey{}, nodeOf(outer))
	for t, err := range Values(merging, order) {
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case r := <-t.done:
			if r.err != nil {
				return r.err
			}
			if err := Send(outer, out, r.v); err != nil {
				return err
			}
			budget.Release(t.weight)
		}
	}
	return nil
}

// ForEach calls f for i = 0 … n−1, workers at a time (0 for GOMAXPROCS), and
// waits for all. It takes the i in order and begins none after a failure, and
// what has begun is finished, so that nothing smaller than a failed i is
// missing: the error returned is the one of the smallest i that fails, on any
// number of workers. A panic of f is a [*PanicError].
func ForEach(ctx context.Context, workers, n int, f func(ctx context.Context, i int) error) error {
	return ForEachWorker(ctx, workers, n, func(ctx context.Context, _, i int) error { return f(ctx, i) })
}

// ForEachWorker is [ForEach] with the number of the worker, from 0, for scratch
// memory: one worker number is used by one call at a time. What f computes must
// not depend on it.
func ForEachWorker(ctx context.Context, workers, n int, f func(ctx context.Context, worker, i int) error) error {
	ctx, takeBack := lend(ctx)
	defer takeBack()
	call := f
	if placeOf(ctx) != nil {
		call = func(ctx context.Context, w, i int) error {
			return InShare(ctx, func(ctx context.Context) error { return f(ctx, w, i) })
		}
	}
	workers = min(Workers(workers), n)
	errs := make([]error, max(workers, 0)) // of each worker, at most one
	at := make([]int, max(workers, 0))
	var next atomic.Int64
	var failed atomic.Bool
	var g errgroup.Group
	ctx = apart(ctx)
	for w := range workers {
		g.Go(func() error {
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				errs[w], at[w] = errExited, i // stands if f does not return
				if ctx.Err() != nil {
					errs[w] = context.Cause(ctx)
				} else {
					errs[w] = guard("for each", func() error { return call(ctx, w, i) })
				}
				if errs[w] != nil {
					failed.Store(true)
					return nil
				}
			}
			return nil
		})
	}
	g.Wait()
	first := -1
	for w, err := range errs {
		if err != nil && (first < 0 || at[w] < at[first]) {
			first = w
		}
	}
	if first < 0 {
		return nil
	}
	return errs[first]
}

// Workers is n, or GOMAXPROCS where n is not positive.
func Workers(n int) int {
	if n > 0 {
		return n
	}
	return runtime.GOMAXPROCS(0)
}
