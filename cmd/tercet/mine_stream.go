package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// checkStream checks what a stream cannot do.
func (j *mineJob) checkStream() error {
	f := j.flags
	for _, not := range []struct {
		flag string
		set  bool
	}{
		{"--dry-run", f.dryRun}, {"--resume", f.resume}, {"--save-embeddings", f.saveEmbeddings != ""}, {"--world", f.world > 1},
		{"--on-bad-row " + f.policy.String(), f.policy != stages.FailOnBad}, {"--guard-same-group", f.guards.SameGroup},
		{"--embedder column", f.embedder == "column"},
	} {
		if not.set {
			return usagef("%s is not for --stream, whose rows come once", not.flag)
		}
	}
	if j.mine.Scope != stages.ScopeBatch {
		return usagef("--stream is for --scope batch")
	}
	j.mine.Guards.AllowDuplicates = true // rows that have gone are not compared with
	return nil
}

// openStream opens a stream of rows and sets the process's memory limit.
func (d *dataFlags) openStream(ctx context.Context, path string) (*storage.Stream, io.Closer, error) {
	memory, err := d.bytes()
	if err != nil {
		return nil, nil, err
	}
	shape, err := parseShape("--shape", d.shape)
	if err != nil {
		return nil, nil, err
	}
	debug.SetMemoryLimit(memory)
	file := os.Stdin
	if path != "-" {
		file, err = os.Open(path)
	} else if file.SetReadDeadline(time.Time{}) != nil {
		// Opened anew, where that can be done, a pipe can be waited for no longer.
		if again, err := os.Open("/dev/stdin"); err == nil {
			file = again
		}
	}
	if err != nil {
		return nil, nil, err
	}
	s, err := storage.OpenStream(ctx, file, storage.Config{
		Paths: []string{path}, ImageColumn: d.image, LabelColumn: d.label, IDColumn: d.id, GroupColumn: d.group,
		Shape: shape, Memory: memory / 4,
	})
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return s, file, nil
}

// A headed stream sends the rows that were looked at before the others.
type headed struct {
	head []pipeline.Record
	rest *storage.Stream
}

func (h headed) Run(ctx context.Context, out chan<- pipeline.Record) error {
	if err := pipeline.Slice(h.head).Run(ctx, out); err != nil {
		return err
	}
	return h.rest.Run(ctx, out)
}

// Read implements [stages.Reader] for the head.
func (h headed) Read(_ context.Context, ids []int64, dst []pipeline.Record) error {
	for i, id := range ids {
		dst[i] = h.head[id]
	}
	return nil
}

// look reads the first rows: as many as an embedding is fitted to, or one.
func (h *headed) look(ctx context.Context, n int) error {
	for len(h.head) < n {
		recs, err := h.rest.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		h.head = append(h.head, recs...)
	}
	if len(h.head) == 0 {
		return errors.New("the stream has no rows")
	}
	return nil
}

// upTo ends a flow after n batches.
type upTo struct{ n int64 }

func (u upTo) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- *pipeline.Batch) error {
	left := u.n
	for b, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
		if left--; left == 0 {
			break
		}
	}
	return nil
}

