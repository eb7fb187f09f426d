package storage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/schema"
)

// pages reads the pages of one column chunk and hands them, checked, to the
// library's column reader. It stands in for the library's own page reader,
// which takes memory by what headers say, ignores checksums, and stops at empty
// pages. It implements [file.PageReader].
type pages struct {
	src      io.ReaderAt
	off, end int64 // of what has not been read, in the file
	col      *schema.Column
	codec    compress.Compression
	mem      *budget

	page      file.Page
	held      int64 // bytes that page has taken from mem
	given     int64 // values in all pages up to and including page
	skipping  int64 // values to pass over, whole pages at a time, before the next page
	dictSize  int   // values in the dictionary; −1 before there is one
	headBytes []byte
	err       error
}

var _ file.PageReader = (*pages)(nil)

// SetMaxPageHeaderSize implements [file.PageReader]. Headers are bounded by their chunk.
func (p *pages) SetMaxPageHeaderSize(int) {}

// Reset implements [file.PageReader]. A chunk has a pages of its own.
func (p *pages) Reset(parquet.BufferedReader, int64, compress.Compression, *file.CryptoContext) {
	panic("storage: pages are not used again")
}

// Page implements [file.PageReader].
func (p *pages) Page() file.Page { return p.page }

// Err implements [file.PageReader].
func (p *pages) Err() error { return p.err }

// Next implements [file.PageReader]. An empty page is passed over.
func (p *pages) Next() bool {
	p.page = nil
	p.mem.give(p.held)
	p.held = 0
	for p.err == nil && p.off < p.end {
		at := p.off
		ok, err := p.next()
		if err != nil {
			p.err = fmt.Errorf("page at byte %d: %w", at, err)
			return false
		}
		if ok {
			return true
		}
	}
	return false
}

// next reads a page; false for one that is passed over.
func (p *pages) next() (bool, error) {
	h, err := p.header()
	if err != nil {
		return false, err
	}
	body := p.off
	p.off += int64(h.compressed)
	if p.off > p.end {
		return false, fmt.Errorf("%w: page of %d bytes reaches past its column chunk", ErrCorrupt, h.compressed)
	}
	data := h.typ == pageData || h.typ == pageDataV2
	if !data && h.typ != pageDictionary {
		return false, nil // an index page, or of a kind that is still to be invented
	}
	if data {
		p.given += int64(h.values)
		if n := int64(h.values); p.skipping >= n {
			p.skipping -= n
			return false, nil
		}
	}
	used := p.mem.used.Load()
	stored, err := p.body(body, h)
	if err != nil {
		return false, err
	}
	switch h.typ {
	case pageDictionary:
		err = p.dictionary(h, stored)
	case pageData:
		err = p.dataV1(h, stored)
	default:
		err = p.dataV2(h, stored)
	}
	if data {
		p.held = p.mem.used.Load() - used // a dictionary stays until the chunk ends
	}
	return err == nil, err
}

// header reads the header at off and moves past it.
func (p *pages) header() (pageHeader, error) {
	for size := int64(1 << 10); ; size *= 4 { // statistics may hold whole values
		size = min(size, p.end-p.off)
		if int64(len(p.headBytes)) < size {
			p.headBytes = make([]byte, size)
		}
		if _, err := p.src.ReadAt(p.headBytes[:size], p.off); err != nil {
			return pageHeader{}, fmt.Errorf("read page header: %w", unexpected(err))
		}
		h, n, err := readPageHeader(p.headBytes[:size])
		if err == errShort && size < p.end-p.off && size < maxPageHeader {
			continue
		}
		p.off += int64(n)
		return h, err
	}
}

// byteStreamSplit is the encoding of that name; this version of the library has
// no constant for it.
const byteStreamSplit = 9

// maxPageHeader is how long a page header may be, in bytes.
const maxPageHeader = 16 << 20

// body reads what is stored of a page and checks it against its checksum.
func (p *pages) body(at int64, h pageHeader) ([]byte, error) {
	p.mem.take(int64(h.compressed))
	b := make([]byte, h.compressed)
	if _, err := p.src.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("read page: %w", unexpected(err))
	}
	if h.hasCRC && crc32.ChecksumIEEE(b) != uint32(h.crc) {
		return nil, fmt.Errorf("%w: checksum of the page is %08x, want %08x", ErrCorrupt, crc32.ChecksumIEEE(b), uint32(h.crc))
	}
	return b, nil
}

func (p *pages) dictionary(h pageHeader, stored []byte) error {
	if p.dictSize >= 0 {
		return fmt.Errorf("%w: a column chunk has two dictionaries", ErrCorrupt)
	}
	if e := parquet.Encoding(h.encoding); e != parquet.Encodings.Plain && e != parquet.Encodings.PlainDict {
		return fmt.Errorf("%w: dictionary in encoding %d", ErrUnsupported, h.encoding)
	}
	b, err := decompress(p.codec, stored, int(h.uncompressed), p.mem)
	if err != nil {
		return err
	}
	if err := checkPlain(b, int(h.values), p.col.PhysicalType(), p.col.TypeLength()); err != nil {
		return fmt.Errorf("dictionary: %w", err)
	}
	p.dictSize = int(h.values)
	p.page = file.NewDictionaryPage(memory.NewBufferBytes(b), h.values, parquet.Encodings.Plain)
	return nil
}

