package stages

import (
	"context"
	"fmt"
	"time"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// Loss is the stage that says what each batch is worth: its Loss and, unless
// they are not wanted, its Gradients with respect to its Embeddings. A loss
// over a list takes the batch's Triplets and comes behind a [Miner]; the others
// take its first P·K images, and mined negatives have gradient 0.
type Loss struct {
	Of          loss.Loss       // required: such as loss.Triplets, loss.BatchAll, loss.BatchHard, loss.Contrastive
	NoGradients bool            // leave Batch.Gradients empty
	Meter       *pipeline.Meter // counts images under "loss"; may be nil
}

// Run implements [pipeline.Stage].
func (l *Loss) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- *pipeline.Batch) error {
	if l.Of == nil {
		return usage("Loss.Of", "is nil, want a loss")
	}
	timer := l.Meter.Timer("loss")
	var ws loss.Workspace
	for b, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		start := time.Now()
		if err := l.compute(&ws, b); err != nil {
			return fmt.Errorf("compute loss of batch %d: %w", b.Number, err)
		}
		timer.Add(len(b.IDs), start)
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}

func (l *Loss) compute(ws *loss.Workspace, b *pipeline.Batch) (err error) {
	b.Gradients = pipeline.Embeddings{Data: b.Gradients.Data[:0]}
	if !l.NoGradients {
		b.Gradients.Dim = b.Embeddings.Dim
		b.Gradients.Data = resize(b.Gradients.Data, len(b.Embeddings.Data))
		clear(b.Gradients.Data)
	}
	// What the plan chose, without the negatives that were mined for it.
	images := b.Embeddings.Len()
	if _, listed := l.Of.(loss.Triplets); !listed {
		images -= b.Extra
	}
	grad := b.Gradients
	if !l.NoGradients {
		grad = grad.Slice(0, images)
	}
	b.Loss, err = l.Of.Compute(ws, grad, loss.Input{
		Embeddings: b.Embeddings.Slice(0, images),
		Labels:     b.Labels[:images],
		IDs:        b.IDs[:images],
		Triplets:   b.Triplets,
	})
	return err
}
