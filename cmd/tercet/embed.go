package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// embedFlags are the flags of tercet embed as they were typed.
type embedFlags struct {
	dataFlags
	embedderFlags
	badRowFlags
	out             string
	overwrite, json bool
	seed            uint64
}

func (f *embedFlags) register(flags *pflag.FlagSet) {
	f.dataFlags.register(flags)
	f.embedderFlags.register(flags)
	f.badRowFlags.register(flags)
	flags.StringVarP(&f.out, "output", "o", "", "Arrow file to write (.arrow)")
	flags.BoolVar(&f.overwrite, "overwrite", false, "replace an output that exists")
	flags.BoolVar(&f.json, "json", false, "print what the file says of itself as JSON")
	flags.Uint64Var(&f.seed, "seed", 1, "seed of what is chosen by chance: the sample that pca is fitted to")
}

const embedHelp = `Embed embeds every image of a data set once, and writes an Arrow file of id int64
and embedding fixed_size_list<float32>, a row for each sample. tercet mine reads
it back with --embedder file:EMB.arrow, and refuses it for other data.`

func newEmbed() *cobra.Command {
	f := new(embedFlags)
	cmd := &cobra.Command{
		Use:   "embed DATA… -o EMB.arrow",
		Short: "Embed a data set once and keep the embeddings",
		Long:  embedHelp,
		Example: `  tercet embed data -o emb.arrow
  tercet embed data --embedder onnx:model.onnx -o emb.arrow
  tercet mine data --embedder file:emb.arrow -o triplets.parquet`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd.Flags()); err != nil {
				return err
			}
			return f.run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func (f *embedFlags) check(given *pflag.FlagSet) error {
	if f.out == "" {
		return usagef("no output: name one with -o EMB.arrow")
	}
	if ending := strings.ToLower(filepath.Ext(f.out)); !slices.Contains([]string{".arrow", ".ipc", ".feather"}, ending) {
		return usagef("--output: %s ends in %q, want .arrow (.ipc, .feather): embeddings are written to an Arrow file", f.out, ending)
	}
	return errors.Join(f.embedderFlags.check(given), f.badRowFlags.check(given, f.out))
}

// run embeds the data and writes the file.
func (f *embedFlags) run(ctx context.Context, paths []string, stdout, stderr io.Writer) error {
	f.keepBad = f.policy != stages.FailOnBad
	set, err := f.open(ctx, paths)
	if err != nil {
		return err
	}
	defer set.Close()
	if set.Len() == 0 {
		return fmt.Errorf("%s: the data set has no rows", strings.Join(paths, " "))
	}
	bad, err := f.list(set)
	if err != nil {
		return err
	}
	if err := f.tryOutput(set); err != nil {
		return err
	}
	job := &embedJob{flags: &f.embedderFlags, data: &f.dataFlags, seed: f.seed, meter: new(pipeline.Meter), stderr: stderr, bad: bad}
	emb, err := job.embed(ctx, set)
	if err := f.report(bad, f.overwrite, err); err != nil {
		return err
	}
	defer emb.Close()
	meta, err := storage.WriteSnapshot(f.out, emb.meta(set), emb.Embeddings, f.overwrite)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(stdout, struct {
			Output string `json:"output"`
			storage.SnapshotMeta
		}{f.out, meta})
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "data\t%s rows; digest %.12s\n", count(meta.Rows), meta.DataDigest)
	size := ""
	if meta.ImageSize != "" {
		size = " of images of " + meta.ImageSize
	}
	fmt.Fprintf(w, "embeddings\t%s, %d dimensions%s; fingerprint %.12s\n", meta.Embedder, meta.Dim, size, meta.Fingerprint)
	fmt.Fprintf(w, "wrote\t%s embeddings to %s; sha256 %.12s\n", count(meta.Rows), f.out, meta.Digest)
	return w.Flush()
}

// tryOutput refuses an output that exists or cannot be made, before any work is
// done for it.
func (f *embedFlags) tryOutput(set *storage.Dataset) error {
	if err := notOf(set, "--output", f.out); err != nil {
		return err
	}
	if in, ok := strings.CutPrefix(f.embedder, filePrefix); ok {
		a, err := os.Stat(in)
		b, there := os.Stat(f.out)
		if err == nil && there == nil && os.SameFile(a, b) {
			return usagef("--output: %s is the file that the embeddings come from: write to another name", f.out)
		}
	}
	draft, err := storage.NewDraft(storage.OS, f.out, f.overwrite)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--output: %w", err)
		}
		return err
	}
	draft.Abort()
	return nil
}

// meta is what a snapshot of the embeddings says of itself.
func (e *embedded) meta(set *storage.Dataset) storage.SnapshotMeta {
	return storage.SnapshotMeta{
		DataDigest: set.Digest(), Embedder: e.name, Fingerprint: e.Fingerprint, Preprocessing: e.preprocessing,
		ImageSize: sizeText(e.size), Normalised: e.Normalised, Fit: e.fit,
	}
}
