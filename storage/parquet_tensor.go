package storage

import (
	"encoding/base64"
	"encoding/binary"
	"iter"
)

// Parquet has no extension types. Writers keep the Arrow schema, with the
// extension types in it, as a base64 IPC message under the key "ARROW:schema".
// The library's decoder takes memory by the counts in it, so the one thing that
// is needed from it is looked up here in the Flatbuffers themselves
// (https://flatbuffers.dev/internals), where nothing is allocated.

const (
	arrowSchemaKey = "ARROW:schema"
	maxArrowSchema = 1 << 20 // bytes of base64; larger ones are passed over
)

// tensors finds the columns of type arrow.fixed_shape_tensor and their
// metadata, by column name. A blob that makes no sense has none: the columns
// can be read without it.
func tensors(blob string) (found map[string]string) {
	if blob == "" || len(blob) > maxArrowSchema {
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		return nil
	}
	defer func() {
		if recover() != nil { // an offset points outside the blob
			found = nil
		}
	}()
	if len(b) >= 4 && binary.LittleEndian.Uint32(b) == 0xffffffff {
		b = b[4:] // the continuation marker of version 5
	}
	message := flatTable{b: b[4:]}.root()
	const schemaHeader = 1
	if message.byte(1) != schemaHeader {
		return nil
	}
	found = make(map[string]string)
	for field := range message.table(2).tables(1, 1<<12) {
		var extension, metadata []byte
		for kv := range field.tables(6, 1<<5) {
			switch string(kv.text(0)) { // not copied
			case "ARROW:extension:name":
				extension = kv.text(1)
			case "ARROW:extension:metadata":
				metadata = kv.text(1)
			}
		}
		const long = 1 << 12 // tables may share their bytes: small blobs could hold much
		if name := field.text(0); string(extension) == tensorExtension && len(name)+len(metadata) < long {
			found[string(name)] = string(metadata)
		}
	}
	return found
}

// A flatTable is a table at position at of a Flatbuffer. Its methods panic for
// offsets outside it, and take a field that is absent as zero.
type flatTable struct {
	b  []byte
	at int
}

func (t flatTable) u32(at int) int { return int(binary.LittleEndian.Uint32(t.b[at:])) }

// root is the table that the buffer begins with the offset of.
func (t flatTable) root() flatTable { return flatTable{t.b, t.u32(0)} }

// field is the position of field i; 0 when it is absent.
func (t flatTable) field(i int) int {
	if t.b == nil {
		return 0
	}
	vtable := t.at - int(int32(t.u32(t.at)))
	if 4+2*i >= int(binary.LittleEndian.Uint16(t.b[vtable:])) {
		return 0
	}
	offset := int(binary.LittleEndian.Uint16(t.b[vtable+4+2*i:]))
	if offset == 0 {
		return 0
	}
	return t.at + offset
}

func (t flatTable) byte(i int) byte {
	if at := t.field(i); at != 0 {
		return t.b[at]
	}
	return 0
}

func (t flatTable) text(i int) []byte {
	at := t.field(i)
	if at == 0 {
		return nil
	}
	at += t.u32(at)
	return t.b[at+4 : at+4+t.u32(at)]
}

func (t flatTable) table(i int) flatTable {
	at := t.field(i)
	if at == 0 {
		return flatTable{}
	}
	return flatTable{t.b, at + t.u32(at)}
}

// tables yields the first tables of a vector, most at most.
func (t flatTable) tables(i, most int) iter.Seq[flatTable] {
	return func(yield func(flatTable) bool) {
		at := t.field(i)
		if at == 0 {
			return
		}
		at += t.u32(at)
		for k := range min(t.u32(at), most) {
			at := at + 4 + 4*k
			if !yield(flatTable{t.b, at + t.u32(at)}) {
				return
			}
		}
	}
}
