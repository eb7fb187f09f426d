package stages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// A refresh that fails leaves the old rows in use, says so, and the next one is
// tried afresh.
func TestFailedRefreshKeepsTheOldRows(t *testing.T) {
	full := errors.New("device is full")
	for _, lag := range []int64{0, 1} {
		for name, fail := range map[string]func(int64) error{
			"error": func(w int64) error { return full },
			"panic": func(w int64) error { panic(full) },
		} {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				m := &model{weight: new(atomic.Int64), fail: func(w int64) error {
					if w == 6 {
						return fail(w)
					}
					return nil
				}}
				c := newCache(t, 3, lag, learning{m})
				c.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
				got, err := train(t.Context(), c, m, 0, 30, 2, nil)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				rows := func(b int64) string { return got[b][strings.Index(got[b], "["):] }
				first := 3 * (1 + lag) // where generation 1 is used first
				if rows(first) != rows(first+3) || rows(first) == rows(first-1) || rows(first+3) == rows(first+6) {
					t.Errorf("%s, lag %d: batches used %v", name, lag, got[:12])
				}
				if s := c.Stats(); s.Failed != 1 || !strings.Contains(s.Error, "refresh generation 2: ") || s.Refreshed < 7 {
					t.Errorf("%s: statistics are %+v, want one failure, of generation 2", name, s)
				}
				if text := log.String(); !strings.Contains(text, "refresh failed") || !strings.Contains(text, "generation=2") || !strings.Contains(text, "device is full") {
					t.Errorf("%s: log says %q", name, text)
				}
			})
		}
	}
}

func TestFailedFreezeKeepsTheOldRows(t *testing.T) {
	m := &model{weight: new(atomic.Int64)}
	c := newCache(t, 3, 1, notFreezing{m})
	if _, err := train(t.Context(), c, m, 0, 12, 0, nil); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Failed < 2 || !strings.Contains(s.Error, "weights are on another machine") || s.Age != 11 {
		t.Errorf("statistics are %+v, want failures and rows 11 batches old", s)
	}
}

// A store that lives in memory, and can be made to fail.
type memoryStore struct {
	kept map[int32]pipeline.Generation
	log  []string
	fail error
}

func (s *memoryStore) Save(_ context.Context, g pipeline.Generation) error {
	s.log = append(s.log, fmt.Sprint("save ", g.Number))
	if s.fail != nil {
		return s.fail
	}
	g.Rows.Data = slices.Clone(g.Rows.Data)
	s.kept[g.Number] = g
	return nil
}

func (s *memoryStore) Load(_ context.Context, number int32) (pipeline.Generation, error) {
	g, ok := s.kept[number]
	if !ok {
		return g, fs.ErrNotExist
	}
	return g, nil
}

func (s *memoryStore) Forget(_ context.Context, above int32) error {
	s.log = append(s.log, fmt.Sprint("forget above ", above))
	for g := range s.kept {
		if g > above {
			delete(s.kept, g)
		}
	}
	return nil
}

