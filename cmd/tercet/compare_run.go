package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
)

// A comparison is what every run has in common: images in memory, and settings.
type comparison struct {
	*compareFlags
	triplet loss.TripletMargin
	data    string // digest
	shape   pipeline.Shape
	pixels  []float32 // N×in
	in      int       // shape.Len()
	labels  []int32   // N
	seen    []int32   // labels, but Unknown for the classes that are held out
	held    []int     // samples of those
	classes int
}

// A point is the quality after some steps.
type point struct {
	step   int
	recall float64
}

// A training is that of one network.
type training struct {
	rule     string
	seed     uint64
	curve    []point
	active   float64 // share of the triplets that had a loss, by the weights that they were given to
	triplets int64
}

// last is the recall at the end.
func (r *training) last() float64 { return r.curve[len(r.curve)-1].recall }

// Run implements [pipeline.Source]: the images of the data set, which the cache
// is made of.
func (c *comparison) Run(ctx context.Context, out chan<- stages.Image) error {
	for i := range c.labels {
		img := stages.Image{ID: int64(i), Label: c.labels[i], Pixels: c.pixels[i*c.in : (i+1)*c.in]}
		if err := pipeline.Send(ctx, out, img); err != nil {
			return err
		}
	}
	return nil
}

// random is the name of the rule that looks at no embedding: for each pair a
// negative by chance.
const random = "random"

// mineConfig is the rule that a run mines by.
func (c *comparison) mineConfig(name string, seed uint64) (stages.MineConfig, error) {
	cfg := stages.MineConfig{Loss: c.triplet, Rule: stages.All, Scope: c.scope, PerPair: 1, Seed: seed}
	if name == random {
		return cfg, nil
	}
	rule, err := stages.ParseRule(name)
	cfg.Rule = rule
	return cfg, err
}

