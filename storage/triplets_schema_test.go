package storage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// writeFrames writes a file that no TripletWriter would.
func writeFrames(t *testing.T, path string, meta pipeline.TripletMeta, layout frame) {
	t.Helper()
	w, err := newFrameWriter(OS, path, false, layout)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.close(meta); err != nil {
		t.Fatal(err)
	}
}

func TestOpenTripletsSchema(t *testing.T) {
	good := testMeta(ScopeDataset)
	good.FormatVersion, good.Content = TripletFormat, "triplets"
	newer, pairs := good, good
	newer.FormatVersion++
	pairs.Content = "pairs"
	for _, tt := range []struct {
		name   string
		meta   pipeline.TripletMeta
		layout frame
		want   error
		say    string
	}{
		{"newer version", newer, tripletLayout(false, false), ErrVersion, "format_version is 2"},
		{"pairs", pairs, tripletLayout(false, false), ErrSchema, `"pairs"`},
		{"a column missing", good, tripletLayout(false, false)[1:], ErrSchema, "columns are positive"},
		{"another order", good, append(tripletLayout(false, false)[1:], columnsOf(frameInt64, "anchor")...), ErrSchema, "columns are positive"},
		{"another type", good, append(columnsOf(frameInt32, "anchor"), tripletLayout(false, false)[1:]...), ErrSchema, `column "anchor" is`},
		{"batches in data-set scope", good, tripletLayout(false, true), ErrSchema, "batch"},
	} {
		for _, ending := range tripletEndings[:2] { // JSON lines without rows have no schema
			path := filepath.Join(t.TempDir(), "t"+ending)
			writeFrames(t, path, tt.meta, tt.layout)
			_, err := OpenTriplets(path)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.say) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s, %s: %v, want %v, the path and %q", tt.name, ending, err, tt.want, tt.say)
			}
		}
	}
}

func TestOpenTripletsNotOurs(t *testing.T) {
	dir := t.TempDir()
	for _, ending := range tripletEndings {
		path := filepath.Join(dir, "t"+ending)
		if _, err := OpenTriplets(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: missing: %v", ending, err)
		}
		writeFile(t, path, []byte("{\"anchor\":1}\n"))
		if _, err := OpenTriplets(path); !isDamage(err) {
			t.Errorf("%s: a line of JSON without metadata: %v", ending, err)
		}
	}
	if _, err := OpenTriplets(filepath.Join(dir, "t.csv")); !errors.Is(err, ErrUnsupported) {
		t.Errorf("t.csv: %v, want ErrUnsupported", err)
	}
	folder := filepath.Join(dir, "d.parquet")
	if err := os.Mkdir(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTriplets(folder); err == nil {
		t.Error("a folder opens")
	}
}

func BenchmarkTripletWriter(b *testing.B) {
	rows := randomTriplets(frameRows, ScopeDataset)
	for _, ending := range tripletEndings {
		b.Run("format="+ending[1:], func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "t"+ending)
			for b.Loop() {
				writeTriplets(b, path, ScopeDataset, false, rows)
			}
			b.ReportMetric(float64(b.N)*frameRows/b.Elapsed().Seconds(), "triplets/s")
		})
	}
}

func BenchmarkOpenTriplets(b *testing.B) {
	for _, ending := range tripletEndings {
		path := filepath.Join(b.TempDir(), "t"+ending)
		writeTriplets(b, path, ScopeDataset, false, randomTriplets(frameRows, ScopeDataset))
		b.Run("format="+ending[1:], func(b *testing.B) {
			for b.Loop() {
				f, err := OpenTriplets(path)
				if err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
			b.ReportMetric(float64(b.N)*frameRows/b.Elapsed().Seconds(), "triplets/s")
		})
	}
}
