package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/stages"
)

// mineFlags are the flags of tercet mine as they were typed.
type mineFlags struct {
	dataFlags
	planFlags
	embedderFlags
	out               string
	scope, rule, pick string
	perPair           int
	positives         string
	margin            float64
	distance          string
	seed              uint64
	batches           int64
	stream            bool
	rank, world       int
	emit              string
	pairMargin        float64
	overwrite, resume bool
	dryRun, json      bool
	saveEmbeddings    string
	guardSameImage    bool
	candidates        int
	screen            string
	guards            stages.Guards
	badRowFlags
	healthFlags
}

func (f *mineFlags) register(flags *pflag.FlagSet) {
	f.dataFlags.register(flags)
	f.badRowFlags.register(flags)
	f.healthFlags.register(flags)
	f.embedderFlags.register(flags)
	flags.StringVarP(&f.out, "output", "o", "", "file to write: .parquet, .arrow or .jsonl")
	flags.BoolVar(&f.overwrite, "overwrite", false, "replace an output that exists")
	flags.BoolVar(&f.resume, "resume", false, "go on with the parts that an interrupted job left beside the output, if there are any")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print pairs, rows, bytes and an estimate of the time, and write nothing")
	flags.BoolVar(&f.json, "json", false, "print the summary as JSON")
	flags.StringVar(&f.emit, "emit", "triplets", "what to write: triplets, or pairs for the contrastive loss")
	flags.Float64Var(&f.pairMargin, "pair-margin", 1, "margin of the contrastive loss that is written with pairs, in euclidean distance")
	flags.StringVar(&f.saveEmbeddings, "save-embeddings", "", "also write the embeddings that were mined from to this Arrow file")

	flags.StringVar(&f.scope, "scope", "dataset", "dataset: every anchor-positive pair against every negative; batch: within P×K batches")
	flags.StringVar(&f.rule, "rule", "semi-hard", "which negatives qualify: semi-hard, hard, batch-hard, batch-all, all, tfa, pml or vgg")
	flags.StringVar(&f.pick, "pick", "random", "which of those are taken: random, nearest, farthest, or window:i-j: ranks i to j by distance, from 0 for the nearest")
	flags.IntVar(&f.perPair, "per-pair", 1, "most triplets per (anchor, positive); a listing rule in a batch lists all unless it is given")
	flags.StringVar(&f.positives, "positives", "4", "positives per anchor: a number (by hash), all, hardest:n or easiest:n (default in a batch: all)")
	flags.IntVar(&f.candidates, "candidates", 0, "look for negatives among a sample of so many rows, as many of each class (scope dataset; default: all)")
	flags.StringVar(&f.screen, "screen", "auto", "what candidates are screened in, which decides no triplet: f32, int8, or auto (scope dataset)")
	flags.Float64Var(&f.margin, "margin", 0, "margin in units of the distance (default 0.2 for sqeuclidean; the others need one)")
	flags.StringVar(&f.distance, "distance", "sqeuclidean", "sqeuclidean, euclidean or cosine")
	flags.Uint64Var(&f.seed, "seed", 1, "seed of everything that is chosen by chance")

	f.planFlags.register(flags, " (scope batch)")
	flags.Int64Var(&f.batches, "batches", 0, "how many batches to mine (scope batch; default: one epoch)")

	flags.BoolVar(&f.stream, "stream", false, "mine batches of the rows of an Arrow stream as they arrive, until --batches or its end, within a quarter of --memory (scope batch)")
	flags.IntVar(&f.rank, "rank", 0, "mine the batches of one of --world ranks, from 0: every world-th batch (scope batch)")
	flags.IntVar(&f.world, "world", 1, "how many ranks share the batches; those that do not fill a step are left out (scope batch)")

	flags.BoolVar(&f.guardSameImage, "guard-same-image", true, "no negative with the image bytes of the anchor or the positive")
	flags.BoolVar(&f.guards.SameGroup, "guard-same-group", false, "no negative of the anchor's or the positive's group")
	flags.Float64Var(&f.guards.Floor, "guard-floor", 0, "no negative closer to the anchor than this distance")
	flags.Float64Var(&f.guards.Relative, "guard-relative", 0, "no negative within (1 + this) times the distance to the anchor's nearest positive")
	flags.IntVar(&f.guards.SkipRanks, "guard-skip-ranks", 0, "pass over the first ranks by distance of each pair's candidates")
	flags.IntVar(&f.guards.AnchorCap, "guard-anchor-cap", 0, "at most so many triplets of one anchor")
	flags.IntVar(&f.guards.NegativeCap, "guard-negative-cap", 0, "at most so many triplets with one negative")
	flags.IntVar(&f.guards.ClassCap, "guard-class-cap", 0, "at most so many triplets whose negative is of one class")
}

const mineHelp = `Mine reads a data set, embeds every image (or takes the embeddings that are in
the data), chooses negatives for anchor-positive pairs by a rule, and writes the
triplets to a file that appears whole or not at all. Until then what was mined is
kept in FILE.parts: after an interrupt, a kill or a power loss the same command
with --resume goes on behind it.

The same data, settings and seed give the same bytes, on any number of workers.`

const mineExamples = `  tercet mine data/train-*.parquet -o triplets.parquet
  tercet mine data --split train --rule batch-hard --scope batch --p 32 --k 4 -o triplets.arrow
  tercet mine data --distance cosine --margin 0.1 --pick nearest --per-pair 2 -o triplets.parquet
  tercet mine data --emit pairs -o pairs.parquet
  tercet mine data -o triplets.parquet --resume
  producer | tercet mine - --stream --scope batch --batches 1000 -o triplets.parquet
  tercet mine data --dry-run`

func newMine() *cobra.Command {
	f := new(mineFlags)
	cmd := &cobra.Command{
		Use:     "mine DATA… -o FILE",
		Short:   "Mine triplets or pairs from a data set and write them to a file",
		Long:    mineHelp,
		Example: mineExamples,
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := newMineJob(f, cmd.Flags())
			if err != nil {
				return err
			}
			job.stdout, job.stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return job.run(cmd.Context(), args)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// margin02 is the default margin, for squared distances of unit vectors alone.
const margin02 = 0.2

// tripletLoss is the loss that the flags describe.
func (f *mineFlags) tripletLoss(marginGiven bool) (loss.TripletMargin, error) {
	d, err := loss.ParseDistance(f.distance)
	if err != nil {
		return loss.TripletMargin{}, usagef("--distance: %w", err)
	}
	m := f.margin
	if !marginGiven {
		if d != loss.SqEuclidean {
			return loss.TripletMargin{}, usagef("--distance %s needs a --margin: 0.2 is a default for sqeuclidean only", d)
		}
		m = margin02
	}
	if !(m > 0) || m > 1e6 {
		return loss.TripletMargin{}, usagef("--margin is %v, want more than 0", f.margin)
	}
	return loss.TripletMargin{Margin: m, Distance: d}, nil
}
