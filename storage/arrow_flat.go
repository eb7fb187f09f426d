package storage

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// A flat is a table of a FlatBuffer, the encoding of Arrow's metadata. Fields
// are known by number, and an absent one has its default. Every offset is
// checked before it is followed; one that leads out of the buffer panics with a
// [flatError], which the recover at the boundary turns into ErrCorrupt.
// The zero flat has no fields.
//
// Many places of a buffer may refer to one table or string, so a small buffer
// can describe a tree without end: what is read in all is bounded too.
type flat struct {
	buf    []byte
	at     int    // of the table in buf
	fields []byte // of the vtable: an uint16 for each field, its place relative to at; 0 when absent
	left   *int64 // bytes of tables and strings that may still be read from buf
}

// flatError is what reading a [flat] panics with.
type flatError string

func (e flatError) Error() string { return string(e) }

func flatFail(format string, args ...any) {
	panic(flatError("metadata: " + fmt.Sprintf(format, args...)))
}

// flatRoot is the root table of a buffer.
func flatRoot(buf []byte) flat {
	left := 16*int64(len(buf)) + 1<<16
	return flatAt(buf, indirect(buf, 0), &left)
}

// flatAt is the table at a place in buf.
func flatAt(buf []byte, at int, left *int64) flat {
	spend(left, 16)
	back := int64(int32(binary.LittleEndian.Uint32(span(buf, at, 4))))
	v := int64(at) - back
	if v < 0 || v > int64(len(buf)) {
		flatFail("vtable at %d of %d bytes", v, len(buf))
	}
	size := int(binary.LittleEndian.Uint16(span(buf, int(v), 2)))
	if size < 4 || size%2 != 0 {
		flatFail("vtable of %d bytes", size)
	}
	return flat{buf: buf, at: at, fields: span(buf, int(v), size)[4:], left: left}
}

// spend takes n bytes from what may still be read.
func spend(left *int64, n int) {
	if *left -= int64(n); *left < 0 {
		flatFail("tables and strings add up to many times the buffer")
	}
}

// span is buf[at:at+n].
func span(buf []byte, at, n int) []byte {
	if at < 0 || n < 0 || at > len(buf) || n > len(buf)-at {
		flatFail("%d bytes at %d of %d", n, at, len(buf))
	}
	return buf[at : at+n : at+n]
}

// indirect follows the offset at a place in buf.
func indirect(buf []byte, at int) int {
	off := binary.LittleEndian.Uint32(span(buf, at, 4))
	if int64(off) > int64(len(buf)) {
		flatFail("offset %d of %d bytes", off, len(buf))
	}
	return at + int(off)
}

// scalar is the n bytes of field i, or nil when it is absent.
func (f flat) scalar(i, n int) []byte {
	if 2*i+2 > len(f.fields) {
		return nil
	}
	off := int(binary.LittleEndian.Uint16(f.fields[2*i:]))
	if off == 0 {
		return nil
	}
	return span(f.buf, f.at+off, n)
}

func (f flat) byte(i int) byte {
	if b := f.scalar(i, 1); b != nil {
		return b[0]
	}
	return 0
}

func (f flat) int16(i int) int16 {
	if b := f.scalar(i, 2); b != nil {
		return int16(binary.LittleEndian.Uint16(b))
	}
	return 0
}

func (f flat) int32(i int) int32 {
	if b := f.scalar(i, 4); b != nil {
		return int32(binary.LittleEndian.Uint32(b))
	}
	return 0
}

func (f flat) int64(i int) int64 {
	if b := f.scalar(i, 8); b != nil {
		return int64(binary.LittleEndian.Uint64(b))
	}
	return 0
}

// target is the place that field i refers to; ok is false when it is absent.
func (f flat) target(i int) (at int, ok bool) {
	if f.scalar(i, 4) == nil {
		return 0, false
	}
	return indirect(f.buf, f.at+int(binary.LittleEndian.Uint16(f.fields[2*i:]))), true
}

// table is field i; ok is false when it is absent.
func (f flat) table(i int) (t flat, ok bool) {
	at, ok := f.target(i)
	if !ok {
		return flat{}, false
	}
	return flatAt(f.buf, at, f.left), true
}

// structs are the bytes of field i, a vector of structs (or scalars) of size bytes each.
func (f flat) structs(i, size int) []byte {
	at, ok := f.target(i)
	if !ok {
		return nil
	}
	return span(f.buf, at+4, f.length(at, size)*size)
}

// length is the number of elements of the vector at a place, each of at least
// size bytes.
func (f flat) length(at, size int) int {
	n := binary.LittleEndian.Uint32(span(f.buf, at, 4))
	if int64(n)*int64(size) > int64(len(f.buf)) {
		flatFail("vector of %d elements in %d bytes", n, len(f.buf))
	}
	return int(n)
}

// str is field i; empty when it is absent.
func (f flat) str(i int) string {
	b := f.structs(i, 1)
	if b == nil {
		return ""
	}
	spend(f.left, len(b))
	return string(b)
}

// tables are the elements of field i, a vector of tables.
func (f flat) tables(i int) iter.Seq[flat] {
	return func(yield func(flat) bool) {
		at, ok := f.target(i)
		if !ok {
			return
		}
		for k := range f.length(at, 4) {
			if !yield(flatAt(f.buf, indirect(f.buf, at+4+4*k), f.left)) {
				return
			}
		}
	}
}
