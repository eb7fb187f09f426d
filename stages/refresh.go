package stages

import (
	"errors"
	"fmt"

	"github.com/tercet-ml/tercet/pipeline"
)

// Refresh has the coming generations made with e, from the one on that [Cache.Next]
// names. It is called in a loop body, and its batch's number decides which
// generation that is. An embedder whose weights go on changing must be a
// [Freezer] unless Lag is 0.
func (c *Cache) Refresh(e Embedder) error {
	switch {
	case e == nil:
		return errors.New("refresh cache: the Embedder is nil")
	case c.cfg.Every == 0:
		return errors.New("refresh cache: CacheConfig.Every is 0, so there is no next generation: set it")
	case c.cfg.Builder == nil:
		return errors.New("refresh cache: CacheConfig.Builder is nil: set it, or hand in rows with Replace")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = recipe{embedder: e}
	return nil
}

// Replace makes rows the next generation, from which those after it go on until
// Refresh or Replace is called again. It is called in a loop body like
// [Cache.Refresh] and takes the rows over like [SnapshotOf].
func (c *Cache) Replace(rows pipeline.Embeddings, cfg SnapshotConfig) error {
	if c.cfg.Every == 0 {
		return errors.New("replace rows of cache: CacheConfig.Every is 0, so there is no next generation: set it")
	}
	if rows.Len() != c.samples {
		return fmt.Errorf("replace rows of cache: got %d rows, want %d: one for each sample", rows.Len(), c.samples)
	}
	s, err := SnapshotOf(rows, cfg)
	if err != nil {
		return fmt.Errorf("replace rows of cache: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = recipe{rows: s}
	return nil
}

// Next is the generation that what is handed in now goes into, and the first
// batch that uses it. (With ranks, the first of all their batches.)
func (c *Cache) Next() (generation int32, batch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.after(max(c.body, 0))
	return int32(g), (g + c.cfg.Lag) * c.cfg.Every
}

// after is the first generation that is settled when the body of batch b, or of
// the first of a step, has ended; 0 where none ever is.
func (c *Cache) after(b int64) int64 {
	if c.cfg.Every == 0 {
		return 0
	}
	to := b + c.world
	return (to + c.cfg.Every - 1) / c.cfg.Every
}

// watch notes that b goes by, and has the generations that the next step needs
// settled when b's loop body ends: on every rank after the same step.
func (c *Cache) watch(b *pipeline.Batch) {
	if c.cfg.Every == 0 {
		return
	}
	from, to := b.Step()
	c.mu.Lock()
	c.seen = max(c.seen, to-1)
	c.world = max(c.world, to-from)
	c.mu.Unlock()
	b.OnReturn(func() {
		for g := (to + c.cfg.Every - 1) / c.cfg.Every; g*c.cfg.Every < to+(to-from); g++ {
			c.settle(int32(g), c.take())
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.body = to
	})
}

// settle fixes what generation g is made of: this moment's weights, and the
// updates since the last one. It runs on the training loop's goroutine, between
// two steps.
func (c *Cache) settle(g int32, updates []rowUpdate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g <= c.newest {
		return // a run from an earlier state: it is settled already
	}
	of := c.next
	of.updates = updates
	if f, ok := of.embedder.(Freezer); ok {
		c.mu.Unlock() // the trainer's code may call the cache
		frozen, err := f.Freeze()
		c.mu.Lock()
		of.embedder, of.frozen = frozen, true
		if err != nil {
			of = recipe{failed: fmt.Errorf("freeze embedder for generation %d: %w", g, err)}
		}
	}
	c.next.rows = nil
	c.newest = g
	if c.slots[g] == nil {
		c.slots[g] = newSlot()
	}
	c.slots[g].of = of
	c.queue = append(c.queue, g)
	select {
	case c.wake <- struct{}{}:
	default: // it is awake already
	}
}

// resume settles what has to be known before the step of b, the first of a run.
// The weights that generation g is made of can be had before the step that
// batch g·R is in, where they are this moment's, and later if they never change.
func (c *Cache) resume(b *pipeline.Batch) error {
	if c.cfg.Every == 0 {
		return nil
	}
	from, to := b.Step()
	c.rewind(from)
	for g := max(1, from/c.cfg.Every-c.cfg.Lag); g <= (to-1)/c.cfg.Every; g++ {
		c.mu.Lock()
		known := int32(g) <= c.newest
		_, changes := c.next.embedder.(Freezer)
		constant := c.next.embedder != nil && !changes
		here := g*c.cfg.Every >= from
		now := here && (c.next.embedder != nil || c.next.rows != nil || len(c.next.updates) > 0 || c.seen >= from-(to-from)) // between two epochs, ranks leave batches out
		c.mu.Unlock()
		if !known && !constant && !now {
			return fmt.Errorf("generation %d of the cache was made before batch %d and is not held: restore its snapshot", g, from)
		}
		var updates []rowUpdate
		if here {
			updates = c.take()
		}
		c.settle(int32(g), updates)
	}
	return nil
}
