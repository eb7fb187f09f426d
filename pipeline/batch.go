package pipeline

import (
	"slices"
	"sync"
)

// A Batch holds B = P·K images, K of each of P classes, a class side by side.
// Position i is the same image in every field. A Batch has one owner: sending
// hands it on, and the loop body of [Flow.All] is the last. When that body
// ends the memory is used again; [Batch.Clone] keeps a copy.
type Batch struct {
	Number     int64 // from 0; with the seed it decides all that follows
	First      int64 // with ranks, number of the first batch of the step; see [Batch.Step]
	World      int   // ranks that step together; 0 and 1 for one alone
	P, K       int
	IDs        []int64    // B+Extra sample ids
	Labels     []int32    // B+Extra
	Records    []Record   // B+Extra; from stages.Fetch, dropped by stages.Decode
	Shape      Shape      // of each image in Pixels
	Pixels     []float32  // (B+Extra)×C×H×W, row-major; in [0, 1] unless a mean and deviation were asked for; from stages.Decode
	Embeddings Embeddings // (B+Extra)×D; from stages.Embed
	Triplets   []Triplet  // positions in this batch, with d_ap, d_an, loss and kind; from stages.Miner
	Extra      int        // images from position P·K on: mined negatives from the data set
	Generation int32      // of the cache that Embeddings and Triplets come from
	Loss       LossStats  // from stages.Loss
	Gradients  Embeddings // (B+Extra)×D, with respect to Embeddings; from stages.Loss

	state    State
	onReturn []func()
}

// LossStats are a loss over one batch and what it was made of.
type LossStats struct {
	Loss                 float64 // reduced as the loss says; 0 when Count is 0
	Count                int     // triplets (or pairs) that took part
	Active               int     // those with a positive loss
	MeanAP, MeanAN       float64 // mean distances over Count; for pairs: same class and different
	Hard, SemiHard, Easy int     // triplets by kind
	Empty                Empty   // why Count is 0
}

// Empty says why a batch gave a loss nothing to work on.
type Empty uint8

const (
	NotEmpty   Empty = iota
	NoPositive       // no two images of one class
	NoNegative       // only one class
	NoTriplet        // pairs and classes there were, but the rule selected nothing
)

// String names the reason; "" for NotEmpty.
func (e Empty) String() string {
	return [...]string{"", "no positive pair", "only one class", "no triplet selected"}[e]
}

var batches = sync.Pool{New: func() any { return new(Batch) }}

// NewBatch returns an empty batch, made of the memory of a returned one where
// there is one. Sources of batches call it; nobody has to give one back.
func NewBatch() *Batch { return batches.Get().(*Batch) }

// Stamp records the state after this batch: where a run that has seen b goes
// on. Sources of batches call it.
func (b *Batch) Stamp(next State) { b.state = next }

// State is where to resume after b. It takes no time and no I/O.
func (b *Batch) State() State { return b.state }

// Step is the numbers from … to−1 of the batches that all ranks take in the step
// that b is one of; without ranks that is b alone.
func (b *Batch) Step() (from, to int64) {
	if b.World > 1 {
		return b.First, b.First + int64(b.World)
	}
	return b.Number, b.Number + 1
}

// OnReturn has f called when the loop body that received b ends and the loop
// goes on: on the loop's own goroutine, before the next batch is waited for.
// A cache uses it to see the trainer's weights between two steps.
func (b *Batch) OnReturn(f func()) { b.onReturn = append(b.onReturn, f) }

// Clone returns a copy of b that shares no memory with it and is never reused.
func (b *Batch) Clone() *Batch {
	c := *b
	c.IDs = slices.Clone(b.IDs)
	c.Labels = slices.Clone(b.Labels)
	c.Records = slices.Clone(b.Records)
	for i := range c.Records {
		c.Records[i].Image = slices.Clone(c.Records[i].Image)
	}
	c.Pixels = slices.Clone(b.Pixels)
	c.Embeddings.Data = slices.Clone(b.Embeddings.Data)
	c.Triplets = slices.Clone(b.Triplets)
	c.Gradients.Data = slices.Clone(b.Gradients.Data)
	c.onReturn = nil
	return &c
}

// endLoan ends the loan of b. The loop went on, or it has been left.
func (b *Batch) endLoan(goesOn bool) {
	if goesOn {
		for _, f := range b.onReturn {
			f()
		}
	}
	poison(b)
	b.reset()
	batches.Put(b)
}

// reset empties b and keeps its memory.
func (b *Batch) reset() {
	clear(b.Records[:cap(b.Records)]) // also of records that a stage has cut off: they hold images
	clear(b.onReturn)
	*b = Batch{
		IDs:        b.IDs[:0],
		Labels:     b.Labels[:0],
		Records:    b.Records[:0],
		Pixels:     b.Pixels[:0],
		Embeddings: Embeddings{Data: b.Embeddings.Data[:0]},
		Triplets:   b.Triplets[:0],
		Gradients:  Embeddings{Data: b.Gradients.Data[:0]},
		onReturn:   b.onReturn[:0],
	}
}
