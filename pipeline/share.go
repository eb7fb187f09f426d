package pipeline

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// A share is a part of the machine that work beside the stream keeps within.
type share struct {
	slots  chan struct{} // holds a token for each call that works
	rest   float64       // how long the one slot of less than a core rests, per time worked
	debt   time.Duration // of rest, not yet taken; whoever holds that slot has it
	lifted *Event        // from then on nobody waits or rests
}

// WithShare returns a context under which all of [Map], [ForEach] and [InShare]
// together make at most part·GOMAXPROCS calls at a time, one at the least; a
// part of less than one core rests in between. A part of 1 or more is no limit.
// Calling lift ends the limit, for when the work has become urgent. What comes
// out never depends on it.
//
// A call that itself calls Map or ForEach with the context it was given lends
// them its place meanwhile. Threads it starts by other means are not counted.
func WithShare(ctx context.Context, part float64) (shared context.Context, lift func()) {
	if !(part < 1) {
		return ctx, func() {}
	}
	cores := part * float64(runtime.GOMAXPROCS(0))
	slots := max(1, int(cores))
	s := &share{
		slots:  make(chan struct{}, slots),
		rest:   max(0, float64(slots)/max(cores, 1e-3)-1),
		lifted: NewEvent(),
	}
	return context.WithValue(ctx, placeKey{}, &place{share: s}), s.lifted.Set
}

// InShare calls f, within the share that ctx has if it has one. Its error is
// f's, or the cause of ctx's cancellation when it had to wait.
func InShare(ctx context.Context, f func(ctx context.Context) error) error {
	outer := placeOf(ctx)
	if outer == nil || outer.inside {
		return f(ctx)
	}
	p := &place{share: outer.share, inside: true}
	if err := p.enter(ctx); err != nil {
		return err
	}
	defer p.leave(ctx)
	return f(context.WithValue(ctx, placeKey{}, p))
}

type placeKey struct{}

func placeOf(ctx context.Context) *place {
	p, _ := ctx.Value(placeKey{}).(*place)
	return p
}

// A place is where a call stands to its share.
type place struct {
	share  *share
	inside bool // the context belongs to a call that was let in

	mu    sync.Mutex
	lent  int       // Maps and ForEaches that use the place of their caller
	slot  bool      // it holds a token; false where the limit was lifted
	since time.Time // when it was let in
}

// enter waits for a slot.
func (p *place) enter(ctx context.Context) error {
	select {
	case p.share.slots <- struct{}{}:
		p.slot = true
	case <-p.share.lifted.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.since = time.Now()
	return nil
}

// leave gives the slot back, rested.
func (p *place) leave(ctx context.Context) {
	if !p.slot {
		return
	}
	s := p.share
	if s.rest > 0 { // then there is one slot, and debt is its holder's
		s.debt += time.Duration(s.rest * float64(time.Since(p.since)))
		if s.debt >= time.Millisecond { // shorter sleeps are not what they say
			rest := time.NewTimer(s.debt)
			select {
			case <-rest.C:
			case <-s.lifted.done:
			case <-ctx.Done():
			}
			rest.Stop()
			s.debt = 0
		}
	}
	p.slot = false
	<-s.slots
}

// lend gives the place of the call that ctx belongs to to those that it is
// about to wait for. They use the context that is returned, and takeBack
// returns when the call has its place again.
func lend(ctx context.Context) (inner context.Context, takeBack func()) {
	p := placeOf(ctx)
	if p == nil || !p.inside {
		return ctx, func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lent++; p.lent == 1 {
		p.leave(ctx)
	}
	return context.WithValue(ctx, placeKey{}, &place{share: p.share}), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.lent--; p.lent == 0 {
			p.enter(context.WithoutCancel(ctx)) // those who hold slots wait for nobody
		}
	}
}
