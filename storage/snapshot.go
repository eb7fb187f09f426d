package storage

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tercet-ml/tercet/pipeline"
)

// SnapshotFormat is the version of the snapshot files that this package writes,
// and the only one it reads.
const SnapshotFormat = 1

// SnapshotMeta is what a snapshot says of itself: JSON under the key "tercet".
type SnapshotMeta struct {
	FormatVersion int      `json:"format_version"` // set by WriteSnapshot
	DataDigest    string   `json:"data_digest"`
	Embedder      string   `json:"embedder"`
	Fingerprint   string   `json:"embedder_fingerprint"`    // of the embedder with its preprocessing
	Preprocessing string   `json:"preprocessing,omitempty"` // fingerprint of what was done to an image before; empty where there was none
	ImageSize     string   `json:"image_size,omitempty"`    // H×W×C that images were embedded at, as --size takes it
	DType         string   `json:"dtype,omitempty"`         // "float32"; set by WriteSnapshot
	Dim           int      `json:"dim"`                     // set by WriteSnapshot
	Normalised    bool     `json:"normalised"`              // rows have length 1
	Generation    int32    `json:"generation"`
	Rows          int64    `json:"rows"`             // set by WriteSnapshot
	Digest        string   `json:"sha256"`           // of the rows and of the rest of this; set by WriteSnapshot
	Fit           []byte   `json:"fit,omitempty"`    // base64: what the embedder needs to make these rows again, as PCA's axes
	Blocks        []string `json:"blocks,omitempty"` // half a SHA-256 of every 4 MiB of rows, which say where a file was damaged; set by WriteSnapshot
}

// digest is the SHA-256 of the rows (little-endian float32, in order) and of
// the metadata but for the digest.
func (m SnapshotMeta) digest(rows hash.Hash) string {
	m.Digest = ""
	text, _ := json.Marshal(m) // of plain fields: cannot fail
	rows.Write(text)
	return hex.EncodeToString(rows.Sum(nil))
}

// maxDim is the largest dimension of a snapshot: a row then takes 4 MiB.
const maxDim = 1 << 20

// snapshotRows is how many rows a record batch of a snapshot has: all of them,
// as long as the values can be counted by an int32, so that they are one piece
// of memory where the file is mapped.
func snapshotRows(dim int) int { return snapshotValues / dim }

var snapshotValues = math.MaxInt32 // a variable for tests

// blockRows is how many rows each digest of [SnapshotMeta.Blocks] is of.
func blockRows(dim int) int { return max(1, (4<<20)/(4*dim)) }

func snapshotSchema(dim int, meta *arrow.Metadata) *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		// Nullable although nothing is null: the library writes a list of fixed
		// size that is not as all nulls once it is copied to Parquet.
		{Name: "embedding", Type: arrow.FixedSizeListOf(int32(dim), arrow.PrimitiveTypes.Float32), Nullable: true},
	}, meta)
}

// WriteSnapshot writes the embeddings of one generation, row i being sample i,
// to an Arrow IPC file: id int64 and embedding fixed_size_list<float32>[D]. It
// returns meta completed, with the digest of the rows. A NaN or an infinity is
// refused with its sample id. The file appears whole or not at all; an existing
// one is refused with [ErrExists] unless overwrite is set.
func WriteSnapshot(path string, meta SnapshotMeta, emb pipeline.Embeddings, overwrite bool) (SnapshotMeta, error) {
	return writeSnapshot(OS, path, meta, emb, overwrite)
}

func writeSnapshot(fsys FS, path string, meta SnapshotMeta, emb pipeline.Embeddings, overwrite bool) (_ SnapshotMeta, err error) {
	if emb.Dim <= 0 || emb.Dim > maxDim || len(emb.Data)%emb.Dim != 0 {
		return meta, fmt.Errorf("storage: embeddings of %d values are not rows of %d, or of more than %d", len(emb.Data), emb.Dim, maxDim)
	}
	if id := notFinite(emb); id >= 0 {
		return meta, fmt.Errorf("write %s: the embedding of sample %d is not finite", path, id)
	}
	meta.FormatVersion, meta.DType, meta.Dim, meta.Rows = SnapshotFormat, "float32", emb.Dim, int64(emb.Len())
	rows := sha256.New()
	hashRows(rows, emb)
	meta.Blocks = nil
	for at := 0; at < emb.Len(); at += blockRows(emb.Dim) {
		block := sha256.New()
		hashRows(block, emb.Slice(at, min(at+blockRows(emb.Dim), emb.Len())))
		meta.Blocks = append(meta.Blocks, hex.EncodeToString(block.Sum(nil)[:sha256.Size/2]))
	}
	meta.Digest = meta.digest(rows)
	text, err := json.Marshal(meta)
	if err != nil {
		return meta, fmt.Errorf("encode metadata: %w", err)
	}
	draft, err := NewDraft(fsys, path, overwrite)
	if err != nil {
		return meta, err
	}
	defer draft.Abort()
	buf := bufio.NewWriterSize(draft, 1<<16)
	if err := encodeSnapshot(buf, string(text), emb); err != nil {
		return meta, cmp.Or(draft.Err(), fmt.Errorf("write %s: %w", path, err))
	}
	if err := buf.Flush(); err != nil {
		return meta, err // the draft's, which names the file
	}
	return meta, draft.Commit()
}

