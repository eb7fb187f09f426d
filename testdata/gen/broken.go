package main

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
	"github.com/pierrec/lz4/v4"

	"github.com/tercet-ml/tercet/storage"
)

// badRow is the row that is at fault in a file with one bad cell: the third of
// the second row group.
const badRow = 12

// broken writes files with one fault each. README.md says what is wrong.
func broken(made files, seed uint64) error {
	rows, _, err := fewRows(seed)
	if err != nil {
		return err
	}
	rows = rows[:20]
	spoilt := func(spoil func(*storage.Row)) []storage.Row {
		out := slices.Clone(rows)
		out[badRow].Embedding = slices.Clone(out[badRow].Embedding)
		spoil(&out[badRow])
		return out
	}
	image := func(b []byte) []storage.Row { return spoilt(func(r *storage.Row) { r.Image = b }) }
	nan := spoilt(func(r *storage.Row) { r.Embedding[3] = float32(math.NaN()) })

	type config = storage.RecordWriterConfig
	for _, f := range []struct {
		name string
		rows []storage.Row
		cfg  config
	}{
		{"whole.parquet", rows, config{}},
		{"whole.arrow", rows, config{Format: storage.FormatArrow}},
		{"whole.arrows", rows, config{Format: storage.FormatArrowStream}},
		{"no-image-column.parquet", rows, config{Image: storage.ImageNone, PathColumn: "path"}},
		{"text-as-png.parquet", image([]byte("this is a text file, not an image\n")), config{}},
		{"huge-image.parquet", image(hugePNG(65535, 65535)), config{}},
		{"pixels-2-31.parquet", image(hugePNG(1<<16, 1<<15)), config{}},
		{"widest-image.parquet", image(hugePNG(math.MaxInt32, math.MaxInt32)), config{}},
		{"null-image.parquet", image(nil), config{}},
		{"null-image.arrow", image(nil), config{Format: storage.FormatArrow}},
		{"nan-embedding.parquet", nan, config{Dim: dim}},
		{"nan-embedding.arrow", nan, config{Format: storage.FormatArrow, Dim: dim}},
		{"zero-embedding.parquet", spoilt(func(r *storage.Row) { clear(r.Embedding) }), config{Dim: dim}},
		{"short-embedding.parquet", spoilt(func(r *storage.Row) { r.Embedding = r.Embedding[:dim-1] }), config{Dim: dim, Embedding: storage.EmbeddingList}},
	} {
		f.cfg.Classes = few
		f.cfg.GroupRows = 10
		if err := made.write("broken/"+f.name, f.cfg, f.rows); err != nil {
			return err
		}
	}
	for _, ending := range []string{".parquet", ".arrow", ".arrows"} {
		whole := made["broken/whole"+ending]
		delete(made, "broken/whole"+ending)
		made["broken/truncated"+ending] = whole[:len(whole)*6/10]
	}
	made["broken/zero-bytes.parquet"] = nil
	made["broken/not-parquet.parquet"] = []byte("image,label\na.png,0\nb.png,1\n")
	made["broken/empty/.gitkeep"] = nil
	if made["broken/float-labels.parquet"], err = floatLabels(rows); err != nil {
		return err
	}
	made["broken/legacy-lz4.parquet"], err = legacyLZ4(rows)
	return err
}

// hugePNG is a sound PNG header that declares w×h grey pixels, and next to no pixels.
func hugePNG(w, h uint32) []byte {
	out := []byte("\x89PNG\r\n\x1a\n")
	chunk := func(kind string, data []byte) {
		out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
		start := len(out)
		out = append(append(out, kind...), data...)
		out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[start:]))
	}
	header := binary.BigEndian.AppendUint32(nil, w)
	header = binary.BigEndian.AppendUint32(header, h)
	chunk("IHDR", append(header, 8, 0, 0, 0, 0))
	chunk("IDAT", []byte{0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01}) // an empty zlib stream
	chunk("IEND", nil)
	return out
}

// floatLabels is a file whose label column is float64, which no class number is.
func floatLabels(rows []storage.Row) ([]byte, error) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "image", Type: arrow.BinaryTypes.Binary, Nullable: true},
		{Name: "label", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	}, nil)
	return tableOf(schema, func(b *array.RecordBuilder) {
		for _, row := range rows {
			b.Field(0).(*array.BinaryBuilder).Append(row.Image)
			b.Field(1).(*array.Float64Builder).Append(float64(row.Label) + 0.5)
		}
	}, compress.Codecs.Snappy)
}

// legacyLZ4 is a file compressed with the codec LZ4 of old, in Hadoop's
// framing, which Parquet has deprecated because writers disagreed about it.
func legacyLZ4(rows []storage.Row) ([]byte, error) {
	plain, err := compress.GetCodec(compress.Codecs.Uncompressed)
	if err != nil {
		return nil, err
	}
	compress.RegisterCodec(compress.Codecs.Lz4, hadoopLZ4{plain})
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "image", Type: arrow.BinaryTypes.Binary, Nullable: true},
		{Name: "label", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
	return tableOf(schema, func(b *array.RecordBuilder) {
		for _, row := range rows {
			b.Field(0).(*array.BinaryBuilder).Append(row.Image)
			b.Field(1).(*array.Int64Builder).Append(int64(row.Label))
		}
	}, compress.Codecs.Lz4)
}

// tableOf is a Parquet file of one row group.
func tableOf(schema *arrow.Schema, fill func(*array.RecordBuilder), codec compress.Compression) ([]byte, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	fill(b)
	rec := b.NewRecord()
	defer rec.Release()
	var out bytes.Buffer
	props := parquet.NewWriterProperties(
		parquet.WithRootRepetition(parquet.Repetitions.Required),
		parquet.WithCompression(codec),
		parquet.WithDictionaryDefault(false),
	)
	w, err := pqarrow.NewFileWriter(schema, &out, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return nil, err
	}
	if err := w.Write(rec); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

// hadoopLZ4 writes LZ4 blocks behind their two lengths, big-endian.
type hadoopLZ4 struct{ compress.Codec }

func (hadoopLZ4) Encode(_, src []byte) []byte {
	block := make([]byte, lz4.CompressBlockBound(len(src)))
	n, err := lz4.CompressBlock(src, block, nil)
	if err != nil {
		panic(err) // the block has room for the worst case
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(len(src)))
	out = binary.BigEndian.AppendUint32(out, uint32(n))
	return append(out, block[:n]...)
}

func (c hadoopLZ4) EncodeLevel(dst, src []byte, _ int) []byte { return c.Encode(dst, src) }
func (hadoopLZ4) CompressBound(n int64) int64                 { return int64(lz4.CompressBlockBound(int(n))) + 8 }
func (hadoopLZ4) NewWriter(w io.Writer) io.WriteCloser        { panic("pages are compressed whole") }
