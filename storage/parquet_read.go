package storage

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/tercet-ml/tercet/pipeline"
)

// newBufferPool is scratch memory for the library's readers.
func newBufferPool(mem memory.Allocator) *sync.Pool {
	return &sync.Pool{New: func() any { return memory.NewResizableBuffer(mem) }}
}

// read implements [shard].
func (p *parquetFile) read(ctx context.Context, group int, want []column, rows []int64) iter.Seq2[*table, error] {
	return func(yield func(*table, error) bool) {
		f, err := p.reopen(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.Close()
		r := &groupReader{
			file: p, src: f, ahead: rows == nil || int64(len(rows)) == p.rows[group], group: group, want: want,
			mem: &budget{limit: p.limit, ctx: ctx}, out: &budget{limit: p.tableLimit(group, want), ctx: ctx, fixed: p.tableLimit(group, want) < p.limit},
		}
		size := r.tableSize()
		total := p.rows[group]
		if rows != nil {
			total = int64(len(rows))
		}
		for done := int64(0); done < total; {
			n := min(size, total-done)
			t := &table{rows: make([]int64, n), cells: make([]cells, len(want))}
			for i := range t.rows {
				if rows != nil {
					t.rows[i] = rows[done+int64(i)]
				} else {
					t.rows[i] = done + int64(i)
				}
			}
			err := context.Cause(ctx)
			if err == nil {
				err = r.fill(t)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(t, nil) {
				return
			}
			done += n
		}
	}
}

// A groupReader reads some columns of one row group, forwards.
type groupReader struct {
	file    *parquetFile
	src     io.ReaderAt
	ahead   bool // all rows are read, one after the other
	group   int
	want    []column
	mem     *budget // of the pages at hand
	out     *budget // of the table that is being filled
	readers []cellReader
	at      []int64 // the next row of each reader
}

// tableLimit is how many bytes the cells of a table may take: what the columns'
// chunks can hold, as [plausible] has it.
func (p *parquetFile) tableLimit(group int, want []column) int64 {
	var stored int64
	for _, c := range want {
		if leaf := p.leafOf(c); leaf >= 0 {
			stored += p.chunks[group][leaf].to - p.chunks[group][leaf].from
		}
	}
	if stored > p.limit/maxRatio {
		return p.limit
	}
	return min(p.limit, maxRatio*stored+freeSize)
}

// tableSize is how many rows to read at a time, by what a row takes on average.
func (r *groupReader) tableSize() int64 {
	rows := r.file.rows[r.group]
	var size int64
	for _, c := range r.want {
		if leaf := r.file.leafOf(c); leaf >= 0 {
			ch := r.file.chunks[r.group][leaf]
			size += max(ch.to-ch.from, ch.values, ch.size)
		}
	}
	if rows == 0 || size <= 0 {
		return tableRows
	}
	return max(1, min(tableRows, tableBytes*rows/size))
}

// leafOf is the leaf column that c is read from.
func (p *parquetFile) leafOf(c column) int {
	if c.kind == kindPath {
		return p.leaves[c.index].path
	}
	return p.leaves[c.index].value
}

// fill reads the rows of t. It is the boundary that no panic of a decoder
// passes.
func (r *groupReader) fill(t *table) (err error) {
	where := pipeline.Location{File: r.file.name, RowGroup: r.group, Row: -1}
	defer func() {
		if v := recover(); v != nil {
			err = caught(v)
		}
		if err != nil {
			err = &RowError{Location: where, Err: err}
		}
	}()
	r.out.used.Store(0) // the table before this one is the receiver's
	for i, c := range r.want {
		where.Column, where.Row = c.name, -1
		if len(r.readers) == i {
			if err := r.open(c); err != nil {
				return err
			}
		}
		for k := 0; k < len(t.rows); {
			n := 1 // rows that follow each other are read together
			for k+n < len(t.rows) && t.rows[k+n] == t.rows[k]+int64(n) {
				n++
			}
			where.Row = t.rows[k]
			if skip := t.rows[k] - r.at[i]; skip > 0 {
				if err := r.readers[i].skip(skip); err != nil {
					return err
				}
			}
			if err := r.readers[i].read(n, &t.cells[i]); err != nil {
				where.Row = t.rows[k] + int64(max(0, len(t.cells[i].null)-k)) // the first row that did not come
				return err
			}
			r.at[i] = t.rows[k] + int64(n)
			k += n
		}
		if !slices.Contains(t.cells[i].null, true) {
			t.cells[i].null = nil
		}
	}
	return nil
}

func (r *groupReader) open(c column) error {
	leaf := r.file.leafOf(c)
	if leaf < 0 {
		return fmt.Errorf("%w: column of type %s", ErrUnsupported, c.typ)
	}
	ch := r.file.chunks[r.group][leaf]
	if ch.broken != nil {
		return ch.broken
	}
	col := r.file.schema.Column(leaf)
	src := r.src
	if r.ahead {
		src = &ahead{src: r.src, end: ch.to}
	}
	p := &pages{src: src, off: ch.from, end: ch.to, col: col, codec: ch.codec, mem: r.mem, dictSize: -1}
	reader, err := newCellReader(c.kind, col, p, r.out)
	if err != nil {
		return err
	}
	r.readers = append(r.readers, reader)
	r.at = append(r.at, 0)
	return nil
}
