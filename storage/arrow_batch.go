package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/pierrec/lz4/v4"
)

// An arrowBatch is one record batch: the metadata that says where in the body
// the buffers of each field are. Fields are laid out depth first, each with one
// node (its length and nulls) and as many buffers as its type has.
type arrowBatch struct {
	rows     int64
	nodes    []byte // 16 bytes each: length, null count
	buffers  []byte // 16 bytes each: offset, length
	variadic []byte // 8 bytes for each view field: how many data buffers it has
	codec    int8   // of the body; −1 none, 0 LZ4 frames, 1 zstd
	body     []byte
	v4       bool // format of Arrow before 1.0: unions have a validity buffer
}

// readArrowBatch reads a RecordBatch table. It panics with a [flatError] where
// that makes no sense.
func readArrowBatch(t flat, body []byte, v4 bool) arrowBatch {
	b := arrowBatch{
		rows: t.int64(0), nodes: t.structs(1, 16), buffers: t.structs(2, 16),
		variadic: t.structs(4, 8), codec: -1, body: body, v4: v4,
	}
	if c, ok := t.table(3); ok {
		if b.codec = int8(c.byte(0)); b.codec != 0 && b.codec != 1 {
			flatFail("body compression %d does not exist", b.codec)
		}
	}
	for i := range len(b.buffers) / 16 {
		b.raw(i)
	}
	return b
}

// check reports a batch that cannot be one of the schema's, with nodes fields
// in all, or that has more rows than its buffers can hold: callers make room
// for as many rows as there are said to be. limit is the most a buffer may
// have decompressed.
func (b *arrowBatch) check(nodes int, limit int64) error {
	if have := len(b.nodes) / 16; have != nodes {
		return fmt.Errorf("%w: record batch of %d fields, want %d", ErrCorrupt, have, nodes)
	}
	var bits int64
	for i := range len(b.buffers) / 16 {
		bits += 8 * max(min(b.declared(i), limit, 64*int64(len(b.raw(i)))+1<<13), 0)
	}
	if b.rows < 0 || b.rows > bits {
		return fmt.Errorf("%w: record batch of %d rows in %d bytes", ErrCorrupt, b.rows, bits/8)
	}
	return nil
}

// raw is buffer i as it is stored.
func (b *arrowBatch) raw(i int) []byte {
	s := span(b.buffers, 16*i, 16)
	at, n := int64(binary.LittleEndian.Uint64(s)), int64(binary.LittleEndian.Uint64(s[8:]))
	if at < 0 || n < 0 || n > int64(len(b.body)) || at > int64(len(b.body))-n {
		flatFail("buffer %d of %d bytes at %d in a body of %d", i, n, at, len(b.body))
	}
	return b.body[at : at+n : at+n]
}

// declared is how long buffer i says it is decompressed.
func (b *arrowBatch) declared(i int) int64 {
	raw := b.raw(i)
	if b.codec < 0 || len(raw) == 0 {
		return int64(len(raw))
	}
	if n := int64(binary.LittleEndian.Uint64(span(raw, 0, 8))); n != -1 {
		return n
	}
	return int64(len(raw)) - 8
}

// declares is how long the buffers from i to j−1 say they are.
func (b *arrowBatch) declares(i, j int) (size int64) {
	for ; i < j; i++ {
		size += max(b.declared(i), 0)
	}
	return size
}

// buffer is buffer i, decompressed.
func (b *arrowBatch) buffer(i int, mem *budget) ([]byte, error) {
	raw := b.raw(i)
	if b.codec < 0 || len(raw) == 0 {
		return raw, nil
	}
	size := b.declared(i)
	switch src := raw[8:]; {
	case size == int64(len(src)) && int64(binary.LittleEndian.Uint64(raw)) == -1:
		return src, nil
	case size < 0:
		return nil, fmt.Errorf("%w: buffer %d says it holds %d bytes", ErrCorrupt, i, size)
	case size > mem.limit:
		return nil, overBudget{asked: size, used: mem.used.Load(), limit: mem.limit}
	case size == 0:
		return nil, nil
	case plausible(size, len(src), "lz4 or zstd") != nil:
		return nil, plausible(size, len(src), [...]string{"lz4", "zstd"}[b.codec])
	case b.codec == 1:
		dst, err := unzstd(src, int(size), mem)
		return whole(dst, err, int(size), "zstd")
	default:
		dst, err := inflate(lz4.NewReader(bytes.NewReader(src)), int(size), len(src), mem)
		return whole(dst, err, int(size), "lz4")
	}
}

// whole is dst when it is size bytes long and came without an error.
func whole(dst []byte, err error, size int, codec string) ([]byte, error) {
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: decompress %s buffer: %w", ErrCorrupt, codec, err)
	case len(dst) != size:
		return nil, fmt.Errorf("%w: %s buffer holds %d bytes, says %d", ErrCorrupt, codec, len(dst), size)
	}
	return dst, nil
}

// An arrowCursor is a place in a batch: the next node and the next buffers.
type arrowCursor struct{ node, buffer, variadic int }

// skip moves the cursor past f and all its parts.
func (b *arrowBatch) skip(c *arrowCursor, f *arrowField) {
	c.node++
	c.buffer += b.own(c, f)
	if f.dict != nil {
		return
	}
	for _, child := range f.children {
		b.skip(c, child)
	}
}

// own is how many buffers f itself has. It moves the cursor past the count of
// a view's.
func (b *arrowBatch) own(c *arrowCursor, f *arrowField) int {
	if f.dict != nil {
		return 2
	}
	switch f.typ {
	case arrowNull, arrowRunEnd:
		return 0
	case arrowStruct, arrowFixedList:
		return 1
	case arrowBinary, arrowString, arrowLargeBinary, arrowLargeString, arrowListView, arrowLargeListView:
		return 3
	case arrowUnion:
		n := 1
		if f.dense {
			n++
		}
		if b.v4 {
			n++
		}
		return n
	case arrowBinaryView, arrowStringView:
		n := int64(binary.LittleEndian.Uint64(span(b.variadic, 8*c.variadic, 8)))
		if n < 0 || n > int64(len(b.buffers)/16) {
			flatFail("view of %d data buffers", n)
		}
		c.variadic++
		return 2 + int(n)
	default: // validity, and values or offsets
		return 2
	}
}
