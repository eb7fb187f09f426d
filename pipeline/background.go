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
	ctx, stop := context.WithCancelCause(ctx)
	t := &Task{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.err = guard("background task", func() error { return f(ctx) })
	}()
	return t
}

// Wait waits for the task to end by itself and returns its error.
func (t *Task) Wait() error {
	<-t.done
	t.stop(nil)
	return t.err
}

// Stop cancels the task, waits for it to end and returns its error; nil when it
// ended because it was stopped.
func (t *Task) Stop() error {
	t.stop(errStopped)
	<-t.done
	if errors.Is(t.err, errStopped) {
		return nil
	}
	return t.err
}

// Every calls f every d on a goroutine of its own, until the function it
// returns has been called and has returned.
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
	return func() { t.Stop() }
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
