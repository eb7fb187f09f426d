package stages

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tercet-ml/tercet/pipeline"
)

// arriving are rows of the given classes, of each bytes in memory.
func arriving(each int64, labels ...int32) []pipeline.Record {
	recs := make([]pipeline.Record, len(labels))
	for i, l := range labels {
		recs[i] = pipeline.Record{ID: int64(i), Label: l}
		recs[i].Image = make([]byte, each-rowBytes(pipeline.Record{}))
		recs[i].Where = pipeline.Location{File: "feed", RowGroup: i / 10, Row: int64(i % 10), Column: "image"}
	}
	return recs
}

// pooled is the ids of the batches that are made of recs.
func pooled(ctx context.Context, p *Pools, recs []pipeline.Record) (batches [][]int64, err error) {
	for b, err := range pipeline.Via(pipeline.From(pipeline.Slice(recs)), p).All(ctx) {
		if err != nil {
			return batches, err
		}
		batches = append(batches, slices.Clone(b.IDs))
	}
	return batches, nil
}

func newTestPools(t *testing.T, cfg PoolsConfig) *Pools {
	t.Helper()
	p, err := NewPools(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPoolsRule(t *testing.T) {
	const a, b, c, d, x = 0, 1, 2, 3, pipeline.Unknown
	for _, tt := range []struct {
		name   string
		rows   int64 // that fit
		labels []int32
		want   string
		report PoolsReport
	}{
		{"classes take turns", 100, []int32{a, b, a, b, c, c, a, a}, "[[0 2 1 3] [4 5 6 7]]", PoolsReport{Rows: 8, Batches: 2, Images: 8}},
		{"the class that was ready first goes first", 100, []int32{c, a, a, c, b}, "[[1 2 0 3]]", PoolsReport{Rows: 5, Batches: 1, Images: 4, End: 1}},
		{"unknown", 100, []int32{x, a, a, x, b, b}, "[[1 2 4 5]]", PoolsReport{Rows: 6, Batches: 1, Images: 4, Unknown: 2}},
		{"sorted by class: of what waits too long the oldest go", 5, []int32{a, a, a, a, a, a, a, b, b}, "[[4 5 7 8]]", PoolsReport{Rows: 9, Batches: 1, Images: 4, Surplus: 4, End: 1}},
		{"of short classes the one that has waited longest goes", 4, []int32{a, a, b, c, d, d}, "[[0 1 4 5]]", PoolsReport{Rows: 6, Batches: 1, Images: 4, Short: 2}},
		{"a class that comes back is as new", 4, []int32{a, b, c, d, a, d}, "[]", PoolsReport{Rows: 6, Batches: 0, Short: 2, End: 4}},
		{"nothing", 4, nil, "[]", PoolsReport{}},
	} {
		const each = 1000
		p := newTestPools(t, PoolsConfig{P: 2, K: 2, Memory: tt.rows * each})
		got, err := pooled(t.Context(), p, arriving(each, tt.labels...))
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%s: %v, %v, want %s", tt.name, got, err, tt.want)
		}
		if r := p.Report(); r != tt.report {
			t.Errorf("%s: %+v, want %+v", tt.name, r, tt.report)
		}
	}
}

// TestPoolsProperties: batches of random streams are P×K, no row comes twice,
// each is accounted for, and what waits never takes more than Memory.
func TestPoolsProperties(t *testing.T) {
	dice := rand.New(rand.NewPCG(8, 8))
	streams := 40
	if os.Getenv("TERCET_LONG") != "" {
		streams = 2000
	}
	for range streams {
		cfg := PoolsConfig{P: 1 + dice.IntN(6), K: 2 + dice.IntN(4), Patience: 1 << 40}
		classes := cfg.P + dice.IntN(30)
		recs := arriving(1000, make([]int32, dice.IntN(2000))...)
		for i := range recs {
			recs[i].Label = int32(dice.IntN(classes+1)) - 1
			if dice.IntN(3) == 0 && i > 0 {
				recs[i].Label = recs[i-1].Label
			}
			recs[i].Image = recs[i].Image[:dice.IntN(len(recs[i].Image))]
		}
		cfg.Memory = 1000 * int64(cfg.P*cfg.K+1+dice.IntN(100))
		p := newTestPools(t, cfg)
		seen := map[int64]bool{}
		var first [][]int64
		n := int64(0)
		for b, err := range pipeline.Via(pipeline.From(pipeline.Slice(recs)), p).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if b.Number != n || len(b.IDs) != cfg.P*cfg.K || b.State().Next != n+1 {
				t.Fatalf("batch %d of %d images, state %+v", b.Number, len(b.IDs), b.State())
			}
			n++
			found := map[int32]bool{}
			for i, id := range b.IDs {
				if seen[id] || recs[id].Label != b.Labels[i] || b.Labels[i] != b.Labels[i-i%cfg.K] || b.Records[i].ID != id || b.Labels[i] < 0 {
					t.Fatalf("batch %d: sample %d of class %d at place %d", b.Number, id, b.Labels[i], i)
				}
				seen[id] = true
				found[b.Labels[i]] = true
			}
			if len(found) != cfg.P {
				t.Fatalf("batch %d has %d classes, want %d", b.Number, len(found), cfg.P)
			}
			if r := p.Report(); r.Bytes > cfg.Memory {
				t.Fatalf("%d bytes wait, want at most %d", r.Bytes, cfg.Memory)
			}
			first = append(first, slices.Clone(b.IDs))
		}
		r := p.Report()
		if r.Images != int64(len(seen)) || r.Rows != int64(len(recs)) || r.Images+r.Unknown+r.Surplus+r.Short+r.End != r.Rows {
			t.Fatalf("of %d rows: %+v", len(recs), r)
		}
		again, err := pooled(t.Context(), newTestPools(t, cfg), recs)
		if err != nil || fmt.Sprint(again) != fmt.Sprint(first) {
			t.Fatalf("the same stream gives other batches: %v", err)
		}
	}
}

