package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/tercet-ml/tercet/pipeline"
)

// VectorConfig says which vectors [ReadVectors] reads.
type VectorConfig struct {
	Path    string   // a Parquet or Arrow file
	Samples int      // of the data set: the ids are 0 to Samples−1
	Paths   []string // by sample id: what the ids are where they are strings; nil: ids have to be integers
	Memory  int64    // bytes that decoding may hold; default 256 MiB
}

// IsSnapshot reports whether a file says that it is a snapshot of ours, sound or
// not. An error names the file.
func IsSnapshot(ctx context.Context, path string) (bool, error) {
	s, err := openShard(ctx, path, Config{})
	if err != nil {
		return false, err
	}
	defer s.close()
	return s.metadata(metaKey) != "", nil
}

// ReadVectors reads the embeddings of a data set from a file that somebody else
// has written: a column of vectors, and a column of sample ids or of the data's
// own ids or paths, found by their usual names as in [Open]. Rows may be in any order; each
// sample has to be there once. The digest is the SHA-256 of the rows by sample
// id.
//
// Errors: a [*RowError] for an id that is unknown or there twice ([ErrValue]), a
// null ([ErrNull]), a vector of another length or with a NaN or an infinity; and
// an error that names the first sample that is missing.
func ReadVectors(ctx context.Context, cfg VectorConfig) (_ pipeline.Embeddings, digest string, err error) {
	var none pipeline.Embeddings
	s, err := openShard(ctx, cfg.Path, Config{Memory: cfg.Memory})
	if err != nil {
		return none, "", err
	}
	defer s.close()
	vectors, err := embeddingRole.find(s, "")
	if err != nil {
		return none, "", err
	}
	ids, err := idRole.find(s, "")
	if err != nil {
		return none, "", err
	}
	if image, _ := imageRole.find(s, ""); ids == nil && image != nil && image.hasPath {
		path := *image
		path.kind = kindPath
		ids = &path
	}
	if vectors == nil || ids == nil {
		return none, "", fmt.Errorf("%s: %w: no column of ids and of vectors (found: %v)", cfg.Path, ErrSchema, describe(s.columns()))
	}
	v := &vectorPlacer{cfg: cfg, seen: make([]bool, cfg.Samples)}
	if cfg.Paths != nil {
		v.byPath = make(map[string]int64, len(cfg.Paths))
		for id, path := range cfg.Paths {
			if _, twice := v.byPath[path]; twice {
				v.byPath[path] = -1
				continue
			}
			v.byPath[path] = int64(id)
		}
	}
	for g := range s.groups() {
		for t, err := range s.read(ctx, g, []column{*ids, *vectors}, nil) {
			if err != nil {
				return none, "", err
			}
			for k, row := range t.rows {
				if col, err := v.add(t, k); err != nil {
					name := []string{ids.name, vectors.name}[col]
					return none, "", &RowError{Location: pipeline.Location{File: cfg.Path, RowGroup: g, Row: row, Column: name}, Err: err}
				}
			}
		}
	}
	for id, seen := range v.seen {
		if !seen {
			return none, "", fmt.Errorf("%s: %w: no vector for sample %d, want one for each of %d", cfg.Path, ErrValue, id, cfg.Samples)
		}
	}
	sum := sha256.New()
	hashRows(sum, v.rows)
	return v.rows, hex.EncodeToString(sum.Sum(nil)), nil
}

// A vectorPlacer puts vectors in their places.
type vectorPlacer struct {
	cfg    VectorConfig
	byPath map[string]int64 // −1 for a path of several samples
	rows   pipeline.Embeddings
	seen   []bool
}

// add takes row k of a table. With an error comes the column at fault.
func (v *vectorPlacer) add(t *table, k int) (column int, err error) {
	id, err := v.id(t.cells[0], k)
	if err != nil {
		return 0, err
	}
	if v.rows.Dim == 0 {
		dim := 0
		if !t.cells[1].isNull(k) {
			dim = len(t.cells[1].floats[k])
		}
		if dim < 1 || dim > maxDim {
			return 1, fmt.Errorf("%w: vector of %d values, want 1 to %d", ErrValue, dim, maxDim)
		}
		v.rows = pipeline.MakeEmbeddings(v.cfg.Samples, dim)
	}
	if err := checkVector(t.cells[1], k, v.rows.Dim); err != nil {
		return 1, err
	}
	copy(v.rows.Row(int(id)), t.cells[1].floats[k])
	v.seen[id] = true
	return 0, nil
}

// id is the sample of row k.
func (v *vectorPlacer) id(c cells, k int) (int64, error) {
	if c.isNull(k) {
		return 0, ErrNull
	}
	id, said := int64(-1), ""
	if c.strs == nil {
		id, said = c.ints[k], strconv.FormatInt(c.ints[k], 10)
	} else {
		said = strconv.Quote(c.strs[k])
		there := false
		if id, there = v.byPath[c.strs[k]]; !there {
			return 0, fmt.Errorf("%w: %s is no id or path of the data set", ErrValue, said)
		}
		if id < 0 {
			return 0, fmt.Errorf("%w: %s is the path of several samples", ErrValue, said)
		}
	}
	switch {
	case id < 0 || id >= int64(v.cfg.Samples):
		return 0, fmt.Errorf("%w: sample id %s, want 0 to %d", ErrValue, said, v.cfg.Samples-1)
	case v.seen[id]:
		return 0, fmt.Errorf("%w: %s is there twice", ErrValue, said)
	}
	return id, nil
}
