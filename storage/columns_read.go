package storage

import (
	"context"
	"fmt"
	"strconv"

	"github.com/tercet-ml/tercet/pipeline"
)

// ReadEmbeddings fills dst, of Len() rows of EmbeddingDim() values, from the
// embedding column. A null, a vector of another length and a value that is not
// finite are [*RowError]s, by [ErrNull] and [ErrValue]; dst is then unspecified.
func (d *Dataset) ReadEmbeddings(ctx context.Context, dst pipeline.Embeddings) error {
	switch {
	case d.closed.Load():
		return ErrClosed
	case d.dim == 0:
		return fmt.Errorf("%s: %w: no embedding column", d.shards[0].path(), ErrSchema)
	case dst.Dim != d.dim || dst.Len() != d.Len():
		return fmt.Errorf("storage: embeddings of %d×%d values for a data set of %d×%d", dst.Len(), dst.Dim, d.Len(), d.dim)
	}
	return pipeline.ForEach(ctx, d.cfg.Workers, len(d.parts), func(ctx context.Context, i int) error {
		p := d.parts[i]
		want := *d.roles[p.shard].embedding
		for t, err := range d.shards[p.shard].read(ctx, p.group, []column{want}, nil) {
			if err != nil {
				return err
			}
			for k, row := range t.rows {
				if err := checkVector(t.cells[0], k, d.dim); err != nil {
					return d.rowError(p, row, want.name, err)
				}
				copy(dst.Row(int(p.first+row)), t.cells[0].floats[k])
			}
		}
		return nil
	})
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
		for t, err := range d.shards[p.shard].read(ctx, p.group, []column{*d.roles[p.shard].id}, nil) {
			if err != nil {
				return err
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
