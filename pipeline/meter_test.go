package pipeline

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		m.Timer("fetch").Add(1, time.Now())
		if err := ForEach(t.Context(), 4, 40, func(context.Context, int) error {
			defer m.Timer("decode").Add(2, time.Now())
			time.Sleep(time.Second)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		want := []Timing{{"fetch", 1, 0}, {"decode", 80, 40 * time.Second}}
		if got := m.Timings(); !slices.Equal(got, want) {
			t.Errorf("Timings() = %v, want %v", got, want)
		}
	})
}

func TestNilMeter(t *testing.T) {
	var m *Meter
	m.Timer("fetch").Add(1, time.Now())
	if got := m.Timings(); got != nil {
		t.Errorf("Timings() of a nil Meter = %v, want none", got)
	}
}

func TestQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		flow := From(Source[int](count)).Prefetch(3).Metered(&m).Then(double, same)
		for v, err := range flow.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // all have run as far ahead as they may
			stage := "pipeline.stageFunc[int,int]"
			if got, want := m.Queues(), []Queue{{stage, 3, 3}}; !slices.Equal(got, want) { // both stages are of one type
				t.Errorf("queues are %v, want %v", got, want)
			}
			if v == 4 {
				break
			}
		}
		var none *Meter
		for range From(Source[int](count)).Metered(none).Then(double).All(t.Context()) {
			break
		}
		if none.Queues() != nil {
			t.Error("a nil Meter has queues")
		}
	})
}
