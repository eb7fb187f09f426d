package pipeline_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// The whole way of an image: from the disk to the loss, one epoch.
func Example_journey() {
	if err := journey(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// batch 0: 32 images of 1×32×32, 64 embedding values each
	// resumed at batch 3 with the same images: true
}

func journey(ctx context.Context) error {
	set, err := storage.Open(ctx, storage.Config{Paths: []string{"../testdata/glyphs"}})
	if err != nil {
		return err
	}
	defer set.Close()
	decode, err := stages.NewDecode(stages.DecodeConfig{Height: 32, Width: 32, Channels: 1})
	if err != nil {
		return err
	}

	// Embed every image once, by principal components: no model needed.
	pca, err := stages.FitPCA(ctx, stages.PCAConfig{Dim: 64, Seed: 1}, set, decode, int64(set.Len()))
	if err != nil {
		return err
	}
	build := &stages.Builder{
		Images:        pipeline.Via(pipeline.From[pipeline.Record](set), decode.Records()),
		Samples:       set.Len(),
		Preprocessing: decode.Fingerprint(),
	}
	first, digests, err := build.Build(ctx, pca)
	if err != nil {
		return err
	}
	cache, err := stages.NewCache(stages.CacheConfig{First: first})
	if err != nil {
		return err
	}

	// Batches of 8 classes × 4 images, mined semi-hard, read and decoded.
	triplet := loss.TripletMargin{Margin: 0.2, Distance: loss.SqEuclidean}
	miner, err := stages.NewMiner(stages.MinerConfig{
		Mine: stages.MineConfig{Loss: triplet, Rule: stages.SemiHard, Seed: 1},
		Same: stages.Duplicates(digests),
	})
	if err != nil {
		return err
	}
	plan, err := stages.NewPlan(stages.PlanConfig{Labels: set.Labels(), Data: set.Digest(), P: 8, K: 4, Seed: 1})
	if err != nil {
		return err
	}
	train := func(p *stages.Plan) pipeline.Flow[*pipeline.Batch] {
		return pipeline.From(p).Prefetch(2).Then(
			&stages.Embed{Cache: cache}, miner, &stages.Fetch{Reader: set}, decode,
			&stages.Loss{Of: loss.Triplets{Loss: triplet, Reduction: loss.MeanNonZero}},
		)
	}

	var state pipeline.State
	for b, err := range train(plan).All(ctx) {
		if err != nil {
			return err
		}
		if b.Number == 0 { // b is ours until the closing brace
			fmt.Printf("batch 0: %d images of %d×%d×%d, %d embedding values each\n",
				len(b.IDs), b.Shape.C, b.Shape.H, b.Shape.W, b.Embeddings.Dim)
		}
		if state = b.State(); b.Number == 2 {
			break // nothing of the flow is left running after this
		}
	}

	// Go on after batch 2: in another process, with another number of workers.
	rest, err := plan.At(state)
	if err != nil {
		return err
	}
	for b, err := range train(rest).All(ctx) {
		if err != nil {
			return err
		}
		want := plan.Batch(3, nil)
		fmt.Printf("resumed at batch %d with the same images: %v\n", b.Number, fmt.Sprint(b.IDs[:32]) == fmt.Sprint(want))
		break
	}
	return nil
}

// A triplet file is a source too: training from what was mined before.
func Example_tripletFile() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "tercet")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	set, err := storage.Open(ctx, storage.Config{Paths: []string{"../testdata/glyphs"}})
	if err != nil {
		log.Fatal(err)
	}
	defer set.Close()

	path := filepath.Join(dir, "triplets.parquet")
	w, err := storage.NewTripletWriter(storage.TripletConfig{Path: path, Meta: pipeline.TripletMeta{
		Scope: storage.ScopeDataset, Rule: "semi-hard", Margin: 0.2, Distance: "sqeuclidean", DataDigest: set.Digest(),
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Abort()
	labels := set.Labels()
	positive := 1
	for labels[positive] != labels[0] {
		positive++
	}
	negative := 1
	for labels[negative] == labels[0] {
		negative++
	}
	if err := w.Write([]pipeline.MinedTriplet{{
		Anchor: 0, Positive: int64(positive), Negative: int64(negative),
		AnchorLabel: labels[0], PositiveLabel: labels[0], NegativeLabel: labels[negative],
		AP: 0.5, AN: 0.6, Loss: 0.1, Kind: pipeline.SemiHard, Batch: -1,
	}}); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(nil); err != nil {
		log.Fatal(err)
	}

	mined, err := storage.OpenTriplets(path)
	if err != nil {
		log.Fatal(err)
	}
	defer mined.Close()
	source, err := mined.Batches(storage.TripletBatches{PerBatch: 32, Data: set.Digest()})
	if err != nil {
		log.Fatal(err)
	}
	decode, err := stages.NewDecode(stages.DecodeConfig{Height: 32, Width: 32, Channels: 1})
	if err != nil {
		log.Fatal(err)
	}
	for b, err := range pipeline.From(source).Then(&stages.Fetch{Reader: set}, decode).All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		t := b.Triplets[0]
		fmt.Printf("%d images, triplet at positions (%d, %d, %d), %v\n", len(b.IDs), t.Anchor, t.Positive, t.Negative, t.Kind)
	}
	// Output: 3 images, triplet at positions (0, 1, 2), semi-hard
}
