package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// A soaking is the stream of a soak and what it is made of.
type soaking struct {
	flags  *soakFlags
	set    *storage.Dataset
	shape  pipeline.Shape
	first  *stages.Snapshot
	pca    *stages.PCA
	same   []int32
	stderr io.Writer
}

func newSoaking(ctx context.Context, f *soakFlags, set *storage.Dataset, stderr io.Writer) (*soaking, error) {
	if !set.HasImages() {
		return nil, usagef("the data has no image column, and a refresh embeds images: name it with --image-column")
	}
	job := &embedJob{flags: &f.embedderFlags, data: &f.dataFlags, seed: f.seed, stderr: stderr}
	decode, _, err := job.decoder(ctx, set, nil)
	if err != nil {
		return nil, err
	}
	pca, err := stages.FitPCA(ctx, stages.PCAConfig{Dim: f.dim, AtMost: !f.dimGiven, Seed: f.seed, Workers: f.workers}, set, decode, int64(set.Len()))
	if err != nil {
		return nil, err
	}
	emb, err := job.build(ctx, set, decode, &drifting{PCA: pca})
	if err != nil {
		return nil, err
	}
	return &soaking{flags: f, set: set, shape: decode.Shape(), first: emb.Snapshot, pca: pca, same: emb.same, stderr: stderr}, nil
}

// A drifting model is a PCA whose coordinates turn, pair by pair, as a model's
// do while it learns: by the number of steps that were taken, and nothing else.
type drifting struct {
	*stages.PCA
	steps int64
}

func (d *drifting) Fingerprint() string { return fmt.Sprint(d.PCA.Fingerprint(), " after ", d.steps) }

func (d *drifting) Embed(ctx context.Context, dst pipeline.Embeddings, pixels []float32) error {
	if err := d.PCA.Embed(ctx, dst, pixels); err != nil {
		return err
	}
	for i := range dst.Len() {
		row := dst.Row(i)
		for k := 0; k+1 < len(row); k += 2 {
			sin, cos := math.Sincos(float64(d.steps) / 1000 * float64(k+1))
			x, y := float64(row[k]), float64(row[k+1])
			row[k], row[k+1] = float32(x*cos)-float32(y*sin), float32(x*sin)+float32(y*cos)
		}
	}
	return nil
}

// Freeze implements [stages.Freezer].
func (d *drifting) Freeze() (stages.Embedder, error) {
	frozen := *d
	return &frozen, nil
}

// A chain is the hash of a stream: each link is the SHA-256 of the one before
// and of what a batch holds.
type chain [sha256.Size]byte

func (c *chain) add(b *pipeline.Batch) {
	h := sha256.New()
	h.Write(c[:])
	fmt.Fprintln(h, b.Number, b.IDs, b.Labels, b.Shape, b.Triplets, b.Extra, b.Generation, b.Loss)
	var word [4]byte
	for _, values := range [][]float32{b.Pixels, b.Embeddings.Data, b.Gradients.Data} {
		text := make([]byte, 0, 4*len(values))
		for _, v := range values {
			binary.LittleEndian.PutUint32(word[:], math.Float32bits(v))
			text = append(text, word[:]...)
		}
		h.Write(text)
	}
	h.Sum(c[:0])
}

func (c *chain) String() string { return hex.EncodeToString(c[:]) }

// stream runs epochs from the beginning until each, which gets every batch, has
// had enough.
func (s *soaking) stream(ctx context.Context, workers, prefetch int, each func(*pipeline.Batch, *stages.Cache) (more bool)) (epochs int64, err error) {
	f, model := s.flags, &drifting{PCA: s.pca}
	decoder := func() (*stages.Decode, error) {
		memory, err := f.bytes()
		if err != nil {
			return nil, err
		}
		return stages.NewDecode(stages.DecodeConfig{
			Height: s.shape.H, Width: s.shape.W, Channels: s.shape.C, MaxPixels: f.maxPixels, Memory: memory / 4, Workers: workers,
		})
	}
	decode, err := decoder()
	if err != nil {
		return 0, err
	}
	embed, err := decoder()
	if err != nil {
		return 0, err
	}
	cache, err := stages.NewCache(stages.CacheConfig{
		First: s.first, Every: f.every, Lag: f.lag, Share: f.share, Embedder: model, StopOnFailure: true,
		Builder: &stages.Builder{
			Images: pipeline.Via(pipeline.From[pipeline.Record](s.set), embed.Records()), Samples: s.set.Len(), Preprocessing: embed.Fingerprint(),
		},
	})
	if err != nil {
		return 0, err
	}
	miner, err := stages.NewMiner(stages.MinerConfig{Mine: f.mine, Same: s.same, Labels: s.set.Labels(), Snapshots: cache, Workers: workers})
	if err != nil {
		return 0, err
	}
	cfg, err := f.planFlags.config(ctx, s.set, &f.dataFlags)
	if err != nil {
		return 0, err
	}
	cfg.Seed, cfg.Config = f.seed, pipeline.Digest("soak", []string{pipeline.Digest("mine", f.mine), cache.Fingerprint(), decode.Fingerprint()})
	plan, err := stages.NewPlan(cfg)
	if err != nil {
		return 0, err
	}
	for ; ; epochs++ {
		epoch := plan.Epoch(epochs)
		flow := pipeline.From(epoch).Prefetch(prefetch).Then(
			&stages.Embed{Cache: cache}, miner, &stages.Fetch{Reader: s.set, Plan: epoch}, decode,
			&stages.Loss{Of: loss.Triplets{Loss: f.mine.Loss, Reduction: loss.MeanNonZero}})
		for b, err := range flow.Timeout(10 * time.Minute).All(ctx) {
			if err != nil {
				return epochs, err
			}
			if !each(b, cache) {
				return epochs + 1, nil
			}
			model.steps = b.Number + 1
		}
	}
}

