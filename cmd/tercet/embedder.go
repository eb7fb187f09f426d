package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// embedderFlags say where the embeddings come from, as they were typed.
type embedderFlags struct {
	embedder string
	dim      int
	dimGiven bool
	size     string
	shape    pipeline.Shape // of size; what is zero is the model's or the first image's
	modelFlags
}

func (f *embedderFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.embedder, "embedder", "", "pca, column for the data's own embeddings, file:EMB.arrow for those of tercet embed or of any Parquet or Arrow file with an id and a vector column, onnx:MODEL.onnx, or exec:COMMAND (default: column where there is one, else pca)")
	flags.IntVar(&f.dim, "dim", 64, "dimension of the pca embedding (default: fewer where the data vary in fewer directions)")
	flags.StringVar(&f.size, "size", "", "size that images are embedded at: HxW or HxWxC (default: the model's, or the first image's, at most 64 a side)")
	f.modelFlags.register(flags)
}

// check checks what can be checked before a file is opened.
func (f *embedderFlags) check(given *pflag.FlagSet) (err error) {
	f.dimGiven = given.Changed("dim")
	if f.shape, err = parseShape("--size", f.size); err != nil {
		return err
	}
	named := strings.HasPrefix(f.embedder, filePrefix) || strings.HasPrefix(f.embedder, onnxPrefix) || strings.HasPrefix(f.embedder, execPrefix)
	switch {
	case f.embedder != "" && f.embedder != "pca" && f.embedder != "column" && !named:
		return usagef("--embedder is %q, want pca, column, file:EMB.arrow, onnx:MODEL.onnx or exec:COMMAND", f.embedder)
	case f.dim < 1:
		return usagef("--dim is %d, want 1 or more", f.dim)
	}
	return f.modelFlags.check(f.embedder, given)
}

// An embedJob makes the embeddings of a data set, or reads those that are there.
type embedJob struct {
	flags  *embedderFlags
	data   *dataFlags
	seed   uint64
	same   bool // find equal images
	meter  *pipeline.Meter
	stderr io.Writer
	bad    *stages.BadRows // where rows that cannot be used are noted; nil makes the first one an error
}

// embedded is a data set's embeddings and what is known of its images.
type embedded struct {
	*stages.Snapshot
	name          string         // of the embedder
	preprocessing string         // fingerprint of what was done to images before; empty where none were embedded
	size          pipeline.Shape // of the images that were embedded; zero where none were
	same          []int32        // equal images, as stages.Duplicates numbers them; nil where there are no images
	fit           []byte         // of a PCA
	close         func() error   // lets go of the file that the rows are pages of; nil where they are not
}

// Close lets go of the rows.
func (e *embedded) Close() error {
	if e.close == nil {
		return nil
	}
	return e.close()
}

// embed embeds every image, or reads the embeddings that are there.
func (e *embedJob) embed(ctx context.Context, set *storage.Dataset) (*embedded, error) {
	name := e.flags.embedder
	if name == "" {
		name = "pca"
		if set.EmbeddingDim() > 0 {
			name = "column"
		}
	}
	switch {
	case strings.HasPrefix(name, filePrefix):
		return e.readFile(ctx, set)
	case name == "column" && set.EmbeddingDim() == 0:
		return nil, usagef("--embedder is column, but the data has no embedding column: name it with --embedding-column")
	case name != "column" && !set.HasImages():
		return nil, usagef("--embedder is %s, but the data has no image column: name it with --image-column", name)
	case name == "column":
		return e.readColumn(ctx, set)
	}
	m, err := e.openModel()
	if err != nil {
		return nil, err
	}
	if m != nil {
		return e.embedModel(ctx, set, m)
	}
	return e.embedPCA(ctx, set)
}

