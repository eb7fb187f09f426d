package storage

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/schema"
)

// A cellReader reads one column of a row group, forwards. Both functions panic
// where the decoders do.
type cellReader struct {
	skip func(rows int64) error
	read func(rows int, dst *cells) error // appends that many rows to dst
}

// A batchReader is a column chunk reader of the library, for values of type T.
type batchReader[T any] interface {
	ReadBatch(n int64, values []T, def, rep []int16) (levels int64, stored int, err error)
	HasNext() bool
	Err() error
}

// A leaf reads one leaf column of a row group, level by level.
type leaf[T any] struct {
	chunk  batchReader[T]
	pages  *pages
	col    *schema.Column
	taken  int64 // levels read or passed over
	values []T
	def    []int16
	rep    []int16

	// Lists are read ahead of their rows: what is left of the last fill.
	nextValue, nextLevel, levels int
}

// stride is how many levels of a list are read at a time.
const stride = 4096

// fill reads at most n levels, nulls included, and how many values they have.
func (l *leaf[T]) fill(n int) (levels, stored int, err error) {
	l.values = slices.Grow(l.values[:0], n)[:n]
	l.def = slices.Grow(l.def[:0], n)[:n]
	l.rep = slices.Grow(l.rep[:0], n)[:n]
	got, stored, err := l.chunk.ReadBatch(int64(n), l.values, l.def, l.rep)
	if err == nil {
		err = cmpErr(l.chunk.Err(), l.pages.err)
	}
	if err != nil {
		return 0, 0, decodeError(err)
	}
	if got == 0 {
		return 0, 0, io.EOF
	}
	levels = int(got)
	l.taken += got
	if most := l.col.MaxDefinitionLevel(); most > 0 {
		full := 0
		for _, d := range l.def[:levels] {
			if d == most {
				full++
			}
		}
		if full != stored {
			return 0, 0, fmt.Errorf("%w: %d values where %d are declared", ErrCorrupt, stored, full)
		}
	} else if stored != levels {
		return 0, 0, fmt.Errorf("%w: %d values where %d are declared", ErrCorrupt, stored, levels)
	}
	return levels, stored, nil
}