// mineStream mines the rows of a stream as they arrive.
func (j *mineJob) mineStream(ctx context.Context, paths []string) (err error) {
	if len(paths) != 1 {
		return usagef("--stream reads one stream, - for the standard input, and not %d", len(paths))
	}
	memory, err := j.flags.bytes()
	if err != nil {
		return err
	}
	if err := j.tryOutput(); err != nil {
		return err
	}
	stream, file, err := j.flags.openStream(ctx, paths[0])
	if err != nil {
		return err
	}
	defer file.Close()
	pools, err := stages.NewPools(stages.PoolsConfig{P: j.flags.p, K: j.flags.k, Memory: memory / 4, Data: stream.Digest()})
	if err != nil {
		return err
	}
	rows := headed{rest: stream}
	e, err := j.streamEmbedder(ctx, &rows)
	if err != nil {
		return err
	}
	defer e.close()
	watched, err := j.watchHealth(ctx, nil)
	if err != nil {
		return err
	}
	defer watched.endInto(&err, j.flags.out)
	miner, err := stages.NewMiner(stages.MinerConfig{Mine: j.mine, BarePairs: j.flags.emit == "pairs", Meter: j.meter, Observe: watched.observe()})
	if err != nil {
		return err
	}
	batches := pipeline.Via(pipeline.From[pipeline.Record](rows), pools)
	if j.flags.batches > 0 {
		batches = batches.Then(upTo{j.flags.batches})
	}
	batches = batches.Then(e.decode, &stages.EmbedPixels{Embedder: e.Embedder, Meter: j.meter}, miner)
	meta := j.described()
	meta.DataDigest, meta.Normalised, meta.Embedder, meta.Fingerprint, meta.Dim = stream.Digest(), true, e.name, e.fingerprint, e.Dim()
	meta.ImageSize = fmt.Sprintf("%dx%dx%d", e.size.H, e.size.W, e.size.C)
	meta.P, meta.K, meta.Batches = j.flags.p, j.flags.k, j.flags.batches
	if err := watched.begin(meta); err != nil {
		return err
	}
	cfg := storage.TripletConfig{Path: j.flags.out, Overwrite: j.flags.overwrite, Meta: meta}
	written, err := j.writeStream(ctx, cfg, pipeline.Via(batches, stages.Mined{}), &mining{report: miner.Report})
	if err != nil {
		return err
	}
	// How far the stream was read beyond the last batch is a matter of time, so
	// it is said here and not in the file.
	report := pools.Report()
	meta.Rows, meta.Classes = report.Rows, len(stream.Classes())
	if meta.Batches == 0 {
		meta.Batches = report.Batches
	}
	return j.print(j.completed(&summary{
		Output: j.flags.out, Emit: j.flags.emit, Rows: written, Meta: meta, Size: e.size, Stream: &report, report: miner.Report(), shards: 1,
	}))
}

// A streamEmbedder is what embeds the rows of a stream.
type streamEmbedder struct {
	stages.Embedder
	name        string
	size        pipeline.Shape
	fingerprint string // with that of the preprocessing
	decode      *stages.Decode
	close       func()
}

// streamEmbedder opens the model, or fits one to the first rows.
func (j *mineJob) streamEmbedder(ctx context.Context, rows *headed) (e streamEmbedder, err error) {
	job := j.embedJob()
	m, err := job.openModel()
	if err != nil {
		return e, err
	}
	e.name, e.close = "pca", func() {}
	look := fitSample
	if m != nil {
		e.name, e.close = m.name, func() { m.close() } // which opening an embedder may change
		look = 1
	}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if err := rows.look(ctx, look); err != nil {
		return e, err
	}
	e.decode, e.size, err = job.decoderFor(m, func() (stages.ImageInfo, error) { return stages.Inspect(rows.head[0]) })
	if err != nil {
		return e, err
	}
	if m != nil {
		e.Embedder, err = m.embedder(ctx, e.size)
	} else {
		e.Embedder, err = stages.FitPCA(ctx, stages.PCAConfig{
			Dim: j.flags.dim, AtMost: !j.flags.dimGiven, Seed: j.flags.seed, Workers: j.flags.workers, Meter: j.meter,
		}, rows, e.decode, int64(len(rows.head)))
	}
	if err == nil {
		e.fingerprint = pipeline.Digest("embedding", []string{e.decode.Fingerprint(), e.Fingerprint()})
	}
	return e, err
}

// writeStream mines the stream and writes the file.
func (j *mineJob) writeStream(ctx context.Context, cfg storage.TripletConfig, triplets pipeline.Flow[pipeline.MinedTriplet], m *mining) (int64, error) {
	if j.flags.emit == "pairs" {
		return j.writePairs(ctx, cfg, m, triplets)
	}
	w, err := storage.NewTripletWriter(cfg)
	if err != nil {
		return 0, err
	}
	defer w.Abort()
	return finish(ctx, triplets, w, m)
}
