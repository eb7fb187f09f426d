package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tercet-ml/tercet/stages"
)

// soakFlags are the flags of tercet soak as they were typed.
type soakFlags struct {
	dataFlags
	embedderFlags
	planFlags
	length    time.Duration
	refreshes int64
	every     int64
	lag       int64
	share     float64
	prefetch  int
	prefix    int64
	scope     string
	seed      uint64
	slope     float64
	json      bool
	mine      stages.MineConfig
}

func (f *soakFlags) register(flags *pflag.FlagSet) {
	f.dataFlags.register(flags)
	flags.IntVar(&f.dim, "dim", 64, "dimension of the embedding (default: fewer where the data vary in fewer directions)")
	flags.StringVar(&f.size, "size", "", "size of the images: HxW or HxWxC (default: the first image's, at most 64 a side)")
	f.planFlags.register(flags, "")
	flags.DurationVar(&f.length, "for", 30*time.Second, "how long to stream")
	flags.Int64Var(&f.refreshes, "refreshes", 0, "go on beyond that until the cache was refreshed so many times")
	flags.Int64Var(&f.every, "every", 50, "batches from one refresh of the cache to the next")
	flags.Int64Var(&f.lag, "lag", 1, "0: a batch waits for its refresh; 1: it goes on with the generation before")
	flags.Float64Var(&f.share, "share", 0.5, "part of the cores that a refresh keeps to while no batch waits for it")
	flags.IntVar(&f.prefetch, "prefetch", 2, "batches that each stage may run ahead")
	flags.Int64Var(&f.prefix, "prefix", 0, "batches of the short run that the stream is compared with (default: those of three refreshes)")
	flags.StringVar(&f.scope, "scope", "dataset", "where negatives come from: dataset or batch")
	flags.Uint64Var(&f.seed, "seed", 1, "seed of everything that is chosen by chance")
	flags.Float64Var(&f.slope, "max-slope", 1, "MiB a minute that memory may grow by once warm; more than that, and 8 MiB in all, is a failure")
	flags.BoolVar(&f.json, "json", false, "print the summary as JSON")
}

const soakHelp = `Soak does what a training run does to the stream, for as long as it is told: it
plans, embeds, mines, reads and decodes batches, epoch after epoch, with a model
that changes at every step and a cache that is refreshed in the background. Then
it checks that memory did not grow, that no goroutine was left, and that the
stream begins as that of a short run with other workers. Nothing is written.`

func newSoak() *cobra.Command {
	f := new(soakFlags)
	cmd := &cobra.Command{
		Use:   "soak DATA…",
		Short: "Stream as in training for a while and check memory, goroutines and content",
		Long:  soakHelp,
		Example: `  tercet soak data --for 10m --refreshes 100
  tercet soak data --for 30s --window 64MiB`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd.Flags()); err != nil {
				return err
			}
			set, err := f.open(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer set.Close()
			s, err := newSoaking(cmd.Context(), f, set, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			report, err := s.run(cmd.Context())
			if err != nil {
				return err
			}
			if err := report.print(cmd.OutOrStdout(), f.json); err != nil {
				return err
			}
			return report.verdict(f.slope)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// check checks what can be checked before a file is opened.
func (f *soakFlags) check(given *pflag.FlagSet) (err error) {
	if f.mine.Scope, err = stages.ParseScope(f.scope); err != nil {
		return usagef("--scope: %w", err)
	}
	switch {
	case f.length <= 0:
		return usagef("--for is %v, want more than 0", f.length)
	case f.every < 1:
		return usagef("--every is %d, want 1 or more", f.every)
	case f.refreshes < 0 || f.prefix < 0 || f.prefetch < 0:
		return usagef("--refreshes, --prefix and --prefetch want 0 or more")
	case !(f.slope > 0):
		return usagef("--max-slope is %v, want more than 0", f.slope)
	}
	if f.prefix == 0 {
		f.prefix = 3*f.every + 1
	}
	if f.dim < 1 {
		return usagef("--dim is %d, want 1 or more", f.dim)
	}
	f.mine.Loss.Margin, f.mine.Seed, f.dimGiven = margin02, f.seed, given.Changed("dim")
	f.embedderFlags.shape, err = parseShape("--size", f.size)
	return err
}

// A soakReport is what a soak found.
type soakReport struct {
	Seconds    float64 `json:"seconds"`
	Batches    int64   `json:"batches"`
	Epochs     int64   `json:"epochs"` // begun
	Refreshes  int64   `json:"refreshes"`
	Memory     float64 `json:"memory_mib"` // anonymous memory once warm, each time after a collection: the mean
	Peak       float64 `json:"peak_mib"`   // the most, garbage included
	Slope      float64 `json:"slope_mib_per_minute"`
	Minutes    float64 `json:"slope_minutes"` // that the slope was measured over
	Before     int     `json:"goroutines_before"`
	During     int     `json:"goroutines_most"`
	After      int     `json:"goroutines_after"`
	Hash       string  `json:"stream_sha256"`
	Prefix     int64   `json:"prefix_batches"`
	PrefixHash string  `json:"prefix_sha256"`
	Again      string  `json:"short_run_sha256"`
}

func (r *soakReport) print(out io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(out, r)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "ran\t%s: batches %s, epochs %s, refreshes %s; %.0f batches/s\n", seconds(r.Seconds), count(r.Batches), count(r.Epochs), count(r.Refreshes), float64(r.Batches)/r.Seconds)
	fmt.Fprintf(w, "memory\t%.1f MiB once warm, slope %+.2f MiB/min over %.1f min; with garbage %.1f MiB at most\n", r.Memory, r.Slope, r.Minutes, r.Peak)
	fmt.Fprintf(w, "goroutines\t%d before, %d after, at most %d while it ran\n", r.Before, r.After, r.During)
	fmt.Fprintf(w, "stream\t%.16s over %s batches; %.16s over the first %s, %.16s in a short run with other workers\n", r.Hash, count(r.Batches), r.PrefixHash, count(r.Prefix), r.Again)
	return w.Flush()
}

// verdict is an error that says everything that is not as it should be.
func (r *soakReport) verdict(limit float64) error {
	const breath = 8 // MiB, of buffers that come and go
	switch {
	case r.PrefixHash != r.Again:
		return fmt.Errorf("the first %d batches of the soak are not those of a short run", r.Prefix)
	case r.After > r.Before:
		return fmt.Errorf("%d goroutines were left behind", r.After-r.Before)
	case r.Slope > limit && r.Slope*r.Minutes > breath:
		return fmt.Errorf("memory grew by %.2f MiB/min over %.1f min, want at most %v", r.Slope, r.Minutes, limit)
	}
	return nil
}
