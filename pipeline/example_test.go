package pipeline_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tercet-ml/tercet/pipeline"
)

// squares is a stage: sequential code that asks Map for parallelism.
type squares struct{ workers int }

func (s squares) Run(ctx context.Context, in <-chan int, out chan<- int) error {
	cfg := pipeline.MapConfig[int]{Workers: s.workers}
	return pipeline.Map(ctx, cfg, in, out, func(_ context.Context, n int) (int, error) {
		return n * n, nil
	})
}

// odd is a stage that drops what is even.
type odd struct{}

func (odd) Run(ctx context.Context, in <-chan int, out chan<- int) error {
	for n, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err // upstream failed, or the reader has left
		}
		if n%2 == 0 {
			continue
		}
		if err := pipeline.Send(ctx, out, n); err != nil {
			return err
		}
	}
	return nil // in was closed, so the stream is complete
}

func Example() {
	flow := pipeline.From(pipeline.Slice([]int{1, 2, 3, 4, 5, 6, 7})).Then(odd{}, squares{workers: 4})
	for n, err := range flow.All(context.Background()) { // runs here
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(n)
		if n == 25 {
			break // nothing of the flow is left running after this
		}
	}
	// Output:
	// 1
	// 9
	// 25
}
