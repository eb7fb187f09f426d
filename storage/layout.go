package storage

import (
	"context"

	"github.com/tercet-ml/tercet/pipeline"
)

// Layout says where the rows of the data set lie, and what each row group takes
// in memory when it is held as a whole ([Dataset.Hold]). It reads metadata, and
// of columns in the encoding DELTA_BYTE_ARRAY, whose metadata does not say how
// long their values are, the values.
func (d *Dataset) Layout(ctx context.Context) (pipeline.Layout, error) {
	if err := d.usable(); err != nil {
		return nil, err
	}
	l := make(pipeline.Layout, len(d.parts))
	err := pipeline.ForEach(ctx, d.cfg.Workers, len(d.parts), func(ctx context.Context, i int) (err error) {
		l[i], err = d.rowGroup(ctx, i)
		return err
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// rowGroup is part i, as a Layout has it.
func (d *Dataset) rowGroup(ctx context.Context, i int) (g pipeline.RowGroup, err error) {
	p := d.parts[i]
	want := d.recordColumns(p.shard)
	size := int64(d.rawBytes()) * p.rows // lists of pixels are often stored in less
	if size > 0 {
		want = want[1:]
	}
	for _, c := range want {
		if c.kind == kindInt {
			size += maxDecimal * p.rows
			continue
		}
		n, err := d.shards[p.shard].weight(ctx, p.group, c)
		if err != nil {
			return g, err
		}
		size += n
	}
	return pipeline.RowGroup{First: p.first, Rows: p.rows, Bytes: heldBytes(p.rows, size), File: p.shard}, nil
}

// maxDecimal is how long an integer id is as text, at most.
const maxDecimal = 20

// recordColumns are the columns a record is made of: the image, and the id
// where there is one.
func (d *Dataset) recordColumns(shard int) []column {
	want := []column{*d.roles[shard].image}
	if id := d.roles[shard].id; id != nil {
		want = append(want, *id)
	}
	return want
}

// rawBytes is the length of a raw image; 0 for encoded ones.
func (d *Dataset) rawBytes() int {
	if d.raw.Float {
		return 4 * d.raw.Len()
	}
	return d.raw.Len()
}
