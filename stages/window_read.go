package stages

import (
	"context"
	"errors"

	"github.com/tercet-ml/tercet/pipeline"
)

// A Holder is a [Reader] that can keep row groups in memory, by their number in
// its [pipeline.Layout]. A storage.Dataset is one.
type Holder interface {
	Reader
	// Hold reads a row group as a whole and keeps it for Read, until it is
	// released as often as it was held.
	Hold(ctx context.Context, group int) error
	Release(group int)
}

// holdAtOnce is how many row groups are read at a time.
const holdAtOnce = 2

// A windowReader holds the row groups of the window that is served, and reads
// those of the next one. The zero value does nothing.
type windowReader struct {
	plan       *Plan
	from       Holder
	this, next *heldWindow // next is the next one; nil where there is none yet
}

// A heldWindow is a window whose row groups are held, or are on their way.
type heldWindow struct {
	Window
	from     Holder
	task     *pipeline.Task
	arrivals map[int]*arrival // by row group
	over     *pipeline.Event  // the task has ended, however it did
}

// An arrival is a row group that is on its way.
type arrival struct {
	here *pipeline.Event
	err  error // why it is not, when it is not; set before here
	held bool  // the task's, until it has ended
}

// enter waits until the row groups of b are held. Others of its window may
// still be on their way; when all are there, the next window is read.
func (r *windowReader) enter(ctx context.Context, b *pipeline.Batch) error {
	if r.plan == nil {
		return nil
	}
	if r.this == nil || b.Number < r.this.From || b.Number >= r.this.To {
		if err := r.turn(ctx, b.Number); err != nil || r.this == nil {
			return err
		}
	}
	layout := r.plan.cfg.Layout
	for _, id := range b.IDs {
		if id < 0 || id >= r.plan.report.Rows {
			continue // whoever reads it will say
		}
		a, ok := r.this.arrivals[groupOf(layout, id)]
		if !ok {
			continue // a mined negative from elsewhere
		}
		if err := a.here.Wait(ctx); err != nil {
			return err
		}
		if a.err != nil {
			return a.err
		}
	}
	return nil
}

// turn goes on to the window of batch b.
func (r *windowReader) turn(ctx context.Context, b int64) error {
	if err := r.this.release(); err != nil {
		return err
	}
	r.this, r.next = r.next, nil
	if r.this != nil && (b < r.this.From || b >= r.this.To) {
		if err := r.this.release(); err != nil { // the reader went elsewhere
			return err
		}
		r.this = nil
	}
	if r.this == nil {
		if r.this = r.hold(ctx, b, nil); r.this == nil {
			return nil
		}
	}
	if steps := r.plan.Steps(); r.this.To/steps == b/steps { // what comes after an epoch is not known
		r.next = r.hold(ctx, r.this.To, r.this.over)
	}
	return nil
}

// hold begins to read the window of batch b, from b to the end of its epoch in
// the order in which batches need its row groups, when another one is read.
func (r *windowReader) hold(ctx context.Context, b int64, after *pipeline.Event) *heldWindow {
	w, ok := r.plan.Window(b)
	if !ok {
		return nil
	}
	h := &heldWindow{Window: w, from: r.from, arrivals: make(map[int]*arrival, len(w.Groups)), over: pipeline.NewEvent()}
	for _, g := range w.Groups {
		h.arrivals[g] = &arrival{here: pipeline.NewEvent()}
	}
	h.task = pipeline.Background(ctx, func(ctx context.Context) error {
		defer h.over.Set()
		if after != nil {
			if err := after.Wait(ctx); err != nil {
				return h.settle(err)
			}
		}
		return h.settle(h.read(ctx, r.plan, b))
	})
	return h
}

// read holds the row groups that batches from b on need.
func (h *heldWindow) read(ctx context.Context, plan *Plan, b int64) error {
	needed := make(map[int]bool, len(h.Groups))
	var groups []int // in the order of need
	var ids []int64
	for end := min(h.To, b-b%plan.Steps()+plan.Steps()); b < end && len(groups) < len(h.Groups); b++ {
		ids = plan.Batch(b, ids[:0])
		for _, id := range ids {
			if g := groupOf(plan.cfg.Layout, id); !needed[g] {
				needed[g] = true
				groups = append(groups, g)
			}
		}
	}
	return pipeline.ForEach(ctx, holdAtOnce, len(groups), func(ctx context.Context, i int) error {
		a := h.arrivals[groups[i]]
		if err := h.from.Hold(ctx, groups[i]); err != nil {
			return err
		}
		a.held = true
		a.here.Set()
		return nil
	})
}

// settle tells those who wait for a row group that is not held why it does not
// come; without an error it is that no batch was planned with it, and whoever
// wants a row of it reads that row.
func (h *heldWindow) settle(err error) error {
	for _, a := range h.arrivals {
		if !a.held {
			a.err = err
			a.here.Set()
		}
	}
	return err
}

// release ends reading and lets go of what is held.
func (h *heldWindow) release() error {
	if h == nil {
		return nil
	}
	err := h.task.Stop()
	for g, a := range h.arrivals {
		if a.held {
			h.from.Release(g)
			a.held = false
		}
	}
	return err
}

// close releases all.
func (r *windowReader) close() error {
	return errors.Join(r.this.release(), r.next.release())
}
