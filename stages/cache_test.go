package stages

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// model is an embedder that learns: its weight is the number of steps taken.
// An embedding is (weight, first pixel), raised so that it is never 0.
type model struct {
	weight *atomic.Int64
	frozen int64
	delay  func() time.Duration
	fail   func(weight int64) error
}

func (m *model) Dim() int { return 2 }

func (m *model) now() int64 {
	if m.weight != nil {
		return m.weight.Load()
	}
	return m.frozen
}

func (m *model) Fingerprint() string { return fmt.Sprint("model ", m.now()) }

func (m *model) Embed(ctx context.Context, dst pipeline.Embeddings, pixels []float32) error {
	if m.delay != nil {
		select {
		case <-time.After(m.delay()):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if m.fail != nil {
		if err := m.fail(m.now()); err != nil {
			return err
		}
	}
	for i := range dst.Len() {
		dst.Row(i)[0], dst.Row(i)[1] = float32(m.now()+1), pixels[i]+1
	}
	return nil
}

// learning is a model whose weights change: a Freezer.
type learning struct{ *model }

func (l learning) Freeze() (Embedder, error) {
	return &model{frozen: l.now(), delay: l.delay, fail: l.fail}, nil
}

// counting is a source of n batches from first on, of the images 0, 1 and 2.
type counting struct{ first, n int64 }

func (s counting) Run(ctx context.Context, out chan<- *pipeline.Batch) error {
	for i := range s.n {
		b := pipeline.NewBatch()
		b.Number = s.first + i
		b.IDs = append(b.IDs, 2, 0, 1, 2)
		b.Labels = append(b.Labels, 1, 0, 0, 1)
		b.Stamp(pipeline.State{Next: b.Number + 1})
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}

func threeImages() pipeline.Flow[Image] {
	images := make([]Image, 3)
	for i := range images {
		where := somewhere
		where.Row = int64(i)
		images[i] = Image{ID: int64(i), Digest: [16]byte{byte(i)}, Pixels: []float32{float32(i)}, Where: where}
	}
	return pipeline.From(pipeline.Slice(images))
}

func newCache(t testing.TB, every, lag int64, e Embedder) *Cache {
	t.Helper()
	b := &Builder{Images: threeImages(), Samples: 3, Preprocessing: "none"}
	first, _, err := b.Build(t.Context(), &model{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCache(CacheConfig{First: first, Every: every, Lag: lag, Builder: b, Embedder: e, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// train runs n batches from first on, one step each, and notes what each used.
func train(ctx context.Context, c *Cache, m *model, first, n int64, prefetch int, body func(b *pipeline.Batch) bool) (used []string, err error) {
	flow := pipeline.From(counting{first, n}).Prefetch(prefetch).Then(&Embed{Cache: c})
	for b, err := range flow.All(ctx) {
		if err != nil {
			return used, err
		}
		used = append(used, fmt.Sprintf("%d %d %s %v", b.Number, b.Generation, b.State().Snapshot[:8], b.Embeddings.Data))
		m.weight.Store(b.Number + 1)
		if body != nil && !body(b) {
			break
		}
	}
	return used, nil
}

// Whatever a refresh takes, batch b uses the generation that belongs to it,
// made of the weights of its moment.
func TestGenerationIsAFunctionOfTheBatch(t *testing.T) {
	for _, lag := range []int64{0, 1} {
		var want []string
		for run := range uint64(20) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(run, 0))
				m := &model{weight: new(atomic.Int64), delay: func() time.Duration { return time.Duration(rng.IntN(50)) * time.Millisecond }}
				c := newCache(t, 5, lag, learning{m})
				pause := rand.New(rand.NewPCG(run, 1))
				got, err := train(t.Context(), c, m, 0, 33, int(run%9), func(*pipeline.Batch) bool {
					time.Sleep(time.Duration(pause.IntN(12)) * time.Millisecond)
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
				if run == 0 {
					want = got
				}
				if !slices.Equal(got, want) {
					t.Errorf("lag %d, run %d:\n%s\nwant\n%s", lag, run, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				if held := c.Held(); len(held) > 2 {
					t.Errorf("%d generations are held", len(held))
				}
			})
		}
		for b, line := range want {
			g := max(0, int64(b)/5-lag)
			angle := math.Atan2(1, float64(g*5+1)) // of image 0, whose pixel is 0: (weight+1, 1)
			row := fmt.Sprintf("%d %d ", b, g)
			at := strings.Fields(strings.Trim(line[strings.Index(line, "["):], "[]"))
			if !strings.HasPrefix(line, row) || at[2] != fmt.Sprint(float32(math.Cos(angle))) && math.Abs(math.Cos(angle)-parse(at[2])) > 1e-6 {
				t.Errorf("lag %d: batch %d used %q, want generation %d of weights %d", lag, b, line, g, g*5)
			}
		}
	}
}

func parse(s string) (v float64) {
	fmt.Sscan(s, &v)
	return v
}

func TestLeavingTheLoopStopsARefresh(t *testing.T) {
	for _, lag := range []int64{0, 1} {
		synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
			m := &model{weight: new(atomic.Int64)}
			var building atomic.Int64
			m.delay = func() time.Duration { building.Add(1); return time.Hour }
			c := newCache(t, 4, lag, learning{m})
			got, err := train(t.Context(), c, m, 0, 100, 3, func(b *pipeline.Batch) bool {
				time.Sleep(time.Second)
				return lag == 0 && b.Number < 3 || lag == 1 && b.Number < 5
			})
			if err != nil {
				t.Fatal(err)
			}
			if lag == 1 && building.Load() != 1 {
				t.Errorf("%d refreshes were being built, want 1", building.Load())
			}
			// The next range takes up where it was left, with the weights of that moment.
			m.delay = nil
			more, err := train(t.Context(), c, m, int64(len(got)), 6, 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			whole := &model{weight: new(atomic.Int64)}
			want, err := train(t.Context(), newCache(t, 4, lag, learning{whole}), whole, 0, int64(len(got)+6), 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, more...); !slices.Equal(got, want) {
				t.Errorf("lag %d:\n%s\nwant\n%s", lag, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func TestCancelDuringARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{weight: new(atomic.Int64), delay: func() time.Duration { return time.Hour }}
		c := newCache(t, 2, 0, learning{m})
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(gone) })
		got, err := train(ctx, c, m, 0, 10, 0, nil)
		if !errors.Is(err, gone) || len(got) != 2 {
			t.Errorf("got %d batches and error %v, want 2 and %v", len(got), err, gone)
		}
	})
}

// A generation that a stopped run left to be built is not, when the cache goes
// on from a later one.
func TestRestorePastAQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{weight: new(atomic.Int64), delay: func() time.Duration { return time.Hour }}
		c := newCache(t, 2, 1, learning{m})
		if _, err := train(t.Context(), c, m, 0, 4, 0, func(b *pipeline.Batch) bool { return b.Number < 2 }); err != nil {
			t.Fatal(err)
		}
		if err := c.Restore(c.Held()[0].as(7)); err != nil {
			t.Fatal(err)
		}
		held, err := c.Settled(t.Context())
		if err != nil || len(held) != 1 || held[0].Generation != 7 {
			t.Errorf("held %v and error %v, want generation 7 alone", held, err)
		}
	})
}

func TestFailedRefreshStopsTheRun(t *testing.T) {
	full := errors.New("device is full")
	for _, lag := range []int64{0, 1} {
		for name, fail := range map[string]func(int64) error{
			"error": func(w int64) error {
				if w == 6 {
					return full
				}
				return nil
			},
			"panic": func(w int64) error {
				if w == 6 {
					panic(full)
				}
				return nil
			},
		} {
			synctest.Test(t, func(t *testing.T) {
				m := &model{weight: new(atomic.Int64), fail: fail}
				c := newCache(t, 3, lag, learning{m})
				c.cfg.StopOnFailure = true
				_, err := train(t.Context(), c, m, 0, 30, 2, nil)
				if !errors.Is(err, full) || !strings.Contains(err.Error(), "refresh generation 2: ") {
					t.Errorf("%s: error is %v, want one that names generation 2", name, err)
				}
				held := c.Held()
				if len(held) == 0 || held[len(held)-1].Generation != 1 {
					t.Errorf("%s: %d generations are held, want generation 1 among them", name, len(held))
				}
				// The next run tries again.
				m.fail = nil
				c.slots[2].of.embedder.(*model).fail = nil
				if _, err := train(t.Context(), c, m, 6+3*lag, 6, 0, nil); err != nil {
					t.Errorf("%s: the run after it: %v", name, err)
				}
				if s := c.Held(); s[0].Generation < 2 {
					t.Errorf("%s: generation 2 was not built again", name)
				}
			})
		}
	}
}

// notFreezing cannot be frozen.
type notFreezing struct{ *model }

func (notFreezing) Freeze() (Embedder, error) {
	return nil, errors.New("weights are on another machine")
}

func TestFailedFreeze(t *testing.T) {
	m := &model{weight: new(atomic.Int64)}
	c := newCache(t, 3, 0, notFreezing{m})
	c.cfg.StopOnFailure = true
	_, err := train(t.Context(), c, m, 0, 9, 0, nil)
	if err == nil || !strings.Contains(err.Error(), "freeze embedder for generation 1: weights are on another machine") {
		t.Errorf("error is %v", err)
	}
}

// What is handed in during the bodies of batches (g−1)·R to g·R−1 is generation g.
func TestRefreshOnDemand(t *testing.T) {
	for _, lag := range []int64{0, 1} {
		for _, prefetch := range []int{0, 1, 50} {
			synctest.Test(t, func(t *testing.T) {
				m := &model{weight: new(atomic.Int64)}
				c := newCache(t, 4, lag, nil)
				got, err := train(t.Context(), c, m, 0, 28, prefetch, func(b *pipeline.Batch) bool {
					time.Sleep(time.Millisecond)
					var err error
					switch b.Number {
					case 5:
						err = c.Refresh(&model{frozen: 900})
					case 6: // the last call counts
						err = c.Refresh(&model{frozen: 1000})
					case 15: // the last batch before the boundary
						rows := pipeline.Embeddings{Dim: 1, Data: []float32{7, -3, 2}}
						err = c.Replace(rows, SnapshotConfig{Fingerprint: "by hand"})
					}
					if err != nil {
						t.Error(err)
					}
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
				for b, line := range got {
					g := max(0, int64(b)/4-lag)
					var want string
					switch {
					case g < 2: // the first rows
						want = c0
					case g < 4:
						want = c1000
					default:
						want = "[1 1 -1 1]" // samples 2, 0, 1, 2
					}
					if !strings.HasPrefix(line, fmt.Sprintf("%d %d ", b, g)) || !strings.Contains(line, want) {
						t.Errorf("lag %d, prefetch %d: batch %d used %q, want generation %d, %s", lag, prefetch, b, line, g, want)
					}
				}
			})
		}
	}
}

// What batches hold by the weights 0 and 1000: samples 2, 0, 1, 2.
var (
	c0    = "[0.3162"
	c1000 = "[0.99999"
)

func TestResumeWithGenerations(t *testing.T) {
	whole := &model{weight: new(atomic.Int64)}
	for _, lag := range []int64{0, 1} {
		want, err := train(t.Context(), newCache(t, 4, lag, learning{whole}), whole, 0, 24, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		for stop := int64(1); stop < 24; stop++ {
			m := &model{weight: new(atomic.Int64)}
			c := newCache(t, 4, lag, learning{m})
			var state pipeline.State
			var held []*Snapshot
			if _, err := train(t.Context(), c, m, 0, 24, 5, func(b *pipeline.Batch) bool {
				state = b.State()
				if next := b.Number + 1; next == stop {
					var err error
					if held, err = c.Settled(t.Context()); err != nil {
						t.Error(err)
					}
					return false
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
			// A new process: the weights of that step, and what was held.
			m = &model{weight: new(atomic.Int64)}
			m.weight.Store(stop)
			c, err := NewCache(CacheConfig{First: held[0], Every: 4, Lag: lag, Embedder: learning{m},
				Builder: &Builder{Images: threeImages(), Samples: 3, Preprocessing: "none"}})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range held[1:] {
				if err := c.Restore(s); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Check(state); err != nil {
				t.Fatal(err)
			}
			got, err := train(t.Context(), c, m, stop, 24-stop, 3, nil)
			if err != nil {
				t.Fatalf("lag %d, stopped before %d: %v", lag, stop, err)
			}
			if !slices.Equal(got, want[stop:]) {
				t.Errorf("lag %d, stopped before %d:\n%s\nwant\n%s", lag, stop, strings.Join(got, "\n"), strings.Join(want[stop:], "\n"))
			}
			// The same without the snapshots is refused, not guessed.
			if stop%4 != 0 && stop > 4 {
				c := newCache(t, 4, lag, learning{m})
				if _, err := train(t.Context(), c, m, stop, 1, 0, nil); err == nil || !strings.Contains(err.Error(), "restore its snapshot") {
					t.Errorf("lag %d, resumed at %d without its generation: error is %v", lag, stop, err)
				}
			}
		}
	}
}

func TestCheckRefusesAnotherState(t *testing.T) {
	c := newCache(t, 4, 0, nil)
	digest := c.Held()[0].Digest
	for _, tt := range []struct {
		state pipeline.State
		field string
	}{
		{pipeline.State{}, ""},
		{pipeline.State{Next: 3, Snapshot: digest}, ""},
		{pipeline.State{Next: 4, Snapshot: digest}, ""},
		{pipeline.State{Next: 3, Snapshot: "other"}, "snapshot"},
		{pipeline.State{Next: 3, Snapshot: digest, Generation: 1}, "generation"},
		{pipeline.State{Next: 5, Snapshot: digest}, "generation"},
	} {
		err := c.Check(tt.state)
		var se *pipeline.StateError
		if tt.field == "" && err != nil || tt.field != "" && (!errors.As(err, &se) || se.Field != tt.field) {
			t.Errorf("%+v: error is %v, want field %q", tt.state, err, tt.field)
		}
	}
}

// An embedder that never changes is not run again, whatever R is.
func TestConstantEmbedderIsNotRunAgain(t *testing.T) {
	runs := 0
	e := &model{fail: func(int64) error { runs++; return nil }}
	c := newCache(t, 3, 1, e)
	m := &model{weight: new(atomic.Int64)}
	got, err := train(t.Context(), c, m, 7, 20, 4, nil) // and a run may begin anywhere
	if err != nil {
		t.Fatal(err)
	}
	if runs != 0 || !strings.HasPrefix(got[19], "26 7 ") {
		t.Errorf("the embedder ran %d times; the last batch is %q", runs, got[19])
	}
}

// Goal E1: readers that each hold on to a snapshot, while generations come and
// go, see one generation whole: every value of it is its number. 10^6 swaps in
// the long run.
func TestNoTornReads(t *testing.T) {
	c := newCache(t, 1, 0, nil)
	first := &Snapshot{Embeddings: pipeline.Embeddings{Dim: 2, Data: make([]float32, 6)}, Fingerprint: "zeros", Digest: strings.Repeat("0", 64)}
	if err := c.Restore(first); err != nil {
		t.Fatal(err)
	}
	generations := int64(3000)
	if planLong {
		generations = 1_000_000
	}
	m := &model{weight: new(atomic.Int64)}
	var readers sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 16 {
		readers.Go(func() {
			for ctx.Err() == nil {
				for _, s := range c.Held() {
					first := s.Embeddings.Data[0]
					for _, v := range s.Embeddings.Data {
						if v != first {
							t.Errorf("generation %d holds %v and %v", s.Generation, first, v)
							return
						}
					}
					if g := float32(s.Generation); s.Generation > 0 && first != g {
						t.Errorf("generation %d holds %v", s.Generation, first)
						return
					}
				}
				runtime.Gosched()
			}
		})
	}
	_, err := train(ctx, c, m, 0, generations, 8, func(b *pipeline.Batch) bool {
		rows := pipeline.MakeEmbeddings(3, 2)
		for i := range rows.Data {
			rows.Data[i] = float32(b.Number + 1)
		}
		if err := c.Replace(rows, SnapshotConfig{Fingerprint: fmt.Sprint(b.Number), Unscaled: true}); err != nil {
			t.Error(err)
		}
		if b.Generation != int32(b.Number) || b.Embeddings.Data[0] != float32(b.Number) {
			t.Errorf("batch %d has generation %d and %v", b.Number, b.Generation, b.Embeddings.Data[0])
		}
		return !t.Failed()
	})
	stop()
	readers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if held := c.Held(); len(held) > 2 {
		t.Errorf("%d generations are held, want at most 2", len(held))
	}
}

func TestCacheConfigIsChecked(t *testing.T) {
	first, err := SnapshotOf(pipeline.Embeddings{Dim: 1, Data: []float32{1, 2}}, SnapshotConfig{Fingerprint: "f"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cfg  CacheConfig
		want string
	}{
		{CacheConfig{}, "First is nil"},
		{CacheConfig{First: first, Every: -1}, "Every is -1"},
		{CacheConfig{First: first, Lag: 2}, "Lag is 2"},
		{CacheConfig{First: first, Every: 1, Embedder: &model{}}, "Builder is nil"},
	} {
		if _, err := NewCache(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error is %v, want one with %q", err, tt.want)
		}
	}
	c, err := NewCache(CacheConfig{First: first})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Refresh(&model{}); err == nil || !strings.Contains(err.Error(), "Every is 0") {
		t.Errorf("Refresh of a cache that never refreshes: %v", err)
	}
	if err := c.Replace(pipeline.MakeEmbeddings(2, 1), SnapshotConfig{Fingerprint: "f"}); err == nil {
		t.Error("Replace in a cache that never refreshes gave no error")
	}
	m := &model{weight: new(atomic.Int64)}
	if _, err := train(t.Context(), c, m, 0, 1, 0, nil); err == nil || !strings.Contains(err.Error(), "embed batch 0: sample 2 has no embedding: the cache holds samples 0 to 1") {
		t.Errorf("a sample outside the cache: %v", err)
	}
}
