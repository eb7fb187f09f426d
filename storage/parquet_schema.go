package storage

import (
	"fmt"
	"strings"
	"sync"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/schema"
)

// schemas are the decoded schemas of Parquet files by how they are encoded, so
// that files with the same have one of them. A nil *schemas shares nothing.
type schemas struct {
	mu    sync.Mutex
	known map[string]*schema.Schema
}

// share is the first decoded schema that came with this encoding.
func (s *schemas) share(encoded []byte, decoded *schema.Schema) *schema.Schema {
	if s == nil {
		return decoded
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.known[string(encoded)]; ok {
		return first
	}
	if s.known == nil {
		s.known = make(map[string]*schema.Schema)
	}
	s.known[string(encoded)] = decoded
	return decoded
}

// leaves are the leaf columns of a Parquet file that a top-level column is read
// from: −1 for one that it does not have.
type leaves struct {
	value int // bytes, numbers, strings; the elements of a list
	path  int // the path of an image struct
}

// parquetColumns describes the top-level columns of a schema and finds their leaves.
func parquetColumns(s *schema.Schema) ([]column, []leaves) {
	root := s.Root()
	columns := make([]column, root.NumFields())
	where := make([]leaves, root.NumFields())
	next := 0
	for i := range columns {
		n := root.Field(i)
		columns[i], where[i] = parquetColumn(n, next)
		columns[i].name, columns[i].index = n.Name(), i
		next += leafCount(n)
	}
	return columns, where
}

// leafCount is how many leaf columns a node has.
func leafCount(n schema.Node) int {
	g, ok := n.(*schema.GroupNode)
	if !ok {
		return 1
	}
	count := 0
	for i := range g.NumFields() {
		count += leafCount(g.Field(i))
	}
	return count
}

// parquetColumn describes a top-level node whose first leaf has the given index.
func parquetColumn(n schema.Node, first int) (column, leaves) {
	none := leaves{-1, -1}
	if n.RepetitionType() == parquet.Repetitions.Repeated {
		return column{typ: "repeated " + typeName(n)}, none
	}
	switch n := n.(type) {
	case *schema.PrimitiveNode:
		c := column{kind: primitiveKind(n), typ: typeName(n)}
		if c.kind == kindOther {
			return c, none
		}
		if n.PhysicalType() == parquet.Types.FixedLenByteArray {
			c.width = n.TypeLength()
		}
		return c, leaves{value: first, path: -1}
	case *schema.GroupNode:
		c := column{typ: typeName(n)}
		if e := listElement(n); e != nil {
			c.kind = elementKind(e)
			if c.kind == kindOther {
				return c, none
			}
			return c, leaves{value: first, path: -1}
		}
		return structColumn(n, c, first)
	}
	return column{typ: "unknown"}, none
}

// structColumn describes a struct, which is an image where it has bytes or path.
func structColumn(n *schema.GroupNode, c column, first int) (column, leaves) {
	at := leaves{-1, -1}
	for i := range n.NumFields() {
		f := n.Field(i)
		if p, ok := f.(*schema.PrimitiveNode); ok && f.RepetitionType() != parquet.Repetitions.Repeated {
			switch k := primitiveKind(p); {
			case f.Name() == "bytes" && (k == kindBinary || k == kindString):
				at.value = first
			case f.Name() == "path" && (k == kindBinary || k == kindString):
				at.path = first
			}
		}
		first += leafCount(f)
	}
	switch {
	case at.value >= 0:
		c.kind, c.hasPath = kindImage, at.path >= 0
	case at.path >= 0:
		c.kind = kindPath
	}
	return c, at
}

func primitiveKind(n *schema.PrimitiveNode) kind {
	logical := n.LogicalType()
	switch n.PhysicalType() {
	case parquet.Types.Int32, parquet.Types.Int64:
		switch logical.(type) {
		case schema.IntLogicalType, *schema.IntLogicalType, schema.NoLogicalType, schema.UnknownLogicalType, nil:
			return kindInt
		}
	case parquet.Types.Float, parquet.Types.Double:
		return kindFloat
	case parquet.Types.ByteArray:
		switch logical.(type) {
		case schema.StringLogicalType, schema.EnumLogicalType, schema.JSONLogicalType:
			return kindString
		case schema.DecimalLogicalType, *schema.DecimalLogicalType:
			return kindOther
		}
		return kindBinary
	case parquet.Types.FixedLenByteArray:
		switch logical.(type) {
		case schema.NoLogicalType, schema.UnknownLogicalType, nil:
			return kindBinary
		}
	}
	return kindOther
}

// listElement is the element of a list, in the layouts that LIST may have: a
// repeated group of one element, or a repeated element. Nil for other nodes.
func listElement(n *schema.GroupNode) *schema.PrimitiveNode {
	if _, ok := n.LogicalType().(schema.ListLogicalType); !ok || n.NumFields() != 1 {
		return nil
	}
	f := n.Field(0)
	if f.RepetitionType() != parquet.Repetitions.Repeated {
		return nil
	}
	if g, ok := f.(*schema.GroupNode); ok {
		if g.NumFields() != 1 {
			return nil
		}
		f = g.Field(0)
		if f.RepetitionType() == parquet.Repetitions.Repeated {
			return nil
		}
	}
	p, _ := f.(*schema.PrimitiveNode)
	return p
}

func elementKind(e *schema.PrimitiveNode) kind {
	switch e.PhysicalType() {
	case parquet.Types.Float, parquet.Types.Double:
		return kindFloats
	case parquet.Types.Int32:
		if typeName(e) == "uint8" {
			return kindPixels
		}
	}
	return kindOther
}

// typeName is a node's type in Arrow's words.
func typeName(n schema.Node) string {
	switch n := n.(type) {
	case *schema.GroupNode:
		if e := listElement(n); e != nil {
			return "list<" + typeName(e) + ">"
		}
		if _, ok := n.LogicalType().(schema.ListLogicalType); ok && n.NumFields() == 1 {
			if g, ok := n.Field(0).(*schema.GroupNode); ok && g.NumFields() == 1 {
				return "list<" + typeName(g.Field(0)) + ">"
			}
		}
		fields := make([]string, n.NumFields())
		for i := range fields {
			fields[i] = n.Field(i).Name() + ": " + typeName(n.Field(i))
		}
		return "struct<" + strings.Join(fields, ", ") + ">"
	case *schema.PrimitiveNode:
		return primitiveName(n)
	}
	return "unknown"
}

func primitiveName(n *schema.PrimitiveNode) string {
	if l, ok := intType(n); ok {
		if l.IsSigned() {
			return fmt.Sprintf("int%d", l.BitWidth())
		}
		return fmt.Sprintf("uint%d", l.BitWidth())
	}
	switch primitiveKind(n) {
	case kindString:
		return "string"
	case kindBinary:
		if n.PhysicalType() == parquet.Types.FixedLenByteArray {
			return fmt.Sprintf("fixed_size_binary[%d]", n.TypeLength())
		}
		return "binary"
	case kindOther:
		if l := n.LogicalType(); l != nil && !l.IsNone() {
			return strings.ToLower(l.String())
		}
	}
	switch n.PhysicalType() {
	case parquet.Types.Float:
		return "float32"
	case parquet.Types.Double:
		return "float64"
	}
	return strings.ToLower(n.PhysicalType().String())
}

// intType is the integer annotation of a node, if it has one.
func intType(n *schema.PrimitiveNode) (schema.IntLogicalType, bool) {
	switch l := n.LogicalType().(type) {
	case schema.IntLogicalType:
		return l, true
	case *schema.IntLogicalType:
		return *l, true
	}
	return schema.IntLogicalType{}, false
}
