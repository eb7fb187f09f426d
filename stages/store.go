package stages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/tercet-ml/tercet/pipeline"
)

// A SnapshotStore keeps the generations of a cache where a restart finds them.
// A storage.Generations is one. It is called by one goroutine at a time.
type SnapshotStore interface {
	// Save keeps a generation, in place of one of that number. When it returns
	// nil the generation is there after whatever crash; when it does not, what
	// was there before still is.
	Save(ctx context.Context, g pipeline.Generation) error
	// Load returns a generation that was kept, whole and as it was saved; an
	// error that is fs.ErrNotExist where there is none of that number.
	Load(ctx context.Context, number int32) (pipeline.Generation, error)
	// Forget removes the generations above a number.
	Forget(ctx context.Context, above int32) error
}

// ReopenCache returns the cache of a run that is to go on at a state in another
// process, with the generations that cfg.Store has kept and that the state
// needs: a warm start. cfg.First is not used. Generations that were kept after
// the state are forgotten: what comes will make them again. Where the store has
// none for the state, the error is fs.ErrNotExist; where its rows are not those
// that the state names, it is a [*pipeline.StateError].
func ReopenCache(ctx context.Context, cfg CacheConfig, state pipeline.State) (*Cache, error) {
	if cfg.Store == nil {
		return nil, errors.New("stages: CacheConfig.Store is nil, want the one that the run has kept its generations in")
	}
	var newest int64
	if cfg.Every > 0 {
		newest = state.Next / cfg.Every
	}
	var kept []*Snapshot
	for g := max(0, newest-1); g <= newest; g++ {
		s, err := load(ctx, cfg.Store, int32(g))
		if errors.Is(err, fs.ErrNotExist) {
			continue // resume says so, if the state needs it
		}
		if err != nil {
			return nil, fmt.Errorf("reopen cache: %w", err)
		}
		s.cut = g * cfg.Every
		kept = append(kept, s)
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("reopen cache: generation %d, which batch %d needs, was not kept: %w", newest, state.Next, fs.ErrNotExist)
	}
	cfg.First = kept[0]
	c, err := NewCache(cfg)
	if err != nil {
		return nil, err
	}
	for _, s := range kept[1:] {
		if err := c.Restore(s); err != nil {
			return nil, fmt.Errorf("reopen cache: %w", err)
		}
	}
	if err := c.Check(state); err != nil {
		return nil, err
	}
	c.kept = true
	if err := cfg.Store.Forget(ctx, kept[len(kept)-1].Generation); err != nil {
		return nil, fmt.Errorf("reopen cache: %w", err)
	}
	return c, nil
}

func load(ctx context.Context, store SnapshotStore, number int32) (*Snapshot, error) {
	g, err := store.Load(ctx, number)
	if err != nil {
		return nil, err
	}
	if g.Rows.Dim < 1 || g.Number != number {
		return nil, fmt.Errorf("generation %d has rows of %d values and the number %d", number, g.Rows.Dim, g.Number)
	}
	return &Snapshot{
		Generation: number, Embeddings: g.Rows, Fingerprint: g.Fingerprint, Normalised: g.Normalised,
		Digest: digestRows(g.Rows, SnapshotConfig{Fingerprint: g.Fingerprint, Unscaled: !g.Normalised}),
	}, nil
}

// keep puts a generation in the store, if there is one.
func (c *Cache) keep(ctx context.Context, s *Snapshot) error {
	if c.cfg.Store == nil {
		return nil
	}
	g := pipeline.Generation{Number: s.Generation, Rows: s.Embeddings, Fingerprint: s.Fingerprint, Normalised: s.Normalised}
	err := guard(fmt.Sprintf("%T", c.cfg.Store), func() error { return c.cfg.Store.Save(ctx, g) })
	if err != nil {
		return fmt.Errorf("keep generation %d: %w", s.Generation, err)
	}
	return nil
}

// keepHeld puts what the cache began with in the store, before any batch uses
// it, in place of what an earlier run left there.
func (c *Cache) keepHeld(ctx context.Context) error {
	if c.cfg.Store == nil || c.kept {
		return nil
	}
	held := c.Held()
	for _, s := range held {
		if err := c.keep(ctx, s); err != nil {
			return err
		}
	}
	if err := c.cfg.Store.Forget(ctx, held[len(held)-1].Generation); err != nil {
		return err
	}
	c.kept = true
	return nil
}
