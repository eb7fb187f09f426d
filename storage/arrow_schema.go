package storage

import (
	"fmt"
	"strings"
)

// An arrowType is the type of a field, by the numbers in Arrow's Schema.fbs.
type arrowType uint8

const (
	arrowNull arrowType = iota + 1
	arrowInt
	arrowFloat
	arrowBinary
	arrowString
	arrowBool
	arrowDecimal
	arrowDate
	arrowTime
	arrowTimestamp
	arrowInterval
	arrowList
	arrowStruct
	arrowUnion
	arrowFixedBinary
	arrowFixedList
	arrowMap
	arrowDuration
	arrowLargeBinary
	arrowLargeString
	arrowLargeList
	arrowRunEnd
	arrowBinaryView
	arrowStringView
	arrowListView
	arrowLargeListView
)

var arrowTypeNames = [...]string{
	"", "null", "int", "float", "binary", "string", "bool", "decimal", "date", "time", "timestamp", "interval",
	"list", "struct", "union", "fixed_size_binary", "fixed_size_list", "map", "duration", "large_binary",
	"large_string", "large_list", "run_end_encoded", "binary_view", "string_view", "list_view", "large_list_view",
}

// An arrowField is one field of a schema: a column, or a part of one.
type arrowField struct {
	name     string
	typ      arrowType
	bits     int  // of an integer or floating-point number
	signed   bool // of an integer
	size     int  // bytes of a fixed_size_binary, elements of a fixed_size_list
	dense    bool // of a union
	children []*arrowField
	dict     *arrowDictionary // nil when values are stored as they are
	tensor   string           // metadata of the extension type arrow.fixed_shape_tensor
}

// An arrowDictionary says how a field's values are numbered. The field's type
// is that of the values.
type arrowDictionary struct {
	id    int64
	index *arrowField // an integer
}

// arrowSchema is the schema of a file or stream.
type arrowSchema struct {
	fields []*arrowField
	dicts  map[int64]*arrowField // what the values of each dictionary are
	meta   map[string]string
}

// maxArrowDepth is how deep types may be nested, far beyond any real schema: a
// table of a FlatBuffer may contain itself.
const maxArrowDepth = 32

// readArrowSchema reads a Schema table. It panics with a [flatError] where that
// makes no sense.
func readArrowSchema(t flat) (arrowSchema, error) {
	if t.int16(0) != 0 {
		return arrowSchema{}, fmt.Errorf("%w: values are big-endian", ErrUnsupported)
	}
	s := arrowSchema{meta: keyValues(t, 2), dicts: map[int64]*arrowField{}}
	for f := range t.tables(1) {
		s.fields = append(s.fields, readArrowField(f, 0))
	}
	s.addDicts(s.fields)
	return s, nil
}

// addDicts collects the dictionaries of fields and their parts.
func (s *arrowSchema) addDicts(fields []*arrowField) {
	for _, f := range fields {
		if f.dict != nil {
			values := *f
			values.dict = nil
			s.dicts[f.dict.id] = &values
		}
		s.addDicts(f.children)
	}
}

// keyValues is field i, a vector of KeyValue tables.
func keyValues(t flat, i int) map[string]string {
	m := map[string]string{}
	for kv := range t.tables(i) {
		m[kv.str(0)] = kv.str(1)
	}
	return m
}