// A run that is killed anywhere goes on from its last checkpoint and the store:
// same batches, and nothing is embedded that was before.
func TestReopenedCacheGoesOn(t *testing.T) {
	for _, lag := range []int64{0, 1} {
		m := &model{weight: new(atomic.Int64)}
		want, err := train(t.Context(), newCache(t, 4, lag, learning{m}), m, 0, 24, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		for stop := int64(1); stop < 24; stop++ {
			m := &model{weight: new(atomic.Int64)}
			c := newCache(t, 4, lag, learning{m})
			store := &memoryStore{kept: map[int32]pipeline.Generation{7: {Number: 7}}} // of an earlier run
			c.cfg.Store = store
			var state pipeline.State
			if _, err := train(t.Context(), c, m, 0, 24, 2, func(b *pipeline.Batch) bool {
				if state = b.State(); b.Number+1 == stop {
					if _, err := c.Settled(t.Context()); err != nil {
						t.Error(err)
					}
				}
				return b.Number+1 < stop
			}); err != nil {
				t.Fatal(err)
			}
			embedded := 0
			m = &model{weight: new(atomic.Int64)}
			m.weight.Store(stop)
			m.fail = func(int64) error { embedded++; return nil }
			c, err := ReopenCache(t.Context(), CacheConfig{
				Every: 4, Lag: lag, Embedder: learning{m}, Store: store,
				Builder: &Builder{Images: threeImages(), Samples: 3, Preprocessing: "none"},
			}, state)
			if err != nil {
				t.Fatalf("lag %d, stopped before %d: %v", lag, stop, err)
			}
			got, err := train(t.Context(), c, m, stop, 24-stop, 3, nil)
			if err != nil {
				t.Fatalf("lag %d, stopped before %d: %v", lag, stop, err)
			}
			if !slices.Equal(got, want[stop:]) {
				t.Errorf("lag %d, stopped before %d:\n%s\nwant\n%s", lag, stop, strings.Join(got, "\n"), strings.Join(want[stop:], "\n"))
			}
			most := int(6 - stop/4)
			if stop%4 == 0 {
				most++ // the one that is made of this very moment's weights
			}
			if embedded > most {
				t.Errorf("lag %d, stopped before %d: the data set was embedded %d times, want at most %d", lag, stop, embedded, most)
			}
		}
	}
}

func TestReopenRefusesWhatIsNotTheRuns(t *testing.T) {
	ctx := t.Context()
	m := &model{weight: new(atomic.Int64)}
	c := newCache(t, 4, 0, learning{m})
	store := &memoryStore{kept: map[int32]pipeline.Generation{}}
	c.cfg.Store = store
	var state pipeline.State
	if _, err := train(ctx, c, m, 0, 10, 0, func(b *pipeline.Batch) bool { state = b.State(); return true }); err != nil {
		t.Fatal(err)
	}
	cfg := CacheConfig{Every: 4, Store: store}
	reopen := func(cfg CacheConfig, state pipeline.State) error { _, err := ReopenCache(ctx, cfg, state); return err }
	later := state
	later.Next = 400
	other := state
	other.Snapshot = strings.Repeat("0", 64)
	lag := cfg
	lag.Lag = 1
	empty := cfg
	empty.Store = nil
	var se *pipeline.StateError
	if err := reopen(cfg, later); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a state whose generation is not there: %v", err)
	}
	if err := reopen(cfg, other); !errors.As(err, &se) || se.Field != "snapshot" {
		t.Errorf("another snapshot: %v", err)
	}
	if err := reopen(lag, state); !errors.As(err, &se) || se.Field != "generation" {
		t.Errorf("another lag: %v", err)
	}
	if err := reopen(empty, state); err == nil || !strings.Contains(err.Error(), "Store is nil") {
		t.Errorf("no store: %v", err)
	}
	if err := reopen(cfg, state); err != nil {
		t.Errorf("the run's own state: %v", err)
	}
	rows := store.kept[2].Rows.Data
	rows[0]++
	if err := reopen(cfg, state); !errors.As(err, &se) || se.Field != "snapshot" {
		t.Errorf("a row that was changed in the store: %v", err)
	}
}

