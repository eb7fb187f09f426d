package stages

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tercet-ml/tercet/pipeline"
)

// OnBad is what is done with rows that cannot be used because of their bytes: an
// image that cannot be decoded, a vector with a NaN in it. Whatever is done, all
// other rows keep their place: the same batch and slot, the same sample id.
type OnBad uint8

const (
	// FailOnBad ends the job at the first one. It is the default.
	FailOnBad OnBad = iota
	// SkipBad leaves them out. A slot of a batch that was planned for one has
	// its id and the label [pipeline.Unknown], and takes no part.
	SkipBad
	// SubstituteBad puts the next image of the same class, in the order the plan
	// has for that class, in their slots. Where there are no slots, over a whole
	// data set, they are left out.
	SubstituteBad
)

// String is "fail", "skip" or "substitute".
func (o OnBad) String() string {
	switch o {
	case FailOnBad:
		return "fail"
	case SkipBad:
		return "skip"
	case SubstituteBad:
		return "substitute"
	}
	return fmt.Sprintf("OnBad(%d)", uint8(o))
}

// ParseOnBad is the inverse of [OnBad.String].
func ParseOnBad(name string) (OnBad, error) {
	for _, o := range []OnBad{FailOnBad, SkipBad, SubstituteBad} {
		if o.String() == name {
			return o, nil
		}
	}
	return 0, fmt.Errorf("stages: bad rows: %q is not fail, skip or substitute", name)
}

// ErrBadRate means that more rows are bad than were to be put up with.
var ErrBadRate = errors.New("too many bad rows")

// BadRows lists the bad rows of a data set, each once. It may be used by several
// goroutines; what it holds does not depend on their number.
type BadRows struct {
	samples, limit int64

	mu   sync.Mutex
	rows map[int64]pipeline.BadRow
}

// NewBadRows returns an empty list for a data set of that many samples, of which
// a share of rate, from 0 to 1, may be bad.
func NewBadRows(samples int, rate float64) (*BadRows, error) {
	if !(rate >= 0 && rate <= 1) {
		return nil, fmt.Errorf("stages: a rate of bad rows of %v, want 0 to 1", rate)
	}
	return &BadRows{samples: int64(samples), limit: int64(rate * float64(samples)), rows: make(map[int64]pipeline.BadRow)}, nil
}

// Add notes the row of a sample, that is bad for reason err. digest is of its
// stored image; zero where there is none. The row that is one too many is noted
// as well, and is [ErrBadRate]. A failure that the bytes of the row do not
// decide is not noted and comes back.
func (b *BadRows) Add(id int64, where pipeline.Location, digest [16]byte, err error) error {
	if !ofBytes(err) {
		return err
	}
	row := pipeline.BadRow{ID: id, Location: where, Reason: err.Error()}
	if at, ok := errors.AsType[*pipeline.RowError](err); ok {
		row.Reason = at.Err.Error()
		if at.Column != "" {
			row.Column = at.Column
		}
	}
	if digest != [16]byte{} {
		row.Digest = hex.EncodeToString(digest[:])
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.rows[id]; !ok {
		b.rows[id] = row
	}
	if n := int64(len(b.rows)); n > b.limit {
		return fmt.Errorf("%w: %d of %d rows, and at most %d were to be put up with; the last is %w", ErrBadRate, n, b.samples, b.limit,
			&pipeline.RowError{Location: where, Err: errors.New(row.Reason)})
	}
	return nil
}

// Has reports whether the row of a sample is on the list. A nil list has none.
func (b *BadRows) Has(id int64) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.rows[id]
	return ok
}

// Row is what was noted of a sample's row.
func (b *BadRows) Row(id int64) pipeline.BadRow {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rows[id]
}

// Len is the number of rows; 0 for nil.
func (b *BadRows) Len() int {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.rows)
}

// Rows are the rows in id order.
func (b *BadRows) Rows() []pipeline.BadRow {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	rows := make([]pipeline.BadRow, 0, len(b.rows))
	for _, r := range b.rows {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(x, y pipeline.BadRow) int { return int(min(max(x.ID-y.ID, -1), 1)) })
	return rows
}

// Labels are labels with those of the bad rows unknown: a copy, unless there are none.
func (b *BadRows) Labels(labels []int32) []int32 {
	rows := b.Rows()
	if len(rows) == 0 {
		return labels
	}
	labels = slices.Clone(labels)
	for _, r := range rows {
		labels[r.ID] = pipeline.Unknown
	}
	return labels
}

// Digest identifies the list: part of [PlanConfig.Config] where batches depend on it.
func (b *BadRows) Digest() string {
	rows := b.Rows()
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	return pipeline.Digest("bad rows", ids)
}

// ofBytes reports whether a failure is decided by the bytes of a row. The memory
// that was given is not: with more of it the row may be a good one.
func ofBytes(err error) bool {
	_, row := errors.AsType[*pipeline.RowError](err)
	return row && !errors.Is(err, errDecodeMemory) && !errors.Is(err, errRecodeMemory)
}