// dataV1 makes a page of version 1: levels, each with its length before it, and
// values, all compressed together.
func (p *pages) dataV1(h pageHeader, stored []byte) error {
	b, err := decompress(p.codec, stored, int(h.uncompressed), p.mem)
	if err != nil {
		return err
	}
	values, full := b, int(h.values)
	for _, l := range []struct {
		most     int16
		encoding int32
		name     string
	}{{p.col.MaxRepetitionLevel(), h.repEncoding, "repetition"}, {p.col.MaxDefinitionLevel(), h.defEncoding, "definition"}} {
		if l.most == 0 {
			continue
		}
		if parquet.Encoding(l.encoding) != parquet.Encodings.RLE {
			return fmt.Errorf("%w: %s levels in encoding %d", ErrUnsupported, l.name, l.encoding)
		}
		if len(values) < 4 || uint64(binary.LittleEndian.Uint32(values)) > uint64(len(values)-4) {
			return fmt.Errorf("%w: %s levels reach past their page", ErrCorrupt, l.name)
		}
		size := binary.LittleEndian.Uint32(values)
		if full, err = checkLevels(values[4:4+size], l.most, int(h.values)); err != nil {
			return fmt.Errorf("%s levels: %w", l.name, err)
		}
		values = values[4+size:]
	}
	if p.col.MaxDefinitionLevel() == 0 {
		full = int(h.values)
	}
	if b, err = p.values(&h, b, len(b)-len(values), full); err != nil {
		return err
	}
	p.page = file.NewDataPageV1(memory.NewBufferBytes(b), h.values, parquet.Encoding(h.encoding),
		parquet.Encodings.RLE, parquet.Encodings.RLE, int32(len(b)))
	return nil
}

// dataV2 makes a page of version 2: levels, which are not compressed and whose
// lengths are in the header, and values.
func (p *pages) dataV2(h pageHeader, stored []byte) error {
	levels := int64(h.repLen) + int64(h.defLen)
	if levels > int64(len(stored)) || levels > int64(h.uncompressed) {
		return fmt.Errorf("%w: levels reach past their page", ErrCorrupt)
	}
	b := stored
	if h.isCompressed && p.codec != codecNone {
		values, err := decompress(p.codec, stored[levels:], int(h.uncompressed)-int(levels), p.mem)
		if err != nil {
			return err
		}
		p.mem.take(int64(h.uncompressed))
		b = append(append(make([]byte, 0, h.uncompressed), stored[:levels]...), values...)
	} else if len(b) != int(h.uncompressed) {
		return fmt.Errorf("%w: page has %d bytes, its header says %d", ErrCorrupt, len(b), h.uncompressed)
	}
	full := int(h.values)
	var err error
	if most := p.col.MaxRepetitionLevel(); most > 0 {
		if _, err = checkLevels(b[:h.repLen], most, int(h.values)); err != nil {
			return fmt.Errorf("repetition levels: %w", err)
		}
	}
	if most := p.col.MaxDefinitionLevel(); most > 0 {
		if full, err = checkLevels(b[h.repLen:levels], most, int(h.values)); err != nil {
			return fmt.Errorf("definition levels: %w", err)
		}
	}
	if b, err = p.values(&h, b, int(levels), full); err != nil {
		return err
	}
	p.page = file.NewDataPageV2(memory.NewBufferBytes(b), h.values, h.nulls, h.rows, parquet.Encoding(h.encoding),
		h.defLen, h.repLen, int32(len(b)), false)
	return nil
}

// values checks the values of a page, which begin at byte at of b. Those in
// BYTE_STREAM_SPLIT, which the library does not know, become PLAIN.
func (p *pages) values(h *pageHeader, b []byte, at, full int) ([]byte, error) {
	t, typeLen := p.col.PhysicalType(), p.col.TypeLength()
	if h.encoding == byteStreamSplit {
		width := plainWidth(t, typeLen)
		split := b[at:]
		if width == 0 || len(split) != full*width {
			return nil, fmt.Errorf("%w: %d bytes of split streams for %d values of %d bytes", ErrCorrupt, len(split), full, width)
		}
		p.mem.take(int64(len(b)))
		joined := make([]byte, len(b))
		copy(joined, b[:at])
		for i := range full {
			for k := range width {
				joined[at+i*width+k] = split[k*full+i]
			}
		}
		b, h.encoding = joined, int32(parquet.Encodings.Plain)
	}
	if err := checkValues(b[at:], full, h.encoding, t, typeLen, p.dictSize, p.mem); err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	if e := parquet.Encoding(h.encoding); (e == parquet.Encodings.RLEDict || e == parquet.Encodings.PlainDict) && full > 0 && b[at] == 0 {
		// Indices of no bits all mean the first value. The library has no
		// answer to them; one run of a one-bit zero says the same.
		b = append(b[:at:at], 1)
		b = append(binary.AppendUvarint(b, uint64(full)<<1), 0)
	}
	return b, nil
}
