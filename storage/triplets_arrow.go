package storage

import (
	"encoding/binary"
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

// openArrowFile opens an IPC file of ours. The library panics at bytes that make
// no sense: whoever calls it, or what it returns, recovers. It takes lengths at
// their word: mem refuses those that it allocates with mem, and the vectors of
// the schema, which it makes itself, are checked here before it sees them.
func openArrowFile(r *io.SectionReader, mem *budget) (*ipc.FileReader, error) {
	var tail [10]byte // length of the footer, magic
	if r.Size() < int64(len(tail)) {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, r.Size())
	}
	if _, err := r.ReadAt(tail[:], r.Size()-int64(len(tail))); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	if n > r.Size()-int64(len(tail)) || string(tail[4:]) != "ARROW1" {
		return nil, fmt.Errorf("%w: no footer: not an Arrow file, or cut short", ErrCorrupt)
	}
	footer := make([]byte, n)
	if _, err := r.ReadAt(footer, r.Size()-int64(len(tail))-n); err != nil {
		return nil, err
	}
	schema, ok := flatRoot(footer).table(1)
	if !ok {
		return nil, fmt.Errorf("%w: footer without a schema", ErrCorrupt)
	}
	for range schema.tables(2) { // key-value metadata
	}
	for f := range schema.tables(1) {
		if err := checkArrowField(f); err != nil {
			return nil, err
		}
	}
	return ipc.NewFileReader(r, ipc.WithAllocator(mem))
}

// checkArrowField walks a Field table of Arrow's Schema.fbs, whose types are
// those of our files: integers, floats, text and lists of fixed size.
func checkArrowField(f flat) error {
	if t := f.byte(2); t != 2 && t != 3 && t != 5 && t != 16 {
		return fmt.Errorf("%w: column %q is of Arrow type %d", ErrSchema, f.str(0), t)
	}
	for range f.tables(6) { // key-value metadata
	}
	for child := range f.tables(5) {
		if err := checkArrowField(child); err != nil {
			return err
		}
	}
	return nil
}

// An arrowDecoder reads what an [arrowEncoder] wrote.
type arrowDecoder struct {
	r   *ipc.FileReader
	mem *budget
}

func newArrowDecoder(r *io.SectionReader) (*arrowDecoder, error) {
	d := &arrowDecoder{mem: &budget{limit: frameMemory}}
	var err error
	d.r, err = openArrowFile(r, d.mem)
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
