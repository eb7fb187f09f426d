package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTask(t *testing.T) {
	cause, own := errors.New("caller has left"), errors.New("refresh failed")
	for _, tt := range []struct {
		name       string
		f          func(ctx context.Context) error
		wait, stop error // what Wait after a minute and what Stop at once return
	}{
		{"ends", func(context.Context) error { return nil }, nil, nil},
		{"fails", func(context.Context) error { return own }, own, own},
		{"returns the cause", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }, cause, nil},
		{"wraps the cause", func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("embed: %w", context.Cause(ctx)) }, cause, nil},
		{"returns ctx.Err", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, context.Canceled, nil},
		{"fails when stopped", func(ctx context.Context) error { <-ctx.Done(); return own }, own, own},
		{"exits", func(context.Context) error { runtime.Goexit(); return nil }, errExited, errExited},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Minute, func() { cancel(cause) })
				if err := Background(ctx, tt.f).Wait(); !errors.Is(err, tt.wait) || (err == nil) != (tt.wait == nil) {
					t.Errorf("Wait() = %v, want %v", err, tt.wait)
				}
				task := Background(t.Context(), tt.f)
				for range 2 { // a second Stop says the same
					if err := task.Stop(); err != tt.stop {
						t.Errorf("Stop() = %v, want %v", err, tt.stop)
					}
				}
			})
		})
	}
}

func TestTaskPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := Background(t.Context(), func(context.Context) error { panic(errAbsent) }).Wait()
		var p *PanicError
		if !errors.As(err, &p) || p.In != "background task" || !errors.Is(err, errAbsent) || !strings.Contains(string(p.Stack), "TestTaskPanics") {
			t.Errorf("error is %#v, want a PanicError with the stack", err)
		}
	})
}

// A task that was stopped inside a stopped task has not done its work, and says so.
func TestTaskInsideAStoppedTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inner error
		outer := Background(t.Context(), func(ctx context.Context) error {
			inner = Background(ctx, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }).Wait()
			return inner
		})
		if err := outer.Stop(); err != nil {
			t.Errorf("Stop() = %v, want nil", err)
		}
		if inner == nil {
			t.Error("the inner task's Wait() = nil, want an error")
		}
	})
}

func TestStopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		task := Background(t.Context(), func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Hour)
			ended = true
			return ctx.Err()
		})
		if err := task.Stop(); err != nil || !ended {
			t.Errorf("Stop() = %v, task ended: %v", err, ended)
		}
	})
}

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		stop := Every(time.Second, func() { n++ })
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		stop()
		if n != 3 {
			t.Errorf("%d calls in 3.5 s, want 3", n)
		}
		time.Sleep(time.Minute)
		stop()
		if n != 3 {
			t.Errorf("called again after stop: %d", n)
		}
	})
}

func TestEveryPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := Every(time.Second, func() { panic("bar is broken") })
		time.Sleep(time.Minute)
		defer func() {
			if p, ok := recover().(*PanicError); !ok || p.Value != "bar is broken" {
				t.Errorf("stop panicked with %v, want f's own panic", p)
			}
		}()
		stop()
		t.Error("stop returned, want the panic of f")
	})
}

func TestEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewEvent()
		ctx, cancel := context.WithCancelCause(t.Context())
		waiting := Background(t.Context(), func(ctx context.Context) error { return e.Wait(ctx) })
		cancelled := Background(t.Context(), func(context.Context) error { return e.Wait(ctx) })
		synctest.Wait()
		cancel(errAbsent)
		if err := cancelled.Wait(); err != errAbsent {
			t.Errorf("Wait of a cancelled context = %v, want its cause", err)
		}
		e.Set()
		e.Set()
		if err := waiting.Wait(); err != nil {
			t.Errorf("Wait = %v, want nil", err)
		}
		if err := e.Wait(t.Context()); err != nil {
			t.Errorf("Wait after the event = %v, want nil", err)
		}
	})
}
