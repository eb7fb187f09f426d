package pipeline

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"
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
	wait  time.Duration
	meter *Meter
}

// From begins a flow.
func From[T any](s Source[T]) Flow[T] {
	return Flow[T]{
		busy: new(atomic.Bool),
		start: func(ctx context.Context, g *group) <-chan T {
			out := make(chan T)
			g.node(ctx, s, func(ctx context.Context) error { return s.Run(ctx, out) }, func() { close(out) })
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
		wait:  f.wait,
		meter: meter,
		start: func(ctx context.Context, g *group) <-chan B {
			in := f.start(ctx, g)
			out := make(chan B, ahead)
			meter.queue(name(s), cap(out), func() int { return len(out) })
			g.node(ctx, s, func(ctx context.Context) error { return s.Run(ctx, in, out) }, func() { close(out) })
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

// Timeout ends a run of the flow with a [*SilentError] when the loop has waited
// for the next value for d; 0, as without it, lets it wait for ever. It bounds
// the time of a value on its whole way where nothing was prefetched, so d is
// much more than that. And however the loop ends, it waits for what ran for it no
// longer than d: a read from a dead network file system, which no cancellation
// reaches, is left behind. That is the one case in which something outlives it.
func (f Flow[T]) Timeout(d time.Duration) Flow[T] {
	f.wait = max(d, 0)
	return f
}

// All runs the flow. A *Batch is lent to the loop body and returns to the flow
// when the body ends. An error is the last thing yielded, and comes with a zero
// T. It is the first error of any source or stage, or the cause of ctx's
// cancellation; values that were still on their way are dropped. When the loop
// has ended, however it did, everything that ran for it has ended too.
func (f Flow[T]) All(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		if !f.busy.CompareAndSwap(false, true) {
			yield(zero, ErrBusy)
			return
		}
		ctx, done := context.WithCancelCause(apart(ctx))
		g, ctx := newGroup(ctx)
		patience := forever
		if f.wait > 0 {
			patience = f.wait
		}
		end := sync.OnceValue(func() bool { // nothing outlives the loop
			done(errDone) // wakes a stage that is still sending
			return g.waitFor(patience, func() { f.busy.Store(false) })
		})
		defer end()
		out := f.start(ctx, g)
		alarm := newAlarm(f.wait, g, done)
		defer alarm.stop()
		for v, err := range Values(ctx, out) {
			alarm.stop()
			if silent := alarm.raised.Load(); silent != nil && err == silent {
				patience = grace
				left := *silent
				left.Left = !end()
				err = &left
			}
			goesOn := yield(v, err)
			if b, ok := any(v).(*Batch); ok && b != nil {
				b.endLoan(goesOn)
			}
			if !goesOn || err != nil {
				return
			}
			alarm.set()
		}
		// The last stage has returned nil; that of another one may not have.
		if err := context.Cause(ctx); err != nil {
			yield(zero, err)
		}
	}
}

// Values ranges over in until it is closed. When ctx is cancelled first, the
// next and last thing it yields is the cause, with a zero T.
func Values[T any](ctx context.Context, in <-chan T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		n := nodeOf(ctx)
		for {
			n.does(receiving)
			if ctx.Err() != nil { // or else select could go on for a while: it chooses at random
				var zero T
				yield(zero, context.Cause(ctx))
				return
			}
			select {
			case <-ctx.Done():
			case v, ok := <-in:
				received(n, v)
				if !ok || !yield(v, nil) {
					return
				}
			}
		}
	}
}

// Send sends v, or returns the cause of ctx's cancellation.
func Send[T any](ctx context.Context, out chan<- T, v T) error {
	n := nodeOf(ctx)
	n.does(sending)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case out <- v:
		n.sent()
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

// name is what a source or stage is called in messages.
func name(s any) string { return fmt.Sprintf("%T", s) }
