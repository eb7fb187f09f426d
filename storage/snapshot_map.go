package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"

	"github.com/tercet-ml/tercet/pipeline"
)

// A MappedSnapshot is a snapshot whose rows are pages of its file, as far as the
// system can map it: they take no memory of the process. They are not written
// to, and gone after Close. Nobody may cut the file short meanwhile: a process
// that reads a page which is not there any more ends.
type MappedSnapshot struct {
	Meta SnapshotMeta
	Rows pipeline.Embeddings
	file *arrowShard
}

// MapSnapshot opens a snapshot and checks all of it: ids 0 to n−1 in order, no
// null, NaN or infinity, and the digest. Where a field of want that identifies a
// snapshot is set (DataDigest, Embedder, Fingerprint, Preprocessing, ImageSize,
// DType, Dim, Rows, Generation, Digest) and the file's differs, it is refused
// with a [*MismatchError] before any row is read. Normalised is compared when
// Fingerprint is set.
func MapSnapshot(path string, want SnapshotMeta) (_ *MappedSnapshot, err error) {
	s, err := openArrow(context.Background(), path, Config{})
	if err != nil {
		return nil, err
	}
	m := &MappedSnapshot{file: s.(*arrowShard)}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	if m.Meta, err = parseSnapshotMeta(m.file.metadata(metaKey)); err == nil {
		err = m.checkColumns()
	}
	if err != nil {
		return nil, readFault(path, -1, -1, err)
	}
	if err := m.Meta.match(path, want); err != nil {
		return nil, err
	}
	if err := m.load(); err != nil {
		return nil, err
	}
	if err := guarded(func() error { return m.Meta.verify(m.Rows) }); err != nil {
		return nil, readFault(path, -1, -1, err)
	}
	return m, nil
}

// Close lets go of the file.
func (m *MappedSnapshot) Close() error { return m.file.close() }

func (m *MappedSnapshot) checkColumns() error {
	f := m.file.index.schema.fields
	if len(f) != 2 || f[0].name != "id" || f[0].typ != arrowInt || f[0].bits != 64 || !f[0].signed || f[0].dict != nil ||
		f[1].name != "embedding" || f[1].typ != arrowFixedList || f[1].size != m.Meta.Dim ||
		f[1].children[0].typ != arrowFloat || f[1].children[0].bits != 32 || f[1].children[0].dict != nil {
		return fmt.Errorf("%w: columns are %v, want id int64 and embedding fixed_size_list of %d float32", ErrSchema, f, m.Meta.Dim)
	}
	if size := m.file.size(); m.Meta.Rows > size/int64(4*m.Meta.Dim) {
		return fmt.Errorf("%w: %d rows of %d values in %d bytes", ErrCorrupt, m.Meta.Rows, m.Meta.Dim, size)
	}
	return nil
}

// load finds the rows: in place where they are one piece, as a copy otherwise.
func (m *MappedSnapshot) load() error {
	m.Rows.Dim = m.Meta.Dim
	if len(m.file.rows) == 1 {
		values, err := m.file.snapshotRows(0, 0, m.Meta.Dim)
		if err != nil {
			return err
		}
		if m.Rows.Data = inPlace(values); m.Rows.Data != nil {
			return nil
		}
	}
	m.Rows.Data = make([]float32, 0, m.Meta.Rows*int64(m.Meta.Dim))
	for g := range m.file.rows {
		values, err := m.file.snapshotRows(g, int64(m.Rows.Len()), m.Meta.Dim)
		if err != nil {
			return err
		}
		if len(m.Rows.Data)+len(values)/4 > cap(m.Rows.Data) {
			return readFault(m.file.path(), g, -1, fmt.Errorf("%w: more rows than its metadata says", ErrCorrupt))
		}
		err = guarded(func() error {
			for ; len(values) > 0; values = values[4:] {
				m.Rows.Data = append(m.Rows.Data, math.Float32frombits(binary.LittleEndian.Uint32(values)))
			}
			return nil
		})
		if err != nil {
			return readFault(m.file.path(), g, -1, err)
		}
	}
	return nil
}

// snapshotRows are the bytes of the embeddings of a record batch whose ids go on
// from first.
func (s *arrowShard) snapshotRows(group int, first int64, dim int) (values []byte, err error) {
	err = guardRead(s.path(), group, func() error {
		return guarded(func() error {
			b := &s.index.batches[group]
			var cur arrowCursor
			ids, err := b.vector(&cur, s.index.schema.fields[0], nil, b.rows, &budget{limit: s.limit})
			if err != nil {
				return err
			}
			lists, err := b.vector(&cur, s.index.schema.fields[1], nil, b.rows, &budget{limit: s.limit})
			if err != nil {
				return err
			}
			if ids.valid != nil || lists.valid != nil || lists.children[0].valid != nil {
				return fmt.Errorf("%w: it has nulls", ErrCorrupt)
			}
			for i := range b.rows {
				if id, err := ids.int(i); err != nil || id != first+i {
					return fmt.Errorf("%w: row %d: id is %d, want %d", ErrCorrupt, i, id, first+i)
				}
			}
			values = lists.children[0].values[:4*int64(dim)*b.rows]
			return nil
		})
	})
	return values, err
}

// inPlace is little-endian float32 values where they are; nil where this
// machine cannot read them there.
func inPlace(values []byte) []float32 {
	if len(values) == 0 || binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return nil
	}
	first := unsafe.Pointer(unsafe.SliceData(values))
	if uintptr(first)%unsafe.Alignof(float32(0)) != 0 {
		return nil
	}
	return unsafe.Slice((*float32)(first), len(values)/4)
}