// cmpErr is the first error that is one.
func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// decodeError makes what the library says about bytes a corrupt file.
func decodeError(err error) error {
	for _, ours := range []error{ErrCorrupt, ErrUnsupported, ErrMemory} {
		if errors.Is(err, ours) {
			return err
		}
	}
	var path interface{ Timeout() bool } // errors of the operating system have it
	if errors.As(err, &path) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// errRows says that a column has too few rows.
var errRows = fmt.Errorf("%w: column has fewer rows than its row group", ErrCorrupt)

// skipFlat passes over n rows of a column without lists, whole pages unread.
func (l *leaf[T]) skipFlat(n int64) error {
	inPage := min(n, l.pages.given-l.taken)
	if err := l.drop(inPage); err != nil {
		return err
	}
	l.pages.skipping += n - inPage
	return nil
}

func (l *leaf[T]) drop(n int64) error {
	for n > 0 {
		levels, _, err := l.fill(int(min(n, 1024)))
		if err != nil {
			return endOfRows(err)
		}
		n -= int64(levels)
	}
	return nil
}

// settle moves to the first row after those passed over by whole pages.
func (l *leaf[T]) settle() error {
	if l.pages.skipping == 0 {
		return nil
	}
	l.chunk.HasNext() // fetches the page that has the row
	if err := cmpErr(l.pages.err, l.chunk.Err()); err != nil {
		return decodeError(err)
	}
	rest := l.pages.skipping
	l.pages.skipping = 0
	if l.pages.page == nil {
		return errRows
	}
	l.taken = l.pages.given - int64(l.pages.page.NumValues())
	return l.drop(rest)
}

// flat reads n rows of a column without lists and calls f with each.
func (l *leaf[T]) flat(n int, f func(v T, null bool)) error {
	if err := l.settle(); err != nil {
		return err
	}
	most := l.col.MaxDefinitionLevel()
	var zero T
	for n > 0 {
		levels, _, err := l.fill(n)
		if err != nil {
			return endOfRows(err)
		}
		at := 0
		for i := range levels {
			if most > 0 && l.def[i] != most {
				f(zero, true)
				continue
			}
			f(l.values[at], false)
			at++
		}
		n -= levels
	}
	return nil
}

func endOfRows(err error) error {
	if err == io.EOF {
		return errRows
	}
	return err
}

// lists reads n rows of a column of lists. It calls row at the beginning of
// each, and value with each element of it. exists is the definition level of a
// list that is not null.
func (l *leaf[T]) lists(n int, exists int16, row func(null bool), value func(v T, null bool)) error {
	most := l.col.MaxDefinitionLevel()
	var zero T
	begun := false
	for {
		if l.nextLevel == l.levels {
			levels, _, err := l.fill(stride)
			if err == io.EOF && n == 0 && begun {
				return nil
			}
			if err != nil {
				return endOfRows(err)
			}
			l.levels, l.nextLevel, l.nextValue = levels, 0, 0
		}
		def, rep := l.def[l.nextLevel], l.rep[l.nextLevel]
		if rep == 0 {
			if n == 0 {
				return nil
			}
			n--
			begun = true
			row(def < exists)
		} else if !begun {
			return fmt.Errorf("%w: a row group begins within a list", ErrCorrupt)
		}
		switch {
		case def == most:
			value(l.values[l.nextValue], false)
			l.nextValue++
		case def > exists: // above an empty list, below a value: a null element
			value(zero, true)
		}
		l.nextLevel++
	}
}

// newCellReader reads a column of the given kind from the leaf column col.
// What it puts into cells is paid for by out.
func newCellReader(k kind, col *schema.Column, p *pages, out *budget) (cellReader, error) {
	chunk := file.NewColumnReader(col, p, p.mem, newBufferPool(p.mem))
	if col.MaxRepetitionLevel() > 0 {
		switch chunk := chunk.(type) {
		case *file.Int32ColumnChunkReader:
			return listReader(chunk, p, col, out, func(c *cells, v int32) {
				last := len(c.bytes) - 1
				c.bytes[last] = append(c.bytes[last], byte(v))
			}), nil
		case *file.Float32ColumnChunkReader:
			return listReader(chunk, p, col, out, appendFloat[float32]), nil
		case *file.Float64ColumnChunkReader:
			return listReader(chunk, p, col, out, appendFloat[float64]), nil
		}
		return cellReader{}, fmt.Errorf("%w: lists of %s", ErrUnsupported, col.PhysicalType())
	}
	switch chunk := chunk.(type) {
	case *file.ByteArrayColumnChunkReader:
		return flatReader(chunk, p, col, bytesOrString[parquet.ByteArray](k, out)), nil
	case *file.FixedLenByteArrayColumnChunkReader:
		return flatReader(chunk, p, col, bytesOrString[parquet.FixedLenByteArray](k, out)), nil
	case *file.Int32ColumnChunkReader:
		n, _ := col.SchemaNode().(*schema.PrimitiveNode)
		l, annotated := intType(n)
		unsigned := annotated && !l.IsSigned()
		return flatReader(chunk, p, col, func(c *cells, v int32) error {
			if unsigned {
				c.ints = append(c.ints, int64(uint32(v)))
			} else {
				c.ints = append(c.ints, int64(v))
			}
			return nil
		}), nil
	case *file.Int64ColumnChunkReader:
		n, _ := col.SchemaNode().(*schema.PrimitiveNode)
		l, annotated := intType(n)
		unsigned := annotated && !l.IsSigned()
		return flatReader(chunk, p, col, func(c *cells, v int64) error {
			if unsigned && v < 0 {
				return fmt.Errorf("%w: %d, want at most %d", ErrValue, uint64(v), int64(math.MaxInt64))
			}
			c.ints = append(c.ints, v)
			return nil
		}), nil
	}
	return cellReader{}, fmt.Errorf("%w: values of type %s", ErrUnsupported, col.PhysicalType())
}

// appendFloat adds an element to the last list of c.
func appendFloat[T float32 | float64](c *cells, v T) {
	last := len(c.floats) - 1
	c.floats[last] = append(c.floats[last], float32(v))
}

// bytesOrString copies a value out of its page, into memory that out pays for.
func bytesOrString[T ~[]byte](k kind, out *budget) func(c *cells, v T) error {
	text := k == kindString || k == kindPath
	return func(c *cells, v T) error {
		out.take(int64(len(v)))
		if text {
			c.strs = append(c.strs, string(v))
		} else if v == nil {
			c.bytes = append(c.bytes, nil)
		} else {
			c.bytes = append(c.bytes, append(make([]byte, 0, len(v)), v...))
		}
		return nil
	}
}

// flatReader makes a cellReader of a column without lists. add appends a value;
// of a null it gets the zero value.
func flatReader[T any](chunk batchReader[T], p *pages, col *schema.Column, add func(c *cells, v T) error) cellReader {
	l := &leaf[T]{chunk: chunk, pages: p, col: col}
	return cellReader{
		skip: l.skipFlat,
		read: func(n int, dst *cells) error {
			var failed error
			err := l.flat(n, func(v T, null bool) {
				if failed != nil {
					return
				}
				if failed = add(dst, v); failed == nil {
					dst.null = append(dst.null, null) // as many as there are good rows
				}
			})
			return cmpErr(failed, err)
		},
	}
}

// listReader makes a cellReader of a column of lists. add appends an element to
// the last list.
func listReader[T int32 | float32 | float64](chunk batchReader[T], p *pages, col *schema.Column, out *budget, add func(c *cells, v T)) cellReader {
	l := &leaf[T]{chunk: chunk, pages: p, col: col}
	var exists int16 // the definition level of a list that is not null
	if outer := outermost(col.SchemaNode()); outer.RepetitionType() == parquet.Repetitions.Optional {
		exists = 1
	}
	_, pixels := any(chunk).(*file.Int32ColumnChunkReader)
	read := func(n int, dst *cells) error {
		var nulls bool
		err := l.lists(n, exists, func(null bool) {
			dst.null = append(dst.null, null)
			var b []byte
			var f []float32
			if !null {
				b, f = []byte{}, []float32{}
			}
			if pixels {
				dst.bytes = append(dst.bytes, b)
			} else {
				dst.floats = append(dst.floats, f)
			}
		}, func(v T, null bool) {
			out.take(8) // an element and the room to grow
			nulls = nulls || null
			if null {
				dst.floats = appendNaN(dst.floats)
				return
			}
			add(dst, v)
		})
		if err == nil && nulls && pixels {
			err = fmt.Errorf("%w: within a list of pixels", ErrNull)
		}
		return err
	}
	return cellReader{
		read: read,
		skip: func(n int64) error {
			for n > 0 {
				k := min(n, 64)
				used := out.used.Load()
				if err := read(int(k), new(cells)); err != nil {
					return err
				}
				out.used.Store(used)
				n -= k
			}
			return nil
		},
	}
}

// appendNaN adds a null element, as NaN, to the last list.
func appendNaN(lists [][]float32) [][]float32 {
	if last := len(lists) - 1; last >= 0 {
		lists[last] = append(lists[last], float32(math.NaN()))
	}
	return lists
}

// outermost is the top-level node above n.
func outermost(n schema.Node) schema.Node {
	for n.Parent() != nil && n.Parent().Parent() != nil {
		n = n.Parent()
	}
	return n
}
