package storage

import (
	"encoding/binary"
	"fmt"
)

// The headers in Parquet files are structures in Thrift's compact protocol
// (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).
// The library allocates what their lists declare, so a footer is walked here
// first, where nothing is allocated; page headers are read here altogether.

// thriftType is the type of a value on the wire.
type thriftType byte

const (
	thriftStop thriftType = iota
	thriftTrue
	thriftFalse
	thriftByte
	thriftI16
	thriftI32
	thriftI64
	thriftDouble
	thriftBinary
	thriftList
	thriftSet
	thriftMap
	thriftStruct
)

// thriftDepth is how deeply structures may nest; Parquet's nest seven deep.
const thriftDepth = 24

// errShort says that a structure goes on past the bytes at hand.
var errShort = fmt.Errorf("%w: structure is cut short", ErrCorrupt)

// A thriftReader reads values from b. The first failure sticks, and what is
// read after it is zero.
type thriftReader struct {
	b   []byte
	err error
}

func (r *thriftReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
}

// take is the next n bytes, or nil.
func (r *thriftReader) take(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)) {
		r.err = errShort
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *thriftReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *thriftReader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	switch {
	case n == 0:
		r.err = errShort
		return 0
	case n < 0:
		r.fail("a number has more than 64 bits")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *thriftReader) varint() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1) // zigzag
}

// i32 is a varint that must fit into 32 bits.
func (r *thriftReader) i32() int32 {
	v := r.varint()
	if int64(int32(v)) != v {
		r.fail("number %d has more than 32 bits", v)
		return 0
	}
	return int32(v)
}

// fields calls f with the number and type of each field of a structure; f reads
// the value.
func (r *thriftReader) fields(f func(id int64, t thriftType)) {
	for id := int64(0); r.err == nil; {
		h := r.byte()
		t := thriftType(h & 0x0f)
		if t == thriftStop {
			return
		}
		if delta := int64(h >> 4); delta != 0 {
			id += delta
		} else {
			id = r.varint()
		}
		f(id, t)
	}
}

// list reads the header of a list, whose elements take at least a byte each.
func (r *thriftReader) list() (n int, elem thriftType) {
	h := r.byte()
	size := uint64(h >> 4)
	if size == 15 {
		size = r.uvarint()
	}
	if r.err == nil && size > uint64(len(r.b)) {
		r.err = errShort
		return 0, 0
	}
	return int(size), thriftType(h & 0x0f)
}

// skip passes over a value of type t.
func (r *thriftReader) skip(t thriftType, depth int) {
	if depth > thriftDepth {
		r.fail("structures nest more than %d deep", thriftDepth)
		return
	}
	switch t {
	case thriftTrue, thriftFalse: // the value is in the type
	case thriftByte:
		r.byte()
	case thriftI16, thriftI32, thriftI64:
		r.uvarint()
	case thriftDouble:
		r.take(8)
	case thriftBinary:
		r.take(r.uvarint())
	case thriftList, thriftSet:
		n, elem := r.list()
		for range n {
			r.skipElement(elem, depth+1)
		}
	case thriftMap:
		n := r.uvarint()
		if n == 0 || r.err != nil {
			return
		}
		if n > uint64(len(r.b)) {
			r.err = errShort
			return
		}
		types := r.byte()
		for range n {
			r.skipElement(thriftType(types>>4), depth+1)
			r.skipElement(thriftType(types&0x0f), depth+1)
		}
	case thriftStruct:
		r.fields(func(_ int64, t thriftType) { r.skip(t, depth+1) })
	default:
		r.fail("a field has type %d, which does not exist", t)
	}
}

// skipElement passes over an element of a list or map, where even a boolean
// takes a byte.
func (r *thriftReader) skipElement(t thriftType, depth int) {
	if r.err != nil {
		return
	}
	if t == thriftTrue || t == thriftFalse {
		r.byte()
		return
	}
	r.skip(t, depth)
}

// schemaDepth is how deeply columns may nest.
const schemaDepth = 32

