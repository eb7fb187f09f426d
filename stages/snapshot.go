package stages

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// A Snapshot is one generation of the cache: a row for every sample of the
// data set. It does not change once it is published, and nobody writes to its
// rows; any number of goroutines may read them.
type Snapshot struct {
	Generation  int32               // which refresh made it, from 0
	Embeddings  pipeline.Embeddings // N×D, row i of sample i
	Digest      string              // hex SHA-256 of the shape, Normalised, Fingerprint and all rows, but not of Generation
	Fingerprint string              // of the embedder and the preprocessing
	Normalised  bool                // rows have length 1
	Norms       Sketch              // lengths of the rows before they were scaled, where they were made in this process; empty otherwise

	cut int64 // batch before which the newest of its rows was made
}

// SnapshotConfig says what the rows of a [Snapshot] are and how they are checked.
type SnapshotConfig struct {
	Fingerprint string                           // of what made the rows, and of the preprocessing before it; required
	Unscaled    bool                             // leave the rows as they are; default: scaled to length 1
	Scaled      bool                             // the rows have length 1 already: that is checked, and they are not written to
	Locate      func(id int64) pipeline.Location // where a sample is, for errors; may be nil
	Bad         *BadRows                         // rows that are left zero, to which rows that cannot be used are added; nil makes those errors
}

// SnapshotOf makes generation 0 of N×D rows that exist already: an embedding
// column, or what a trainer computed elsewhere. Row i is sample i's. It takes
// the rows over and scales each to length 1 in place, in float64, rounded once.
// A row with NaN or Inf in it, or without a direction to scale, is an error
// that names the sample; the rows are then partly scaled.
func SnapshotOf(rows pipeline.Embeddings, cfg SnapshotConfig) (*Snapshot, error) {
	if rows.Dim < 1 || len(rows.Data)%rows.Dim != 0 {
		return nil, fmt.Errorf("stages: SnapshotOf got %d values in rows of %d, want whole rows", len(rows.Data), rows.Dim)
	}
	if cfg.Fingerprint == "" {
		return nil, fmt.Errorf("stages: SnapshotConfig.Fingerprint is empty, want what made the rows")
	}
	var norms Sketch
	for i := range rows.Len() {
		if cfg.Bad.Has(int64(i)) {
			continue
		}
		length, err := finishLength(rows.Row(i), !cfg.Unscaled && !cfg.Scaled)
		if err == nil && cfg.Scaled && math.Abs(length-1) > 1e-3 {
			if err = fmt.Errorf("its length is %v, want 1", length); length == 0 {
				err = fmt.Errorf("all %d values are 0: %w", rows.Dim, errNoDirection)
			}
		}
		if err == nil {
			norms.Add(length)
			continue
		}
		if err = rowError(int64(i), cfg.Locate, err); cfg.Bad != nil && (!cfg.Scaled || length == 0) {
			if !cfg.Scaled {
				clear(rows.Row(i))
			}
			at, _ := errors.AsType[*pipeline.RowError](err)
			if at != nil {
				err = cfg.Bad.Add(int64(i), at.Location, [16]byte{}, err)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return &Snapshot{
		Embeddings:  rows,
		Digest:      digestRows(rows, cfg),
		Fingerprint: cfg.Fingerprint,
		Normalised:  !cfg.Unscaled,
		Norms:       norms,
	}, nil
}

// Gather copies the rows of ids to dst, whose memory it uses again, and
// returns them as len(ids)×D. An id outside the data set is an error.
func (s *Snapshot) Gather(dst pipeline.Embeddings, ids []int64) (pipeline.Embeddings, error) {
	dim, n := s.Embeddings.Dim, int64(s.Embeddings.Len())
	data := slices.Grow(dst.Data[:0], len(ids)*dim)
	for _, id := range ids {
		if id < 0 || id >= n {
			return pipeline.Embeddings{Data: data[:0]}, fmt.Errorf("sample %d has no embedding: the cache holds samples 0 to %d", id, n-1)
		}
		data = append(data, s.Embeddings.Row(int(id))...)
	}
	return pipeline.Embeddings{Dim: dim, Data: data}, nil
}

// as is s under another generation's number, sharing its rows.
func (s *Snapshot) as(generation int32) *Snapshot {
	c := *s
	c.Generation = generation
	return &c
}

// finish checks one row and, where it is asked to, scales it to length 1.
func finish(row []float32, scale bool) error {
	_, err := finishLength(row, scale)
	return err
}

// finishLength is finish, and returns the length the row had.
func finishLength(row []float32, scale bool) (length float64, err error) {
	var sum float64
	for k, v := range row {
		x := float64(v)
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return 0, fmt.Errorf("value %d is %v", k, v)
		}
		sum += float64(x * x) // the conversion forbids a fused multiply-add
	}
	length = math.Sqrt(sum)
	if !scale {
		return length, nil
	}
	if sum == 0 {
		return 0, fmt.Errorf("all %d values are 0: %w", len(row), errNoDirection)
	}
	for k, v := range row {
		row[k] = float32(float64(v) / length)
	}
	return length, nil
}

var errNoDirection = errors.New("no direction to scale to length 1")

func rowError(id int64, locate func(int64) pipeline.Location, err error) error {
	err = fmt.Errorf("embedding of sample %d: %w", id, err)
	if locate == nil {
		return err
	}
	return &pipeline.RowError{Location: locate(id), Err: err}
}

// digestRows is Snapshot.Digest.
func digestRows(rows pipeline.Embeddings, cfg SnapshotConfig) string {
	h := sha256.New()
	fmt.Fprintf(h, "tercet snapshot 1 float32 %d×%d unscaled=%v %d:%s", rows.Len(), rows.Dim, cfg.Unscaled, len(cfg.Fingerprint), cfg.Fingerprint)
	hashFloats(h, rows.Data)
	return hex.EncodeToString(h.Sum(nil))
}

// hashFloats writes the little-endian bits of v to h.
func hashFloats(h hash.Hash, v []float32) {
	var buf [8192]byte
	for chunk := range slices.Chunk(v, len(buf)/4) {
		for i, x := range chunk {
			binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(x))
		}
		h.Write(buf[:4*len(chunk)])
	}
}
