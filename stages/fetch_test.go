package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// planRows is a Reader of rows whose images say their ids.
type planRows struct {
	labels []int32
	change func(*pipeline.Record) // of each record; may be nil
	err    error
}

func (r planRows) Read(_ context.Context, ids []int64, dst []pipeline.Record) error {
	if r.err != nil {
		return r.err
	}
	if len(ids) != len(dst) {
		return fmt.Errorf("%d ids for %d records", len(ids), len(dst))
	}
	for i, id := range ids {
		dst[i] = pipeline.Record{
			ID: id, Label: r.labels[id], Image: fmt.Append(nil, id),
			Where: pipeline.Location{File: "a.parquet", RowGroup: 2, Row: id, Column: "image"},
		}
		if r.change != nil {
			r.change(&dst[i])
		}
	}
	return nil
}

func TestFetch(t *testing.T) {
	meter := new(pipeline.Meter)
	p := newTestPlan(t, resumeConfig)
	n := int64(0)
	for b, err := range pipeline.From(p).Prefetch(3).Then(Fetch{Reader: planRows{labels: resumeConfig.Labels}, Meter: meter}).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if b.Number != n || len(b.Records) != len(b.IDs) {
			t.Fatalf("batch %d of %d ids has %d records, want batch %d", b.Number, len(b.IDs), len(b.Records), n)
		}
		for i, r := range b.Records {
			if string(r.Image) != fmt.Sprint(b.IDs[i]) || r.Label != b.Labels[i] {
				t.Fatalf("batch %d, image %d: %+v", b.Number, i, r)
			}
		}
		n++
	}
	if timings := meter.Timings(); n != 500 || len(timings) != 1 || timings[0].Items != 500*35 {
		t.Errorf("%d batches, timings %+v", n, timings)
	}
}

// Mined negatives behind the P·K planned images are fetched like these.
func TestFetchExtra(t *testing.T) {
	b := &pipeline.Batch{P: 1, K: 2, IDs: []int64{4, 0, 2, 2}, Labels: []int32{1, 1, 5, 5}, Extra: 2}
	f := Fetch{Reader: planRows{labels: []int32{1, 0, 5, 0, 1}}}
	if err := f.read(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	var images []string
	for _, r := range b.Records {
		images = append(images, string(r.Image))
	}
	if want := []string{"4", "0", "2", "2"}; !slices.Equal(images, want) {
		t.Errorf("images %v, want %v", images, want)
	}
}

func TestFetchErrors(t *testing.T) {
	broken := errors.New("broken pipe")
	labels := []int32{0, 0, 1, 1}
	for _, tt := range []struct {
		name   string
		fetch  Fetch
		labels []int32
		want   string
		is     error
	}{
		{"no reader", Fetch{}, labels, "Fetch.Reader is nil", nil},
		{"reader fails", Fetch{Reader: planRows{err: broken}}, labels, "fetch batch 7: broken pipe", broken},
		{"class", Fetch{Reader: planRows{labels: []int32{0, 0, 1, 2}}}, labels,
			"fetch batch 7: a.parquet: row group 2, row 3: row is not the one that was planned: the data set has changed since its labels were read: class 2, want 1", ErrChanged},
		{"id", Fetch{Reader: planRows{labels: labels, change: func(r *pipeline.Record) { r.ID++ }}}, labels,
			"row 0: row is not the one that was planned: the data set has changed since its labels were read: sample id 1, want 0", ErrChanged},
		{"labels", Fetch{Reader: planRows{labels: labels}}, labels[:3], "4 sample ids have 3 labels", nil},
	} {
		b := &pipeline.Batch{Number: 7, IDs: []int64{0, 1, 2, 3}, Labels: tt.labels}
		var last error
		for _, err := range pipeline.From(pipeline.Slice([]*pipeline.Batch{b})).Then(tt.fetch).All(t.Context()) {
			last = err
		}
		if last == nil || !strings.Contains(last.Error(), tt.want) || tt.is != nil && !errors.Is(last, tt.is) {
			t.Errorf("%s: error %v, want %q", tt.name, last, tt.want)
		}
		if row := (*pipeline.RowError)(nil); tt.is == ErrChanged && !errors.As(last, &row) {
			t.Errorf("%s: %v is no RowError", tt.name, last)
		}
	}
}
