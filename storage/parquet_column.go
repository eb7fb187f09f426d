package storage

import (
	"fmt"
	"math"

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
			return firstError(failed, err)
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
