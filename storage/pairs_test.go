package storage

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// randomPairs are n valid pairs in file order.
func randomPairs(n int, scope string) []pipeline.MinedPair {
	out := make([]pipeline.MinedPair, n)
	for i := range out {
		out[i] = pipeline.MinedPair{
			Left: int64(i / 4), Right: int64(i/4 + 1 + i%2), Label: int8(i % 4 / 2),
			Distance: float32(i) / 7, Loss: float32(i) / 3, Batch: -1,
		}
		if scope == ScopeBatch {
			out[i].Batch = int64(i / 40)
		}
	}
	return out
}

func writePairs(path, scope string, pairs []pipeline.MinedPair) error {
	w, err := NewPairWriter(TripletConfig{Path: path, Meta: testMeta(scope)})
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := w.Write(pairs); err != nil {
		return err
	}
	return w.Close(map[string]int64{"pairs": int64(len(pairs))})
}

// col is the column of that name; nil where there is none.
func (f frame) col(name string) *frameColumn {
	for i := range f {
		if f[i].name == name {
			return &f[i]
		}
	}
	return nil
}

func TestPairsRoundTrip(t *testing.T) {
	for _, ending := range tripletEndings {
		for _, scope := range []string{ScopeDataset, ScopeBatch} {
			for _, n := range []int{0, 1, 200, frameRows + 1} {
				path := filepath.Join(t.TempDir(), "p"+ending)
				want := randomPairs(n, scope)
				if err := writePairs(path, scope, want); err != nil {
					t.Fatal(err)
				}
				var got []pipeline.MinedPair
				layout := func(fileMeta, []string) frame { return pairLayout(scope == ScopeBatch) }
				r, err := openFrames(path, "pairs", layout, func(f frame) (int, error) {
					for i := range f.rows() {
						p := pipeline.MinedPair{
							Left: f.col("left").i64[i], Right: f.col("right").i64[i], Label: int8(f.col("label").i32[i]),
							Distance: f.col("distance").f32[i], Loss: f.col("loss").f32[i], Batch: -1,
						}
						if b := f.col("batch"); b != nil {
							p.Batch = b.i64[i]
						}
						got = append(got, p)
					}
					return 0, nil
				})
				if err != nil {
					t.Fatal(err)
				}
				r.close()
				if !slices.Equal(got, want) {
					t.Errorf("%s, %s, %d: pairs differ after a round trip", ending, scope, n)
				}
				if m := r.meta; m.Content != "pairs" || m.PairLabels != PairLabels || m.Counts["pairs"] != int64(n) {
					t.Errorf("metadata is %v", m)
				}
				if _, err := OpenTriplets(path); err == nil {
					t.Error("a pairs file opens as triplets")
				}
			}
		}
	}
}

func TestPairWriterRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		edit       func(p []pipeline.MinedPair)
	}{
		{"twice", "there already", func(p []pipeline.MinedPair) { p[5] = p[4] }},
		{"out of order", "out of order", func(p []pipeline.MinedPair) { p[5], p[9] = p[9], p[5] }},
		{"with itself", "with itself", func(p []pipeline.MinedPair) { p[5].Right = p[5].Left }},
		{"label", "label is 2", func(p []pipeline.MinedPair) { p[5].Label = 2 }},
		{"batch", "batch is 0", func(p []pipeline.MinedPair) { p[5].Batch = 0 }},
		{"loss", "loss is -1", func(p []pipeline.MinedPair) { p[5].Loss = -1 }},
		{"id", "negative sample id", func(p []pipeline.MinedPair) { p[5].Left = -1 }},
	} {
		dir := t.TempDir()
		pairs := randomPairs(20, ScopeDataset)
		tt.edit(pairs)
		err := writePairs(filepath.Join(dir, "p.parquet"), ScopeDataset, pairs)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if names := listDir(t, dir); len(names) > 0 {
			t.Errorf("%s: left behind: %v", tt.name, names)
		}
	}
}

// The golden files pin the bytes: a change of them is a change of what readers
// out there meet, or of a compression library, and is made on purpose.
func TestGoldenFiles(t *testing.T) {
	for _, ending := range tripletEndings {
		dir := t.TempDir()
		writeTriplets(t, filepath.Join(dir, "triplets"+ending), ScopeBatch, true, randomTriplets(12, ScopeBatch))
		if err := writePairs(filepath.Join(dir, "pairs"+ending), ScopeDataset, randomPairs(12, ScopeDataset)); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"triplets" + ending, "pairs" + ending} {
			golden := filepath.Join("testdata", "golden", name)
			got := readFile(t, filepath.Join(dir, name))
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o777); err != nil {
					t.Fatal(err)
				}
				writeFile(t, golden, got)
			}
			if !slices.Equal(got, readFile(t, golden)) {
				t.Errorf("%s differs from what is written now (rewrite with -update)", golden)
			}
		}
		if _, _, err := readTriplets(t.Context(), filepath.Join("testdata", "golden", "triplets"+ending)); err != nil {
			t.Error(err)
		}
	}
}

var _ pipeline.Source[*pipeline.Batch] = (*TripletSource)(nil)
