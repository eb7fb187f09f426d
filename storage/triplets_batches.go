package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/tercet-ml/tercet/pipeline"
)

// TripletBatches configures [Triplets.Batches].
type TripletBatches struct {
	PerBatch int    // triplets of a batch; greater than 0. The last batch of an epoch has what is left.
	Data     string // digest of the data set that the sample ids will be read from; must be the file's
	Shuffle  bool   // each epoch in an order of its own, rather than that of the file
	Seed     uint64 // of the shuffle
}

// A MismatchError says that a file was made from, or with, something else.
type MismatchError struct {
	File       string
	Field      string // its name in the file's metadata
	Have, Want string // what the file says, what was expected
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s: %s is %s, want %s", e.File, e.Field, e.Have, e.Want)
}

// TripletSource is a [pipeline.Source] of batches made of a triplet file:
//
//	pipeline.From(source).Then(fetch, decode)
//
// trains from what was mined before. Batch i holds PerBatch triplets that follow
// each other in the epoch's order. Its IDs are their distinct samples, in the order
// in which they come first; its Triplets are positions among them. P is the number
// of samples and K is 1, so that B = P·K holds, but samples of one class are not
// side by side. Generation is the newest among its triplets.
//
// With Shuffle, the blocks of 65,536 triplets (fewer where paths are long) that
// the file consists of come in a permuted order, and the triplets of each block
// are permuted: whole files up to that size are shuffled uniformly, larger ones
// with the memory of one block.
//
// Like a plan's, batch numbers go on through the epochs, and batch b is a function
// of the file, PerBatch, Shuffle, the seed and b. A TripletSource is immutable, but
// those of one [Triplets] share its file: run one at a time.
type TripletSource struct {
	t     *Triplets
	cfg   TripletBatches
	start pipeline.State
}

// Batches returns a source of the first epoch's batches. A file mined from other
// data is refused with a [*MismatchError]. A file without triplets gives no batch.
func (t *Triplets) Batches(cfg TripletBatches) (*TripletSource, error) {
	if cfg.PerBatch <= 0 {
		return nil, fmt.Errorf("storage: TripletBatches.PerBatch is %d, want > 0", cfg.PerBatch)
	}
	if have := t.Meta().DataDigest; have != cfg.Data {
		return nil, &MismatchError{File: t.r.path, Field: "data_digest", Have: have, Want: cfg.Data}
	}
	config := pipeline.Digest("triplet batches", struct {
		File     string
		Blocks   []int64
		PerBatch int
		Shuffle  bool
	}{t.Digest(), t.r.starts, cfg.PerBatch, cfg.Shuffle})
	return &TripletSource{t: t, cfg: cfg, start: pipeline.State{
		Format: pipeline.StateFormat, Data: cfg.Data, Config: config, Seed: cfg.Seed,
	}}, nil
}

// Steps is the number of batches of an epoch.
func (s *TripletSource) Steps() int64 {
	n := int64(s.cfg.PerBatch)
	return (s.t.Len() + n - 1) / n
}

// Epoch is the source of epoch e, from 0: batches e·Steps to (e+1)·Steps − 1.
func (s *TripletSource) Epoch(e int64) *TripletSource {
	c := *s
	c.start.Next = e * s.Steps()
	return &c
}

// At is the source of what is left of an epoch: from batch state.Next to the
// epoch's end, or a whole epoch where one begins there. The zero State is the
// beginning. A state of other data, another file, configuration or seed is
// refused with a [*pipeline.StateError].
func (s *TripletSource) At(state pipeline.State) (*TripletSource, error) {
	c := *s
	c.start.Next = 0
	if state == (pipeline.State{}) {
		return &c, nil
	}
	if err := state.Check(s.start); err != nil {
		return nil, err
	}
	if state.Next < 0 {
		return nil, &pipeline.StateError{Field: "next", Have: fmt.Sprint(state.Next), Want: "at least 0"}
	}
	c.start.Next = state.Next
	return &c, nil
}

