package stages_test

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// holdings are what a run must give back.
type holdings struct{ goroutines, descriptors, maps int }

// held counts what the process holds, once what is on its way out has gone.
func held(t *testing.T, before holdings) (h holdings) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		h.goroutines = runtime.NumGoroutine()
		h.descriptors, h.maps = 0, 0
		if open, err := os.ReadDir("/proc/self/fd"); err == nil {
			h.descriptors = len(open)
		}
		if maps, err := os.ReadFile("/proc/self/maps"); err == nil {
			h.maps = strings.Count(string(maps), "/testdata/") // files of ours; the runtime's own come and go
		}
		if before == (holdings{}) || h.goroutines <= before.goroutines && h.descriptors <= before.descriptors && h.maps <= before.maps || time.Now().After(end) {
			return h
		}
	}
}

// check fails where more is held than before.
func (h holdings) check(t *testing.T, what string) {
	t.Helper()
	if now := held(t, h); now.goroutines > h.goroutines || now.descriptors > h.descriptors || now.maps > h.maps {
		buf := make([]byte, 1<<16)
		t.Errorf("%s: %+v are held, %+v before\n%s", what, now, h, buf[:runtime.Stack(buf, true)])
	}
}

// Goal L1: cancelled at any moment, from before the files are open to the end of
// the epoch, the loop ends at once and gives everything back.
func TestCancelAtAnyMoment(t *testing.T) {
	times := 100
	if long {
		times = 10_000
	}
	s := newStream(t, 40, stages.ScopeDataSet)
	paths := []string{"../testdata/glyphs", "../testdata/formats/file.arrow"}
	before := held(t, holdings{})
	rng := rand.New(rand.NewPCG(3, 3))
	var took []time.Duration
	whole := 20 * time.Millisecond // about what a run takes
	for i := range times {
		gone := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		var at time.Time
		timer := time.AfterFunc(time.Duration(rng.Int64N(int64(whole))), func() { at = time.Now(); cancel(gone) })
		start := time.Now()
		path := paths[rng.IntN(2)]
		set, err := storage.Open(ctx, storage.Config{Paths: []string{path}, Workers: 1 + rng.IntN(4)})
		if err == nil {
			one := *s
			if one.set = set; path != paths[0] { // it has no cache of its own here
				err = drain(pipeline.Via(pipeline.From[pipeline.Record](set), s.decoder(t, 1+rng.IntN(4)).Records()).All(ctx))
			} else {
				err = drain(one.flow(t, pipeline.State{}, 1+rng.IntN(4), rng.IntN(4)).All(ctx))
			}
			set.Close()
		}
		cancelled := !timer.Stop()
		if cancelled {
			<-ctx.Done()
			took = append(took, time.Since(at))
		}
		cancel(nil)
		if err != nil && !errors.Is(err, gone) {
			t.Fatalf("cancellation %d: error is %v, want its cause or none", i, err)
		}
		if err == nil && !cancelled {
			whole = (whole + time.Since(start)) / 2
		} else {
			whole += whole / 50
		}
	}
	before.check(t, "cancelled")
	if len(took) < times/4 {
		t.Errorf("only %d of %d runs were cancelled on their way", len(took), times)
		return
	}
	slices.Sort(took)
	t.Logf("%d of %d cancelled on their way: p50 %v, p99 %v, at most %v", len(took), times, took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	if most := took[len(took)-1]; most > 10*time.Second {
		t.Errorf("a loop took %v to end", most)
	}
}

// drain ranges to the end.
func drain[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

// Goal L2: iterators that are left after one batch, by break or by stop, leave nothing.
func TestAbandonedIterators(t *testing.T) {
	times := 100
	switch {
	case long:
		times = 10_000
	case raceEnabled:
		times = 30
	}
	s := newStream(t, 40, stages.ScopeBatch)
	cache := refreshed(t, 40)
	before := held(t, holdings{})
	rng := rand.New(rand.NewPCG(4, 4))
	for i := range times {
		flow := s.flow(t, pipeline.State{}, 1+rng.IntN(16), rng.IntN(9))
		if i%3 == 0 {
			flow, _ = cache.begin(t, pipeline.State{}, 1+rng.IntN(16), rng.IntN(9))
		}
		if i%2 == 0 {
			for b, err := range flow.All(t.Context()) {
				if err != nil || b.Number != 0 {
					t.Fatalf("batch %v, %v", b, err)
				}
				break
			}
			continue
		}
		next, stop := iter.Pull2(flow.All(t.Context()))
		if b, err, ok := next(); !ok || err != nil || b.Number != 0 {
			t.Fatalf("batch %v, %v", b, err)
		}
		stop()
	}
	before.check(t, "abandoned")
}

// Goal L5, as far as the stream has it: while the trainer pauses, nothing more
// is read or made than fits between the stages.
func TestPausedTrainer(t *testing.T) {
	s := newStream(t, 200, stages.ScopeBatch)
	reads := &countingReader{Reader: s.set}
	const ahead = 3
	flow := pipeline.From(s.plan(t, pipeline.State{})).Prefetch(ahead).Then(&stages.Fetch{Reader: reads}, s.decoder(t, 2))
	for b, err := range flow.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if b.Number < 5 {
			continue
		}
		// In the loop, in the hands of each of 2 stages, and in 2 channels.
		most := b.Number + 1 + 2 + 2*ahead
		var before int64
		for range 100 { // until it stands still
			if before = reads.batches.Load(); before == most {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
		if after := reads.batches.Load(); after > most || after != before {
			t.Errorf("at batch %d, %d and then %d batches were read, want at most %d and no more in a pause", b.Number, before, after, most)
		}
		return
	}
}
