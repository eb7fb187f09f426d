package stages

import (
	"context"
	"errors"
	"fmt"

	"github.com/tercet-ml/tercet/pipeline"
)

// Refresh has the coming generations made with e, from the next one on: the
// generation g of which batch g·R−1 is the last before it. It is called in a
// loop body, and its batch's number decides which generation that is. An
// embedder whose weights go on changing must be a [Freezer] unless Lag is 0.
func (c *Cache) Refresh(e Embedder) error {
	switch {
	case e == nil:
		return errors.New("refresh cache: the Embedder is nil")
	case c.every == 0:
		return errors.New("refresh cache: CacheConfig.Every is 0, so there is no next generation: set it")
	case c.builder == nil:
		return errors.New("refresh cache: CacheConfig.Builder is nil: set it, or hand in rows with Replace")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.embedder, c.rows = e, nil
	return nil
}

// Replace makes rows the next generation, and those after it until Refresh or
// Replace is called again. It is called in a loop body like [Cache.Refresh] and
// takes the rows over like [SnapshotOf].
func (c *Cache) Replace(rows pipeline.Embeddings, cfg SnapshotConfig) error {
	if c.every == 0 {
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
	c.embedder, c.rows = nil, s
	return nil
}

// watch notes that b goes by, and has the generations that the next step needs
// settled when b's loop body ends: on every rank after the same step.
func (c *Cache) watch(b *pipeline.Batch) {
	if c.every == 0 {
		return
	}
	from, to := b.Step()
	c.mu.Lock()
	c.seen = max(c.seen, to-1)
	c.world = max(c.world, to-from)
	c.mu.Unlock()
	for g := (to + c.every - 1) / c.every; g*c.every < to+(to-from); g++ {
		b.OnReturn(func() { c.settle(int32(g)) })
	}
}

// settle fixes what generation g is made of: this moment's weights. It runs on
// the training loop's goroutine, between two steps.
func (c *Cache) settle(g int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g <= c.newest {
		return // a run from an earlier state: it is settled already
	}
	if c.rows != nil {
		c.newest = g
		c.publish(g, c.rows.as(g), nil)
		c.rows = nil
		return
	}
	frozen := c.embedder
	if f, ok := frozen.(Freezer); ok {
		var err error
		c.mu.Unlock() // the trainer's code may call the cache
		frozen, err = f.Freeze()
		c.mu.Lock()
		if err != nil {
			c.publish(g, nil, fmt.Errorf("freeze embedder for generation %d: %w", g, err))
			return
		}
	}
	c.newest = g
	if c.slots[g] == nil {
		c.slots[g] = newSlot()
	}
	c.slots[g].frozen = frozen
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
	if c.every == 0 {
		return nil
	}
	from, to := b.Step()
	for g := max(1, from/c.every-c.lag); g <= (to-1)/c.every; g++ {
		c.mu.Lock()
		known := int32(g) <= c.newest
		_, changes := c.embedder.(Freezer)
		constant := c.embedder != nil && !changes
		now := g*c.every >= from && (c.embedder != nil || c.rows != nil || c.seen >= from-(to-from)) // between two epochs, ranks leave batches out
		c.mu.Unlock()
		if !known && !constant && !now {
			return fmt.Errorf("generation %d of the cache was made before batch %d and is not held: restore its snapshot", g, from)
		}
		c.settle(int32(g))
	}
	return nil
}

// start starts the task that builds generations, for one run of [Embed]. The
// run calls stop before it returns.
func (c *Cache) start(ctx context.Context) (stop func() error, err error) {
	if c.every == 0 {
		return func() error { return nil }, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		return nil, errors.New("cache is refreshed by another run: one run of Embed at a time")
	}
	c.running = true
	for g, s := range c.slots {
		if s.err != nil { // what failed in the last run is tried again
			c.slots[g] = newSlot()
			c.slots[g].frozen = s.frozen
		}
	}
	task := pipeline.Background(ctx, c.work)
	return func() error {
		err := task.Stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.running = false
		return err
	}, nil
}

// work builds the generations of the queue, in order, until ctx is cancelled or
// one fails: then the run ends with it at its next batch.
func (c *Cache) work(ctx context.Context) error {
	for {
		built, err := c.step(ctx)
		if err != nil {
			return nil // cancelled, or published in the generation's place
		}
		if !built {
			select {
			case <-ctx.Done():
				return nil
			case <-c.wake:
			}
		}
	}
}

// step builds the first generation of the queue, if there is one. One that is
// not finished when ctx is cancelled stays in the queue, for whoever comes next.
func (c *Cache) step(ctx context.Context) (built bool, err error) {
	if err := pipeline.Send(ctx, c.turn, struct{}{}); err != nil { // one builds at a time
		return false, err
	}
	defer func() { <-c.turn }()
	g, frozen, before, ok := c.next()
	if !ok {
		return false, nil
	}
	snap, err := c.build(ctx, g, frozen, before)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.publish(g, snap, err)
	if err != nil {
		return false, err
	}
	c.queue = c.queue[1:]
	return true, nil
}

// next is the first generation of the queue, what to build it with and the one
// before it.
func (c *Cache) next() (g int32, frozen Embedder, before *Snapshot, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return 0, nil, nil, false
	}
	g = c.queue[0]
	return g, c.slots[g].frozen, c.before(g), true
}

// before is the newest snapshot older than g that is held; nil without one.
func (c *Cache) before(g int32) *Snapshot {
	var found *Snapshot
	for at, s := range c.slots {
		if at < g && s.snap != nil && (found == nil || at > found.Generation) {
			found = s.snap
		}
	}
	return found
}

// build makes generation g.
func (c *Cache) build(ctx context.Context, g int32, e Embedder, before *Snapshot) (*Snapshot, error) {
	if before != nil && (e == nil || c.builder.fingerprint(e) == before.Fingerprint) {
		return before.as(g), nil
	}
	if e == nil {
		return nil, fmt.Errorf("refresh generation %d: no older one is held", g)
	}
	var snap *Snapshot
	err := guard(fmt.Sprintf("%T", e), func() (err error) {
		snap, _, err = c.builder.Build(ctx, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("refresh generation %d: %w", g, err)
	}
	snap.Generation = g
	return snap, nil
}