// Run implements [pipeline.Source].
func (s *TripletSource) Run(ctx context.Context, out chan<- *pipeline.Batch) error {
	steps := s.Steps()
	if steps == 0 {
		return nil
	}
	epoch, step := s.start.Next/steps, s.start.Next%steps
	order := s.t.order(s.cfg, epoch)
	at := make(map[int64]int32) // sample id → position
	for ; step < steps; step++ {
		b := pipeline.NewBatch()
		b.Number = epoch*steps + step
		clear(at)
		first := step * int64(s.cfg.PerBatch)
		for i := first; i < min(first+int64(s.cfg.PerBatch), s.t.Len()); i++ {
			m, err := order.triplet(i)
			if err != nil {
				return err
			}
			add(b, at, m)
		}
		b.P, b.K = len(b.IDs), 1
		next := s.start
		next.Next, next.Generation = b.Number+1, b.Generation
		b.Stamp(next)
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}

// add appends a triplet to a batch, and those of its samples that are new.
func add(b *pipeline.Batch, at map[int64]int32, m pipeline.MinedTriplet) {
	position := func(id int64, label int32) int32 {
		p, ok := at[id]
		if !ok {
			p = int32(len(b.IDs))
			at[id] = p
			b.IDs = append(b.IDs, id)
			b.Labels = append(b.Labels, label)
		}
		return p
	}
	b.Triplets = append(b.Triplets, pipeline.Triplet{
		Anchor:   position(m.Anchor, m.AnchorLabel),
		Positive: position(m.Positive, m.PositiveLabel),
		Negative: position(m.Negative, m.NegativeLabel),
		AP:       m.AP, AN: m.AN, Loss: m.Loss, Kind: m.Kind,
	})
	b.Generation = max(b.Generation, m.Generation)
}

// A tripletOrder is the order of one epoch.
type tripletOrder struct {
	t      *Triplets
	cfg    TripletBatches
	epoch  int64
	blocks []int   // in the epoch's order
	starts []int64 // place in the epoch that each of blocks begins at, and the number of triplets
	rows   []int   // of the block that was last read, in the epoch's order; nil for the file's
	block  int     // its index in blocks; −1 for none
}

func (t *Triplets) order(cfg TripletBatches, epoch int64) *tripletOrder {
	o := &tripletOrder{t: t, cfg: cfg, epoch: epoch, block: -1, starts: []int64{0}}
	o.blocks = make([]int, t.r.blocks)
	for i := range o.blocks {
		o.blocks[i] = i
	}
	if cfg.Shuffle {
		o.shuffle(o.blocks, 0)
	}
	for _, b := range o.blocks {
		o.starts = append(o.starts, o.starts[len(o.starts)-1]+t.r.starts[b+1]-t.r.starts[b])
	}
	return o
}

// triplet is the one at place i of the epoch.
func (o *tripletOrder) triplet(i int64) (pipeline.MinedTriplet, error) {
	k := o.block
	if k < 0 || i < o.starts[k] || i >= o.starts[k+1] {
		k = sort.Search(len(o.blocks), func(k int) bool { return o.starts[k+1] > i })
	}
	triplets, err := o.t.read(o.blocks[k])
	if err != nil {
		return pipeline.MinedTriplet{}, err
	}
	if k != o.block {
		o.block = k
		o.rows = slices.Grow(o.rows[:0], len(triplets))[:len(triplets)]
		for r := range o.rows {
			o.rows[r] = r
		}
		if o.cfg.Shuffle {
			o.shuffle(o.rows, 1+uint64(o.blocks[k]))
		}
	}
	return triplets[o.rows[i-o.starts[k]]], nil
}

// shuffle permutes s by Fisher and Yates's method, as a function of the seed,
// the epoch and what alone: ChaCha8 is specified, rand.Shuffle is not.
func (o *tripletOrder) shuffle(s []int, what uint64) {
	var key [32]byte
	copy(key[:8], "triplets")
	binary.LittleEndian.PutUint64(key[8:], o.cfg.Seed)
	binary.LittleEndian.PutUint64(key[16:], uint64(o.epoch))
	binary.LittleEndian.PutUint64(key[24:], what)
	r := rand.NewChaCha8(key)
	for i := len(s) - 1; i > 0; i-- {
		j, _ := bits.Mul64(r.Uint64(), uint64(i)+1) // uniform but for less than i·2⁻⁶⁴
		s[i], s[j] = s[j], s[i]
	}
}
