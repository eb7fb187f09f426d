package pipeline

import (
	"context"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
)

// A group is an errgroup whose members turn a panic into a [*PanicError]: a
// panic on a goroutine of ours must not end the trainer's process.
type group struct{ g *errgroup.Group }

func newGroup(ctx context.Context) (*group, context.Context) {
	g, ctx := errgroup.WithContext(ctx)
	return &group{g}, ctx
}

// run calls f on a goroutine of the group, and then complete if f returned nil.
func (g *group) run(who any, f func() error, complete func()) {
	g.g.Go(func() error {
		if err := guard(name(who), f); err != nil {
			return err
		}
		complete()
		return nil
	})
}

// wait waits for all members and returns the first error.
func (g *group) wait() error { return g.g.Wait() }

// guard calls f and returns its panic as an error.
func guard(who string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{In: who, Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
