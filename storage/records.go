package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/tercet-ml/tercet/pipeline"
)

// measure finds how wide raw pixels and embeddings are, where the schema does
// not say: by the first row that is not null.
func (d *Dataset) measure(ctx context.Context) error {
	if image := d.roles[0].image; image != nil && d.isRaw(*image) {
		width, err := d.width(ctx, func(r roles) column { return *r.image })
		if err != nil {
			return err
		}
		if d.raw, err = rawLayout(*image, width, d.cfg.Shape); err != nil {
			return fmt.Errorf("%s: column %q: %w", d.shards[0].path(), image.name, err)
		}
	}
	if d.roles[0].embedding != nil {
		width, err := d.width(ctx, func(r roles) column { return *r.embedding })
		if err != nil {
			return err
		}
		d.dim = width
	}
	return nil
}

// isRaw reports whether an image column holds pixels rather than files: lists
// do, binary of a fixed size does, and any binary for which a shape was given.
func (d *Dataset) isRaw(c column) bool {
	switch c.kind {
	case kindPixels, kindFloats:
		return true
	case kindBinary:
		return c.width > 0 || c.tensor != "" || d.cfg.Shape != (pipeline.Shape{})
	}
	return false
}

// width is the number of values in each cell of a column.
func (d *Dataset) width(ctx context.Context, of func(roles) column) (int, error) {
	if w := of(d.roles[0]).width; w > 0 {
		return w, nil
	}
	for _, p := range d.parts {
		for t, err := range d.tables(ctx, p, []column{of(d.roles[p.shard])}, nil) {
			if t == nil {
				return 0, err
			}
			if err != nil {
				continue
			}
			for k := range t.rows {
				if c := t.cells[0]; !c.isNull(k) {
					if c.bytes != nil {
						return len(c.bytes[k]), nil
					}
					return len(c.floats[k]), nil
				}
			}
		}
	}
	return 0, nil
}

// tables reads like [shard.read] of a part's row group. With Config.KeepBad it
// goes on behind a row that cannot be read because of its bytes: that row comes
// as a table of it alone, without cells, together with its error.
func (d *Dataset) tables(ctx context.Context, p part, want []column, rows []int64) iter.Seq2[*table, error] {
	s := d.shards[p.shard]
	if !d.cfg.KeepBad {
		return s.read(ctx, p.group, want, rows)
	}
	return func(yield func(*table, error) bool) {
		if rows == nil {
			rows = make([]int64, p.rows)
			for i := range rows {
				rows[i] = int64(i)
			}
		}
		// read yields some of the rows that are left, until a fault.
		read := func(some []int64) (fault error, left bool) {
			for t, err := range s.read(ctx, p.group, want, some) {
				if err != nil {
					return err, false
				}
				rows = rows[len(t.rows):]
				if !yield(t, nil) {
					return nil, true
				}
			}
			return nil, false
		}
		for len(rows) > 0 {
			fault, left := read(rows)
			if fault == nil || left {
				return
			}
			if _, named := errors.AsType[*RowError](fault); !named || !ofContent(fault) {
				yield(nil, fault)
				return
			}
			// Which row it was, only reading each by itself says: a table is read
			// column by column, and a page is as bad as its first row.
			whole := false
			for n := 0; len(rows) > 0 && (whole || n < tableRows); n++ {
				if !whole {
					if fault, left = read(rows[:1]); left {
						return
					}
				}
				if fault == nil {
					continue
				}
				at, named := errors.AsType[*RowError](fault)
				if !named || !ofContent(fault) {
					yield(nil, fault)
					return
				}
				whole = at.Row < 0 // then it is the whole column's
				bad := &RowError{Location: at.Location, Err: at.Err}
				bad.Row = rows[0]
				row := &table{rows: rows[:1:1]}
				rows = rows[1:]
				if !yield(row, bad) {
					return
				}
			}
		}
	}
}

// records yields rows of a part as records, a table at a time: the given rows,
// in ascending order, or all for nil. The records are the receiver's. With
// Config.KeepBad those that cannot be used have Err set.
func (d *Dataset) records(ctx context.Context, i int, rows []int64) iter.Seq2[[]pipeline.Record, error] {
	return func(yield func([]pipeline.Record, error) bool) {
		p := d.parts[i]
		image, id := d.roles[p.shard].image, d.roles[p.shard].id
		want := d.recordColumns(p.shard)
		file := d.shards[p.shard].path()
		for t, err := range d.tables(ctx, p, want, rows) {
			if t == nil {
				yield(nil, err)
				return
			}
			recs := make([]pipeline.Record, len(t.rows))
			for k, row := range t.rows {
				sample := p.first + row
				recs[k] = pipeline.Record{
					ID: sample, Label: d.labels[sample], Raw: d.raw, Err: err,
					Where: pipeline.Location{File: file, RowGroup: p.group, Row: row, Column: image.name},
				}
				if err != nil {
					continue
				}
				if id != nil {
					recs[k].Path = t.cells[1].text(k)
				}
				pixels, fault := d.image(*image, t.cells[0], k)
				if fault == nil {
					fault = d.bad[sample]
				} else if fault = d.rowError(p, row, image.name, fault); !d.cfg.KeepBad {
					yield(nil, fault)
					return
				}
				recs[k].Image, recs[k].Err = pixels, fault
			}
			if !yield(recs, nil) {
				return
			}
		}
	}
}

// image is row k of an image column, as a Record has it.
func (d *Dataset) image(c column, from cells, k int) ([]byte, error) {
	if from.isNull(k) {
		if c.hasPath {
			return nil, fmt.Errorf("%w: the image is not in the file (its path may be): embed it", ErrNull)
		}
		return nil, ErrNull
	}
	var b []byte
	if c.kind == kindFloats {
		b = make([]byte, 0, 4*len(from.floats[k]))
		for _, v := range from.floats[k] {
			if v-v != 0 {
				return nil, fmt.Errorf("%w: a pixel is %v", ErrValue, v)
			}
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	} else {
		b = from.bytes[k]
	}
	want := d.rawBytes()
	switch {
	case len(b) == 0:
		return nil, fmt.Errorf("%w: the image has no bytes", ErrValue)
	case want > 0 && len(b) != want:
		return nil, fmt.Errorf("%w: raw image of %d bytes, want %d for %d×%d×%d", ErrValue, len(b), want, d.raw.C, d.raw.H, d.raw.W)
	}
	return b, nil
}
