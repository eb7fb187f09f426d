package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// filePrefix is before the name of a file of embeddings in --embedder.
const filePrefix = "file:"

// readFile takes the embeddings that a file has for the data set: those of
// tercet embed as they are, where they are; those of anybody else scaled.
func (e *embedJob) readFile(ctx context.Context, set *storage.Dataset) (emb *embedded, err error) {
	path := strings.TrimPrefix(e.flags.embedder, filePrefix)
	ours, err := storage.IsSnapshot(ctx, path)
	switch {
	case err != nil:
	case ours:
		emb, err = e.mapSnapshot(set, path)
	default:
		emb, err = e.readVectors(ctx, set, path)
	}
	if err != nil {
		return nil, fmt.Errorf("--embedder: %w", err)
	}
	return emb, e.hashImages(ctx, set, emb)
}

func (e *embedJob) mapSnapshot(set *storage.Dataset, path string) (*embedded, error) {
	want := storage.SnapshotMeta{DataDigest: set.Digest(), Rows: int64(set.Len()), DType: "float32"}
	if e.flags.dimGiven {
		want.Dim = e.flags.dim
	}
	if e.flags.size != "" {
		want.ImageSize = sizeText(e.flags.shape)
	}
	m, err := storage.MapSnapshot(path, want)
	if err != nil {
		return nil, err
	}
	rows := m.Rows
	if !m.Meta.Normalised {
		rows = pipeline.Embeddings{Dim: rows.Dim, Data: append([]float32(nil), rows.Data...)}
	}
	s, err := stages.SnapshotOf(rows, stages.SnapshotConfig{
		Fingerprint: m.Meta.Fingerprint, Scaled: m.Meta.Normalised, Bad: e.bad,
		Locate: func(id int64) pipeline.Location {
			return pipeline.Location{File: path, RowGroup: 0, Row: id, Column: "embedding"}
		},
	})
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	emb := &embedded{Snapshot: s, name: m.Meta.Embedder, preprocessing: m.Meta.Preprocessing, fit: m.Meta.Fit, close: m.Close}
	if m.Meta.ImageSize != "" {
		if emb.size, err = parseShape("image_size", m.Meta.ImageSize); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", path, err), m.Close())
		}
	}
	return emb, nil
}

func (e *embedJob) readVectors(ctx context.Context, set *storage.Dataset, path string) (*embedded, error) {
	memory, err := e.data.bytes()
	if err != nil {
		return nil, err
	}
	paths, err := set.Paths(ctx)
	if err != nil {
		return nil, err
	}
	rows, digest, err := storage.ReadVectors(ctx, storage.VectorConfig{Path: path, Samples: set.Len(), Paths: paths, Memory: memory / 4})
	if err != nil {
		return nil, err
	}
	if e.flags.dimGiven && rows.Dim != e.flags.dim {
		return nil, &storage.MismatchError{File: path, Field: "dim", Have: fmt.Sprint(rows.Dim), Want: fmt.Sprint(e.flags.dim)}
	}
	s, err := stages.SnapshotOf(rows, stages.SnapshotConfig{
		Fingerprint: pipeline.Digest("embedding file", digest), Locate: set.Locate, Bad: e.bad,
	})
	if err != nil {
		return nil, err
	}
	return &embedded{Snapshot: s, name: "file"}, nil
}

// hashImages finds equal images, where embeddings came without a look at them.
func (e *embedJob) hashImages(ctx context.Context, set *storage.Dataset, emb *embedded) error {
	if !e.same || !set.HasImages() {
		return nil
	}
	watched, end := watch(e.stderr, "hash images", pipeline.From[pipeline.Record](set), set.Len())
	defer end()
	digests, err := stages.HashRecords(ctx, watched, set.Len(), e.bad)
	emb.same = stages.Duplicates(digests)
	return err
}

// sizeText is a shape as --size takes it; "" for none.
func sizeText(z pipeline.Shape) string {
	if z.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("%dx%dx%d", z.H, z.W, z.C)
}
