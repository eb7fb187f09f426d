package stages

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tercet-ml/tercet/pipeline"
)

// A rowUpdate is rows that the trainer computed in one step.
type rowUpdate struct {
	batch int64 // first of the step; −1 for before the run
	ids   []int64
	rows  []float32 // len(ids)×D, checked but not scaled
}

// Update makes rows, the embeddings that the trainer has just computed for the
// samples ids, part of the next generation, in place of the rows those samples
// have in the one before: a cache that stays fresh without a model of its own.
// It is called in a loop body, with that batch's IDs, and copies what it is
// given; the later of two rows of one sample counts. Rows are checked and
// scaled as in [SnapshotOf], and one that is refused leaves the cache as it was.
//
// The rows enter generation g if their batch is below g·R, the batch that g is
// cut off at, and otherwise a later one. Where generation g is embedded anew by
// a [Freezer], frozen at g·R, they are older than it and count for nothing; on
// what [Cache.Refresh] or [Cache.Replace] handed in before them they are laid on
// top. With ranks, every rank has to be given the rows of all of them.
func (c *Cache) Update(ids []int64, rows pipeline.Embeddings) error {
	if c.cfg.Every == 0 {
		return errors.New("update cache: CacheConfig.Every is 0, so there is no next generation: set it")
	}
	if len(ids) != rows.Len() {
		return fmt.Errorf("update cache: %d rows for %d samples", rows.Len(), len(ids))
	}
	for _, id := range ids {
		if id < 0 || id >= int64(c.samples) {
			return fmt.Errorf("update cache: sample %d is not one of the %d the cache holds", id, c.samples)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	like := c.next.rows
	if like == nil {
		like = c.before(c.newest + 1)
	}
	if like != nil && len(ids) > 0 && rows.Dim != like.Embeddings.Dim && c.next.embedder == nil {
		return fmt.Errorf("update cache: rows of %d values, and the cache has rows of %d", rows.Dim, like.Embeddings.Dim)
	}
	u := rowUpdate{batch: c.body, ids: slices.Clone(ids), rows: slices.Clone(rows.Data)}
	for i, id := range ids {
		length, err := finishLength(rows.Row(i), false)
		if err == nil && length == 0 && (like == nil || like.Normalised) {
			err = errNoDirection
		}
		if err != nil {
			return fmt.Errorf("update cache: %w", rowError(id, nil, err))
		}
	}
	if len(ids) > 0 {
		c.next.updates = append(c.next.updates, u)
	}
	return nil
}

// Pending is what was handed to [Cache.Update] and has become part of no
// generation yet, in that order. A run that goes on in another process from a
// state between two generations is given it by Update before its loop begins.
func (c *Cache) Pending() (ids []int64, rows pipeline.Embeddings) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.next.updates {
		ids = append(ids, u.ids...)
		rows.Data = append(rows.Data, u.rows...)
		rows.Dim = len(u.rows) / len(u.ids)
	}
	return ids, rows
}

// take takes the pending updates.
func (c *Cache) take() []rowUpdate {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.next.updates
	c.next.updates = nil
	return taken
}

// rewind forgets the updates of batches from b on: they will be given again.
func (c *Cache) rewind(b int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next.updates = slices.DeleteFunc(c.next.updates, func(u rowUpdate) bool { return u.batch >= b })
	c.body = b
}

// with is a copy of s with updated rows.
func (s *Snapshot) with(updates []rowUpdate) (*Snapshot, error) {
	dim := s.Embeddings.Dim
	c := *s
	c.Embeddings.Data = slices.Clone(s.Embeddings.Data)
	c.Norms = Sketch{}
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(s.Fingerprint), s.Fingerprint)
	for _, u := range updates {
		if len(u.rows) != len(u.ids)*dim {
			return nil, fmt.Errorf("updated rows have %d values, want %d", len(u.rows)/len(u.ids), dim)
		}
		for i, id := range u.ids {
			row := c.Embeddings.Row(int(id))
			copy(row, u.rows[i*dim:])
			binary.Write(h, binary.LittleEndian, id)
			hashFloats(h, row)
			length, err := finishLength(row, s.Normalised)
			if err != nil {
				return nil, rowError(id, nil, err)
			}
			c.Norms.Add(length)
		}
	}
	c.Fingerprint = embedderOf(s.Fingerprint) + updated + hex.EncodeToString(h.Sum(nil)[:16])
	c.Digest = digestRows(c.Embeddings, SnapshotConfig{Fingerprint: c.Fingerprint, Unscaled: !c.Normalised})
	return &c, nil
}

// updated stands in a fingerprint between that of the embedder and a digest of
// all updates since.
const updated = " updated "

// embedderOf is the part of a fingerprint that names the embedder.
func embedderOf(fingerprint string) string {
	before, _, _ := strings.Cut(fingerprint, updated)
	return before
}
