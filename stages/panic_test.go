package stages

import (
	"bytes"
	"context"
	"errors"
	"image"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// panicking hands out snapshots until it panics.
type panicking struct {
	at   int64
	rows *Snapshot
}

func (p panicking) Snapshot(_ context.Context, batch int64) (*Snapshot, error) {
	if batch == p.at {
		panic("no such row")
	}
	return p.rows, nil
}

// Goal L3: a panic in a decoder, a transform of the user's or the miner is an
// error with the stack that names the samples, and ends whatever ran beside it.
func TestPanicsAnywhere(t *testing.T) {
	times := 60
	if planLong {
		times = 1000
	}
	const batches, size = 10, 4
	images := make([][]byte, batches*size)
	for id := range images {
		gif := image.NewGray(image.Rect(0, 0, 6, 5))
		for bit := range 6 {
			gif.Pix[bit] = byte(255 * (id >> bit & 1))
		}
		images[id] = encodeGIF(gif)
		if i := slices.IndexFunc(images[:id], func(other []byte) bool { return bytes.Equal(other, images[id]) }); i >= 0 {
			t.Fatalf("images %d and %d are equal", i, id)
		}
	}
	var victim []byte
	plain := formats[2].decode
	defer func() { formats[2].decode = plain }()
	formats[2].decode = func(data []byte) (image.Image, error) {
		if bytes.Equal(data, victim) {
			panic("index out of range")
		}
		return plain(data)
	}
	record := func(id int64) pipeline.Record {
		where := somewhere
		where.Row = id
		return pipeline.Record{ID: id, Label: int32(id / 2), Image: images[id], Where: where}
	}
	rows, err := SnapshotOf(pipeline.Embeddings{Dim: 1, Data: slices.Repeat([]float32{1}, batches*size)}, SnapshotConfig{Fingerprint: "ones", Unscaled: true})
	if err != nil {
		t.Fatal(err)
	}
	// source sends batches of size images, with records and embeddings.
	source := func() pipeline.Source[*pipeline.Batch] {
		all := make([]*pipeline.Batch, batches)
		for n := range all {
			b := &pipeline.Batch{Number: int64(n), P: size / 2, K: 2}
			for id := int64(n * size); id < int64((n+1)*size); id++ {
				b.IDs, b.Labels, b.Records = append(b.IDs, id), append(b.Labels, int32(id/2)), append(b.Records, record(id))
			}
			b.Embeddings, _ = rows.Gather(b.Embeddings, b.IDs)
			all[n] = b
		}
		return pipeline.Slice(all)
	}
	labels := make([]int32, batches*size)
	for id := range labels {
		labels[id] = int32(id / 2)
	}
	run := func(ctx context.Context, kind int, sample int64, workers, ahead int) error {
		decode, err := NewDecode(DecodeConfig{Height: 5, Width: 6, Channels: 1, Workers: workers})
		if err != nil {
			return err
		}
		miner, err := NewMiner(MinerConfig{
			Mine:   MineConfig{Loss: loss.TripletMargin{Margin: 1}, Scope: ScopeDataSet},
			Labels: labels, Snapshots: panicking{map[bool]int64{true: sample / size, false: -1}[kind == 3], rows}, Workers: workers,
		})
		if err != nil {
			return err
		}
		transform := func(id int64) error {
			if kind == 1 && id == sample || kind == 2 && id == sample {
				panic(errBad)
			}
			return nil
		}
		if kind == 1 { // over images, in parallel
			all := make([]pipeline.Record, batches*size)
			for id := range all {
				all[id] = record(int64(id))
			}
			images := pipeline.Via(pipeline.From(pipeline.Slice(all)).Prefetch(ahead), decode.Records())
			for _, err := range pipeline.Via(images, transforming{workers, transform}).All(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		}
		if kind == 0 {
			victim = images[sample]
			defer func() { victim = nil }()
		}
		flow := pipeline.From(source()).Prefetch(ahead).Then(miner, decode, eachBatch(func(b *pipeline.Batch) error {
			for _, id := range b.IDs {
				if err := transform(id); err != nil {
					return err
				}
			}
			return nil
		}))
		for _, err := range flow.All(ctx) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	rng := rand.New(rand.NewPCG(6, 6))
	for i := range times {
		kind, sample := i%4, rng.Int64N(batches*size)
		workers, ahead := 1+rng.IntN(8), rng.IntN(5)
		synctest.Test(t, func(t *testing.T) { // fails if anything is left
			err := run(t.Context(), kind, sample, workers, ahead)
			var p *pipeline.PanicError
			if !errors.As(err, &p) || len(p.Stack) == 0 || !slices.Contains(p.Samples, sample) {
				t.Fatalf("kind %d, sample %d: error is %v, want a panic with its stack that names the sample", kind, sample, err)
			}
			var row *pipeline.RowError
			if kind < 2 && len(p.Samples) != 1 || kind > 1 && p.Batch != sample/size || kind == 0 && (!errors.As(err, &row) || row.Row != sample) {
				t.Errorf("kind %d, sample %d: %v at batch %d, samples %d", kind, sample, err, p.Batch, p.Samples)
			}
		})
	}
}

var errBad = errors.New("a mistake of the user's")

// transforming calls f with every image, in parallel.
type transforming struct {
	workers int
	f       func(id int64) error
}

func (s transforming) Run(ctx context.Context, in <-chan Image, out chan<- Image) error {
	return pipeline.Map(ctx, pipeline.MapConfig[Image]{Workers: s.workers}, in, out, func(_ context.Context, img Image) (Image, error) {
		return img, s.f(img.ID)
	})
}

// eachBatch is a stage that calls f with every batch.
type eachBatch func(b *pipeline.Batch) error

func (f eachBatch) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- *pipeline.Batch) error {
	for b, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		if err := f(b); err != nil {
			return err
		}
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}
