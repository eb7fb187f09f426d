package storage

import (
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/schema"
)

// frameCreatedBy stands in the footer for the program that wrote the file. It
// has no version, so that the same triplets give the same bytes.
const frameCreatedBy = "tercet"

// frameMemory bounds what decoding one block of a file of ours may take: two
// copies of 65,536 rows with their text, and some.
const frameMemory = 64 << 20

var parquetTypes = [...]parquet.Type{
	frameInt64:   parquet.Types.Int64,
	frameInt32:   parquet.Types.Int32,
	frameFloat32: parquet.Types.Float,
	frameString:  parquet.Types.ByteArray,
	frameKind:    parquet.Types.ByteArray,
}

// A parquetEncoder writes each frame as a row group. All columns are REQUIRED:
// nothing is ever null, and no reader spends bits on it. The root is too, as the
// specification has it and the library by default has not.
type parquetEncoder struct {
	w    *file.Writer
	seal *sealer
	strs []parquet.ByteArray
}

func newParquetEncoder(w io.Writer, layout frame) *parquetEncoder {
	props := []parquet.WriterProperty{
		parquet.WithRootRepetition(parquet.Repetitions.Required),
		parquet.WithCreatedBy(frameCreatedBy),
		parquet.WithCompression(compress.Codecs.Snappy), // for zstd the library makes a new encoder, megabytes of it, for every page
		parquet.WithDictionaryDefault(false),
		parquet.WithVersion(parquet.V2_LATEST),
	}
	var fields schema.FieldList
	for _, c := range layout {
		var logical schema.LogicalType = schema.NoLogicalType{}
		if c.typ == frameString || c.typ == frameKind {
			logical = schema.StringLogicalType{}
			props = append(props, parquet.WithDictionaryFor(c.name, true))
		}
		node := schema.MustPrimitive(schema.NewPrimitiveNodeLogical(c.name, parquet.Repetitions.Required, logical, parquetTypes[c.typ], 0, -1))
		fields = append(fields, node)
	}
	root := schema.MustGroup(schema.NewGroupNode("schema", parquet.Repetitions.Required, fields, -1))
	seal := newSealer(w)
	return &parquetEncoder{seal: seal, w: file.NewParquetWriter(seal, root, file.WithWriterProps(parquet.NewWriterProperties(props...)))}
}

func (e *parquetEncoder) write(f frame) error {
	group := e.w.AppendRowGroup()
	for i := range f {
		w, err := group.NextColumn()
		if err != nil {
			return err
		}
		if err := e.column(w, &f[i]); err != nil {
			return fmt.Errorf("column %q: %w", f[i].name, err)
		}
		if err := w.Close(); err != nil {
			return fmt.Errorf("column %q: %w", f[i].name, err)
		}
	}
	if err := group.Close(); err != nil {
		return err
	}
	e.seal.endGroup(f.rows())
	return nil
}

func (e *parquetEncoder) column(w file.ColumnChunkWriter, c *frameColumn) (err error) {
	switch w := w.(type) {
	case *file.Int64ColumnChunkWriter:
		_, err = w.WriteBatch(c.i64, nil, nil)
	case *file.Int32ColumnChunkWriter:
		_, err = w.WriteBatch(c.i32, nil, nil)
	case *file.Float32ColumnChunkWriter:
		_, err = w.WriteBatch(c.f32, nil, nil)
	case *file.ByteArrayColumnChunkWriter:
		e.strs = e.strs[:0]
		for _, s := range c.str {
			e.strs = append(e.strs, parquet.ByteArray(s))
		}
		for _, k := range c.kind {
			e.strs = append(e.strs, parquet.ByteArray(kindNames[k]))
		}
		_, err = w.WriteBatch(e.strs, nil, nil)
	}
	return err
}

func (e *parquetEncoder) close(meta string) error {
	if err := e.w.AppendKeyValueMetadata(metaKey, meta); err != nil {
		return err
	}
	return e.seal.close(e.w.AppendKeyValueMetadata, e.w.Close)
}

// A parquetDecoder reads what a [parquetEncoder] wrote, through the low-level
// column readers: they stay on the caller's goroutine, where a panic at bytes
// that make no sense can be recovered. Whoever calls it recovers.
type parquetDecoder struct {
	r    *file.Reader
	mem  *budget
	cols []string
}

