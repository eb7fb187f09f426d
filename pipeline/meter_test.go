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
