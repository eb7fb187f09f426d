package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A panic names the batch and the samples that were worked on.
func TestPanicSaysWhatWasWorkedOn(t *testing.T) {
	bang := func(context.Context) error { panic("bang") }
	records := make([]Record, 5)
	for i := range records {
		records[i].ID = int64(i) + 100
	}
	// fails is a stage over records that panics at the fourth.
	fails := func(at int64) Stage[Record, Record] {
		return stageFunc[Record, Record](func(ctx context.Context, in <-chan Record, out chan<- Record) error {
			for r, err := range Values(ctx, in) {
				if err != nil {
					return err
				}
				if r.ID == at {
					panic("bang")
				}
				if err := Send(ctx, out, r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	mapped := func(at int64) Stage[Record, Record] {
		return stageFunc[Record, Record](func(ctx context.Context, in <-chan Record, out chan<- Record) error {
			return Map(ctx, MapConfig[Record]{Workers: 3}, in, out, func(_ context.Context, r Record) (Record, error) {
				if r.ID == at {
					panic("bang")
				}
				return r, nil
			})
		})
	}
	inside := atBatch(2, func(ctx context.Context) error {
		return ForEach(ctx, 2, 4, func(context.Context, int) error { panic("bang") })
	})
	afterSending := stageFunc[*Batch, *Batch](func(ctx context.Context, in <-chan *Batch, out chan<- *Batch) error {
		if err := Send(ctx, out, <-in); err != nil {
			return err
		}
		panic("bang")
	})
	run := func(ctx context.Context, f Flow[Record]) (err error) {
		for _, err = range f.All(ctx) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	batches := func(ctx context.Context, f Flow[*Batch]) error { _, err := drainBatches(ctx, f); return err }
	for _, tt := range []struct {
		name    string
		run     func(ctx context.Context) error
		batch   int64
		samples []int64
		message string
	}{
		{"stage over batches", func(ctx context.Context) error {
			return batches(ctx, From(fewBatches(5, complete)).Prefetch(2).Then(atBatch(3, bang), atBatch(-1, complete)))
		}, 3, []int64{30, 31}, "panicked: bang (batch 3, samples [30 31])"},
		{"for each in a stage", func(ctx context.Context) error { return batches(ctx, From(fewBatches(5, complete)).Then(inside)) }, 2, []int64{20, 21}, "for each panicked: bang (batch 2, samples [20 21])"},
		{"source", func(ctx context.Context) error {
			return batches(ctx, From(fewBatches(2, bang)).Then(atBatch(-1, complete)))
		}, -1, nil, "panicked: bang"},
		{"what was sent on", func(ctx context.Context) error {
			return batches(ctx, From(fewBatches(2, complete)).Then(afterSending, atBatch(-1, complete)))
		}, -1, nil, "panicked: bang"},
		{"stage over records", func(ctx context.Context) error { return run(ctx, From(Slice(records)).Then(fails(103))) }, -1, []int64{103}, "panicked: bang (sample 103)"},
		{"map over records", func(ctx context.Context) error { return run(ctx, From(Slice(records)).Then(mapped(102))) }, -1, []int64{102}, "map panicked: bang (sample 102)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := tt.run(t.Context())
				var p *PanicError
				if !errors.As(err, &p) || p.Batch != tt.batch || !slices.Equal(p.Samples, tt.samples) || len(p.Stack) == 0 {
					t.Fatalf("error is %+v, want a PanicError of batch %d, samples %d", p, tt.batch, tt.samples)
				}
				if !strings.HasSuffix(err.Error(), tt.message) {
					t.Errorf("message is %q, want one that ends %q", err, tt.message)
				}
			})
		})
	}
}

func TestPanicErrorOfManySamples(t *testing.T) {
	p := &PanicError{In: "x", Value: 1, Batch: 0, Samples: []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}
	if got, want := p.Error(), "x panicked: 1 (batch 0, samples [1 2 3 4 5 6 7 8] and 2 more)"; got != want {
		t.Errorf("prints %q, want %q", got, want)
	}
}

// Errors, a cancellation, a leaving reader and the end of the data at the same
// moment: one of them is what the loop gets, and nothing is left.
func TestEverythingEndsAtOnce(t *testing.T) {
	broken, gone := errors.New("broken"), errors.New("gone")
	for i := range 300 {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			late := func(ctx context.Context) error { // ends after everything else
				<-ctx.Done()
				time.Sleep(grace / 2)
				return nil
			}
			fails := func(context.Context) error { time.Sleep(time.Minute); return broken }
			last := complete
			if i%2 == 0 {
				last = late
			}
			relay := stageFunc[*Batch, *Batch](func(ctx context.Context, in <-chan *Batch, out chan<- *Batch) error {
				return Map(ctx, MapConfig[*Batch]{Workers: 3}, in, out, func(_ context.Context, b *Batch) (*Batch, error) { return b, nil })
			})
			time.AfterFunc(time.Minute, func() { cancel(gone) })
			n := 0
			for b, err := range From(fewBatches(6, last)).Prefetch(i%3).Then(relay, atBatch(4, fails), relay, atBatch(int64(i%5), fails)).Timeout(time.Minute).All(ctx) {
				if err != nil {
					var silent *SilentError
					if err != broken && err != gone && !errors.As(err, &silent) {
						t.Errorf("error is %v", err)
					}
					continue
				}
				if b.Number != int64(n) {
					t.Errorf("batch %d, want %d", b.Number, n)
				}
				if n++; n == 4 && i%7 == 0 {
					break
				}
			}
			if n > 4 {
				t.Errorf("%d batches came past a stage that fails", n)
			}
		})
	}
}