func newParquetDecoder(r parquet.ReaderAtSeeker, size int64) (*parquetDecoder, error) {
	mem := &budget{limit: frameMemory}
	pr, err := file.NewParquetReader(r, file.WithReadProps(parquet.NewReaderProperties(mem)))
	if err != nil {
		return nil, err
	}
	d := &parquetDecoder{r: pr, mem: mem}
	root := pr.MetaData().Schema.Root()
	for i := range root.NumFields() {
		d.cols = append(d.cols, root.Field(i).Name())
	}
	// The library allocates what the footer says before it reads.
	for g := range pr.NumRowGroups() {
		meta := pr.MetaData().RowGroup(g)
		if n := meta.NumRows(); n < 1 || n > frameRows {
			return nil, fmt.Errorf("%w: row group %d has %d rows, want 1 to %d", ErrCorrupt, g, n, frameRows)
		}
		for i := range meta.NumColumns() {
			chunk, err := meta.ColumnChunk(i)
			if err != nil {
				return nil, fmt.Errorf("row group %d: %w", g, err)
			}
			start, n := chunk.DataPageOffset(), chunk.TotalCompressedSize()
			if chunk.HasDictionaryPage() {
				start = min(start, chunk.DictionaryPageOffset())
			}
			if start < 4 || n < 0 || start > size || n > size-start {
				return nil, fmt.Errorf("%w: row group %d, column %d: bytes %d to %d of a file of %d", ErrCorrupt, g, i, start, start+n, size)
			}
			if chunk.NumValues() != meta.NumRows() {
				return nil, fmt.Errorf("%w: row group %d, column %d: %d values, want %d", ErrCorrupt, g, i, chunk.NumValues(), meta.NumRows())
			}
		}
	}
	return d, nil
}

func (d *parquetDecoder) meta() (string, bool) {
	if v := d.r.MetaData().KeyValueMetadata().FindValue(metaKey); v != nil {
		return *v, true
	}
	return "", false
}

// check compares the schema with layout, without a look at ARROW:schema.
func (d *parquetDecoder) check(layout frame) error {
	s := d.r.MetaData().Schema
	if s.NumColumns() != len(d.cols) {
		return fmt.Errorf("%w: nested columns", ErrSchema)
	}
	return checkNames(d.cols, layout, func(i int) string {
		c := s.Column(i)
		t := layout[i].typ
		if c.MaxDefinitionLevel() != 0 || c.MaxRepetitionLevel() != 0 {
			return "nullable"
		}
		if c.PhysicalType() != parquetTypes[t] {
			return c.PhysicalType().String()
		}
		return t.String()
	})
}

func (d *parquetDecoder) names() []string { return d.cols }

func (d *parquetDecoder) blocks() int { return d.r.NumRowGroups() }

func (d *parquetDecoder) rows(i int) int { return int(d.r.MetaData().RowGroup(i).NumRows()) }

func (d *parquetDecoder) read(i int, f frame) error {
	f.reset()
	d.mem.used.Store(0) // nothing of the last row group is used any more
	group := d.r.RowGroup(i)
	n := d.rows(i)
	for k := range f {
		c := &f[k]
		r, err := group.Column(k)
		if err == nil {
			err = readParquetColumn(r, c, n)
		}
		if err != nil {
			return fmt.Errorf("column %q: %w", c.name, err)
		}
	}
	return nil
}

// readParquetColumn reads the n values of a column chunk into c.
func readParquetColumn(r file.ColumnChunkReader, c *frameColumn, n int) error {
	switch r := r.(type) {
	case *file.Int64ColumnChunkReader:
		return readParquetValues(&c.i64, n, r.HasNext, r.ReadBatch)
	case *file.Int32ColumnChunkReader:
		return readParquetValues(&c.i32, n, r.HasNext, r.ReadBatch)
	case *file.Float32ColumnChunkReader:
		return readParquetValues(&c.f32, n, r.HasNext, r.ReadBatch)
	case *file.ByteArrayColumnChunkReader:
		var all []parquet.ByteArray
		if err := readParquetValues(&all, n, r.HasNext, r.ReadBatch); err != nil {
			return err
		}
		for _, v := range all {
			if err := c.appendString(v); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%w: column of another type", ErrSchema)
}

func readParquetValues[T any](dst *[]T, n int, next func() bool, read func(int64, []T, []int16, []int16) (int64, int, error)) error {
	*dst = slices.Grow((*dst)[:0], n)[:n]
	for done := 0; done < n; {
		if !next() {
			return fmt.Errorf("%w: %d values, want %d", ErrCorrupt, done, n)
		}
		_, k, err := read(int64(n-done), (*dst)[done:], nil, nil)
		if err != nil {
			return err
		}
		if k <= 0 {
			return fmt.Errorf("%w: %d values, want %d", ErrCorrupt, done, n)
		}
		done += k
	}
	return nil
}
