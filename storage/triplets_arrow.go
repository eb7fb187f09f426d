package storage

import (
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

var arrowTypes = [...]arrow.DataType{
	frameInt64:   arrow.PrimitiveTypes.Int64,
	frameInt32:   arrow.PrimitiveTypes.Int32,
	frameFloat32: arrow.PrimitiveTypes.Float32,
	frameString:  arrow.BinaryTypes.String,
	frameKind:    &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String},
}

// An arrowEncoder writes each frame as a record batch of an Arrow IPC file,
// without compression: such a file can be mapped into memory. The dictionary of
// kinds is the same for all batches, as IPC files require.
type arrowEncoder struct {
	w      *ipc.FileWriter
	schema *arrow.Schema
	kinds  arrow.Array
}

func newArrowEncoder(w io.Writer, layout frame, meta string) (*arrowEncoder, error) {
	var fields []arrow.Field
	for _, c := range layout {
		fields = append(fields, arrow.Field{Name: c.name, Type: arrowTypes[c.typ]})
	}
	metadata := arrow.NewMetadata([]string{metaKey}, []string{meta})
	e := &arrowEncoder{schema: arrow.NewSchema(fields, &metadata)}
	names := array.NewStringBuilder(memory.DefaultAllocator)
	names.AppendValues(kindNames[:], nil)
	e.kinds = names.NewArray()
	var err error
	e.w, err = ipc.NewFileWriter(&arrowSink{w: w}, ipc.WithSchema(e.schema))
	return e, err
}

func (e *arrowEncoder) write(f frame) error {
	cols := make([]arrow.Array, len(f))
	for i := range f {
		cols[i] = e.array(&f[i])
	}
	return e.w.Write(array.NewRecord(e.schema, cols, int64(f.rows())))
}

func (e *arrowEncoder) array(c *frameColumn) arrow.Array {
	mem := memory.DefaultAllocator
	switch c.typ {
	case frameInt64:
		b := array.NewInt64Builder(mem)
		b.AppendValues(c.i64, nil)
		return b.NewArray()
	case frameInt32:
		b := array.NewInt32Builder(mem)
		b.AppendValues(c.i32, nil)
		return b.NewArray()
	case frameFloat32:
		b := array.NewFloat32Builder(mem)
		b.AppendValues(c.f32, nil)
		return b.NewArray()
	case frameString:
		b := array.NewStringBuilder(mem)
		b.AppendValues(c.str, nil)
		return b.NewArray()
	default:
		b := array.NewInt8Builder(mem)
		for _, k := range c.kind {
			b.Append(int8(k))
		}
		return array.NewDictionaryArray(arrowTypes[frameKind], b.NewArray(), e.kinds)
	}
}

func (e *arrowEncoder) close(string) error { return e.w.Close() }

// An arrowSink is the beginning of a file, as much of an [io.Seeker] as the
// library needs: it asks where it is.
type arrowSink struct {
	w io.Writer
	n int64
}

func (s *arrowSink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n += int64(n)
	return n, err
}

func (s *arrowSink) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekCurrent {
		return s.n, errors.New("seek while writing")
	}
	return s.n, nil
}

// An arrowDecoder reads what an [arrowEncoder] wrote. The library panics at
// bytes that make no sense and takes lengths at their word: whoever calls it
// recovers, and the budget refuses.
type arrowDecoder struct {
	r   *ipc.FileReader
	mem *budget
}

func newArrowDecoder(r ipc.ReadAtSeeker) (*arrowDecoder, error) {
	d := &arrowDecoder{mem: &budget{limit: frameMemory}}
	var err error
	d.r, err = ipc.NewFileReader(r, ipc.WithAllocator(d.mem))
	return d, err
}

func (d *arrowDecoder) meta() (string, bool) { return d.r.Schema().Metadata().GetValue(metaKey) }

func (d *arrowDecoder) check(layout frame) error {
	fields := d.r.Schema().Fields()
	return checkNames(d.names(), layout, func(i int) string {
		if arrow.TypeEqual(fields[i].Type, arrowTypes[layout[i].typ]) {
			return layout[i].typ.String()
		}
		return fields[i].Type.String()
	})
}

func (d *arrowDecoder) names() []string {
	var names []string
	for _, f := range d.r.Schema().Fields() {
		names = append(names, f.Name)
	}
	return names
}

func (d *arrowDecoder) blocks() int { return d.r.NumRecords() }

func (d *arrowDecoder) read(i int, f frame) error {
	f.reset()
	d.mem.used.Store(0) // nothing of the last batch is used any more
	rec, err := d.r.RecordAt(i)
	if err != nil {
		return err
	}
	defer rec.Release()
	if n := rec.NumRows(); n < 1 || n > frameRows {
		return fmt.Errorf("%w: record batch of %d rows, want 1 to %d", ErrCorrupt, n, frameRows)
	}
	for k := range f {
		if err := f[k].appendArrow(rec.Column(k), int(rec.NumRows())); err != nil {
			return fmt.Errorf("column %q: %w", f[k].name, err)
		}
	}
	return nil
}

// appendArrow copies n values, none of them null, out of a's memory.
func (c *frameColumn) appendArrow(a arrow.Array, n int) error {
	if a.Len() != n || a.NullN() != 0 {
		return fmt.Errorf("%w: %d values with %d nulls, want %d without", ErrCorrupt, a.Len(), a.NullN(), n)
	}
	switch a := a.(type) {
	case *array.Int64:
		c.i64 = append(c.i64, a.Int64Values()...)
	case *array.Int32:
		c.i32 = append(c.i32, a.Int32Values()...)
	case *array.Float32:
		c.f32 = append(c.f32, a.Float32Values()...)
	case *array.String:
		for i := range n {
			c.appendString([]byte(a.Value(i)))
		}
	case *array.Dictionary:
		names := a.Dictionary().(*array.String)
		for i := range n {
			if err := c.appendString([]byte(names.Value(a.GetValueIndex(i)))); err != nil {
				return err
			}
		}
	}
	return nil
}
