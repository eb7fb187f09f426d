package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// A Reader reads rows of a data set by sample id. A storage.Dataset is one.
type Reader interface {
	// Read sets dst[i] to the row of ids[i]; the lengths are equal. The ids may
	// be in any order and repeat. After an error dst holds nothing of use.
	Read(ctx context.Context, ids []int64, dst []pipeline.Record) error
}

// ErrChanged is the cause of a [pipeline.RowError] for a row that is no longer
// the one that was planned.
var ErrChanged = errors.New("row is not the one that was planned: the data set has changed since its labels were read")

// Fetch is the [pipeline.Stage] that reads each batch's Records: one for every
// sample id, in the order of the ids. Batches are read one at a time; how far
// ahead of the trainer is the flow's [pipeline.Flow.Prefetch].
//
// With a windowed Plan, and a Reader that is a [Holder], the row groups of a
// window are read as wholes, each once, and held until its last batch was read;
// those of the next window are read meanwhile.
type Fetch struct {
	Reader Reader          // required
	Plan   *Plan           // the batches' plan, where it may be windowed
	Meter  *pipeline.Meter // counts images under "fetch"; may be nil
}

// Run implements [pipeline.Stage].
func (f Fetch) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- *pipeline.Batch) (err error) {
	if f.Reader == nil {
		return errors.New("stages: Fetch.Reader is nil, want the data set the batches were planned on")
	}
	timer := f.Meter.Timer("fetch")
	var windows windowReader
	if holder, ok := f.Reader.(Holder); ok && f.Plan != nil {
		windows = windowReader{plan: f.Plan, from: holder}
		defer func() {
			if failed := windows.close(); err == nil {
				err = failed
			}
		}()
	}
	for b, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		start := time.Now()
		if err := windows.enter(ctx, b); err != nil {
			return fmt.Errorf("fetch batch %d: %w", b.Number, err)
		}
		if err := f.read(ctx, b); err != nil {
			return fmt.Errorf("fetch batch %d: %w", b.Number, err)
		}
		timer.Add(len(b.IDs), start)
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}

// read fills b.Records and checks them against what b was planned with.
func (f Fetch) read(ctx context.Context, b *pipeline.Batch) error {
	if len(b.Labels) != len(b.IDs) {
		return fmt.Errorf("%d sample ids have %d labels", len(b.IDs), len(b.Labels))
	}
	b.Records = slices.Grow(b.Records[:0], len(b.IDs))[:len(b.IDs)]
	if err := f.Reader.Read(ctx, b.IDs, b.Records); err != nil {
		return err
	}
	for i, r := range b.Records {
		where := r.Where
		where.Column = "" // the row is at fault, not its image
		switch {
		case r.ID != b.IDs[i]:
			return &pipeline.RowError{Location: where, Err: fmt.Errorf("%w: sample id %d, want %d", ErrChanged, r.ID, b.IDs[i])}
		case r.Label != b.Labels[i] && b.Labels[i] != pipeline.Unknown: // that of a bad row, or of one whose place Mend leaves empty
			return &pipeline.RowError{Location: where, Err: fmt.Errorf("%w: class %d, want %d", ErrChanged, r.Label, b.Labels[i])}
		}
	}
	return nil
}