// run streams for the time that was asked for, and then the prefix again.
func (s *soaking) run(ctx context.Context) (*soakReport, error) {
	f := s.flags
	r := &soakReport{Prefix: f.prefix}
	var g gauge
	runtime.GC()
	r.Before = runtime.NumGoroutine()
	start := time.Now()
	p := startProgress(s.stderr, "soak", int64(f.length.Seconds()), func() int64 { return int64(time.Since(start).Seconds()) })
	stop := pipeline.Every(min(time.Second, f.length/20), func() { g.read(time.Since(start)) })
	var c chain
	epochs, err := s.stream(ctx, f.workers, f.prefetch, func(b *pipeline.Batch, cache *stages.Cache) bool {
		c.add(b)
		if r.Batches++; r.Batches == f.prefix {
			r.PrefixHash = c.String()
		}
		r.Refreshes = cache.Stats().Refreshed
		return time.Since(start) < f.length || r.Refreshes < f.refreshes || r.Batches < f.prefix
	})
	stop()
	p.end()
	if err != nil {
		return nil, err
	}
	r.Seconds, r.Epochs, r.Hash = time.Since(start).Seconds(), epochs, c.String()
	r.After = settledGoroutines(r.Before)
	g.report(r)

	var again chain
	left := f.prefix
	_, err = s.stream(ctx, pipeline.Workers(f.workers)+1, f.prefetch+3, func(b *pipeline.Batch, _ *stages.Cache) bool {
		again.add(b)
		left--
		return left > 0
	})
	r.Again = again.String()
	return r, err
}

// settledGoroutines counts the goroutines when those that are on their way out
// have gone.
func settledGoroutines(want int) (n int) {
	for range 200 {
		if n = runtime.NumGoroutine(); n <= want {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return n
}

// A gauge reads memory and goroutines from time to time.
type gauge struct {
	mu         sync.Mutex
	at         []float64 // minutes
	mib        []float64 // without garbage
	peak       int64     // bytes, with it
	goroutines int
}

func (g *gauge) read(at time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.peak = max(g.peak, anonymous())
	debug.FreeOSMemory() // what is garbage is no growth
	g.at, g.mib = append(g.at, at.Minutes()), append(g.mib, float64(anonymous())/(1<<20))
	g.goroutines = max(g.goroutines, runtime.NumGoroutine())
}

// report fits a line to the readings of all but the first quarter of the time.
func (g *gauge) report(r *soakReport) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r.During = g.goroutines
	from := len(g.at) / 4
	at, mib := g.at[from:], g.mib[from:]
	if len(at) < 2 {
		return
	}
	var meanAt, meanMiB, cov, square float64
	for i := range at {
		meanAt, meanMiB = meanAt+at[i]/float64(len(at)), meanMiB+mib[i]/float64(len(at))
	}
	r.Memory, r.Peak = meanMiB, float64(g.peak)/(1<<20)
	for i := range at {
		cov += (at[i] - meanAt) * (mib[i] - meanMiB)
		square += (at[i] - meanAt) * (at[i] - meanAt)
	}
	r.Slope, r.Minutes = cov/square, at[len(at)-1]-at[0]
}

// anonymous is the memory of this process that belongs to no file, in bytes:
// what the system says, or else what the runtime has of it.
func anonymous() int64 {
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		for line := range strings.Lines(string(status)) {
			if text, ok := strings.CutPrefix(line, "RssAnon:"); ok {
				if kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64); err == nil {
					return kib << 10
				}
			}
		}
	}
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64() - sample[1].Value.Uint64())
}
