package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/tercet-ml/tercet/pipeline"
)

// watchSignals cancels the run at the first interrupt. A second one ends the
// process at once, as if nobody were listening.
func watchSignals(ctx context.Context, signals <-chan os.Signal, cancel context.CancelCauseFunc) *pipeline.Task {
	return pipeline.Background(ctx, func(ctx context.Context) error {
		for _, err := range pipeline.Values(ctx, signals) {
			if err != nil {
				return err
			}
			signal.Reset(os.Interrupt, syscall.SIGTERM)
			cancel(errInterrupted)
		}
		return nil
	})
}

// progress shows how far a job is: a bar on a terminal, a log line every few
// seconds elsewhere.
type progress struct {
	phase string
	bar   *progressbar.ProgressBar
	stop  func()
}

// startProgress follows done, the number of items that have been dealt with, up to total.
func startProgress(stderr io.Writer, phase string, total int64, done func() int64) *progress {
	p := &progress{phase: phase}
	if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = newBar(stderr, phase, total)
		p.stop = pipeline.Every(100*time.Millisecond, func() { p.bar.Set64(min(done(), total)) })
		return p
	}
	start := time.Now()
	p.stop = pipeline.Every(5*time.Second, func() {
		n := done()
		rate := float64(n) / time.Since(start).Seconds()
		attrs := []any{"done", n, "total", total, "per_second", int64(rate)}
		if n > 0 && total > n {
			attrs = append(attrs, "left", time.Duration(float64(total-n)/rate*float64(time.Second)).Round(time.Second))
		}
		slog.Info(phase, attrs...)
	})
	return p
}

func newBar(w io.Writer, phase string, total int64) *progressbar.ProgressBar {
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(phase),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetWidth(30),
	)
	bar.StartWithoutRender() // or its clock starts at the first tick, and so does its rate
	return bar
}

// end stops the ticks and clears the bar.
func (p *progress) end() {
	p.stop()
	if p.bar != nil {
		p.bar.Finish()
	}
}

// A counter is a stage that counts what goes by.
type counter[T any] struct{ atomic.Int64 }

// Run implements [pipeline.Stage].
func (c *counter[T]) Run(ctx context.Context, in <-chan T, out chan<- T) error {
	for v, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		if err := pipeline.Send(ctx, out, v); err != nil {
			return err
		}
		c.Add(1)
	}
	return nil
}
