package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/apache/arrow/go/v17/parquet/schema"
)

// A batchReader is a column chunk reader of the library, for values of type T.
type batchReader[T any] interface {
	ReadBatch(n int64, values []T, def, rep []int16) (levels int64, stored int, err error)
	HasNext() bool
	Err() error
}

// A leaf reads one leaf column of a row group, level by level.
type leaf[T any] struct {
	chunk   batchReader[T]
	pages   *pages
	col     *schema.Column
	taken   int64 // levels read or passed over
	skipped bool  // skipFlat has passed over pages, and the next one is not at hand yet
	values  []T
	def     []int16
	rep     []int16

	// Lists are read ahead of their rows: what is left of the last fill.
	nextValue, nextLevel, levels int
}

// stride is how many levels of a list are read at a time.
const stride = 4096

// fill reads at most n levels, nulls included, and how many values they have.
func (l *leaf[T]) fill(n int) (levels, stored int, err error) {
	l.values = slices.Grow(l.values[:0], n)[:n]
	l.def = slices.Grow(l.def[:0], n)[:n]
	l.rep = slices.Grow(l.rep[:0], n)[:n]
	got, stored, err := l.chunk.ReadBatch(int64(n), l.values, l.def, l.rep)
	if err == nil {
		err = firstError(l.chunk.Err(), l.pages.err)
	}
	if err != nil {
		return 0, 0, decodeError(err)
	}
	if got == 0 {
		return 0, 0, io.EOF
	}
	levels = int(got)
	l.taken += got
	if most := l.col.MaxDefinitionLevel(); most > 0 {
		full := 0
		for _, d := range l.def[:levels] {
			if d == most {
				full++
			}
		}
		if full != stored {
			return 0, 0, fmt.Errorf("%w: %d values where %d are declared", ErrCorrupt, stored, full)
		}
	} else if stored != levels {
		return 0, 0, fmt.Errorf("%w: %d values where %d are declared", ErrCorrupt, stored, levels)
	}
	return levels, stored, nil
}

// firstError is the first of errs that is one.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// decodeError makes what the library says about bytes a corrupt file.
func decodeError(err error) error {
	for _, ours := range []error{ErrCorrupt, ErrUnsupported, ErrMemory, ErrRead} {
		if errors.Is(err, ours) {
			return err
		}
	}
	_, disk := errors.AsType[*fs.PathError](err)
	_, done := errors.AsType[stopped](err)
	if disk || done {
		return err // not of what is in the file
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// errRows says that a column has too few rows.
var errRows = fmt.Errorf("%w: column has fewer rows than its row group", ErrCorrupt)

// skipFlat passes over n rows of a column without lists, whole pages unread.
func (l *leaf[T]) skipFlat(n int64) error {
	if err := l.settle(); err != nil {
		return err
	}
	inPage := l.pages.given - l.taken
	if n <= inPage {
		return l.drop(n)
	}
	l.pages.skipping, l.skipped = n-inPage, true // before drop, which fetches the next page
	return l.drop(inPage)
}

func (l *leaf[T]) drop(n int64) error {
	for n > 0 {
		levels, _, err := l.fill(int(min(n, 1024)))
		if err != nil {
			return endOfRows(err)
		}
		n -= int64(levels)
	}
	return nil
}

// settle moves to the first row after those that skipFlat passed over.
func (l *leaf[T]) settle() error {
	if !l.skipped {
		return nil
	}
	l.skipped = false
	more := l.chunk.HasNext() // fetches the page that has the row
	if err := firstError(l.pages.err, l.chunk.Err()); err != nil {
		return decodeError(err)
	}
	if !more {
		return errRows
	}
	rest := l.pages.skipping
	l.pages.skipping = 0
	l.taken = l.pages.given - int64(l.pages.page.NumValues())
	return l.drop(rest)
}

// flat reads n rows of a column without lists and calls f with each.
func (l *leaf[T]) flat(n int, f func(v T, null bool)) error {
	if err := l.settle(); err != nil {
		return err
	}
	most := l.col.MaxDefinitionLevel()
	var zero T
	for n > 0 {
		levels, _, err := l.fill(n)
		if err != nil {
			return endOfRows(err)
		}
		at := 0
		for i := range levels {
			if most > 0 && l.def[i] != most {
				f(zero, true)
				continue
			}
			f(l.values[at], false)
			at++
		}
		n -= levels
	}
	return nil
}

func endOfRows(err error) error {
	if err == io.EOF {
		return errRows
	}
	return err
}

// lists reads n rows of a column of lists. It calls row at the beginning of
// each, and value with each element of it. exists is the definition level of a
// list that is not null.
func (l *leaf[T]) lists(n int, exists int16, row func(null bool), value func(v T, null bool)) error {
	most := l.col.MaxDefinitionLevel()
	var zero T
	begun := false
	for {
		if l.nextLevel == l.levels {
			levels, _, err := l.fill(stride)
			if err == io.EOF && n == 0 && begun {
				return nil
			}
			if err != nil {
				return endOfRows(err)
			}
			l.levels, l.nextLevel, l.nextValue = levels, 0, 0
		}
		def, rep := l.def[l.nextLevel], l.rep[l.nextLevel]
		if rep == 0 {
			if n == 0 {
				return nil
			}
			n--
			begun = true
			row(def < exists)
		} else if !begun {
			return fmt.Errorf("%w: a row group begins within a list", ErrCorrupt)
		}
		switch {
		case def == most:
			value(l.values[l.nextValue], false)
			l.nextValue++
		case def > exists: // above an empty list, below a value: a null element
			value(zero, true)
		}
		l.nextLevel++
	}
}
