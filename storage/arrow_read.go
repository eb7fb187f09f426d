package storage

import "fmt"

// An arrowReader reads rows of one record batch, table by table.
type arrowReader struct {
	shard   *arrowShard
	group   int
	rows    []int64 // wanted; nil for all
	n, at   int64   // how many rows, and how many have been read
	columns []arrowColumn
	bytes   int64 // of values in the table under way
}

// An arrowColumn is a wanted column of the batch.
type arrowColumn struct {
	column
	*vector            // of a struct: its bytes or its path, whichever is wanted
	around  *vector    // the struct; nil for other types
	dict    *arrowDict // nil when values are stored as they are
}

// open finds the buffers of the wanted columns, and decompresses them where
// they are compressed.
func (r *arrowReader) open(want []column) error {
	b := &r.shard.index.batches[r.group]
	fields := r.shard.index.schema.fields
	for _, c := range want {
		err := guarded(func() error {
			var cur arrowCursor
			for _, f := range fields[:c.index] {
				b.skip(&cur, f)
			}
			f := fields[c.index]
			part := f.bytes()
			if c.kind == kindPath {
				part = f.path()
			}
			v, err := b.vector(&cur, f, part, b.rows, &budget{limit: r.shard.limit})
			if err != nil {
				return err
			}
			col := arrowColumn{column: c, vector: v}
			if f.typ == arrowStruct {
				col.around, col.vector = v, v.children[0]
			}
			if f.dict != nil {
				if col.dict = b.dicts[f.dict.id]; col.dict == nil {
					return fmt.Errorf("%w: dictionary %d is missing", ErrCorrupt, f.dict.id)
				}
				if err := col.dict.load(r.shard.limit); err != nil {
					return fmt.Errorf("read dictionary %d: %w", f.dict.id, err)
				}
			}
			r.columns = append(r.columns, col)
			return nil
		})
		if err != nil {
			return r.shard.errorAt(r.group, -1, c.name, err)
		}
	}
	return nil
}

// next reads the next table.
func (r *arrowReader) next() (*table, error) {
	t := &table{cells: make([]cells, len(r.columns))}
	row, name := int64(-1), ""
	err := guarded(func() error {
		for r.bytes = 0; r.at < r.n && len(t.rows) < tableRows && r.bytes < tableBytes; r.at++ {
			row, name = r.at, ""
			if r.rows != nil {
				row = r.rows[r.at]
			}
			if row < 0 || row >= r.shard.rows[r.group] {
				return fmt.Errorf("row %d of %d", row, r.shard.rows[r.group])
			}
			for i := range r.columns {
				c := &r.columns[i]
				name = c.name
				if err := r.cell(c, &t.cells[i], len(t.rows), row); err != nil {
					return err
				}
			}
			t.rows = append(t.rows, row)
		}
		return nil
	})
	if err != nil {
		return nil, r.shard.errorAt(r.group, row, name, err)
	}
	return t, nil
}

// cell appends a column's value in a row of the batch to dst, as value n.
func (r *arrowReader) cell(c *arrowColumn, dst *cells, n int, row int64) (err error) {
	null := c.null(row) || c.around != nil && c.around.null(row)
	switch c.kind {
	case kindImage, kindBinary:
		var b []byte
		if !null {
			if b, err = c.bytes(row); err != nil {
				return err
			}
		}
		dst.bytes = append(dst.bytes, r.copied(b, null))
	case kindPixels:
		var b []byte
		if !null {
			from, to, err := c.bounds(row)
			if err != nil {
				return err
			}
			for i := from; i < to && c.children[0].valid != nil; i++ {
				if c.children[0].null(i) {
					return fmt.Errorf("%w: pixel %d", ErrNull, i-from)
				}
			}
			b = c.children[0].values[from:to]
		}
		dst.bytes = append(dst.bytes, r.copied(b, null))
	case kindFloats:
		var f []float32
		if !null {
			from, to, err := c.bounds(row)
			if err != nil {
				return err
			}
			f = c.children[0].floats(make([]float32, 0, to-from), from, to)
			r.bytes += 4 * (to - from)
		}
		dst.floats = append(dst.floats, f)
	case kindInt:
		var x int64
		if !null {
			if x, null, err = c.integer(row); err != nil {
				return err
			}
		}
		dst.ints = append(dst.ints, x)
	case kindString, kindPath:
		var s string
		if !null {
			if s, null, err = c.str(row); err != nil {
				return err
			}
		}
		r.bytes += int64(len(s))
		dst.strs = append(dst.strs, s)
	default:
		return fmt.Errorf("%w: type %s", ErrUnsupported, c.typ)
	}
	if null && dst.null == nil {
		dst.null = make([]bool, n, tableRows)
	}
	if dst.null != nil {
		dst.null = append(dst.null, null)
	}
	return nil
}

// copied is a copy of b that is not nil, or nil for a null.
func (r *arrowReader) copied(b []byte, null bool) []byte {
	if null {
		return nil
	}
	r.bytes += int64(len(b))
	return append(make([]byte, 0, len(b)), b...)
}

// integer is the value in a row that is not null, but may stand for a null of
// its dictionary.
func (c *arrowColumn) integer(row int64) (x int64, null bool, err error) {
	x, err = c.int(row)
	if err != nil || c.dict == nil {
		return x, false, err
	}
	if x < 0 || x >= int64(len(c.dict.ints)) {
		return 0, false, outside(x, len(c.dict.ints))
	}
	return c.dict.ints[x], c.dict.null[x], nil
}

// str is like integer.
func (c *arrowColumn) str(row int64) (s string, null bool, err error) {
	if c.dict == nil {
		b, err := c.bytes(row)
		return string(b), false, err
	}
	x, err := c.int(row)
	if err != nil {
		return "", false, err
	}
	if x < 0 || x >= int64(len(c.dict.strs)) {
		return "", false, outside(x, len(c.dict.strs))
	}
	return c.dict.strs[x], c.dict.null[x], nil
}

func outside(index int64, n int) error {
	return fmt.Errorf("%w: index %d into a dictionary of %d values", ErrCorrupt, index, n)
}
