package storage

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// endings are one name of each format.
var tripletEndings = []string{".parquet", ".arrow", ".jsonl"}

func testMeta(scope string) pipeline.TripletMeta {
	return pipeline.TripletMeta{
		Scope: scope, Rule: "semi-hard", Pick: "random", PerPair: 1, Positives: 4, Loss: "triplet",
		Margin: 0.2, Distance: "sqeuclidean", Normalised: true, Seed: 1, Embedder: "pca",
		Fingerprint: "f00d", Dim: 64, DataDigest: "d1", Rows: 1000, Classes: 7, Guards: []string{"self", "same-bytes"},
	}
}

// randomTriplets are n valid triplets in file order with ranks as Run gives them.
func randomTriplets(n int, scope string) []pipeline.MinedTriplet {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	out := make([]pipeline.MinedTriplet, n)
	for i := range out {
		label := int32(i / 8 % 6)
		ap, an := r.Float32(), r.Float32()
		m := pipeline.MinedTriplet{
			Anchor: int64(i/8) * 7, Positive: int64(i/8)*7 + 1 + int64(i%8)/3, Negative: int64(i/8)*7 + 5 + int64(i%2),
			AnchorLabel: label, PositiveLabel: label, NegativeLabel: 6,
			AP: ap, AN: an, Loss: max(0, ap-an+0.2), Kind: pipeline.Kind(r.IntN(3)), Generation: int32(i % 2), Batch: -1,
		}
		if scope == ScopeBatch {
			m.Batch = int64(i / 40)
		}
		if i > 0 && out[i-1].Batch == m.Batch && out[i-1].Anchor == m.Anchor && out[i-1].Positive == m.Positive {
			m.Rank = out[i-1].Rank + 1
		}
		out[i] = m
	}
	return out
}

func testPath(id int64) string { return fmt.Sprintf("images/%d \"é<\\\n.png", id) }

// writeTriplets writes a file in pieces of random sizes.
func writeTriplets(t testing.TB, path, scope string, paths bool, triplets []pipeline.MinedTriplet) {
	t.Helper()
	cfg := TripletConfig{Path: path, Meta: testMeta(scope), Overwrite: true}
	if paths {
		cfg.SamplePath = testPath
	}
	w, err := NewTripletWriter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for len(triplets) > 0 {
		n := min(len(triplets), 1+rand.IntN(5000))
		if err := w.Write(triplets[:n]); err != nil {
			t.Fatal(err)
		}
		triplets = triplets[n:]
	}
	if err := w.Close(map[string]int64{"semi-hard": 3, "pairs": 9}); err != nil {
		t.Fatal(err)
	}
}

func readTriplets(ctx context.Context, path string) ([]pipeline.MinedTriplet, pipeline.TripletMeta, error) {
	f, err := OpenTriplets(path)
	if err != nil {
		return nil, pipeline.TripletMeta{}, err
	}
	defer f.Close()
	var got []pipeline.MinedTriplet
	for m, err := range pipeline.From(f).All(ctx) {
		if err != nil {
			return nil, pipeline.TripletMeta{}, err
		}
		got = append(got, m)
	}
	if int64(len(got)) != f.Len() {
		return nil, pipeline.TripletMeta{}, fmt.Errorf("%d rows, Len says %d", len(got), f.Len())
	}
	return got, f.Meta(), nil
}

func TestTripletsRoundTrip(t *testing.T) {
	for _, ending := range tripletEndings {
		for _, scope := range []string{ScopeDataset, ScopeBatch} {
			for _, paths := range []bool{false, true} {
				for _, n := range []int{0, 1, 100} {
					t.Run(fmt.Sprintf("%s/%s/paths=%v/%d", ending[1:], scope, paths, n), func(t *testing.T) {
						want := randomTriplets(n, scope)
						a, b := filepath.Join(t.TempDir(), "a"+ending), filepath.Join(t.TempDir(), "b"+ending)
						writeTriplets(t, a, scope, paths, want)
						got, meta, err := readTriplets(t.Context(), a)
						if err != nil {
							t.Fatal(err)
						}
						if !slices.Equal(got, want) {
							t.Error("triplets differ after a round trip")
						}
						wantMeta := testMeta(scope)
						wantMeta.FormatVersion, wantMeta.Content = TripletFormat, "triplets"
						wantMeta.Counts = map[string]int64{"semi-hard": 3, "pairs": 9}
						if fmt.Sprint(meta) != fmt.Sprint(wantMeta) {
							t.Errorf("metadata is %v, want %v", meta, wantMeta)
						}
						writeTriplets(t, b, scope, paths, want)
						if !bytes.Equal(readFile(t, a), readFile(t, b)) {
							t.Error("written twice, the bytes differ")
						}
					})
				}
			}
		}
	}
}

