// Tercet chooses the pairs and triplets that embedding models are trained on.
//
//	tercet prep SRC… -o DIR               make a data set of folders, IDX, tars, CSV, Parquet, Arrow
//	tercet inspect DATA…                  what a data set holds
//	tercet embed DATA… -o emb.arrow       embed every image once and keep the embeddings
//	tercet mine DATA… -o triplets.parquet mine triplets and write them to a file
//	tercet compare DATA…                  train a small network by several rules and compare
//	tercet verify PATH…                   check files against their digests
//	tercet soak DATA…                     stream as in training, and check what must not change
//	tercet bench                          measure kernels, mining and losses on this machine
//	tercet version                        what this program was built from
//
// Results go to standard output, everything else to standard error. The exit
// code is 0 when the job is done, 1 when it failed, 2 when it was asked for
// wrongly, 3 when checks found faults, and 130 when it was interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// errInterrupted is the cause of a context that a signal cancelled.
var errInterrupted = errors.New("interrupted")

// run is main without the process: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	watch := watchSignals(ctx, signals, cancel)
	defer watch.Stop()

	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(context.Cause(ctx), errInterrupted):
		fmt.Fprintln(stderr, "tercet: interrupted; no output was left half written")
		if errors.As(err, new(*unfinishedError)) {
			fmt.Fprintf(stderr, "hint: %s\n", hintFor(err))
		}
		return exitInterrupted
	}
	if faults, ok := errors.AsType[errFaults](err); ok {
		fmt.Fprintf(stderr, "tercet: %v\n", faults)
		return exitFaults
	}
	fmt.Fprintf(stderr, "tercet: %s\n", message(err))
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	if isUsage(err) {
		return exitUsage
	}
	return exitFailed
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	var format, level string
	root := &cobra.Command{
		Use:   "tercet",
		Short: "Choose the pairs and triplets that embedding models are trained on",
		Long: `Tercet reads labelled images from Parquet and Arrow files, embeds them, and
mines the triplets (anchor, positive, negative) that a triplet loss learns from.

Every flag can be given as an environment variable too: --per-pair 2 is
TERCET_PER_PAIR=2. A flag on the command line wins.`,
		Args:          usageArgs(cobra.NoArgs),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := flagsFromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			return setLog(stderr, format, level)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&format, "log-format", "text", "log lines on standard error: text or json")
	root.PersistentFlags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	root.AddCommand(newPrep(), newInspect(), newEmbed(), newMine(), newCompare(), newSoak(), newBench(), newVerify(), newVersion())
	return root
}

// flagsFromEnvironment sets the flags that the command line did not.
func flagsFromEnvironment(flags *pflag.FlagSet) error {
	var first error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "TERCET_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		text, ok := os.LookupEnv(name)
		if !ok || f.Changed || first != nil {
			return
		}
		if err := flags.Set(f.Name, text); err != nil {
			first = usageError{fmt.Errorf("read %s: %w", name, err)}
		}
	})
	return first
}

func setLog(w io.Writer, format, level string) error {
	var min slog.Level
	if err := min.UnmarshalText([]byte(level)); err != nil {
		return usagef("--log-level is %q, want debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: min}
	switch format {
	case "text":
		slog.SetDefault(slog.New(slog.NewTextHandler(w, opts)))
	case "json":
		slog.SetDefault(slog.New(slog.NewJSONHandler(w, opts)))
	default:
		return usagef("--log-format is %q, want text or json", format)
	}
	return nil
}
