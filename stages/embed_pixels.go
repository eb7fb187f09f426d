package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// EmbedPixels is the stage that embeds each batch's decoded images as they pass:
// for rows that are in no cache, as those of a stream. What [Embed] takes from a
// snapshot it computes, by an Embedder that does not change.
type EmbedPixels struct {
	Embedder Embedder
	Unscaled bool            // leave the rows as the embedder makes them; default: scaled to length 1
	Meter    *pipeline.Meter // counts images under "embed"; may be nil
}

// Run implements [pipeline.Stage].
func (e *EmbedPixels) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- *pipeline.Batch) error {
	if e.Embedder == nil {
		return errors.New("stages: EmbedPixels.Embedder is nil, want one")
	}
	timer := e.Meter.Timer("embed")
	dim := e.Embedder.Dim()
	for b, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		start := time.Now()
		n := len(b.IDs)
		if n == 0 || len(b.Pixels) != n*b.Shape.Len() {
			return fmt.Errorf("embed batch %d: %d images of %d pixels have %d: decode them first", b.Number, n, b.Shape.Len(), len(b.Pixels))
		}
		b.Embeddings = pipeline.Embeddings{Dim: dim, Data: slices.Grow(b.Embeddings.Data[:0], n*dim)[:n*dim]}
		if err := guard("embedder", func() error { return e.Embedder.Embed(ctx, b.Embeddings, b.Pixels) }); err != nil {
			return fmt.Errorf("embed batch %d: %w", b.Number, err)
		}
		for i, id := range b.IDs {
			if err := finish(b.Embeddings.Row(i), !e.Unscaled); err != nil {
				return fmt.Errorf("embed batch %d: sample %d: %w", b.Number, id, err)
			}
		}
		timer.Add(n, start)
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}
