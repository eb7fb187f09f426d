package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// compareFlags are the flags of tercet compare.
type compareFlags struct {
	dataFlags
	rules       string
	scopeName   string
	scope       stages.Scope
	steps       int
	seeds       int
	hold        int
	p, k        int
	refresh     int64
	margin      float64
	rate        float64
	shift       int
	hidden, dim int
	size        string
	plot        string
	overwrite   bool
	json        bool
}

func (f *compareFlags) register(flags *pflag.FlagSet) {
	f.dataFlags.register(flags)
	flags.StringVar(&f.rules, "rules", "random,semi-hard", "what to compare: random negatives, or rules as in tercet mine --rule")
	flags.StringVar(&f.scopeName, "scope", "dataset", "where negatives are looked for: dataset or batch")
	flags.IntVar(&f.steps, "steps", 1000, "steps of each training, one batch each")
	flags.IntVar(&f.seeds, "seeds", 5, "trainings by each rule, with seeds 1, 2, …")
	flags.IntVar(&f.hold, "hold-out", 4, "every so many classes one is held out, to be judged by")
	flags.IntVar(&f.p, "p", 8, "classes per batch")
	flags.IntVar(&f.k, "k", 4, "images per class and batch")
	flags.Int64Var(&f.refresh, "refresh", 25, "steps between two refreshes of the embeddings that are mined from")
	flags.Float64Var(&f.margin, "margin", 0.2, "margin of the triplet loss, in squared distance of unit vectors")
	flags.Float64Var(&f.rate, "rate", 1e-3, "learning rate (Adam)")
	flags.IntVar(&f.shift, "shift", 2, "pixels by which images are moved at random while the network learns")
	flags.IntVar(&f.hidden, "hidden", 256, "units of the hidden layer")
	flags.IntVar(&f.dim, "dim", 64, "dimension of the embeddings")
	flags.StringVar(&f.size, "size", "20x20x1", "size of the images: HxW or HxWxC")
	flags.StringVar(&f.plot, "plot", "", "also draw the curves to this SVG file")
	flags.BoolVar(&f.overwrite, "overwrite", false, "replace a plot that exists")
	flags.BoolVar(&f.json, "json", false, "print the table as JSON")
}

const compareHelp = `Compare trains a small network several times, on triplets that are chosen by
different rules, from the same first weights, on the same batches and for as many
steps, and prints how well it tells classes apart that it has never seen:
recall@1, the share of their images whose nearest other one is of the same class.

Mining looks at embeddings that are refreshed in the background while the
network learns. The table is a function of data, settings and seeds.`

func newCompare() *cobra.Command {
	f := new(compareFlags)
	cmd := &cobra.Command{
		Use:   "compare DATA…",
		Short: "Train a small network by several mining rules and compare what it learns",
		Long:  compareHelp,
		Example: `  tercet compare omniglot --plot curves.svg
  tercet compare data --rules random,semi-hard,hard,batch-hard --scope batch`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func (f *compareFlags) check() (size pipeline.Shape, rules []string, err error) {
	if size, err = parseShape("--size", f.size); err != nil {
		return size, nil, err
	}
	size.C = max(size.C, 1)
	if f.scope, err = stages.ParseScope(f.scopeName); err != nil {
		return size, nil, usagef("--scope: %w", err)
	}
	for name := range strings.SplitSeq(f.rules, ",") {
		name = strings.TrimSpace(name)
		if name != random {
			if _, err := stages.ParseRule(name); err != nil {
				return size, nil, usagef("--rules: %w, or random", err)
			}
		}
		rules = append(rules, name)
	}
	for _, n := range []struct {
		flag  string
		value int64
		least int64
	}{
		{"steps", int64(f.steps), 1}, {"seeds", int64(f.seeds), 1}, {"hold-out", int64(f.hold), 2}, {"p", int64(f.p), 2}, {"k", int64(f.k), 2},
		{"refresh", f.refresh, 1}, {"shift", int64(f.shift), 0}, {"hidden", int64(f.hidden), 1}, {"dim", int64(f.dim), 1},
	} {
		if n.value < n.least || n.value > 1<<20 {
			return size, nil, usagef("--%s is %d, want %d to %d", n.flag, n.value, n.least, 1<<20)
		}
	}
	if !(f.margin > 0 && f.margin < 4) {
		return size, nil, usagef("--margin is %v, want more than 0 and less than 4, the largest squared distance of unit vectors", f.margin)
	}
	if !(f.rate > 0 && f.rate < 1) {
		return size, nil, usagef("--rate is %v, want more than 0 and less than 1", f.rate)
	}
	return size, rules, nil
}

func (f *compareFlags) run(ctx context.Context, paths []string, stdout, stderr io.Writer) error {
	size, rules, err := f.check()
	if err != nil {
		return err
	}
	set, err := f.open(ctx, paths)
	if err != nil {
		return err
	}
	defer set.Close()
	c, err := f.load(ctx, set, size, stderr)
	if err != nil {
		return err
	}
	var runs []*training
	var done atomic.Int64
	p := startProgress(stderr, "train", int64(len(rules)*f.seeds), done.Load)
	defer p.end()
	for seed := range uint64(f.seeds) {
		for _, rule := range rules {
			r, err := c.train(ctx, rule, seed+1)
			if err != nil {
				return err
			}
			runs = append(runs, r)
			done.Add(1)
		}
	}
	if f.plot != "" {
		if err := f.draw(rules, runs); err != nil {
			return fmt.Errorf("--plot: %w", err)
		}
	}
	if f.json {
		return printJSON(stdout, c.result(rules, runs))
	}
	return c.result(rules, runs).print(stdout)
}

// draw writes the plot, whole or not at all.
func (f *compareFlags) draw(rules []string, runs []*training) error {
	draft, err := storage.NewDraft(storage.OS, f.plot, f.overwrite)
	if err != nil {
		return err
	}
	defer draft.Abort()
	if err := plotCurves(draft, rules, runs); err != nil {
		return err
	}
	return draft.Commit()
}

// load decodes all images of classes with a name or number.
func (f *compareFlags) load(ctx context.Context, set *storage.Dataset, size pipeline.Shape, stderr io.Writer) (*comparison, error) {
	if !set.HasImages() {
		return nil, usagef("the data has no image column: name it with --image-column")
	}
	memory, err := f.bytes()
	if err != nil {
		return nil, err
	}
	if need := int64(set.Len()) * int64(size.Len()) * 4; need > memory/2 {
		return nil, usagef("%d images of %s take %d MiB, and half of --memory is %d MiB: allow more, or give a smaller --size", set.Len(), sizeName(size), need>>20, memory>>21)
	}
	decode, err := stages.NewDecode(stages.DecodeConfig{
		Height: size.H, Width: size.W, Channels: size.C, MaxPixels: f.maxPixels, Memory: memory / 4, Workers: f.workers,
	})
	if err != nil {
		return nil, err
	}
	c := &comparison{
		compareFlags: f, triplet: loss.TripletMargin{Margin: f.margin, Distance: loss.SqEuclidean},
		data: set.Digest(), shape: size, in: size.Len(), labels: set.Labels(),
	}
	images, end := watch(stderr, "decode", pipeline.Via(pipeline.From[pipeline.Record](set), decode.Records()), set.Len())
	defer end()
	for img, err := range images.All(ctx) {
		if err != nil {
			return nil, err
		}
		c.pixels = append(c.pixels, img.Pixels...)
	}
	c.holdOut()
	if len(c.held) < 2 {
		return nil, fmt.Errorf("no class is left to judge by: the data has %d classes, and --hold-out is %d", c.classes, f.hold)
	}
	return c, nil
}
