package stages

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// CacheConfig configures a [Cache]. Share, Store, Drift and Log do not change
// what any batch uses.
type CacheConfig struct {
	First         *Snapshot     // what batch 0 uses; required (see also [ReopenCache])
	Every         int64         // R: a new generation every R batches, such as [Plan.Steps] for one an epoch; 0: never
	Lag           int64         // 0: batch g·R waits for generation g; 1: it goes on with the one before while g is built
	Builder       *Builder      // makes the new generations; required where Every is not 0 and an Embedder is given
	Embedder      Embedder      // what a refresh embeds with, until [Cache.Refresh] hands in another; nil: only what is handed in
	Share         float64       // part of the machine's cores a refresh keeps to while no batch waits for it, 0 < Share ≤ 1; default 0.5. See [pipeline.WithShare]
	Store         SnapshotStore // keeps each generation on disk before any batch uses it; nil: nothing is kept
	StopOnFailure bool          // a refresh that fails ends the run; default: its generation has the rows of the one before
	Drift         DriftConfig   // what to compare generations by, beside their rows
	Log           *slog.Logger  // says what was refreshed, and what failed; default slog.Default()
}

// A Cache holds one embedding per sample, in generations. The one that batch b
// uses depends on b alone:
//
//	g(b) = max(0, b/R − Lag)
//
// never on which is newest. Generation g is made of the weights as they are
// when the loop body of batch g·R−1 ends, of R·g steps: there the embedder is
// frozen, and all rows are computed anew beside the stream, by a task that
// belongs to the run of the [Embed] stage. With Lag 0 batch g·R waits for it,
// with Lag 1 only batch (g+1)·R does.
//
// On demand: what [Cache.Refresh], [Cache.Replace] and [Cache.Update] are given
// during the bodies of batches (g−1)·R to g·R−1 is what generation g is made
// of; [Cache.Next] says which one that is. So no call reaches a batch that was
// prefetched. Where there is nothing new, by the embedder's fingerprint,
// generation g has the rows of the one before and costs nothing.
//
// A refresh that fails is logged and counted, and generation g has the rows of
// the one before; the next one is tried afresh.
//
// At most two generations are held, and one more while it is built. All methods
// may be called from any goroutine.
type Cache struct {
	cfg     CacheConfig
	samples int
	probes  []probe       // for the drift
	wake    chan struct{} // holds a token when there may be something to build
	turn    chan struct{} // holds a token while somebody builds

	mu       sync.Mutex
	slots    map[int32]*slot
	newest   int32   // the highest generation whose content is settled
	seen     int64   // the highest batch of the steps that were embedded; −1 before the first
	world    int64   // ranks that step together, as far as seen; 1 or more
	body     int64   // first batch of the step whose loop body runs, or ran last; −1 before the first
	queue    []int32 // generations to build, in order
	next     recipe  // what the next generation is made of
	running  bool
	kept     bool   // what was held at the start is in the store
	waiting  int    // batches that wait for a generation
	lift     func() // ends the limit of the build that is going on; nil without one
	building int32  // the generation it builds; 0 without one
	counters cacheCounters
}

// A recipe is what a generation is made of, the later on top of the former.
// Without any of it, it has the rows of the one before.
type recipe struct {
	embedder Embedder    // to embed all samples with; nil: none
	rows     *Snapshot   // or these rows
	frozen   bool        // it was frozen when all the updates had been made
	updates  []rowUpdate // or some rows, in the order of their batches
	failed   error       // why there is nothing new
}

// A slot is a generation that is there, will be, or failed. snap and err are
// set before ready happens and not written after.
type slot struct {
	ready *pipeline.Event
	of    recipe
	snap  *Snapshot
	err   error
}

func newSlot() *slot { return &slot{ready: pipeline.NewEvent()} }

func (s *slot) done() bool { return s.snap != nil || s.err != nil }

