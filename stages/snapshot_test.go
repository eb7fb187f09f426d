package stages

import (
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

func TestSnapshotOfScalesRows(t *testing.T) {
	rows := pipeline.Embeddings{Dim: 2, Data: []float32{3, 4, 0, -1e-30, 3e38, 3e38, 1e-45, 0}}
	s, err := SnapshotOf(rows, SnapshotConfig{Fingerprint: "f"})
	if err != nil {
		t.Fatal(err)
	}
	half := float32(math.Sqrt(0.5))
	if want := []float32{0.6, 0.8, 0, -1, half, half, 1, 0}; !slices.Equal(s.Embeddings.Data, want) {
		t.Errorf("rows are %v, want %v", s.Embeddings.Data, want)
	}
	again, err := SnapshotOf(pipeline.Embeddings{Dim: 2, Data: []float32{3, 4, 0, -1e-30, 3e38, 3e38, 1e-45, 0}}, SnapshotConfig{Fingerprint: "f"})
	if err != nil || again.Digest != s.Digest || len(s.Digest) != 64 {
		t.Errorf("digests are %q and %q, error %v", s.Digest, again.Digest, err)
	}
}

// Goal E6: bad rows are errors that name the sample, and never ranked.
func TestSnapshotOfRefusesBadRows(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for _, tt := range []struct {
		name string
		rows pipeline.Embeddings
		cfg  SnapshotConfig
		want string
	}{
		{"NaN", pipeline.Embeddings{Dim: 2, Data: []float32{1, 0, 0, nan}}, SnapshotConfig{Fingerprint: "f"}, "embedding of sample 1: value 1 is NaN"},
		{"Inf", pipeline.Embeddings{Dim: 2, Data: []float32{inf, 0, 0, 1}}, SnapshotConfig{Fingerprint: "f", Unscaled: true}, "embedding of sample 0: value 0 is -Inf"},
		{"zero", pipeline.Embeddings{Dim: 2, Data: []float32{1, 0, 0, 0, 1, 1}}, SnapshotConfig{Fingerprint: "f"}, "embedding of sample 1: all 2 values are 0"},
		{"dimension", pipeline.Embeddings{Dim: 2, Data: []float32{1, 0, 0}}, SnapshotConfig{Fingerprint: "f"}, "3 values in rows of 2"},
		{"none", pipeline.Embeddings{}, SnapshotConfig{Fingerprint: "f"}, "0 values in rows of 0"},
		{"no fingerprint", pipeline.Embeddings{Dim: 1, Data: []float32{1}}, SnapshotConfig{}, "Fingerprint is empty"},
	} {
		_, err := SnapshotOf(tt.rows, tt.cfg)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want one with %q", tt.name, err, tt.want)
		}
	}
	locate := func(id int64) pipeline.Location { return pipeline.Location{File: "a.parquet", Row: 10 + id} }
	_, err := SnapshotOf(pipeline.Embeddings{Dim: 1, Data: []float32{1, nan}}, SnapshotConfig{Fingerprint: "f", Locate: locate})
	var row *pipeline.RowError
	if !errors.As(err, &row) || row.Row != 11 {
		t.Errorf("error is %v, want one at row 11", err)
	}
}

func TestSnapshotDigestCoversItsKey(t *testing.T) {
	digest := func(dim int, cfg SnapshotConfig, data ...float32) string {
		s, err := SnapshotOf(pipeline.Embeddings{Dim: dim, Data: data}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s.Digest
	}
	seen := make(map[string]bool)
	for _, d := range []string{
		digest(1, SnapshotConfig{Fingerprint: "f"}, 1, 1, 1, 1),
		digest(1, SnapshotConfig{Fingerprint: "g"}, 1, 1, 1, 1),
		digest(1, SnapshotConfig{Fingerprint: "f", Unscaled: true}, 1, 1, 1, 1),
		digest(1, SnapshotConfig{Fingerprint: "f"}, 1, 1, -1, 1),
		digest(1, SnapshotConfig{Fingerprint: "f"}, 1, 1, 1),
		digest(2, SnapshotConfig{Fingerprint: "f", Unscaled: true}, 1, 1, 1, 1),
		digest(4, SnapshotConfig{Fingerprint: "f", Unscaled: true}, 1, 1, 1, 1),
	} {
		if seen[d] {
			t.Errorf("digest %s comes twice", d)
		}
		seen[d] = true
	}
}

func TestBuild(t *testing.T) {
	b := &Builder{Images: threeImages(), Samples: 3, Preprocessing: "p"}
	s, digests, err := b.Build(t.Context(), &model{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(digests, [][16]byte{{0}, {1}, {2}}) {
		t.Errorf("digests are %v", digests)
	}
	if s.Embeddings.Len() != 3 || !s.Normalised || s.Generation != 0 {
		t.Errorf("snapshot is %+v", s)
	}
	other := &Builder{Images: threeImages(), Samples: 3, Preprocessing: "q"}
	o, _, err := other.Build(t.Context(), &model{})
	if err != nil || o.Fingerprint == s.Fingerprint || o.Digest == s.Digest {
		t.Errorf("another preprocessing has the same fingerprint or digest, error %v", err)
	}
	for _, tt := range []struct {
		samples int
		e       Embedder
		want    string
	}{
		{4, &model{}, "got 3 samples, want 4"},
		{2, &model{}, "sample 2 came as number 2 of 2"},
		{3, zeros{&model{}}, "embedding of sample 0: all 2 values are 0"},
	} {
		b := &Builder{Images: threeImages(), Samples: tt.samples}
		_, _, err := b.Build(t.Context(), tt.e)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error is %v, want one with %q", err, tt.want)
		}
		var row *pipeline.RowError
		if tt.samples == 3 && (!errors.As(err, &row) || row.File != somewhere.File || row.Row != 0) {
			t.Errorf("error %v does not say where the sample is", err)
		}
	}
	twice := &Builder{Images: pipeline.From(pipeline.Slice([]Image{{ID: 0, Pixels: []float32{1}}, {ID: 0, Pixels: []float32{1}}})), Samples: 2}
	if _, _, err := twice.Build(t.Context(), &model{}); err == nil || !strings.Contains(err.Error(), "sample 0 came as number 1") {
		t.Errorf("a sample that comes twice: %v", err)
	}
}

type zeros struct{ *model }

func (zeros) Embed(context.Context, pipeline.Embeddings, []float32) error { return nil }

func TestHashRecords(t *testing.T) {
	all := records(30)
	got, err := HashRecords(t.Context(), pipeline.From(pipeline.Slice(all)), len(all), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range all {
		if sum := sha256.Sum256(r.Image); got[i] != [16]byte(sum[:16]) {
			t.Fatalf("digest %d is %x, want %x", i, got[i], sum[:16])
		}
	}
	if _, err := HashRecords(t.Context(), pipeline.From(pipeline.Slice(all)), 31, nil); err == nil {
		t.Error("a missing record gave no error")
	}
}
