package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sourceFunc and stageFunc make sources and stages of functions.
type sourceFunc[T any] func(ctx context.Context, out chan<- T) error

func (f sourceFunc[T]) Run(ctx context.Context, out chan<- T) error { return f(ctx, out) }

type stageFunc[A, B any] func(ctx context.Context, in <-chan A, out chan<- B) error

func (f stageFunc[A, B]) Run(ctx context.Context, in <-chan A, out chan<- B) error {
	return f(ctx, in, out)
}

// count is a source of 0, 1, 2, … without end.
var count = sourceFunc[int](func(ctx context.Context, out chan<- int) error {
	for i := 0; ; i++ {
		if err := Send(ctx, out, i); err != nil {
			return err
		}
	}
})

// first is a source of 0 … n−1 that then returns err.
func first(n int, err error) Source[int] {
	return sourceFunc[int](func(ctx context.Context, out chan<- int) error {
		for i := range n {
			if err := Send(ctx, out, i); err != nil {
				return err
			}
		}
		return err
	})
}

// each is a stage that sends f of each value.
func each[A, B any](f func(A) (B, error)) Stage[A, B] {
	return stageFunc[A, B](func(ctx context.Context, in <-chan A, out chan<- B) error {
		for a, err := range Values(ctx, in) {
			if err != nil {
				return err
			}
			b, err := f(a)
			if err != nil {
				return err
			}
			if err := Send(ctx, out, b); err != nil {
				return err
			}
		}
		return nil
	})
}

var (
	double = each(func(i int) (int, error) { return 2 * i, nil })
	same   = each(func(i int) (int, error) { return i, nil })
)

// failing is a stage that fails with err at value n.
func failing(n int, err error) Stage[int, int] {
	return each(func(i int) (int, error) {
		if i == n {
			return 0, err
		}
		return i, nil
	})
}

// collect ranges to the end and checks that an error comes last and with a zero value.
func collect(t *testing.T, seq iter.Seq2[int, error]) (got []int, err error) {
	t.Helper()
	for v, e := range seq {
		if err != nil {
			t.Fatalf("after error %v came (%v, %v)", err, v, e)
		}
		if e == nil {
			got = append(got, v)
			continue
		}
		if v != 0 {
			t.Errorf("error %v came with the value %v, want 0", e, v)
		}
		err = e
	}
	return got, err
}

func upTo(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func TestFlowDrains(t *testing.T) {
	for _, ahead := range []int{-3, 0, 1, 5, 1000} {
		t.Run(fmt.Sprintf("prefetch=%d", ahead), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				flow := From(Slice(upTo(100))).Prefetch(ahead).Then(same, double, same)
				for range 2 { // a flow may be ranged over again
					got, err := collect(t, flow.All(t.Context()))
					if err != nil {
						t.Fatal(err)
					}
					for i, v := range got {
						if v != 2*i {
							t.Fatalf("value %d is %d, want %d", i, v, 2*i)
						}
					}
					if len(got) != 100 {
						t.Fatalf("%d values, want 100", len(got))
					}
				}
			})
		})
	}
}

func TestFlowWithoutValuesOrStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got, err := collect(t, From(Slice[int](nil)).Then(same).All(t.Context())); len(got) != 0 || err != nil {
			t.Errorf("empty source: %v, %v", got, err)
		}
		if got, err := collect(t, From(Slice(upTo(3))).All(t.Context())); !slices.Equal(got, upTo(3)) || err != nil {
			t.Errorf("no stage: %v, %v", got, err)
		}
	})
}

func TestViaChangesTheType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		words := Via(From(Slice([]int{1, 22})), each(func(i int) (string, error) { return fmt.Sprint(i), nil }))
		var got []string
		for s, err := range words.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, s)
		}
		if want := []string{"1", "22"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// synctest.Test itself fails when a goroutine outlives the loop in what follows.

func TestFlowBreak(t *testing.T) {
	for _, after := range []int{1, 2, 10} {
		synctest.Test(t, func(t *testing.T) {
			stopped := false
			source := sourceFunc[int](func(ctx context.Context, out chan<- int) error {
				err := count(ctx, out)
				time.Sleep(time.Hour) // it takes its time to close its files
				stopped = true
				return err
			})
			n := 0
			for _, err := range From(source).Prefetch(3).Then(same, double).All(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if n++; n == after {
					break
				}
			}
			if !stopped {
				t.Errorf("break after %d: the statement after the loop was reached before the source had returned", after)
			}
		})
	}
}

type codeError struct{ code int }

func (e codeError) Error() string { return fmt.Sprint("code ", e.code) }

func TestFlowErrors(t *testing.T) {
	cause := fmt.Errorf("read shard: %w", errors.Join(fs.ErrNotExist, codeError{7}))
	for _, tt := range []struct {
		name string
		flow Flow[int]
	}{
		{"source, nothing sent", From(first(0, cause))},
		{"source", From(first(5, cause))},
		{"source behind stages", From(first(5, cause)).Prefetch(2).Then(same, same)},
		{"first stage", From[int](count).Then(failing(3, cause), same, same)},
		{"last stage", From[int](count).Prefetch(9).Then(same, same, failing(3, cause))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, err := collect(t, tt.flow.All(t.Context()))
				if err != cause {
					t.Errorf("error is %v, want %v itself", err, cause)
				}
				var code codeError
				if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &code) || code.code != 7 {
					t.Errorf("causes of %v cannot be reached", err)
				}
				if want := upTo(len(got)); !slices.Equal(got, want) || len(got) > 5 {
					t.Errorf("values before the error are %v", got)
				}
			})
		})
	}
}

func TestFlowFirstErrorWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		early, late := errors.New("early"), errors.New("late")
		flow := From(sourceFunc[int](func(ctx context.Context, out chan<- int) error {
			<-ctx.Done()
			if got := context.Cause(ctx); got != early {
				t.Errorf("the others' context has the cause %v, want %v", got, early)
			}
			return late
		})).Then(stageFunc[int, int](func(context.Context, <-chan int, chan<- int) error {
			time.Sleep(time.Second)
			return early
		}))
		if _, err := collect(t, flow.All(t.Context())); err != early {
			t.Errorf("error is %v, want %v", err, early)
		}
	})
}

func TestFlowPanics(t *testing.T) {
	cause := errors.New("index out of luck")
	for _, tt := range []struct {
		name, in string
		flow     Flow[int]
	}{
		{"source", "sourceFunc", From(sourceFunc[int](func(context.Context, chan<- int) error { panic(cause) })).Then(same)},
		{"stage", "stageFunc", From[int](count).Then(same, each(func(int) (int, error) { panic(cause) }), same)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, err := collect(t, tt.flow.All(t.Context()))
				var p *PanicError
				if !errors.As(err, &p) || !errors.Is(err, cause) {
					t.Fatalf("error is %#v, want a PanicError of %v", err, cause)
				}
				if !strings.Contains(p.In, tt.in) {
					t.Errorf("PanicError.In is %q, want a %s", p.In, tt.in)
				}
				if !strings.Contains(string(p.Stack), "TestFlowPanics.func") {
					t.Errorf("the stack does not show where it panicked:\n%s", p.Stack)
				}
			})
		})
	}
}

func TestFlowGoexit(t *testing.T) {
	for _, flow := range []Flow[int]{
		From(sourceFunc[int](func(context.Context, chan<- int) error { runtime.Goexit(); return nil })).Then(same),
		From[int](count).Then(each(func(int) (int, error) { runtime.Goexit(); return 0, nil }), same),
	} {
		synctest.Test(t, func(t *testing.T) { // a deadlock, were nothing done about it
			if _, err := collect(t, flow.All(t.Context())); !errors.Is(err, errExited) {
				t.Errorf("error is %v, want %v", err, errExited)
			}
		})
	}
}

func TestFlowCancelled(t *testing.T) {
	cause := errors.New("out of patience")
	t.Run("before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(cause)
			if got, err := collect(t, From[int](count).Then(same).All(ctx)); len(got) != 0 || err != cause {
				t.Errorf("got %v, %v, want no value and %v", got, err, cause)
			}
		})
	})
	t.Run("in the loop body", func(t *testing.T) {
		for range 50 { // once is not enough to see a choice at random
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				var got error
				for v, err := range From(Slice(upTo(4))).Prefetch(9).Then(same).All(ctx) {
					if got = err; err == nil && v == 2 {
						synctest.Wait() // the rest is there to be received
						cancel(cause)
					} else if err == nil && v > 2 {
						t.Errorf("value %d came after the cancellation", v)
					}
				}
				if got != cause {
					t.Errorf("error is %v, want %v", got, cause)
				}
			})
		}
	})
	t.Run("while waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			silent := sourceFunc[int](func(ctx context.Context, out chan<- int) error {
				<-ctx.Done()
				return context.Cause(ctx)
			})
			if _, err := collect(t, From(silent).Then(same, same).All(ctx)); err != context.DeadlineExceeded {
				t.Errorf("error is %v, want %v", err, context.DeadlineExceeded)
			}
		})
	})
}

