package storage

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/tercet-ml/tercet/pipeline"
)

// PairLabels is the convention of a pairs file's labels, as its metadata says it.
const PairLabels = "0 same, 1 different"

// A PairWriter writes pairs for the contrastive loss, in the formats and with
// the guarantees of a [TripletWriter]:
//
//	left, right     int64    sample ids
//	label           int32    0 same class, 1 different (Hadsell, Chopra and LeCun 2006)
//	distance, loss  float32  in units of the metadata's distance
//	batch           int64    only in batch scope
//
// Rows are sorted by (batch,) left, then label, then right: with each anchor
// its positives come first. No pair comes twice.
type PairWriter struct {
	w     *frameWriter
	meta  pipeline.TripletMeta
	frame frame
	prev  pipeline.MinedPair
	rows  int64
}

func pairLayout(batch bool) frame {
	f := columnsOf(frameInt64, "left", "right")
	f = append(f, columnsOf(frameInt32, "label")...)
	f = append(f, columnsOf(frameFloat32, "distance", "loss")...)
	if batch {
		f = append(f, columnsOf(frameInt64, "batch")...)
	}
	return f
}

// NewPairWriter begins a pairs file. SamplePath is not used.
func NewPairWriter(cfg TripletConfig) (*PairWriter, error) {
	cfg.Meta.PairLabels = PairLabels
	w, meta, err := cfg.open("pairs", pairLayout)
	if err != nil {
		return nil, err
	}
	return &PairWriter{w: w, meta: meta, frame: w.layout.like()}, nil
}

// Write appends pairs, which it does not keep. One that is invalid, out of
// order or there already is an error, and the file's end.
func (w *PairWriter) Write(pairs []pipeline.MinedPair) error {
	for _, p := range pairs {
		if err := w.check(p); err != nil {
			return w.w.guard(func() error { return fmt.Errorf("pair %d (%d, %d): %w", w.rows, p.Left, p.Right, err) })
		}
		f := w.frame
		f[0].i64 = append(f[0].i64, p.Left)
		f[1].i64 = append(f[1].i64, p.Right)
		f[2].i32 = append(f[2].i32, int32(p.Label))
		f[3].f32 = append(f[3].f32, p.Distance)
		f[4].f32 = append(f[4].f32, p.Loss)
		if len(f) > 5 {
			f[5].i64 = append(f[5].i64, p.Batch)
		}
		w.prev = p
		w.rows++
		if f.rows() == frameRows {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return w.w.failed()
}

func (w *PairWriter) check(p pipeline.MinedPair) error {
	if err := checkPair(p, w.meta.Scope == ScopeBatch); err != nil {
		return err
	}
	if w.rows > 0 && comparePairs(w.prev, p) >= 0 {
		return fmt.Errorf("out of order or there already: comes after batch %d, (%d, %d), label %d", w.prev.Batch, w.prev.Left, w.prev.Right, w.prev.Label)
	}
	return nil
}

func (w *PairWriter) flush() error {
	if w.frame.rows() == 0 {
		return w.w.failed()
	}
	err := w.w.write(w.frame)
	w.frame.reset()
	return err
}

// Close writes the counts into the metadata and gives the file its name.
func (w *PairWriter) Close(counts map[string]int64) error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.w.close(withCounts(w.meta, counts))
}

// Abort gives the file up. After Close it does nothing, so it can be deferred.
func (w *PairWriter) Abort() { w.w.abort() }

func comparePairs(a, b pipeline.MinedPair) int {
	return cmp.Or(
		cmp.Compare(a.Batch, b.Batch),
		cmp.Compare(a.Left, b.Left),
		cmp.Compare(a.Label, b.Label),
		cmp.Compare(a.Right, b.Right),
	)
}

func checkPair(p pipeline.MinedPair, batch bool) error {
	switch {
	case min(p.Left, p.Right) < 0:
		return errors.New("negative sample id")
	case p.Left == p.Right:
		return errors.New("an image with itself")
	case p.Label != 0 && p.Label != 1:
		return fmt.Errorf("label is %d, want 0 (same) or 1 (different)", p.Label)
	case !finite(p.Distance) || !finite(p.Loss):
		return fmt.Errorf("distance %v, loss %v: want finite numbers", p.Distance, p.Loss)
	case p.Loss < 0:
		return fmt.Errorf("loss is %v, want at least 0", p.Loss)
	case batch && p.Batch < 0:
		return fmt.Errorf("batch is %d, want at least 0 in batch scope", p.Batch)
	case !batch && p.Batch != -1:
		return fmt.Errorf("batch is %d, want −1 in data-set scope", p.Batch)
	}
	return nil
}
