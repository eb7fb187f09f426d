package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

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
		bits += 8 * max(min(b.declared(i), limit), 0)
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

// A vector is one field of a batch with its buffers. Its values are looked at
// one by one, and checked then.
type vector struct {
	field    *arrowField
	n        int64  // values
	valid    []byte // a bit for each; nil when none is null
	offsets  []byte // of n+1 values of width bytes, or of n views
	width    int    // of an offset, or of a value of fixed size
	values   []byte
	more     [][]byte // data buffers of views
	children []*vector
}

// vector is the field at the cursor, at least rows values long; the cursor moves
// past it. Of a struct it has one child, part.
func (b *arrowBatch) vector(c *arrowCursor, f, part *arrowField, rows int64, mem *budget) (*vector, error) {
	node := span(b.nodes, 16*c.node, 16)
	v := &vector{field: f, n: int64(binary.LittleEndian.Uint64(node))}
	nulls := int64(binary.LittleEndian.Uint64(node[8:]))
	c.node++
	first := c.buffer
	own := b.own(c, f)
	c.buffer += own
	if v.n < rows || nulls < 0 || nulls > v.n || v.n > math.MaxInt64/64 {
		return nil, fmt.Errorf("%w: %v of %d values and %d nulls, want %d values", ErrCorrupt, f, v.n, nulls, rows)
	}
	var bufs [][]byte
	for i := range own {
		if i == 0 && nulls == 0 {
			bufs = append(bufs, nil)
			continue
		}
		buf, err := b.buffer(first+i, mem)
		if err != nil {
			return nil, err
		}
		bufs = append(bufs, buf)
	}
	need := func(buf []byte, what string, n int64) error {
		if int64(len(buf)) < n {
			return fmt.Errorf("%w: %s of %v has %d bytes, want %d for %d values", ErrCorrupt, what, f, len(buf), n, v.n)
		}
		return nil
	}
	if nulls > 0 {
		v.valid = bufs[0]
		if err := need(v.valid, "validity", (v.n+7)/8); err != nil {
			return nil, err
		}
	}
	typ := f
	if f.dict != nil {
		typ = f.dict.index
	}
	switch typ.typ {
	case arrowInt, arrowFloat:
		v.width, v.values = typ.bits/8, bufs[1]
		return v, need(v.values, "values", v.n*int64(v.width))
	case arrowFixedBinary:
		v.width, v.values = typ.size, bufs[1]
		if v.width > 0 && v.n > math.MaxInt64/int64(v.width) {
			return nil, need(v.values, "values", math.MaxInt64)
		}
		return v, need(v.values, "values", v.n*int64(v.width))
	case arrowBinaryView, arrowStringView:
		v.width, v.offsets, v.more = 16, bufs[1], bufs[2:]
		return v, need(v.offsets, "views", v.n*16)
	case arrowBinary, arrowString, arrowList, arrowLargeBinary, arrowLargeString, arrowLargeList:
		v.width, v.offsets = 4, bufs[1]
		if typ.typ == arrowLargeBinary || typ.typ == arrowLargeString || typ.typ == arrowLargeList {
			v.width = 8
		}
		if len(bufs) > 2 {
			v.values = bufs[2]
		}
		if v.n == 0 {
			v.offsets = make([]byte, v.width)
		}
		if err := need(v.offsets, "offsets", (v.n+1)*int64(v.width)); err != nil {
			return nil, err
		}
	case arrowStruct, arrowFixedList:
	default:
		return nil, fmt.Errorf("%w: column of type %v", ErrUnsupported, f)
	}
	for _, child := range f.children {
		var least int64
		switch typ.typ {
		case arrowStruct:
			least = v.n
			if child != part {
				b.skip(c, child)
				continue
			}
		case arrowFixedList:
			if typ.size > 0 && v.n > math.MaxInt64/64/int64(typ.size) {
				return nil, fmt.Errorf("%w: %v of %d values", ErrCorrupt, f, v.n)
			}
			least = v.n * int64(typ.size)
		}
		sub, err := b.vector(c, child, nil, least, mem)
		if err != nil {
			return nil, err
		}
		v.children = append(v.children, sub)
	}
	return v, nil
}

