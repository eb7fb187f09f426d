package pipeline

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
)

// A Source sends values until it has no more, and then returns nil.
type Source[T any] interface {
	// Run sends the values to out with [Send]. It returns nil when the stream
	// is complete and an error when it is not; it does not close out.
	Run(ctx context.Context, out chan<- T) error
}

// A Stage turns the values of one channel into those of the next, in order.
type Stage[A, B any] interface {
	// Run reads in with [Values] and writes out with [Send]. It returns nil
	// when in was closed and all has been sent; it does not close out.
	Run(ctx context.Context, in <-chan A, out chan<- B) error
}

// A Flow describes a source and the stages behind it. Nothing runs until it is
// ranged over. It may be ranged over again, one range at a time, and then
// starts where its source starts.
type Flow[T any] struct {
	start func(ctx context.Context, g *group) <-chan T
	busy  *atomic.Bool
	ahead int
	meter *Meter
}

// From begins a flow.
func From[T any](s Source[T]) Flow[T] {
	return Flow[T]{
		busy: new(atomic.Bool),
		start: func(ctx context.Context, g *group) <-chan T {
			out := make(chan T)
			g.run(name(s), func() error { return s.Run(ctx, out) }, func() { close(out) })
			return out
		},
	}
}

// Then adds stages that keep the type, in order.
func (f Flow[T]) Then(stages ...Stage[T, T]) Flow[T] {
	for _, s := range stages {
		f = Via(f, s)
	}
	return f
}

// Via adds a stage that changes the type. (A function because methods of Go
// have no type parameters.)
func Via[A, B any](f Flow[A], s Stage[A, B]) Flow[B] {
	ahead, meter := f.ahead, f.meter
	return Flow[B]{
		busy:  f.busy,
		ahead: ahead,
		meter: meter,
		start: func(ctx context.Context, g *group) <-chan B {
			in := f.start(ctx, g)
			out := make(chan B, ahead)
			meter.queue(name(s), cap(out), func() int { return len(out) })
			g.run(name(s), func() error { return s.Run(ctx, in, out) }, func() { close(out) })
			return out
		},
	}
}

// Prefetch lets the stages added after it run up to n values ahead of the next
// one. It changes when values are made, never what they are. n below 0 is 0.
func (f Flow[T]) Prefetch(n int) Flow[T] {
	f.ahead = max(n, 0)
	return f
}

// Metered has the stages added after it show in m how many values they have
// ready for the next one, of those that Prefetch lets them have: [Meter.Queues].
func (f Flow[T]) Metered(m *Meter) Flow[T] {
	f.meter = m
	return f
}

// errDone is the cause of the context when the loop over a flow has ended.
var errDone = errors.New("the loop over the flow has ended")

// All runs the flow. A *Batch is lent to the loop body and returns to the flow
// when the body ends. An error is the last thing yielded, and comes with a zero
// T. It is the first error of any source or stage, or the cause of ctx's
// cancellation; values that were still on their way are dropped. When the loop
// has ended, however it did, everything that ran for it has ended too.
func (f Flow[T]) All(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if !f.busy.CompareAndSwap(false, true) {
			var zero T
			yield(zero, ErrBusy)
			return
		}
		defer f.busy.Store(false)
		ctx, done := context.WithCancelCause(ctx)
		g, ctx := newGroup(ctx)
		defer g.wait()      // nothing outlives the loop
		defer done(errDone) // runs before it: wakes a stage that is still sending
		for v, err := range Values(ctx, f.start(ctx, g)) {
			goesOn := yield(v, err)
			if b, ok := any(v).(*Batch); ok && b != nil {
				b.endLoan(goesOn)
			}
			if !goesOn || err != nil {
				return
			}
		}
		// The last stage has returned nil; that of another one may not have.
		if err := context.Cause(ctx); err != nil {
			var zero T
			yield(zero, err)
		}
	}
}

// Values ranges over in until it is closed. When ctx is cancelled first, the
// next and last thing it yields is the cause, with a zero T.
func Values[T any](ctx context.Context, in <-chan T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			if ctx.Err() != nil { // or else select could go on for a while: it chooses at random
				var zero T
				yield(zero, context.Cause(ctx))
				return
			}
			select {
			case <-ctx.Done():
			case v, ok := <-in:
				if !ok || !yield(v, nil) {
					return
				}
			}
		}
	}
}

// Send sends v, or returns the cause of ctx's cancellation.
func Send[T any](ctx context.Context, out chan<- T, v T) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case out <- v:
		return nil
	}
}

// Slice is a source of the values in s, for tests and small jobs. Batches in s
// are lent like all others: range over them once.
func Slice[T any](s []T) Source[T] { return slice[T](s) }

type slice[T any] []T

func (s slice[T]) Run(ctx context.Context, out chan<- T) error {
	for _, v := range s {
		if err := Send(ctx, out, v); err != nil {
			return err
		}
	}
	return nil
}

// name is what a panic of s is reported under.
func name(s any) string { return fmt.Sprintf("%T", s) }
