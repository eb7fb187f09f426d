package stages_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// countingReader counts the batches and notes the samples that were asked for.
type countingReader struct {
	stages.Reader
	batches atomic.Int64
	mu      sync.Mutex
	ids     []int64
}

func (r *countingReader) Read(ctx context.Context, ids []int64, dst []pipeline.Record) error {
	r.batches.Add(1)
	r.mu.Lock()
	r.ids = append(r.ids, ids...)
	r.mu.Unlock()
	return r.Reader.Read(ctx, ids, dst)
}

// A schedule makes a run's timing its own: everything waits at random.
type schedule struct {
	mu  sync.Mutex
	rng *rand.Rand
}

// wait takes a while, seldom a long one.
func (s *schedule) wait() {
	s.mu.Lock()
	kind, d := s.rng.IntN(8), time.Duration(s.rng.Int64N(int64(time.Second)))
	s.mu.Unlock()
	switch kind {
	case 0:
		time.Sleep(50 * d)
	case 1, 2, 3:
		time.Sleep(d)
	case 4, 5:
		runtime.Gosched()
	}
}

// Run implements [pipeline.Stage]: it delays every batch.
func (s *schedule) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- *pipeline.Batch) error {
	for b, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		s.wait()
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}

// An unsteadyFS opens files slowly, and its reads fail, or give less than was
// asked for, before they succeed.
type unsteadyFS struct {
	storage.FS
	*schedule
}

func (f unsteadyFS) Open(name string) (storage.File, error) {
	f.wait()
	file, err := f.FS.Open(name)
	return &unsteadyFile{File: file, schedule: f.schedule}, err
}

type unsteadyFile struct {
	storage.File
	*schedule
	failed int
}

func (f *unsteadyFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	kind := f.rng.IntN(12)
	if kind < 3 {
		f.failed++
	}
	if f.failed > 3 { // more in a row would be an error
		f.failed, kind = 0, 12
	}
	f.mu.Unlock()
	switch kind {
	case 0:
		return 0, syscall.EIO
	case 1:
		return 0, os.ErrDeadlineExceeded
	case 2:
		return f.File.ReadAt(p[:len(p)/2], off)
	}
	return f.File.ReadAt(p, off)
}

// delayed is an embedder that takes a while.
type delayed struct {
	*trainee
	*schedule
}

func (d delayed) Embed(ctx context.Context, dst pipeline.Embeddings, pixels []float32) error {
	d.wait()
	return d.trainee.Embed(ctx, dst, pixels)
}

func (d delayed) Freeze() (stages.Embedder, error) {
	frozen := *d.trainee
	return delayed{&frozen, d.schedule}, nil
}

// Goal D10 (and E3): slow files, reads that are tried again, delayed workers,
// trainers and refreshes change nothing in the stream.
func TestScheduleChangesNothing(t *testing.T) {
	schedules := 60
	switch {
	case long:
		schedules = 10_000
	case raceEnabled:
		schedules = 8
	}
	const steps = 12
	base := newStream(t, steps, stages.ScopeDataSet)
	images := make([]stages.Image, base.set.Len())
	for i := range images {
		images[i] = stages.Image{ID: int64(i), Pixels: base.first.Embeddings.Row(i)}
	}
	stream := func(t *testing.T, s *schedule, workers, ahead int) (got [][32]byte) {
		one, model := *base, delayed{&trainee{}, s}
		set, err := storage.Open(t.Context(), storage.Config{Paths: []string{"../testdata/glyphs"}, FS: unsteadyFS{storage.OS, s}, Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		one.set, one.between = set, s
		cache, err := stages.NewCache(stages.CacheConfig{
			First: base.first, Every: 3, Lag: 1, Embedder: model, Log: slog.New(slog.DiscardHandler),
			Builder: &stages.Builder{Images: pipeline.From(pipeline.Slice(images)), Samples: len(images), Preprocessing: "none"},
		})
		if err != nil {
			t.Fatal(err)
		}
		for b, err := range one.over(t, cache, pipeline.State{}, workers, ahead).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, digest(b))
			s.wait()
			model.weight = b.Number + 1
		}
		return got
	}
	var want [][32]byte
	for i := range schedules {
		synctest.Test(t, func(t *testing.T) { // in its time a minute is nothing, and nothing may be left running
			rng := rand.New(rand.NewPCG(5, uint64(i)))
			got := stream(t, &schedule{rng: rng}, 1+rng.IntN(16), rng.IntN(9))
			if i == 0 {
				want = got
			}
			if len(got) != steps || !slices.Equal(got, want) {
				t.Fatalf("schedule %d: another stream of %d batches", i, len(got))
			}
		})
	}
}

// Goal D5: a run that goes on anywhere reads the batches it needs and none before.
func TestResumeReadsNothingAgain(t *testing.T) {
	const steps, ahead = 50, 1
	s := newStream(t, steps, stages.ScopeBatch)
	reads := &countingReader{Reader: s.set}
	s.reader = reads
	plan := s.plan(t, pipeline.State{})
	_, states := s.run(t, pipeline.State{}, 2, ahead)
	for k := 1; k < steps; k += 6 {
		reads.ids = nil
		for b, err := range s.flow(t, states[k-1], 2, ahead).All(t.Context()) {
			if err != nil || b.Number != int64(k) {
				t.Fatalf("batch %v, %v, want %d", b, err, k)
			}
			break
		}
		var want []int64 // of the batches that may be on their way
		for b := int64(k); b < steps && len(want) < len(reads.ids); b++ {
			want = plan.Batch(b, want)
		}
		if most := 1 + 2 + 3*ahead + 1; !slices.Equal(reads.ids, want) || len(want) > most*8 {
			t.Errorf("to go on after %d batches %d images were read, not those of the next batches", k, len(reads.ids))
		}
	}
}
