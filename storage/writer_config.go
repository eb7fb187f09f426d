package storage

import (
	"fmt"

	"github.com/tercet-ml/tercet/pipeline"
)

// Format is a file format that records are written to.
type Format string

const (
	FormatParquet     Format = "parquet"
	FormatArrow       Format = "arrow"  // Arrow IPC file, random access
	FormatArrowStream Format = "arrows" // Arrow IPC stream
)

// ImageLayout is how a file holds its images.
type ImageLayout string

const (
	ImageStruct ImageLayout = "struct" // struct<bytes: binary, path: string>, as the Hugging Face datasets library writes it
	ImageBinary ImageLayout = "binary" // the encoded image alone
	ImageRaw    ImageLayout = "raw"    // pixels as fixed_size_list<uint8 or float32>; the shape is not stored
	ImageTensor ImageLayout = "tensor" // pixels as arrow.fixed_shape_tensor, which stores the shape
	ImageFixed  ImageLayout = "fixed"  // pixels as fixed_size_binary; the shape is in the metadata "tercet.pixels"
	ImageNone   ImageLayout = "none"   // no image column: a file of embeddings
)

// LabelLayout is how a file holds its labels.
type LabelLayout string

const (
	LabelInt        LabelLayout = "int"        // int64 class numbers; −1 unknown
	LabelString     LabelLayout = "string"     // class names; null unknown
	LabelDictionary LabelLayout = "dictionary" // class names, each stored once; null unknown
)

// EmbeddingLayout is how a file holds its embeddings.
type EmbeddingLayout string

const (
	EmbeddingFixed EmbeddingLayout = "fixed" // fixed_size_list<float32>
	EmbeddingList  EmbeddingLayout = "list"  // list<float32>: rows may differ in length
)

// Codec is a compression.
type Codec string

const (
	CodecNone   Codec = "none"
	CodecSnappy Codec = "snappy"
	CodecZstd   Codec = "zstd" // also in Arrow files
	CodecGzip   Codec = "gzip"
	CodecBrotli Codec = "brotli"
	CodecLZ4    Codec = "lz4" // LZ4_RAW in Parquet, LZ4 frames in Arrow files
)

// RecordWriterConfig configures a [RecordWriter]. Only Format, Image and Label
// have to be thought about; the zero value writes the Hugging Face layout to
// Parquet, for data without class names.
type RecordWriterConfig struct {
	Format  Format      // default FormatParquet
	Image   ImageLayout // default ImageStruct
	Label   LabelLayout // default LabelInt
	Classes []string    // names by class number; required but for LabelInt

	Raw pipeline.Raw // of every image, with ImageRaw, ImageTensor and ImageFixed

	Dim       int             // of every embedding; 0 writes no embedding column
	Embedding EmbeddingLayout // default EmbeddingFixed

	// Column names. Path and Group are written only when named; ImageStruct
	// has the path in its struct as well.
	ImageColumn     string // default "image"
	LabelColumn     string // default "label"
	EmbeddingColumn string // default "embedding"
	PathColumn      string
	GroupColumn     string

	GroupRows      int   // a row group (record batch) ends at this many rows; default 1000
	GroupBytes     int64 // or at this many bytes of images; default 64 MiB
	Codec          Codec // default CodecSnappy in Parquet, CodecNone in Arrow
	CompressImages bool  // compress the image bytes too; Parquet only, Arrow has one codec for all

	PageRows int // Parquet: a data page ends at so many rows, or multiples of them, behind 1 MiB; default 1024

	// Parquet only. Both are what other writers produce; no reader needs them.
	PageV2 bool // data pages of version 2
	Delta  bool // delta encodings for integers, byte arrays and strings
}

// maxBytes bounds raw images and row groups: the library's lengths and offsets
// are int32 and wrap in silence.
const maxBytes = 1 << 30

// withDefaults fills the zero fields.
func (c RecordWriterConfig) withDefaults() RecordWriterConfig {
	c.Format = or(c.Format, FormatParquet)
	c.Image = or(c.Image, ImageStruct)
	c.Label = or(c.Label, LabelInt)
	c.Embedding = or(c.Embedding, EmbeddingFixed)
	c.ImageColumn = or(c.ImageColumn, "image")
	c.LabelColumn = or(c.LabelColumn, "label")
	c.EmbeddingColumn = or(c.EmbeddingColumn, "embedding")
	c.GroupRows = or(c.GroupRows, 1000)
	c.PageRows = or(c.PageRows, 1024)
	c.GroupBytes = or(c.GroupBytes, 64<<20)
	if c.Format == FormatParquet {
		c.Codec = or(c.Codec, CodecSnappy)
	}
	c.Codec = or(c.Codec, CodecNone)
	return c
}

// or is v, or def where v is zero.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// check reports the first field that cannot be.
func (c RecordWriterConfig) check() error {
	bad := func(field string, have any, want string) error {
		return fmt.Errorf("storage: RecordWriterConfig.%s is %v, want %s", field, have, want)
	}
	switch c.Format {
	case FormatParquet, FormatArrow, FormatArrowStream:
	default:
		return bad("Format", c.Format, "parquet, arrow or arrows")
	}
	switch c.Image {
	case ImageStruct, ImageBinary, ImageNone:
	case ImageRaw, ImageTensor, ImageFixed:
		if s := c.Raw.Shape; s.C < 1 || s.H < 1 || s.W < 1 || s.C > maxBytes/4/s.H/s.W {
			return bad("Raw.Shape", s, "the shape of raw images, of at most 1 GiB as float32")
		}
	default:
		return bad("Image", c.Image, "struct, binary, raw, tensor, fixed or none")
	}
	switch c.Label {
	case LabelInt:
	case LabelString, LabelDictionary:
		if len(c.Classes) == 0 {
			return bad("Classes", "empty", "class names, for labels of strings")
		}
	default:
		return bad("Label", c.Label, "int, string or dictionary")
	}
	switch c.Embedding {
	case EmbeddingFixed, EmbeddingList:
	default:
		return bad("Embedding", c.Embedding, "fixed or list")
	}
	switch c.Codec {
	case CodecNone, CodecZstd, CodecLZ4:
	case CodecSnappy, CodecGzip, CodecBrotli:
		if c.Format != FormatParquet {
			return bad("Codec", c.Codec, "none, zstd or lz4, for Arrow")
		}
	default:
		return bad("Codec", c.Codec, "none, snappy, zstd, gzip, brotli or lz4")
	}
	switch {
	case c.Dim < 0 || c.Dim > maxDim:
		return bad("Dim", c.Dim, fmt.Sprintf("0 to %d", maxDim))
	case c.PageRows < 1:
		return bad("PageRows", c.PageRows, ">= 1")
	case c.GroupRows < 1:
		return bad("GroupRows", c.GroupRows, ">= 1")
	case c.GroupBytes < 1 || c.GroupBytes > maxBytes:
		return bad("GroupBytes", c.GroupBytes, fmt.Sprintf("1 to %d", maxBytes))
	}
	return nil
}
