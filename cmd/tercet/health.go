package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// healthFlags say where to show how mining goes.
type healthFlags struct {
	stats       string
	statsEvery  int64
	metricsAddr string
}

func (f *healthFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.stats, "stats", "", "add mining health to this file of JSON lines: a line every --stats-every batches, or one of the whole data set")
	flags.Int64Var(&f.statsEvery, "stats-every", 100, "batches to a line of --stats (scope batch)")
	flags.StringVar(&f.metricsAddr, "metrics-addr", "", "serve mining health to Prometheus at http://HOST:PORT/metrics while the job runs; without a host (:9090) on this machine only")
}

func (f *healthFlags) check(outputs ...string) error {
	if f.statsEvery < 1 {
		return usagef("--stats-every is %d, want 1 or more", f.statsEvery)
	}
	for _, out := range outputs {
		if f.stats != "" && out != "" && filepath.Clean(f.stats) == filepath.Clean(out) {
			return usagef("--stats names a file that the job writes something else to: %s", out)
		}
	}
	if f.metricsAddr == "" {
		return nil
	}
	_, err := metricsAddr(f.metricsAddr)
	return err
}

// health watches a job and shows how it goes; nil where nobody asked for it.
type health struct {
	monitor *stages.Monitor
	journal *storage.Journal // nil without --stats
	server  *pipeline.Task   // nil without --metrics-addr
	failed  error            // of the journal
}

// A runLine begins the lines of a run in --stats.
type runLine struct {
	Run pipeline.TripletMeta `json:"run"`
}

// watchHealth begins to watch the job. set is nil for a stream.
func (j *mineJob) watchHealth(ctx context.Context, set *storage.Dataset) (_ *health, err error) {
	f := &j.flags.healthFlags
	if f.stats == "" && f.metricsAddr == "" {
		return nil, nil
	}
	h := new(health)
	defer func() {
		if err != nil {
			h.end()
		}
	}()
	cfg := stages.MonitorConfig{Loss: j.mine.Loss, Every: f.statsEvery, Meter: j.meter, Report: h.report}
	if set != nil {
		cfg.Labels = j.bad.Labels(set.Labels())
		if err := notOf(set, "--stats", f.stats); err != nil {
			return nil, err
		}
	}
	if h.monitor, err = stages.NewMonitor(cfg); err != nil {
		return nil, err
	}
	if f.stats != "" {
		if h.journal, err = storage.OpenJournal(f.stats); err != nil {
			return nil, fmt.Errorf("--stats: %w", err)
		}
	}
	if f.metricsAddr != "" {
		if h.server, err = serveMetrics(ctx, f.metricsAddr, h.monitor.WriteMetrics); err != nil {
			return nil, fmt.Errorf("--metrics-addr: %w", err)
		}
	}
	return h, nil
}

// report keeps a report; what goes wrong is said at the end, for the job goes on.
func (h *health) report(r *stages.Health) {
	if h.journal != nil && h.failed == nil {
		h.failed = h.journal.Append(r)
	}
}

// watch has the stretches of m observed, which are mined from emb.
func (h *health) watch(m *mining, emb *embedded, meta pipeline.TripletMeta) error {
	if h == nil {
		return nil
	}
	if err := h.begin(meta); err != nil {
		return err
	}
	mined := m.stretches
	m.stretches = func(next int64) (pipeline.Flow[stages.Stretch], error) {
		stretches, err := mined(next)
		return stretches.Then(h.monitor.Stretches()), err
	}
	return h.monitor.Snapshot(emb.Snapshot)
}

// begin says what is mined.
func (h *health) begin(meta pipeline.TripletMeta) error {
	if h == nil || h.journal == nil {
		return nil
	}
	if err := h.journal.Append(runLine{meta}); err != nil {
		return fmt.Errorf("--stats: %w", err)
	}
	return nil
}

// observe is what a miner calls with each batch; nil where nobody asked.
func (h *health) observe() func(*pipeline.Batch, stages.MineReport) {
	if h == nil {
		return nil
	}
	return h.monitor.Observe
}

// settled notes what is known of a whole data set when its triplets are written.
func (h *health) settled(scope stages.Scope, r stages.MineReport) {
	if h != nil && scope == stages.ScopeDataSet {
		h.monitor.Settled(r)
	}
}

// endInto ends, and makes what went wrong the error of a job that is done otherwise.
func (h *health) endInto(err *error, output string) {
	if failed := h.end(); failed != nil && *err == nil {
		*err = fmt.Errorf("%s is written, but not all of its statistics: %w", output, failed)
	}
}

// end reports the rest and stops.
func (h *health) end() error {
	if h == nil {
		return nil
	}
	if h.monitor != nil {
		h.monitor.Flush()
	}
	var closed, served error
	if h.journal != nil {
		closed = h.journal.Close()
	}
	if h.server != nil {
		served = h.server.Stop()
	}
	if h.failed != nil {
		closed = nil // the same
	}
	return errors.Join(h.failed, closed, served)
}
