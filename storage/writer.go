package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/tercet-ml/tercet/pipeline"
)

// A Row is what a [RecordWriter] writes: a record, and what a data set may say
// of it besides. Its sample id is not stored: it is the row's place.
type Row struct {
	pipeline.Record
	Group     string    // with GroupColumn; empty is null
	Embedding []float32 // of length Dim; with EmbeddingList of any length
}

// A RecordWriter writes rows to one Parquet or Arrow file. Equal rows and an
// equal configuration give equal bytes. It is used by one goroutine at a time.
// After an error what has been written is no file: throw it away.
type RecordWriter struct {
	cfg   RecordWriterConfig
	out   *counter
	file  recordSink
	rows  *array.RecordBuilder
	dict  arrow.Array // class names, with LabelDictionary
	n     int         // rows in the builder
	bytes int64       // of their images
	total int64       // rows written
	err   error       // of an earlier call
}

// A recordSink writes row groups in one format.
type recordSink interface {
	Write(arrow.Record) error
	Close() error
}

// NewRecordWriter returns a writer to w, which it does not close.
func NewRecordWriter(w io.Writer, cfg RecordWriterConfig) (*RecordWriter, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	schema, err := cfg.schema()
	if err != nil {
		return nil, err
	}
	out := &counter{w: w}
	file, err := cfg.open(out, schema)
	if err := errors.Join(err, out.err); err != nil {
		return nil, fmt.Errorf("write %s header: %w", cfg.Format, err)
	}
	rw := &RecordWriter{cfg: cfg, out: out, file: file}
	if cfg.Label == LabelDictionary {
		// The builder would give each record batch a dictionary of its own, and
		// an Arrow file may have only one: index by class number, attach at flush.
		fields := schema.Fields()
		i := schema.FieldIndices(cfg.LabelColumn)[0]
		fields[i].Type = arrow.PrimitiveTypes.Int32
		meta := schema.Metadata()
		rw.rows = array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, &meta))
		names := array.NewStringBuilder(memory.DefaultAllocator)
		names.AppendValues(cfg.Classes, nil)
		rw.dict = names.NewArray()
		return rw, nil
	}
	rw.rows = array.NewRecordBuilder(memory.DefaultAllocator, schema)
	return rw, nil
}

// Write adds a row. It keeps none of row's memory. A nil Image is written as a
// null; so is, among class names, an unknown label.
func (w *RecordWriter) Write(row Row) error {
	if w.err != nil {
		return w.err
	}
	if err := w.append(row); err != nil {
		w.err = fmt.Errorf("write row %d: %w", w.total, err)
		return w.err
	}
	w.n++
	w.total++
	w.bytes += int64(len(row.Image))
	if w.n >= w.cfg.GroupRows || w.bytes >= w.cfg.GroupBytes {
		w.err = w.flush()
	}
	return w.err
}

// Close writes what is left and the file's trailer.
func (w *RecordWriter) Close() error {
	if w.err != nil {
		return w.err
	}
	if w.n > 0 {
		w.err = w.flush()
	}
	if w.err == nil {
		w.err = errors.Join(w.file.Close(), w.out.err)
	}
	if w.err != nil {
		return w.err
	}
	w.err = errors.New("record writer is closed")
	return nil
}

