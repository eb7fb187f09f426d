package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
)

// benchFlags are the flags of tercet bench as they were typed.
type benchFlags struct {
	rows, dims, batches []int
	dim                 int
	band, noise         float64
	positives           int
	workers             int
	json                bool
}

const benchHelp = `Bench measures this machine: the tile product against the peak of its multiplier,
semi-hard mining over a data set of made-up embeddings (unit vectors around the
centres of classes of 100, negatives picked at random for --positives an anchor),
every rule within a batch, and a loss with its gradient. A rate of mining counts
2·N²·D operations, whatever was done; "× bare" is its time over that of the same
products with nothing looked at. Times are the best of several runs, but for
data sets, which are mined once. Nothing is read or written.`

func newBench() *cobra.Command {
	f := new(benchFlags)
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure kernels, mining and losses on this machine",
		Long:  benchHelp,
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.IntSliceVar(&f.dims, "dims", []int{64, 128, 256, 512}, "dimensions to measure the tile product for")
	flags.IntSliceVar(&f.rows, "rows", []int{20000}, "rows of the data sets to mine")
	flags.IntSliceVar(&f.batches, "batches", []int{128, 512, 1024}, "sizes of the batches, of 4 images a class")
	flags.IntVar(&f.dim, "dim", 128, "dimension of the embeddings that are mined")
	flags.Float64Var(&f.band, "band", 0.05, "share of the negatives inside the bands: the margin is chosen for it")
	flags.Float64Var(&f.noise, "noise", 0.6, "spread of a class: squared distances within one are about 2·noise²/(1+noise²), of two 2")
	flags.IntVar(&f.positives, "positives", 4, "positives per anchor of the data sets")
	flags.IntVar(&f.workers, "workers", 0, "most cores to use (default: all)")
	flags.BoolVar(&f.json, "json", false, "print the figures as JSON")
	return cmd
}

// A figure is one line of what was measured.
type figure struct {
	What     string  `json:"what"`
	Rows     int     `json:"rows,omitempty"`
	Dim      int     `json:"dim"`
	Cores    int     `json:"cores"`
	Seconds  float64 `json:"seconds"`
	GFlops   float64 `json:"gflops,omitempty"`
	OfPeak   float64 `json:"of_peak,omitempty"` // of as many cores
	Bare     float64 `json:"times_bare,omitempty"`
	Pairs    int64   `json:"pairs,omitempty"`
	Triplets int64   `json:"triplets,omitempty"`
	Margin   float64 `json:"margin,omitempty"`
	Bytes    uint64  `json:"bytes_per_call,omitempty"` // allocated
}

func (f *benchFlags) check() error {
	for name, values := range map[string][]int{"--dims": f.dims, "--rows": f.rows, "--batches": f.batches, "--dim": {f.dim}, "--positives": {f.positives}} {
		for _, v := range values {
			if least := map[string]int{"--rows": 200, "--batches": 8}[name]; v < max(least, 1) || v > 1<<24 {
				return usagef("%s is %d, want %d to %d", name, v, max(least, 1), 1<<24)
			}
		}
	}
	if !(f.band > 0 && f.band < 0.9) {
		return usagef("--band is %v, want a share between 0 and 0.9", f.band)
	}
	if !(f.noise > 0 && f.noise < 100) {
		return usagef("--noise is %v, want more than 0", f.noise)
	}
	return nil
}

func (f *benchFlags) run(ctx context.Context, out io.Writer) error {
	if err := f.check(); err != nil {
		return err
	}
	b := &bench{ctx: ctx, peak: map[int]float64{}}
	cores := []int{1}
	if all := pipeline.Workers(f.workers); all > 1 {
		cores = append(cores, all)
	}
	for _, c := range cores {
		b.measurePeak(c)
		for _, dim := range f.dims {
			b.product(dim, c)
		}
	}
	for _, n := range f.rows {
		for _, c := range cores {
			for _, screen := range []stages.ScreenBy{stages.ScreenFloat32, stages.ScreenAuto} {
				b.scan(f, n, c, screen)
			}
		}
	}
	for _, size := range f.batches {
		b.batch(size, f.dim)
	}
	if b.err != nil {
		return b.err
	}
	if f.json {
		return printJSON(out, map[string]any{"machine": machine(), "body": f32.Body(), "figures": b.figures})
	}
	return b.print(out)
}

