package storage

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Compression codecs by their numbers in parquet.thrift; the library of this
// version has no name for the last.
const (
	codecNone   = 0
	codecSnappy = 1
	codecGzip   = 2
	codecLZO    = 3
	codecBrotli = 4
	codecLZ4    = 5 // Hadoop's framing of LZ4, which writers disagree about
	codecZstd   = 6
	codecLZ4Raw = 7
)

var codecNames = [...]string{"none", "snappy", "gzip", "lzo", "brotli", "lz4 (hadoop)", "zstd", "lz4_raw"}

func codecName(c compress.Compression) string {
	if c >= 0 && int(c) < len(codecNames) {
		return codecNames[c]
	}
	return fmt.Sprintf("codec %d", c)
}

// checkCodec says whether pages of this compression can be read.
func checkCodec(c compress.Compression) error {
	switch c {
	case codecNone, codecSnappy, codecGzip, codecBrotli, codecZstd, codecLZ4Raw:
		return nil
	case codecLZ4, codecLZO:
		return fmt.Errorf("%w: compression %s; write the file again with zstd, snappy or lz4_raw", ErrUnsupported, codecName(c))
	default:
		return fmt.Errorf("%w: %s does not exist", ErrCorrupt, codecName(c))
	}
}

// maxWindow is the memory that one zstd frame may ask for beside its output.
const maxWindow = 64 << 20

// zstdBlocks decompresses whole pages, into the memory it is given and no more.
var zstdBlocks = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
})

// What a codec makes of little is bounded: an honest page or buffer of more than
// freeSize bytes does not come from less than a maxRatio-th of it. The first
// codecs cannot do better by their formats.
const (
	maxRatio = 1032
	freeSize = 16 << 20
)

// plausible refuses a size that so few bytes do not hold, before memory is taken for it.
func plausible(size int64, compressed int, codec string) error {
	if size > maxRatio*int64(compressed)+freeSize {
		return fmt.Errorf("%w: %d bytes say they hold %d under %s", ErrCorrupt, compressed, size, codec)
	}
	return nil
}

// decompress returns the size bytes that src decompresses to. It takes them
// from the budget, in steps as they come where a codec can make much out of
// little: a header that lies about its size costs nothing.
func decompress(codec compress.Compression, src []byte, size int, mem *budget) ([]byte, error) {
	// The most that a codec makes of one byte.
	most := map[compress.Compression]int64{codecNone: 1, codecSnappy: 32, codecGzip: 1032, codecLZ4Raw: 255}
	if m, ok := most[codec]; ok && int64(size) > m*int64(len(src))+64 {
		return nil, fmt.Errorf("%w: page of %d bytes says it holds %d under %s", ErrCorrupt, len(src), size, codecName(codec))
	}
	if err := plausible(int64(size), len(src), codecName(codec)); err != nil {
		return nil, err
	}
	mem.room(int64(size))
	if size == 0 {
		return nil, nil
	}
	var dst []byte
	var err error
	switch codec {
	case codecNone:
		dst = src
	case codecSnappy:
		var n int
		if n, err = snappy.DecodedLen(src); err == nil && n == size {
			mem.take(int64(size))
			dst, err = snappy.Decode(make([]byte, size), src)
		}
	case codecLZ4Raw:
		mem.take(int64(size))
		dst = make([]byte, size)
		var n int
		if n, err = lz4.UncompressBlock(src, dst); err == nil {
			dst = dst[:n]
		}
	case codecGzip:
		var r *gzip.Reader
		if r, err = gzip.NewReader(bytes.NewReader(src)); err == nil {
			dst, err = inflate(r, size, len(src), mem)
		}
	case codecBrotli:
		dst, err = inflate(brotli.NewReader(bytes.NewReader(src)), size, len(src), mem)
	case codecZstd:
		dst, err = unzstd(src, size, mem)
	default:
		return nil, checkCodec(codec)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: decompress %s page: %w", ErrCorrupt, codecName(codec), err)
	}
	if len(dst) != size {
		return nil, fmt.Errorf("%w: page decompresses to other than the %d bytes its header says", ErrCorrupt, size)
	}
	return dst, nil
}

func unzstd(src []byte, size int, mem *budget) ([]byte, error) {
	if size <= 64*len(src)+1<<16 {
		d, err := zstdBlocks()
		if err != nil {
			return nil, err
		}
		mem.take(int64(size))
		return d.DecodeAll(src, make([]byte, 0, size))
	}
	d, err := zstd.NewReader(bytes.NewReader(src), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return inflate(d, size, len(src), mem)
}

// inflate reads r to its end, which has to be after size bytes, into memory
// that grows as they come.
func inflate(r io.Reader, size, compressed int, mem *budget) ([]byte, error) {
	grown := min(size, 16*compressed+1<<16)
	mem.take(int64(grown))
	dst := make([]byte, grown)
	for at := 0; ; {
		n, err := io.ReadFull(r, dst[at:])
		at += n
		if err != nil {
			return dst[:at], unexpected(err)
		}
		if at == size {
			break
		}
		more := min(size, 2*len(dst))
		mem.take(int64(more - len(dst)))
		dst = append(make([]byte, 0, more), dst...)[:more]
	}
	var one [1]byte
	if n, err := io.ReadFull(r, one[:]); n > 0 || err != io.EOF { // also checks the checksum
		if n > 0 {
			return nil, fmt.Errorf("more than %d bytes", size)
		}
		return nil, unexpected(err)
	}
	return dst, nil
}

// unexpected is err, with the end of a stream as a failure.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
