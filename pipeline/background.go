package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Task is work beside the stream: a refresh, a progress tick, a child process.
type Task struct {
	stop context.CancelCauseFunc
	done chan struct{}
	err  error
}

var errStopped = errors.New("task was stopped")

// Background calls f on a goroutine of its own. Whoever calls it calls
// [Task.Stop] or [Task.Wait] before returning.
func Background(ctx context.Context, f func(ctx context.Context) error) *Task {
	ctx, stop := context.WithCancelCause(apart(ctx))
	t := &Task{stop: stop, done: make(chan struct{})}
	t.err = errExited // stands if f does not return
	go func() {
		defer close(t.done)
		defer stop(nil)
		err := guard("background task", func() error { return f(ctx) })
		if errors.Is(err, context.Canceled) && context.Cause(ctx) == errStopped {
			err = errStopped // from ctx.Err: most of the world does not know causes
		}
		t.err = err
	}()
	return t
}

// Wait waits for the task to end by itself and returns its error.
func (t *Task) Wait() error {
	<-t.done
	return t.err
}

// Stop cancels the task, waits for it to end and returns its error; nil when it
// ended because it was stopped.
func (t *Task) Stop() error {
	t.stop(errStopped)
	if err := t.Wait(); !errors.Is(err, errStopped) {
		return err
	}
	return nil
}

// Every calls f every d (> 0) on a goroutine of its own, until the function it
// returns has been called and has returned. A panic of f ends the calls, and
// stop panics with it as a [*PanicError].
func Every(d time.Duration, f func()) (stop func()) {
	t := Background(context.Background(), func(ctx context.Context) error {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-tick.C:
				f()
			}
		}
	})
	return func() {
		if err := t.Stop(); err != nil {
			panic(err)
		}
	}
}

// An Event happens once; any number of goroutines may wait for it. Make one
// with [NewEvent].
type Event struct {
	once sync.Once
	done chan struct{}
}

// NewEvent returns an event that has not happened.
func NewEvent() *Event { return &Event{done: make(chan struct{})} }

// Set makes the event happen. Calling it again does nothing.
func (e *Event) Set() { e.once.Do(func() { close(e.done) }) }

// Wait returns nil once the event has happened, or the cause of ctx's cancellation.
func (e *Event) Wait(ctx context.Context) error {
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
