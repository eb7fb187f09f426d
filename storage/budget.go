package storage

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow/memory"
)

// A budget hands out memory to the decoding of one file and refuses past a
// limit, by a panic of type overBudget that the recover at the boundary turns
// into an error: the library has no other way to hear no. It implements
// [memory.Allocator]. Memory is the garbage collector's; what is counted as
// freed is only not counted any more. It refuses, too, when its context is done:
// a decoder that knows of none is stopped where it asks for memory.
type budget struct {
	limit int64
	used  atomic.Int64
	ctx   context.Context // nothing is handed out once it is done; nil for none
	fixed bool            // limit is what the file's bytes can hold: to want more is the file's fault
}

var _ memory.Allocator = (*budget)(nil)

// overBudget is what a [budget] panics with.
type overBudget struct {
	asked, used, limit int64
	fixed              bool
}

func (e overBudget) Error() string {
	if e.fixed {
		return fmt.Sprintf("%v: its values take more than %d bytes, which so few stored ones do not hold", ErrCorrupt, e.limit)
	}
	return fmt.Sprintf("%v: %d bytes asked for with %d in use, limit %d: allow more memory", ErrMemory, e.asked, e.used, e.limit)
}

func (e overBudget) Unwrap() error {
	if e.fixed {
		return ErrCorrupt
	}
	return ErrMemory
}

// stopped is what a [budget] panics with when its context is done.
type stopped struct{ error }

func (s stopped) Unwrap() error { return s.error }

// take counts n more bytes as used. It panics past the limit, and then counts
// nothing.
func (b *budget) take(n int64) {
	if b.ctx != nil && b.ctx.Err() != nil {
		panic(stopped{context.Cause(b.ctx)})
	}
	if used := b.used.Add(n); n > 0 && used > b.limit {
		b.used.Add(-n)
		panic(overBudget{asked: n, used: used - n, limit: b.limit, fixed: b.fixed})
	}
}

// room panics where take would, and takes nothing.
func (b *budget) room(n int64) {
	b.take(n)
	b.give(n)
}

// check panics for a size that comes from a damaged length.
func (b *budget) check(size int) {
	if size < 0 {
		panic(overBudget{asked: int64(size), used: b.used.Load(), limit: b.limit, fixed: b.fixed})
	}
}

// give counts n bytes as no longer used.
func (b *budget) give(n int64) { b.used.Add(-n) }

// Allocate implements [memory.Allocator].
func (b *budget) Allocate(size int) []byte {
	b.check(size)
	b.take(int64(size))
	return memory.DefaultAllocator.Allocate(size)
}

// Reallocate implements [memory.Allocator].
func (b *budget) Reallocate(size int, old []byte) []byte {
	b.check(size)
	b.take(int64(size) - int64(len(old)))
	return memory.DefaultAllocator.Reallocate(size, old)
}

// Free implements [memory.Allocator].
func (b *budget) Free(old []byte) {
	b.give(int64(len(old)))
	memory.DefaultAllocator.Free(old)
}
