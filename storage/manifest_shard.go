package storage

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/parquet/metadata"
)

// describeShard finds the row groups of a file that this package wrote and sums
// up their bytes, by reading them back: what the manifest vouches for is what
// is in the file, not what was meant to be. The path is left empty.
func describeShard(r io.ReaderAt, size int64, format Format) (s ManifestShard, err error) {
	err = guarded(func() error {
		s.Size = size
		if format == FormatArrow {
			return s.arrowGroups(r)
		}
		return s.parquetGroups(r)
	})
	if err != nil {
		return s, fmt.Errorf("read back: %w", err)
	}
	for g := range len(s.Groups) + 1 {
		from, to, _ := s.span(g)
		sum, err := sumOf(r, from, to)
		if err != nil {
			return s, fmt.Errorf("read back: %w", err)
		}
		if g < len(s.Groups) {
			s.Groups[g].SHA256 = sum
			s.Rows += s.Groups[g].Rows
		} else {
			s.Tail = sum
		}
	}
	return s, nil
}

// footer is the last bytes of a file whose length stands before its magic number.
func (s *ManifestShard) footer(r io.ReaderAt, magic int64) ([]byte, error) {
	var length [4]byte
	if _, err := r.ReadAt(length[:], s.Size-magic-4); err != nil {
		return nil, err
	}
	b := make([]byte, binary.LittleEndian.Uint32(length[:]))
	_, err := r.ReadAt(b, s.Size-magic-4-int64(len(b)))
	return b, err
}

func (s *ManifestShard) parquetGroups(r io.ReaderAt) error {
	b, err := s.footer(r, 4)
	if err != nil {
		return err
	}
	meta, err := metadata.NewFileMetaData(b, nil)
	if err != nil {
		return err
	}
	for g := range meta.RowGroups {
		m := meta.RowGroup(g)
		group := ManifestGroup{Rows: m.NumRows()}
		for c := range m.NumColumns() {
			chunk, err := m.ColumnChunk(c)
			if err != nil {
				return err
			}
			from := chunk.DataPageOffset()
			if at := chunk.DictionaryPageOffset(); chunk.HasDictionaryPage() && at > 0 && at < from {
				from = at
			}
			group.End = max(group.End, from+chunk.TotalCompressedSize())
		}
		s.Groups = append(s.Groups, group)
	}
	return nil
}

func (s *ManifestShard) arrowGroups(r io.ReaderAt) error {
	b, err := s.footer(r, int64(len(arrowMagic)))
	if err != nil {
		return err
	}
	blocks := flatRoot(b).structs(3, 24)
	for i := 0; i < len(blocks); i += 24 {
		at, meta, body := block(blocks[i:])
		head := make([]byte, meta)
		if _, err := r.ReadAt(head, at); err != nil {
			return err
		}
		head, _, err := nextArrowMessage(head)
		if err != nil {
			return err
		}
		m, err := readArrowMessage(head)
		if err != nil {
			return err
		}
		s.Groups = append(s.Groups, ManifestGroup{Rows: m.header.int64(0), End: at + meta + body})
	}
	return nil
}
