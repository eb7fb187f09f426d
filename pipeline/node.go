package pipeline

import (
	"context"
	"errors"
	"sync/atomic"
)

// A node is a source or stage of a running flow and what it is doing: for the
// error that names it when it panics or does not answer. It travels in the
// context of its Run, where [Values] and [Send] find it; what Run has done on
// other goroutines goes without one, see [apart].
type node struct {
	name   string
	doing  atomic.Int32
	batch  atomic.Pointer[Batch] // received and not yet sent, so the node's own
	number atomic.Int64          // of that batch; −1 for none
	sample atomic.Int64          // id of the record received last; −1 for none
	ended  atomic.Bool
}

// What a node is doing.
const (
	working = int32(iota) // none of the others
	receiving
	sending
)

func newNode(name string) *node {
	n := &node{name: name}
	n.number.Store(-1)
	n.sample.Store(-1)
	return n
}

type nodeKey struct{}

// nodeOf is the node whose Run has the context ctx; nil for none.
func nodeOf(ctx context.Context) *node {
	n, _ := ctx.Value(nodeKey{}).(*node)
	return n
}

// apart is ctx for a goroutine that works for a node and is not the node's own.
func apart(ctx context.Context) context.Context {
	return context.WithValue(ctx, nodeKey{}, (*node)(nil))
}

func (n *node) does(what int32) {
	if n != nil {
		n.doing.Store(what)
	}
}

// received notes what n works on from now on.
func received[T any](n *node, v T) {
	if n == nil {
		return
	}
	n.doing.Store(working)
	switch v := any(v).(type) {
	case *Batch:
		if v != nil {
			n.batch.Store(v)
			n.number.Store(v.Number)
		}
	case Record:
		n.sample.Store(v.ID)
	}
}

// sent notes that what n worked on is another's.
func (n *node) sent() {
	if n == nil {
		return
	}
	n.doing.Store(working)
	n.batch.Store(nil)
	n.number.Store(-1)
}

// blame completes the panic in err, if there is one, with what n was working
// on. A panic that is the cause of ctx's cancellation is another's.
func (n *node) blame(ctx context.Context, err error) {
	p, ok := errors.AsType[*PanicError](err)
	if others, _ := errors.AsType[*PanicError](context.Cause(ctx)); !ok || p == others {
		return
	}
	if b := n.batch.Load(); b != nil && p.Batch < 0 {
		about(p, b)
	}
	if id := n.sample.Load(); id >= 0 && p.Samples == nil {
		p.Samples = []int64{id}
	}
}