func TestPoolsNeverSilent(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  PoolsConfig
		recs []pipeline.Record
		want string
	}{
		{"too little memory", PoolsConfig{P: 3, K: 2, Memory: 4000}, arriving(1000, 0, 0, 1, 1, 2), "feed: row group 0, row 4, column \"image\": stages: PoolsConfig.Memory of 4000 bytes holds K = 2 rows of 2 classes and not one more, want P = 3"},
		{"a large row", PoolsConfig{P: 3, K: 2, Memory: 999}, arriving(1000, 0), "the row takes 1000 bytes"},
		{"no batch for long", PoolsConfig{P: 2, K: 2, Memory: 4000, Patience: 20}, arriving(1000, slices.Repeat([]int32{1}, 30)...), "20 rows have come without a batch: of the 1 classes that wait, 1 have K = 2 rows, want P = 2 (16 rows were dropped"},
	} {
		_, err := pooled(t.Context(), newTestPools(t, tt.cfg), tt.recs)
		if at, ok := errors.AsType[*pipeline.RowError](err); !ok || at.File != "feed" || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for _, cfg := range []PoolsConfig{{P: 0, K: 2}, {P: 1, K: 1}, {P: 1 << 20, K: 1 << 20}, {P: 1, K: 2, Memory: -1}, {P: 4, K: 2, Patience: 7}} {
		if _, err := NewPools(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

// endless is a source of rows that never ends; sent counts them.
type endless struct{ sent *int }

func (e endless) Run(ctx context.Context, out chan<- pipeline.Record) error {
	for i := int64(0); ; i++ {
		if err := pipeline.Send(ctx, out, pipeline.Record{ID: i, Label: int32(i % 5), Image: []byte{1}}); err != nil {
			return err
		}
		*e.sent++
	}
}

// TestPoolsWait: nothing is read while nobody takes a batch, and the loop may be
// left at any time.
func TestPoolsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent, n := 0, 0
		for b, err := range pipeline.Via(pipeline.From[pipeline.Record](endless{&sent}), newTestPools(t, PoolsConfig{P: 2, K: 3})).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // as long as it takes
			if most := 30 + 6*int(b.Number); sent > most {
				t.Fatalf("batch %d is at hand and %d rows were read, want at most %d", b.Number, sent, most)
			}
			if n++; n == 50 {
				break
			}
		}
		if n != 50 {
			t.Errorf("%d batches", n)
		}
	})
}

// TestEmbedPixels: embedding on the way is embedding the whole set.
func TestEmbedPixels(t *testing.T) {
	b := pipeline.NewBatch()
	b.P, b.K, b.IDs, b.Labels = 1, 2, []int64{4, 9}, []int32{1, 1}
	b.Shape, b.Pixels = pipeline.Shape{C: 1, H: 1, W: 2}, []float32{3, 4, 0, 2}
	n := 0
	for b, err := range pipeline.From(pipeline.Slice([]*pipeline.Batch{b})).Then(&EmbedPixels{Embedder: pixelsThemselves{2}}).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; !slices.Equal(b.Embeddings.Data, []float32{0.6, 0.8, 0, 1}) || b.Embeddings.Dim != 2 {
			t.Errorf("embeddings %v", b.Embeddings)
		}
	}
	bad := pipeline.NewBatch()
	bad.P, bad.K, bad.IDs, bad.Labels = 1, 2, []int64{4, 9}, []int32{1, 1}
	bad.Shape, bad.Pixels = pipeline.Shape{C: 1, H: 1, W: 2}, []float32{3, 4, 0, 0}
	for _, err := range pipeline.From(pipeline.Slice([]*pipeline.Batch{bad})).Then(&EmbedPixels{Embedder: pixelsThemselves{2}}).All(t.Context()) {
		if err == nil || !strings.Contains(err.Error(), "batch 0: sample 9: all 2 values are 0") {
			t.Errorf("a zero row: %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d batches", n)
	}
}

// pixelsThemselves are embeddings.
type pixelsThemselves struct{ dim int }

func (p pixelsThemselves) Embed(_ context.Context, dst pipeline.Embeddings, pixels []float32) error {
	copy(dst.Data, pixels)
	return nil
}
func (p pixelsThemselves) Dim() int            { return p.dim }
func (p pixelsThemselves) Fingerprint() string { return "pixels" }
