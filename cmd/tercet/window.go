package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// planFlags say how batches are planned.
type planFlags struct {
	p, k   int
	short  string
	window string
}

func (f *planFlags) register(flags *pflag.FlagSet, when string) {
	flags.IntVar(&f.p, "p", 16, "classes per batch"+when)
	flags.IntVar(&f.k, "k", 4, "images per class and batch"+when)
	flags.StringVar(&f.short, "short", "repeat", "classes with fewer than k images: repeat images, or drop the class"+when)
	flags.StringVar(&f.window, "window", "auto", "bytes of images that have to hold the current and the next window of row groups, where not all images fit: auto is half of --memory, off plans over all rows at once"+when)
}

// config is what the flags say of a plan over a data set.
func (f *planFlags) config(ctx context.Context, set *storage.Dataset, data *dataFlags) (cfg stages.PlanConfig, err error) {
	cfg = stages.PlanConfig{Labels: set.Labels(), Data: set.Digest(), P: f.p, K: f.k}
	if cfg.Short, err = stages.ParseShort(f.short); err != nil {
		return cfg, usagef("--short: %w", err)
	}
	switch f.window {
	case "off":
	case "auto":
		if cfg.Window, err = data.bytes(); err != nil {
			return cfg, err
		}
		cfg.Window /= 2
	default:
		if cfg.Window, err = parseBytes(f.window); err != nil || cfg.Window < 1 {
			return cfg, usagef("--window is %q, want auto, off or a number of bytes, written like 512MiB or 2GiB", f.window)
		}
	}
	if !set.HasImages() {
		cfg.Window = 0
	}
	if cfg.Window > 0 {
		cfg.Layout, err = set.Layout(ctx)
	}
	return cfg, err
}

// planned is how a budget would be planned: what tercet inspect says of it.
type planned struct {
	P       int                  `json:"p"`
	K       int                  `json:"k"`
	Budget  int64                `json:"budget"` // bytes for two windows; 0 for no limit
	Images  int64                `json:"images"` // bytes that all images take; 0 without a budget
	Error   string               `json:"error,omitempty"`
	Batches int64                `json:"batches,omitempty"` // in an epoch
	Windows *stages.WindowReport `json:"windows,omitempty"` // nil where all images fit
	Mixing  *[10]stages.Mixing   `json:"mixing,omitempty"`  // of the tenths of an epoch
	plan    stages.PlanReport    // of the rows that no epoch shows
}

// inspectPlan plans as tercet mine --scope batch would. That it cannot be
// planned is a finding too.
func inspectPlan(ctx context.Context, set *storage.Dataset, data *dataFlags, f *planFlags) (*planned, error) {
	cfg, err := f.config(ctx, set, data)
	if err != nil {
		return nil, err
	}
	cfg.Seed = 1
	found := &planned{P: cfg.P, K: cfg.K, Budget: cfg.Window, Images: cfg.Layout.Bytes()}
	plan, err := stages.NewPlan(cfg)
	if err != nil {
		found.Error = message(err)
		return found, nil
	}
	found.Batches, found.plan = plan.Steps(), plan.Report()
	if w, ok := plan.Windows(0); ok {
		found.Windows = &w
	}
	layout := cfg.Layout
	if layout == nil && set.HasImages() {
		if layout, err = set.Layout(ctx); err != nil {
			return nil, err
		}
	}
	if layout != nil {
		mixing := stages.Mixings(plan, layout, 0)
		found.Mixing = &mixing
	}
	return found, nil
}

func (p *planned) print(line func(name, format string, args ...any)) {
	line("plan", "%d classes × %d images", p.P, p.K)
	if p.Error != "" {
		line("", "cannot be: %s", p.Error)
		return
	}
	w := p.Windows
	switch {
	case w != nil:
		line("", "images take %s, the budget is %s: %s of up to %s, %s an epoch", bytesOf(p.Images), bytesOf(p.Budget), plural(w.Windows, "window"), bytesOf(w.Bytes), plural(int(p.Batches), "batch"))
		line("", "the least budget for them: %s (--window %d)", bytesOf(w.Least), w.Least)
	case p.Budget > 0:
		line("", "images take %s, the budget is %s: batches are made of all rows, %s an epoch", bytesOf(p.Images), bytesOf(p.Budget), plural(int(p.Batches), "batch"))
	default:
		line("", "batches are made of all rows, %s an epoch", plural(int(p.Batches), "batch"))
	}
	if w != nil {
		left := w.Few + w.Rest + w.Over
		line("left out", "%s rows (%.2f %%) of the first epoch: %s with fewer than %d of their class in the window, %s beyond a multiple of %d, %s without %d other classes to go with",
			count(left), percent(left, p.plan.Rows), count(w.Few), p.K, count(w.Rest), p.K, count(w.Over), p.P-1)
	}
	line("never shown", "%s: of unknown class, or of classes with too few images", plural(int(p.plan.Rows-p.plan.Images), "row"))
	if p.Mixing != nil {
		for i, m := range []struct {
			name string
			of   func(stages.Mixing) float64
		}{
			{"classes", func(m stages.Mixing) float64 { return m.Class }},
			{"files", func(m stages.Mixing) float64 { return m.File }},
			{"row groups", func(m stages.Mixing) float64 { return m.Group }},
		} {
			var bits []string
			for _, tenth := range p.Mixing {
				bits = append(bits, fmt.Sprintf("%.3f", m.of(tenth)))
			}
			line(first(i, "shuffle"), "entropy of a batch's %s by tenths of an epoch, in bits: %s", m.name, strings.Join(bits, " "))
		}
	}
}

// bytesOf writes a size for people: 1.5 GiB.
func bytesOf(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
