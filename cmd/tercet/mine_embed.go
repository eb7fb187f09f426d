package main

import (
	"context"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// embedded is a data set's embeddings and what is known of its images.
type embedded struct {
	*stages.Snapshot
	name string         // of the embedder
	size pipeline.Shape // of the images that were embedded; zero where none were
	same []int32        // equal images, as stages.Duplicates numbers them; nil where there are no images
	fit  []byte         // of a PCA
}

// embed embeds every image, or reads the embeddings that are there.
func (j *mineJob) embed(ctx context.Context, set *storage.Dataset) (*embedded, error) {
	name := j.flags.embedder
	if name == "" {
		name = "pca"
		if set.EmbeddingDim() > 0 {
			name = "column"
		}
	}
	switch {
	case name == "column" && set.EmbeddingDim() == 0:
		return nil, usagef("--embedder is column, but the data has no embedding column: name it with --embedding-column")
	case name == "pca" && !set.HasImages():
		return nil, usagef("--embedder is pca, but the data has no image column: name it with --image-column")
	case name == "column":
		return j.readColumn(ctx, set)
	}
	return j.embedPCA(ctx, set)
}

func (j *mineJob) readColumn(ctx context.Context, set *storage.Dataset) (*embedded, error) {
	rows := pipeline.MakeEmbeddings(set.Len(), set.EmbeddingDim())
	if err := set.ReadEmbeddings(ctx, rows); err != nil {
		return nil, err
	}
	s, err := stages.SnapshotOf(rows, stages.SnapshotConfig{
		Fingerprint: pipeline.Digest("embedding column", set.Digest()),
		Locate:      set.Locate,
	})
	if err != nil {
		return nil, err
	}
	emb := &embedded{Snapshot: s, name: "column"}
	if j.mine.Guards.AllowDuplicates || !set.HasImages() {
		return emb, nil
	}
	watched, end := watch(j, "hash images", pipeline.From[pipeline.Record](set), set.Len())
	defer end()
	digests, err := stages.HashRecords(ctx, watched, set.Len())
	emb.same = stages.Duplicates(digests)
	return emb, err
}

func (j *mineJob) embedPCA(ctx context.Context, set *storage.Dataset) (*embedded, error) {
	decode, size, err := j.decoder(ctx, set)
	if err != nil {
		return nil, err
	}
	pca, err := stages.FitPCA(ctx, stages.PCAConfig{
		Dim: j.flags.dim, AtMost: !j.dimGiven, Seed: j.flags.seed, Workers: j.flags.workers, Meter: j.meter,
	}, set, decode, int64(set.Len()))
	if err != nil {
		return nil, err
	}
	images, end := watch(j, "embed", pipeline.Via(pipeline.From[pipeline.Record](set), decode.Records()), set.Len())
	defer end()
	build := stages.Builder{Images: images, Samples: set.Len(), Preprocessing: decode.Fingerprint(), Meter: j.meter}
	snapshot, digests, err := build.Build(ctx, pca)
	if err != nil {
		return nil, err
	}
	fit, err := pca.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return &embedded{Snapshot: snapshot, name: "pca", size: size, same: stages.Duplicates(digests), fit: fit}, nil
}

// maxSide bounds the side of the images that are embedded when no size is given.
const maxSide = 64

// decoder decodes to --size, or to the first image's size and colours with no
// side longer than maxSide: a function of the data, as all that is not given.
func (j *mineJob) decoder(ctx context.Context, set *storage.Dataset) (*stages.Decode, pipeline.Shape, error) {
	size := j.size
	if size.C == 0 || size.H == 0 {
		first := make([]pipeline.Record, 1)
		if err := set.Read(ctx, []int64{0}, first); err != nil {
			return nil, size, err
		}
		info, err := stages.Inspect(first[0])
		if err != nil {
			return nil, size, err
		}
		if size.C == 0 {
			size.C = info.C
		}
		if size.H == 0 {
			long := max(info.H, info.W, maxSide)
			size.H, size.W = max(1, info.H*maxSide/long), max(1, info.W*maxSide/long)
		}
	}
	memory, err := j.flags.bytes()
	if err != nil {
		return nil, size, err
	}
	decode, err := stages.NewDecode(stages.DecodeConfig{
		Height: size.H, Width: size.W, Channels: size.C, MaxPixels: j.flags.maxPixels,
		Memory: memory / 2, Workers: j.flags.workers, Meter: j.meter,
	})
	return decode, size, err
}

// watch shows how far a flow of a known number of values is.
func watch[T any](j *mineJob, phase string, f pipeline.Flow[T], total int) (watched pipeline.Flow[T], end func()) {
	count := new(counter[T])
	p := startProgress(j.stderr, phase, int64(total), count.Load)
	return f.Then(count), p.end
}
