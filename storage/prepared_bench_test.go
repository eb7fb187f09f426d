package storage

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// manyShards is a prepared folder of n shards that are all alike.
func manyShards(tb testing.TB, n int) string {
	tb.Helper()
	one := filepath.Join(tb.TempDir(), "one")
	rows := preparedRows(64, pipeline.Raw{})
	cfg := prepConfig(one)
	cfg.ShardBytes, cfg.Groups = 1<<20, false
	m, err := prepare(tb, cfg, rows, -1)
	if err != nil {
		tb.Fatal(err)
	}
	shard, labels := m.Shards[0], files(tb, one)[labelsName]
	text := files(tb, one)[shard.Path]
	dir := filepath.Join(tb.TempDir(), "many")
	m.Shards = nil
	all := map[string]string{labelsName: strings.Repeat(labels, n)}
	for i := range n {
		s := shard
		s.Path = fmt.Sprintf("data/train-%05d-of-%05d.parquet", i, n)
		m.Shards = append(m.Shards, s)
		all[s.Path] = text
	}
	times := int64(n)
	m.Rows, m.Unknown, m.Other = m.Rows*times, m.Unknown*times, m.Other*times
	for i := range m.Classes {
		m.Classes[i].Rows *= times
	}
	for i := range m.Images {
		m.Images[i].Rows *= times
	}
	put(tb, dir, all)
	f, err := os.Open(filepath.Join(dir, labelsName))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	m.Labels.Size = int64(len(all[labelsName]))
	if m.Labels.SHA256, err = sumOf(f, 0, m.Labels.Size); err != nil {
		tb.Fatal(err)
	}
	put(tb, dir, map[string]string{ManifestName: string(encode(tb, m))})
	return dir
}

// A data set of many shards opens one of them, and reads those that it is asked for.
func TestPreparedIsLazy(t *testing.T) {
	dir := manyShards(t, 40)
	d := open(t, Config{Paths: []string{dir}})
	loaded := func() (n int) {
		for _, s := range d.shards {
			if s.(*listedShard).inner != nil {
				n++
			}
		}
		return n
	}
	if n := loaded(); n != 1 {
		t.Errorf("%d shards are open, want the first", n)
	}
	recs := make([]pipeline.Record, 2)
	if err := d.Read(t.Context(), []int64{0, int64(d.Len()) - 1}, recs); err != nil {
		t.Fatal(err)
	}
	if n := loaded(); n != 2 {
		t.Errorf("%d shards are open, want two", n)
	}
}

// BenchmarkFirstBatch opens 10,000 shards and reads a batch of 64 images from
// as many of them.
func BenchmarkFirstBatch(b *testing.B) {
	dir := manyShards(b, 10_000)
	rng := rand.New(rand.NewPCG(1, 2))
	recs := make([]pipeline.Record, 64)
	ids := make([]int64, len(recs))
	for b.Loop() {
		d, err := Open(b.Context(), Config{Paths: []string{dir}})
		if err != nil {
			b.Fatal(err)
		}
		for i := range ids {
			ids[i] = rng.Int64N(int64(d.Len()))
		}
		if err := d.Read(b.Context(), ids, recs); err != nil {
			b.Fatal(err)
		}
		d.Close()
	}
}

// BenchmarkFirstTouch reads a prepared data set once, by its manifest and so
// with every digest checked, and by its files alone.
func BenchmarkFirstTouch(b *testing.B) {
	raw := pipeline.Raw{Shape: pipeline.Shape{C: 1, H: 64, W: 64}}
	dir := filepath.Join(b.TempDir(), "set")
	cfg := prepConfig(dir)
	cfg.ShardBytes, cfg.GroupBytes = 64<<20, 16<<20
	if _, err := prepare(b, cfg, preparedRows(16_000, raw), -1); err != nil {
		b.Fatal(err)
	}
	for name, path := range map[string]string{"manifest": dir, "files": filepath.Join(dir, "data")} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(16_000 * 64 * 64)
			for b.Loop() {
				if err := readAllOf(b, path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
