package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"
)

// A group is an errgroup whose members turn a panic into a [*PanicError]: a
// panic on a goroutine of ours must not end the trainer's process.
type group struct {
	g      *errgroup.Group
	cancel context.CancelCauseFunc
	nodes  []*node // of a flow, from its source on
}

func newGroup(ctx context.Context) (*group, context.Context) {
	g, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	return &group{g: g, cancel: cancel}, ctx
}

// node runs a source or stage s of a flow, as run does, with a context of its own.
func (g *group) node(ctx context.Context, s any, f func(ctx context.Context) error, complete func()) {
	n := newNode(name(s))
	g.nodes = append(g.nodes, n)
	ctx = context.WithValue(ctx, nodeKey{}, n)
	g.run(n.name, func() error {
		defer n.ended.Store(true)
		err := guard(n.name, func() error { return f(ctx) })
		n.blame(ctx, err)
		return err
	}, complete)
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

// waitFor waits for all members as long as patience lasts, and reports whether
// they have ended. ended is called when they have, be it later.
func (g *group) waitFor(patience time.Duration, ended func()) bool {
	if patience == forever {
		g.g.Wait()
		ended()
		return true
	}
	all := make(chan struct{})
	go func() {
		defer close(all)
		g.g.Wait()
		ended()
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-all:
		return true
	case <-timer.C:
		return false
	}
}

// guard calls f and returns its panic as an error.
func guard(who string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{In: who, Value: v, Stack: debug.Stack(), Batch: -1}
		}
	}()
	return f()
}
