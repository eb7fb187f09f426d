package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// manyShards is a prepared data set of n shards: one that was prepared, linked
// under n names, with a manifest that counts them all.
func manyShards(t testing.TB, n int) (dir string) {
	t.Helper()
	one, dir := filepath.Join(t.TempDir(), "one"), t.TempDir()
	var out, errs bytes.Buffer
	if code := run([]string{"prep", data + "formats/file.arrow", "-o", one, "--log-level", "warn"}, &out, &errs); code != exitDone {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	m, err := storage.ReadManifest(one)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Shards) != 1 {
		t.Fatalf("%d shards, want 1", len(m.Shards))
	}
	labels, err := os.ReadFile(filepath.Join(one, m.Labels.Path))
	if err != nil {
		t.Fatal(err)
	}
	labels = bytes.Repeat(labels, n)
	sum := sha256.Sum256(labels)
	m.Labels.Size, m.Labels.SHA256 = int64(len(labels)), hex.EncodeToString(sum[:])
	times := int64(n)
	m.Rows, m.Unknown, m.Other = m.Rows*times, m.Unknown*times, m.Other*times
	for i := range m.Classes {
		m.Classes[i].Rows *= times
	}
	for i := range m.Images {
		m.Images[i].Rows *= times
	}
	shard := m.Shards[0]
	m.Shards = nil
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(shard.Path)), 0o777); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		s := shard
		s.Path = filepath.ToSlash(filepath.Join(filepath.Dir(shard.Path), fmt.Sprintf("train-%05d-of-%05d.parquet", i, n)))
		m.Shards = append(m.Shards, s)
		if err := os.Link(filepath.Join(one, shard.Path), filepath.Join(dir, s.Path)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{m.Labels.Path: labels, storage.ManifestName: text} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// firstBatch opens a data set and returns its first batch, decoded.
func firstBatch(t testing.TB, dir string) *pipeline.Batch {
	t.Helper()
	set, err := storage.Open(t.Context(), storage.Config{Paths: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	plan, err := stages.NewPlan(stages.PlanConfig{Labels: set.Labels(), Data: set.Digest(), P: 4, K: 4})
	if err != nil {
		t.Fatal(err)
	}
	decode, err := stages.NewDecode(stages.DecodeConfig{Channels: 1})
	if err != nil {
		t.Fatal(err)
	}
	for b, err := range pipeline.From(plan).Then(&stages.Fetch{Reader: set}, decode).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		return b.Clone()
	}
	t.Fatal("no batch")
	return nil
}

// bytesRead is how much this process has read by system calls; −1 where the
// system does not say.
func bytesRead() (n int64) {
	text, _ := os.ReadFile("/proc/self/io")
	if _, err := fmt.Fscanf(strings.NewReader(string(text)), "rchar: %d", &n); err != nil {
		return -1
	}
	return n
}

// Goal L8: opening a prepared data set reads its manifest and labels, and the
// first batch the shards that it is made of, however many there are.
func TestFirstBatchOfManyShards(t *testing.T) {
	const shards = 600
	dir := manyShards(t, shards)
	var fixed, shard int64
	filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if strings.HasSuffix(path, ".parquet") {
			shard = info.Size()
		} else if !info.IsDir() {
			fixed += info.Size()
		}
		return nil
	})
	before := bytesRead()
	b := firstBatch(t, dir)
	read := bytesRead() - before
	if b.Number != 0 || len(b.IDs) != 16 || len(b.Pixels) != 16*32*32 {
		t.Fatalf("batch %d of %d images, %d values", b.Number, len(b.IDs), len(b.Pixels))
	}
	if before < 0 {
		t.Skip("the system does not say how much was read")
	}
	// Up to 16 shards a batch, and the stages may be 3 batches ahead; a shard is
	// read for its footer, its digest and its images.
	if most := fixed + 4*16*3*shard; read > most || most > shards*shard {
		t.Errorf("%d bytes were read, want at most %d of %d", read, most, fixed+shards*shard)
	}
}

func BenchmarkFirstBatch(b *testing.B) {
	for _, shards := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) {
			dir := manyShards(b, shards)
			firstBatch(b, dir) // warm
			var most time.Duration
			for b.Loop() {
				start := time.Now()
				firstBatch(b, dir)
				most = max(most, time.Since(start))
			}
			b.ReportMetric(most.Seconds()*1000, "ms-at-most")
		})
	}
}