func encodeSnapshot(w io.Writer, text string, emb pipeline.Embeddings) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = caught(v)
		}
	}()
	meta := arrow.NewMetadata([]string{metaKey}, []string{text})
	schema := snapshotSchema(emb.Dim, &meta)
	fw, err := ipc.NewFileWriter(&arrowSink{w: w}, ipc.WithSchema(schema))
	if err != nil {
		return err
	}
	list := schema.Field(1).Type
	for at := 0; at < emb.Len(); at += snapshotRows(emb.Dim) {
		part := emb.Slice(at, min(at+snapshotRows(emb.Dim), emb.Len()))
		ids := make([]int64, part.Len())
		for i := range ids {
			ids[i] = int64(at + i)
		}
		rows := arrayOf(list, part.Len(), nil, arrayOf(arrow.PrimitiveTypes.Float32, len(part.Data), arrow.Float32Traits.CastToBytes(part.Data)))
		cols := []arrow.Array{
			array.MakeFromData(arrayOf(arrow.PrimitiveTypes.Int64, part.Len(), arrow.Int64Traits.CastToBytes(ids))),
			array.MakeFromData(rows),
		}
		if err := fw.Write(array.NewRecord(schema, cols, int64(part.Len()))); err != nil {
			return err
		}
	}
	return fw.Close()
}

// arrayOf is an array without nulls over memory that is not copied.
func arrayOf(t arrow.DataType, n int, values []byte, children ...arrow.ArrayData) arrow.ArrayData {
	buffers := []*memory.Buffer{nil}
	if values != nil {
		buffers = append(buffers, memory.NewBufferBytes(values))
	}
	return array.NewData(t, n, buffers, children, 0, 0)
}

// hashRows writes the rows to h as little-endian float32.
func hashRows(h hash.Hash, emb pipeline.Embeddings) {
	buf := make([]byte, 0, 1<<14)
	for _, v := range emb.Data {
		if buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v)); len(buf) == cap(buf) {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	h.Write(buf)
}

// notFinite is the first row with a NaN or an infinity; −1 where there is none.
func notFinite(emb pipeline.Embeddings) int {
	for i, v := range emb.Data {
		if !finite(v) {
			return i / emb.Dim
		}
	}
	return -1
}

// ReadSnapshot reads a snapshot into memory. It checks all of it, as
// [MapSnapshot] does.
func ReadSnapshot(path string, want SnapshotMeta) (SnapshotMeta, pipeline.Embeddings, error) {
	m, err := MapSnapshot(path, want)
	if err != nil {
		return SnapshotMeta{}, pipeline.Embeddings{}, err
	}
	rows := pipeline.Embeddings{Dim: m.Rows.Dim, Data: slices.Clone(m.Rows.Data)}
	return m.Meta, rows, m.Close()
}

func parseSnapshotMeta(text string) (SnapshotMeta, error) {
	var meta SnapshotMeta
	if text == "" {
		return meta, fmt.Errorf("%w: no %q metadata: not a snapshot", ErrSchema, metaKey)
	}
	if err := json.Unmarshal([]byte(text), &meta); err != nil {
		return meta, fmt.Errorf("%w: %q metadata: %w", ErrCorrupt, metaKey, err)
	}
	if meta.FormatVersion != SnapshotFormat {
		return meta, fmt.Errorf("%w: format_version is %d, want %d", ErrVersion, meta.FormatVersion, SnapshotFormat)
	}
	if meta.Dim <= 0 || meta.Dim > maxDim || meta.Rows < 0 {
		return meta, fmt.Errorf("%w: %d rows of %d values", ErrCorrupt, meta.Rows, meta.Dim)
	}
	if meta.DType != "" && meta.DType != "float32" {
		return meta, fmt.Errorf("%w: dtype is %q, want float32", ErrUnsupported, meta.DType)
	}
	return meta, nil
}

// match compares what identifies a snapshot, where want says something.
func (m SnapshotMeta) match(path string, want SnapshotMeta) error {
	for _, f := range []struct {
		name       string
		have, want any
		set        bool
	}{
		{"data_digest", m.DataDigest, want.DataDigest, want.DataDigest != ""},
		{"embedder", m.Embedder, want.Embedder, want.Embedder != ""},
		{"embedder_fingerprint", m.Fingerprint, want.Fingerprint, want.Fingerprint != ""},
		{"preprocessing", m.Preprocessing, want.Preprocessing, want.Preprocessing != ""},
		{"image_size", m.ImageSize, want.ImageSize, want.ImageSize != ""},
		{"dtype", m.DType, want.DType, want.DType != ""},
		{"normalised", m.Normalised, want.Normalised, want.Fingerprint != ""},
		{"dim", m.Dim, want.Dim, want.Dim != 0},
		{"rows", m.Rows, want.Rows, want.Rows != 0},
		{"generation", m.Generation, want.Generation, want.Generation != 0},
		{"sha256", m.Digest, want.Digest, want.Digest != ""},
	} {
		if f.set && f.have != f.want {
			return &MismatchError{File: path, Field: f.name, Have: fmt.Sprint(f.have), Want: fmt.Sprint(f.want)}
		}
	}
	return nil
}

// verify checks the rows as a whole.
func (m SnapshotMeta) verify(emb pipeline.Embeddings) error {
	if int64(emb.Len()) != m.Rows {
		return fmt.Errorf("%w: %d rows, want %d", ErrCorrupt, emb.Len(), m.Rows)
	}
	if id := notFinite(emb); id >= 0 {
		return fmt.Errorf("%w: the embedding of sample %d is not finite", ErrCorrupt, id)
	}
	rows := sha256.New()
	hashRows(rows, emb)
	if d := m.digest(rows); d != m.Digest {
		return fmt.Errorf("%w: the digest of its rows and metadata is %s, want %s", ErrCorrupt, d, m.Digest)
	}
	return nil
}
