package storage

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
)

func vectorSchema(id arrow.DataType, name string) *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{nullable("score", arrow.PrimitiveTypes.Float64), nullable(name, id), nullable("vector", arrow.ListOf(arrow.PrimitiveTypes.Float64))}, nil)
}

func TestReadVectors(t *testing.T) {
	ints := vectorSchema(arrow.PrimitiveTypes.Int64, "id")
	names := vectorSchema(arrow.BinaryTypes.String, "path")
	paths := []string{"a.png", "b.png", "c.png", "a.png"}
	row := func(id any, vector string) string { return fmt.Sprintf(`{"%s": %v, "vector": %s}`, "id", id, vector) }
	text := func(rows ...string) string { return "[" + strings.Join(rows, ",") + "]" }
	good := []string{row(2, "[5, 6]"), row(0, "[1, 2]"), row(1, "[3, 4]")}
	for _, tt := range []struct {
		name   string
		schema *arrow.Schema
		rows   string
		paths  []string
		want   string // of the error; empty: none
		cause  error
	}{
		{"any order", ints, text(good...), nil, "", nil},
		{"ints though there are paths", ints, text(good...), paths[:3], "", nil},
		{"paths", names, strings.ReplaceAll(text(row(`"c.png"`, "[5, 6]"), row(`"a.png"`, "[1, 2]"), row(`"b.png"`, "[3, 4]")), `"id"`, `"path"`), paths[:3], "", nil},
		{"twice", ints, text(good[0], good[1], good[1]), nil, `row group 1, row 0, column "id": value out of range: 0 is there twice`, ErrValue},
		{"missing", ints, text(good[:2]...), nil, "no vector for sample 1", ErrValue},
		{"out of range", ints, text(row(3, "[1, 2]")), nil, `row 0, column "id": value out of range: sample id 3, want 0 to 2`, ErrValue},
		{"negative", ints, text(row(-1, "[1, 2]")), nil, "sample id -1", ErrValue},
		{"null id", ints, text(row("null", "[1, 2]")), nil, `column "id": null`, ErrNull},
		{"null vector", ints, text(good[0], row(0, "null")), nil, `row 1, column "vector": null`, ErrNull},
		{"other dimension", ints, text(good[0], row(0, "[1]")), nil, "vector of 1 values, want 2", ErrValue},
		{"empty vector", ints, text(row(0, "[]")), nil, "vector of 0 values", ErrValue},
		{"not finite", ints, text(good[0], row(0, "[1, 1e300]")), nil, "value 1 of the vector is +Inf", ErrValue},
		{"unknown path", names, strings.ReplaceAll(text(row(`"d.png"`, "[1, 2]")), `"id"`, `"path"`), paths[:3], `"d.png" is no id or path`, ErrValue},
		{"path of two samples", names, strings.ReplaceAll(text(row(`"a.png"`, "[1, 2]")), `"id"`, `"path"`), paths, `"a.png" is the path of several`, ErrValue},
		{"paths without paths", names, strings.ReplaceAll(text(row(`"a.png"`, "[1, 2]")), `"id"`, `"path"`), nil, `"a.png" is no id or path`, ErrValue},
		{"no id", vectorSchema(arrow.PrimitiveTypes.Int64, "number"), text(), nil, "no column of ids and of vectors (found: [score", ErrSchema},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "v.parquet")
			writeParquet(t, path, tt.schema, tt.rows, 2)
			n := 3
			if len(tt.paths) > 3 {
				n = 4
			}
			emb, digest, err := ReadVectors(t.Context(), VectorConfig{Path: path, Samples: n, Paths: tt.paths})
			if tt.want == "" {
				if err != nil || emb.Dim != 2 || !slices.Equal(emb.Data, []float32{1, 2, 3, 4, 5, 6}) || len(digest) != 64 {
					t.Errorf("%v, %q, %v; want the vectors by sample id", emb, digest, err)
				}
				return
			}
			if !errors.Is(err, tt.cause) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v, want %v with the path and %q", err, tt.cause, tt.want)
			}
		})
	}
}

// A snapshot is a file with ids and vectors like any other.
func TestReadVectorsOfSnapshot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.arrow")
	emb := randomEmbeddings(30, 5)
	if _, err := WriteSnapshot(path, testSnapshot, emb, false); err != nil {
		t.Fatal(err)
	}
	if ours, err := IsSnapshot(t.Context(), path); !ours || err != nil {
		t.Errorf("IsSnapshot is %v, %v", ours, err)
	}
	got, _, err := ReadVectors(t.Context(), VectorConfig{Path: path, Samples: 30})
	if err != nil || !slices.Equal(got.Data, emb.Data) {
		t.Errorf("other vectors, or %v", err)
	}
}
