package pipeline

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Meter counts what the stages of a run do, for progress lines and summaries.
// All its methods may be called from any goroutine, and on a nil Meter, which
// counts nothing.
type Meter struct {
	mu     sync.Mutex
	timers []*Timer
	queues []queue
}

// A queue is the values that a stage has ready.
type queue struct {
	stage string
	room  int
	depth func() int
}

// Timer returns the timer of that name, made on first use.
func (m *Meter) Timer(name string) *Timer {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.timers {
		if t.name == name {
			return t
		}
	}
	t := &Timer{name: name}
	m.timers = append(m.timers, t)
	return t
}

// Timings are all timers in the order of their first use.
func (m *Meter) Timings() []Timing {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Timing, len(m.timers))
	for i, t := range m.timers {
		all[i] = Timing{Name: t.name, Items: t.items.Load(), Busy: time.Duration(t.busy.Load())}
	}
	return all
}

// queue makes depth the queue of that stage, in place of that of an earlier run.
func (m *Meter) queue(stage string, room int, depth func() int) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.queues {
		if m.queues[i].stage == stage {
			m.queues[i] = queue{stage, room, depth}
			return
		}
	}
	m.queues = append(m.queues, queue{stage, room, depth})
}

// Queues are the queues behind the stages of metered flows, in the order of the
// flow. An empty one means that its reader waits, a full one that its stage does.
func (m *Meter) Queues() []Queue {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Queue, len(m.queues))
	for i, q := range m.queues {
		all[i] = Queue{q.stage, q.depth(), q.room}
	}
	return all
}

// A Queue is what waits behind a stage for the next one.
type Queue struct {
	Stage string `json:"stage"` // its type, such as *stages.Decode
	Depth int    `json:"depth"` // values that are ready
	Room  int    `json:"room"`  // as many as may be: see [Flow.Prefetch]
}

// A Timing is what a [Timer] has counted.
type Timing struct {
	Name  string
	Items int64
	Busy  time.Duration // summed over workers, so it can exceed the time on the wall
}

// A Timer adds up the items and the working time of one stage.
type Timer struct {
	name        string
	items, busy atomic.Int64
}

// Add counts n items that were worked on since start. Use it as
//
//	defer t.Add(n, time.Now())
func (t *Timer) Add(n int, start time.Time) {
	if t == nil {
		return
	}
	t.items.Add(int64(n))
	t.busy.Add(int64(time.Since(start)))
}
