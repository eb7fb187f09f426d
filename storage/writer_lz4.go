package storage

import (
	"bytes"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/pierrec/lz4/v4"
)

// Arrow Go v17 has no codec for LZ4_RAW: LZ4 blocks without a frame.
func init() { compress.RegisterCodec(codecLZ4Raw, lz4Codec{}) }

// lz4Codec compresses a page to one LZ4 block.
type lz4Codec struct{}

// CompressBound implements [compress.Codec].
func (lz4Codec) CompressBound(n int64) int64 { return int64(lz4.CompressBlockBound(int(n))) }

// Encode implements [compress.Codec].
func (lz4Codec) Encode(dst, src []byte) []byte {
	if bound := lz4.CompressBlockBound(len(src)); len(dst) < bound {
		dst = make([]byte, bound)
	}
	n, err := lz4.CompressBlock(src, dst, nil)
	if err != nil {
		panic(fmt.Sprintf("storage: compress lz4 block: %v", err)) // dst has room for the worst case
	}
	return dst[:n]
}

// EncodeLevel implements [compress.Codec]. There is one level.
func (c lz4Codec) EncodeLevel(dst, src []byte, _ int) []byte { return c.Encode(dst, src) }

// Decode implements [compress.Codec]: dst is as long as the block is decompressed.
func (lz4Codec) Decode(dst, src []byte) []byte {
	n, err := lz4.UncompressBlock(src, dst)
	if err != nil {
		panic(fmt.Errorf("decompress lz4 block: %w", err)) // the interface has no other way to say so
	}
	return dst[:n]
}

// NewReader implements [compress.Codec]. A block does not say how long it is
// decompressed, so there is no stream of them to read.
func (lz4Codec) NewReader(io.Reader) io.ReadCloser {
	panic("storage: lz4 blocks are decompressed whole")
}

// NewWriter implements [compress.Codec]: what is written is one block at Close.
func (lz4Codec) NewWriter(w io.Writer) io.WriteCloser { return &lz4Writer{w: w} }

// NewWriterLevel implements [compress.Codec].
func (c lz4Codec) NewWriterLevel(w io.Writer, _ int) (io.WriteCloser, error) {
	return c.NewWriter(w), nil
}

type lz4Writer struct {
	w   io.Writer
	buf bytes.Buffer
}

func (l *lz4Writer) Write(p []byte) (int, error) { return l.buf.Write(p) }

func (l *lz4Writer) Close() error {
	_, err := l.w.Write(lz4Codec{}.Encode(nil, l.buf.Bytes()))
	return err
}
