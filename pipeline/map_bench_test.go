package pipeline

import (
	"context"
	"testing"
	"time"
)

// BenchmarkMapOrder is what order costs where one item in a hundred takes 50
// times as long as the others: the time of Map by that of as many workers that
// send whatever is done first. Both run in turn, on the same items.
func BenchmarkMapOrder(b *testing.B) {
	const (
		items   = 8192
		workers = 16
	)
	work := func(i int) int {
		d := 100 * time.Microsecond
		if i*2654435761>>7%100 == 0 {
			d *= 50
		}
		time.Sleep(d)
		return i
	}
	ordered := func(window int) Stage[int, int] {
		return mapper(MapConfig[int]{Workers: workers, Window: window}, func(_ context.Context, i int) (int, error) { return work(i), nil })
	}
	unordered := stageFunc[int, int](func(ctx context.Context, in <-chan int, out chan<- int) error {
		return ForEach(ctx, workers, workers, func(ctx context.Context, _ int) error {
			for i, err := range Values(ctx, in) {
				if err != nil {
					return err
				}
				if err := Send(ctx, out, work(i)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	for _, tt := range []struct {
		name   string
		window int
	}{{"window=1", workers}, {"window=4", 4 * workers}, {"window=64", 64 * workers}} {
		b.Run(tt.name, func(b *testing.B) {
			var took [2]time.Duration
			for b.Loop() {
				for i, stage := range []Stage[int, int]{unordered, ordered(tt.window)} {
					start := time.Now()
					for _, err := range From(Slice(upTo(items))).Then(stage).All(b.Context()) {
						if err != nil {
							b.Fatal(err)
						}
					}
					took[i] += time.Since(start)
				}
			}
			b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "x-unordered")
		})
	}
}