// A generation that cannot be kept is used all the same, unless a failure is to stop the run.
func TestStoreThatFails(t *testing.T) {
	m := &model{weight: new(atomic.Int64)}
	full := errors.New("no space left on device")
	store := &memoryStore{kept: map[int32]pipeline.Generation{}}
	c := newCache(t, 3, 0, learning{m})
	var log bytes.Buffer
	c.cfg.Store, c.cfg.Log = store, slog.New(slog.NewTextHandler(&log, nil))
	got, err := train(t.Context(), c, m, 0, 8, 0, func(b *pipeline.Batch) bool {
		if b.Number == 1 {
			store.fail = full
		}
		return true
	})
	if err != nil || got[3] == got[0] {
		t.Errorf("batches %v, error %v", got, err)
	}
	if s := c.Stats(); s.Failed != 2 || !strings.Contains(s.Error, "keep generation 2: no space left") {
		t.Errorf("statistics are %+v, want two failures", s)
	}
	if !strings.Contains(log.String(), "used but not kept") {
		t.Errorf("log says %q", log.String())
	}
	if want := []string{"save 0", "forget above 0", "save 1", "save 2"}; !slices.Equal(store.log, want) {
		t.Errorf("the store was asked to %v, want %v", store.log, want)
	}
	m.weight.Store(0)
	strict := newCache(t, 3, 0, learning{m})
	strict.cfg.Store, strict.cfg.StopOnFailure = store, true
	if _, err := train(t.Context(), strict, m, 0, 9, 0, nil); !errors.Is(err, full) {
		t.Errorf("error is %v, want %v", err, full)
	}
}

