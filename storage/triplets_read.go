package storage

import (
	"context"
	"fmt"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// Triplets is an open triplet file, and a [pipeline.Source] of its rows. It may
// be used by one goroutine at a time.
type Triplets struct {
	r     *frameReader
	batch bool
	frame frame
	block []pipeline.MinedTriplet // of the last block read
	at    int                     // its number; −1 before the first
}

// OpenTriplets opens a triplet file of any format and reads it through once:
// every row, the order, and the digest over rows and metadata are checked, so
// that reading what is open finds nothing that was not written. Errors are
// [*RowError]s that name the file and, where there is one, the row group and
// row; they wrap [ErrCorrupt], [ErrSchema], [ErrVersion] or [ErrMemory].
func OpenTriplets(path string) (*Triplets, error) {
	t := &Triplets{at: -1}
	var prev pipeline.MinedTriplet
	var rows int64
	layout := func(meta fileMeta, names []string) frame {
		t.batch = meta.Scope == ScopeBatch
		return tripletLayout(slices.Contains(names, "anchor_path"), t.batch)
	}
	check := func(f frame) (int, error) {
		for i := range f.rows() {
			m := t.triplet(f, i)
			if err := checkTriplet(m, t.batch); err != nil {
				return i, err
			}
			if rows > 0 && compareTriplets(prev, m) > 0 {
				return i, fmt.Errorf("triplet (%d, %d, %d) out of order", m.Anchor, m.Positive, m.Negative)
			}
			prev = m
			rows++
		}
		return 0, nil
	}
	var err error
	if t.r, err = openFrames(path, "triplets", layout, check); err != nil {
		return nil, err
	}
	t.frame = t.r.layout.like()
	return t, nil
}

// Close closes the file.
func (t *Triplets) Close() error { return t.r.close() }

// Meta is what the file says of itself.
func (t *Triplets) Meta() pipeline.TripletMeta { return t.r.meta.TripletMeta }

// Len is the number of triplets.
func (t *Triplets) Len() int64 { return t.r.meta.FileRows }

// Digest is the SHA-256, in hex, of the rows and the metadata: the same for the
// same triplets in another format.
func (t *Triplets) Digest() string { return t.r.meta.FileDigest }

// Run implements [pipeline.Source]: the triplets in file order. Rank is the
// place of a triplet among those of its batch, anchor and positive in the file.
func (t *Triplets) Run(ctx context.Context, out chan<- pipeline.MinedTriplet) error {
	var prev pipeline.MinedTriplet
	for b := range t.r.blocks {
		rows, err := t.read(b)
		if err != nil {
			return err
		}
		for i, m := range rows {
			if (b > 0 || i > 0) && m.Batch == prev.Batch && m.Anchor == prev.Anchor && m.Positive == prev.Positive {
				m.Rank = prev.Rank + 1
			}
			prev = m
			if err := pipeline.Send(ctx, out, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// read returns the triplets of a block, without ranks, until the next call.
func (t *Triplets) read(b int) ([]pipeline.MinedTriplet, error) {
	if b == t.at {
		return t.block, nil
	}
	t.at = -1
	if err := t.r.read(b, t.frame); err != nil {
		return nil, err
	}
	if got, want := int64(t.frame.rows()), t.r.starts[b+1]-t.r.starts[b]; got != want {
		return nil, t.r.fault(b, -1, fmt.Errorf("%w: %d rows, were %d when it was opened", ErrCorrupt, got, want))
	}
	t.block = t.block[:0]
	for i := range t.frame.rows() {
		t.block = append(t.block, t.triplet(t.frame, i))
	}
	t.at = b
	return t.block, nil
}

// triplet is row i of a frame.
func (t *Triplets) triplet(f frame, i int) pipeline.MinedTriplet {
	m := pipeline.MinedTriplet{
		Anchor: f[0].i64[i], Positive: f[1].i64[i], Negative: f[2].i64[i],
		AnchorLabel: f[3].i32[i], PositiveLabel: f[4].i32[i], NegativeLabel: f[5].i32[i],
		Batch: -1,
	}
	if t.batch {
		m.Batch = f[len(f)-1].i64[i]
		f = f[:len(f)-1]
	}
	f = f[len(f)-5:]
	m.AP, m.AN, m.Loss = f[0].f32[i], f[1].f32[i], f[2].f32[i]
	m.Kind, m.Generation = f[3].kind[i], f[4].i32[i]
	return m
}

// Locate is where a row is, by its number in the file.
func (t *Triplets) Locate(row int64) pipeline.Location { return t.r.locate(row) }
