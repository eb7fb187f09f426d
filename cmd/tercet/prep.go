package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// prepFlags are the flags of tercet prep as they were typed.
type prepFlags struct {
	dataFlags
	badRowFlags
	out                             string
	format, encode                  string
	size, filter                    string
	classLevels, minPerClass        int
	dedup, dropConflicts, noShuffle bool
	seed                            uint64
	shardSize, rowGroup             string
	resume, overwrite, json         bool
}

func (f *prepFlags) register(flags *pflag.FlagSet) {
	flags.StringVarP(&f.out, "output", "o", "", "folder to make")
	flags.BoolVar(&f.overwrite, "overwrite", false, "replace a folder that exists, and throw away what an interrupted run left")
	flags.BoolVar(&f.resume, "resume", false, "go on where an interrupted run with the same data and settings was")
	flags.BoolVar(&f.json, "json", false, "print the summary as JSON")

	flags.StringVar(&f.format, "format", "parquet", "parquet, or arrow for files that can be memory-mapped")
	flags.StringVar(&f.encode, "encode", "keep", "how images are stored: keep, png, jpeg:QUALITY, or raw for pixels that need no decoding")
	flags.StringVar(&f.size, "size", "", "bring images to this size: HxW or HxWxC (default: their own)")
	flags.StringVar(&f.filter, "filter", "catmull-rom", "how they are brought to it: catmull-rom, bilinear or nearest")
	flags.StringVar(&f.split, "split", "", "which split to read of a source that holds several (train, test, …)")
	flags.IntVar(&f.classLevels, "class-levels", 0, "how many folders above an image name its class (default: all that there are, 1 or 2)")
	flags.IntVar(&f.minPerClass, "min-per-class", 0, "leave out classes with fewer images than this")
	flags.BoolVar(&f.dedup, "dedup", false, "of images with the same pixels and the same class keep the first")
	flags.BoolVar(&f.dropConflicts, "drop-conflicts", false, "leave out images whose pixels come under two classes")
	flags.BoolVar(&f.noShuffle, "no-shuffle", false, "keep the order of the source")
	flags.Uint64Var(&f.seed, "seed", 1, "seed of the order in which rows are stored")
	flags.StringVar(&f.shardSize, "shard-size", "256MiB", "bytes of images in a shard, about")
	flags.StringVar(&f.rowGroup, "row-group", "32MiB", "bytes of images in a row group (record batch), about")

	flags.StringVar(&f.image, "image-column", "", "column of images in Parquet and Arrow (default: found by its usual names)")
	flags.StringVar(&f.label, "label-column", "", "column of labels in Parquet and Arrow (default: found by its usual names)")
	flags.StringVar(&f.id, "id-column", "", "column of ids or paths in Parquet and Arrow (default: found by its usual names)")
	flags.StringVar(&f.group, "group-column", "", "column of groups in Parquet and Arrow (default: group)")
	flags.StringVar(&f.shape, "shape", "", "shape of raw pixels where the file does not say it: HxW or HxWxC")
	flags.Int64Var(&f.maxPixels, "max-pixels", 64e6, "pixels an image may have: larger ones are refused before they are decoded")
	flags.IntVar(&f.workers, "workers", 0, "how many things to do at a time (default: the number of cores)")
	flags.StringVar(&f.memory, "memory", "2GiB", "memory to keep within: a number with KiB, MiB or GiB")
}

const prepHelp = `Prep turns images as they are found into a data set that proves itself: shards
of about equal size with row groups made for training, rows shuffled, and a
manifest with the digest of every row group, which reading checks.

SRC is any of these, several at once too; labels are put together by name:

  a folder class/image or class/subclass/image, or a zip of one
  IDX images, plain or gzipped, with their labels beside them
  a WebDataset tar: key.jpg (.png, .gif, .webp) with key.cls or key.json
  a CSV, TSV or JSON lines file with path, label and perhaps group and split
  Parquet and Arrow files as tercet mine reads them

Every image is decoded, so none that cannot be gets in. The folder appears whole
or not at all; its parts are kept in OUT.parts, which takes about as much disk
again while it works, and --resume goes on from there. The same data and
settings give the same bytes, on any number of workers.`

const prepExamples = `  tercet prep photos/ -o set
  tercet prep train-images-idx3-ubyte.gz -o mnist --encode png
  tercet prep shards/train-*.tar extra.csv -o set --size 224x224 --encode jpeg:90 --dedup
  tercet prep downloads/ --split train -o set --size 64x64x3 --encode raw --format arrow`

func newPrep() *cobra.Command {
	f := new(prepFlags)
	cmd := &cobra.Command{
		Use:     "prep SRC… -o DIR",
		Short:   "Prepare a data set: from folders, IDX, tar, CSV, Parquet or Arrow to checked, shuffled shards",
		Long:    prepHelp,
		Example: prepExamples,
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := newPrepJob(f, cmd.Flags())
			if err != nil {
				return err
			}
			job.stdout, job.stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return job.run(cmd.Context(), args)
		},
	}
	f.register(cmd.Flags())
	f.badRowFlags.registerFor(cmd.Flags(), "images that cannot be read or decoded: fail, or skip them")
	return cmd
}
