package stages

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// An Embedder maps images to points; the trainer supplies one.
type Embedder interface {
	// Embed writes the embeddings of B images to dst: pixels is B×C×H×W, in
	// [0, 1]; dst is B×D, not normalised. It keeps neither slice and is called
	// by one goroutine at a time. An error leaves the old generation.
	Embed(ctx context.Context, dst pipeline.Embeddings, pixels []float32) error
	Dim() int            // D; constant
	Fingerprint() string // of weights and preprocessing: part of every snapshot
}

// A Freezer is an [Embedder] whose weights go on changing, as those of a model
// in training do. A refresh embeds the data set with what Freeze returns.
type Freezer interface {
	Embedder
	// Freeze returns an embedder with the weights of this moment, which shares
	// no memory with the one that goes on learning. It is called between two
	// steps, on the goroutine of the training loop.
	Freeze() (Embedder, error)
}

// Embed is the stage that gives each batch the embeddings of its images, from
// the generation of the cache that belongs to the batch's number: Embeddings
// and Generation, and in the batch's State the snapshot's digest. Where the
// cache is refreshed, its refreshes run while Embed runs; they need the batches
// to reach the loop body of [pipeline.Flow.All], which is where weights change.
type Embed struct {
	Cache *Cache
	Meter *pipeline.Meter // counts images under "embed"; may be nil
}

// Run implements [pipeline.Stage].
func (e *Embed) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- *pipeline.Batch) (err error) {
	if e.Cache == nil {
		return errors.New("stages: Embed.Cache is nil, want one that holds the data set's embeddings")
	}
	timer := e.Meter.Timer("embed")
	stop, err := e.Cache.start(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if failed := stop(); err == nil {
			err = failed
		}
	}()
	first := true
	for b, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		if first {
			if err := e.Cache.resume(b); err != nil {
				return err
			}
			first = false
		}
		s, err := e.Cache.Snapshot(ctx, b.Number)
		if err != nil {
			return fmt.Errorf("embed batch %d: %w", b.Number, err)
		}
		start := time.Now()
		if b.Embeddings, err = s.Gather(b.Embeddings, b.IDs); err != nil {
			return fmt.Errorf("embed batch %d: %w", b.Number, err)
		}
		b.Generation = s.Generation
		last := s // what the last batch of the step uses: all ranks have one State
		if _, to := b.Step(); to > b.Number+1 {
			if last, err = e.Cache.Snapshot(ctx, to-1); err != nil {
				return fmt.Errorf("embed batch %d: %w", to-1, err)
			}
		}
		state := b.State()
		state.Generation, state.Snapshot = last.Generation, last.Digest
		b.Stamp(state)
		e.Cache.watch(b)
		timer.Add(len(b.IDs), start)
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}
