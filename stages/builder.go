package stages

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// A Builder makes snapshots of a whole data set: the second flow, from the
// images in id order to one embedding per sample.
type Builder struct {
	Images        pipeline.Flow[Image] // all samples in id order: Via(From(dataset), decode.Records())
	Samples       int                  // N, their number
	Preprocessing string               // [Decode.Fingerprint] of the decoder in Images
	Unscaled      bool                 // leave the rows as the embedder makes them; default: scaled to length 1
	Meter         *pipeline.Meter      // counts images under "embed data set"; may be nil
	Bad           *BadRows             // where images that came with an error, and rows that cannot be used, are noted; nil makes them errors

	done atomic.Int64 // samples that were embedded by the build that is going on, or the last
}

// Progress is how many samples the build that is going on, or the last one, has
// embedded, of all.
func (b *Builder) Progress() (done, total int) { return int(b.done.Load()), b.Samples }

// digestOf tells equal images apart from others: the first half of the SHA-256
// of an image's bytes as they are stored.
func digestOf(image []byte) [16]byte {
	sum := sha256.Sum256(image)
	return [16]byte(sum[:16])
}

// embedAtOnce bounds the pixels of one call of Embed, in float32 values.
const embedAtOnce = 2 << 20

// Build embeds every image with e and returns generation 0 of the rows, and the
// digest of every stored image by sample id. It needs memory for the rows, the
// digests and a bounded number of images. Rows are checked and scaled as in
// [SnapshotOf]; a bad one is a [*pipeline.RowError], or with Bad is noted there
// and left zero. One build runs at a time.
func (b *Builder) Build(ctx context.Context, e Embedder) (*Snapshot, [][16]byte, error) {
	if e.Dim() < 1 {
		return nil, nil, fmt.Errorf("embedder has %d dimensions, want 1 or more", e.Dim())
	}
	var (
		cfg     = SnapshotConfig{Fingerprint: b.fingerprint(e), Unscaled: b.Unscaled}
		timer   = b.Meter.Timer("embed data set")
		rows    = pipeline.MakeEmbeddings(b.Samples, e.Dim())
		digests = make([][16]byte, 0, b.Samples)
		pixels  []float32
		where   []pipeline.Location // of the images in pixels
		norms   Sketch
	)
	b.done.Store(0)
	flush := func(ctx context.Context) error {
		defer timer.Add(len(where), time.Now())
		done := len(digests) - len(where)
		dst := rows.Slice(done, len(digests))
		if err := e.Embed(ctx, dst, pixels); err != nil {
			return fmt.Errorf("embed samples %d to %d: %w", done, len(digests)-1, err)
		}
		for i, at := range where {
			id := int64(done + i)
			length, err := finishLength(dst.Row(i), !b.Unscaled)
			if err == nil {
				norms.Add(length)
				continue
			}
			if err = rowError(id, func(int64) pipeline.Location { return at }, err); b.Bad != nil {
				clear(dst.Row(i))
				err = b.Bad.Add(id, at, digests[id], err)
			}
			if err != nil {
				return err
			}
		}
		b.done.Add(int64(len(where)))
		pixels, where = pixels[:0], where[:0]
		return nil
	}
	for img, err := range b.Images.All(ctx) {
		if err != nil {
			return nil, nil, err
		}
		if img.ID != int64(len(digests)) || len(digests) >= b.Samples {
			return nil, nil, fmt.Errorf("embed data set: sample %d came as number %d of %d: want each once, in order", img.ID, len(digests), b.Samples)
		}
		if img.Err != nil {
			if b.Bad == nil {
				return nil, nil, img.Err
			}
			if len(where) > 0 {
				if err := pipeline.InShare(ctx, flush); err != nil { // the rows of a call are side by side
					return nil, nil, err
				}
			}
			if err := b.Bad.Add(img.ID, img.Where, img.Digest, img.Err); err != nil {
				return nil, nil, err
			}
			digests = append(digests, img.Digest)
			continue
		}
		digests = append(digests, img.Digest)
		pixels = append(pixels, img.Pixels...)
		where = append(where, img.Where)
		if len(pixels)+len(img.Pixels) > embedAtOnce {
			if err := pipeline.InShare(ctx, flush); err != nil {
				return nil, nil, err
			}
		}
	}
	if len(digests) != b.Samples {
		return nil, nil, fmt.Errorf("embed data set: got %d samples, want %d", len(digests), b.Samples)
	}
	if len(where) > 0 {
		if err := pipeline.InShare(ctx, flush); err != nil {
			return nil, nil, err
		}
	}
	s := &Snapshot{Embeddings: rows, Fingerprint: cfg.Fingerprint, Normalised: !b.Unscaled, Norms: norms}
	err := pipeline.InShare(ctx, func(context.Context) error {
		s.Digest = digestRows(rows, cfg)
		return nil
	})
	return s, digests, err
}

// fingerprint is that of the rows e would make.
func (b *Builder) fingerprint(e Embedder) string {
	return pipeline.Digest("embedding", []string{b.Preprocessing, e.Fingerprint()})
}

// HashRecords is the digest of every stored image of a data set of n samples,
// by sample id, where nothing has to be decoded. Records come in id order; those
// with Err are noted in bad, which may be nil where there are none.
func HashRecords(ctx context.Context, records pipeline.Flow[pipeline.Record], n int, bad *BadRows) ([][16]byte, error) {
	digests := make([][16]byte, 0, n)
	for rec, err := range pipeline.Via(records, hashing{}).All(ctx) {
		if err == nil && rec.Err != nil {
			if err = rec.Err; bad != nil {
				err = bad.Add(rec.ID, rec.Where, rec.Digest, rec.Err)
			}
		}
		if err != nil {
			return nil, err
		}
		digests = append(digests, rec.Digest)
	}
	if len(digests) != n {
		return nil, fmt.Errorf("hash images: got %d samples, want %d", len(digests), n)
	}
	return digests, nil
}

type hashing struct{}

func (hashing) Run(ctx context.Context, in <-chan pipeline.Record, out chan<- Image) error {
	weight := func(r pipeline.Record) int64 { return int64(len(r.Image)) }
	cfg := pipeline.MapConfig[pipeline.Record]{Bytes: 64 << 20, Weight: weight}
	return pipeline.Map(ctx, cfg, in, out, func(_ context.Context, r pipeline.Record) (Image, error) {
		return Image{ID: r.ID, Digest: digestOfBad(r), Where: r.Where, Err: r.Err}, nil
	})
}

// guard calls f, and makes a panic of somebody else's code an error.
func guard(who string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &pipeline.PanicError{In: who, Value: v, Stack: debug.Stack(), Batch: -1}
		}
	}()
	return f()
}
