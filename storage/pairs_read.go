package storage

import (
	"context"
	"fmt"

	"github.com/tercet-ml/tercet/pipeline"
)

// Pairs is an open pairs file, and a [pipeline.Source] of its rows in file
// order. It may be used by one goroutine at a time.
type Pairs struct {
	r     *frameReader
	batch bool
}

// OpenPairs opens a pairs file of any format and reads it through once, as
// [OpenTriplets] does with a triplet file.
func OpenPairs(path string) (*Pairs, error) {
	p := &Pairs{}
	var prev pipeline.MinedPair
	var rows int64
	layout := func(meta fileMeta, _ []string) frame {
		p.batch = meta.Scope == ScopeBatch
		return pairLayout(p.batch)
	}
	check := func(f frame) (int, error) {
		for i := range f.rows() {
			if l := f[2].i32[i]; l != 0 && l != 1 {
				return i, fmt.Errorf("label is %d, want 0 (same) or 1 (different)", l)
			}
			m := p.pair(f, i)
			if err := checkPair(m, p.batch); err != nil {
				return i, err
			}
			if rows > 0 && comparePairs(prev, m) >= 0 {
				return i, fmt.Errorf("pair (%d, %d) out of order, or there already", m.Left, m.Right)
			}
			prev = m
			rows++
		}
		return 0, nil
	}
	var err error
	if p.r, err = openFrames(path, "pairs", layout, check); err != nil {
		return nil, err
	}
	return p, nil
}

// Close closes the file.
func (p *Pairs) Close() error { return p.r.close() }

// Meta is what the file says of itself.
func (p *Pairs) Meta() pipeline.TripletMeta { return p.r.meta.TripletMeta }

// Len is the number of pairs.
func (p *Pairs) Len() int64 { return p.r.meta.FileRows }

// Run implements [pipeline.Source].
func (p *Pairs) Run(ctx context.Context, out chan<- pipeline.MinedPair) error {
	f := p.r.layout.like()
	for b := range p.r.blocks {
		if err := p.r.read(b, f); err != nil {
			return err
		}
		for i := range f.rows() {
			if err := pipeline.Send(ctx, out, p.pair(f, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Locate is where a row is, by its number in the file.
func (p *Pairs) Locate(row int64) pipeline.Location { return p.r.locate(row) }

// pair is row i of a frame.
func (p *Pairs) pair(f frame, i int) pipeline.MinedPair {
	m := pipeline.MinedPair{
		Left: f[0].i64[i], Right: f[1].i64[i], Label: int8(f[2].i32[i]),
		Distance: f[3].f32[i], Loss: f[4].f32[i], Batch: -1,
	}
	if p.batch {
		m.Batch = f[5].i64[i]
	}
	return m
}
