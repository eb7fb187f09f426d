package stages

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/tercet-ml/tercet/pipeline"
)

// PoolsConfig configures [Pools].
type PoolsConfig struct {
	P        int    // classes in a batch: 1 or more
	K        int    // images of each: 2 or more
	Memory   int64  // bytes of rows that may wait; default 256 MiB
	Patience int64  // rows that may come without a batch before that is an error; default 1,000,000
	Data     string // identity of the stream: part of every State
}

// Pools make batches of P classes × K images of rows that arrive for ever, in
// whatever order. Every row waits in the pool of its class. What becomes of it
// is a function of the rows that came before, and of nothing else:
//
//   - A class is ready while K of its rows or more wait. When P classes are
//     ready, those that have been so for the longest make a batch of their K
//     oldest rows. One that is still ready then waits behind the others.
//   - A row that does not fit in Memory displaces others until it does: of the
//     ready class in which the most wait, of several the one that has been ready
//     for the longest, the oldest row, while more than K wait in it; and where
//     no class has more than K, all rows of the class with fewer that has had
//     neither a new row nor a batch for the longest.
//   - Rows of unknown class are dropped, and so are those that wait when the
//     stream ends.
//
// [Pools.Report] counts what was dropped, by reason. Where all that waits is K
// rows each of fewer than P classes, Memory is too small for any batch, and where
// Patience rows have come without one there may never be one: both are errors.
//
// Pools are a [pipeline.Stage] from Records to batches with Number, P, K, IDs,
// Labels and Records. They read on when a batch was taken: whoever sends the
// rows waits for the trainer. The State of its batches says how many there
// were; a stream cannot be gone back to.
type Pools struct {
	cfg PoolsConfig

	mu     sync.Mutex
	report PoolsReport
}

// A PoolsReport counts the rows of [Pools].
type PoolsReport struct {
	Rows    int64 `json:"rows"`    // that have come
	Batches int64 `json:"batches"` // that were made
	Images  int64 `json:"images"`  // rows in those
	Unknown int64 `json:"unknown"` // rows dropped: without a class
	Surplus int64 `json:"surplus"` // rows dropped: more than K of their class waited for others
	Short   int64 `json:"short"`   // rows dropped: fewer than K of their class came in time
	End     int64 `json:"end"`     // rows dropped: the stream ended
	Waiting int64 `json:"waiting"` // rows
	Bytes   int64 `json:"bytes"`   // of memory that those take
}

// NewPools checks cfg.
func NewPools(cfg PoolsConfig) (*Pools, error) {
	if cfg.Memory == 0 {
		cfg.Memory = 256 << 20
	}
	if cfg.Patience == 0 {
		cfg.Patience = 1_000_000
	}
	switch {
	case cfg.P < 1:
		return nil, usage("PoolsConfig.P", "is %d, want 1 class or more", cfg.P)
	case cfg.K < 2:
		return nil, usage("PoolsConfig.K", "is %d, want 2 images or more: an anchor and its positive", cfg.K)
	case cfg.P > maxBatch/cfg.K:
		return nil, usage("PoolsConfig.P", "is %d and K is %d, want at most %d images in a batch", cfg.P, cfg.K, maxBatch)
	case cfg.Memory < 0:
		return nil, usage("PoolsConfig.Memory", "is %d, want a number of bytes", cfg.Memory)
	case cfg.Patience < int64(cfg.P)*int64(cfg.K):
		return nil, usage("PoolsConfig.Patience", "is %d rows, want at least the %d of a batch", cfg.Patience, cfg.P*cfg.K)
	}
	return &Pools{cfg: cfg}, nil
}

// Report counts the rows so far. It may be called while they run.
func (p *Pools) Report() PoolsReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.report
}

// Run implements [pipeline.Stage].
func (p *Pools) Run(ctx context.Context, in <-chan pipeline.Record, out chan<- *pipeline.Batch) error {
	p.mu.Lock()
	p.report = PoolsReport{}
	p.mu.Unlock()
	w := waiting{p: p, classes: map[int32]*waitingClass{}}
	for r, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		b, err := w.add(r)
		if err != nil {
			return err
		}
		if b == nil {
			continue
		}
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	w.end()
	return nil
}

// waiting is the rows that wait.
type waiting struct {
	p       *Pools
	classes map[int32]*waitingClass
	ready   []*waitingClass // with K rows or more, in the order they became so; fewer than P between two rows
	short   list.List       // the others, from the one that has been without a row or batch for the longest
	without int64           // rows since the last batch
}

// A waitingClass is the rows of a class, the oldest first.
type waitingClass struct {
	label int32
	rows  []pipeline.Record
	elem  *list.Element // in short; nil for one that is ready
}