// NewCache checks cfg and returns a cache that holds cfg.First.
func NewCache(cfg CacheConfig) (*Cache, error) {
	if cfg.Share == 0 {
		cfg.Share = 0.5
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	switch {
	case cfg.First == nil:
		return nil, errors.New("stages: CacheConfig.First is nil, want a snapshot")
	case cfg.Every < 0:
		return nil, fmt.Errorf("stages: CacheConfig.Every is %d, want 0 or more", cfg.Every)
	case cfg.Lag != 0 && cfg.Lag != 1:
		return nil, fmt.Errorf("stages: CacheConfig.Lag is %d, want 0 or 1", cfg.Lag)
	case cfg.Every > 0 && cfg.Embedder != nil && cfg.Builder == nil:
		return nil, errors.New("stages: CacheConfig.Builder is nil, want one to refresh with the Embedder")
	case !(cfg.Share > 0 && cfg.Share <= 1):
		return nil, fmt.Errorf("stages: CacheConfig.Share is %v, want more than 0 and at most 1", cfg.Share)
	}
	c := &Cache{
		cfg:     cfg,
		samples: cfg.First.Embeddings.Len(),
		seen:    -1,
		world:   1,
		body:    -1,
		wake:    make(chan struct{}, 1),
		turn:    make(chan struct{}, 1),
		slots:   make(map[int32]*slot),
		next:    recipe{embedder: cfg.Embedder},
	}
	var err error
	if c.probes, err = cfg.Drift.probes(c.samples); err != nil {
		return nil, err
	}
	c.cfg.First = nil // or it would be held for ever
	return c, c.Restore(cfg.First)
}

// Generation is the generation that batch b uses.
func (c *Cache) Generation(b int64) int32 {
	if c.cfg.Every == 0 {
		return 0
	}
	return int32(max(0, b/c.cfg.Every-c.cfg.Lag))
}

// Fingerprint is a digest of what decides which generation a batch uses: a part
// of [PlanConfig].Config, so that a State is refused where R or Lag differ.
func (c *Cache) Fingerprint() string {
	return pipeline.Digest("cache 1", []int64{c.cfg.Every, c.cfg.Lag})
}

// Len is N, the number of samples.
func (c *Cache) Len() int { return c.samples }

// Snapshot waits until the generation of batch b is there and returns it. Its
// error is the failed refresh's, the one that ctx was cancelled with, or that
// the generation is held no longer.
func (c *Cache) Snapshot(ctx context.Context, b int64) (*Snapshot, error) {
	g := c.Generation(b)
	c.mu.Lock()
	for _, early := range slices.Sorted(maps.Keys(c.slots)) {
		if s := c.slots[early]; s.err != nil { // do not train on for a refresh that will not come
			c.mu.Unlock()
			return nil, s.err
		}
	}
	s := c.slots[g]
	if s == nil && g <= c.newest {
		c.mu.Unlock()
		return nil, fmt.Errorf("generation %d of the cache is not held: restore its snapshot", g)
	}
	if s == nil {
		s = newSlot()
		c.slots[g] = s
	}
	if s.done() {
		c.mu.Unlock()
		return s.snap, s.err
	}
	c.waiting++
	if c.lift != nil {
		c.lift() // nothing goes on that a refresh could starve
	}
	start := time.Now()
	c.mu.Unlock()
	err := s.ready.Wait(ctx)
	c.mu.Lock()
	c.waiting--
	c.counters.waited += time.Since(start)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return s.snap, s.err
}

// Settled waits until every generation that is settled is built, by the run or
// here, and returns those that are held, oldest first: with the State, the
// weights and [Cache.Restore], what it takes to go on in another process. It is
// called in the loop body, or after the loop. Rows that were handed to
// [Cache.Update] since the last generation are not part of any: see [Cache.Pending].
func (c *Cache) Settled(ctx context.Context) ([]*Snapshot, error) {
	c.mu.Lock()
	c.waiting++
	if c.lift != nil {
		c.lift()
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.waiting--
		c.mu.Unlock()
	}()
	for {
		built, err := c.step(ctx)
		if err != nil {
			return nil, err
		}
		if !built {
			return c.Held(), nil
		}
	}
}

// Held are the snapshots that are there now, oldest first.
func (c *Cache) Held() []*Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	var held []*Snapshot
	for _, g := range slices.Sorted(maps.Keys(c.slots)) {
		if s := c.slots[g]; s.snap != nil {
			held = append(held, s.snap)
		}
	}
	return held
}

// Restore puts a snapshot of a run that is to be resumed in its place. It is
// called before the flow is ranged over. A snapshot of another number of
// samples is an error.
func (c *Cache) Restore(s *Snapshot) error {
	if n := s.Embeddings.Len(); n != c.samples {
		return fmt.Errorf("snapshot of generation %d has %d rows, want %d: one for each sample", s.Generation, n, c.samples)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newest = max(c.newest, s.Generation)
	c.publish(s.Generation, s, nil)
	return nil
}

// Check compares a state with the cache and returns a [*pipeline.StateError]
// when the batch before state.Next used another generation than it would here,
// or other rows, as far as they are held.
func (c *Cache) Check(state pipeline.State) error {
	if state.Next == 0 || state.Snapshot == "" {
		return nil
	}
	if g := c.Generation(state.Next - 1); g != state.Generation {
		return &pipeline.StateError{Field: "generation", Have: fmt.Sprint(state.Generation), Want: fmt.Sprint(g)}
	}
	for _, s := range c.Held() {
		if s.Generation == state.Generation && s.Digest != state.Snapshot {
			return &pipeline.StateError{Field: "snapshot", Have: state.Snapshot, Want: s.Digest}
		}
	}
	return nil
}

// publish makes generation g happen: s, or the error that took its place. c.mu
// is held. Generations that no batch can use any more go to the collector.
func (c *Cache) publish(g int32, s *Snapshot, err error) {
	place := c.slots[g]
	if place == nil || place.done() {
		place = newSlot()
		c.slots[g] = place
	}
	place.snap, place.err = s, err
	place.ready.Set()
	if err != nil {
		return // and the old generation stays
	}
	place.of = recipe{}
	// When g was settled all batches before the step of g·R had been returned.
	// Those from g·R on use g−1 at the least, others of that step what is theirs.
	least := min(g-1, c.Generation(max(0, int64(g)*c.cfg.Every-c.world+1)))
	maps.DeleteFunc(c.slots, func(old int32, _ *slot) bool { return old < least })
	c.queue = slices.DeleteFunc(c.queue, func(old int32) bool { return old < least })
}
