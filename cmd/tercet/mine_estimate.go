package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"text/tabwriter"
	"time"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// An estimate is what tercet mine --dry-run says of a job.
type estimate struct {
	Pairs   int64   `json:"pairs"`   // at most, where batches repeat the images of short classes
	Rows    int64   `json:"rows"`    // at most
	Bytes   int64   `json:"bytes"`   // at most, before compression
	Seconds float64 `json:"seconds"` // from a sample of the work
}

// estimate prints how much there is to do, and writes nothing.
func (j *mineJob) estimate(ctx context.Context, set *storage.Dataset) error {
	var e estimate
	anchors := int64(set.Len())
	candidates := anchors
	if j.mine.Scope == stages.ScopeBatch {
		b := int64(j.flags.p) * int64(j.flags.k)
		anchors, candidates = j.plan.PerRank()*b, b
		e.Pairs = anchors * positivesOf(j.mine, int64(j.flags.k))
	} else {
		for _, c := range classesOf(set) {
			e.Pairs += c.Rows * positivesOf(j.mine, c.Rows)
		}
	}
	perPair := int64(j.mine.PerPair)
	if perPair == 0 {
		perPair = candidates // a listing rule in a batch
	}
	e.Rows = e.Pairs * perPair
	rowBytes := int64(3*8 + 3*4 + 3*4 + 4 + 1)
	if j.flags.emit == "pairs" {
		e.Rows += e.Pairs
		rowBytes = 2*8 + 4 + 2*4
	}
	e.Bytes = e.Rows * rowBytes
	perImage, dim, err := j.timeImages(ctx, set)
	if err != nil {
		return err
	}
	perCandidate, err := j.timeMining(ctx, set, dim)
	if err != nil {
		return err
	}
	if c := j.mine.Candidates; c > 0 {
		candidates = min(candidates, int64(c))
	}
	mining := float64(anchors) * float64(candidates) * perCandidate
	e.Seconds = (float64(set.Len())*perImage + mining) / float64(pipeline.Workers(j.flags.workers))
	if j.flags.json {
		return printJSON(j.stdout, e)
	}
	w := tabwriter.NewWriter(j.stdout, 0, 0, 2, ' ', 0)
	atMost := ""
	if j.mine.Scope == stages.ScopeBatch && j.short == stages.Repeat {
		atMost = "at most "
	}
	fmt.Fprintf(w, "pairs\t%s%s\n", atMost, count(e.Pairs))
	fmt.Fprintf(w, "rows\tat most %s %s\n", count(e.Rows), j.flags.emit)
	fmt.Fprintf(w, "bytes\tat most %s, before compression and without paths\n", count(e.Bytes))
	fmt.Fprintf(w, "time\tabout %s\n", time.Duration(e.Seconds*float64(time.Second)).Round(100*time.Millisecond))
	return w.Flush()
}

// positivesOf is how many positives an anchor of a class of n images is paired with.
func positivesOf(c stages.MineConfig, n int64) int64 {
	if c.Positives > 0 {
		return min(int64(c.Positives), n-1)
	}
	return n - 1
}

// timeImages is how long one image takes to be read and decoded, in seconds on
// one core, from up to 64 of them spread over the data; and the dimension of
// the embeddings.
func (j *mineJob) timeImages(ctx context.Context, set *storage.Dataset) (perImage float64, dim int, err error) {
	if set.EmbeddingDim() > 0 && (j.flags.embedder == "" || j.flags.embedder == "column") || !set.HasImages() {
		return 1e-6, max(set.EmbeddingDim(), 1), nil
	}
	job := j.embedJob()
	m, err := job.openModel()
	if err != nil {
		return 0, 0, err
	}
	if m != nil {
		defer func() { m.close() }()
	}
	decode, size, err := job.decoder(ctx, set, m)
	if err != nil {
		return 0, 0, err
	}
	n := min(64, set.Len())
	ids, records := make([]int64, n), make([]pipeline.Record, n)
	for i := range ids {
		ids[i] = int64(i) * int64(set.Len()) / int64(n)
	}
	if err := set.Read(ctx, ids, records); err != nil {
		return 0, 0, err
	}
	start := time.Now()
	_, pixels, err := decode.Images(ctx, nil, records)
	if err != nil {
		return 0, 0, err
	}
	elapsed := time.Since(start).Seconds() * float64(pipeline.Workers(j.flags.workers))
	if m != nil {
		embedder, err := m.embedder(ctx, size)
		if err != nil {
			return 0, 0, err
		}
		start := time.Now()
		err = embedder.Embed(ctx, pipeline.MakeEmbeddings(n, embedder.Dim()), pixels)
		elapsed += time.Since(start).Seconds() * float64(pipeline.Workers(j.flags.workers))
		return elapsed / float64(n), embedder.Dim(), err
	}
	dim = max(1, min(j.flags.dim, set.Len()-1, size.Len()))
	fitted := float64(min(fitSample, set.Len())) // these are decoded twice, and compared with each other
	twice := 1 + fitted/float64(set.Len())
	fit := fitted * fitted / float64(set.Len()) * timeDistance(size.Len())
	return twice*elapsed/float64(n) + fit + float64(dim)*timeDistance(size.Len()), dim, nil
}

// fitSample is how many images [stages.FitPCA] looks at by default.
const fitSample = 2048

// timeMining is how long a candidate of an anchor takes, in seconds on one core,
// from mining up to 2048 of the rows with embeddings drawn by chance.
func (j *mineJob) timeMining(ctx context.Context, set *storage.Dataset, dim int) (float64, error) {
	n := min(2048, set.Len())
	rows, labels := pipeline.MakeEmbeddings(n, dim), make([]int32, n)
	for i := range labels {
		labels[i] = set.Labels()[int64(i)*int64(set.Len())/int64(n)]
	}
	dice := rand.New(rand.NewPCG(j.flags.seed, 0))
	for i := range rows.Data {
		rows.Data[i] = float32(dice.NormFloat64())
	}
	snapshot, err := stages.SnapshotOf(rows, stages.SnapshotConfig{Fingerprint: "chance"})
	if err != nil {
		return 0, err
	}
	mine := j.mine
	mine.PerPair = max(mine.PerPair, 1)
	mine.Guards.SameGroup, mine.Candidates = false, 0
	scan, err := stages.NewScan(stages.ScanConfig{Mine: mine, Embeddings: snapshot.Embeddings, Labels: labels, Workers: j.flags.workers})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := drain(ctx, pipeline.From(scan).Prefetch(atOnce), func([]pipeline.MinedTriplet) error { return nil }); err != nil {
		return 0, err
	}
	return time.Since(start).Seconds() * float64(pipeline.Workers(j.flags.workers)) / float64(n) / float64(n), nil
}

// timeDistance is how long one distance of that dimension takes, in seconds.
func timeDistance(dim int) float64 {
	const rows = 256
	x, all, dst := make([]float32, dim), make([]float32, rows*dim), make([]float32, rows)
	start, n := time.Now(), 0
	for time.Since(start) < 20*time.Millisecond {
		f32.SqEuclideans(dst, x, all)
		n += rows
	}
	return time.Since(start).Seconds() / float64(n)
}