// rowBytes is what a waiting row takes in memory, with its bookkeeping.
func rowBytes(r pipeline.Record) int64 {
	const fixed = 256
	return int64(len(r.Image)+len(r.Path)) + fixed
}

// add lets a row wait, and makes a batch where it completes one.
func (w *waiting) add(r pipeline.Record) (*pipeline.Batch, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	cfg, report := w.p.cfg, &w.p.report
	report.Rows++
	if w.without++; w.without > cfg.Patience {
		return nil, &pipeline.RowError{Location: r.Where, Err: fmt.Errorf(
			"stages: %d rows have come without a batch: of the %d classes that wait, %d have K = %d rows, want P = %d (%d rows were dropped for want of memory): lower P or K, allow more memory, or mix the stream",
			cfg.Patience, len(w.classes), len(w.ready), cfg.K, cfg.P, report.Surplus+report.Short)}
	}
	if r.Label == pipeline.Unknown {
		report.Unknown++
		return nil, nil
	}
	size := rowBytes(r)
	if size > cfg.Memory {
		return nil, &pipeline.RowError{Location: r.Where, Err: fmt.Errorf("stages: the row takes %d bytes, and PoolsConfig.Memory is %d: allow more memory", size, cfg.Memory)}
	}
	for report.Bytes+size > cfg.Memory {
		if !w.displace() {
			return nil, &pipeline.RowError{Location: r.Where, Err: fmt.Errorf(
				"stages: PoolsConfig.Memory of %d bytes holds K = %d rows of %d classes and not one more, want P = %d: allow more memory, or lower P or K",
				cfg.Memory, cfg.K, len(w.ready), cfg.P)}
		}
	}
	c := w.classes[r.Label]
	if c == nil {
		c = &waitingClass{label: r.Label}
		c.elem = w.short.PushBack(c)
		w.classes[r.Label] = c
	}
	c.rows = append(c.rows, r)
	report.Waiting++
	report.Bytes += size
	switch {
	case c.elem != nil && len(c.rows) >= cfg.K:
		w.short.Remove(c.elem)
		c.elem = nil
		w.ready = append(w.ready, c)
	case c.elem != nil:
		w.short.MoveToBack(c.elem)
	}
	if len(w.ready) < cfg.P {
		return nil, nil
	}
	return w.batch(), nil
}

// displace drops what has to make room; false where there is nothing that may.
func (w *waiting) displace() bool {
	report := &w.p.report
	var most *waitingClass
	for _, c := range w.ready {
		if len(c.rows) > w.p.cfg.K && (most == nil || len(c.rows) > len(most.rows)) {
			most = c
		}
	}
	if most != nil {
		w.take(most, 1)
		report.Surplus++
		return true
	}
	oldest := w.short.Front()
	if oldest == nil {
		return false
	}
	c := oldest.Value.(*waitingClass)
	report.Short += int64(len(c.rows))
	w.take(c, len(c.rows))
	w.short.Remove(oldest)
	delete(w.classes, c.label)
	return true
}

// take removes the n oldest rows of c, which the caller has had.
func (w *waiting) take(c *waitingClass, n int) {
	for i := range c.rows[:n] {
		w.p.report.Bytes -= rowBytes(c.rows[i])
		c.rows[i] = pipeline.Record{} // the slice lives on
	}
	w.p.report.Waiting -= int64(n)
	c.rows = c.rows[n:]
}

// batch makes a batch of the first P ready classes.
func (w *waiting) batch() *pipeline.Batch {
	cfg, report := w.p.cfg, &w.p.report
	b := pipeline.NewBatch()
	b.Number, b.P, b.K = report.Batches, cfg.P, cfg.K
	dealt := w.ready[:cfg.P]
	w.ready = append([]*waitingClass(nil), w.ready[cfg.P:]...)
	for _, c := range dealt {
		for _, r := range c.rows[:cfg.K] {
			b.IDs = append(b.IDs, r.ID)
			b.Labels = append(b.Labels, r.Label)
			b.Records = append(b.Records, r)
		}
		w.take(c, cfg.K)
		switch {
		case len(c.rows) >= cfg.K:
			w.ready = append(w.ready, c)
		case len(c.rows) == 0:
			delete(w.classes, c.label)
		default:
			c.elem = w.short.PushBack(c)
		}
	}
	report.Batches++
	report.Images += int64(len(b.IDs))
	w.without = 0
	b.Stamp(pipeline.State{
		Format: pipeline.StateFormat,
		Data:   cfg.Data,
		Config: pipeline.Digest("pools", cfg),
		Next:   report.Batches,
	})
	return b
}

// end drops what waits.
func (w *waiting) end() {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	report := &w.p.report
	report.End = report.Waiting
	report.Waiting, report.Bytes = 0, 0
}