// append checks row as a whole before it touches a column.
func (w *RecordWriter) append(row Row) error {
	if row.Label != pipeline.Unknown && row.Label < 0 ||
		len(w.cfg.Classes) > 0 && int(row.Label) >= len(w.cfg.Classes) {
		return fmt.Errorf("label is %d, want a number of the %d classes, or -1", row.Label, len(w.cfg.Classes))
	}
	if w.cfg.Image == ImageRaw || w.cfg.Image == ImageTensor || w.cfg.Image == ImageFixed {
		if want := w.cfg.rawBytes(); len(row.Image) != want {
			return fmt.Errorf("raw image has %d bytes, want %d", len(row.Image), want)
		}
	}
	if room := math.MaxInt32 - w.bytes; int64(len(row.Image)) > room {
		return fmt.Errorf("image has %d bytes, want at most %d in this row group", len(row.Image), room)
	}
	if w.cfg.Dim > 0 && w.cfg.Embedding == EmbeddingFixed && len(row.Embedding) != w.cfg.Dim {
		return fmt.Errorf("embedding has %d values, want %d", len(row.Embedding), w.cfg.Dim)
	}
	columns := w.rows.Fields()
	next := func() array.Builder {
		b := columns[0]
		columns = columns[1:]
		return b
	}
	if w.cfg.Image != ImageNone {
		w.appendImage(next(), row)
	}
	w.appendLabel(next(), row.Label)
	if w.cfg.PathColumn != "" {
		appendString(next(), row.Path)
	}
	if w.cfg.GroupColumn != "" {
		appendString(next(), row.Group)
	}
	if w.cfg.Dim > 0 {
		appendVector(next().(array.ListLikeBuilder), row.Embedding)
	}
	return nil
}

func (w *RecordWriter) appendImage(b array.Builder, row Row) {
	switch b := b.(type) {
	case *array.StructBuilder:
		b.Append(true)
		appendBytes(b.FieldBuilder(0).(*array.BinaryBuilder), row.Image)
		appendString(b.FieldBuilder(1), row.Path)
	case *array.BinaryBuilder:
		appendBytes(b, row.Image)
	case *array.FixedSizeBinaryBuilder:
		b.Append(row.Image)
	case *array.FixedSizeListBuilder:
		b.Append(true)
		switch values := b.ValueBuilder().(type) {
		case *array.Uint8Builder:
			values.AppendValues(row.Image, nil)
		case *array.Float32Builder:
			for i := 0; i < len(row.Image); i += 4 {
				values.Append(math.Float32frombits(binary.LittleEndian.Uint32(row.Image[i:])))
			}
		}
	}
}

func (w *RecordWriter) appendLabel(b array.Builder, label int32) {
	switch b := b.(type) {
	case *array.Int64Builder:
		b.Append(int64(label))
	case *array.StringBuilder:
		if label == pipeline.Unknown {
			b.AppendNull()
			return
		}
		b.Append(w.cfg.Classes[label])
	case *array.Int32Builder: // indices of a dictionary
		if label == pipeline.Unknown {
			b.AppendNull()
			return
		}
		b.Append(label)
	}
}

func appendBytes(b *array.BinaryBuilder, v []byte) {
	if v == nil {
		b.AppendNull()
		return
	}
	b.Append(v)
}

func appendString(b array.Builder, s string) {
	if s == "" {
		b.AppendNull()
		return
	}
	b.(*array.StringBuilder).Append(s)
}

func appendVector(b array.ListLikeBuilder, v []float32) {
	b.Append(true)
	b.ValueBuilder().(*array.Float32Builder).AppendValues(v, nil)
}

// flush writes the rows in the builder as one row group.
func (w *RecordWriter) flush() error {
	rec := w.rows.NewRecord()
	defer rec.Release()
	if w.dict != nil {
		columns := append([]arrow.Array(nil), rec.Columns()...)
		fields := rec.Schema().Fields()
		i := rec.Schema().FieldIndices(w.cfg.LabelColumn)[0]
		t := &arrow.DictionaryType{IndexType: fields[i].Type, ValueType: arrow.BinaryTypes.String}
		labels := array.NewDictionaryArray(t, columns[i], w.dict)
		defer labels.Release()
		fields[i].Type, columns[i] = t, labels
		meta := rec.Schema().Metadata()
		rec = array.NewRecord(arrow.NewSchema(fields, &meta), columns, rec.NumRows())
		defer rec.Release()
	}
	if err := errors.Join(w.file.Write(rec), w.out.err); err != nil {
		return fmt.Errorf("write row group that ends at row %d: %w", w.total, err)
	}
	w.n, w.bytes = 0, 0
	return nil
}
