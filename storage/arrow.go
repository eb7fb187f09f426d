package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"

	"github.com/tercet-ml/tercet/pipeline"
)

// An arrowShard is an Arrow IPC file or stream: its bytes, mapped into memory,
// and where in them the record batches are. Values are copied out of the
// mapping one by one, so reading a row of a file that is not compressed costs
// that row, and no more than the wanted columns are touched.
//
// The metadata and the layout of record batches are read here and not by Arrow
// Go's package ipc: that of v17 copies every column of a batch, believes the
// lengths a file gives, and kills the process over some of them.
type arrowShard struct {
	src   *source
	index *arrowIndex
	cols  []column
	rows  []int64
	limit int64 // bytes that one column of a batch may have decompressed
}

// openArrow opens an Arrow IPC file or stream, whichever the first bytes say it
// is. The standard input and whatever else has no random access is read to its
// end first: into memory up to cfg.Memory, or else into a temporary file.
func openArrow(ctx context.Context, path string, cfg Config) (shard, error) {
	src, err := openSource(ctx, path, cmp.Or(cfg.Memory, DefaultMemory))
	if err != nil {
		return nil, err
	}
	s := &arrowShard{src: src, limit: cfg.decoding()}
	if err := guarded(s.open); err != nil {
		if _, named := errors.AsType[*RowError](err); !named {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return nil, errors.Join(err, src.close())
	}
	return s, nil
}

// guarded is the boundary where a panic over bytes that make no sense becomes
// an error. So does the fault of a mapped file that somebody cuts short while
// it is read.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = caught(r)
		}
	}()
	return f()
}

// open reads the metadata.
func (s *arrowShard) open() error {
	x, err := indexArrow(s.src.data)
	if err != nil {
		return err
	}
	s.index = x
	for i, f := range x.schema.fields {
		s.cols = append(s.cols, f.column(i))
	}
	nodes := countNodes(x.schema.fields)
	for g := range x.batches {
		b := &x.batches[g]
		if err := b.check(nodes, s.limit); err != nil {
			return s.errorAt(g, -1, "", err)
		}
		s.rows = append(s.rows, b.rows)
	}
	if len(x.batches) > 0 {
		for i := range s.cols {
			s.cols[i].codec = [...]string{"none", "lz4", "zstd"}[x.batches[0].codec+1]
		}
	}
	return nil
}

// countNodes is how many nodes a record batch has for the fields.
func countNodes(fields []*arrowField) int {
	n := len(fields)
	for _, f := range fields {
		if f.dict == nil {
			n += countNodes(f.children)
		}
	}
	return n
}

func (s *arrowShard) errorAt(group int, row int64, column string, err error) error {
	return &RowError{Location: pipeline.Location{File: s.path(), RowGroup: group, Row: row, Column: column}, Err: err}
}

// path implements [shard].
func (s *arrowShard) path() string { return s.src.path }

// format implements [shard].
func (s *arrowShard) format() string {
	if s.index.stream {
		return "arrow stream"
	}
	return "arrow"
}

// size implements [shard].
func (s *arrowShard) size() int64 { return int64(len(s.src.data)) }

// identity implements [shard]: the footer of a file, the schema of a stream.
func (s *arrowShard) identity() []byte {
	var id []byte
	// A copy, and under the guard, for the same reasons as any value.
	if guarded(func() error { id = append(id, s.index.identity...); return nil }) != nil {
		return nil
	}
	return id
}

// metadata implements [shard].
func (s *arrowShard) metadata(key string) string { return s.index.schema.meta[key] }

// columns implements [shard].
func (s *arrowShard) columns() []column { return s.cols }

// groups implements [shard].
func (s *arrowShard) groups() []int64 { return s.rows }

// weight implements [shard]: what the buffers of the column, and of its
// dictionary, say they hold.
func (s *arrowShard) weight(_ context.Context, group int, c column) (size int64, err error) {
	b := &s.index.batches[group]
	err = guarded(func() error {
		var at arrowCursor
		for _, f := range s.index.schema.fields[:c.index] {
			b.skip(&at, f)
		}
		f, first := s.index.schema.fields[c.index], at.buffer
		b.skip(&at, f)
		size = b.declares(first, at.buffer)
		if f.dict != nil {
			for d := b.dicts[f.dict.id]; d != nil; d = d.before {
				size += d.batch.declares(0, len(d.batch.buffers)/16)
			}
		}
		return nil
	})
	if err != nil {
		return 0, s.errorAt(group, -1, c.name, err)
	}
	return size, nil
}

// read implements [shard].
func (s *arrowShard) read(ctx context.Context, group int, want []column, rows []int64) iter.Seq2[*table, error] {
	return func(yield func(*table, error) bool) {
		r := &arrowReader{shard: s, group: group, rows: rows, n: s.rows[group]}
		if rows != nil {
			r.n = int64(len(rows))
		}
		if err := r.open(want); err != nil {
			yield(nil, err)
			return
		}
		for r.at < r.n {
			if ctx.Err() != nil {
				yield(nil, context.Cause(ctx))
				return
			}
			t, err := r.next()
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

// close implements [shard].
func (s *arrowShard) close() error { return s.src.close() }