// The statistics say how far two generations are apart.
func TestDrift(t *testing.T) {
	rows := func(x ...float32) *Snapshot {
		s, err := SnapshotOf(pipeline.Embeddings{Dim: 2, Data: x}, SnapshotConfig{Fingerprint: "f"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	cfg := DriftConfig{Labels: []int32{0, 0, 1, pipeline.Unknown}, Loss: loss.TripletMargin{Margin: 0.5, Distance: loss.SqEuclidean}, Triplets: 50}
	probes, err := cfg.probes(4)
	if err != nil || len(probes) != 50 {
		t.Fatalf("%d probes, error %v", len(probes), err)
	}
	for _, p := range probes {
		if p.anchor == p.positive || p.anchor+p.positive != 1 || p.negative != 2 {
			t.Fatalf("probe %+v is not valid", p)
		}
	}
	before := rows(1, 0, 1, 0, 0, 1, 1, 1) // d_ap 0, d_an 2: easy
	if d := driftOf(before, before, probes, cfg.Loss); d.MeanCosine != 1 || d.KindChanged != 0 || d.Rows != 4 || d.Triplets != 50 {
		t.Errorf("no drift is %+v", d)
	}
	after := rows(1, 0, 0, 1, 0, 1, 1, 1) // d_ap 2; d_an 2 and 0: hard for both anchors
	if d := driftOf(before, after, probes, cfg.Loss); math.Abs(d.MeanCosine-0.75) > 1e-6 || d.KindChanged != 1 {
		t.Errorf("drift is %+v, want mean cosine 3/4 and all of another kind", d)
	}
	other, err := SnapshotOf(pipeline.Embeddings{Dim: 1, Data: []float32{1, 2, 3, 4}}, SnapshotConfig{Fingerprint: "f"})
	if err != nil {
		t.Fatal(err)
	}
	if d := driftOf(before, other, probes, cfg.Loss); d.Rows != 0 || d.Triplets != 0 {
		t.Errorf("drift to other dimensions is %+v", d)
	}
	for _, bad := range []DriftConfig{
		{Labels: []int32{0}, Loss: cfg.Loss}, {Labels: cfg.Labels}, {Labels: cfg.Labels, Loss: cfg.Loss, Triplets: -1},
	} {
		if _, err := bad.probes(4); err == nil {
			t.Errorf("%+v gave no error", bad)
		}
	}

	m := &model{weight: new(atomic.Int64)}
	c := newCache(t, 4, 0, learning{m})
	c.probes, c.cfg.Drift.Loss = []probe{{0, 1, 2}}, cfg.Loss
	if _, err := train(t.Context(), c, m, 0, 9, 0, nil); err != nil {
		t.Fatal(err)
	}
	s := c.Stats()
	if s.Drift.From != 1 || s.Drift.To != 2 || s.Drift.Rows != 3 || !(s.Drift.MeanCosine < 1 && s.Drift.MeanCosine > 0.9) || s.Drift.Triplets != 1 {
		t.Errorf("drift in the statistics is %+v", s.Drift)
	}
	if s.Age != 0 || s.Batch != 8 || s.Generation != 2 || s.Held != 2 || s.Norms.Count != 3 || s.Norms.Max < 9 {
		t.Errorf("statistics are %+v", s)
	}
}

// A refresh that batches wait for, or that Settled does, has the whole machine.
func TestWaitingLiftsTheShare(t *testing.T) {
	for _, settled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := &model{weight: new(atomic.Int64), delay: func() time.Duration { return time.Second }}
			c := newCache(t, 4, 1, nil)
			c.cfg.Embedder, c.next.embedder = learning{m}, learning{m}
			c.cfg.Share = 1e-3 // rests hours after every second of work
			start := time.Now()
			if _, err := train(t.Context(), c, m, 0, 16, 0, func(b *pipeline.Batch) bool {
				if b.Number == 5 && settled {
					if _, err := c.Settled(t.Context()); err != nil {
						t.Error(err)
					}
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 4*time.Second {
				t.Errorf("settled %v: three refreshes of a second took %v", settled, took)
			}
			if s := c.Stats(); !settled && s.Waited < 1.5 {
				t.Errorf("batches waited %v s, want about 2", s.Waited)
			}
		})
	}
}

// The statistics show how far a refresh is.
func TestProgressOfARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{weight: new(atomic.Int64), delay: func() time.Duration { return time.Minute }}
		c := newCache(t, 2, 1, learning{m})
		if _, err := train(t.Context(), c, m, 0, 9, 0, func(b *pipeline.Batch) bool {
			if b.Number == 3 {
				time.Sleep(time.Second)
				if s := c.Stats(); s.Building != 1 || s.Total != 3 || s.Done != 0 || s.Age != 3 {
					t.Errorf("statistics are %+v, want generation 1 in the making and rows 3 batches old", s)
				}
			}
			return b.Number < 3
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// Goal E2: at most two generations are held, and memory does not grow.
func TestHeapDoesNotGrowWithRefreshes(t *testing.T) {
	const samples, dim = 2000, 64
	images := make([]Image, samples)
	for i := range images {
		images[i] = Image{ID: int64(i), Pixels: []float32{float32(i)}, Where: somewhere}
	}
	b := &Builder{Images: pipeline.From(pipeline.Slice(images)), Samples: samples, Preprocessing: "none"}
	m := &wide{model: &model{weight: new(atomic.Int64)}, dim: dim}
	first, _, err := b.Build(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCache(CacheConfig{First: first, Every: 1, Lag: 1, Builder: b, Embedder: m, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	first = nil
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	var early uint64
	const refreshes = 1000
	if _, err := train(t.Context(), c, m.model, 0, refreshes, 1, func(b *pipeline.Batch) bool {
		if b.Number == 10 {
			early = heap()
		}
		if n := len(c.Held()); n > 2 {
			t.Errorf("%d generations are held", n)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	late := heap()
	t.Logf("heap after 10 refreshes %d KiB, after %d: %d KiB", early>>10, refreshes, late>>10)
	if late > early+early/20 {
		t.Errorf("heap went from %d to %d bytes", early, late)
	}
	if s := c.Stats(); s.Refreshed < refreshes-2 {
		t.Errorf("%d refreshes, want about %d", s.Refreshed, refreshes)
	}
	runtime.KeepAlive(c)
}

// wide is a model with more values, which can be frozen.
type wide struct {
	*model
	dim int
}

func (w *wide) Dim() int                  { return w.dim }
func (w *wide) Freeze() (Embedder, error) { return &wide{&model{frozen: w.now()}, w.dim}, nil }

func (w *wide) Embed(_ context.Context, dst pipeline.Embeddings, pixels []float32) error {
	for i := range dst.Data {
		dst.Data[i] = 1 + float32(i*int(w.now()+1)%97)
	}
	return nil
}
