package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/tercet-ml/tercet/pipeline"
)

// A testHolder is a Holder that reads nothing but what is held.
type testHolder struct {
	planRows
	layout pipeline.Layout
	limit  int64 // of bytes
	bad    int   // this row group cannot be read; −1 for none
	mu     sync.Mutex
	held   map[int]int
	bytes  int64
	most   int64
	read   []int // row groups, in the order they were read
}

func newTestHolder(cfg PlanConfig) *testHolder {
	return &testHolder{planRows: planRows{labels: cfg.Labels}, layout: cfg.Layout, limit: cfg.Window, bad: -1, held: map[int]int{}}
}

var errHold = errors.New("cannot be read")

func (h *testHolder) Hold(ctx context.Context, g int) error {
	if g == h.bad {
		return errHold
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[g]++; h.held[g] == 1 {
		h.read = append(h.read, g)
		h.bytes += h.layout[g].Bytes
		h.most = max(h.most, h.bytes)
	}
	return nil
}

func (h *testHolder) Release(g int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[g]--; h.held[g] == 0 {
		h.bytes -= h.layout[g].Bytes
	}
}

func (h *testHolder) Read(ctx context.Context, ids []int64, dst []pipeline.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		if g := groupOf(h.layout, id); h.held[g] < 1 {
			return fmt.Errorf("row group %d is not held", g)
		}
	}
	return h.planRows.Read(ctx, ids, dst)
}

// fetchAll ranges over the batches of q, of which p is the plan that Fetch has.
func fetchAll(t *testing.T, p, q *Plan, h *testHolder, most int) error {
	t.Helper()
	n := q.next
	for b, err := range pipeline.From(q).Prefetch(2).Then(Fetch{Reader: h, Plan: p}).All(t.Context()) {
		if err != nil {
			return err
		}
		if b.Number != n || !slices.Equal(b.IDs, q.Batch(n, nil)) || len(b.Records) != len(b.IDs) || string(b.Records[3].Image) != fmt.Sprint(b.IDs[3]) {
			t.Fatalf("batch %d, want %d", b.Number, n)
		}
		if n++; n == q.next+int64(most) {
			break
		}
	}
	return nil
}

func TestFetchWindows(t *testing.T) {
	for name, cfg := range windowCases() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newTestPlan(t, cfg)
				for e := range int64(2) {
					h := newTestHolder(cfg)
					if err := fetchAll(t, p, p.Epoch(e), h, 0); err != nil {
						t.Fatal(err)
					}
					if slices.Sort(h.read); len(slices.Compact(slices.Clone(h.read))) != len(h.read) {
						t.Errorf("row groups were read more than once: %v", h.read)
					}
					if h.most > cfg.Window || h.bytes != 0 || h.most == 0 {
						t.Errorf("held up to %d bytes and at last %d, the budget is %d", h.most, h.bytes, cfg.Window)
					}
				}
			})
		})
	}
}

// TestFetchWindowsStops: whatever ends the loop, nothing is held afterwards.
func TestFetchWindowsStops(t *testing.T) {
	cfg := windowCases()["uneven classes, sorted"]
	p := newTestPlan(t, cfg)
	for most := 1; most < int(p.Steps()); most += 13 {
		synctest.Test(t, func(t *testing.T) {
			h := newTestHolder(cfg)
			if err := fetchAll(t, p, p, h, most); err != nil || h.bytes != 0 {
				t.Errorf("left after %d batches: %v, %d bytes are held", most, err, h.bytes)
			}
		})
	}
	for _, b := range []int64{0, p.Steps() / 2, p.Steps() - 1} {
		w, _ := p.Window(b)
		h := newTestHolder(cfg)
		h.bad = groupOf(cfg.Layout, p.Batch(b, nil)[0])
		if err := fetchAll(t, p, p, h, 0); !errors.Is(err, errHold) || h.bytes != 0 {
			t.Errorf("row group %d of window %v is bad: %v, %d bytes are held", h.bad, w.Groups, err, h.bytes)
		}
	}
}

// TestFetchWindowsResumed: a run that begins within a window reads no more than
// the rest of it needs.
func TestFetchWindowsResumed(t *testing.T) {
	cfg := windowCases()["many classes, sorted"]
	p := newTestPlan(t, cfg)
	for b := int64(1); b < p.Steps(); b += 17 {
		q, err := p.At(p.stateAt(b))
		if err != nil {
			t.Fatal(err)
		}
		h := newTestHolder(cfg)
		if err := fetchAll(t, p, q, h, 0); err != nil {
			t.Fatal(err)
		}
		needed := map[int]bool{}
		for n := b; n < p.Steps(); n++ {
			for _, id := range p.Batch(n, nil) {
				needed[groupOf(cfg.Layout, id)] = true
			}
		}
		for _, g := range h.read {
			if !needed[g] {
				t.Fatalf("from batch %d on, row group %d was read for nothing", b, g)
			}
		}
		if len(h.read) != len(needed) {
			t.Fatalf("from batch %d on, %d row groups were read, want %d", b, len(h.read), len(needed))
		}
	}
}

// TestFetchWindowsExtra: a mined negative is read wherever it is, also in a row
// group of the window that no batch was planned with.
func TestFetchWindowsExtra(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := windowCases()["ten classes, sorted"]
		p := newTestPlan(t, cfg)
		w, _ := p.Window(0)
		last := w.To - 1 // a run that begins here needs few of the window's row groups
		ids := p.Batch(last, nil)
		planned := len(ids)
		for _, g := range w.Groups {
			ids = append(ids, cfg.Layout[g].First)
		}
		b := &pipeline.Batch{Number: last, P: cfg.P, K: cfg.K, IDs: ids, Extra: len(ids) - planned}
		for _, id := range ids {
			b.Labels = append(b.Labels, cfg.Labels[id])
		}
		h := newTestHolder(cfg)
		n := 0
		for b, err := range pipeline.From(pipeline.Slice([]*pipeline.Batch{b})).Then(Fetch{Reader: anyRows{h}, Plan: p}).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			n += len(b.Records)
		}
		if n != len(ids) || h.bytes != 0 {
			t.Errorf("%d of %d records, %d bytes are held", n, len(ids), h.bytes)
		}
	})
}

// anyRows is a Holder that also reads what is not held.
type anyRows struct{ *testHolder }

func (a anyRows) Read(ctx context.Context, ids []int64, dst []pipeline.Record) error {
	return a.planRows.Read(ctx, ids, dst)
}