// take is a stage that returns nil after n values, whatever in still holds.
func take(n int) Stage[int, int] {
	return stageFunc[int, int](func(ctx context.Context, in <-chan int, out chan<- int) error {
		for v, err := range Values(ctx, in) {
			if err != nil {
				return err
			}
			if v == n {
				return nil
			}
			if err := Send(ctx, out, v); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestFlowStageReturnsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := collect(t, From[int](count).Prefetch(4).Then(same, take(3), double).All(t.Context()))
		if want := []int{0, 2, 4}; !slices.Equal(got, want) || err != nil {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	})
}

// A stage that takes a cancellation for the end must not make a failed run look complete.
func TestFlowStageSwallowsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("disk on fire")
		careless := stageFunc[int, int](func(ctx context.Context, in <-chan int, out chan<- int) error {
			for v, err := range Values(ctx, in) {
				if err != nil {
					break
				}
				if Send(ctx, out, v) != nil {
					break
				}
			}
			return nil
		})
		if _, err := collect(t, From(first(2, cause)).Then(careless).All(t.Context())); err != cause {
			t.Errorf("error is %v, want %v", err, cause)
		}
	})
}

func TestFlowBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := From[int](count)
		flow := base.Then(same)
		inner := func() (got []int, err error) { return collect(t, flow.Then(double).All(t.Context())) }
		for _, err := range flow.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if got, err := inner(); !errors.Is(err, ErrBusy) || len(got) != 0 {
				t.Errorf("second range yields %v, %v, want only ErrBusy", got, err)
			}
			break
		}
		for _, err := range base.All(t.Context()) {
			if err != nil {
				t.Errorf("after the first range has ended: %v", err)
			}
			break
		}
	})
}

func TestFlowSlowConsumer(t *testing.T) {
	for ahead, want := range map[int]int{0: 3, 4: 11} {
		synctest.Test(t, func(t *testing.T) {
			sent := 0
			source := sourceFunc[int](func(ctx context.Context, out chan<- int) error {
				for ; ; sent++ {
					if err := Send(ctx, out, sent); err != nil {
						return err
					}
				}
			})
			for _, err := range From(source).Prefetch(ahead).Then(same, same).All(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				break
			}
			// One in the loop, one in the hands of each stage, and 2 stages with room for ahead.
			if sent != want {
				t.Errorf("prefetch %d: the source has sent %d values, want %d", ahead, sent, want)
			}
		})
	}
}

func TestFlowPanicInLoopBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flow := From[int](count).Prefetch(2).Then(same)
		func() {
			defer func() {
				if v := recover(); v != "mine" {
					t.Errorf("recovered %v, want the loop body's own panic", v)
				}
			}()
			for range flow.All(t.Context()) {
				panic("mine")
			}
		}()
		for _, err := range flow.All(t.Context()) { // nothing is left of the first range
			if err != nil {
				t.Error(err)
			}
			break
		}
	})
}

func TestFlowPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flow := From[int](count).Then(double)
		next, stop := iter.Pull2(flow.All(t.Context()))
		for i := range 3 {
			if v, err, ok := next(); v != 2*i || err != nil || !ok {
				t.Errorf("next() = %v, %v, %v, want %d", v, err, ok, 2*i)
			}
		}
		stop()
		if _, _, ok := next(); ok {
			t.Error("next() after stop() has a value")
		}
	})
}

func TestFlowAbandoned(t *testing.T) {
	src := sourceFunc[*Batch](func(ctx context.Context, out chan<- *Batch) error {
		for n := int64(0); ; n++ {
			b := NewBatch()
			b.Number = n
			if err := Send(ctx, out, b); err != nil {
				return err
			}
		}
	})
	stage := stageFunc[*Batch, *Batch](func(ctx context.Context, in <-chan *Batch, out chan<- *Batch) error {
		return Map(ctx, MapConfig[*Batch]{Workers: 2}, in, out, func(_ context.Context, b *Batch) (*Batch, error) {
			b.IDs = append(b.IDs, b.Number)
			return b, nil
		})
	})
	before := runtime.NumGoroutine()
	for range 1000 {
		for b, err := range From(src).Prefetch(2).Then(stage).All(t.Context()) {
			if err != nil || b.Number != 0 || len(b.IDs) != 1 {
				t.Fatalf("first batch is %+v, %v", b, err)
			}
			break
		}
	}
	// A goroutine counts for a moment after it has told its group.
	for end := time.Now().Add(time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines after 1,000 abandoned loops, %d before", after, before)
	}
}

func BenchmarkFlow(b *testing.B) {
	for _, stages := range []int{0, 1, 4} {
		b.Run(fmt.Sprintf("stages=%d", stages), func(b *testing.B) {
			flow := From[int](count)
			for range stages {
				flow = flow.Then(same)
			}
			n := 0
			for _, err := range flow.All(b.Context()) {
				if err != nil {
					b.Fatal(err)
				}
				n++
				if !b.Loop() {
					break
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "values/s")
		})
	}
}