// checkFooter walks the FileMetaData in b and makes sure that its lists are as
// long as they say, and that its schema is a tree of bounded depth.
func checkFooter(b []byte) error {
	r := &thriftReader{b: b}
	r.fields(func(id int64, t thriftType) {
		if id != 2 || t != thriftList { // schema
			r.skip(t, 0)
			return
		}
		n, elem := r.list()
		if elem != thriftStruct {
			r.fail("the schema is a list of type %d", elem)
			return
		}
		var open []int32 // children still to come, of each group around this element
		for i := range n {
			for len(open) > 0 && open[len(open)-1] == 0 {
				open = open[:len(open)-1]
			}
			if i > 0 && len(open) == 0 {
				r.fail("the schema has elements outside its root")
			}
			if len(open) > 0 {
				open[len(open)-1]--
			}
			var children int32
			r.fields(func(id int64, t thriftType) {
				if id == 5 && t == thriftI32 {
					children = r.i32()
				} else {
					r.skip(t, 1)
				}
			})
			if children < 0 || int(children) > n-i-1 {
				r.fail("the schema has a group of %d columns, with %d elements left", children, n-i-1)
			}
			if len(open) > schemaDepth {
				r.fail("columns nest more than %d deep", schemaDepth)
			}
			if r.err != nil {
				return
			}
			if children > 0 {
				open = append(open, children)
			}
		}
	})
	return r.err
}

// Lists in the footer by their field numbers, from parquet.thrift.
const (
	footerSchema = 2
	footerValues = 5
)

// footerList is the encoding of a list in a footer that [checkFooter] has
// passed; nil where it is not there.
func footerList(b []byte, want int64) (list []byte) {
	r := &thriftReader{b: b}
	r.fields(func(id int64, t thriftType) {
		from := r.b
		r.skip(t, 0)
		if id == want && t == thriftList {
			list = from[:len(from)-len(r.b)]
		}
	})
	return list
}

// footerValue is what a footer's key-value metadata have under a key; "" where
// they do not have it.
func footerValue(b []byte, want string) string {
	r := &thriftReader{b: footerList(b, footerValues)}
	n, elem := r.list()
	if elem != thriftStruct {
		return ""
	}
	for range n {
		var pair [3][]byte // key and value, by field number
		r.fields(func(id int64, t thriftType) {
			if t == thriftBinary && (id == 1 || id == 2) {
				pair[id] = r.take(r.uvarint())
			} else {
				r.skip(t, 1)
			}
		})
		if string(pair[1]) == want {
			return string(pair[2])
		}
	}
	return ""
}

// Page types and the encodings that matter here, from parquet.thrift.
const (
	pageData       = 0
	pageDictionary = 2
	pageDataV2     = 3
)

// A pageHeader is a PageHeader with its one sub-header flattened into it.
type pageHeader struct {
	typ                      int32
	uncompressed, compressed int32 // sizes in bytes
	crc                      int32
	hasCRC                   bool
	values                   int32
	encoding                 int32
	defEncoding, repEncoding int32 // version 1
	nulls, rows              int32 // version 2, as are the rest
	defLen, repLen           int32
	isCompressed             bool
}

// readPageHeader reads the header at the start of b and says how long it is.
// errShort means that b may hold too little of it.
func readPageHeader(b []byte) (pageHeader, int, error) {
	h := pageHeader{typ: -1, isCompressed: true}
	r := &thriftReader{b: b}
	number := func(t thriftType, dst *int32) {
		if t != thriftI32 {
			r.fail("a page header has type %d for a number", t)
			return
		}
		*dst = r.i32()
	}
	sub := func(fields map[int64]*int32) {
		r.fields(func(id int64, t thriftType) {
			if dst, ok := fields[id]; ok {
				number(t, dst)
				return
			}
			if id == 7 && (t == thriftTrue || t == thriftFalse) {
				h.isCompressed = t == thriftTrue
			}
			r.skip(t, 1)
		})
	}
	r.fields(func(id int64, t thriftType) {
		switch {
		case id == 1:
			number(t, &h.typ)
		case id == 2:
			number(t, &h.uncompressed)
		case id == 3:
			number(t, &h.compressed)
		case id == 4:
			number(t, &h.crc)
			h.hasCRC = true
		case id == 5 && t == thriftStruct: // DataPageHeader
			sub(map[int64]*int32{1: &h.values, 2: &h.encoding, 3: &h.defEncoding, 4: &h.repEncoding})
		case id == 7 && t == thriftStruct: // DictionaryPageHeader
			sub(map[int64]*int32{1: &h.values, 2: &h.encoding})
		case id == 8 && t == thriftStruct: // DataPageHeaderV2
			sub(map[int64]*int32{1: &h.values, 2: &h.nulls, 3: &h.rows, 4: &h.encoding, 5: &h.defLen, 6: &h.repLen})
		default:
			r.skip(t, 1)
		}
	})
	if r.err != nil {
		return h, 0, r.err
	}
	if h.typ < 0 || h.uncompressed < 0 || h.compressed < 0 || h.values < 0 || h.nulls < 0 || h.rows < 0 || h.defLen < 0 || h.repLen < 0 {
		return h, 0, fmt.Errorf("%w: page header has a negative size or count", ErrCorrupt)
	}
	return h, len(b) - len(r.b), nil
}
