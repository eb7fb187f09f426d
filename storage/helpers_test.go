package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
	"github.com/tercet-ml/tercet/pipeline"
)

// hfImage is the image column of the Hugging Face layout.
var hfImage = arrow.Field{Name: "image", Nullable: true, Type: arrow.StructOf(
	arrow.Field{Name: "bytes", Type: arrow.BinaryTypes.Binary, Nullable: true},
	arrow.Field{Name: "path", Type: arrow.BinaryTypes.String, Nullable: true})}

func nullable(name string, t arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: t, Nullable: true}
}

// labelsJSON is the schema metadata that names the values of column label.
func labelsJSON(names ...string) arrow.Metadata {
	text := `{"info":{"features":{"label":{"_type":"ClassLabel","names":[`
	for i, n := range names {
		if i > 0 {
			text += ","
		}
		text += fmt.Sprintf("%q", n)
	}
	return arrow.NewMetadata([]string{"huggingface"}, []string{text + "]}}}}"})
}

// writeParquet writes rows given as a JSON array of objects, group rows to a
// row group. Binary values are base64.
func writeParquet(tb testing.TB, path string, schema *arrow.Schema, json string, group int64, opts ...parquet.WriterProperty) string {
	tb.Helper()
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, bytes.NewReader([]byte(json)))
	if err != nil {
		tb.Fatal(err)
	}
	return writeRecords(tb, path, []arrow.Record{rec}, group, opts...)
}

// writeRecords writes records, each in row groups of its own. (This version of
// the library writes the wrong rows of a fixed-size list where it has to cut a
// record into row groups.)
func writeRecords(tb testing.TB, path string, recs []arrow.Record, group int64, opts ...parquet.WriterProperty) string {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	opts = append([]parquet.WriterProperty{parquet.WithMaxRowGroupLength(group), parquet.WithRootRepetition(parquet.Repetitions.Required)}, opts...)
	w, err := pqarrow.NewFileWriter(recs[0].Schema(), f, parquet.NewWriterProperties(opts...),
		pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	if err != nil {
		tb.Fatal(err)
	}
	for _, rec := range recs {
		if err := w.Write(rec); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return path
}

// open opens one path and closes it when the test ends.
func open(tb testing.TB, cfg Config) *Dataset {
	tb.Helper()
	d, err := Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	return d
}

// all are the records of a data set, by Run.
func all(tb testing.TB, d *Dataset) []pipeline.Record {
	tb.Helper()
	var recs []pipeline.Record
	for r, err := range pipeline.From[pipeline.Record](d).All(tb.Context()) {
		if err != nil {
			tb.Fatal(err)
		}
		recs = append(recs, r)
	}
	return recs
}

// checkError fails unless err wraps want and contains all of the texts.
func checkError(tb testing.TB, err, want error, texts ...string) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("error %v, want one that wraps %v", err, want)
		return
	}
	for _, text := range texts {
		if !bytes.Contains([]byte(err.Error()), []byte(text)) {
			tb.Errorf("error %q does not say %q", err, text)
		}
	}
}

// sameRecords fails unless both have the same rows.
func sameRecords(tb testing.TB, got, want []pipeline.Record) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i, g := range got {
		if w := want[i]; g.ID != w.ID || g.Label != w.Label || g.Path != w.Path || g.Raw != w.Raw || !bytes.Equal(g.Image, w.Image) {
			t := fmt.Sprintf("record %d is %+v, want %+v", i, g, w)
			tb.Fatal(t[:min(len(t), 500)])
		}
	}
}
