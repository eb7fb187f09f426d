package pipeline

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fewBatches is a source of batches 0 … n−1, each with two sample ids, and then
// does what last does.
func fewBatches(n int64, last func(ctx context.Context) error) Source[*Batch] {
	return sourceFunc[*Batch](func(ctx context.Context, out chan<- *Batch) error {
		for i := range n {
			b := NewBatch()
			b.Number, b.IDs = i, append(b.IDs, 10*i, 10*i+1)
			if err := Send(ctx, out, b); err != nil {
				return err
			}
		}
		return last(ctx)
	})
}

func complete(context.Context) error { return nil }

// atBatch is a stage that calls f at one batch.
func atBatch(number int64, f func(ctx context.Context) error) Stage[*Batch, *Batch] {
	return stageFunc[*Batch, *Batch](func(ctx context.Context, in <-chan *Batch, out chan<- *Batch) error {
		for b, err := range Values(ctx, in) {
			if err != nil {
				return err
			}
			if b.Number == number {
				if err := f(ctx); err != nil {
					return err
				}
			}
			if err := Send(ctx, out, b); err != nil {
				return err
			}
		}
		return nil
	})
}

// drainBatches ranges to the end.
func drainBatches(ctx context.Context, f Flow[*Batch]) (n int, err error) {
	for _, e := range f.All(ctx) {
		if e != nil {
			return n, e
		}
		n++
	}
	return n, nil
}

func TestTimeoutNamesWhoIsSilent(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	relay := atBatch(-1, complete)
	mapped := func(hangAt int64) Stage[*Batch, *Batch] {
		return stageFunc[*Batch, *Batch](func(ctx context.Context, in <-chan *Batch, out chan<- *Batch) error {
			return Map(ctx, MapConfig[*Batch]{Workers: 2}, in, out, func(ctx context.Context, b *Batch) (*Batch, error) {
				if b.Number == hangAt {
					return nil, hang(ctx)
				}
				return b, nil
			})
		})
	}
	for _, tt := range []struct {
		name  string
		flow  Flow[*Batch]
		who   string
		batch int64
		n     int
	}{
		{"source", From(fewBatches(3, hang)).Then(relay, mapped(-1), relay), "sourceFunc", -1, 3},
		{"source, prefetched", From(fewBatches(3, hang)).Prefetch(9).Then(relay, relay), "sourceFunc", -1, 3},
		{"source alone", From(fewBatches(0, hang)), "sourceFunc", -1, 0},
		{"stage", From(fewBatches(9, complete)).Then(relay, atBatch(4, hang), relay), "stageFunc", 4, 4},
		{"stage, prefetched", From(fewBatches(9, complete)).Prefetch(2).Then(relay, atBatch(4, hang), relay), "stageFunc", 4, 4},
		{"map", From(fewBatches(9, complete)).Then(relay, mapped(5), relay), "stageFunc", -1, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				n, err := drainBatches(t.Context(), tt.flow.Timeout(time.Minute))
				var silent *SilentError
				if !errors.As(err, &silent) || !strings.Contains(silent.Who, tt.who) || silent.Batch != tt.batch || silent.Left || silent.After != time.Minute {
					t.Errorf("error is %#v, want a SilentError of %s at batch %d", err, tt.who, tt.batch)
				}
				if took := time.Since(start); took > time.Minute+time.Second || n != tt.n {
					t.Errorf("%d batches and the error after %v, want %d and at most the timeout and a second", n, took, tt.n)
				}
			})
		})
	}
}

// A read that no cancellation reaches must not keep the loop from ending.
func TestTimeoutLeavesBehindWhatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := make(chan struct{})
		hung := true
		source := fewBatches(2, func(context.Context) error {
			if hung {
				<-dead
			}
			return nil
		})
		flow := From(source).Then(atBatch(-1, complete)).Timeout(time.Minute)
		start := time.Now()
		n, err := drainBatches(t.Context(), flow)
		var silent *SilentError
		if !errors.As(err, &silent) || !silent.Left || n != 2 || time.Since(start) > time.Minute+time.Second {
			t.Errorf("%d batches and %v after %v, want a SilentError that says what is left", n, err, time.Since(start))
		}
		if !strings.Contains(err.Error(), "has not answered for 1m0s, nor ended when it was cancelled") {
			t.Errorf("message is %q", err)
		}
		if _, err := drainBatches(t.Context(), flow); err != ErrBusy {
			t.Errorf("while it runs on, another range gives %v, want ErrBusy", err)
		}

		// Somebody else's cancellation does not wait for it either.
		ctx, cancel := context.WithCancelCause(t.Context())
		other := From(source).Then(atBatch(-1, complete)).Timeout(time.Minute)
		time.AfterFunc(time.Second, func() { cancel(errAbsent) })
		start = time.Now()
		if _, err := drainBatches(ctx, other); err != errAbsent || time.Since(start) > time.Minute+time.Second {
			t.Errorf("cancelled: %v after %v", err, time.Since(start))
		}

		close(dead)
		synctest.Wait()
		hung = false
		for _, f := range []Flow[*Batch]{flow, other} {
			if n, err := drainBatches(t.Context(), f); n != 2 || err != nil {
				t.Errorf("afterwards: %d batches, %v", n, err)
			}
		}
	})
}

func TestTimeoutIsForTheWaitAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := stageFunc[*Batch, *Batch](func(ctx context.Context, in <-chan *Batch, out chan<- *Batch) error {
			for b, err := range Values(ctx, in) {
				if err != nil {
					return err
				}
				time.Sleep(59 * time.Second)
				if err := Send(ctx, out, b); err != nil {
					return err
				}
			}
			return nil
		})
		n := 0
		for _, err := range From(fewBatches(5, complete)).Timeout(time.Minute).Then(slow).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour) // the trainer's own time
			n++
		}
		if n != 5 {
			t.Errorf("%d batches, want 5", n)
		}
	})
}

// A flow inside a stage that falls silent fails the stage like anything else.
func TestTimeoutOfAFlowInsideAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := From(fewBatches(0, func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })).Timeout(time.Second)
		outer := From(fewBatches(3, complete)).Then(atBatch(1, func(ctx context.Context) error {
			_, err := drainBatches(ctx, inner)
			return err
		})).Timeout(time.Minute)
		n, err := drainBatches(t.Context(), outer)
		var silent *SilentError
		if !errors.As(err, &silent) || silent.After != time.Second || n != 1 {
			t.Errorf("%d batches, %v, want 1 and the inner flow's error", n, err)
		}
	})
}