func readArrowField(t flat, depth int) *arrowField {
	if depth > maxArrowDepth {
		flatFail("types are nested deeper than %d", maxArrowDepth)
	}
	f := &arrowField{name: t.str(0), typ: arrowType(t.byte(2))}
	typ, _ := t.table(3)
	switch f.typ {
	case arrowInt:
		f.bits, f.signed = int(typ.int32(0)), typ.byte(1) != 0
	case arrowFloat:
		f.bits = 16 << min(max(typ.int16(0), 0), 2)
	case arrowFixedBinary, arrowFixedList:
		f.size = int(typ.int32(0))
	case arrowUnion:
		f.dense = typ.int16(0) == 1
	}
	if f.size < 0 || f.typ == 0 || int(f.typ) >= len(arrowTypeNames) ||
		f.typ == arrowInt && f.bits != 8 && f.bits != 16 && f.bits != 32 && f.bits != 64 {
		flatFail("field %q has type %d with %d bits, size %d", f.name, f.typ, f.bits, f.size)
	}
	if d, ok := t.table(4); ok {
		f.dict = &arrowDictionary{id: d.int64(0), index: &arrowField{typ: arrowInt, bits: 32, signed: true}}
		if index, ok := d.table(1); ok {
			f.dict.index.bits, f.dict.index.signed = int(index.int32(0)), index.byte(1) != 0
		}
		switch f.dict.index.bits {
		case 8, 16, 32, 64:
		default:
			flatFail("field %q has a dictionary index of %d bits", f.name, f.dict.index.bits)
		}
	}
	for child := range t.tables(5) {
		f.children = append(f.children, readArrowField(child, depth+1))
	}
	want := -1
	switch f.typ {
	case arrowList, arrowLargeList, arrowFixedList, arrowMap, arrowListView, arrowLargeListView:
		want = 1
	case arrowRunEnd:
		want = 2
	}
	if want >= 0 && len(f.children) != want {
		flatFail("field %q of type %s has %d children", f.name, f.typ.name(), len(f.children))
	}
	if meta := keyValues(t, 6); meta["ARROW:extension:name"] == tensorExtension {
		f.tensor = meta["ARROW:extension:metadata"]
	}
	return f
}

func (t arrowType) name() string { return arrowTypeNames[t] }

// String is the type of f in Arrow's words, as "struct<bytes: binary, path: string>".
func (f *arrowField) String() string {
	s := f.typ.name()
	switch f.typ {
	case arrowInt:
		s = fmt.Sprintf("int%d", f.bits)
		if !f.signed {
			s = "u" + s
		}
	case arrowFloat:
		s = map[int]string{16: "halffloat", 32: "float", 64: "double"}[f.bits]
	case arrowFixedBinary:
		s = fmt.Sprintf("%s[%d]", s, f.size)
	case arrowList, arrowLargeList, arrowListView, arrowLargeListView:
		s = fmt.Sprintf("%s<%v>", s, f.children[0])
	case arrowFixedList:
		s = fmt.Sprintf("%s<%v>[%d]", s, f.children[0], f.size)
	case arrowStruct:
		var parts []string
		for _, c := range f.children {
			parts = append(parts, c.name+": "+c.String())
		}
		s = fmt.Sprintf("struct<%s>", strings.Join(parts, ", "))
	}
	if f.dict != nil {
		s = fmt.Sprintf("dictionary<values=%s, indices=%v>", s, f.dict.index)
	}
	return s
}

// child is the struct field of that name, of one of the types and not a
// dictionary; nil when there is none.
func (f *arrowField) child(name string, types ...arrowType) *arrowField {
	for _, c := range f.children {
		for _, t := range types {
			if c.name == name && c.typ == t && c.dict == nil {
				return c
			}
		}
	}
	return nil
}

// bytes and path are the parts of an image struct; nil when absent.
func (f *arrowField) bytes() *arrowField {
	return f.child("bytes", arrowBinary, arrowLargeBinary, arrowBinaryView)
}

func (f *arrowField) path() *arrowField {
	return f.child("path", arrowString, arrowLargeString, arrowStringView)
}

// column describes f as a shard's column number index.
func (f *arrowField) column(index int) column {
	c := column{name: f.name, typ: f.String(), tensor: f.tensor, index: index}
	switch f.typ {
	case arrowInt:
		c.kind = kindInt
	case arrowString, arrowLargeString, arrowStringView:
		c.kind = kindString
	}
	if f.dict != nil {
		return c
	}
	switch f.typ {
	case arrowBinary, arrowLargeBinary, arrowBinaryView:
		c.kind = kindBinary
	case arrowFixedBinary:
		c.kind, c.width = kindBinary, f.size
	case arrowFloat:
		c.kind = kindFloat
	case arrowStruct:
		switch {
		case f.bytes() != nil:
			c.kind, c.hasPath = kindImage, f.path() != nil
		case f.path() != nil:
			c.kind = kindPath
		}
	case arrowList, arrowLargeList, arrowFixedList:
		c.width = f.size
		switch e := f.children[0]; {
		case e.dict != nil:
		case e.typ == arrowInt && e.bits == 8 && !e.signed:
			c.kind = kindPixels
		case e.typ == arrowFloat && e.bits >= 32:
			c.kind = kindFloats
		}
	}
	return c
}