func machine() string {
	return fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}

// bench collects figures until something fails.
type bench struct {
	ctx     context.Context
	err     error
	peak    map[int]float64 // operations a nanosecond, by cores
	figures []figure
}

// best is the shortest of several runs of f, and the bytes that a later one allocated.
func (b *bench) best(f func() error) (time.Duration, uint64) {
	shortest, bytes := time.Duration(1<<62), uint64(0)
	var before, after runtime.MemStats
	for began, runs := time.Now(), 0; b.err == nil && (runs < 2 || runs < 50 && time.Since(began) < 400*time.Millisecond); runs++ {
		runtime.ReadMemStats(&before)
		start := time.Now()
		b.err = f()
		shortest = min(shortest, time.Since(start))
		runtime.ReadMemStats(&after)
		bytes = after.TotalAlloc - before.TotalAlloc
		if b.ctx.Err() != nil {
			b.err = context.Cause(b.ctx)
		}
	}
	return shortest, bytes
}

// everywhere runs f on as many cores at once.
func (b *bench) everywhere(cores int, f func(core int)) error {
	return pipeline.ForEach(b.ctx, cores, cores, func(_ context.Context, core int) error {
		f(core)
		return nil
	})
}

func (b *bench) measurePeak(cores int) {
	const n = 20_000_000
	made := make([]int, cores)
	t, _ := b.best(func() error { return b.everywhere(cores, func(core int) { made[core] = f32.Peak(n) }) })
	b.peak[cores] = float64(made[0]*cores) / float64(t.Nanoseconds())
	b.add(figure{What: "peak", Cores: cores, Seconds: t.Seconds()}, float64(made[0]*cores))
}

// add notes a figure of so many floating-point operations; 0 where they do not matter.
func (b *bench) add(f figure, operations float64) {
	if operations > 0 {
		f.GFlops = operations / f.Seconds / 1e9
		f.OfPeak = f.GFlops / b.peak[f.Cores]
	}
	b.figures = append(b.figures, f)
}

// product is the tile product of values by chance, with the filter of what it
// gives: about a tenth is inside of what is looked for.
func (b *bench) product(dim, cores int) {
	const rows = 40 * f32.TileRows
	columns := max(f32.PanelColumns, min(512, 1<<16/dim)&^(f32.PanelColumns-1))
	type scratch struct {
		tiles, panels, init, values []float32
		hits                        []uint16
	}
	low := 1.28 / math.Sqrt(float64(dim)) // a tenth of a normal distribution is above 1.28
	work := make([]scratch, cores)
	for i := range work {
		w := &work[i]
		w.tiles, w.panels = make([]float32, rows*dim), make([]float32, columns*dim)
		w.init, w.values, w.hits = make([]float32, columns), make([]float32, f32.TileRows*columns), make([]uint16, columns)
		dice := rand.New(rand.NewPCG(uint64(dim), uint64(i)))
		for _, values := range [][]float32{w.tiles, w.panels} {
			for k := range values {
				values[k] = float32(dice.NormFloat64() / math.Sqrt(float64(dim)))
			}
		}
	}
	t, _ := b.best(func() error {
		return b.everywhere(cores, func(core int) {
			w := &work[core]
			for at := 0; at < rows; at += f32.TileRows {
				f32.Product(w.values, w.init, w.tiles[at*dim:][:f32.TileRows*dim], w.panels, dim)
				for r := range f32.TileRows {
					f32.Select(w.hits, w.values[r*columns:][:columns], float32(low), float32(math.Inf(1)))
				}
			}
		})
	})
	b.add(figure{What: "product, filtered", Dim: dim, Cores: cores, Seconds: t.Seconds()}, 2*rows*float64(columns*dim*cores))
}

