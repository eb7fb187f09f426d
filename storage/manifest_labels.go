package storage

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"

	"github.com/tercet-ml/tercet/pipeline"
)

// The file of labels holds the class number of every row in id order, then,
// where the data set has groups, the group number of every row, as int32 in
// little-endian order, −1 for unknown and null. With it a data set of any number
// of shards opens without reading one.

// writeLabels writes the file of labels. groups may be nil.
func writeLabels(w io.Writer, labels, groups []int32) (size int64, digest string, err error) {
	h := sha256.New()
	buf := bufio.NewWriterSize(io.MultiWriter(w, h), 1<<16)
	for _, column := range [][]int32{labels, groups} {
		for _, n := range column {
			var b [4]byte
			binary.LittleEndian.PutUint32(b[:], uint32(n))
			if _, err := buf.Write(b[:]); err != nil {
				return 0, "", err
			}
		}
	}
	if err := buf.Flush(); err != nil {
		return 0, "", err
	}
	return 4 * int64(len(labels)+len(groups)), hex.EncodeToString(h.Sum(nil)), nil
}

// ReadLabels reads the labels and, where there are some, the groups of the data
// set in dir, by sample id, and checks them against the manifest.
func (m *Manifest) ReadLabels(dir string) (labels, groups []int32, err error) {
	f, err := OpenFile(dir, m.Labels.Path, m.Labels.Size)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w: %s", filepath.Join(dir, m.Labels.Path), ErrCorrupt, fmt.Sprintf(format, args...))
	}
	b := make([]byte, m.Labels.Size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", f.Name(), unexpected(err))
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != m.Labels.SHA256 {
		return nil, nil, bad("its digest is %x, the manifest says %.12s", sum[:6], m.Labels.SHA256)
	}
	numbers := make([]int32, len(b)/4)
	for i := range numbers {
		numbers[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
	}
	labels, numbers = numbers[:m.Rows:m.Rows], numbers[m.Rows:]
	rows := make([]int64, len(m.Classes))
	for i, l := range labels {
		switch {
		case l == pipeline.Unknown:
		case l < 0 || int(l) >= len(rows):
			return nil, nil, bad("the label of row %d is %d, there are %d classes", i, l, len(rows))
		default:
			rows[l]++
		}
	}
	for c, n := range rows {
		if n != m.Classes[c].Rows {
			return nil, nil, bad("class %q has %d rows, the manifest says %d", m.Classes[c].Name, n, m.Classes[c].Rows)
		}
	}
	if m.Labels.Groups {
		groups = numbers
	}
	return labels, groups, nil
}
