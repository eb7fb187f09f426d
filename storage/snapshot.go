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
	"os"

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
	Fingerprint   string   `json:"embedder_fingerprint"`
	Dim           int      `json:"dim"`        // set by WriteSnapshot
	Normalised    bool     `json:"normalised"` // rows have length 1
	Generation    int32    `json:"generation"`
	Rows          int64    `json:"rows"`             // set by WriteSnapshot
	Digest        string   `json:"sha256"`           // of the rows and of the rest of this; set by WriteSnapshot
	Fit           []byte   `json:"fit,omitempty"`    // base64: what the embedder needs to make these rows again, as PCA's axes
	Blocks        []string `json:"blocks,omitempty"` // half a SHA-256 of the rows of each record batch, which says where a file was damaged; set by WriteSnapshot
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

// snapshotRows is how many rows a record batch of a snapshot has.
func snapshotRows(dim int) int { return max(1, (4<<20)/(4*dim)) }

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
	meta.FormatVersion, meta.Dim, meta.Rows = SnapshotFormat, emb.Dim, int64(emb.Len())
	rows := sha256.New()
	hashRows(rows, emb)
	meta.Blocks = nil
	for at := 0; at < emb.Len(); at += snapshotRows(emb.Dim) {
		block := sha256.New()
		hashRows(block, emb.Slice(at, min(at+snapshotRows(emb.Dim), emb.Len())))
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
	for at := 0; at < emb.Len(); at += snapshotRows(emb.Dim) {
		part := emb.Slice(at, min(at+snapshotRows(emb.Dim), emb.Len()))
		ids := array.NewInt64Builder(memory.DefaultAllocator)
		lists := array.NewFixedSizeListBuilder(memory.DefaultAllocator, int32(emb.Dim), arrow.PrimitiveTypes.Float32)
		for i := range part.Len() {
			ids.Append(int64(at + i))
			lists.Append(true)
		}
		lists.ValueBuilder().(*array.Float32Builder).AppendValues(part.Data, nil)
		cols := []arrow.Array{ids.NewArray(), lists.NewArray()}
		if err := fw.Write(array.NewRecord(schema, cols, int64(part.Len()))); err != nil {
			return err
		}
	}
	return fw.Close()
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

// ReadSnapshot reads a snapshot and checks all of it: ids 0 to n−1 in order, no
// null, NaN or infinity, and the digest. Where a field of want that identifies a
// snapshot is set (DataDigest, Embedder, Fingerprint, Dim, Rows, Generation,
// Digest) and the file's differs, it is refused with a [*MismatchError] before
// any row is read. Normalised is compared when Fingerprint is set.
func ReadSnapshot(path string, want SnapshotMeta) (SnapshotMeta, pipeline.Embeddings, error) {
	meta, emb, err := readSnapshot(path, want)
	if err != nil {
		return SnapshotMeta{}, pipeline.Embeddings{}, err
	}
	return meta, emb, nil
}

func readSnapshot(path string, want SnapshotMeta) (meta SnapshotMeta, emb pipeline.Embeddings, err error) {
	file, err := os.Open(path)
	if err != nil {
		return meta, emb, fmt.Errorf("open %s: %w", path, err)
	}
	defer file.Close()
	mem := &budget{limit: frameMemory}
	var fr *ipc.FileReader
	var batches int
	err = guardRead(path, -1, func() error {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		if fr, err = openArrowFile(io.NewSectionReader(file, 0, info.Size()), mem); err != nil {
			return err
		}
		if meta, err = snapshotMeta(fr.Schema()); err != nil {
			return err
		}
		if meta.Rows > info.Size()/int64(4*meta.Dim) {
			return fmt.Errorf("%w: %d rows of %d values in %d bytes", ErrCorrupt, meta.Rows, meta.Dim, info.Size())
		}
		batches = fr.NumRecords() // may panic, as all of the library may
		return nil
	})
	if err != nil {
		return meta, emb, err
	}
	if err := meta.match(path, want); err != nil {
		return meta, emb, err
	}
	emb = pipeline.Embeddings{Dim: meta.Dim, Data: make([]float32, 0, meta.Rows*int64(meta.Dim))}
	for i := range batches {
		err := guardRead(path, i, func() error {
			mem.used.Store(0) // nothing of the last batch is used any more
			rec, err := fr.RecordAt(i)
			if err != nil {
				return err
			}
			defer rec.Release()
			emb.Data, err = appendSnapshot(emb, rec)
			return err
		})
		if err != nil {
			return meta, emb, err
		}
	}
	return meta, emb, guardRead(path, -1, func() error { return meta.verify(emb) })
}

func snapshotMeta(schema *arrow.Schema) (SnapshotMeta, error) {
	text, _ := schema.Metadata().GetValue(metaKey)
	meta, err := parseSnapshotMeta(text)
	if err != nil {
		return meta, err
	}
	fields, want := schema.Fields(), snapshotSchema(meta.Dim, nil).Fields()
	if len(fields) != len(want) || fields[0].Name != want[0].Name || fields[1].Name != want[1].Name ||
		!arrow.TypeEqual(fields[0].Type, want[0].Type) || !arrow.TypeEqual(fields[1].Type, want[1].Type) {
		return meta, fmt.Errorf("%w: columns are %v, want %v", ErrSchema, fields, want)
	}
	return meta, nil
}

// parseSnapshotMeta reads the metadata of a snapshot, and checks what a size is taken from.
func parseSnapshotMeta(text string) (meta SnapshotMeta, err error) {
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

// appendSnapshot returns emb's data with the rows of a record batch behind.
func appendSnapshot(emb pipeline.Embeddings, rec arrow.Record) ([]float32, error) {
	ids := rec.Column(0).(*array.Int64)
	lists := rec.Column(1).(*array.FixedSizeList)
	n := int(rec.NumRows())
	if ids.Len() != n || lists.Len() != n || ids.NullN() != 0 || lists.NullN() != 0 {
		return nil, fmt.Errorf("%w: columns of %d and %d values with %d and %d nulls, want %d without",
			ErrCorrupt, ids.Len(), lists.Len(), ids.NullN(), lists.NullN(), n)
	}
	for i, id := range ids.Int64Values() {
		if want := int64(emb.Len() + i); id != want {
			return nil, fmt.Errorf("%w: row %d: id is %d, want %d", ErrCorrupt, i, id, want)
		}
	}
	values := lists.ListValues().(*array.Float32)
	if values.Len() != n*emb.Dim || values.NullN() != 0 {
		return nil, fmt.Errorf("%w: %d values with %d nulls, want %d rows of %d", ErrCorrupt, values.Len(), values.NullN(), n, emb.Dim)
	}
	if len(emb.Data)+values.Len() > cap(emb.Data) {
		return nil, fmt.Errorf("%w: more rows than its metadata says", ErrCorrupt)
	}
	return append(emb.Data, values.Float32Values()...), nil
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
