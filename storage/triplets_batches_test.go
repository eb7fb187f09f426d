package storage

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// openTest writes n triplets and opens the file.
func openTest(t *testing.T, ending, scope string, n int) *Triplets {
	t.Helper()
	path := filepath.Join(t.TempDir(), "t"+ending)
	writeTriplets(t, path, scope, false, randomTriplets(n, scope))
	f, err := OpenTriplets(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func collect(t *testing.T, s *TripletSource) []*pipeline.Batch {
	t.Helper()
	var all []*pipeline.Batch
	for b, err := range pipeline.From(s).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b.Clone())
	}
	return all
}

// spelled are the triplets of batches by sample id, without batch and rank.
func spelled(batches []*pipeline.Batch) []string {
	var all []string
	for _, b := range batches {
		for _, m := range b.Triplets {
			all = append(all, fmt.Sprint(b.IDs[m.Anchor], b.IDs[m.Positive], b.IDs[m.Negative],
				b.Labels[m.Anchor], b.Labels[m.Positive], b.Labels[m.Negative], m.AP, m.AN, m.Loss, m.Kind))
		}
	}
	return all
}

func plain(triplets []pipeline.MinedTriplet) []string {
	var all []string
	for _, m := range triplets {
		all = append(all, fmt.Sprint(m.Anchor, m.Positive, m.Negative,
			m.AnchorLabel, m.PositiveLabel, m.NegativeLabel, m.AP, m.AN, m.Loss, m.Kind))
	}
	return all
}

func TestTripletBatches(t *testing.T) {
	f := openTest(t, ".parquet", ScopeDataset, 1000)
	s, err := f.Batches(TripletBatches{PerBatch: 64, Data: "d1"})
	if err != nil {
		t.Fatal(err)
	}
	all := collect(t, s)
	if len(all) != 16 || s.Steps() != 16 {
		t.Fatalf("%d batches, Steps %d, want 16", len(all), s.Steps())
	}
	for i, b := range all {
		ids := slices.Clone(b.IDs)
		slices.Sort(ids)
		if b.Number != int64(i) || b.P*b.K != len(b.IDs) || len(b.Labels) != len(b.IDs) || b.Extra != 0 || len(slices.Compact(ids)) != len(b.IDs) {
			t.Errorf("batch %d: number %d, P %d, K %d, %d ids (%d distinct), %d labels", i, b.Number, b.P, b.K, len(b.IDs), len(ids), len(b.Labels))
		}
		if b.Generation != 1 { // randomTriplets alternates between 0 and 1
			t.Errorf("batch %d: generation %d, want 1", i, b.Generation)
		}
	}
	if got := len(all[15].Triplets); got != 1000-15*64 {
		t.Errorf("last batch has %d triplets, want %d", got, 1000-15*64)
	}
	if got, want := spelled(all), plain(randomTriplets(1000, ScopeDataset)); !slices.Equal(got, want) {
		t.Error("the batches do not hold the file's triplets in order")
	}
}

func TestTripletBatchesShuffle(t *testing.T) {
	const n = frameRows + 100 // two blocks
	f := openTest(t, ".jsonl", ScopeDataset, n)
	cfg := TripletBatches{PerBatch: 300, Data: "d1", Shuffle: true, Seed: 5}
	s, err := f.Batches(cfg)
	if err != nil {
		t.Fatal(err)
	}
	first, second := spelled(collect(t, s)), spelled(collect(t, s.Epoch(1)))
	if slices.Equal(first, second) {
		t.Error("both epochs have the same order")
	}
	if again := spelled(collect(t, s)); !slices.Equal(first, again) {
		t.Error("the same epoch has another order the second time")
	}
	cfg.Seed = 6
	other, err := f.Batches(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(first, spelled(collect(t, other))) {
		t.Error("another seed gives the same order")
	}
	want := plain(randomTriplets(n, ScopeDataset))
	if slices.Equal(first, want) {
		t.Error("not shuffled")
	}
	slices.Sort(first)
	slices.Sort(second)
	slices.Sort(want)
	if !slices.Equal(first, want) || !slices.Equal(second, want) {
		t.Error("an epoch does not hold each triplet once")
	}
}

// The order is part of what a State means: it must not change with a release.
func TestTripletShufflePinned(t *testing.T) {
	o := &tripletOrder{cfg: TripletBatches{Seed: 5}, epoch: 2}
	got := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	o.shuffle(got, 1)
	if want := []int{6, 1, 5, 2, 0, 8, 7, 9, 4, 3}; !slices.Equal(got, want) {
		t.Errorf("shuffle = %v, want %v", got, want)
	}
}

func TestTripletBatchesResume(t *testing.T) {
	f := openTest(t, ".arrow", ScopeBatch, 500)
	s, err := f.Batches(TripletBatches{PerBatch: 30, Data: "d1", Shuffle: true, Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	all := append(collect(t, s), collect(t, s.Epoch(1))...)
	for k := range len(all) {
		var state pipeline.State
		if k > 0 {
			state = all[k-1].State()
		}
		r, err := s.At(state)
		if err != nil {
			t.Fatal(err)
		}
		rest := collect(t, r)
		end := int(s.Steps())
		if k >= end {
			end = len(all)
		}
		if len(rest) != end-k || rest[0].Number != int64(k) || !slices.Equal(spelled(rest), spelled(all[k:end])) {
			t.Fatalf("resumed at %d: %d batches from %d, want %d, or other triplets", k, len(rest), rest[0].Number, end-k)
		}
	}
}

func TestTripletBatchesRefuses(t *testing.T) {
	f := openTest(t, ".parquet", ScopeDataset, 100)
	if _, err := f.Batches(TripletBatches{Data: "d1"}); err == nil {
		t.Error("PerBatch 0: no error")
	}
	_, err := f.Batches(TripletBatches{PerBatch: 10, Data: "d2"})
	if m, ok := errors.AsType[*MismatchError](err); !ok || m.Field != "data_digest" || m.Have != "d1" || m.Want != "d2" {
		t.Errorf("other data: %v, want a MismatchError of data_digest", err)
	}
	cfg := TripletBatches{PerBatch: 10, Data: "d1", Seed: 1, Shuffle: true}
	s, err := f.Batches(cfg)
	if err != nil {
		t.Fatal(err)
	}
	state := collect(t, s)[0].State()
	for _, tt := range []struct {
		field string
		edit  func(*TripletBatches, *pipeline.State)
	}{
		{"config", func(c *TripletBatches, _ *pipeline.State) { c.PerBatch = 11 }},
		{"config", func(c *TripletBatches, _ *pipeline.State) { c.Shuffle = false }},
		{"seed", func(c *TripletBatches, _ *pipeline.State) { c.Seed = 2 }},
		{"data", func(_ *TripletBatches, s *pipeline.State) { s.Data = "d2" }},
		{"format", func(_ *TripletBatches, s *pipeline.State) { s.Format++ }},
		{"next", func(_ *TripletBatches, s *pipeline.State) { s.Next = -1 }},
	} {
		c, st := cfg, state
		tt.edit(&c, &st)
		s, err := f.Batches(c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.At(st)
		if e, ok := errors.AsType[*pipeline.StateError](err); !ok || e.Field != tt.field {
			t.Errorf("%v, want a StateError of %s", err, tt.field)
		}
	}
	if empty, err := openTest(t, ".jsonl", ScopeDataset, 0).Batches(cfg); err != nil || len(collect(t, empty)) != 0 {
		t.Errorf("no triplets: %v, want no batch", err)
	}
}
