package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

const inspectHelp = `Inspect says what a data set holds: files, columns, classes with their sizes,
image formats and sizes, and every row that cannot be read (of the embeddings,
the first). A file that cannot be opened, or whose labels cannot be read, is
named and ends it.

It reads the header of every image; --decode decodes them too, which finds
images that are broken further in. The exit code is 1 when rows cannot be read.

With --memory, --window, --p, --k or --short it also says how batches of them
would be planned: in which windows, what an epoch leaves out, and how well the
batches are shuffled.`

const inspectExamples = `  tercet inspect data/train-*.parquet
  tercet inspect data --split train --decode
  tercet inspect data --memory 8GiB --p 32 --k 4
  tercet inspect data --json`

func newInspect() *cobra.Command {
	var (
		data         dataFlags
		plan         planFlags
		asJSON, full bool
	)
	cmd := &cobra.Command{
		Use:     "inspect DATA…",
		Short:   "Say what a data set holds, and which rows cannot be read",
		Long:    inspectHelp,
		Example: inspectExamples,
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := data.open(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer set.Close()
			f, err := inspect(cmd.Context(), set, &data, full, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if slices.ContainsFunc([]string{"memory", "window", "p", "k", "short"}, cmd.Flags().Changed) {
				if f.Plan, err = inspectPlan(cmd.Context(), set, &data, &plan); err != nil {
					return err
				}
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), f)
			} else {
				err = f.print(cmd.OutOrStdout())
			}
			if err == nil && len(f.Bad) > 0 {
				err = fmt.Errorf("%s cannot be read", plural(len(f.Bad), "row"))
			}
			return err
		},
	}
	data.register(cmd.Flags())
	plan.register(cmd.Flags(), "")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&full, "decode", false, "decode every image rather than its header only")
	return cmd
}

// findings are what tercet inspect found.
type findings struct {
	storage.Info
	Rows    int            `json:"rows"`
	Unknown int            `json:"unknown"` // rows without a class
	Digest  string         `json:"digest"`
	Classes []class        `json:"classes"`
	Images  map[string]int `json:"images,omitempty"` // "PNG 28×28 grey" → how many
	Bad     []badRow       `json:"bad"`
	Plan    *planned       `json:"plan,omitempty"` // where it was asked for
}

type badRow struct {
	ID       int64  `json:"id"` // sample id; −1 for an embedding, of which the first bad one is listed
	File     string `json:"file"`
	RowGroup int    `json:"row_group"`
	Row      int64  `json:"row"`
	Column   string `json:"column,omitempty"`
	Reason   string `json:"reason"`
}

// inspect looks at every image of a data set.
func inspect(ctx context.Context, set *storage.Dataset, data *dataFlags, full bool, stderr io.Writer) (*findings, error) {
	f := &findings{Info: set.Info(), Rows: set.Len(), Digest: set.Digest(), Classes: classesOf(set), Images: map[string]int{}, Bad: []badRow{}}
	for _, l := range set.Labels() {
		if l == pipeline.Unknown {
			f.Unknown++
		}
	}
	if dim := set.EmbeddingDim(); dim > 0 {
		rows := pipeline.MakeEmbeddings(set.Len(), dim)
		err := set.ReadEmbeddings(ctx, rows)
		if err == nil {
			_, err = stages.SnapshotOf(rows, stages.SnapshotConfig{Fingerprint: "column", Locate: set.Locate})
		}
		if err != nil {
			if err := f.add(-1, err); err != nil {
				return nil, err
			}
		}
	}
	if !set.HasImages() {
		return f, nil
	}
	memory, err := data.bytes()
	if err != nil {
		return nil, err
	}
	look := looker{set: set, data: data}
	if full { // to any size: what is decoded is dropped
		look.decode, err = stages.NewDecode(stages.DecodeConfig{Height: 8, Width: 8, MaxPixels: data.maxPixels, Memory: memory / 2, Workers: 1})
		if err != nil {
			return nil, err
		}
	}
	done := new(counter[int])
	p := startProgress(stderr, "inspect", int64(set.Len()), done.Load)
	defer p.end()
	const atOnce = 64
	for start := 0; start < set.Len(); start += atOnce {
		n := min(atOnce, set.Len()-start)
		if err := look.rows(ctx, int64(start), n, f); err != nil {
			return nil, err
		}
		done.Store(int64(start + n))
	}
	return f, nil
}

// A looker reads rows and says which cannot be read.
type looker struct {
	set    *storage.Dataset
	data   *dataFlags
	decode *stages.Decode // nil where headers will do
}

// rows looks at n rows; where they cannot all be read, at each of them.
func (l looker) rows(ctx context.Context, start int64, n int, f *findings) error {
	ids, records := make([]int64, n), make([]pipeline.Record, n)
	for i := range ids {
		ids[i] = start + int64(i)
	}
	err := l.set.Read(ctx, ids, records)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && n == 1 {
		return f.add(start, err)
	}
	if err != nil {
		for _, id := range ids {
			if err := l.rows(ctx, id, 1, f); err != nil {
				return err
			}
		}
		return nil
	}
	infos, errs := make([]stages.ImageInfo, n), make([]error, n)
	if err := pipeline.ForEach(ctx, l.data.workers, n, func(ctx context.Context, i int) error {
		infos[i], errs[i] = l.image(ctx, records[i])
		return context.Cause(ctx)
	}); err != nil {
		return err
	}
	for i, info := range infos {
		if errs[i] != nil {
			if err := f.add(ids[i], errs[i]); err != nil {
				return err
			}
			continue
		}
		f.Images[fmt.Sprintf("%s %d×%d %s", info.Format, info.H, info.W, colours(info.C))]++
	}
	return nil
}

func (l looker) image(ctx context.Context, rec pipeline.Record) (stages.ImageInfo, error) {
	info, err := stages.Inspect(rec)
	if err != nil || l.decode == nil {
		return info, err
	}
	_, _, err = l.decode.Images(ctx, nil, []pipeline.Record{rec})
	return info, err
}

// add notes a row that cannot be read. An error that names no row is returned.
func (f *findings) add(id int64, err error) error {
	var at *pipeline.RowError
	if !errors.As(err, &at) {
		return err
	}
	f.Bad = append(f.Bad, badRow{id, at.File, at.RowGroup, at.Row, at.Column, asFlags.Replace(at.Err.Error())})
	return nil
}
