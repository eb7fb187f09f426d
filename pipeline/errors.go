package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrBusy is what ranging over a [Flow] yields while another range over it runs.
var ErrBusy = errors.New("flow is already running: one range at a time")

// A PanicError is a panic of a source, a stage or a function given to [Map],
// [ForEach] or [Background], as an error.
type PanicError struct {
	In    string // what panicked: the type of the source or stage, "map", "for each" or "background task"
	Value any    // what was given to panic
	Stack []byte // of the goroutine that panicked

	Batch   int64   // number of the batch that was worked on; −1 where it was none, or is not known
	Samples []int64 // ids of what was worked on: one, or those of the batch; nil where they are not known
}

func (e *PanicError) Error() string {
	text := fmt.Sprintf("%s panicked: %v", e.In, e.Value)
	var at []string
	if e.Batch >= 0 {
		at = append(at, fmt.Sprintf("batch %d", e.Batch))
	}
	const most = 8
	switch n := len(e.Samples); {
	case n == 1:
		at = append(at, fmt.Sprintf("sample %d", e.Samples[0]))
	case n > most:
		at = append(at, fmt.Sprintf("samples %d and %d more", e.Samples[:most], n-most))
	case n > 1:
		at = append(at, fmt.Sprintf("samples %d", e.Samples))
	}
	if len(at) > 0 {
		text += " (" + strings.Join(at, ", ") + ")"
	}
	return text
}

// Unwrap is the panic's value where that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// A Sampled is a value that is made of one sample. Where a function that [Map]
// calls with one panics, the error names it.
type Sampled interface{ SampleID() int64 }

// about completes p with what v is made of.
func about[T any](p *PanicError, v T) {
	switch v := any(v).(type) {
	case *Batch:
		if v != nil {
			p.Batch = v.Number
			if p.Samples == nil {
				p.Samples = slices.Clone(v.IDs)
			}
		}
	case Sampled:
		p.Samples = []int64{v.SampleID()}
	}
}

// A SilentError is the end of a flow that had waited for as long as its
// [Flow.Timeout]: no value had come.
type SilentError struct {
	Who   string        // type of the source or stage that did not answer, while the others waited for it
	Batch int64         // number of the batch that it had received; −1 for none
	After time.Duration // the timeout
	Left  bool          // it did not end when it was cancelled either, and its goroutine was left behind
}

func (e *SilentError) Error() string {
	text := e.Who
	if e.Batch >= 0 {
		text += fmt.Sprintf(" (batch %d)", e.Batch)
	}
	text += fmt.Sprintf(" has not answered for %v", e.After)
	if e.Left {
		text += ", nor ended when it was cancelled"
	}
	return text
}

// A StateError says why a [State] was refused: the first field that differs.
type StateError struct {
	Field      string // name as in the State's JSON
	Have, Want string // what the state says, what this run says
}

func (e *StateError) Error() string {
	return fmt.Sprintf("state does not belong to this run: %s is %s, want %s", e.Field, e.Have, e.Want)
}

// Location is a place in a data set, for messages.
type Location struct {
	File     string
	RowGroup int    // from 0 (record batch in Arrow files); −1 when the whole file is meant
	Row      int64  // from 0 within the row group; −1 when the whole group is meant
	Column   string // empty when no single column is at fault
}

// String is like `train-003.parquet: row group 4, row 1187, column "image"`.
func (l Location) String() string {
	var parts []string
	if l.RowGroup >= 0 {
		parts = append(parts, fmt.Sprintf("row group %d", l.RowGroup))
	}
	if l.Row >= 0 {
		parts = append(parts, fmt.Sprintf("row %d", l.Row))
	}
	if l.Column != "" {
		parts = append(parts, fmt.Sprintf("column %q", l.Column))
	}
	if len(parts) == 0 {
		return l.File
	}
	return l.File + ": " + strings.Join(parts, ", ")
}

// A RowError says where in a data set something is wrong. Test its cause with
// [errors.Is]. It lives here because readers and decoders both raise it.
type RowError struct {
	Location
	Err error
}

func (e *RowError) Error() string { return e.Location.String() + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *RowError) Unwrap() error { return e.Err }