// scan mines a data set.
func (b *bench) scan(set *benchFlags, n, cores int, screen stages.ScreenBy) {
	if b.err != nil {
		return
	}
	dim := set.dim
	emb, labels := clusters(n, dim, set.noise)
	f := figure{What: fmt.Sprintf("mine data set, screen %v", screen), Rows: n, Dim: dim, Cores: cores, Margin: marginFor(emb, labels, set.band)}
	s, err := stages.NewScan(stages.ScanConfig{
		Mine:       stages.MineConfig{Loss: loss.TripletMargin{Margin: f.Margin}, Positives: set.positives, Seed: 1},
		Embeddings: emb, Labels: labels, Workers: cores, Screen: screen,
	})
	if err != nil {
		b.err = err
		return
	}
	start := time.Now()
	for _, err := range pipeline.From(s).Prefetch(1024).All(b.ctx) {
		if err != nil {
			b.err = err
			return
		}
		f.Triplets++
	}
	f.Seconds = time.Since(start).Seconds()
	f.Pairs = s.Pairs()
	start = time.Now()
	b.err = bareProducts(b.ctx, emb, cores)
	f.Bare = f.Seconds / time.Since(start).Seconds()
	b.add(f, 2*float64(n)*float64(n)*float64(dim))
}

// batch mines a batch by every rule, and computes a loss with its gradient.
func (b *bench) batch(size, dim int) {
	if b.err != nil {
		return
	}
	size = size / 4 * 4
	emb, _ := clusters(size*25, dim, 0.6) // of which 4 images a class are taken
	batch := &pipeline.Batch{P: size / 4, K: 4, Embeddings: pipeline.MakeEmbeddings(size, dim)}
	for i := range size {
		copy(batch.Embeddings.Row(i), emb.Row(i/4*100+i%4))
		batch.IDs, batch.Labels = append(batch.IDs, int64(i)), append(batch.Labels, int32(i/4))
	}
	margin := marginFor(batch.Embeddings, batch.Labels, 0.05)
	triplet := loss.TripletMargin{Margin: margin}
	for _, rule := range []struct {
		stages.Rule
		pick stages.Order
	}{
		{stages.SemiHard, stages.Nearest}, {stages.SemiHard, stages.Random}, {stages.Hard, stages.Nearest}, {stages.BatchHard, stages.Nearest},
		{stages.TFA, stages.Nearest}, {stages.VGG, stages.Random}, {stages.PML, stages.Nearest},
	} {
		m, err := stages.NewMiner(stages.MinerConfig{Mine: stages.MineConfig{Loss: triplet, Rule: rule.Rule, Pick: stages.Pick{By: rule.pick}}})
		if err != nil {
			b.err = err
			return
		}
		t, bytes := b.best(func() error { return m.Mine(b.ctx, batch) })
		what := fmt.Sprintf("mine batch, %v", rule.Rule)
		if rule.Rule == stages.SemiHard {
			what += fmt.Sprintf(" %v", stages.Pick{By: rule.pick})
		}
		b.add(figure{What: what, Rows: size, Dim: dim, Cores: 1, Seconds: t.Seconds(), Triplets: int64(len(batch.Triplets)), Bytes: bytes}, 0)
	}
	var ws loss.Workspace
	grad := pipeline.MakeEmbeddings(size, dim)
	for _, l := range []struct {
		name string
		loss.Loss
	}{
		{"batch-all", loss.BatchAll{Loss: triplet}}, {"batch-hard", loss.BatchHard{Loss: triplet}},
	} {
		t, bytes := b.best(func() error {
			_, err := l.Compute(&ws, grad, loss.Input{Embeddings: batch.Embeddings, Labels: batch.Labels})
			return err
		})
		b.add(figure{What: "loss and gradient, " + l.name, Rows: size, Dim: dim, Cores: 1, Seconds: t.Seconds(), Bytes: bytes}, 0)
	}
}

func (b *bench) print(out io.Writer) error {
	fmt.Fprintf(out, "%s; the tile product is made of %s\n\n", machine(), f32.Body())
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "what\trows\tdim\tcores\ttime\tGFLOP/s\tof peak\t× bare\tpairs/s\ttriplets/s\ttriplets\tB/call\t")
	number := func(format string, v float64) string {
		if v == 0 {
			return ""
		}
		return fmt.Sprintf(format, v)
	}
	for _, f := range b.figures {
		rate := float64(f.Triplets) / f.Seconds
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t\n", f.What, number("%.0f", float64(f.Rows)), number("%.0f", float64(f.Dim)), f.Cores,
			time.Duration(f.Seconds*1e9).Round(10*time.Microsecond), number("%.1f", f.GFlops), number("%.0f %%", 100*f.OfPeak), number("%.2f", f.Bare),
			number("%.3g", float64(f.Pairs)/f.Seconds), number("%.3g", rate), number("%.0f", float64(f.Triplets)), f.Bytes)
	}
	return w.Flush()
}
