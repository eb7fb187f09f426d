package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// A usageError is a mistake in how the program was called: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// isUsage reports whether err is the caller's mistake rather than the data's.
func isUsage(err error) bool {
	var (
		called usageError
		mined  *stages.UsageError
		split  *storage.SplitError
		column *storage.ColumnError
	)
	return errors.As(err, &called) || errors.As(err, &mined) || errors.As(err, &split) || errors.As(err, &column)
}

// flagOf names the flag behind a field of the library's settings.
var flagOf = map[string]string{
	"MineConfig.Loss.Margin":        "--margin",
	"MineConfig.Loss.Distance":      "--distance",
	"MineConfig.Rule":               "--rule",
	"MineConfig.Pick":               "--pick",
	"MineConfig.PerPair":            "--per-pair",
	"MineConfig.Positives":          "--positives",
	"MineConfig.PositivesBy":        "--positives",
	"MineConfig.Candidates":         "--candidates",
	"MineConfig.Guards.Floor":       "--guard-floor",
	"MineConfig.Guards.Relative":    "--guard-relative",
	"MineConfig.Guards.SkipRanks":   "--guard-skip-ranks",
	"MineConfig.Guards.AnchorCap":   "--guard-anchor-cap",
	"MineConfig.Guards.NegativeCap": "--guard-negative-cap",
	"MineConfig.Guards.ClassCap":    "--guard-class-cap",
	"PlanConfig.P":                  "--p",
	"PlanConfig.K":                  "--k",
	"PlanConfig.Steps":              "--batches",
	"PlanConfig.Window":             "--window",
	"PlanConfig.Rank":               "--rank",
	"PlanConfig.World":              "--world",
	"PoolsConfig.P":                 "--p",
	"PoolsConfig.K":                 "--k",
}

// asFlags puts the flags in the place of the library's limits that come from them.
var asFlags = strings.NewReplacer("DecodeConfig.MaxPixels", "--max-pixels", "DecodeConfig.Memory", "half of --memory",
	"RecodeConfig.Memory", "a quarter of --memory", "PoolsConfig.Memory", "a quarter of --memory")

// message is err in the words of the command line.
func message(err error) string {
	text := asFlags.Replace(err.Error())
	var mined *stages.UsageError
	if errors.As(err, &mined) {
		if flag, ok := flagOf[mined.Field]; ok {
			return strings.Replace(text, mined.Error(), flag+" "+mined.Reason, 1)
		}
	}
	return text
}

// hinted is an error with what can be done about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// hintFor says what can be done about err; "" where the message says it all.
func hintFor(err error) string {
	var (
		split  *storage.SplitError
		column *storage.ColumnError
		row    *storage.RowError
		known  hinted
		use    *stages.UsageError
	)
	switch {
	case errors.As(err, &known):
		return known.hint
	case errors.As(err, &use) && use.Field == "PlanConfig.Window":
		return "allow more with --window, or with --memory, half of which it is by default; --window off plans over all rows at once"
	case errors.As(err, new(*unfinishedError)):
		return "what was done is kept: the same command with --resume goes on behind it"
	case errors.Is(err, storage.ErrUnfinished):
		return "go on with --resume, or begin anew with --overwrite"
	case errors.As(err, &split):
		return "choose with --split"
	case errors.As(err, &column):
		return "name it with --" + column.Role + "-column"
	case errors.Is(err, storage.ErrExists):
		return "replace it with --overwrite, or write to another name"
	case errors.Is(err, storage.ErrMemory):
		return "allow more with --memory"
	case errors.Is(err, storage.ErrNoData):
		return "name Parquet or Arrow files, globs, or folders that hold them"
	case errors.Is(err, storage.ErrCorrupt):
		return "copy or make the file again"
	case errors.As(err, &row):
		return "tercet inspect lists every row that cannot be read"
	}
	return ""
}

// An unfinishedError is what ended a job that has parts to go on with.
type unfinishedError struct{ error }

func (e *unfinishedError) Unwrap() error { return e.error }
