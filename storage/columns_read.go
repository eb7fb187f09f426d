package storage

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/tercet-ml/tercet/pipeline"
)

// ReadEmbeddings fills dst, of Len() rows of EmbeddingDim() values, from the
// embedding column. A null, a vector of another length and a value that is not
// finite are [*RowError]s, by [ErrNull] and [ErrValue]; dst is then unspecified.
func (d *Dataset) ReadEmbeddings(ctx context.Context, dst pipeline.Embeddings) error {
	bad, err := d.ReadEmbeddingsKeeping(ctx, dst)
	if err == nil && len(bad) > 0 {
		err = bad[0].Err
	}
	return err
}

// ReadEmbeddingsKeeping is like [Dataset.ReadEmbeddings], and with
// Config.KeepBad goes on past rows that have no vector to use: they are left
// zero and come back as records with Err set, in id order.
func (d *Dataset) ReadEmbeddingsKeeping(ctx context.Context, dst pipeline.Embeddings) ([]pipeline.Record, error) {
	switch {
	case d.closed.Load():
		return nil, ErrClosed
	case d.dim == 0:
		return nil, fmt.Errorf("%s: %w: no embedding column", d.shards[0].path(), ErrSchema)
	case dst.Dim != d.dim || dst.Len() != d.Len():
		return nil, fmt.Errorf("storage: embeddings of %d×%d values for a data set of %d×%d", dst.Len(), dst.Dim, d.Len(), d.dim)
	}
	bad := make([][]pipeline.Record, len(d.parts))
	err := pipeline.ForEach(ctx, d.cfg.Workers, len(d.parts), func(ctx context.Context, i int) error {
		p := d.parts[i]
		want := *d.roles[p.shard].embedding
		for t, err := range d.tables(ctx, p, []column{want}, nil) {
			if t == nil {
				return err
			}
			for k, row := range t.rows {
				id := p.first + row
				fault := err
				if fault == nil {
					if fault = checkVector(t.cells[0], k, d.dim); fault != nil {
						fault = d.rowError(p, row, want.name, fault)
					} else if fault = d.bad[id]; fault == nil {
						copy(dst.Row(int(id)), t.cells[0].floats[k])
						continue
					}
				}
				if !d.cfg.KeepBad {
					return fault
				}
				clear(dst.Row(int(id)))
				bad[i] = append(bad[i], pipeline.Record{ID: id, Label: d.labels[id], Err: fault, Where: pipeline.Location{
					File: d.shards[p.shard].path(), RowGroup: p.group, Row: row, Column: want.name}})
			}
		}
		return nil
	})
	return slices.Concat(bad...), err
}

// checkVector says what is wrong with row k of an embedding column.
func checkVector(c cells, k, dim int) error {
	if c.isNull(k) {
		return ErrNull
	}
	v := c.floats[k]
	if len(v) != dim {
		return fmt.Errorf("%w: vector of %d values, want %d", ErrValue, len(v), dim)
	}
	for i, x := range v {
		if x-x != 0 { // NaN and the infinities
			return fmt.Errorf("%w: value %d of the vector is %v", ErrValue, i, x)
		}
	}
	return nil
}

// Paths are the values of the id or path column by sample id, integers as
// decimals, "" for null; nil when there is no such column. Each call reads the
// column.
func (d *Dataset) Paths(ctx context.Context) ([]string, error) {
	if d.closed.Load() {
		return nil, ErrClosed
	}
	if d.roles[0].id == nil {
		return nil, nil
	}
	paths := make([]string, d.rows)
	err := pipeline.ForEach(ctx, d.cfg.Workers, len(d.parts), func(ctx context.Context, i int) error {
		p := d.parts[i]
		for t, err := range d.tables(ctx, p, []column{*d.roles[p.shard].id}, nil) {
			if t == nil {
				return err
			}
			if err != nil {
				continue // its path is "", as that of a null
			}
			for k, row := range t.rows {
				paths[p.first+row] = t.cells[0].text(k)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return paths, nil
}

// text is row k of an id column; "" for null.
func (c cells) text(k int) string {
	switch {
	case c.isNull(k):
		return ""
	case c.ints != nil:
		return strconv.FormatInt(c.ints[k], 10)
	}
	return c.strs[k]
}
