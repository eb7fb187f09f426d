package stages

import (
	"maps"
	"slices"
	"time"
)

// CacheStats say what a cache holds and how its refreshes go.
type CacheStats struct {
	Generation int32   `json:"generation"` // the newest that is there
	Held       int     `json:"held"`       // generations in memory
	Batch      int64   `json:"batch"`      // the highest that was embedded; −1 before the first
	Age        int64   `json:"age"`        // batches from where the weights of that batch's generation were frozen, or its newest rows made, to that batch
	Refreshed  int64   `json:"refreshed"`  // generations that were made, by whatever means
	Unchanged  int64   `json:"unchanged"`  // generations for which there was nothing new
	Failed     int64   `json:"failed"`     // generations that failed and have the rows of the one before, or were not kept
	Error      string  `json:"error,omitempty"`
	Pending    int     `json:"pending"`       // rows given to Update for a generation to come
	Waited     float64 `json:"waited"`        // seconds that batches have waited for a generation
	Took       float64 `json:"took"`          // seconds that the last refresh took
	SinceLast  float64 `json:"since_last"`    // seconds since then; 0 before the first
	Drift      Drift   `json:"drift"`         // of the last refresh that changed rows
	Building   int32   `json:"building"`      // the generation that is being built; 0 while none is
	Done       int     `json:"building_done"` // samples of it that are embedded
	Total      int     `json:"building_total"`
	Norms      Sketch  `json:"-"` // lengths of the newest rows before they were scaled
}

// cacheCounters are what the statistics add up.
type cacheCounters struct {
	refreshed, unchanged, failed int64
	lastError                    error
	waited, took                 time.Duration
	last                         time.Time
	drift                        Drift
}

// count counts how a generation came about. c.mu is held.
func (c *Cache) count(made refreshed, err error) {
	n := &c.counters
	if made.failed != nil {
		err = made.failed
	}
	switch {
	case err != nil:
		n.failed++
		n.lastError = err
	case made.changed:
		n.refreshed++
	default:
		n.unchanged++
	}
	if made.changed {
		n.took, n.last, n.drift = made.took, time.Now(), made.drift
	}
}

// Stats are the statistics of this moment.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counters
	s := CacheStats{
		Batch: c.seen, Refreshed: n.refreshed, Unchanged: n.unchanged, Failed: n.failed,
		Waited: n.waited.Seconds(), Took: n.took.Seconds(), Drift: n.drift,
	}
	if n.lastError != nil {
		s.Error = n.lastError.Error()
	}
	if !n.last.IsZero() {
		s.SinceLast = time.Since(n.last).Seconds()
	}
	for _, u := range c.next.updates {
		s.Pending += len(u.ids)
	}
	var newest *Snapshot
	for _, g := range slices.Sorted(maps.Keys(c.slots)) {
		held := c.slots[g].snap
		if held == nil {
			continue
		}
		s.Held++
		newest = held
		if s.Held == 1 || g <= c.Generation(max(c.seen, 0)) {
			s.Age = max(c.seen, 0) - held.cut
		}
	}
	s.Generation, s.Norms = newest.Generation, newest.Norms
	if s.Building = c.building; s.Building > 0 {
		if c.cfg.Builder != nil {
			s.Done, s.Total = c.cfg.Builder.Progress()
		}
	}
	return s
}
