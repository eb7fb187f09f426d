package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
)

// A group is an errgroup whose members turn a panic into a [*PanicError]: a
// panic on a goroutine of ours must not end the trainer's process.
type group struct {
	g      *errgroup.Group
	cancel context.CancelCauseFunc
}

func newGroup(ctx context.Context) (*group, context.Context) {
	g, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	return &group{g, cancel}, ctx
}

// run calls f on a goroutine of the group, and then complete if f returned nil.
// An f that neither returns nor panics cancels the group.
func (g *group) run(who string, f func() error, complete func()) {
	g.g.Go(func() error {
		exited := true
		defer func() {
			if exited {
				g.cancel(fmt.Errorf("%s: %w", who, errExited))
			}
		}()
		err := guard(who, f)
		exited = false
		if err != nil {
			return err
		}
		complete()
		return nil
	})
}

// errExited is the error of a function that called [runtime.Goexit], as
// t.FailNow does in tests: without it those that wait for the function's
// result would wait for ever, or take a nil for success.
var errExited = errors.New("goroutine exited before its function returned")

// wait waits for all members. The first error is the cause of the context.
func (g *group) wait() { g.g.Wait() }

// guard calls f and returns its panic as an error.
func guard(who string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{In: who, Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
