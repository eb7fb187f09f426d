package storage

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tercet-ml/tercet/pipeline"
)

// Read fills dst[i] with the record of sample ids[i], in any order, repeats
// allowed. Each Image is dst's own. The rows of a row group that is held
// ([Dataset.Hold]) are in memory. Any other row group is read once, as a whole, as
// long as it stays in the cache of Config.Memory bytes. Of one that is larger
// than the cache, or that has a fault in it, only the rows asked for are read
// and nothing is kept: a bad row is an error for those who ask for it. Row
// groups are read by Config.Workers at a time. After an error dst is unspecified.
func (d *Dataset) Read(ctx context.Context, ids []int64, dst []pipeline.Record) error {
	if err := d.usable(); err != nil {
		return err
	}
	if len(dst) != len(ids) {
		return fmt.Errorf("storage: Read of %d ids into %d records", len(ids), len(dst))
	}
	order := make([]int, len(ids)) // positions by id
	for i, id := range ids {
		if id < 0 || id >= d.rows {
			return fmt.Errorf("storage: sample id %d in a data set of %d rows", id, d.rows)
		}
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(ids[a] - ids[b]) })
	type run struct {
		part      int
		positions []int
	}
	var runs []run
	for len(order) > 0 {
		p := d.partOf(ids[order[0]])
		end := d.parts[p].first + d.parts[p].rows
		n := 1
		for n < len(order) && ids[order[n]] < end {
			n++
		}
		runs = append(runs, run{p, order[:n]})
		order = order[n:]
	}
	return pipeline.ForEach(ctx, d.cfg.Workers, len(runs), func(ctx context.Context, i int) error {
		return d.readPart(ctx, runs[i].part, runs[i].positions, ids, dst)
	})
}

// readPart fills the given positions of dst, which are of one part and in the
// order of their ids.
func (d *Dataset) readPart(ctx context.Context, part int, positions []int, ids []int64, dst []pipeline.Record) error {
	if d.readHeld(part, positions, ids, dst) {
		return nil
	}
	recs, err := d.cache.get(part, func(limit int64) ([]pipeline.Record, int64, error) {
		var all []pipeline.Record
		var size int64
		for recs, err := range d.records(ctx, part, nil) {
			if _, bad := errors.AsType[*RowError](err); bad && ofContent(err) {
				return nil, 0, nil
			}
			if err != nil {
				return nil, 0, err
			}
			for _, r := range recs {
				size += recordSize(r)
			}
			if size > limit {
				return nil, 0, nil
			}
			all = append(all, recs...)
		}
		return all, size, nil
	})
	if err != nil {
		return err
	}
	first := d.parts[part].first
	if recs != nil {
		for _, at := range positions {
			dst[at] = copyRecord(recs[ids[at]-first])
		}
		return nil
	}
	var rows []int64
	for _, at := range positions {
		if row := ids[at] - first; len(rows) == 0 || rows[len(rows)-1] != row {
			rows = append(rows, row)
		}
	}
	for recs, err := range d.records(ctx, part, rows) {
		if err != nil {
			return err
		}
		for _, r := range recs {
			for own := true; len(positions) > 0 && ids[positions[0]] == r.ID; positions, own = positions[1:], false {
				if own {
					dst[positions[0]] = r
				} else {
					dst[positions[0]] = copyRecord(r)
				}
			}
		}
	}
	return nil
}

func copyRecord(r pipeline.Record) pipeline.Record {
	r.Image = slices.Clone(r.Image)
	return r
}

// recordSize is what a record takes in memory, with its bookkeeping.
func recordSize(r pipeline.Record) int64 {
	const fixed = 192 // of the Record and of its allocations
	return int64(len(r.Image)+len(r.Path)) + fixed
}

// A groupCache keeps the records of the row groups that were used last.
type groupCache struct {
	mu     sync.Mutex
	limit  int64 // bytes
	used   int64
	groups map[int]*cachedGroup // by part
	recent list.List            // of those in memory; the one used last in front
}

// A cachedGroup is one row group. Who loads it holds loading; those who come
// meanwhile wait and find it loaded.
type cachedGroup struct {
	part    int
	loading sync.Mutex
	recs    []pipeline.Record
	apart   bool // recs stay nil: they do not fit, or not all can be read

	size int64         // of recs
	elem *list.Element // in recent; both under groupCache.mu
}

func newGroupCache(limit int64) *groupCache {
	return &groupCache{limit: limit, groups: make(map[int]*cachedGroup)}
}

// get returns the records of a part, in row order and not to be changed; nil
// where they cannot be kept, which is found out once. load gets the number of
// bytes that fit and returns nil records where there are more.
func (c *groupCache) get(part int, load func(limit int64) ([]pipeline.Record, int64, error)) ([]pipeline.Record, error) {
	g := c.touch(part)
	g.loading.Lock()
	defer g.loading.Unlock()
	if g.recs != nil || g.apart {
		return g.recs, nil
	}
	recs, size, err := load(c.limit)
	if err != nil {
		return nil, err
	}
	if recs == nil {
		g.apart = true
		return nil, nil
	}
	g.recs = recs
	c.add(g, size)
	return recs, nil
}

// touch finds or makes the entry of a part and marks it as used.
func (c *groupCache) touch(part int) *cachedGroup {
	c.mu.Lock()
	defer c.mu.Unlock()
	g, ok := c.groups[part]
	if !ok {
		g = &cachedGroup{part: part}
		c.groups[part] = g
	}
	if g.elem != nil {
		c.recent.MoveToFront(g.elem)
	}
	return g
}

// add counts a group that was loaded, and forgets those used least recently
// until all fit. Callers that hold a forgotten one keep it while they need it.
func (c *groupCache) add(g *cachedGroup, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.size, g.elem = size, c.recent.PushFront(g)
	c.used += size
	for c.used > c.limit && c.recent.Len() > 1 {
		old := c.recent.Remove(c.recent.Back()).(*cachedGroup)
		c.used -= old.size
		delete(c.groups, old.part)
	}
}