// null reports whether value i is null.
func (v *vector) null(i int64) bool {
	return v.valid != nil && v.valid[i/8]>>(i%8)&1 == 0
}

// bounds are the ends of value i in the values or the child: from offsets, or
// by the size of the type.
func (v *vector) bounds(i int64) (from, to int64, err error) {
	if v.offsets == nil {
		size := int64(v.width)
		if v.field.typ == arrowFixedList {
			size = int64(v.field.size)
		}
		return i * size, (i + 1) * size, nil
	}
	if v.width == 4 {
		from = int64(int32(binary.LittleEndian.Uint32(v.offsets[4*i:])))
		to = int64(int32(binary.LittleEndian.Uint32(v.offsets[4*i+4:])))
	} else {
		from = int64(binary.LittleEndian.Uint64(v.offsets[8*i:]))
		to = int64(binary.LittleEndian.Uint64(v.offsets[8*i+8:]))
	}
	end := int64(len(v.values))
	if len(v.children) > 0 {
		end = v.children[0].n
	}
	if from < 0 || to < from || to > end {
		return 0, 0, fmt.Errorf("%w: offsets %d to %d in %d values", ErrCorrupt, from, to, end)
	}
	return from, to, nil
}

// bytes is value i of a binary or string vector. It points into the file.
func (v *vector) bytes(i int64) ([]byte, error) {
	if v.width == 16 && v.more != nil {
		return v.view(i)
	}
	from, to, err := v.bounds(i)
	if err != nil {
		return nil, err
	}
	return v.values[from:to:to], nil
}

// view is value i of a view: up to 12 bytes in place, or a part of a data buffer.
func (v *vector) view(i int64) ([]byte, error) {
	s := v.offsets[16*i : 16*i+16]
	n := int64(int32(binary.LittleEndian.Uint32(s)))
	if n >= 0 && n <= 12 {
		return s[4 : 4+n : 4+n], nil
	}
	buf, at := int64(int32(binary.LittleEndian.Uint32(s[8:]))), int64(int32(binary.LittleEndian.Uint32(s[12:])))
	if n < 0 || buf < 0 || buf >= int64(len(v.more)) || at < 0 || at+n > int64(len(v.more[buf])) {
		return nil, fmt.Errorf("%w: view of %d bytes at %d in data buffer %d of %d", ErrCorrupt, n, at, buf, len(v.more))
	}
	return v.more[buf][at : at+n : at+n], nil
}

// int is value i of a vector of integers, or the index of a dictionary's.
func (v *vector) int(i int64) (int64, error) {
	typ := v.field
	if typ.dict != nil {
		typ = typ.dict.index
	}
	s := v.values[i*int64(v.width):]
	switch v.width {
	case 1:
		if typ.signed {
			return int64(int8(s[0])), nil
		}
		return int64(s[0]), nil
	case 2:
		if x := binary.LittleEndian.Uint16(s); typ.signed {
			return int64(int16(x)), nil
		} else {
			return int64(x), nil
		}
	case 4:
		if x := binary.LittleEndian.Uint32(s); typ.signed {
			return int64(int32(x)), nil
		} else {
			return int64(x), nil
		}
	}
	x := binary.LittleEndian.Uint64(s)
	if !typ.signed && x > math.MaxInt64 {
		return 0, fmt.Errorf("%w: %d, want at most %d", ErrValue, x, int64(math.MaxInt64))
	}
	return int64(x), nil
}

// floats appends the values from to to−1, null ones as NaN, float64 rounded.
func (v *vector) floats(dst []float32, from, to int64) []float32 {
	for i := from; i < to; i++ {
		var x float32
		switch {
		case v.null(i):
			x = float32(math.NaN())
		case v.width == 8:
			x = float32(math.Float64frombits(binary.LittleEndian.Uint64(v.values[8*i:])))
		default:
			x = math.Float32frombits(binary.LittleEndian.Uint32(v.values[4*i:]))
		}
		dst = append(dst, x)
	}
	return dst
}