func (e *embedJob) readColumn(ctx context.Context, set *storage.Dataset) (*embedded, error) {
	rows := pipeline.MakeEmbeddings(set.Len(), set.EmbeddingDim())
	missing, err := set.ReadEmbeddingsKeeping(ctx, rows)
	for _, rec := range missing {
		if err == nil {
			err = e.bad.Add(rec.ID, rec.Where, [16]byte{}, rec.Err)
		}
	}
	if err != nil {
		return nil, err
	}
	s, err := stages.SnapshotOf(rows, stages.SnapshotConfig{
		Fingerprint: pipeline.Digest("embedding column", set.Digest()),
		Locate:      set.Locate,
		Bad:         e.bad,
	})
	if err != nil {
		return nil, err
	}
	emb := &embedded{Snapshot: s, name: "column"}
	return emb, e.hashImages(ctx, set, emb)
}

func (e *embedJob) embedPCA(ctx context.Context, set *storage.Dataset) (*embedded, error) {
	decode, size, err := e.decoder(ctx, set, nil)
	if err != nil {
		return nil, err
	}
	pca, err := stages.FitPCA(ctx, stages.PCAConfig{
		Dim: e.flags.dim, AtMost: !e.flags.dimGiven, Seed: e.seed, Workers: e.data.workers, Meter: e.meter,
	}, set, decode, int64(set.Len()))
	if err != nil {
		return nil, err
	}
	emb, err := e.build(ctx, set, decode, pca)
	if err != nil {
		return nil, err
	}
	emb.name, emb.size = "pca", size
	emb.fit, err = pca.MarshalBinary()
	return emb, err
}

// build embeds every image with m.
func (e *embedJob) build(ctx context.Context, set *storage.Dataset, decode *stages.Decode, m stages.Embedder) (*embedded, error) {
	images, end := watch(e.stderr, "embed", pipeline.Via(pipeline.From[pipeline.Record](set), decode.Records()), set.Len())
	defer end()
	build := stages.Builder{Images: images, Samples: set.Len(), Preprocessing: decode.Fingerprint(), Meter: e.meter, Bad: e.bad}
	snapshot, digests, err := build.Build(ctx, m)
	if err != nil {
		return nil, err
	}
	return &embedded{Snapshot: snapshot, preprocessing: decode.Fingerprint(), same: stages.Duplicates(digests)}, nil
}

// maxSide bounds the side of the images that are embedded when no size is given.
const maxSide = 64

// decoder decodes to what m takes where it is not nil, to --size, or to the first image's size and
// colours with no side longer than maxSide: a function of the data, as all that
// is not given.
func (e *embedJob) decoder(ctx context.Context, set *storage.Dataset, m *model) (*stages.Decode, pipeline.Shape, error) {
	return e.decoderFor(m, func() (stages.ImageInfo, error) {
		_, info, err := firstGood(ctx, set)
		return info, err
	})
}

// decoderFor is decoder, of images of which first is the first one.
func (e *embedJob) decoderFor(m *model, first func() (stages.ImageInfo, error)) (*stages.Decode, pipeline.Shape, error) {
	if m == nil {
		m = new(model)
	}
	size := e.flags.shape
	if size.C == 0 {
		size.C = m.shape.C
	}
	if size.H == 0 && m.shape.W > 0 {
		size.H, size.W = m.shape.H, m.shape.W
	}
	if size.C == 0 || size.H == 0 {
		info, err := first()
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
	if n := len(m.mean); n != 0 && n != size.C {
		return nil, size, usagef("--mean and --std have %d numbers, and the images %d channels", n, size.C)
	}
	memory, err := e.data.bytes()
	if err != nil {
		return nil, size, err
	}
	decode, err := stages.NewDecode(stages.DecodeConfig{
		Height: size.H, Width: size.W, Channels: size.C, MaxPixels: e.data.maxPixels,
		Mean: m.mean, Std: m.std, Memory: memory / 2, Workers: e.data.workers, Meter: e.meter, KeepBad: e.bad != nil,
	})
	return decode, size, err
}

// watch shows how far a flow of a known number of values is.
func watch[T any](stderr io.Writer, phase string, f pipeline.Flow[T], total int) (watched pipeline.Flow[T], end func()) {
	count := new(counter[T])
	p := startProgress(stderr, phase, int64(total), count.Load)
	return f.Then(count), p.end
}
