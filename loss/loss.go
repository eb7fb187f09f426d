package loss

import (
	"fmt"

	"github.com/tercet-ml/tercet/pipeline"
)

// A Loss is one number for a batch of embeddings. [Triplets], [BatchAll],
// [BatchHard] and [Contrastive] are losses: their fields are the settings.
type Loss interface {
	// Compute returns the loss of in and what it was made of, and writes its
	// gradient with respect to in.Embeddings to grad, which has their shape;
	// a zero grad asks for the loss alone. Sums are float64 in a fixed order:
	// equal inputs give equal bits. ws may be used again for any loss and, once
	// it has seen the largest batch, Compute does not allocate.
	//
	// A batch that gives the loss nothing to work on is no error: loss and
	// gradient are 0 and LossStats.Empty says why. A row that no loss can be
	// computed from is a [*RowError]. After an error grad is undefined.
	Compute(ws *Workspace, grad pipeline.Embeddings, in Input) (pipeline.LossStats, error)
}

// Input is what a loss works on. The loss keeps none of it.
type Input struct {
	Embeddings pipeline.Embeddings // B×D, finite
	Labels     []int32             // B class numbers, where pipeline.Unknown takes no part; a loss over a list needs none
	IDs        []int64             // B sample ids: an image that is there twice is not its own positive. nil: all differ
	Triplets   []pipeline.Triplet  // for Triplets: positions; the distances in them are not used
	Pairs      []Pair              // for Contrastive; nil: every two images of known class
}

// A Reduction makes one number of the losses of the items, which are triplets,
// anchors or pairs.
type Reduction uint8

const (
	Mean        Reduction = iota // sum / items
	MeanNonZero                  // sum / items with a positive loss; that count is a constant to the gradient
	Sum                          // the sum
	None                         // Workspace.Losses holds each; LossStats.Loss and the gradient are those of Sum
)

var reductionNames = [...]string{"mean", "mean-nonzero", "sum", "none"}

// String is the name that flags and file headers use.
func (r Reduction) String() string {
	if int(r) < len(reductionNames) {
		return reductionNames[r]
	}
	return fmt.Sprintf("Reduction(%d)", r)
}

// ParseReduction is the inverse of [Reduction.String].
func ParseReduction(s string) (Reduction, error) {
	for r, name := range reductionNames {
		if s == name {
			return Reduction(r), nil
		}
	}
	return 0, fmt.Errorf("unknown reduction %q, want mean, mean-nonzero, sum or none", s)
}

// divisor is what the sum over count items, active of them positive, is divided by.
func (r Reduction) divisor(count, active int) float64 {
	switch r {
	case Mean:
		return float64(max(count, 1))
	case MeanNonZero:
		return float64(max(active, 1))
	default:
		return 1
	}
}

// A RowError names a row of a batch that no loss can be computed from.
type RowError struct {
	Row    int    // position in the batch
	ID     int64  // sample id; −1 when Input.IDs is nil
	Reason string // such as "value 3 is NaN"
}

func (e *RowError) Error() string {
	if e.ID >= 0 {
		return fmt.Sprintf("embedding of row %d (sample %d): %s", e.Row, e.ID, e.Reason)
	}
	return fmt.Sprintf("embedding of row %d: %s", e.Row, e.Reason)
}
