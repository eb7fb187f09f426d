package stages

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// start starts the task that builds generations, for one run of [Embed]. The
// run calls stop before it returns.
func (c *Cache) start(ctx context.Context) (stop func() error, err error) {
	if err := c.keepHeld(ctx); err != nil {
		return nil, err
	}
	if c.cfg.Every == 0 {
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
			c.slots[g].of = s.of
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
// one fails for good: then the run ends with it at its next batch.
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

// A refreshed is a generation that was made, and how.
type refreshed struct {
	snap    *Snapshot
	changed bool // its rows are not those of the one before
	drift   Drift
	took    time.Duration
	failed  error // why it has the rows of the one before, or is not in the store
}

// step builds the first generation of the queue, if there is one. One that is
// not finished when ctx is cancelled stays in the queue, for whoever comes next.
func (c *Cache) step(ctx context.Context) (built bool, err error) {
	if err := pipeline.Send(ctx, c.turn, struct{}{}); err != nil { // one builds at a time
		return false, err
	}
	defer func() { <-c.turn }()
	shared, lift := pipeline.WithShare(ctx, c.cfg.Share)
	g, of, before, ok := c.begin(lift)
	if !ok {
		return false, nil
	}
	made, err := c.make(shared, g, of, before)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lift, c.building = nil, 0
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	c.count(made, err)
	if err != nil {
		c.publish(g, nil, err)
		return false, err
	}
	c.publish(g, made.snap, nil)
	c.queue = c.queue[1:]
	return true, nil
}

// begin is the first generation of the queue, what to build it of and the one
// before it.
func (c *Cache) begin(lift func()) (g int32, of recipe, before *Snapshot, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return 0, of, nil, false
	}
	g = c.queue[0]
	if c.waiting > 0 {
		lift()
	}
	c.lift, c.building = lift, g
	return g, c.slots[g].of, c.before(g), true
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

// make builds generation g and keeps it on disk. Its error is one that ends
// the run.
func (c *Cache) make(ctx context.Context, g int32, of recipe, before *Snapshot) (made refreshed, err error) {
	start := time.Now()
	made.snap, err = c.build(ctx, g, of, before)
	if ctx.Err() != nil || err != nil && (c.cfg.StopOnFailure || before == nil) {
		return made, err
	}
	if err != nil {
		made.snap, made.failed, err = before.as(g), err, nil
		c.cfg.Log.Warn("refresh failed: the rows of the generation before stay in use", "generation", g, "error", made.failed)
	}
	if err := c.keep(ctx, made.snap); err != nil {
		if ctx.Err() != nil || c.cfg.StopOnFailure {
			return made, err
		}
		made.failed = errors.Join(made.failed, err)
		c.cfg.Log.Warn("generation is used but not kept: a restart goes on from an earlier one", "generation", g, "error", err)
	}
	made.changed = before == nil || made.snap.Digest != before.Digest
	if made.changed && before != nil {
		err = pipeline.InShare(ctx, func(context.Context) error {
			made.drift = driftOf(before, made.snap, c.probes, c.cfg.Drift.Loss)
			return nil
		})
	}
	made.took = time.Since(start)
	if made.changed {
		c.cfg.Log.Info("cache refreshed", "generation", g, "took", made.took.Round(time.Millisecond),
			"mean_cosine", made.drift.MeanCosine, "kind_changed", made.drift.KindChanged)
	}
	return made, err
}

// build makes generation g.
func (c *Cache) build(ctx context.Context, g int32, of recipe, before *Snapshot) (snap *Snapshot, err error) {
	switch {
	case of.failed != nil:
		return nil, of.failed
	case of.rows != nil:
		snap = of.rows.as(g)
		snap.cut = int64(g) * c.cfg.Every
	case of.embedder != nil && (before == nil || c.cfg.Builder.fingerprint(of.embedder) != embedderOf(before.Fingerprint)):
		err = guard(fmt.Sprintf("%T", of.embedder), func() (err error) {
			snap, _, err = c.cfg.Builder.Build(ctx, of.embedder)
			return err
		})
		if err == nil {
			snap.Generation, snap.cut = g, int64(g)*c.cfg.Every
		}
		if of.frozen {
			of.updates = nil
		}
	case before == nil:
		err = errors.New("no older one is held")
	default:
		snap = before.as(g)
	}
	if err == nil && len(of.updates) > 0 {
		err = pipeline.InShare(ctx, func(context.Context) error {
			snap, err = snap.with(of.updates)
			return err
		})
		if err == nil {
			snap.cut = int64(g) * c.cfg.Every
		}
	}
	if err != nil {
		return nil, fmt.Errorf("refresh generation %d: %w", g, err)
	}
	return snap, nil
}
