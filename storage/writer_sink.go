package storage

import (
	"errors"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
)

// parquetCodecs are the compressions of Parquet.
var parquetCodecs = map[Codec]compress.Compression{
	CodecNone:   compress.Codecs.Uncompressed,
	CodecSnappy: compress.Codecs.Snappy,
	CodecZstd:   compress.Codecs.Zstd,
	CodecGzip:   compress.Codecs.Gzip,
	CodecBrotli: compress.Codecs.Brotli,
	CodecLZ4:    codecLZ4Raw,
}

// open writes the beginning of a file of c's format to w, which has no Close
// for the library to call.
func (c RecordWriterConfig) open(w *counter, schema *arrow.Schema) (recordSink, error) {
	switch c.Format {
	case FormatArrow:
		return ipc.NewFileWriter(w, c.ipcOptions(schema)...)
	case FormatArrowStream:
		return ipc.NewWriter(w, c.ipcOptions(schema)...), nil
	default:
		return pqarrow.NewFileWriter(schema, w, c.parquetProperties(schema), pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	}
}

func (c RecordWriterConfig) ipcOptions(schema *arrow.Schema) []ipc.Option {
	opts := []ipc.Option{ipc.WithSchema(schema)}
	switch c.Codec {
	case CodecZstd:
		opts = append(opts, ipc.WithZstd())
	case CodecLZ4:
		opts = append(opts, ipc.WithLZ4())
	}
	return opts
}

// parquetProperties keep row groups as they are flushed, the schema's root
// REQUIRED (REPEATED, v17's default, is against the specification and breaks
// readers), and image bytes plain: they are compressed already, repeat nothing
// and are ordered by nothing.
func (c RecordWriterConfig) parquetProperties(schema *arrow.Schema) *parquet.WriterProperties {
	props := []parquet.WriterProperty{
		parquet.WithRootRepetition(parquet.Repetitions.Required),
		parquet.WithMaxRowGroupLength(int64(c.GroupRows)),
		parquet.WithCompression(parquetCodecs[c.Codec]),
		parquet.WithBatchSize(int64(c.PageRows)), // the library looks at a page's size after as many rows
	}
	if c.PageV2 {
		props = append(props, parquet.WithDataPageVersion(parquet.DataPageV2))
	}
	plain := func(leaf string) {
		props = append(props, parquet.WithDictionaryFor(leaf, false), parquet.WithStatsFor(leaf, false))
	}
	encoding := func(leaf string, e parquet.Encoding) {
		if c.Delta {
			props = append(props, parquet.WithDictionaryFor(leaf, false), parquet.WithEncodingFor(leaf, e))
		}
	}
	image := c.ImageColumn
	switch c.Image {
	case ImageStruct:
		image = c.ImageColumn + ".bytes"
		plain(c.ImageColumn + ".path")
		encoding(c.ImageColumn+".path", parquet.Encodings.DeltaByteArray)
	case ImageRaw, ImageTensor:
		image = c.ImageColumn + ".list.element"
	}
	if c.Image != ImageNone {
		plain(image)
		if !c.CompressImages {
			props = append(props, parquet.WithCompressionFor(image, compress.Codecs.Uncompressed))
		}
	}
	if c.Image == ImageStruct || c.Image == ImageBinary {
		encoding(image, parquet.Encodings.DeltaLengthByteArray)
	}
	if c.Label == LabelInt {
		encoding(c.LabelColumn, parquet.Encodings.DeltaBinaryPacked)
	} else {
		encoding(c.LabelColumn, parquet.Encodings.DeltaByteArray)
	}
	if c.PathColumn != "" {
		plain(c.PathColumn)
		encoding(c.PathColumn, parquet.Encodings.DeltaByteArray)
	}
	if c.Dim > 0 {
		plain(c.EmbeddingColumn + ".list.element")
	}
	return parquet.NewWriterProperties(props...)
}

// A counter is the writer of a file that begins where w is now. It knows its
// position, and can do nothing else that an [io.Seeker] can. The first error of
// w it keeps, and from then on takes bytes and writes none: Arrow Go v17
// panics over some failed writes and forgets others.
type counter struct {
	w   io.Writer
	n   int64
	err error
}

func (c *counter) Write(p []byte) (int, error) {
	if c.err == nil {
		_, c.err = c.w.Write(p)
	}
	c.n += int64(len(p))
	return len(p), nil
}

func (c *counter) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekCurrent {
		return c.n, errors.New("seek in a stream")
	}
	return c.n, nil
}
