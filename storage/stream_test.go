package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/tercet-ml/tercet/pipeline"
)

// streamAll is every row of a stream.
func streamAll(ctx context.Context, data []byte, cfg Config) ([]pipeline.Record, []string, error) {
	s, err := OpenStream(ctx, bytes.NewReader(data), cfg)
	if err != nil {
		return nil, nil, err
	}
	var recs []pipeline.Record
	for r, err := range pipeline.From[pipeline.Record](s).All(ctx) {
		if err != nil {
			return nil, nil, err
		}
		recs = append(recs, r)
	}
	return recs, s.Classes(), nil
}

// TestStreamIsTheDataSet: what is read as it comes is what is read from the end.
func TestStreamIsTheDataSet(t *testing.T) {
	for _, name := range []string{"stream.arrows", "dictionary.arrows"} {
		d, want := readSet(t, Config{Paths: []string{formats + name}})
		recs, classes, err := streamAll(t.Context(), readFile(t, formats+name), Config{Paths: []string{formats + name}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range recs {
			if i < len(want) && recs[i].Where != want[i].Where {
				t.Fatalf("%s: row %d is at %v, want %v", name, i, recs[i].Where, want[i].Where)
			}
			if classes != nil && recs[i].Label >= 0 && classes[recs[i].Label] == d.Classes()[want[i].Label] {
				recs[i].Label = want[i].Label // numbered by its first appearance
			}
		}
		sameRecords(t, recs, want)
		if len(recs) == 0 {
			t.Errorf("%s has no rows", name)
		}
	}
}

var streamFields = []arrow.Field{
	{Name: "image", Type: arrow.BinaryTypes.Binary}, {Name: "label", Type: arrow.PrimitiveTypes.Int64},
}

func TestStreamLabels(t *testing.T) {
	text := []arrow.Field{streamFields[0], {Name: "label", Type: arrow.BinaryTypes.String}}
	data := arrowBytes(t, FormatArrowStream, []arrow.Record{
		recordOf(t, `[{"image":"aW1n","label":"zebra"},{"image":"aW1n","label":null}]`, text...),
		recordOf(t, `[]`, text...),
		recordOf(t, `[{"image":"aW1n","label":"ape"},{"image":"aW1n","label":"zebra"}]`, text...),
	})
	recs, classes, err := streamAll(t.Context(), data, Config{})
	var labels []int32
	for i, r := range recs {
		labels = append(labels, r.Label)
		if r.ID != int64(i) || string(r.Image) != "img" {
			t.Errorf("row %d is %+v", i, r)
		}
	}
	if err != nil || !slices.Equal(labels, []int32{0, -1, 1, 0}) || !slices.Equal(classes, []string{"zebra", "ape"}) {
		t.Errorf("labels %v of %q, %v", labels, classes, err)
	}
	data = arrowBytes(t, FormatArrowStream, []arrow.Record{
		recordOf(t, `[{"image":"aW1n","label":7},{"image":"aW1n","label":-1}]`, streamFields...),
		recordOf(t, `[{"image":"aW1n","label":7},{"image":"aW1n","label":-2}]`, streamFields...),
	})
	_, _, err = streamAll(t.Context(), data, Config{})
	checkError(t, err, ErrValue, "-: row group 1, row 1, column \"label\"", "label -2")
	data = arrowBytes(t, FormatArrowStream, []arrow.Record{recordOf(t, `[{"image":"aW1n","label":7},{"image":null,"label":1}]`, streamFields...)})
	_, _, err = streamAll(t.Context(), data, Config{Paths: []string{"feed"}})
	checkError(t, err, ErrNull, "feed: row group 0, row 1, column \"image\"")
	_, err = OpenStream(t.Context(), bytes.NewReader(data), Config{LabelColumn: "class"})
	if named, ok := errors.AsType[*ColumnError](err); !ok || named.Want != "class" {
		t.Errorf("a column that is not there: %v", err)
	}
}

// TestStreamBroken: a stream that is cut short or damaged is an error, whatever
// it says of itself.
func TestStreamBroken(t *testing.T) {
	data := readFile(t, formats+"dictionary.arrows")
	for n := 0; n < len(data); n += 1 + n/50 {
		if _, _, err := streamAll(t.Context(), data[:n], Config{}); err == nil {
			t.Fatalf("a stream of %d of %d bytes was read", n, len(data))
		}
	}
	for at := range min(len(data), 3000) {
		broken := bytes.Clone(data)
		broken[at] ^= byte(1 + at%255)
		streamAll(t.Context(), broken, Config{Memory: 1 << 20}) // any error but a panic
	}
	_, _, err := streamAll(t.Context(), data, Config{Memory: 300})
	checkError(t, err, ErrMemory, "smaller record batches")
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}
	_, _, err = streamAll(t.Context(), huge, Config{})
	checkError(t, err, ErrMemory, "message of 2147483647 bytes")
	_, _, err = streamAll(t.Context(), nil, Config{})
	checkError(t, err, ErrCorrupt)
}

// TestStreamAsItComes: rows are there as soon as their record batch is, and
// nobody has to wait for one that does not come.
func TestStreamAsItComes(t *testing.T) {
	one := recordOf(t, `[{"image":"aW1n","label":7},{"image":"aW1n","label":8}]`, streamFields...)
	data := arrowBytes(t, FormatArrowStream, []arrow.Record{one, one})
	end := len(data) - 8 // the marker
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.Write(data[:end]); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStream(t.Context(), r, Config{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rec, err := range pipeline.From[pipeline.Record](s).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; rec.ID == 3 {
			break // while the source waits for more
		}
	}
	if n != 4 || s.Rows() != 4 {
		t.Errorf("%d rows, %d read", n, s.Rows())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	r2, w2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	defer w2.Close()
	if _, err := OpenStream(ctx, r2, Config{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stream that says nothing: %v", err)
	}
}

func TestStreamEnds(t *testing.T) {
	data := arrowBytes(t, FormatArrowStream, []arrow.Record{recordOf(t, `[{"image":"aW1n","label":7}]`, streamFields...)})
	s, err := OpenStream(t.Context(), bytes.NewReader(data), Config{})
	if err != nil {
		t.Fatal(err)
	}
	if recs, err := s.Next(t.Context()); len(recs) != 1 || err != nil {
		t.Errorf("%d rows, %v", len(recs), err)
	}
	for range 2 {
		if recs, err := s.Next(t.Context()); recs != nil || err != io.EOF {
			t.Errorf("behind the end: %v, %v", recs, err)
		}
	}
	if !strings.HasPrefix(s.Digest(), pipeline.Digest("stream", s.index.identity)[:8]) {
		t.Errorf("digest %s", s.Digest())
	}
}

func FuzzStream(f *testing.F) {
	for _, name := range []string{"stream.arrows", "dictionary.arrows"} {
		data, err := os.ReadFile(formats + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		recs, _, err := streamAll(t.Context(), data, Config{Memory: 1 << 20})
		if err == nil && len(recs) > len(data) {
			t.Errorf("%d rows in %d bytes", len(recs), len(data))
		}
	})
}