// Full and nearly empty blocks.
func TestTripletsBlocks(t *testing.T) {
	for i, ending := range tripletEndings {
		for _, n := range []int{frameRows, frameRows + 1} {
			path := filepath.Join(t.TempDir(), "t"+ending)
			want := randomTriplets(n, ScopeBatch)
			writeTriplets(t, path, ScopeBatch, i == 1, want)
			if got, _, err := readTriplets(t.Context(), path); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %d rows: %v, or other triplets", ending, n, err)
			}
		}
	}
}

// Long lines end a block of JSON lines early, so that a reader holds no more than it of any file.
func TestJSONBlocksOfLongLines(t *testing.T) {
	line := bytes.Repeat([]byte("x"), jsonLine)
	line[jsonLine-1] = '\n'
	text := append([]byte("{\"anchor\":1}\n"), bytes.Repeat(line, jsonBlock/jsonLine+2)...)
	d, err := newJSONDecoder(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if d.blocks() != 2 {
		t.Fatalf("%d blocks, want 2", d.blocks())
	}
	want := fmt.Sprintf("line %d: ", jsonBlock/jsonLine+2)
	if err := d.read(1, columnsOf(frameInt64, "anchor")); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("reading the second block: %v, want %q", err, want)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTripletWriterRefuses(t *testing.T) {
	good := randomTriplets(20, ScopeDataset)
	for _, tt := range []struct {
		name string
		want string
		edit func(m []pipeline.MinedTriplet)
	}{
		{"anchors out of order", "out of order", func(m []pipeline.MinedTriplet) { m[5], m[15] = m[15], m[5] }},
		{"ranks out of order", "out of order", func(m []pipeline.MinedTriplet) { m[0].Rank = 2 }},
		{"anchor is its positive", "positive is the anchor", func(m []pipeline.MinedTriplet) { m[5].Positive = m[5].Anchor }},
		{"negative is the positive", "negative is", func(m []pipeline.MinedTriplet) { m[5].Negative = m[5].Positive }},
		{"negative of the same class", "labels of anchor and negative", func(m []pipeline.MinedTriplet) { m[5].NegativeLabel = m[5].AnchorLabel }},
		{"positive of another class", "labels of anchor and positive", func(m []pipeline.MinedTriplet) { m[5].PositiveLabel++ }},
		{"unknown label", "unknown label", func(m []pipeline.MinedTriplet) { m[5].NegativeLabel = pipeline.Unknown }},
		{"NaN", "finite", func(m []pipeline.MinedTriplet) { m[5].AN = float32(math.NaN()) }},
		{"infinite", "finite", func(m []pipeline.MinedTriplet) { m[5].AP = float32(math.Inf(1)) }},
		{"negative loss", "loss is -1", func(m []pipeline.MinedTriplet) { m[5].Loss = -1 }},
		{"a batch in data-set scope", "batch is 3", func(m []pipeline.MinedTriplet) { m[5].Batch = 3 }},
		{"no such kind", "kind is 3", func(m []pipeline.MinedTriplet) { m[5].Kind = 3 }},
		{"negative id", "negative sample id", func(m []pipeline.MinedTriplet) { m[5].Negative = -1 }},
		{"negative generation", "generation is -1", func(m []pipeline.MinedTriplet) { m[5].Generation = -1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "t.arrow")
			w, err := NewTripletWriter(TripletConfig{Path: path, Meta: testMeta(ScopeDataset)})
			if err != nil {
				t.Fatal(err)
			}
			bad := slices.Clone(good)
			tt.edit(bad)
			err = w.Write(bad)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Write: %v, want the path and %q", err, tt.want)
			}
			if again := w.Close(nil); again != err {
				t.Errorf("Close after a failed Write: %v, want the same error", again)
			}
			if names := listDir(t, dir); len(names) > 0 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
}

func TestTripletConfigRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := NewTripletWriter(TripletConfig{Path: filepath.Join(dir, "t.csv"), Meta: testMeta(ScopeDataset)}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("unknown ending: %v, want ErrUnsupported", err)
	}
	if _, err := NewTripletWriter(TripletConfig{Path: filepath.Join(dir, "t.parquet")}); err == nil {
		t.Error("no scope: no error")
	}
	meta := testMeta(ScopeDataset)
	meta.Margin = math.NaN()
	if _, err := NewTripletWriter(TripletConfig{Path: filepath.Join(dir, "t.parquet"), Meta: meta}); err == nil {
		t.Error("NaN margin: no error")
	}
	if names := listDir(t, dir); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func listDir(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
