package storage

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/tercet-ml/tercet/pipeline"
)

// Causes to branch on with [errors.Is]. The error that wraps one of them names
// the file, and the row group, row and column where they are known.
var (
	ErrCorrupt     = errors.New("corrupt file")             // bytes that no writer makes: truncated, damaged or forged
	ErrSchema      = errors.New("unsuitable schema")        // a sound file without the columns or types that are needed
	ErrUnsupported = errors.New("not supported")            // a sound file in a format, codec or encoding that is not read here
	ErrVersion     = errors.New("other format version")     // a file of ours, from a version that this one cannot read
	ErrNoData      = errors.New("no data files found")      // a path, pattern or folder without a single shard
	ErrNull        = errors.New("null value")               // a cell that must have a value
	ErrValue       = errors.New("value out of range")       // a cell with a value that cannot be used
	ErrMemory      = errors.New("memory budget exceeded")   // reading would take more memory than its budget
	ErrClosed      = errors.New("data set has been closed") // a method was called after Close
)

// A RowError says where in a file reading failed. Test its cause with [errors.Is].
type RowError = pipeline.RowError

// A SplitError says that the paths hold several splits of a data set (train and
// test) and none was named, or one that is not there: a mistake of usage.
type SplitError struct {
	Want   string   // the split that was asked for; "" when none was
	Splits []string // those found, in order
}

func (e *SplitError) Error() string {
	found := strings.Join(e.Splits, ", ")
	if e.Want == "" {
		return fmt.Sprintf("several splits found (%s): name the one to read", found)
	}
	if found == "" {
		found = "none"
	}
	return fmt.Sprintf("split %q not found (found: %s)", e.Want, found)
}

// A ColumnError says that a column could not be chosen: a mistake of usage.
// It wraps [ErrSchema].
type ColumnError struct {
	File  string
	Role  string   // "image", "label", "id", "group" or "embedding": the Config field and the flag that name the column
	Want  string   // the column that was asked for; "" when it was looked for by convention
	Found []string // the columns of the file with their types
	Hint  string   // what else is wrong, and what to do; may be empty
}

func (e *ColumnError) Error() string {
	s := fmt.Sprintf("%s: no %s column", e.File, e.Role)
	if e.Want != "" {
		s = fmt.Sprintf("%s: column %q cannot be the %s column", e.File, e.Want, e.Role)
	}
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	return fmt.Sprintf("%s; set the %s column (found: %s)", s, e.Role, strings.Join(e.Found, ", "))
}

// Unwrap returns [ErrSchema].
func (e *ColumnError) Unwrap() error { return ErrSchema }

// caught turns what recover returned into an error that wraps ErrCorrupt: the
// library that decodes files panics where bytes make no sense to it. A refusal
// of the memory budget keeps its own cause. Memory that the Go runtime itself
// cannot find is not recoverable, which is why the budget exists.
func caught(r any) error {
	switch v := r.(type) {
	case overBudget:
		return v
	case stopped:
		return v.error
	case interface{ Addr() uintptr }: // a mapped file that was cut short, or a disk that fails
		return fmt.Errorf("%w: %w: %v", ErrRead, ErrCorrupt, v)
	case runtime.Error:
		return fmt.Errorf("%w: %v in %s", ErrCorrupt, v, panicSite())
	case error:
		return fmt.Errorf("%w: %w", ErrCorrupt, v)
	default:
		return fmt.Errorf("%w: %v", ErrCorrupt, v)
	}
}

// panicSite is the function that panicked, for a message a maintainer can use.
func panicSite() string {
	var after bool
	for line := range strings.Lines(string(debug.Stack())) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "panic("):
			after = true
		case after && strings.Contains(line, "(") && !strings.HasPrefix(line, "/") && !strings.HasPrefix(line, "runtime."):
			name, _, _ := strings.Cut(line[strings.LastIndex(line, "/")+1:], "(0x")
			return strings.TrimSuffix(name, "(...)")
		}
	}
	return "an unknown function"
}
