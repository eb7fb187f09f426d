package pipeline

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// An alarm cancels a flow that has waited for too long.
type alarm struct {
	after  time.Duration
	timer  *time.Timer // nil: never
	raised atomic.Pointer[SilentError]
}

// How long the end of a flow waits for what runs in it.
const (
	forever = time.Duration(math.MaxInt64)
	grace   = 500 * time.Millisecond // for one that did not answer
)

// newAlarm returns an alarm that has been set, where after is not 0.
func newAlarm(after time.Duration, g *group, cancel context.CancelCauseFunc) *alarm {
	a := &alarm{after: after}
	if after > 0 {
		a.timer = time.AfterFunc(after, func() {
			err := g.silent(after)
			a.raised.Store(err)
			cancel(err)
		})
	}
	return a
}

func (a *alarm) set() {
	if a.timer != nil {
		a.timer.Reset(a.after)
	}
}

func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}

// silent finds the node that the others wait for: the first that neither waits
// for a value nor for somebody to take one.
func (g *group) silent(after time.Duration) *SilentError {
	who := g.nodes[len(g.nodes)-1]
	for _, n := range g.nodes {
		if n.doing.Load() == working && !n.ended.Load() {
			who = n
			break
		}
	}
	return &SilentError{Who: who.name, Batch: who.number.Load(), After: after}
}