// train trains a net by the triplets of one rule.
func (c *comparison) train(ctx context.Context, rule string, seed uint64) (*training, error) {
	mine, err := c.mineConfig(rule, seed)
	if err != nil {
		return nil, err
	}
	model := newNet(c.in, c.hidden, c.dim, seed)
	build := &stages.Builder{Images: pipeline.From[stages.Image](c), Samples: len(c.labels)}
	first, _, err := build.Build(ctx, model)
	if err != nil {
		return nil, err
	}
	cache, err := stages.NewCache(stages.CacheConfig{First: first, Every: c.refresh, Lag: 1, Builder: build, Embedder: model, StopOnFailure: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	miner, err := stages.NewMiner(stages.MinerConfig{Mine: mine, Labels: c.seen, Snapshots: cache})
	if err != nil {
		return nil, err
	}
	plan, err := stages.NewPlan(stages.PlanConfig{Labels: c.seen, Data: c.data, P: c.p, K: c.k, Seed: seed, Steps: int64(c.steps)})
	if err != nil {
		return nil, err
	}
	r := &training{rule: rule, seed: seed}
	if err := c.measure(ctx, r, model, 0); err != nil {
		return nil, err
	}
	of := loss.Triplets{Loss: c.triplet, Reduction: loss.MeanNonZero, Normalise: true}
	var (
		ws        loss.Workspace
		x         []float32
		emb, grad pipeline.Embeddings
		active    int64
	)
	frames := max(1, c.steps/points)
	for b, err := range pipeline.From(plan).Then(&stages.Embed{Cache: cache}, miner).All(ctx) {
		if err != nil {
			return nil, err
		}
		x = c.shifted(x[:0], b.IDs, rand.New(rand.NewPCG(seed, uint64(b.Number))))
		emb, grad = rowsOf(emb, len(b.IDs), c.dim), rowsOf(grad, len(b.IDs), c.dim)
		if err := model.Embed(ctx, emb, x); err != nil {
			return nil, err
		}
		stats, err := of.Compute(&ws, grad, loss.Input{Embeddings: emb, Labels: b.Labels, IDs: b.IDs, Triplets: b.Triplets})
		if err != nil {
			return nil, fmt.Errorf("%s, seed %d, step %d: %w", rule, seed, b.Number, err)
		}
		model.backward(grad, x)
		model.step(c.rate)
		r.triplets += int64(stats.Count)
		active += int64(stats.Active)
		if done := int(b.Number) + 1; done%frames == 0 || done == c.steps {
			if err := c.measure(ctx, r, model, done); err != nil {
				return nil, err
			}
		}
	}
	r.active = float64(active) / float64(max(r.triplets, 1))
	return r, nil
}

// shifted appends the images of ids, each moved by up to c.shift pixels in both
// directions, with what stands at its edges repeated.
func (c *comparison) shifted(dst []float32, ids []int64, dice *rand.Rand) []float32 {
	h, w := c.shape.H, c.shape.W
	for _, id := range ids {
		img := c.pixels[int(id)*c.in : (int(id)+1)*c.in]
		dy, dx := dice.IntN(2*c.shift+1)-c.shift, dice.IntN(2*c.shift+1)-c.shift
		for plane := range slices.Chunk(img, h*w) {
			for y := range h {
				row := plane[min(max(y+dy, 0), h-1)*w:][:w]
				for x := range w {
					dst = append(dst, row[min(max(x+dx, 0), w-1)])
				}
			}
		}
	}
	return dst
}

// points is about how many points a curve has.
const points = 12

// rowsOf is e with n rows of dim values, whose memory it uses again.
func rowsOf(e pipeline.Embeddings, n, dim int) pipeline.Embeddings {
	return pipeline.Embeddings{Dim: dim, Data: slices.Grow(e.Data[:0], n*dim)[:n*dim]}
}

// measure adds a point to r: the share of the images of classes that were held
// out whose nearest other one is of their class.
func (c *comparison) measure(ctx context.Context, r *training, model *network, step int) error {
	frozen, err := model.Freeze() // model keeps what backward needs
	if err != nil {
		return err
	}
	emb := pipeline.MakeEmbeddings(len(c.held), c.dim)
	x := make([]float32, 0, len(c.held)*c.in)
	for _, i := range c.held {
		x = append(x, c.pixels[i*c.in:(i+1)*c.in]...)
	}
	if err := frozen.Embed(ctx, emb, x); err != nil {
		return err
	}
	if _, err := stages.SnapshotOf(emb, stages.SnapshotConfig{Fingerprint: "held out"}); err != nil { // scales the rows
		return fmt.Errorf("%s, seed %d, step %d: %w", r.rule, r.seed, step, err)
	}
	hits := make([]int, len(c.held))
	err = pipeline.ForEach(ctx, 0, len(c.held), func(_ context.Context, i int) error {
		best, at := math.Inf(1), -1
		for j := range c.held {
			if d := loss.SqEuclidean.Mining(emb.Row(i), emb.Row(j)); j != i && d < best {
				best, at = d, j
			}
		}
		if c.labels[c.held[at]] == c.labels[c.held[i]] {
			hits[i] = 1
		}
		return nil
	})
	sum := 0
	for _, h := range hits {
		sum += h
	}
	r.curve = append(r.curve, point{step, float64(sum) / float64(len(c.held))})
	return err
}

// holdOut keeps every so many classes from training, by the order in which they
// first occur among the labels, and subtracts the mean of the other classes'
// pixels from all.
func (c *comparison) holdOut() {
	number := map[int32]int{}
	c.seen = slices.Clone(c.labels)
	var sum, rows float64
	for i, l := range c.labels {
		if l == pipeline.Unknown {
			continue
		}
		if _, ok := number[l]; !ok {
			number[l] = len(number)
		}
		if number[l]%c.hold == 0 {
			c.seen[i] = pipeline.Unknown
			c.held = append(c.held, i)
			continue
		}
		rows++
		for _, v := range c.pixels[i*c.in : (i+1)*c.in] {
			sum += float64(v)
		}
	}
	c.classes = len(number)
	mean := float32(sum / (max(rows, 1) * float64(c.in)))
	for i := range c.pixels {
		c.pixels[i] -= mean
	}
}
