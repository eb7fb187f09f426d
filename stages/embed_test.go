package stages

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// labelled is a data set of rawImages: a Reader, and a source of all rows.
type labelled struct {
	rawImages
	labels []int32
}

func (d labelled) Read(ctx context.Context, ids []int64, dst []pipeline.Record) error {
	if err := d.rawImages.Read(ctx, ids, dst); err != nil {
		return err
	}
	for i, id := range ids {
		dst[i].Label = d.labels[id]
	}
	return nil
}

func (d labelled) Run(ctx context.Context, out chan<- pipeline.Record) error {
	for id := range int64(d.n) {
		var rec [1]pipeline.Record
		if err := d.Read(ctx, []int64{id}, rec[:]); err != nil {
			return err
		}
		if err := pipeline.Send(ctx, out, rec[0]); err != nil {
			return err
		}
	}
	return nil
}

// The whole way from records to a batch's embeddings gives the same bytes for
// any number of workers and processors.
func TestEmbedTheWholeWay(t *testing.T) {
	data := labelled{rawImages{n: 90, side: 12, seed: 4}, make([]int32, 90)}
	for i := range data.labels {
		data.labels[i] = int32(i % 6)
	}
	run := func(workers, prefetch int) string {
		decode := newDecode(t, DecodeConfig{Height: 8, Width: 9, Channels: 1, Workers: workers})
		pca, err := FitPCA(t.Context(), PCAConfig{Dim: 7, Sample: 50, Workers: workers}, data, decode, 90)
		if err != nil {
			t.Fatal(err)
		}
		builder := &Builder{Images: pipeline.Via(pipeline.From(data), decode.Records()), Samples: 90, Preprocessing: decode.Fingerprint()}
		first, digests, err := builder.Build(t.Context(), pca)
		if err != nil {
			t.Fatal(err)
		}
		cache, err := NewCache(CacheConfig{First: first})
		if err != nil {
			t.Fatal(err)
		}
		plan, err := NewPlan(PlanConfig{Labels: data.labels, Data: "d", P: 3, K: 4, Seed: 1, Steps: 9, Config: cache.Fingerprint()})
		if err != nil {
			t.Fatal(err)
		}
		meter := new(pipeline.Meter)
		h := sha256.New()
		flow := pipeline.From(plan).Prefetch(prefetch).Then(&Embed{Cache: cache, Meter: meter}, Fetch{Reader: data}, decode)
		for b, err := range flow.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if s := b.State(); s.Snapshot != first.Digest || s.Generation != 0 || s.Next != b.Number+1 {
				t.Errorf("batch %d has state %+v", b.Number, s)
			}
			if err := cache.Check(b.State()); err != nil {
				t.Error(err)
			}
			for i, id := range b.IDs {
				if !slices.Equal(b.Embeddings.Row(i), first.Embeddings.Row(int(id))) {
					t.Fatalf("batch %d, position %d: not the row of sample %d", b.Number, i, id)
				}
			}
			fmt.Fprint(h, b.Number, b.IDs, b.Labels, b.Shape)
			hashFloats(h, b.Pixels)
			hashFloats(h, b.Embeddings.Data)
		}
		if timings := meter.Timings(); len(timings) != 1 || timings[0].Name != "embed" || timings[0].Items != 9*12 {
			t.Errorf("the meter counted %+v", timings)
		}
		fmt.Fprint(h, digests)
		return hex.EncodeToString(h.Sum(nil))
	}
	want := run(1, 0)
	for _, workers := range []int{2, 7} {
		if got := run(workers, 5); got != want {
			t.Errorf("%d workers: the stream differs", workers)
		}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if got := run(0, 2); got != want {
		t.Error("one processor: the stream differs")
	}
}
