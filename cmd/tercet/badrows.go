package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// badRowFlags say what is done with rows that cannot be used.
type badRowFlags struct {
	onBadRow   string
	maxBadRows float64
	badRows    string
	policy     stages.OnBad
}

func (f *badRowFlags) register(flags *pflag.FlagSet) {
	f.registerFor(flags, "rows that cannot be read, decoded or embedded: fail; skip them; or substitute the next image of the class. All others keep their place")
}

// registerFor registers the flags with what --on-bad-row does in a command.
func (f *badRowFlags) registerFor(flags *pflag.FlagSet, usage string) {
	flags.StringVar(&f.onBadRow, "on-bad-row", "fail", usage)
	flags.Float64Var(&f.maxBadRows, "max-bad-rows", 0.01, "share of the rows that may be bad before the job stops all the same (0 to 1)")
	flags.StringVar(&f.badRows, "bad-rows", "", "report of the bad rows, as JSON lines (default: the output's name with .bad-rows.jsonl behind)")
}

// check checks the flags; output is the job's.
func (f *badRowFlags) check(given *pflag.FlagSet, output string) (err error) {
	if f.policy, err = stages.ParseOnBad(f.onBadRow); err != nil {
		return usagef("--on-bad-row is %q, want fail, skip or substitute", f.onBadRow)
	}
	if !(f.maxBadRows >= 0 && f.maxBadRows <= 1) {
		return usagef("--max-bad-rows is %v, want a share from 0 to 1, like 0.01", f.maxBadRows)
	}
	if f.policy == stages.FailOnBad && (given.Changed("bad-rows") || given.Changed("max-bad-rows")) {
		return usagef("--bad-rows and --max-bad-rows are for --on-bad-row skip or substitute")
	}
	if f.badRows == "" {
		f.badRows = output + ".bad-rows.jsonl"
	}
	return nil
}

// list is an empty list of bad rows for a data set; nil where the first one is to fail.
func (f *badRowFlags) list(set *storage.Dataset) (*stages.BadRows, error) {
	if f.policy == stages.FailOnBad {
		return nil, nil
	}
	return stages.NewBadRows(set.Len(), f.maxBadRows)
}

// report writes the report of the bad rows that were found, before whatever ended
// the search is returned.
func (f *badRowFlags) report(bad *stages.BadRows, overwrite bool, err error) error {
	if bad == nil || err != nil && !errors.Is(err, stages.ErrBadRate) {
		return err
	}
	if n := bad.Len(); n > 0 {
		slog.Warn("bad rows", "rows", n, "on_bad_row", f.policy.String(), "report", f.badRows)
	}
	return errors.Join(err, storage.WriteBadRows(nil, f.badRows, bad.Rows(), overwrite))
}

// firstGood is the first record that says what image it holds: the first of all,
// unless bad rows are let through.
func firstGood(ctx context.Context, set *storage.Dataset) (rec pipeline.Record, info stages.ImageInfo, err error) {
	one := make([]pipeline.Record, 1)
	for id := range int64(set.Len()) {
		if err = set.Read(ctx, []int64{id}, one); err != nil {
			return rec, info, err
		}
		if err = one[0].Err; err == nil {
			info, err = stages.Inspect(one[0])
		}
		if err == nil || !set.KeepsBad() {
			return one[0], info, err
		}
	}
	return rec, info, err
}
