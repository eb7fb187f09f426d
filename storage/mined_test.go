package storage

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

func TestMinings(t *testing.T) {
	rows := randomTriplets(5000, ScopeBatch)
	rows[7].Negative, rows[7].NegativeLabel = -1, pipeline.Unknown // a bare pair
	rows[8].Rank, rows[8].AN = math.MaxInt32, math.MaxFloat32
	cfg := JobConfig{Output: filepath.Join(t.TempDir(), "out"), Resume: true}
	j := openJob(t, cfg)
	at := 0
	for i, n := range []int{1, 0, 2000, 2999} {
		w, err := j.Create(fmt.Sprintf("%08d", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(AppendMined(nil, rows[at:at+n])); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(nil); err != nil {
			t.Fatal(err)
		}
		at += n
	}
	read := func() (got []pipeline.MinedTriplet, err error) {
		for m, err := range pipeline.From(Minings{j}).All(t.Context()) {
			if err != nil {
				return nil, err
			}
			got = append(got, m)
		}
		return got, nil
	}
	got, err := read()
	if err != nil || !slices.Equal(got, rows) {
		t.Fatalf("%d triplets and %v, want those %d that were written", len(got), err, len(rows))
	}
	part := j.Path(Part{Name: "00000002"})
	good := readFile(t, part)
	for _, bit := range []int{0, 8 * 777, 8*len(good) - 1} {
		bad := slices.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		writeFile(t, part, bad)
		if _, err := read(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit %d: %v, want ErrCorrupt", bit, err)
		}
	}
	writeFile(t, part, good[:len(good)-1])
	if _, err := read(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("cut short: %v, want ErrCorrupt", err)
	}
}

func BenchmarkAppendMined(b *testing.B) {
	rows := randomTriplets(1000, ScopeDataset)
	var buf []byte
	b.SetBytes(int64(len(rows) * minedSize))
	for b.Loop() {
		buf = AppendMined(buf[:0], rows)
	}
}
